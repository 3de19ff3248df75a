import { InferenceSession, Tensor } from 'onnxruntime-node';
import * as web from 'onnxruntime-web';
import { describe, expect, it } from 'vitest';
import type { RawTable } from '../../../contracts/columns.ts';
import { FeaturesSchema } from '../../../contracts/features.ts';
import { decodeModel } from '../../../ml/onnx/graph-builder.ts';
import { packRows } from '../../../ml/pack-rows.ts';
import { trainPredictor } from '../../../ml/train-predictor.ts';

/**
 * What the WASM build of onnxruntime-web 1.30.0 has run of Millrace's graphs, with the outputs of onnxruntime-node to 1e-5: it is
 * the native CPU build, compiled for another processor. An operator that is new here has to be tried there.
 */
const RUN_IN_WASM = new Set([
  ...['Add', 'Cast', 'Concat', 'Cos', 'Div', 'Equal', 'Gather', 'Gemm', 'Greater', 'GreaterOrEqual', 'IsNaN', 'Less', 'Log', 'Max', 'Mod', 'Mul', 'OneHot'],
  ...['ReduceL2', 'ReduceSum', 'RegexFullMatch', 'Relu', 'Reshape', 'Sin', 'StringNormalizer', 'Sub', 'TfIdfVectorizer', 'Where'],
  ...['ai.onnx.ml.LabelEncoder', 'ai.onnx.ml.TreeEnsemble', 'ai.onnx.ml.TreeEnsembleRegressor', 'com.microsoft.MurmurHash3', 'com.microsoft.Tokenizer'],
]);

const ROWS = 400;
const PLACES = ['SFO', 'ORD', 'ATL', 'JFK bay', 'north field'];

function flights(): RawTable {
  let state = 7;
  const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  const numbers = (make: () => number): Float64Array => Float64Array.from({ length: ROWS }, make);
  const codes = (): Int32Array => Int32Array.from({ length: ROWS }, () => Math.floor(random() * PLACES.length));
  return {
    rows: ROWS,
    columns: new Map([
      ['distance', { kind: 'number', values: numbers(() => Math.round(random() * 2_000)) }],
      ['share', { kind: 'number', values: numbers(random) }],
      ['date', { kind: 'timestamp', values: numbers(() => Date.UTC(2001, 0, 1) + Math.round(random() * 1e6) * 60_000) }],
      ['origin', { kind: 'string', codes: codes(), dictionary: [...PLACES].sort() }],
      ['delay', { kind: 'number', values: numbers(() => random() * 50 - 10) }],
    ]),
  };
}

/** Every kind of feature. Sines and cosines are left to a model without thresholds: another processor's last bit may be on the other side of one. */
const features = (cyclic: boolean) =>
  FeaturesSchema.parse({
    date: { kind: 'datetime', parts: ['hour', 'dayOfWeek', 'month'], cyclic },
    distance: { kind: 'numeric', log: true, clip: { quantiles: [0.01, 0.99] }, indicator: true },
    band: { kind: 'numeric', column: 'distance', bins: { by: 'quantile', count: 4 } },
    share: { kind: 'passthrough' },
    origin: { kind: 'categorical', encode: 'target', minCount: 1 },
    hashed: { kind: 'categorical', column: 'origin', encode: 'hash', buckets: 16 },
    letters: { kind: 'text', column: 'origin', analyzer: 'char', ngrams: [1, 2], minDocuments: 1 },
    words: { kind: 'text', column: 'origin', minDocuments: 1 },
  });

const TRAINERS = [
  { name: 'gbdt', parameters: { trees: 5 } },
  { name: 'linear', parameters: {} },
  { name: 'mlp', parameters: { epochs: 1 } },
] as const;

const train = (trainer: (typeof TRAINERS)[number]) =>
  trainPredictor({
    trainer,
    features: features(trainer.name !== 'gbdt'),
    train: flights(),
    target: 'delay',
    targetType: 'number',
    taskKind: 'regression',
    seed: 1,
    threads: 1,
  });

describe('an exported file in browsers and at the edge', () => {
  it.each(TRAINERS)('of $name has only operators that the WASM build has', async (trainer) => {
    const { onnx } = await train(trainer);
    const { graph } = decodeModel(onnx);
    const used = [...new Set((graph?.node ?? []).map(({ domain, opType }) => (domain ? `${domain}.${opType ?? ''}` : (opType ?? ''))))];
    expect(used.length).toBeGreaterThan(10);
    expect(used.filter((name) => !RUN_IN_WASM.has(name))).toEqual([]);
  });

  it.each(TRAINERS)('of $name gives the same outputs in onnxruntime-web', async (trainer) => {
    const { onnx, graph } = await train(trainer);
    const feeds = packRows(graph, flights());
    const native = await InferenceSession.create(onnx);
    const expected = (await native.run(feeds))['output']?.data as Float32Array;
    await native.release();
    const session = await web.InferenceSession.create(onnx, { executionProviders: ['wasm'] });
    const { output } = await session.run(
      Object.fromEntries(
        Object.entries(feeds).map(([name, tensor]) => [name, tensor instanceof Tensor ? new web.Tensor(tensor.type, tensor.data, tensor.dims) : tensor]),
      ),
    );
    expect(output?.data).toHaveLength(expected.length);
    for (const [index, value] of expected.entries()) expect(output?.data[index]).toBeCloseTo(value, 4);
  });
});
