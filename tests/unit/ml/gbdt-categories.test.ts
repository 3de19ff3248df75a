import { describe, expect, it } from 'vitest';
import { gbdt, trainGbdtModel } from '../../../ml/gbdt/gbdt.ts';
import { encodeTrees } from '../../../ml/gbdt/model.ts';
import { type GbdtParameters, GbdtParametersSchema } from '../../../ml/gbdt/parameters.ts';
import { createSeededRandom } from '../../../ml/gbdt/seeded-random.ts';
import type { DenseMatrix } from '../../../ml/matrix.ts';
import type { LabelledRows, LearningTask, TrainingContext } from '../../../ml/trainer.ts';
import { runFragment } from './fragment-model.ts';

const parameters = (given: Partial<GbdtParameters> = {}): GbdtParameters => GbdtParametersSchema.parse(given);
const context = (given: Partial<TrainingContext> = {}): TrainingContext => ({ seed: 7, threads: 1, ...given });
const BINARY: LearningTask = { kind: 'binary' };
const REGRESSION: LearningTask = { kind: 'regression' };

function dense(columns: readonly (readonly number[])[]): DenseMatrix {
  const rows = columns[0]?.length ?? 0;
  const data = new Float32Array(new SharedArrayBuffer(rows * columns.length * 4));
  columns.forEach((column, c) => {
    data.set(column, c * rows);
  });
  return { kind: 'dense', rows, columns: columns.length, data };
}

const CODES = 60;
/** Each category has an effect of its own, in no order; some values are missing, and have one too. */
const effect = (code: number): number => (Number.isNaN(code) ? 1.5 : (((code * 37) % CODES) / CODES) * 4 - 2);

function categorised(rows: number, kind: 'binary' | 'regression' | 'multiclass', seed = 1): LabelledRows {
  const random = createSeededRandom(seed, 5);
  const [codes, numbers]: number[][] = [[], []];
  const y = new Float64Array(rows);
  for (let row = 0; row < rows; row += 1) {
    // the last code is that of unknown categories: no training row has it
    const code = random() < 0.05 ? Number.NaN : Math.floor(random() * (CODES - 1));
    const number = random();
    codes?.push(code);
    numbers?.push(number);
    const signal = effect(code) + number + (random() - 0.5);
    y[row] = kind === 'regression' ? signal : kind === 'binary' ? (signal > 0.5 ? 1 : 0) : signal > 1 ? 2 : signal > 0 ? 1 : 0;
  }
  return { x: dense([codes ?? [], numbers ?? []]), y, categories: [CODES, 0], names: ['where', 'number'] };
}

const mse = (predictions: Float64Array, y: Float64Array): number => predictions.reduce((sum, value, row) => sum + (value - (y[row] ?? 0)) ** 2, 0) / y.length;

