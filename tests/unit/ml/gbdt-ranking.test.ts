import { describe, expect, test } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { rankingJudge } from '../../../ml/evaluation/ranking.ts';
import { gbdt, trainGbdtModel } from '../../../ml/gbdt/gbdt.ts';
import { encodeTrees, type GbdtModel } from '../../../ml/gbdt/model.ts';
import { type GbdtParameters, GbdtParametersSchema } from '../../../ml/gbdt/parameters.ts';
import { countPairs, createRankedGroup, deriveLambdarank, derivePairwise, groupRows, inverseIdeal, type RankedGroup } from '../../../ml/gbdt/ranking.ts';
import type { LabelledRows, TrainingContext } from '../../../ml/trainer.ts';

const RANKING = { kind: 'ranking' } as const;
const parameters = (given: Partial<GbdtParameters> = {}): GbdtParameters => GbdtParametersSchema.parse(given);
const context = (given: Partial<TrainingContext> = {}): TrainingContext => ({ seed: 0, threads: 1, ...given });
const serialise = (model: GbdtModel): Buffer => Buffer.from(encodeTrees({ baseScores: [...model.baseScores] }, model.trees));

type RankedRows = LabelledRows & { readonly groups: Int32Array };

/** Groups of 8 to 27 rows, of relevance 0 to 4, that both sides of a comparison can make by themselves. Whole numbers only. */
function searches(count: number, offset: number): RankedRows {
  const cells: number[][] = [[], [], [], []];
  const y: number[] = [];
  const groups: number[] = [];
  for (let search = 0; search < count; search += 1) {
    for (let i = 0; i < 8 + ((search * 7 + offset) % 20); i += 1) {
      const k = search * 31 + i * 17 + offset * 13;
      const [a, b, c, d] = [(k * 37) % 50, (k * 101) % 23, (k * k) % 17, ((search + offset) * 53) % 41];
      [a, b, c, d].forEach((value, column) => cells[column]?.push(value));
      const appeal = a * 3 + b * 5 + c * 7 + ((k * 29) % 31) * 4 - (a > 35 ? 60 : 0);
      y.push([150, 210, 270, 320].filter((least) => appeal >= least).length);
      groups.push(search);
    }
  }
  const data = new Float32Array(new SharedArrayBuffer(4 * y.length * 4));
  data.set(cells.flat());
  return { x: { kind: 'dense', rows: y.length, columns: 4, data }, y: Float64Array.from(y), groups: Int32Array.from(groups) };
}

/** The first rows of all groups, then the second ones, and so on: of equal scores the rows of a group keep their order. */
function scattered({ x, y, groups }: RankedRows): { readonly rows: RankedRows; readonly order: readonly number[] } {
  const place = Array.from(groups, (group, row) => row - groups.indexOf(group));
  const order = [...place.keys()].sort((a, b) => (place[a] ?? 0) - (place[b] ?? 0) || a - b);
  if (x.kind !== 'dense') throw new Error('dense rows are wanted');
  const data = new Float32Array(x.data.length);
  for (let c = 0; c < x.columns; c += 1) order.forEach((row, i) => (data[c * x.rows + i] = x.data[c * x.rows + row] ?? 0));
  const rows = { x: { ...x, data }, y: Float64Array.from(order, (row) => y[row] ?? 0), groups: Int32Array.from(order, (row) => groups[row] ?? 0) };
  return { rows, order };
}

const ndcg10 = ({ y, groups }: RankedRows, scores: Float64Array): number => rankingJudge(y, scores, groups).values(['ndcg@10'])['ndcg@10'] ?? 0;

async function errorOf(work: Promise<unknown>): Promise<MillraceError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

function groupOf(relevance: readonly number[], scores: readonly number[]): RankedGroup {
  const group = createRankedGroup(relevance.length + 3);
  group.size = relevance.length;
  group.relevance.set(relevance);
  group.scores.set(scores);
  return group;
}

/** (f(s + h e) - f(s - h e)) / 2 h for each score. */
const slopes = (scores: readonly number[], loss: (scores: readonly number[]) => number, h = 1e-5): number[] =>
  scores.map((_, i) => (loss(scores.with(i, (scores[i] ?? 0) + h)) - loss(scores.with(i, (scores[i] ?? 0) - h))) / (2 * h));

