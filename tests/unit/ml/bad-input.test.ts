import { describe, expect, it } from 'vitest';
import type { RawColumn, RawTable } from '../../../contracts/columns.ts';
import { categorical, type Features, numeric, passthrough } from '../../../contracts/features.ts';
import { createScorer } from '../../../ml/score.ts';
import { trainPredictor } from '../../../ml/train-predictor.ts';
import { type Cell, rawTable } from './raw-tables.ts';

/** What is wrong with data ends a training with the reason, or gives a model that answers: the same for every trainer. */
const parametersOf = { gbdt: { trees: 3, minDataInLeaf: 1 }, linear: {}, mlp: { epochs: 2, hidden: [4] } } as const;
const rows = 60;
const column = (cell: (row: number) => Cell): Cell[] => Array.from({ length: rows }, (_, row) => cell(row));
const late = column((row) => (row % 3 === 0 ? 'yes' : 'no'));

describe.each(['gbdt', 'linear', 'mlp'] as const)('%s', (trainer) => {
  const train = (features: Features, table: RawTable) =>
    trainPredictor({ trainer: { name: trainer, parameters: parametersOf[trainer] }, features, train: table, target: 'y', seed: 1, threads: 1 });
  /** All answers to the rows, by the model file. */
  const answers = async (features: Features, table: RawTable): Promise<Float32Array> => {
    const { onnx, graph } = await train(features, table);
    const scorer = await createScorer(onnx, graph);
    try {
      return (await scorer.score(table)).values;
    } finally {
      await scorer.close();
    }
  };

  it('answers the share of the classes where every feature is constant', async () => {
    const found = await answers({ a: numeric(), b: categorical() }, rawTable({ a: column(() => 7), b: column(() => 'x'), y: late }));
    expect(found).toHaveLength(2 * rows);
    for (let row = 0; row < rows; row++) expect(found[2 * row + 1]).toBeCloseTo(found[1] ?? 0, 6);
    // its few steps bring mlp only near to it
    expect(Math.abs((found[1] ?? 0) - 1 / 3)).toBeLessThan(trainer === 'mlp' ? 0.4 : 0.01);
  });

  it('takes infinite and extreme values, and answers numbers', async () => {
    const odd = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e300, -1e300, 5e-324, null];
    const table = rawTable({ a: column((row) => odd[row] ?? row), b: column((row) => (row < 5 ? null : row)), y: late });
    const b = numeric({ log: true, indicator: true });
    const found = await answers({ a: numeric({ clip: { quantiles: [0.1, 0.9] } }), b }, table);
    expect(found.every((p) => p >= 0 && p <= 1)).toBe(true);
    // not clipped they are a million deviations away, which steps of a fixed length do not bear
    const unclipped = answers({ a: numeric(), b }, table);
    if (trainer === 'mlp') await expect(unclipped).rejects.toMatchObject({ code: 'TRAINING_DIVERGED' });
    else expect((await unclipped).every((p) => p >= 0 && p <= 1)).toBe(true);
  });

  it('learns from fewer rows than the folds of an encoding', async () => {
    const table = rawTable({ c: ['p', 'q', 'p'], y: ['no', 'yes', 'yes'] });
    const found = await answers({ c: categorical({ encode: 'target', minCount: 1 }) }, table);
    expect(found.every((p) => p >= 0 && p <= 1)).toBe(true);
  });

  it('learns from 100,000 categories, by their hashes or frequencies', async () => {
    const many = 100_000;
    const u = {
      kind: 'string',
      codes: Int32Array.from({ length: many }, (_, i) => i),
      dictionary: Array.from({ length: many }, (_, i) => `user-${i}`),
    } as const;
    const y = { kind: 'number', values: Float64Array.from({ length: many }, (_, i) => (i % 5 === 0 ? 1 : 0)) } as const;
    const table: RawTable = {
      rows: many,
      columns: new Map<string, RawColumn>([
        ['u', u],
        ['y', y],
      ]),
    };
    const { trainRows, matrixColumns } = await trainPredictor({
      trainer: { name: trainer, parameters: trainer === 'mlp' ? { epochs: 1, hidden: [], batchSize: 20_000 } : parametersOf[trainer] },
      features: { hashed: categorical({ column: 'u', encode: 'hash', buckets: 16 }), often: categorical({ column: 'u', encode: 'frequency', minCount: 1 }) },
      train: table,
      target: 'y',
      taskKind: 'binary',
      seed: 1,
      threads: 1,
    });
    expect([trainRows, matrixColumns]).toEqual([many, 17]);
  });

  it.each<[string, Features, Record<string, Cell[]>, object]>([
    ['a target of one class', { a: numeric() }, { a: column((row) => row), y: column(() => 'yes') }, { code: 'TARGET_ONE_CLASS' }],
    [
      'a target of texts and numbers',
      { a: numeric() },
      { a: column((row) => row), y: column((row) => (row % 7 === 0 ? 'n/a' : String(row / 4))) },
      { code: 'TARGET_INVALID', problems: [{ column: 'y', found: expect.stringContaining('are no numbers: n/a') as string }] },
    ],
    [
      'a column without any value',
      { a: numeric(), b: numeric() },
      { a: column((row) => row), b: column(() => null), y: late },
      { code: 'FEATURES_INVALID', problems: [{ path: 'features.b', column: 'b' }] },
    ],
    ['no rows', { a: numeric() }, { a: [], y: [] }, { code: 'SOURCE_EMPTY' }],
  ])('refuses %s, with what is wrong', async (_what, features, columns, expected) => {
    await expect(train(features, rawTable(columns))).rejects.toMatchObject(expected);
  });

  it('ends with the reason where infinite values reach it as they are', async () => {
    const table = rawTable({ a: column((row) => (row === 5 ? Number.POSITIVE_INFINITY : row)), y: late });
    if (trainer === 'gbdt') expect((await answers({ a: passthrough() }, table)).every((p) => p >= 0 && p <= 1)).toBe(true);
    else await expect(train({ a: passthrough() }, table)).rejects.toMatchObject({ code: 'TRAINING_DIVERGED' });
  });
});
