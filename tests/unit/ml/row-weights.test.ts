import { describe, expect, it } from 'vitest';
import { numeric } from '../../../contracts/features.ts';
import { createScorer } from '../../../ml/score.ts';
import { trainPredictor } from '../../../ml/train-predictor.ts';
import { rawTable } from './raw-tables.ts';

const ROWS = 60;
const rows = Array.from({ length: ROWS }, (_, i) => i);
const x = rows.map((i) => ((i * 37) % 60) / 10);
const z = rows.map((i) => ((i * 17) % 60) / 10);
const late = rows.map((i) => (x[i] ?? 0) + (i > 40 ? -2.5 : 0) + ((i * 7) % 11) / 5 > 3.7);
const minutes = rows.map((i) => 3 * (x[i] ?? 0) - (z[i] ?? 0) + ((i * 7) % 11) / 5 + (i > 40 ? 4 : 0));
const weight = rows.map((i) => 2 ** (-(ROWS - 1 - i) / 15));
const table = rawTable({ x, z, late, minutes, weight });
const features = { x: numeric({ scale: 'none' }), z: numeric({ scale: 'none' }) };
const SHOWN = [0, 13, 29, 44, 59];
const shown = rawTable({ x: SHOWN.map((i) => x[i] ?? 0), z: SHOWN.map((i) => z[i] ?? 0) });

const train = (target: 'late' | 'minutes', trainer: { readonly name: string; readonly parameters: unknown }, more: object = {}) =>
  trainPredictor({
    trainer,
    features,
    train: table,
    target,
    targetType: target === 'late' ? 'boolean' : 'number',
    seed: 1,
    threads: 1,
    weight: 'weight',
    ...more,
  });
async function answers(trained: Awaited<ReturnType<typeof train>>): Promise<number[]> {
  const { task, graph, onnx } = trained;
  const scorer = await createScorer(onnx, graph);
  const output = (await scorer.score(shown)).values;
  await scorer.close();
  return task.kind === 'binary' ? SHOWN.map((_, row) => output[2 * row + 1] ?? Number.NaN) : [...output];
}

describe('rows that count by a column of weights', () => {
  const boosted = { trees: 20, leaves: 4, learningRate: 0.2, minDataInLeaf: 1 };
  // scikit-learn 1.7.2 and LightGBM 4.6.0 (min_data_in_bin = 1), with sample_weight
  it.each([
    ['late', { name: 'linear', parameters: { l2: 1, tolerance: 1e-9 } }, [0.014197, 0.012332, 0.780741, 0.027485, 0.111529]],
    ['minutes', { name: 'linear', parameters: { l2: 1, tolerance: 1e-9 } }, [3.289258, -0.62386, 18.396533, 2.887443, 5.996931]],
    ['minutes', { name: 'gbdt', parameters: boosted }, [1.334736, -0.302907, 17.416794, 3.516595, 7.061869]],
  ] as const)('teach %s to the trainer %o as they teach it to scikit-learn and LightGBM', async (target, trainer, expected) => {
    const found = await answers(await train(target, trainer));
    found.forEach((value, row) => expect(value).toBeCloseTo(expected[row] ?? Number.NaN, 4));
  });

  it('are minded by the trainer mlp: those that weigh nothing teach it nothing', async () => {
    const half = rawTable({
      x: [...x, ...x],
      z: [...z, ...z],
      minutes: [...minutes, ...minutes.map((y) => y + 1_000)],
      weight: [...x.map(() => 1), ...x.map(() => 0)],
    });
    const trained = await train('minutes', { name: 'mlp', parameters: { epochs: 25, hidden: [8], batchSize: 20, learningRate: 0.05 } }, { train: half });
    expect(Math.max(...(await answers(trained)))).toBeLessThan(100);
  });

  it.each([
    ['COLUMN_MISSING', { weight: 'importance' }],
    ['INVALID_PARAMETERS', { features: { ...features, weight: numeric() } }],
    ['INVALID_PARAMETERS', { train: rawTable({ x, z, late, minutes, weight: weight.map((value, i) => (i === 7 ? -1 : value)) }) }],
    ['INVALID_PARAMETERS', { train: rawTable({ x, z, late, minutes, weight: weight.map((value, i) => (i === 7 ? null : value)) }) }],
    ['INVALID_PARAMETERS', { train: rawTable({ x, z, late, minutes, weight: weight.map(() => 0) }) }],
    ['COLUMN_TYPE', { train: rawTable({ x, z, late, minutes, weight: weight.map(() => 'much') }) }],
  ])('are refused with %s where they are none', async (code, more) => {
    await expect(train('late', { name: 'linear', parameters: {} }, more)).rejects.toMatchObject({ code });
  });
});