describe('derivatives', () => {
  const relevance = [2, 0, 1, 0, 3];
  const scores = [0.3, 1.2, -0.4, 0.1, -1.1];

  test('of pairwise are the slopes of its loss, and the curvatures the slopes of these', () => {
    const weight = 5 / countPairs(Float64Array.from(relevance));
    const derived = groupOf(relevance, scores);
    expect(derivePairwise(derived, weight)).toBeGreaterThan(0);
    slopes(scores, (at) => derivePairwise(groupOf(relevance, at), weight)).forEach((slope, i) => {
      expect(derived.gradients[i]).toBeCloseTo(slope, 8);
    });
    scores.forEach((_, i) => {
      const gradientAt = (at: readonly number[]): number => {
        const group = groupOf(relevance, at);
        derivePairwise(group, weight);
        return group.gradients[i] ?? Number.NaN;
      };
      expect(derived.hessians[i]).toBeCloseTo(slopes(scores, gradientAt)[i] ?? Number.NaN, 7);
    });
  });

  test('of two rows are those of the logistic function', () => {
    const group = groupOf([1, 0], [0.5, 0.2]);
    const p = 1 / (1 + Math.exp(0.3));
    expect(derivePairwise(group, 1)).toBeCloseTo(-Math.log(1 - p), 12);
    expect([...group.gradients.slice(0, 2)]).toEqual([-p, p]);
    expect(group.hessians[0]).toBeCloseTo(p * (1 - p), 12);
  });

  test('of lambdarank weigh each pair by what swapping it changes of NDCG, and are normalised', () => {
    const derived = groupOf(relevance, scores);
    const inverse = inverseIdeal(Float64Array.from(relevance), 30);
    deriveLambdarank(derived, 30, inverse);
    // the sum over pairs, written out: ranks by score, |Δ NDCG| / (0.01 + |Δ score|), log2(1 + Σ) / Σ
    const rank = scores.map((score) => scores.filter((other) => other > score).length);
    const [gradients, hessians] = [scores.map(() => 0), scores.map(() => 0)];
    let sum = 0;
    scores.forEach((_, i) => {
      scores.forEach((_, j) => {
        if ((relevance[i] ?? 0) <= (relevance[j] ?? 0)) return;
        const gap = (scores[i] ?? 0) - (scores[j] ?? 0);
        const discount = (row: number): number => 1 / Math.log2((rank[row] ?? 0) + 2);
        const change = (2 ** (relevance[i] ?? 0) - 2 ** (relevance[j] ?? 0)) * Math.abs(discount(i) - discount(j)) * inverse;
        const p = 1 / (1 + Math.exp(gap));
        const weight = change / (0.01 + Math.abs(gap));
        gradients[i] = (gradients[i] ?? 0) - weight * p;
        gradients[j] = (gradients[j] ?? 0) + weight * p;
        for (const row of [i, j]) hessians[row] = (hessians[row] ?? 0) + weight * p * (1 - p);
        sum += 2 * weight * p;
      });
    });
    const factor = Math.log2(1 + sum) / sum;
    scores.forEach((_, i) => {
      expect(derived.gradients[i]).toBeCloseTo((gradients[i] ?? 0) * factor, 12);
      expect(derived.hessians[i]).toBeCloseTo((hessians[i] ?? 0) * factor, 12);
    });
  });

  test('of lambdarank look at pairs with a row above the depth only', () => {
    const group = groupOf([0, 2, 1], [3, 2, 1]);
    deriveLambdarank(group, 1, inverseIdeal(Float64Array.of(0, 2, 1), 1));
    // the first row is held against both others; these are not held against each other
    expect(group.gradients[0]).toBeGreaterThan(0);
    expect(group.gradients[1]).toBeLessThan(0);
    expect((group.gradients[0] ?? 0) + (group.gradients[1] ?? 0) + (group.gradients[2] ?? 0)).toBeCloseTo(0, 12);
  });

  test('are 0 in a group that has no order', () => {
    const group = groupOf([1, 1, 1], [0.2, 0.1, 3]);
    expect(derivePairwise(group, 1)).toBe(0);
    expect([...group.gradients]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(deriveLambdarank(group, 30, 0)).toBe(0);
    expect([...group.hessians]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('of groups find the rows wherever they stand', () => {
    const { starts, rows } = groupRows(Int32Array.of(7, 3, 7, 9, 3, 7));
    expect([...starts]).toEqual([0, 3, 5, 6]);
    expect([...rows]).toEqual([0, 2, 5, 1, 4, 3]);
    expect(countPairs(Float64Array.of(1, 0, 1, 2))).toBe(5);
  });
});

describe('beside LightGBM', () => {
  // LightGBM 4.6.0: lambdarank, num_leaves=8, learning_rate=0.1, deterministic, force_col_wise; scikit-learn 1.9.1's ndcg_score(k=10), mean of the groups.
  const [train, test10] = [searches(200, 0), searches(80, 5)];

  test('ten trees on the same groups give the same scores', async () => {
    const trained = await gbdt(RANKING, parameters({ trees: 10, leaves: 8 }), train, undefined, context());
    const expected = [-1.119011, -0.782477, -0.200763, -0.336127, -0.917275, -0.595683, -0.404396, -1.20375];
    const scores = trained.predict(test10.x);
    // LightGBM reads the logistic function from a table of steps of 5e-5
    expected.forEach((score, i) => {
      expect(scores[i]).toBeCloseTo(score, 4);
    });
    expect(ndcg10(test10, scores)).toBeCloseTo(0.92602248758, 4);
  });

  test.each([
    ['lambdarank', { rankingDepth: 30 }, 0.9333454638582472],
    ['lambdarank at a lower depth', { rankingDepth: 5 }, 0.9303847098633025],
    ['pairwise', { objective: 'pairwise' }, 0.9333454638582472],
  ] as const)('forty trees order other groups as well, within 0.005 of NDCG: %s', async (_, given, theirs) => {
    const trained = await gbdt(RANKING, parameters({ trees: 40, leaves: 8, ...given }), train, undefined, context());
    expect(ndcg10(test10, trained.predict(test10.x))).toBeGreaterThan(theirs - 0.005);
  });
});

describe('training', () => {
  test.each(['lambdarank', 'pairwise'] as const)(
    '%s learns the same when the groups are torn apart, and tells loss and NDCG of each round',
    async (objective) => {
      const settings = parameters({ objective, trees: 8, leaves: 6 });
      const [train, validation] = [searches(60, 0), searches(30, 5)];
      const { rows, order } = scattered(train);
      const straight = await gbdt(RANKING, settings, train, validation, context());
      const mixed = await gbdt(RANKING, settings, rows, validation, context());
      const [a, b] = [straight.predict(train.x), mixed.predict(rows.x)];
      order.forEach((row, i) => {
        // float32 sums run in another order
        expect(b[i]).toBeCloseTo(a[row] ?? Number.NaN, 4);
      });
      const last = straight.history.at(-1)?.metrics ?? {};
      expect(Object.keys(last)).toEqual(['trainLoss', 'validationLoss', 'validationNdcg']);
      expect(last['validationNdcg']).toBeCloseTo(ndcg10(validation, straight.predict(validation.x)), 12);
      expect(last['trainLoss']).toBeLessThan(straight.history[0]?.metrics['trainLoss'] ?? 0);
    },
  );

  test('the loss of pairwise is the mean over the rows of the log loss of their group’s pairs', async () => {
    const rows = searches(12, 0);
    const trained = await gbdt(RANKING, parameters({ objective: 'pairwise', trees: 3, minDataInLeaf: 5 }), rows, undefined, context());
    const scores = trained.predict(rows.x);
    let sum = 0;
    for (const search of new Set(rows.groups)) {
      const members = [...rows.groups.keys()].filter((row) => rows.groups[row] === search);
      const losses = members.flatMap((i) =>
        members.filter((j) => (rows.y[i] ?? 0) > (rows.y[j] ?? 0)).map((j) => Math.log1p(Math.exp((scores[j] ?? 0) - (scores[i] ?? 0)))),
      );
      sum += losses.length === 0 ? 0 : (members.length * losses.reduce((a, b) => a + b, 0)) / losses.length;
    }
    expect(trained.history.at(-1)?.metrics['trainLoss']).toBeCloseTo(sum / rows.y.length, 10);
  });

  test('stops early by NDCG at 10 of the validation rows, and keeps the best round', async () => {
    const settings = parameters({ trees: 300, learningRate: 0.3, earlyStoppingRounds: 5 });
    const { model, history } = await trainGbdtModel(RANKING, settings, searches(60, 0), searches(40, 5), context());
    const found = history.map(({ metrics }) => metrics['validationNdcg'] ?? 0);
    const best = found.indexOf(Math.max(...found));
    expect(history.length).toBe(best + 6);
    expect(model.trees.length).toBe(best + 1);
    expect(model.kind).toBe('regression');
  });

  test('watches the loss when it is asked to', async () => {
    const settings = parameters({ objective: 'pairwise', trees: 300, learningRate: 0.5, earlyStoppingRounds: 5, metric: 'loss' });
    const { model, history } = await trainGbdtModel(RANKING, settings, searches(60, 0), searches(40, 5), context());
    const losses = history.map(({ metrics }) => metrics['validationLoss'] ?? 0);
    expect(model.trees.length).toBe(losses.indexOf(Math.min(...losses)) + 1);
  });

  test.each(['lambdarank', 'pairwise'] as const)('one thread and three give the same bytes: %s', async (objective) => {
    const settings = parameters({ objective, trees: 4 });
    // large enough for helpers, and more than one block of rows
    const train = async (threads: number): Promise<Buffer> =>
      serialise((await trainGbdtModel(RANKING, settings, searches(3_000, 0), searches(400, 5), context({ threads }))).model);
    expect((await train(3)).equals(await train(1))).toBe(true);
  });

  test.each(['lambdarank', 'pairwise'] as const)('one that goes on from round 6 ends with the same bytes: %s', async (objective) => {
    const [rows, validation] = [searches(60, 0), searches(30, 5)];
    const settings = parameters({ objective, trees: 14, baggingFraction: 0.8, earlyStoppingRounds: 10 });
    const states: Uint8Array[] = [];
    const checkpoint = (step: number, state: () => Uint8Array): void => {
      if (step === 6) states.push(state());
    };
    const straight = await trainGbdtModel(RANKING, settings, rows, validation, context({ checkpoint }));
    const steps: number[] = [];
    const resume = states[0] ?? new Uint8Array(0);
    const resumed = await trainGbdtModel(RANKING, settings, rows, validation, context({ resume, onProgress: ({ step }) => steps.push(step) }));
    expect(steps[0]).toBe(7);
    expect(serialise(resumed.model).equals(serialise(straight.model))).toBe(true);
    expect(resumed.history).toEqual(straight.history);
    // groups are part of what a state belongs to
    const regrouped = { ...rows, groups: rows.groups.map((group) => group >> 1) };
    const anew: number[] = [];
    await trainGbdtModel(RANKING, settings, regrouped, validation, context({ resume, onProgress: ({ step }) => anew.push(step) }));
    expect(anew[0]).toBe(1);
  });
});

describe('rankings that cannot be learnt are refused with every problem', () => {
  const rows = searches(10, 0);

  test('a relevance below 0, or one that would outweigh all others', async () => {
    for (const wrong of [-1, 32, Number.NaN]) {
      const error = await errorOf(gbdt(RANKING, parameters(), { ...rows, y: rows.y.with(4, wrong) }, undefined, context()));
      expect(error.code).toBe('TARGET_INVALID');
      expect(error.problems[0]).toMatchObject({ path: 'train.y', row: 4, message: 'a target must be a relevance from 0 to 31' });
    }
  });

  test('groups whose rows are all equally relevant', async () => {
    const error = await errorOf(gbdt(RANKING, parameters(), { ...rows, y: Float64Array.from(rows.groups, (group) => group % 3) }, undefined, context()));
    expect(error.code).toBe('TARGET_INVALID');
    expect(error.message).toContain('no order to learn');
    expect(error.problems[0]?.found).toBe(`10 groups of ${rows.y.length} rows`);
  });

  test('rows without groups, and rows with weights', async () => {
    const { groups: _, ...ungrouped } = rows;
    const error = await errorOf(gbdt(RANKING, parameters(), { ...ungrouped, weights: rows.y.map(() => 1) }, undefined, context()));
    expect(error.problems.map(({ path }) => path)).toEqual(['train.groups', 'train.weights']);
  });

  test('parameters of another task', async () => {
    const error = await errorOf(gbdt(RANKING, parameters({ classWeight: 'balanced', metric: 'auc' }), rows, rows, context()));
    expect(error.problems.map(({ path }) => path)).toEqual(['classWeight', 'metric']);
    const other = await errorOf(gbdt({ kind: 'regression' }, parameters({ objective: 'lambdarank', metric: 'ndcg' }), rows, rows, context()));
    expect(other.code).toBe('INVALID_PARAMETERS');
    expect(other.problems.map(({ path }) => path)).toEqual(['objective', 'metric']);
    expect(other.problems[0]?.fix).toContain('group');
  });
});
