/** `millrace backup` and `millrace restore`: a store goes into a folder and from there into a new stack, which predicts with it. */
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { runCommandLine } from '../../cli/program.ts';
import { endpointWorkflowId } from '../../contracts/queues.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import { migrate, readMigrations } from '../../store/migrate.ts';
import { openStore, type Store } from '../../store/store.ts';
import { emptyDatabase, freshDatabase, freshStore } from '../support/database.ts';
import { draft, recordRun } from '../support/recorded-run.ts';
import { FLIGHT, expectedProbability, publishVersion } from '../support/serving-fixture.ts';
import { startServingProcess } from '../support/serving-process.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

const ENDPOINT = `late-${String(process.pid)}`;
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

/** A command as it is typed beside a stack. */
async function millrace(
  stack: 'old' | 'new',
  databaseUrl: string,
  ...args: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, stack));
  vi.stubEnv('DATABASE_URL', databaseUrl);
  vi.stubEnv('TEMPORAL_ADDRESS', inject('temporalAddress'));
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
    const client = new Client({ connection: await Connection.connect({ address: inject('temporalAddress') }) });
    const handle = client.workflow.getHandle(endpointWorkflowId(ENDPOINT));
    onTestFinished(async () => {
      await handle.terminate().catch(() => undefined);
      await client.connection.close();
    });
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

  it('is written into an empty folder only', async () => {
    await writeFile(join(folder, 'file'), '');
    expect((await millrace('old', store.databaseUrl, 'backup', folder)).err).toContain('is not empty');
  });
});
