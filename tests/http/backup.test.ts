/** `millrace backup` and `millrace restore`: a store goes into a folder and from there into a new stack, which predicts with it. */
import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { runCommandLine } from '../../cli/program.ts';
import { endpointWorkflowId, WORKFLOW_QUEUE } from '../../contracts/queues.ts';
import { prepareNamespace } from '../../stack/temporal-namespace.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import { migrate, readMigrations } from '../../store/migrate.ts';
import { s3Address } from '../../store/s3-artifacts.ts';
import { openStore, type Store } from '../../store/store.ts';
import { emptyDatabase, freshDatabase, freshStore } from '../support/database.ts';
import { draft, recordRun } from '../support/recorded-run.ts';
import { FLIGHT, expectedProbability, publishVersion } from '../support/serving-fixture.ts';
import { startS3Server } from '../support/s3-server.ts';
import { startServingProcess } from '../support/serving-process.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

const ENDPOINT = `late-${String(process.pid)}`;
/** Of its own: a backup holds all schedules of its namespace. */
const NAMESPACE = `backup-${String(process.pid)}`;
beforeAll(async () => {
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  await prepareNamespace(connection, NAMESPACE);
  await connection.close();
});
async function temporal(): Promise<Client> {
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  onTestFinished(() => connection.close());
  return new Client({ connection, namespace: NAMESPACE });
}
let folder: string;
let store: Store & { readonly databaseUrl: string };
let artifacts: Artifacts;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-backup-'));
  store = await freshStore();
  artifacts = await openArtifacts(join(folder, 'old', 'artifacts'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

/** A command as it is typed beside a stack; the third one has no Temporal. */
async function millrace(
  stack: 'old' | 'new' | 'third',
  databaseUrl: string,
  ...args: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, stack));
  vi.stubEnv('DATABASE_URL', databaseUrl);
  vi.stubEnv('TEMPORAL_ADDRESS', stack === 'third' ? '127.0.0.1:1' : inject('temporalAddress'));
  vi.stubEnv('TEMPORAL_NAMESPACE', NAMESPACE);
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
}

