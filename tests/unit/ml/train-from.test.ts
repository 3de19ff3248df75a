import { describe, expect, it } from 'vitest';
import { categorical, numeric } from '../../../contracts/features.ts';
import { predictorOrigin } from '../../../ml/predictor.ts';
import { trainPredictor, type TrainPredictorInput } from '../../../ml/train-predictor.ts';
import { rawTable } from './raw-tables.ts';

const features = { n: numeric(), c: categorical({ minCount: 1 }) };
const rows = (from: number, answers: readonly string[]) =>
  rawTable({
    n: Array.from({ length: 30 }, (_, i) => from + i),
    c: Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? 'even' : `odd${from}`)),
    y: Array.from({ length: 30 }, (_, i) => answers[(i >> 2) % answers.length] ?? ''),
  });
const train = (changes: Partial<TrainPredictorInput>) =>
  trainPredictor({ trainer: { name: 'linear' }, features, train: rows(0, ['no', 'yes']), target: 'y', seed: 1, threads: 1, ...changes });

describe('training that goes on from an earlier predictor', () => {
  it('keeps its fitted features and its classes, though the rows have others and one class only', async () => {
    const first = await train({});
    const second = await train({ from: first, train: rows(100, ['yes']) });
    expect(second.graph).toEqual(first.graph);
    expect(second.task).toEqual(first.task);
    expect(predictorOrigin(second.onnx).fitted).toEqual(predictorOrigin(first.onnx).fitted);
    expect(predictorOrigin(second.onnx).learnt).not.toEqual(predictorOrigin(first.onnx).learnt);
    const again = await train({ from: first, train: rows(100, ['yes']) });
    expect(Buffer.from(again.onnx).equals(Buffer.from(second.onnx))).toBe(true);
  });

  it.each([
    [
      'other features',
      { features: { ...features, n: numeric({ log: true }) } },
      { code: 'FEATURES_INVALID', problems: [{ path: 'features.n', message: 'has other options than before' }] },
    ],
    ['fewer features', { features: { n: numeric() } }, { code: 'FEATURES_INVALID', problems: [{ path: 'features.c', message: 'is missing' }] }],
    ['a class that it does not know', { train: rows(0, ['no', 'perhaps']) }, { code: 'TARGET_INVALID', problems: [{ column: 'y' }] }],
    ['another trainer', { trainer: { name: 'gbdt' } }, { code: 'INVALID_PARAMETERS', problems: [{ path: 'from', fix: 'train with linear' }] }],
    ['another task', { taskKind: 'regression' }, { code: 'INVALID_PARAMETERS', problems: [{ path: 'task' }] }],
    ['another target', { target: 'z' }, { code: 'INVALID_PARAMETERS', problems: [{ path: 'target' }] }],
  ] as const)('refuses %s', async (_what, changes, error) => {
    const first = await train({});
    await expect(train({ from: first, ...changes })).rejects.toMatchObject(error);
  });

  it('refuses a model of a trainer that keeps nothing to go on from', async () => {
    const trees = await train({ trainer: { name: 'gbdt', parameters: { trees: 2 } } });
    await expect(train({ from: trees, trainer: { name: 'gbdt' } })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });
});