describe('categories', () => {
  it('are split by sets, which fewer leaves learn than by their codes as numbers', async () => {
    const train = categorised(12_000, 'regression');
    const test = categorised(4_000, 'regression', 2);
    const few = parameters({ trees: 60, leaves: 6 });
    const bySets = await gbdt(REGRESSION, few, train, undefined, context());
    const byNumbers = await gbdt(REGRESSION, few, { x: train.x, y: train.y }, undefined, context());
    const [sets, numbers] = [mse(bySets.predict(test.x), test.y), mse(byNumbers.predict(test.x), test.y)];
    // what no model can tell has the variance 1/12
    expect(sets).toBeLessThan(0.1);
    expect(sets).toBeLessThan(numbers * 0.9);
  });

  it('finds the best set for one split, as trying all prefixes by mean does', async () => {
    // five categories, far more rows than the smoothing: the best cut of the means 0 1 2 10 11 is between 2 and 10
    const means = [10, 0, 11, 2, 1];
    const codes = Array.from({ length: 10_000 }, (_, row) => row % 5);
    const train: LabelledRows = { x: dense([codes]), y: Float64Array.from(codes, (code) => means[code] ?? 0), categories: [5], names: ['c'] };
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees: 1, leaves: 2, learningRate: 1, categoryL2: 0 }), train, undefined, context());
    const [tree] = model.trees;
    const left = [0, 1, 2, 3, 4].filter((code) => (((tree?.members[0] ?? 0) >>> code) & 1) === 1);
    expect([[0, 2].join(), [1, 3, 4].join()]).toContain(left.join());
    expect([...(tree?.leafValue ?? [])].map((value) => Math.round(1000 * (value + (model.baseScores[0] ?? 0))) / 1000).sort((a, b) => a - b)).toEqual([
      1, 10.5,
    ]);
  });

  it('of a few are split one against the others', async () => {
    const codes = Array.from({ length: 3_000 }, (_, row) => row % 3);
    const train: LabelledRows = { x: dense([codes]), y: Float64Array.from(codes, (code) => (code === 1 ? 5 : 0)), categories: [3], names: ['c'] };
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees: 1, leaves: 3 }), train, undefined, context());
    expect(model.trees[0]?.members[0]).toBe(0b010);
    expect(model.trees[0]?.feature.length).toBe(1);
  });

  it.each(['binary', 'regression', 'multiclass'] as const)('give the same in the model file: %s, with missing, unknown and impossible codes', async (kind) => {
    const task: LearningTask = kind === 'multiclass' ? { kind, classes: 3 } : { kind };
    const outputs = kind === 'regression' ? 1 : kind === 'binary' ? 2 : 3;
    const trained = await gbdt(task, parameters({ trees: 15 }), categorised(6_000, kind), undefined, context());
    const asked = dense([
      [Number.NaN, CODES - 1, 0, 1, 17, 33, 58, 400, -1, 31, 32],
      [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, Number.NaN, 0],
    ]);
    const expected = trained.predict(asked);
    const fragment = trained.toOnnx('x', 'gbdt_');
    expect(fragment.opset.ml).toBe(5);
    const found = await runFragment(fragment, asked, outputs);
    expected.forEach((value, at) => {
      expect(found[at]).toBeCloseTo(value, 5);
    });
  });

  it.each([1, 12])('that are missing, split off alone, give the same in the model file of %d trees', async (trees) => {
    const codes = Array.from({ length: 3_000 }, (_, row) => (row % 4 === 3 ? Number.NaN : row % 4));
    const y = Float64Array.from(codes, (code, row) => (Number.isNaN(code) ? 5 : trees === 1 ? 0 : code / 4) + (row % 7) / 10);
    const train: LabelledRows = { x: dense([codes]), y, categories: [3], names: ['c'] };
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees, leaves: trees === 1 ? 2 : 3 }), train, undefined, context());
    expect([model.trees[0]?.members[0], model.trees[0]?.missingLeft[0]]).toEqual([0, 1]);
    const trained = await gbdt(REGRESSION, parameters({ trees, leaves: trees === 1 ? 2 : 3 }), train, undefined, context());
    const asked = dense([[Number.NaN, 0, 1, 2, 3, -1, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]]);
    const found = await runFragment(trained.toOnnx('x', 'gbdt_'), asked, 1);
    trained.predict(asked).forEach((value, at) => {
      expect(found[at]).toBeCloseTo(value, 5);
    });
  });

  it('give the same bytes with any number of threads, and after an interruption', async () => {
    const train = categorised(30_000, 'binary');
    const validation = categorised(2_000, 'binary', 3);
    const settings = parameters({ trees: 8, earlyStoppingRounds: 3 });
    const bytes = async (given: Partial<TrainingContext>): Promise<string> => {
      const { model, history } = await trainGbdtModel(BINARY, settings, train, validation, context(given));
      return Buffer.from(encodeTrees({ history }, model.trees)).toString('base64');
    };
    let state: Uint8Array | undefined;
    const whole = await bytes({
      checkpoint: (step, make) => {
        if (step === 4) state = make();
      },
    });
    expect(await bytes({ threads: 2 })).toBe(whole);
    expect(state).toBeDefined();
    if (state !== undefined) expect(await bytes({ resume: state })).toBe(whole);
  });

  it('more than bins can tell apart are refused, with what to do', async () => {
    const train: LabelledRows = { x: dense([[0, 1, 2, 3]]), y: Float64Array.of(0, 1, 0, 1), categories: [300], names: ['city'] };
    await expect(gbdt(BINARY, parameters(), train, undefined, context())).rejects.toMatchObject({
      code: 'FEATURES_INVALID',
      problems: [{ path: 'city', found: '300', fix: expect.stringContaining('maxCategories') as string }],
    });
  });
});

