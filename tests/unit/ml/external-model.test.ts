import onnxProto from 'onnx-proto';
import type { onnx } from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { numeric } from '../../../contracts/features.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { fitFeatures } from '../../../ml/features/fit-features.ts';
import { openExternalModel } from '../../../ml/onnx/external-model.ts';
import { floatTensor, int64Tensor, intAttribute, intsAttribute, stringsAttribute, valueInfo } from '../../../ml/onnx/graph-builder.ts';
import { buildPredictorGraph } from '../../../ml/predictor.ts';
import { createScorer } from '../../../ml/score.ts';
import type { LearningTask } from '../../../ml/trainer.ts';
import { sigmoidOfFirst } from '../../support/external-training.ts';
import { rawTable } from './raw-tables.ts';

const ROWS = 3;
const table = rawTable({ a: [1, 2, 3], b: [-1, 0, 4] });
const fitted = fitFeatures({ features: { a: numeric(), b: numeric() }, table, trainer: 'gbdt', seed: 0 });
/** Row-major a, b. */
const DATA = Float32Array.of(1, -1, 2, 0, 3, 4);
const binary = { kind: 'binary' } as LearningTask;

const node = (opType: string, input: string[], output: string[], attribute: onnx.IAttributeProto[] = [], domain = ''): onnx.INodeProto => ({
  opType,
  input,
  output,
  attribute,
  domain,
  name: `${opType}_${output[0] ?? ''}`,
});
interface Parts {
  readonly nodes: readonly onnx.INodeProto[];
  readonly outputs: readonly onnx.IValueInfoProto[];
  readonly initializers?: readonly onnx.ITensorProto[];
  readonly inputs?: readonly onnx.IValueInfoProto[];
  readonly opset?: number;
}
const file = ({ nodes, outputs, initializers = [], inputs = [valueInfo('x', 1, 2)], opset = 17 }: Parts): Uint8Array =>
  onnxProto.onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [
      { domain: '', version: opset },
      { domain: 'ai.onnx.ml', version: 1 },
    ],
    graph: { name: 'made elsewhere', input: [...inputs], output: [...outputs], initializer: [...initializers], node: [...nodes] },
  }).finish();

const open = (bytes: Uint8Array, task = binary, beside = new Map<string, Uint8Array>()) =>
  openExternalModel({ bytes, beside, task, probe: { rows: ROWS, columns: 2, data: DATA } });

/** The answers of the joined graph, and that they are the model's own. */
async function joined(bytes: Uint8Array, task = binary, beside = new Map<string, Uint8Array>()): Promise<readonly number[]> {
  const model = await open(bytes, task, beside);
  const outputs = task.kind === 'regression' ? 1 : task.kind === 'binary' ? 2 : task.classes;
  const graph = buildPredictorGraph({ fitted, toOnnx: model.toOnnx, outputs });
  const scorer = await createScorer(graph.onnx, graph.graph);
  const { values } = await scorer.score(table);
  await scorer.close();
  expect([...values].map((v) => Number(v.toFixed(5)))).toEqual([...model.answers].map((v) => Number(v.toFixed(5))));
  return [...values];
}

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof MillraceError)) throw new Error(`not refused: ${String(error)}`);
  expect(error.code).toBe('MODEL_INVALID');
  return error;
}
const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));

