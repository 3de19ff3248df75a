/** OpenLineage events of recorded runs, sent to real receivers and held against OpenLineage's published schemas. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { between, expectations, inSet } from '../../contracts/expectations.ts';
import type { OpenLineageConfig } from '../../contracts/open-lineage.ts';
import type { StoredDataset } from '../../data/dataset.ts';
import { ingestSource } from '../../data/ingest.ts';
import { validateDataset } from '../../data/validate.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { tellOpenLineage } from '../../workers/open-lineage-delivery.ts';
import { freshStore } from '../support/database.ts';
import { recordRun } from '../support/recorded-run.ts';

interface Event {
  readonly eventType: string;
  readonly eventTime: string;
  readonly run: { readonly runId: string; readonly facets: Readonly<Record<string, { readonly _schemaURL: string } & Readonly<Record<string, unknown>>>> };
  readonly job: { readonly name: string; readonly namespace: string; readonly facets: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
  readonly inputs: readonly Dataset[];
  readonly outputs: readonly Dataset[];
}
interface Dataset {
  readonly namespace: string;
  readonly name: string;
  readonly facets?: Readonly<Record<string, { readonly _schemaURL: string } & Readonly<Record<string, unknown>>>>;
  readonly inputFacets?: Readonly<Record<string, { readonly _schemaURL: string } & Readonly<Record<string, unknown>>>>;
  readonly outputFacets?: Readonly<Record<string, { readonly _schemaURL: string } & Readonly<Record<string, unknown>>>>;
}

let folder: string;
let store: Store & { readonly databaseUrl: string };
let artifacts: Artifacts;
const servers: Server[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-open-lineage-'));
  store = await freshStore();
  artifacts = await openArtifacts(join(folder, 'artifacts'));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

const told: string[] = [];
const tell = (openLineage: OpenLineageConfig, env: Readonly<Record<string, string>> = {}): Promise<number> =>
  tellOpenLineage({ store, artifacts, openLineage, env, log: (_level, message) => told.push(message) });
const toFile = (): OpenLineageConfig => ({ kind: 'file', path: join(folder, 'events', 'lineage.jsonl'), namespace: 'shop' });
const eventsIn = async (): Promise<readonly Event[]> =>
  (await readFile(join(folder, 'events', 'lineage.jsonl'), 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Event);

/** OpenLineage's schemas: the event's, and the one that each facet names. */
async function schemas(): Promise<{ readonly event: ValidateFunction; readonly facet: (url: string) => ValidateFunction | undefined }> {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  ajv.addFormat('uuid', /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/);
  ajv.addFormat('uri', (text) => URL.canParse(text));
  const specs = join(packageRoot, 'tests/support/openlineage');
  for (const file of await readdir(specs)) if (file.endsWith('.json')) ajv.addSchema(JSON.parse(await readFile(join(specs, file), 'utf8')) as object);
  const event = ajv.getSchema('https://openlineage.io/spec/2-0-2/OpenLineage.json');
  if (event === undefined) throw new Error('the schema of events is not there');
  return { event, facet: (url) => ajv.getSchema(url) };
}

/** Everything that is wrong with events by their schemas. */
async function problemsOf(events: readonly Event[]): Promise<readonly unknown[]> {
  const { event, facet } = await schemas();
  return events.flatMap((one) => {
    const facets = [
      one.run.facets,
      one.job.facets,
      ...[...one.inputs, ...one.outputs].flatMap(({ facets: own, inputFacets, outputFacets }) => [own ?? {}, inputFacets ?? {}, outputFacets ?? {}]),
    ].flatMap((group) => Object.values(group));
    const wrong = facets.flatMap((content): readonly unknown[] => {
      const url = content['_schemaURL'];
      const check = facet(String(url));
      if (check === undefined) return [{ unknown: url }];
      return check(content) ? [] : [{ facet: url, errors: check.errors }];
    });
    return event(one) ? wrong : [...wrong, event.errors];
  });
}

const draftOf = ({ ref, manifest }: StoredDataset, kind: string, more: object = {}) => ({
  ...ref,
  columns: manifest.columns,
  sizeBytes: manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0),
  kind,
  parents: manifest.parents,
  profile: manifest.profile,
  ...more,
});

