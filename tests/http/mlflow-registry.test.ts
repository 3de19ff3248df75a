import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { barePredictor } from '../../activities/stages/import-model.ts';
import { openMlflowModel } from '../../activities/mlflow-model.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { floatTensor, encodeModel, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { wrapBareOnnx } from '../../ml/predictor.ts';
import { createScorer } from '../../ml/score.ts';
import type { Artifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { mlflowChecks } from '../support/mlflow-client.ts';

const ROWS = [[1], [2.5]];
const PIPELINE_RUN = randomBytes(16).toString('hex');

let store: Store;
let artifacts: Artifacts;
const { api, of } = mlflowChecks('mlflow-registry-client.py', async (made) => {
  ({ store, artifacts } = made);
  await doubler();
  await store.runs.begin({ runId: PIPELINE_RUN, workflowId: 'w', temporalRunId: 't', pipeline: 'nightly', params: {}, trigger: { kind: 'cli' } });
  return ['doubler', JSON.stringify(ROWS), PIPELINE_RUN];
});

/** A version that no MLflow client made: it doubles its one number. */
async function doubler(): Promise<void> {
  const bytes = encodeModel({
    graphName: 'double',
    nodes: [{ name: 'mul', opType: 'Mul', domain: '', input: ['numbers', 'two'], output: ['output'], attribute: [] }],
    initializers: [floatTensor('two', [1], [2])],
    inputs: [valueInfo('numbers', ONNX_TYPE.float, 1)],
    outputs: [valueInfo('output', ONNX_TYPE.float, 1)],
    opset: { ai: 17, ml: 3 },
    metadata: {},
  });
  const { onnx, signature } = wrapBareOnnx(bytes);
  const { sha256 } = await barePredictor({ onnx, signature, sampleRows: [], parameters: {} }, { artifacts });
  await store.models.register({ model: 'doubler', predictor: sha256, metrics: {}, evaluation: null });
}

describe("the registry and MLflow's client", () => {
  it('registers what scikit-learn trained, and loads it by its alias, its number and its run', (context) => {
    expect(of('sklearn_champion', context)).toEqual({
      same: true,
      pyfunc: true,
      by_run: true,
      version: ['iris', 1, true, 'READY', 'None'],
      source: true,
      aliases: ['champion'],
      registered: { champion: expect.anything() as unknown },
    });
  });

  it('takes what autologging logs: parameters, metrics, pictures, the model', (context) => {
    const found = of('autologged', context);
    expect(found).toMatchObject({ C: '0.5', loaded: true });
    expect(found['metrics']).toEqual(expect.arrayContaining(['training_accuracy_score']));
    expect(found['files']).toEqual(expect.arrayContaining(['estimator.html', 'training_confusion_matrix.png']));
  });

  it('serves an ONNX model that a client logged, with the names of its columns, and answers as it did there', async (context) => {
    const found = of('onnx_model', context);
    expect(found['zipmap']).toBe(true);
    const version = await store.models.version('iris-onnx', 1);
    expect(version.predictor).toBeNull();
    const { onnx, signature } = await openMlflowModel(version, { store, artifacts });
    expect(signature.columns.map(({ name }) => name)).toEqual(['sepal length (cm)', 'sepal width (cm)', 'petal length (cm)', 'petal width (cm)']);
    const { sha256 } = await barePredictor({ onnx, signature, sampleRows: [], parameters: {} }, { artifacts });
    expect(PredictorSchema.parse(await artifacts.getJson(sha256)).sample.output[0]).toHaveLength(3);
    const scorer = await createScorer(onnx, signature.graph);
    // the first rows of iris, as the client gave them to scikit-learn
    const rows = [
      [5.1, 3.5, 1.4, 0.2],
      [4.9, 3, 1.4, 0.2],
      [4.7, 3.2, 1.3, 0.2],
    ];
    const columns = signature.columns.map(
      ({ name }, at) => [name, { kind: 'number' as const, values: Float64Array.from(rows, (row) => row[at] ?? 0) }] as const,
    );
    const { values } = await scorer.score({ rows: rows.length, columns: new Map(columns) });
    await scorer.close();
    const expected = (found['probabilities'] as number[][]).flat();
    for (const [at, value] of values.entries()) expect(value).toBeCloseTo(expected[at] ?? Number.NaN, 5);
  });

  it("refuses to serve what is no ONNX model, and says what is in the version's folder", async (context) => {
    of('sklearn_champion', context);
    const version = await store.models.version('iris', 1);
    await expect(openMlflowModel(version, { store, artifacts })).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      problems: [{ found: expect.stringContaining('MLmodel') as string }],
    });
    const elsewhere = await store.registry.version('aliased', 1);
    await expect(openMlflowModel(elsewhere, { store, artifacts })).rejects.toMatchObject({ message: expect.stringContaining('s3://bucket/model') as string });
  });

  it('loads what a run of Millrace registered', (context) => {
    expect(of('millrace_version', context)).toEqual({
      source: 'mlflow-artifacts:/registry/doubler/1',
      files: ['MLmodel', 'model.onnx', 'predictor.json', 'signature.json'],
      answer: ROWS.map(([value = 0]) => [2 * value]),
    });
  });

  it('describes a version whole: environment and source of a client, signature and sample of a run', async (context) => {
    of('sklearn_champion', context);
    const describe = async (path: string): Promise<unknown> => (await api().app.inject({ url: `/api/v1/models/${path}` })).json();
    expect(await describe('iris/versions/champion')).toMatchObject({
      version: 1,
      aliases: ['champion'],
      source: expect.stringMatching(/^models:\/m-/) as string,
      predictor: null,
      signature: null,
      environment: { 'scikit-learn': '1.9.1' },
    });
    expect(await describe('doubler/versions/1')).toMatchObject({
      aliases: ['candidate'],
      stage: 'None',
      onnxSizeBytes: expect.any(Number) as number,
      signature: { columns: [{ name: 'numbers', type: 'number' }], task: { kind: 'raw' } },
      sample: { rows: [{ numbers: 0 }], output: [[0]] },
      source: null,
    });
    expect(await describe('doubler/versions/9')).toMatchObject({ code: 'NOT_FOUND' });
  });

  it("puts what a stage's program logs into its stage, and into no other run", async (context) => {
    const found = of('in_a_stage', context);
    expect(found).toMatchObject({
      metrics: { 'train#2/loss': 0.5, loss: 0.75 },
      params: { depth: '6' },
      other: { loss: 0.25 },
      notes: 'words',
    });
    expect((await store.metrics.latest(PIPELINE_RUN)).map(({ stage, key, value }) => [stage, key, value])).toEqual([
      ['', 'loss', 0.75],
      ['train#2', 'loss', 0.5],
    ]);
  });

  it('makes, finds, tags, renames and deletes models', (context) => {
    const found = of('models', context);
    expect(found).toMatchObject({
      made: ['first', 'what for', { team: 'a' }],
      again: ['RESOURCE_ALREADY_EXISTS', expect.stringContaining('Registered Model (name=first) already exists') as string],
      found: ['for more', { team: 'a', stage: 'draft' }, true],
      renamed: 'premier',
      gone: ['RESOURCE_DOES_NOT_EXIST', expect.stringContaining('Registered Model with name=premier not found') as string],
      odd: [true, true],
    });
    for (const name of ['slash', 'empty', 'nul', 'dots', 'long_name', 'long_tag', 'bad_key'])
      expect([name, (found[name] as string[])[0]]).toEqual([name, 'INVALID_PARAMETER_VALUE']);
  });

  it('numbers, describes, tags, searches and deletes versions', (context) => {
    const found = of('versions', context);
    expect(found).toMatchObject({
      first: ['told anew', { at: '0', good: 'yes' }, true],
      pages: [
        [1, 2],
        [3, 4],
      ],
      tagged: [3],
      numbered: [4, 3],
      of_run: 4,
      listed: [1, 2, 3, 4],
      uri: true,
      gone: ['RESOURCE_DOES_NOT_EXIST', expect.stringContaining('Model Version (name=many, version=5) not found') as string],
      no_model: ['RESOURCE_DOES_NOT_EXIST', expect.anything() as unknown],
    });
    expect((found['newest'] as number[])[0]).toBe(1); // it was changed last
    for (const name of ['no_number', 'sql', 'or', 'page']) expect([name, (found[name] as string[])[0]]).toEqual([name, 'INVALID_PARAMETER_VALUE']);
  });

  it('takes a source that belongs to its run or model, or lies elsewhere; no way out', (context) => {
    const invalid = 'INVALID_PARAMETER_VALUE';
    expect(of('sources', context)).toEqual({
      ...{ local: invalid, file: invalid, upwards: invalid, encoded: invalid, other_run: invalid, other_folder: invalid },
      ...{ no_run: 'RESOURCE_DOES_NOT_EXIST', no_model: 'RESOURCE_DOES_NOT_EXIST' },
      ...{ own_folder: 'nothing', bucket: 'nothing', copied: 'nothing', copy_uri: true },
    });
  });

  it('moves aliases, each move with its epoch', async (context) => {
    expect(of('aliases', context)).toEqual({
      best: [2, ['also', 'best']],
      left: { best: 2 },
      latest: 2,
      gone: 'INVALID_PARAMETER_VALUE',
      reserved: ['INVALID_PARAMETER_VALUE', 'INVALID_PARAMETER_VALUE', 'INVALID_PARAMETER_VALUE'],
      no_version: 'RESOURCE_DOES_NOT_EXIST',
    });
    expect(await store.models.alias('aliased', 'best')).toMatchObject({ version: 2, epoch: 2 });
    expect(await store.models.alias('aliased', 'also')).toMatchObject({ version: null, epoch: 2 });
  });

  it('moves versions between stages', (context) => {
    const found = of('stages', context);
    expect(found).toMatchObject({ latest: { None: 3, Production: 2, Archived: 1 }, production: [2], inactive: 'INVALID_PARAMETER_VALUE' });
    expect(found['unknown']).toEqual(['INVALID_PARAMETER_VALUE', expect.stringContaining('Invalid Model Version stage: live')]);
  });

  it('searches models page by page', (context) => {
    expect(of('model_search', context)).toEqual({
      first: ['s-a', 's-b'],
      second: ['s-c'],
      like: ['s-c', 's-b', 's-a'],
      not: ['s-a', 's-c'],
      ...{ bad: 'INVALID_PARAMETER_VALUE', order: 'INVALID_PARAMETER_VALUE', much: 'INVALID_PARAMETER_VALUE' },
    });
  });

  it('gives a name that six ask for at once to one of them', (context) => {
    expect(of('one_name_for_many', context)).toEqual([...Array.from({ length: 5 }, () => 'RESOURCE_ALREADY_EXISTS'), 'nothing']);
  });

  it('logs, lists, loads and deletes files', (context) => {
    expect(of('files', context)).toEqual({
      listed: [
        ['a.txt', false, 1],
        ['below', true, null],
        ['deep', true, null],
        ['dict.json', false, expect.any(Number) as number],
        ['words', true, null],
      ],
      deep: ['below/deep/b.json', 'below/deep/er'],
      read: { 'a.txt': 'a', 'deep/b.json': '{"x": 1}', 'deep/er/ü %.bin': 'b' },
      by_api: [true, ['below/a.txt', 'below/deep']],
      words: 'words',
      dict: { k: [1] },
      after: ['a.txt', 'deep', 'dict.json', 'words'],
      upwards: 'INVALID_PARAMETER_VALUE',
      missing: expect.any(String) as string,
    });
  });
});
