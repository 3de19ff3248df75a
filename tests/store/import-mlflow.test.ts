import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { barePredictor } from '../../activities/stages/import-model.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { encodeModel, floatTensor, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { wrapBareOnnx } from '../../ml/predictor.ts';
import { type Artifacts, createArtifacts } from '../../store/artifacts.ts';
import { importMlflow } from '../../store/import-mlflow.ts';
import type { MlflowSource } from '../../store/mlflow-source.ts';
import type { Store } from '../../store/store.ts';
import { createStoreSource } from '../../store/store-source.ts';
import { freshStore } from '../support/database.ts';

interface House {
  readonly store: Store;
  readonly artifacts: Artifacts;
}

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function house(): Promise<House> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-import-'));
  folders.push(folder);
  return { store: await freshStore(), artifacts: createArtifacts({ root: folder }) };
}

const newId = (): string => randomBytes(16).toString('hex');

/** A finished run with a parameter, two points and a file. */
async function addRun({ store, artifacts }: House, experimentId: string, id = newId(), depth = '3'): Promise<string> {
  await store.trackedRuns.create({ id, experimentId, name: 'r', startedAtMs: 1_700_000_000_000, tags: { 'mlflow.runName': 'r' } });
  const points = [1, 2].map((step) => ({ key: 'loss', value: 1 / step, step, atMs: 1_700_000_000_000 + step }));
  await store.trackedRuns.log({ runId: id, metrics: points, params: [{ key: 'depth', value: depth }], tags: [] });
  const { sha256, sizeBytes } = await artifacts.putBytes(Buffer.from(`of ${id}`));
  await store.artifactFiles.put({ path: `${experimentId}/${id}/artifacts/deep/notes.txt`, sha256, sizeBytes });
  await store.trackedRuns.update({ runId: id, status: 'FINISHED', endedAtMs: 1_700_000_001_000 });
  return id;
}

async function addVersion({ store }: House, model: string, runId: string, experimentId: string): Promise<void> {
  const folder = `${experimentId}/${runId}/artifacts/deep`;
  await store.registry.createVersion({ model, source: `mlflow-artifacts:/${folder}`, folder, runId, tags: {} });
}

const problemsOf = (work: Promise<unknown>): Promise<readonly string[]> =>
  work.then(
    () => [],
    (error: unknown) => {
      if (!(error instanceof MillraceError)) throw error;
      return [error.code, ...error.problems.map(({ path, message, found }) => `${path} ${message}${found === undefined ? '' : `: ${found}`}`)];
    },
  );