/** A run over real data: read, validated, a version registered. */
async function run(name: string, end: 'completed' | 'failed' | 'cancelled' = 'completed'): Promise<string> {
  await writeFile(
    join(folder, 'shops.csv'),
    ['id,region,sales,owner', ...Array.from({ length: 50 }, (_, i) => `${String(i)},north,${String((i * 37) % 101)},a${String(i)}@example.org`)].join('\n'),
  );
  const source = { format: 'csv', path: 'shops.csv' } as const;
  const raw = await ingestSource({ source, name: 'shops', artifacts, projectFolder: folder, pii: { owner: 'hash' }, hashKey: 'key' });
  const rules = expectations({ sales: [between(0, 90, { severity: 'warn' })], region: [inSet(['north'])] });
  const checked = await validateDataset({ manifest: raw.manifest, id: raw.ref.id, expectations: rules, artifacts });
  const candidate = { kind: 'candidate', predictor: 'a'.repeat(64), trainer: 'gbdt', task: 'binary', device: 'cpu', rows: 50 };
  const recorded = await recordRun(store, { name, pipeline: 'sales', params: { source: 'shops.csv', trees: 20 } }, [
    { name: 'ingest', input: { source, name: 'shops' }, output: raw.ref, datasets: [draftOf(raw, 'ingest', { source, owner: 'the shops team' })] },
    { name: 'validate', input: { dataset: raw.ref }, output: checked.ref, datasets: [draftOf(checked, 'validate', { report: checked.report })] },
    { name: 'train', input: { train: checked.ref }, output: candidate },
    { name: 'register', input: { candidate, model: 'sales' }, output: {}, open: true },
  ]);
  const by = { runId: recorded.runId, stage: 'register', token: recorded.token('register') };
  if (end === 'completed') {
    await store.models.register({ model: 'sales', predictor: candidate.predictor, metrics: {}, evaluation: null, by });
    await store.stages.complete({ runId: by.runId, name: 'register', token: by.token, output: { value: {}, summary: '' } });
  } else if (end === 'failed') {
    await store.stages.fail({
      runId: by.runId,
      name: 'register',
      token: by.token,
      error: { code: 'UNSERVED_COLUMN', message: 'It cannot be served.', fix: '', problems: [] },
      cancelled: false,
    });
  }
  await store.runs.end({
    runId: recorded.runId,
    status: end,
    ...(end === 'failed' ? { error: { code: 'UNSERVED_COLUMN', message: 'It cannot be served.', fix: '', problems: [] } } : {}),
  });
  return recorded.runId;
}

const brief = ({ eventType, job, inputs, outputs }: Event): string =>
  `${eventType} ${job.name}: ${inputs.map(({ name }) => name).join(' ')} → ${outputs.map(({ name }) => name).join(' ')}`;