describe('a model that another tool wrote', () => {
  it('with one probability for two classes answers both', async () => {
    const values = await joined(sigmoidOfFirst(2));
    expect(values[2]).toBeCloseTo(1 - sigmoid(2), 5);
    expect(values[3]).toBeCloseTo(sigmoid(2), 5);
  });

  it('with a label and a list of maps answers the probabilities that the maps were made of', async () => {
    const zipMap = (labels: number[]): Uint8Array =>
      file({
        nodes: [
          node('Softmax', ['x'], ['probabilities'], [intAttribute('axis', 1)]),
          node('ArgMax', ['probabilities'], ['label'], [intAttribute('axis', 1), intAttribute('keepdims', 0)]),
          node('ZipMap', ['probabilities'], ['output_probability'], [intsAttribute('classlabels_int64s', labels)], 'ai.onnx.ml'),
        ],
        outputs: [
          { name: 'label', type: { tensorType: { elemType: 7, shape: { dim: [{ dimParam: 'N' }] } } } },
          { name: 'output_probability', type: { sequenceType: { elemType: { mapType: { keyType: 7, valueType: { tensorType: { elemType: 1 } } } } } } },
        ],
      });
    expect((await joined(zipMap([0, 1])))[1]).toBeCloseTo(sigmoid(-2), 5);
    expect((await refused(open(zipMap([1, 2])))).problems[0]).toMatchObject({ path: 'classes', found: '1, 2' });
  });

  it('of doubles, of one dimension, and with weights in a file beside it, is a regression', async () => {
    const weights = Float64Array.of(2, 10);
    const external: onnx.ITensorProto = {
      name: 'w',
      dims: [2, 1],
      dataType: 11,
      dataLocation: 1,
      externalData: [
        { key: 'location', value: 'model.onnx.data' },
        { key: 'offset', value: '8' },
        { key: 'length', value: '16' },
      ],
    };
    const bytes = file({
      inputs: [valueInfo('x', 11, 2)],
      initializers: [external, int64Tensor('flat', [1], [-1])],
      nodes: [node('MatMul', ['x', 'w'], ['z']), node('Reshape', ['z', 'flat'], ['y'])],
      outputs: [{ name: 'y', type: { tensorType: { elemType: 11, shape: { dim: [{ dimParam: 'N' }] } } } }],
    });
    const beside = new Map([['model.onnx.data', new Uint8Array(Buffer.concat([Buffer.alloc(8), Buffer.from(weights.buffer)]))]]);
    expect(await joined(bytes, { kind: 'regression' }, beside)).toEqual([-8, 4, 46]);
    expect((await refused(open(bytes, { kind: 'regression' }))).message).toContain('model.onnx.data, which is not beside it');
    expect((await refused(open(bytes, { kind: 'regression' }, new Map([['model.onnx.data', new Uint8Array(9)]])))).message).toContain('not whole');
  });

  it('of an old opset is raised to that of the features', async () => {
    const bytes = file({
      opset: 11,
      nodes: [
        node('ReduceMean', ['x'], ['mean'], [intsAttribute('axes', [1])]),
        node('Unsqueeze', ['mean'], ['deep'], [intsAttribute('axes', [2])]),
        node('Squeeze', ['deep'], ['flat'], [intsAttribute('axes', [2])]),
        node('Split', ['x'], ['l', 'r'], [intAttribute('axis', 1), intsAttribute('split', [1, 1])]),
        node('Sub', ['l', 'flat'], ['difference']),
        node('Dropout', ['difference'], ['kept'], [{ name: 'ratio', type: 1, f: 0.5 }]),
        node('Concat', ['kept', 'r'], ['both'], [intAttribute('axis', 1)]),
        node('Softmax', ['both'], ['output']),
      ],
      outputs: [valueInfo('output', 1, 2)],
    });
    // of a row (3, 4): 3 - 3.5 against 4
    expect((await joined(bytes))[5]).toBeCloseTo(sigmoid(4.5), 5);
  });

  it('with branches that read outer values keeps them', async () => {
    const branch = (name: string, from: string): onnx.IAttributeProto => ({
      name,
      type: 5,
      g: { name, node: [node('Sigmoid', [from], [`${name}_p`])], output: [{ name: `${name}_p`, type: { tensorType: { elemType: 1 } } }] },
    });
    const bytes = file({
      initializers: [floatTensor('w', [2, 1], [1, 0]), { name: 'yes', dims: [], dataType: 9, int32Data: [1] }],
      nodes: [
        node('MatMul', ['x', 'w'], ['z']),
        node('Neg', ['z'], ['nz']),
        node('If', ['yes'], ['p'], [branch('then_branch', 'z'), branch('else_branch', 'nz')]),
      ],
      outputs: [{ name: 'p', type: { tensorType: { elemType: 1 } } }],
    });
    expect((await joined(bytes))[1]).toBeCloseTo(sigmoid(1), 5);
  });

  it.each<[string, () => Uint8Array, RegExp, LearningTask?]>([
    ['that is no ONNX file', () => Buffer.from('print("hello")'), /not an ONNX file|no graph/],
    ['that is cut off', () => sigmoidOfFirst(2).slice(0, 60), /not an ONNX file|no graph|cannot load/],
    ['of another number of columns', () => sigmoidOfFirst(5), /cannot take the features/],
    [
      'with two inputs',
      () => file({ inputs: [valueInfo('x', 1, 1), valueInfo('y', 1, 1)], nodes: [node('Add', ['x', 'y'], ['p'])], outputs: [valueInfo('p', 1, 1)] }),
      /2 inputs/,
    ],
    [
      'with a fixed number of rows',
      () =>
        file({
          inputs: [{ name: 'x', type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: 1 }, { dimValue: 2 }] } } } }],
          nodes: [node('Softmax', ['x'], ['p'])],
          outputs: [valueInfo('p', 1, 2)],
        }),
      /cannot take the features/,
    ],
    ['with an operator that nobody knows', () => sigmoidOfFirst(2, 'NoSuchOperator'), /onnxruntime cannot load/],
    ['that answers no probabilities', () => sigmoidOfFirst(2, 'Neg'), /no probabilities/],
    ['that answers NaN', () => sigmoidOfFirst(2, 'Sqrt').map((byte) => byte), /no probabilities|not finite/],
    [
      'that answers labels alone',
      () => file({ nodes: [node('ArgMax', ['x'], ['label'], [intAttribute('axis', 1)])], outputs: [valueInfo('label', 7, 1)] }),
      /answers labels, and no probabilities/,
    ],
    [
      'of fewer classes',
      () => file({ nodes: [node('Softmax', ['x'], ['p'])], outputs: [valueInfo('p', 1, 2)] }),
      /does not answer probabilities, FLOAT \[N, 5\]/,
      { kind: 'multiclass', classes: 5 },
    ],
    [
      'with an old label encoder',
      () => file({ nodes: [node('LabelEncoder', ['x'], ['p'], [stringsAttribute('classes_strings', ['a'])], 'ai.onnx.ml')], outputs: [valueInfo('p', 1, 2)] }),
      /cannot load|LabelEncoder/,
    ],
  ])('%s is refused with what is wrong', async (_what, bytes, message, task = binary) => {
    expect((await refused(open(bytes(), task))).message).toMatch(message);
  });
});
