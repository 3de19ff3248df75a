/** Lineage over records as runs leave them, asked as a person and a program ask. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { runCommandLine } from '../../cli/program.ts';
import type { LineageGraph } from '../../contracts/lineage.ts';
import { findAnsweredRequest } from '../../data/answered-request.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';
import { datasetRef, draft, hashOf, recordRun } from '../support/recorded-run.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

const REQUEST = '5f0c1a52-7a05-4a42-9e57-0d6d6d3c9a11';
let folder: string;
let store: Store & { readonly databaseUrl: string };
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-lineage-'));
  store = await freshStore();
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, 'state'));
  vi.stubEnv('DATABASE_URL', store.databaseUrl);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const millrace = async (...args: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
};
const lineage = async (...args: string[]): Promise<LineageGraph> => {
  const { code, out, err } = await millrace('lineage', ...args, '--json');
  expect(err).toBe('');
  expect(code).toBe(0);
  return JSON.parse(out) as LineageGraph;
};
const ids = (graph: LineageGraph): string[] =>
  graph.nodes.map(({ id }) =>
    id.replace(/^stage:[0-9a-f]{32}\//, 'stage:').replace(/^dataset:([0-9a-f]{64})$/, (_, hash: string) => `dataset:${nameOf(hash)}`),
  );
const NAMES = ['raw', 'checked', 'train', 'validation', 'test', 'more', 'predicted'];
const nameOf = (hash: string): string => NAMES.find((name) => hashOf(name) === hash) ?? hash;
const edge = (graph: LineageGraph, from: string, to: string): string | undefined => {
  const short = ids(graph);
  const place = (id: string): string | undefined => graph.nodes[short.indexOf(id)]?.id;
  return graph.edges.find((one) => one.from === place(from) && one.to === place(to))?.how;
};

const candidate = (name: string) => ({ kind: 'candidate', predictor: hashOf(name), trainer: 'gbdt', task: 'binary', device: 'cpu', rows: 60 });

/** Ingest to a served version, as a run of a pipeline leaves it. */
async function served(name = 'first', version = 1): Promise<string> {
  const [tree, net] = [candidate(`${name} tree`), candidate(`${name} net`)];
  const winner = { kind: 'winner', candidate: tree, metric: 'auc', scores: [] };
  const evaluation = { kind: 'evaluation', candidate: tree, metrics: { auc: 0.7 }, report: hashOf(`${name} report`) };
  const ref = { kind: 'version', model: 'late', version, predictor: tree.predictor };
  const run = await recordRun(store, { name, params: { source: 'data/2001', trees: 200 } }, [
    {
      name: 'ingest',
      input: { source: { format: 'csv', path: 'data/2001' }, name: 'raw' },
      output: datasetRef('raw'),
      content: 'the files of 2001',
      datasets: [draft('raw', 'ingest', [], { source: { format: 'csv', path: 'data/2001' } })],
    },
    { name: 'validate', input: { dataset: datasetRef('raw') }, output: datasetRef('checked'), datasets: [draft('checked', 'validate', [hashOf('raw')])] },
    {
      name: 'split',
      input: { dataset: datasetRef('checked'), options: { by: 'random' } },
      output: { train: datasetRef('train'), validation: datasetRef('validation'), test: datasetRef('test') },
      datasets: ['train', 'validation', 'test'].map((part) => draft(part, 'split', [hashOf('checked')])),
    },
    {
      name: 'train-tree',
      kind: 'train',
      input: { train: datasetRef('train'), validation: datasetRef('validation'), trainer: { name: 'gbdt', parameters: { trees: 200 } } },
      output: tree,
    },
    { name: 'train-net', kind: 'train', input: { train: datasetRef('train'), trainer: { name: 'mlp', parameters: {} } }, output: net },
    { name: 'select', input: { candidates: [tree, net], on: datasetRef('validation') }, output: winner },
    { name: 'evaluate', input: { candidate: winner, on: datasetRef('test') }, output: evaluation },
    { name: 'register', input: { evaluation, model: 'late' }, output: ref, open: true },
  ]);
  const by = { runId: run.runId, stage: 'register', token: run.token('register') };
  await store.models.register({ model: 'late', predictor: tree.predictor, metrics: { auc: 0.7 }, evaluation: evaluation.report, by });
  await store.stages.complete({ runId: run.runId, name: 'register', token: by.token, output: { value: ref, summary: `late ${String(version)}` } });
  await store.endpoints.setRoute({
    route: { endpoint: 'late-flights', epoch: version, champion: { model: 'late', version, predictor: tree.predictor }, challenger: null, log: true },
    expectedEpoch: version - 1,
    rolloutId: null,
    runId: run.runId,
    reason: `run ${name}`,
  });
  await store.runs.end({ runId: run.runId, status: 'completed' });
  return run.runId;
}