describe('a direction', () => {
  const noisy = (rows: number): LabelledRows => {
    const random = createSeededRandom(3, 1);
    const [a, b]: number[][] = [[], []];
    const y = new Float64Array(rows);
    for (let row = 0; row < rows; row += 1) {
      const [x, z] = [random(), random()];
      a?.push(random() < 0.05 ? Number.NaN : x);
      b?.push(z);
      y[row] = x + Math.sin(12 * x) * 0.4 - z + Math.sin(20 * z) * 0.3 + (random() - 0.5) * 0.5;
    }
    return { x: dense([a ?? [], b ?? []]), y, names: ['up', 'down'] };
  };

  it('is kept for every row, up and down, and costs no more fit than it must', async () => {
    const train = noisy(5_000);
    const bound = await gbdt(REGRESSION, parameters({ trees: 80, monotone: { up: 1, down: -1 } }), train, undefined, context());
    const free = await gbdt(REGRESSION, parameters({ trees: 80 }), train, undefined, context());
    const along = (of: typeof bound, column: number, other: number): number[] => {
      const grid = Array.from({ length: 200 }, (_, i) => i / 199);
      const fixed = grid.map(() => other);
      return [...of.predict(column === 0 ? dense([grid, fixed]) : dense([fixed, grid]))];
    };
    const steps = (values: readonly number[]): number[] => values.slice(1).map((value, i) => value - (values[i] ?? 0));
    for (const other of [0, 0.13, 0.5, 0.77, 1, Number.NaN]) {
      expect(Math.min(...steps(along(bound, 0, other)))).toBeGreaterThanOrEqual(-1e-9);
      expect(Math.max(...steps(along(bound, 1, other)))).toBeLessThanOrEqual(1e-9);
    }
    expect(Math.min(...steps(along(free, 0, 0.5)))).toBeLessThan(-0.01);
    expect(mse(bound.predict(train.x), train.y)).toBeLessThan(0.2);
  });

  it('of a column that is not there, of categories or for several classes is refused, all at once', async () => {
    const train = categorised(500, 'multiclass');
    await expect(
      gbdt({ kind: 'multiclass', classes: 3 }, parameters({ monotone: { where: 1, nowhere: -1 } }), train, undefined, context()),
    ).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ path: 'monotone.where' }, { path: 'monotone.where' }, { path: 'monotone.nowhere' }, { path: 'monotone.nowhere' }],
    });
  });
});

describe('weights of classes', () => {
  it('balance what is rare: as many rows as of the others, in the mean score', async () => {
    const random = createSeededRandom(9, 2);
    const x = Array.from({ length: 5_000 }, () => random());
    const y = Float64Array.from(x, (value) => (random() < 0.02 + 0.06 * value ? 1 : 0));
    const rows: LabelledRows = { x: dense([x]), y, classes: ['no', 'yes'] };
    const meanOf = async (classWeight: GbdtParameters['classWeight']): Promise<number> => {
      const predictions = (await gbdt(BINARY, parameters({ trees: 5, classWeight }), rows, undefined, context())).predict(rows.x);
      return y.reduce((sum, _, row) => sum + (predictions[2 * row + 1] ?? 0), 0) / y.length;
    };
    expect(await meanOf('none')).toBeCloseTo(y.reduce((a, b) => a + b, 0) / y.length, 2);
    expect(await meanOf('balanced')).toBeCloseTo(0.5, 1);
    const positives = y.reduce((a, b) => a + b, 0);
    expect(await meanOf({ yes: (y.length - positives) / positives })).toBeCloseTo(await meanOf('balanced'), 6);
    await expect(meanOf({ maybe: 2 })).rejects.toMatchObject({ code: 'INVALID_PARAMETERS', problems: [{ path: 'trainer.parameters.classWeight.maybe' }] });
  });
});