async function rowsOf(databaseUrl: string, text: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

/** A run that was under way, a version that is served, a published table, a log of predictions. */
async function filled(): Promise<void> {
  const served = await publishVersion(artifacts, 1, { model: 'late', bias: 0.5 });
  const run = await recordRun(store, { name: 'done', params: { note: 'tab\tline\nquote"\\N' }, end: 'completed' }, [
    {
      name: 'ingest',
      input: {},
      output: {},
      datasets: [draft('raw', 'ingest')],
      metrics: [
        { key: 'rows', value: Number.NaN },
        { key: 'most', value: Number.POSITIVE_INFINITY },
      ],
    },
  ]);
  await recordRun(store, { name: 'open' }, [{ name: 'train', input: {}, output: {}, open: true }]);
  await store.models.register({ model: 'late', predictor: served.predictor, metrics: { auc: 0.7 }, evaluation: null });
  await store.endpoints.setRoute({
    route: { endpoint: ENDPOINT, epoch: 3, champion: served, challenger: null, log: true },
    expectedEpoch: 0,
    rolloutId: null,
    runId: run.runId,
  });
  await rowsOf(
    store.databaseUrl,
    `create schema if not exists prediction_sets; create schema if not exists predictions;
     create table prediction_sets.set_1 ("id" bigint, "at" timestamp, "text" text); insert into prediction_sets.set_1 values (1, '2026-01-01 10:00', 'a, "b"'), (2, null, null);
     create view predictions.scores as select * from prediction_sets.set_1`,
  );
  // more than the sockets and streams between hold: the server is made to wait
  await rowsOf(
    store.databaseUrl,
    `insert into metrics (run_id, stage, key, step, value) select '${run.runId}', 'train', md5(n::text) || md5((-n)::text), n, n / 7.0 from generate_series(1, 8000) as n`,
  );
  await mkdir(join(folder, 'old', 'predictions', ENDPOINT), { recursive: true });
  await writeFile(join(folder, 'old', 'predictions', ENDPOINT, '2026-01-01T00-a.jsonl'), '{"requestId":"r"}\n');
  await writeFile(join(folder, 'old', 'hash.key'), 'a-key\n', { mode: 0o600 });
}

const backedUp = async (): Promise<string> => {
  await filled();
  const to = join(folder, 'backup');
  expect(await millrace('old', store.databaseUrl, 'backup', to)).toMatchObject({ code: 0, err: '' });
  return to;
};

describe('a backup', () => {
  it('fills a new stack, which predicts with it and has all records, with the endpoint kept by a workflow again', async () => {
    const from = await backedUp();
    const databaseUrl = await freshDatabase();
    const client = await temporal();
    const handle = client.workflow.getHandle(endpointWorkflowId(ENDPOINT));
    onTestFinished(() =>
      handle
        .terminate()
        .then(() => undefined)
        .catch(() => undefined),
    );
    const { code, out, err } = await millrace('new', databaseUrl, 'restore', from);
    expect(err).toBe('');
    expect(code).toBe(0);
    expect(out).toMatch(/^restored +[\d,]+ rows of \d+ tables, 2 artifacts, 2 files$/m);
    expect(out).toMatch(new RegExp(`^endpoints +${ENDPOINT}$`, 'm'));
    expect(out).toMatch(/^terminated +1 runs that were under way$/m);
    expect((await handle.describe()).type).toBe('endpoint');

    const serving = await startServingProcess({ databaseUrl, home: join(folder, 'new') });
    onTestFinished(async () => {
      await serving.stop();
    });
    const answer = await fetch(`${serving.url}/predict/${ENDPOINT}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ rows: [FLIGHT] }),
    });
    expect(answer.status).toBe(200);
    const { predictions, version } = (await answer.json()) as {
      predictions: { probability?: number; probabilities?: Record<string, number> }[];
      version: number;
    };
    expect(version).toBe(1);
    expect(JSON.stringify(predictions)).toContain(expectedProbability(FLIGHT, 0.5).toFixed(4).slice(0, 5));

    const restored = openStore({ databaseUrl, poolSize: 2 });
    onTestFinished(() => restored.close());
    expect((await restored.runs.findByWorkflow('done'))?.params).toEqual({ note: 'tab\tline\nquote"\\N' });
    expect(await restored.runs.findByWorkflow('open')).toMatchObject({
      status: 'terminated',
      error: { message: 'The run was under way when the backup was made.' },
    });
    const latest = await restored.metrics.latest((await restored.runs.findByWorkflow('done'))?.id ?? '');
    expect(latest).toHaveLength(8_002);
    expect(latest.flatMap(({ stage, value }) => (stage === 'ingest' ? [String(value)] : [])).sort()).toEqual(['Infinity', 'NaN']);
    expect(await rowsOf(databaseUrl, 'select * from predictions.scores order by id')).toEqual(
      await rowsOf(store.databaseUrl, 'select * from predictions.scores order by id'),
    );
    expect(await readFile(join(folder, 'new', 'hash.key'), 'utf8')).toBe('a-key\n');
    // nothing is noted for a mirror that is not set
    expect(await rowsOf(databaseUrl, `select tgname from pg_trigger where tgname like '%mirrored%' and tgenabled <> 'D'`)).toEqual([]);
    expect(await rowsOf(databaseUrl, `select tgname from pg_trigger where tgname = 'metrics_latest' and tgenabled = 'D'`)).toEqual([]);
    expect((await millrace('new', databaseUrl, 'audit', 'verify')).code).toBe(0);
    expect((await rowsOf(databaseUrl, 'select action from audit_log order by seq desc limit 2')).map(({ action }) => action)).toEqual([
      'store.restore',
      'store.backup',
    ]);
    expect(await readdir(join(folder, 'new', 'predictions', ENDPOINT))).toContain('2026-01-01T00-a.jsonl');
    // numbers go on where they were
    const { seq } = (await restored.runs.get((await recordRun(restored, { name: 'next' }, [])).runId)) as { readonly seq: number };
    expect(seq).toBeGreaterThan(Number((await rowsOf(store.databaseUrl, 'select max(seq) as seq from runs'))[0]?.['seq']));
    expect(await restored.models.register({ model: 'late', predictor: 'b'.repeat(64), metrics: {}, evaluation: null })).toMatchObject({ version: 2 });
  });

  it('has the same rows in every table as the store had, but for what was under way', async () => {
    const from = await backedUp();
    const databaseUrl = await freshDatabase();
    vi.stubEnv('MILLRACE_TEMPORAL_PORT', '1');
    expect((await millrace('new', databaseUrl, 'restore', from, '--json')).code).toBe(0);
    const tables = (JSON.parse(await readFile(join(from, 'backup.json'), 'utf8')) as { tables: { schema: string; name: string }[] }).tables.map(
      ({ schema, name }) => `"${schema}"."${name}"`,
    );
    expect(tables).toEqual(expect.arrayContaining(['"public"."runs"', '"public"."versions"', '"prediction_sets"."set_1"']));
    const changed = new Set(['"public"."runs"', '"public"."stages"', '"public"."audit_log"', '"public"."run_tags"']);
    for (const table of tables.filter((name) => !changed.has(name))) {
      const rows = (url: string) => rowsOf(url, `select t::text as row from ${table} t order by 1`);
      expect([table, await rows(databaseUrl)]).toEqual([table, await rows(store.databaseUrl)]);
    }
  });

  it('is not restored into a store that holds something, which stays as it is', async () => {
    const from = await backedUp();
    const { code, err } = await millrace('old', store.databaseUrl, 'restore', from);
    expect(code).not.toBe(0);
    expect(err).toContain('The store is not empty: nothing was restored.');
    expect(err).toContain('holds records already');
    expect(await rowsOf(store.databaseUrl, 'select count(*)::int as n from runs')).toEqual([{ n: 2 }]);
  });

  it('is refused whole when a file of it has changed or is gone', async () => {
    const from = await backedUp();
    await appendFile(join(from, 'tables', 'public.runs.copy.gz'), 'x');
    await rm(join(from, 'state', 'hash.key'));
    const databaseUrl = await freshDatabase();
    const { code, err } = await millrace('new', databaseUrl, 'restore', from);
    expect(code).not.toBe(0);
    expect(err).toContain('tables/public.runs.copy.gz');
    expect(err).toContain('state/hash.key');
    expect(await rowsOf(databaseUrl, 'select count(*)::int as n from runs')).toEqual([{ n: 0 }]);
    expect((await millrace('new', databaseUrl, 'restore', join(folder, 'nothing'))).err).toContain('holds no backup');
  });

  it('is refused when an artifact of it is gone or has other content, before the store is touched', async () => {
    const from = await backedUp();
    const databaseUrl = await freshDatabase();
    const [first = '', second = ''] = await readdir(join(from, 'artifacts'));
    const [name = ''] = await readdir(join(from, 'artifacts', first));
    await appendFile(join(from, 'artifacts', first, name), 'x');
    expect((await millrace('new', databaseUrl, 'restore', from)).err).toContain('has other content than its name says');
    await rm(join(from, 'artifacts', first), { recursive: true });
    expect((await millrace('new', databaseUrl, 'restore', from)).err).toContain('lacks 1 of its artifacts');
    expect(second).not.toBe('');
    expect(await rowsOf(databaseUrl, 'select count(*)::int as n from models')).toEqual([{ n: 0 }]);
  });

  it('of an earlier Millrace is brought up to date; one of a newer Millrace is refused', async () => {
    const known = readMigrations();
    const earlier = known.slice(0, 17);
    const old = await emptyDatabase();
    await migrate(old, earlier);
    await rowsOf(
      old,
      `insert into models (name, last_version) values ('late', 4); insert into datasets (id, name, rows, columns, size_bytes) values ('${'d'.repeat(64)}', 'flights', 1, '[]', 1)`,
    );
    const { backUp } = await import('../../store/backup.ts');
    await backUp({ databaseUrl: old, artifacts, home: join(folder, 'old'), folder: join(folder, 'earlier'), version: '0' });
    const databaseUrl = await freshDatabase();
    expect(await millrace('new', databaseUrl, 'restore', join(folder, 'earlier'))).toMatchObject({ code: 0, err: '' });
    expect(await rowsOf(databaseUrl, 'select name, last_version from models')).toEqual([{ name: 'late', last_version: 4 }]);
    expect(await rowsOf(databaseUrl, 'select count(*)::int as n from millrace_migrations')).toEqual([{ n: known.length }]);

    const manifest = JSON.parse(await readFile(join(folder, 'earlier', 'backup.json'), 'utf8')) as { migrations: string[] };
    await writeFile(join(folder, 'earlier', 'backup.json'), JSON.stringify({ ...manifest, migrations: [...manifest.migrations, '0900_from_the_future'] }));
    expect((await millrace('new', await freshDatabase(), 'restore', join(folder, 'earlier'))).err).toContain('made by a newer Millrace');
  });

  it('has the schedules, which are made again where they are missing: when, what with, paused or not', async () => {
    const client = await temporal();
    const make = (id: string, paused: boolean) =>
      client.schedule.create({
        scheduleId: id,
        spec: { cronExpressions: ['0 6 * * MON'], timezone: 'Europe/Berlin', jitter: '1m', intervals: [{ every: '90m', offset: '5m' }] },
        action: {
          type: 'startWorkflow',
          workflowType: 'flights',
          taskQueue: WORKFLOW_QUEUE,
          workflowId: 'flights',
          args: [{ trees: 7 }],
          memo: { why: 'nightly' },
        },
        policies: { overlap: 'SKIP', catchupWindow: '1h' },
        memo: { pipeline: 'flights' },
        state: { paused },
      });
    const ids = ['schedule/flights', 'schedule/paused', 'schedule/kept'];
    const handles = [await make('schedule/flights', false), await make('schedule/paused', true), await make('schedule/kept', false)];
    onTestFinished(() => Promise.all(handles.map((handle) => handle.delete().catch(() => undefined))).then(() => undefined));
    const listed = async (): Promise<readonly string[]> => {
      const found: string[] = [];
      for await (const { scheduleId } of client.schedule.list()) found.push(scheduleId);
      return found.sort();
    };
    await vi.waitFor(async () => expect(await listed()).toEqual([...ids].sort()), { timeout: 60_000, interval: 100 });
    const shown = async () =>
      Promise.all(
        handles.map((handle) => handle.describe().then(({ spec, action, policies, memo, state }) => ({ spec, action, policies, memo, paused: state.paused }))),
      );
    const before = await shown();
    const from = await backedUp();
    for (const handle of handles.slice(0, 2)) await handle.delete();
    const { code, out } = await millrace('new', await freshDatabase(), 'restore', from);
    expect(code).toBe(0);
    expect(out).toMatch(/^schedules +schedule\/flights, schedule\/paused$/m);
    expect(await shown()).toEqual(before);
    for (const handle of handles) await handle.delete();
    // where no Temporal answers it is said which are missing
    const alone = await millrace('third', await freshDatabase(), 'restore', from);
    expect(alone.out).toContain('Schedules that are missing, because no Temporal answered: schedule/flights, schedule/kept, schedule/paused.');
  });

  it('leaves nothing behind where the disk is full, and says so', async (context) => {
    await filled();
    const to = await mkdtemp(join(tmpdir(), 'millrace-small-'));
    onTestFinished(() => rm(to, { recursive: true }));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=192k', 'tmpfs', to], { stdio: 'ignore' });
    } catch {
      context.skip('mounting a small disk needs root');
    }
    onTestFinished(() => void execFileSync('umount', [to]));
    const { code, err } = await millrace('old', store.databaseUrl, 'backup', to);
    expect(code).not.toBe(0);
    expect(err).toContain('DISK_FULL');
    expect(await readdir(to)).toEqual([]);
    // and the stack that was backed up goes on
    expect(await millrace('old', store.databaseUrl, 'backup', join(folder, 'large'))).toMatchObject({ code: 0, err: '' });
  });

  it('of artifacts in S3 is whole without S3, and restores into another bucket', async (context) => {
    const server = await startS3Server().catch((error: unknown) => {
      if (process.env['CI'] === 'true') throw error;
      return context.skip('no S3 server can be built here');
    });
    onTestFinished(() => server.stop());
    vi.stubEnv('AWS_ACCESS_KEY_ID', server.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.secretAccessKey);
    vi.stubEnv('S3_ENDPOINT', server.endpoint);
    const client = new S3Client({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true });
    for (const Bucket of ['old', 'new']) await client.send(new CreateBucketCommand({ Bucket }));
    client.destroy();
    const bucket = (name: string): Promise<Artifacts> =>
      openArtifacts(s3Address({ bucket: name, prefix: 'all', endpoint: server.endpoint, region: 'us-east-1', cache: join(folder, `cache-${name}`) }));
    const contents = async (of: Artifacts): Promise<readonly string[]> => {
      const found: string[] = [];
      for await (const { sha256 } of of.list()) found.push(`${sha256} ${(await readFile(await of.pathOf(sha256))).toString('hex')}`);
      return found.sort();
    };
    artifacts = await bucket('old');
    await filled();
    const large = await artifacts.putBytes(Buffer.alloc(20 << 20, 3));
    const held = await contents(artifacts);
    expect(held.length).toBeGreaterThanOrEqual(3);
    const to = join(folder, 'backup');
    vi.stubEnv('MILLRACE_ARTIFACTS', 's3://old/all');
    expect(await millrace('old', store.databaseUrl, 'backup', to)).toMatchObject({ code: 0, err: '' });
    vi.stubEnv('MILLRACE_ARTIFACTS', 's3://new/all');
    const databaseUrl = await freshDatabase();
    const { code, err } = await millrace('new', databaseUrl, 'restore', to);
    expect(err).toBe('');
    expect(code).toBe(0);
    const restored = await bucket('new');
    expect(await restored.has(large.sha256)).toBe(true);
    expect(await contents(restored)).toEqual(held);
    await (await temporal()).workflow
      .getHandle(endpointWorkflowId(ENDPOINT))
      .terminate()
      .catch(() => undefined);
  });

  it('is written into an empty folder only', async () => {
    await writeFile(join(folder, 'file'), '');
    expect((await millrace('old', store.databaseUrl, 'backup', folder)).err).toContain('is not empty');
  });
});