async function predicted(requestId = REQUEST): Promise<void> {
  const logs = join(folder, 'state', 'predictions', 'late-flights');
  await mkdir(logs, { recursive: true });
  const record = {
    requestId,
    row: 0,
    at: new Date().toISOString(),
    model: 'late',
    version: 1,
    challenger: false,
    inputs: { distance: 1 },
    output: [0.2],
    latencyMs: 1,
  };
  await writeFile(join(logs, '2026-01-01T00-one.jsonl'), `${JSON.stringify(record)}\n`);
}

describe('millrace lineage', () => {
  it('leads from a prediction to version, run, stages, code, parameters, snapshots and the source file', async () => {
    const runId = await served();
    await predicted();
    const graph = await lineage(REQUEST);
    expect(graph.subject).toEqual([`prediction:${REQUEST}`]);
    expect(ids(graph)).toEqual([
      'source:data/2001',
      'stage:ingest',
      'dataset:raw',
      'stage:validate',
      'dataset:checked',
      'stage:split',
      ...['dataset:train', 'dataset:validation', 'dataset:test'].sort((a, b) => (hashOf(a.slice(8)) < hashOf(b.slice(8)) ? -1 : 1)),
      'stage:train-tree',
      'stage:train-net',
      'stage:select',
      'stage:evaluate',
      'stage:register',
      'version:late/1',
      'endpoint:late-flights',
      `prediction:${REQUEST}`,
    ]);
    expect(edge(graph, 'stage:train-tree', 'stage:select')).toBe('hands on');
    expect(edge(graph, 'stage:select', 'stage:evaluate')).toBe('hands on');
    expect(edge(graph, 'stage:train-tree', 'stage:evaluate')).toBeUndefined();
    expect(edge(graph, 'dataset:test', 'stage:evaluate')).toBe('reads');
    expect(edge(graph, 'stage:register', 'version:late/1')).toBe('registers');
    const ingest = graph.nodes.find(({ name }) => name === 'ingest');
    expect(ingest?.facts).toMatchObject({ code: hashOf('code of ingest'), content: hashOf('the files of 2001') });
    expect(graph.nodes.find(({ name }) => name === 'train-tree')?.facts['settings']).toEqual({ trainer: { name: 'gbdt', parameters: { trees: 200 } } });
    expect(graph.nodes.find(({ kind }) => kind === 'endpoint')?.facts).toMatchObject({ epoch: 1, reason: 'run first' });
    expect(graph.runs).toMatchObject([{ id: runId, pipeline: 'flights', parameters: { source: 'data/2001', trees: 200 }, commit: 'c0ffee', build: 'b1' }]);
    expect(graph.truncated).toBe(false);
  });

  it('leads from a source, or a file of it, to every model and endpoint that it reached', async () => {
    await served();
    await served('second', 2);
    for (const path of ['data/2001', 'data/2001/january.csv', 'source:data/2001']) {
      const graph = await lineage(path, '--down');
      expect(graph.subject).toEqual(['source:data/2001']);
      expect(ids(graph)).toEqual(expect.arrayContaining(['version:late/1', 'version:late/2', 'endpoint:late-flights']));
      expect(edge(graph, 'version:late/2', 'endpoint:late-flights')).toBe('answers');
      expect(edge(graph, 'version:late/1', 'endpoint:late-flights')).toBe('answered');
    }
    expect((await millrace('lineage', 'data/2002')).err).toContain('Nothing is known under data/2002');
  });

  it('of a snapshot tells both ways, and of one of its parts only what came of that part', async () => {
    await served();
    expect(ids(await lineage('checked'))).toEqual(expect.arrayContaining(['source:data/2001', 'stage:ingest', 'version:late/1', 'endpoint:late-flights']));
    const test = ids(await lineage(hashOf('test').slice(0, 12), '--down'));
    expect(test).toEqual(['dataset:test', 'stage:evaluate', 'stage:register', 'version:late/1', 'endpoint:late-flights']);
    expect(ids(await lineage('test', '--up'))).not.toContain('dataset:train');
  });

  it('of a version, an alias, an endpoint and a run leads to the same source', async () => {
    const runId = await served();
    for (const id of ['late/1', 'late@candidate', 'model:late', 'late-flights', runId, runId.slice(0, 8), 'first'])
      expect([id, ids(await lineage(id))]).toEqual([id, expect.arrayContaining(['source:data/2001', 'version:late/1', 'endpoint:late-flights'])]);
    expect(ids(await lineage('late/1', '--up'))).not.toContain('endpoint:late-flights');
  });

  it('goes on over runs: datasets of an earlier one, an ingest that goes on from a snapshot, training that goes on from a version', async () => {
    await served();
    const more = { ...candidate('more'), trainer: 'linear' };
    await recordRun(store, { name: 'later', end: 'completed' }, [
      {
        name: 'ingest',
        input: { source: { format: 'csv', path: 'data/new.csv' }, name: 'raw', increment: { by: 'files' } },
        output: datasetRef('more'),
        datasets: [draft('more', 'ingest', [hashOf('raw')], { source: { format: 'csv', path: ['data/new.csv', 'data/newer.csv'] } })],
      },
      { name: 'train', input: { train: datasetRef('more'), validation: datasetRef('validation'), from: hashOf('first tree') }, output: more },
    ]);
    const graph = await lineage('later', '--up');
    expect(ids(graph)).toEqual(expect.arrayContaining(['source:data/2001', 'source:data/new.csv', 'source:data/newer.csv', 'version:late/1']));
    const train = graph.nodes.find(({ name, run }) => name === 'train' && run === hashOf('later').slice(0, 32));
    expect(graph.edges).toContainEqual({ from: 'version:late/1', to: train?.id, how: 'goes on from' });
    expect(graph.edges).toContainEqual({ from: `dataset:${hashOf('raw')}`, to: `stage:${hashOf('later').slice(0, 32)}/ingest`, how: 'reads' });
    expect(graph.runs).toHaveLength(2);
    // the first source reaches what was trained on from it
    expect((await lineage('data/2001', '--down')).nodes.map(({ id }) => id)).toContain(train?.id);
  });

  it('says of a stage that was taken from the cache where its result came from', async () => {
    const first = await served();
    await recordRun(store, { name: 'again', end: 'completed' }, [
      {
        name: 'ingest',
        input: { source: { format: 'csv', path: 'data/2001' }, name: 'raw' },
        output: datasetRef('raw'),
        cachedFrom: { runId: first, stage: 'ingest' },
      },
      { name: 'clean', input: { dataset: datasetRef('raw') }, output: datasetRef('more'), datasets: [draft('more', 'clean', [hashOf('raw')])] },
    ]);
    const graph = await lineage('more', '--up');
    expect(ids(graph)).toEqual(['source:data/2001', 'stage:ingest', 'dataset:raw', 'stage:clean', 'dataset:more']);
    expect(graph.nodes[1]?.facts['takenFrom']).toEqual({ runId: first, stage: 'ingest' });
  });

  it('tells published predictions and feature views that came of a snapshot', async () => {
    const runId = await served();
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    await client.query(`insert into prediction_targets (kind, name, current, epoch) values ('table', 'scores', 1, 1)`);
    await client.query(
      `insert into prediction_sets (kind, name, snapshot, model, version, predictor, columns, rows, status, epoch, run_id, stage, published_at)
       values ('table', 'scores', $1, 'late', 1, $2, '[]', 7, 'published', 1, $3, 'publish', now())`,
      [hashOf('predicted'), hashOf('first tree'), runId],
    );
    await client.query(`insert into feature_views (name, version, definition, view, current) values ('carriers', 2, 'd', '{}', 1)`);
    await client.query(
      `insert into feature_sets (view, version, snapshot, as_of, status, run_id, stage, published_at) values ('carriers', 2, $1, now(), 'published', $2, 'materialize', now())`,
      [hashOf('raw'), runId],
    );
    await client.query(`insert into version_features (model, version, view, definition) values ('late', 1, 'carriers', 'd')`);
    await client.end();
    const down = await lineage('raw', '--down');
    expect(ids(down)).toEqual(expect.arrayContaining(['table:scores', 'features:carriers/2']));
    expect(edge(down, 'version:late/1', 'table:scores')).toBe('is published as');
    const up = await lineage('late/1', '--up');
    expect(edge(up, 'features:carriers/2', 'version:late/1')).toBe('looked up');
    expect(edge(up, 'dataset:raw', 'features:carriers/2')).toBe('makes');
  });

  it('finds what has read a hash by an index, however many stages there are', async () => {
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    const asked: string[] = [];
    onTestFinished(() => client.end());
    await served();
    // what the triggers make of stages for MLflow's clients is not what is looked at here
    await client.query('set session_replication_role = replica');
    for (const table of ['stages', 'datasets']) {
      const columns =
        table === 'stages'
          ? `run_id, name, pipeline, kind, ordinal, status, attempts, token, started_at, input`
          : 'id, name, rows, columns, size_bytes, parents';
      const values =
        table === 'stages'
          ? `md5(n::text), 'train', 'flights', 'train', 1, 'completed', 1, n, now(), jsonb_build_object('train', jsonb_build_object('id', md5(n::text) || md5((-n)::text)))`
          : `md5(n::text) || md5((-n)::text), 'more', 1, '[]', 1, jsonb_build_array(md5((n + 1)::text) || md5((-n - 1)::text))`;
      await client.query(`insert into ${table} (${columns}) select ${values} from generate_series(1, 3000) as n`);
      await client.query(`vacuum analyze ${table}`);
    }
    // of so few rows a scan costs little; that the index can be used is what is asked
    await client.query('set enable_seqscan = off');
    for (const text of [
      `select name from stages where status = 'completed' and jsonb_path_query_array(input, 'strict $.** ? (@ like_regex "^[0-9a-f]{64}$")') ?| array['${hashOf('checked')}']`,
      `select id from datasets where parents ?| array['${hashOf('checked')}']`,
    ]) {
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${text}`);
      asked.push(rows.map((row) => row['QUERY PLAN']).join(' '));
    }
    expect(asked[0]).toContain('stages_reads');
    expect(asked[1]).toContain('datasets_parents');
  });

  it('is answered by the API as by the command, for anything that has a name, and refused where nothing has it', async () => {
    await served();
    await predicted();
    const app = createApiServer({ store, version: '1', findRequest: (id, endpoint) => findAnsweredRequest(join(folder, 'state'), id, endpoint) });
    onTestFinished(() => app.close());
    const get = (id: string, query = '') => app.inject({ url: `/api/v1/lineage/${encodeURIComponent(id)}${query}` });
    for (const id of [REQUEST, 'late/1', 'data/2001/january.csv']) {
      const { statusCode, json } = await get(id);
      expect(statusCode).toBe(200);
      const { path: _, ...told } = JSON.parse((await millrace('lineage', id, '--json')).out) as LineageGraph & { path: null };
      expect(json()).toEqual(told);
    }
    expect((await get('late/1', '?direction=down')).json<LineageGraph>().nodes.map(({ kind }) => kind)).toEqual(['version', 'endpoint']);
    expect((await get('nothing')).statusCode).toBe(404);
    expect((await get('late/1', '?direction=sideways')).statusCode).toBe(400);
    expect((await get('x'.repeat(1_000))).statusCode).toBe(404);
  });

  it('is told as a table for people, with the runs below', async () => {
    const runId = await served();
    await predicted();
    const { out } = await millrace('lineage', REQUEST, '--up');
    expect(out).toMatch(/^ +KIND +NAME +COMES FROM +KNOWN OF IT\n/);
    expect(out).toMatch(/source +data\/2001 +csv/);
    expect(out).toMatch(/stage +select +validation, train-tree, train-net +run/);
    expect(out).toMatch(/› +prediction +5f0c1a52/);
    expect(out).toContain(`run         ${runId}`);
    expect(out).toContain('parameters  {"trees":200,"source":"data/2001"}');
  });

  it('is drawn as a page that is whole in itself, with every node and no markup of names', async () => {
    await served();
    await recordRun(store, { name: 'odd', end: 'completed' }, [
      {
        name: 'ingest',
        input: { source: { format: 'csv', path: 'data/<script>.csv' } },
        output: datasetRef('predicted'),
        datasets: [draft('predicted', 'ingest', [], { name: '<b>odd</b>', source: { format: 'csv', path: 'data/<script>.csv' } })],
      },
    ]);
    const out = join(folder, 'lineage.html');
    expect(await millrace('lineage', 'late-flights', '--html', out)).toMatchObject({ code: 0, out: expect.stringContaining(out) as string });
    const page = await readFile(out, 'utf8');
    expect(page).toContain('<h1>Lineage: endpoint late-flights</h1>');
    expect(page.match(/<g><title>/g)).toHaveLength(ids(await lineage('late-flights')).length);
    expect(page).not.toMatch(/<script|https?:/);
    await millrace('lineage', 'data/<script>.csv', '--html', out);
    const odd = await readFile(out, 'utf8');
    expect(odd).toContain('&#60;script&#62;');
    expect(odd).not.toMatch(/<script|<b>odd/);
  });

  it('says what can be asked for where nothing is known under a name, and refuses both directions at once', async () => {
    const { code, err } = await millrace('lineage', 'nothing');
    expect(code).not.toBe(0);
    expect(err).toContain('Nothing is known under nothing.');
    expect(err).toContain('Give the id of a request');
    expect((await millrace('lineage', 'dataset:nothing')).err).toContain('There is no dataset nothing.');
    expect((await millrace('lineage', REQUEST)).err).toContain(`Nothing is known under ${REQUEST}.`);
    expect(await millrace('lineage', 'late', '--up', '--down')).toMatchObject({ code: 2 });
  });
});