describe('OpenLineage events', () => {
  it("tell a run and its stages with what they read and made, valid against OpenLineage's published schemas", async () => {
    const runId = await run('one');
    expect(await tell(toFile())).toBe(2);
    const events = await eventsIn();
    expect(await problemsOf(events)).toEqual([]);
    expect(events.map(brief)).toEqual([
      'START sales:  → ',
      'START sales.ingest: shops.csv → ',
      'COMPLETE sales.ingest: shops.csv → shops',
      'START sales.validate: shops → ',
      'COMPLETE sales.validate: shops → shops',
      'START sales.train: shops → ',
      'COMPLETE sales.train: shops → ',
      'START sales.register:  → ',
      'COMPLETE sales.register:  → models/sales',
      'COMPLETE sales: shops.csv → shops shops models/sales',
    ]);
    const [start] = events;
    expect(start?.run.runId.replaceAll('-', '')).toBe(runId);
    expect(start?.run.facets['executionParameters']?.['parameters']).toEqual(
      [
        { key: 'trees', value: '20' },
        { key: 'source', value: 'shops.csv' },
      ].sort((a, b) => a.key.length - b.key.length),
    );
    expect(start?.job.facets['sourceCodeLocation']).toMatchObject({ type: 'git', url: 'https://git.example/flights.git', version: 'c0ffee' });
    expect(events[1]?.run.facets['parent']).toMatchObject({ run: { runId: start?.run.runId }, job: { namespace: 'shop', name: 'sales' } });
    const trained = events.find((event) => brief(event).startsWith('COMPLETE sales.train'))?.inputs[0];
    expect(trained?.facets?.['schema']?.['fields']).toContainEqual({ name: 'sales', type: 'integer', ordinal_position: 3 });
    const { columnMetrics, rowCount } = trained?.inputFacets?.['dataQualityMetrics'] as unknown as {
      columnMetrics: Record<string, object>;
      rowCount: number;
    };
    expect(rowCount).toBe(50);
    expect(columnMetrics['sales']).toMatchObject({ nullCount: 0, count: 50, min: 0, max: 100 });
    expect(trained?.inputFacets?.['dataQualityAssertions']?.['assertions']).toEqual([
      expect.objectContaining({ assertion: 'between', column: 'sales', success: false, severity: 'warn' }),
      expect.objectContaining({ assertion: 'inSet', column: 'region', success: true, severity: 'error' }),
    ]);
    expect(events[2]?.outputs[0]).toMatchObject({
      facets: { ownership: { owners: [{ name: 'the shops team' }] } },
      outputFacets: { outputStatistics: { rowCount: 50, fileCount: 1 } },
    });
    expect(JSON.stringify(events)).not.toContain('example.org"');
  });

  it('tell that a run failed and why, and that one was cancelled', async () => {
    await run('bad', 'failed');
    await run('stopped', 'cancelled');
    expect(await tell(toFile())).toBe(4);
    const events = await eventsIn();
    expect(await problemsOf(events)).toEqual([]);
    const ends = events.filter(({ job, eventType }) => job.name === 'sales' && eventType !== 'START');
    expect(ends.map(({ eventType }) => eventType)).toEqual(['FAIL', 'ABORT']);
    expect(ends[0]?.run.facets['errorMessage']).toMatchObject({ message: 'UNSERVED_COLUMN: It cannot be served.' });
    expect(events.filter(({ job }) => job.name === 'sales.register').map(({ eventType }) => eventType)).toEqual(['START', 'FAIL', 'START', 'ABORT']);
  });

  it('tell a start when it has begun and the end when it is over, each once, also of runs from before', async () => {
    await run('before');
    const open = await recordRun(store, { name: 'open', pipeline: 'sales' }, []);
    expect(await tell(toFile())).toBe(3);
    expect(await tell(toFile())).toBe(0);
    await store.runs.end({ runId: open.runId, status: 'completed' });
    expect(await tell(toFile())).toBe(1);
    expect(await tell(toFile())).toBe(0);
    const ofOpen = (await eventsIn()).filter(({ run: { runId } }) => runId.replaceAll('-', '') === open.runId);
    expect(ofOpen.map(({ eventType }) => eventType)).toEqual(['START', 'COMPLETE']);
  });

  it('are posted with the key, and again later where the receiver did not take one; nothing of it is seen by runs', async () => {
    const got: { readonly key: string | undefined; readonly event: Event }[] = [];
    let answer = 503;
    const server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        if (answer < 300) got.push({ key: request.headers.authorization, event: JSON.parse(Buffer.concat(parts).toString()) as Event });
        response.writeHead(answer).end();
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const http: OpenLineageConfig = {
      kind: 'http',
      url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/api/v1/lineage`,
      namespace: 'shop',
      keyVariable: 'LINEAGE_KEY',
      timeoutMs: 5_000,
    };
    await run('one');
    expect(await tell(http, { LINEAGE_KEY: 'k' })).toBe(0);
    expect(told.at(-1)).toBe('OpenLineage events were not taken; they are sent again');
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    const { rows } = await client.query(`select event, attempts, last_error, next_at > now() as later from lineage_events where last_error is not null`);
    expect(rows).toEqual([{ event: 'start', attempts: 1, last_error: 'The receiver answered 503.', later: true }]);
    // the end is not told before the start was
    expect(await tell(http)).toBe(0);
    answer = 201;
    await client.query('update lineage_events set next_at = now()');
    await client.end();
    expect(await tell(http, { LINEAGE_KEY: 'k' })).toBe(2);
    expect(got.map(({ event }) => `${event.eventType} ${event.job.name}`)).toEqual([
      'START sales',
      ...['ingest', 'validate', 'train', 'register'].flatMap((stage) => [`START sales.${stage}`, `COMPLETE sales.${stage}`]),
      'COMPLETE sales',
    ]);
    expect(new Set(got.map(({ key }) => key))).toEqual(new Set(['Bearer k']));
    expect(await problemsOf(got.map(({ event }) => event))).toEqual([]);
  });

  it('are refused by the check when a required part is missing, so that the check is one', async () => {
    await run('one');
    await tell(toFile());
    const [event] = await eventsIn();
    const { job: _, ...without } = event as Event & Record<string, unknown>;
    const { event: check } = await schemas();
    expect(check(without)).toBe(false);
    expect(await problemsOf([{ ...(event as Event), run: { ...(event as Event).run, runId: 'no uuid' } }])).not.toEqual([]);
  });
});