describe('an import', () => {
  let from: House;
  let source: MlflowSource;
  let flights: string;
  let runs: readonly string[];

  beforeAll(async () => {
    from = await house();
    source = createStoreSource(from);
    flights = await from.store.experiments.create({ name: 'flights', tags: { team: 'data' } });
    const spam = await from.store.experiments.create({ name: 'spam', tags: {} });
    runs = [await addRun(from, flights), await addRun(from, flights), await addRun(from, spam)];
    await from.store.registry.createModel({ name: 'delay', tags: {} });
    await addVersion(from, 'delay', runs[0] ?? '', flights);
    await from.store.registry.setAlias('delay', 'champion', 1);
  });

  it('brings a version that a run registered with its predictor, byte for byte', async () => {
    const bytes = encodeModel({
      graphName: 'double',
      nodes: [{ name: 'mul', opType: 'Mul', domain: '', input: ['numbers', 'two'], output: ['output'], attribute: [] }],
      initializers: [floatTensor('two', [1], [2])],
      inputs: [valueInfo('numbers', ONNX_TYPE.float, 1)],
      outputs: [valueInfo('output', ONNX_TYPE.float, 1)],
      opset: { ai: 17, ml: 3 },
      metadata: {},
    });
    const other = await house();
    const { sha256 } = await barePredictor({ ...wrapBareOnnx(bytes), sampleRows: [], parameters: {} }, { artifacts: other.artifacts });
    await other.store.models.register({ model: 'doubler', predictor: sha256, metrics: {}, evaluation: null });
    const into = await house();
    const report = await importMlflow({ ...into, source: createStoreSource(other) });
    expect(report).toMatchObject({ matches: true, leftOut: [], source: { versions: 1 } });
    expect(await into.store.models.version('doubler', 1)).toMatchObject({ predictor: sha256, source: null });
    const { onnx } = PredictorSchema.parse(await into.artifacts.getJson(sha256));
    expect(await into.artifacts.has(onnx)).toBe(true);
  });

  it('tells all that stands in the way at once, and writes nothing then', async () => {
    const into = await house();
    // numbers of experiments are other ones here
    await into.store.experiments.create({ name: 'other', tags: {} });
    const there = await into.store.experiments.create({ name: 'flights', tags: { team: 'ops' } });
    await addRun(into, there, runs[0], '9');
    await into.store.experiments.remove(await into.store.experiments.create({ name: 'spam', tags: {} }));
    await into.store.registry.createModel({ name: 'delay', description: 'mine', tags: {} });
    await addVersion(into, 'delay', newId(), there);
    await addVersion(into, 'delay', newId(), there);
    await into.store.registry.setAlias('delay', 'champion', 2);
    expect(await problemsOf(importMlflow({ ...into, source }))).toEqual([
      'CONFLICT',
      `runs.${runs[0] ?? ''} is there with another content: params`,
      'experiments.flights.tags.team has another value here: ops',
      'experiments.spam is deleted here',
      'models.delay has another description here',
      'models.delay.versions.1 is another one here, of another run',
      'models.delay.aliases.champion names another version here: 2',
    ]);
    expect(await into.store.trackedRuns.jsons(runs)).toHaveLength(1);
    expect((await into.store.audit.verify([])).ok).toBe(true);
  });

  it('takes what was asked for alone: a model with the runs of its versions, or an experiment', async () => {
    const into = await house();
    const ofModel = await importMlflow({ ...into, source, models: ['delay'] });
    expect(ofModel).toMatchObject({ matches: true, source: { experiments: 1, runs: 1, models: 1, versions: 1, aliases: 1, files: 1 } });
    expect(await into.store.registry.version('delay', 1)).toMatchObject({ runId: runs[0], folder: `1/${runs[0] ?? ''}/artifacts/deep`, aliases: ['champion'] });
    const ofExperiment = await importMlflow({ ...into, source, experiments: ['flights'] });
    expect(ofExperiment).toMatchObject({ matches: true, alreadyThere: 1, source: { experiments: 1, runs: 2, models: 0, metrics: 4 } });
    expect(await problemsOf(importMlflow({ ...into, source, experiments: ['none', 'flights'], models: ['nobody'] }))).toEqual([
      'CONFLICT',
      '--models is not there: nobody',
      '--experiments is not there: none',
    ]);
  });

  it('brings a run up to date that was under way when it was imported', async () => {
    const growing = await house();
    const experimentId = await growing.store.experiments.create({ name: 'grows', tags: {} });
    const id = newId();
    await growing.store.trackedRuns.create({ id, experimentId, name: 'r', startedAtMs: 1_700_000_000_000, tags: {} });
    const log = (step: number) =>
      growing.store.trackedRuns.log({ runId: id, metrics: [{ key: 'loss', value: step, step, atMs: 1_700_000_000_000 }], params: [], tags: [] });
    await log(1);
    const into = await house();
    await importMlflow({ ...into, source: createStoreSource(growing) });
    await log(2);
    await growing.store.trackedRuns.update({ runId: id, status: 'FINISHED', endedAtMs: 1_700_000_002_000 });
    const report = await importMlflow({ ...into, source: createStoreSource(growing) });
    expect(report).toMatchObject({ matches: true, imported: 1, target: { runs: 1, metrics: 2 } });
    expect(JSON.parse(await into.store.trackedRuns.json(id))).toMatchObject({ info: { status: 'FINISHED', end_time: 1_700_000_002_000 } });
  });

  it('takes a point that stands twice as one', async () => {
    const into = await house();
    const twice: MlflowSource = {
      ...source,
      async *history(runId, key) {
        for await (const page of source.history(runId, key)) yield [...page, ...page];
      },
    };
    expect(await importMlflow({ ...into, source: twice, experiments: ['spam'] })).toMatchObject({ matches: true, target: { metrics: 2 } });
  });

  it.each([
    ['leads out of its run', { path: '../../other/notes.txt' }, 'INVALID_REQUEST'],
    ['leads out in another spelling', { path: 'a/%2e%2e/%2e%2e/notes.txt' }, 'INVALID_REQUEST'],
    ['is not what the source says', { path: 'a', sha256: '0'.repeat(64) }, 'ARTIFACT_CORRUPT'],
    ['is shorter than the source says', { path: 'a', sizeBytes: 99 }, 'ARTIFACT_CORRUPT'],
  ])('ends at a file that %s; its run is not there', async (_what, file, code) => {
    const into = await house();
    const bad: MlflowSource = {
      ...source,
      async *files() {
        yield await Promise.resolve({
          ...file,
          open: async () =>
            (await from.artifacts.read((await from.artifacts.putBytes(Buffer.from('abc'))).sha256)) ?? (await Promise.reject(new Error('gone'))),
        });
      },
    };
    expect((await problemsOf(importMlflow({ ...into, source: bad })))[0]).toBe(code);
    expect(await into.store.trackedRuns.jsons(runs)).toEqual([]);
  });

  it('refuses records that cannot be stored, each by its place', async () => {
    const into = await house();
    const odd: MlflowSource = {
      ...source,
      async *runs() {
        await Promise.resolve();
        yield { info: { run_id: 'not hex', experiment_id: '1', status: 'FINISHED' }, data: {} };
        yield { info: { run_id: newId(), experiment_id: '1', status: 'DONE' }, data: { params: [{ key: 'a', value: 'b\u0000' }] } };
      },
    };
    const problems = await problemsOf(importMlflow({ ...into, source: odd, experiments: ['spam'] }));
    expect(problems[0]).toBe('CONFLICT');
    expect(problems.slice(1).map((one) => one.replace(/[0-9a-f]{32}/, 'ID').split(' ')[0])).toEqual([
      'runs.not',
      'runs.ID.info.status',
      'runs.ID.data.params.0.value',
    ]);
  });

  it('takes nothing that whoever asks may not touch', async () => {
    const into = await house();
    const requireMay = (_kind: string, name: string): Promise<void> => (name === 'spam' ? Promise.reject(new MillraceError('NOT_ALLOWED')) : Promise.resolve());
    expect(await problemsOf(importMlflow({ ...into, source, requireMay }))).toEqual(['NOT_ALLOWED']);
    expect(await into.store.trackedRuns.jsons(runs)).toEqual([]);
    expect(await importMlflow({ ...into, source, requireMay, experiments: ['flights'] })).toMatchObject({ matches: true, source: { runs: 2 } });
  });
});
