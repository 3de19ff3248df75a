import { describe, expect, it } from 'vitest';
import { METRIC_TABLE } from '../../../contracts/metrics.ts';
import type { Judge } from '../../../ml/evaluation/judge.ts';
import { rankingJudge } from '../../../ml/evaluation/ranking.ts';
import { createJudge, higherIsBetter } from '../../../ml/metrics.ts';
import { bestThreshold } from '../../../ml/threshold.ts';
import { sequence } from './sequence.ts';

// numpy.round takes the even neighbour of a half.
const rounded = (value: number, parts: number): number => {
  const scaled = value * parts;
  const low = Math.floor(scaled);
  return (scaled - low === 0.5 ? low + (low % 2) : Math.round(scaled)) / parts;
};
const y = sequence(40, 3).map((value) => (value > 0.6 ? 1 : 0));
const noisy = sequence(40, 5);
const scores = y.map((label, row) => Math.min(0.95, Math.max(0.05, rounded((noisy[row] ?? 0) * 0.7 + label * 0.25, 10))));
const probabilities = Float64Array.from({ length: 80 }, (_, i) => (i % 2 === 1 ? (scores[i >> 1] ?? 0) : 1 - (scores[i >> 1] ?? 0)));
const weights = sequence(40, 9).map((value) => 0.25 + value);

/** Rows of numbers divided by their sums. */
function shares(values: Float64Array, width: number): Float64Array {
  return values.map((value, i) => value / values.subarray(i - (i % width), i - (i % width) + width).reduce((sum, other) => sum + other, 0));
}
const labels = sequence(40, 31).map((value) => Math.floor(value * 3));
const ofThree = shares(
  sequence(120, 33).map((value, i) => value + 0.05 + (labels[Math.floor(i / 3)] === i % 3 ? 0.3 : 0)),
  3,
);
/** Class 4 does not occur, and probabilities are often the same. */
const ofSixLabels = sequence(60, 41).map((value) => [0, 1, 2, 3, 3, 5, 5, 1, 2, 3][Math.floor(value * 10)] ?? 0);
const ofSix = shares(
  sequence(360, 43).map((value, i) => rounded(value, 4) + 0.05 + (ofSixLabels[Math.floor(i / 6)] === i % 6 ? 0.4 : 0)),
  6,
);
const target = sequence(40, 21).map((value) => value * 10);
const answers = sequence(40, 23).map((value, row) => Math.abs((target[row] ?? 0) + value * 3 - 1) + 0.01);
const groups = Int32Array.from({ length: 60 }, (_, row) => Math.floor(row / 15));
const relevance = sequence(60, 51).map((value, row) => (row < 45 ? Math.floor(value ** 3 * 4) : 0));
const rankScores = sequence(60, 53).map((value, row) => rounded(value, 8) + Math.floor((sequence(60, 51)[row] ?? 0) ** 3 * 4) * 0.1);

// scikit-learn 1.7.2 (ks: SciPy 1.17.1; ece, smape and the several-class brier: their formulas in numpy) on the same rows.
const REFERENCE = {
  binary: {
    auc: 0.8793103448275862,
    averagePrecision: 0.7862614147471718,
    logLoss: 0.4971137945210324,
    brier: 0.1665625,
    accuracy: 0.65,
    precision: 0.43478260869565216,
    recall: 0.9090909090909091,
    f1: 0.5882352941176471,
    specificity: 0.5517241379310345,
    balancedAccuracy: 0.7304075235109717,
    macroPrecision: 0.6879795396419437,
    macroRecall: 0.7304075235109717,
    macroF1: 0.6419437340153453,
    weightedPrecision: 0.8019181585677749,
    weightedRecall: 0.65,
    weightedF1: 0.6661125319693095,
    matthews: 0.41623022571472534,
    cohenKappa: 0.34426229508196726,
    ece: 0.23625,
    ks: 0.658307210031348,
  },
  binaryWeighted: {
    auc: 0.8380331600597913,
    averagePrecision: 0.7430827292170009,
    logLoss: 0.5107708716851351,
    brier: 0.17241679040586574,
    accuracy: 0.6323644143599157,
    precision: 0.4242322730019552,
    recall: 0.8564018061172046,
    f1: 0.5673959341484557,
    specificity: 0.5445815018463085,
    balancedAccuracy: 0.7004916539817565,
    macroPrecision: 0.665294680957649,
    macroRecall: 0.7004916539817565,
    macroF1: 0.62388142337823,
    weightedPrecision: 0.7706304541941984,
    weightedRecall: 0.6323644143599157,
    weightedF1: 0.6485635906855302,
    matthews: 0.36408902196900045,
    cohenKappa: 0.3061459834255207,
    ece: 0.22069607930245536,
    ks: 0.5785492250414674,
  },
  multiclass: {
    logLoss: 0.9146919977366549,
    brier: 0.5550815217320255,
    accuracy: 0.625,
    balancedAccuracy: 0.6166666666666667,
    macroPrecision: 0.6140819964349377,
    macroRecall: 0.6166666666666667,
    macroF1: 0.6132881611142481,
    weightedPrecision: 0.6335561497326203,
    weightedRecall: 0.625,
    weightedF1: 0.6275437605872389,
    matthews: 0.4254187022545013,
    cohenKappa: 0.4241842610364682,
    quadraticKappa: 0.4,
    ece: 0.15656041356745803,
    aucOvr: 0.7466750841750841,
    aucOvrWeighted: 0.7448863636363636,
    aucOvo: 0.7501543209876543,
    aucOvoWeighted: 0.7480902777777778,
    top2Accuracy: 0.8,
  },
  multiclassWeighted: {
    logLoss: 0.9258607367200543,
    brier: 0.5603843435605619,
    accuracy: 0.627259552013917,
    balancedAccuracy: 0.6172968704478247,
    macroPrecision: 0.6104836518564837,
    macroRecall: 0.6172968704478247,
    macroF1: 0.607546281257058,
    weightedPrecision: 0.6567990394453509,
    weightedRecall: 0.627259552013917,
    weightedF1: 0.637080507822414,
    matthews: 0.42604134551853234,
    cohenKappa: 0.42186674245145106,
    quadraticKappa: 0.2939912170626061,
    ece: 0.16097948707330637,
    aucOvr: 0.7477290242142556,
    aucOvrWeighted: 0.7436641966234958,
    top2Accuracy: 0.7989165151293687,
  },
  absent: {
    logLoss: 1.357082088741342,
    brier: 0.6733734514926796,
    accuracy: 0.65,
    balancedAccuracy: 0.6649197860962566,
    macroPrecision: 0.521015585721468,
    macroRecall: 0.5540998217468805,
    macroF1: 0.5254700854700854,
    weightedPrecision: 0.6992745816275228,
    weightedRecall: 0.65,
    weightedF1: 0.6605128205128206,
    matthews: 0.5538232764828518,
    cohenKappa: 0.5464362850971922,
    quadraticKappa: 0.5865168539325842,
    ece: 0.35860612784432605,
    aucOvr: 0.8552123340265803,
    top2Accuracy: 0.75,
    top3Accuracy: 0.8666666666666667,
    top5Accuracy: 0.9666666666666667,
  },
  regression: {
    rmse: 1.0116229877793996,
    mae: 0.8414613612527028,
    r2: 0.8675367970418263,
    medae: 0.7452713674865662,
    mape: 0.5890201489753576,
    smape: 0.29528817231063165,
    rmsle: 0.22898458304804487,
    explainedVariance: 0.9169916297069199,
    maxError: 1.9938614515028892,
    pinball10: 0.6679801812996156,
    pinball50: 0.4207306806263514,
    pinball90: 0.17348117995308715,
    poissonDeviance: 0.2769451539752405,
    gammaDeviance: 0.2362590695206049,
    d2Absolute: 0.6482601574131408,
    d2Poisson: 0.8516894495833189,
  },
  regressionWeighted: {
    rmse: 1.079917561994217,
    mae: 0.9201469378601781,
    r2: 0.860314047956314,
    medae: 0.7733191840723155,
    mape: 0.6287238721897546,
    smape: 0.3328675532567095,
    rmsle: 0.25656701806783483,
    explainedVariance: 0.9186134227457597,
    maxError: 1.9938614515028892,
    pinball10: 0.7391389872364316,
    pinball50: 0.46007346893008905,
    pinball90: 0.18100795062374653,
    poissonDeviance: 0.33135441127423015,
    gammaDeviance: 0.2716762842810827,
    d2Absolute: 0.636751524656169,
    d2Poisson: 0.8393873069573626,
  },
  ranking: {
    ndcg: 0.5993813372154759,
    'ndcg@5': 0.4544570132185966,
    'ndcg@10': 0.5534700225114738,
    map: 0.49526989214489214,
  },
} as const;

const near = (judge: Judge, expected: Readonly<Record<string, number>>, of?: Float64Array): void => {
  const found = judge.values(undefined, of);
  for (const [name, value] of Object.entries(expected)) expect(Math.abs((found[name] ?? Number.NaN) - value), name).toBeLessThan(1e-9);
};

describe('metrics', () => {
  it('of a binary classification equal scikit-learn, weighted or not', () => {
    const judge = createJudge({ kind: 'binary' }, y, probabilities);
    expect([...judge.names].sort()).toEqual(Object.keys(REFERENCE.binary).sort());
    near(judge, REFERENCE.binary);
    near(judge, REFERENCE.binaryWeighted, weights);
  });

  it('of several classes equal scikit-learn, weighted or not, with ties and a class that does not occur', () => {
    const judge = createJudge({ kind: 'multiclass', classes: 3 }, labels, ofThree);
    expect([...judge.names].sort()).toEqual(Object.keys(REFERENCE.multiclass).sort());
    near(judge, REFERENCE.multiclass);
    near(judge, REFERENCE.multiclassWeighted, weights);
    near(createJudge({ kind: 'multiclass', classes: 6 }, ofSixLabels, ofSix), REFERENCE.absent);
  });

  it('of a regression equal scikit-learn, weighted or not', () => {
    const judge = createJudge({ kind: 'regression' }, target, answers);
    expect([...judge.names].sort()).toEqual(Object.keys(REFERENCE.regression).sort());
    near(judge, REFERENCE.regression);
    near(judge, REFERENCE.regressionWeighted, weights);
  });

  it('of rankings equal scikit-learn group by group, with ties and a group in which nothing is relevant', () => {
    near(rankingJudge(relevance, rankScores, groups), REFERENCE.ranking);
  });

  it('of rankings follow their definitions where scikit-learn has none', () => {
    // relevant at ranks 2 and 4 of 4; at rank 1 of 2; of two equal scores the irrelevant row stands first
    const of = (wanted: readonly number[], by: readonly number[]) =>
      rankingJudge(Float64Array.from(wanted), Float64Array.from(by), new Int32Array(wanted.length)).values();
    expect(of([0, 1, 0, 2], [4, 3, 2, 1])).toMatchObject({ mrr: 1 / 2, 'map@10': (1 / 2 + 2 / 4) / 2 });
    expect(of([1, 0], [2, 1])).toMatchObject({ mrr: 1, 'map@10': 1, map: 1, ndcg: 1 });
    expect(of([1, 0], [1, 1])).toMatchObject({ mrr: 1 / 2, 'map@10': 1 / 2 });
    expect(of([0, 0], [1, 1])).toMatchObject({ mrr: 0, map: 0, ndcg: 0 });
  });

  it('count a row of weight two as two rows', () => {
    const twice = Float64Array.from({ length: 40 }, (_, row) => (row < 20 ? 2 : 1));
    const rows = [...Array.from({ length: 40 }, (_, row) => row), ...Array.from({ length: 20 }, (_, row) => row)];
    const repeated = createJudge(
      { kind: 'multiclass', classes: 3 },
      Float64Array.from(rows, (row) => labels[row] ?? 0),
      Float64Array.from(rows.flatMap((row) => [...ofThree.subarray(3 * row, 3 * row + 3)])),
    );
    near(createJudge({ kind: 'multiclass', classes: 3 }, labels, ofThree), repeated.values(), twice);
  });

  it('count ties half and say NaN where a class is absent', () => {
    const half = Float64Array.of(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5);
    expect(createJudge({ kind: 'binary' }, Float64Array.of(0, 1, 0, 1), half).values(['auc'])).toEqual({ auc: 0.5 });
    const oneClass = createJudge({ kind: 'binary' }, Float64Array.of(0, 0, 0, 0), half).values();
    expect([oneClass['auc'], oneClass['averagePrecision'], oneClass['ks']]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
    expect(oneClass['logLoss']).toBeCloseTo(Math.LN2, 12);
    expect(createJudge({ kind: 'multiclass', classes: 2 }, Float64Array.of(1, 1, 1, 1), half).values(['aucOvr', 'aucOvo'])).toEqual({
      aucOvr: Number.NaN,
      aucOvo: Number.NaN,
    });
  });

  it('refuse answers that are no finite numbers, and no rows at all', () => {
    expect(() => createJudge({ kind: 'regression' }, Float64Array.of(1, 2, 3), Float64Array.of(1, Number.NaN, Number.POSITIVE_INFINITY))).toThrow(
      expect.objectContaining({ code: 'MODEL_INVALID', message: "The model's answer to 2 of 3 rows is no finite number." }) as Error,
    );
    expect(() => createJudge({ kind: 'binary' }, new Float64Array(0), new Float64Array(0))).toThrow(expect.objectContaining({ code: 'SOURCE_EMPTY' }) as Error);
  });

  it('are those of the table, which knows which way is better', () => {
    const computed = [
      createJudge({ kind: 'binary' }, y, probabilities),
      createJudge({ kind: 'multiclass', classes: 6 }, ofSixLabels, ofSix),
      createJudge({ kind: 'regression' }, target, answers),
      rankingJudge(relevance, rankScores, groups),
    ].map(({ names }) => names);
    const table = (['binary', 'multiclass', 'regression', 'ranking'] as const).map((task) =>
      Object.entries<{ readonly tasks: readonly string[] }>(METRIC_TABLE).flatMap(([name, { tasks }]) => (tasks.includes(task) ? [name] : [])),
    );
    expect(computed.map((names) => [...names].sort())).toEqual(table.map((names) => names.sort()));
    expect(['auc', 'f1', 'r2', 'accuracy', 'ndcg@10', 'business.profit'].every(higherIsBetter)).toBe(true);
    expect(['logLoss', 'brier', 'rmse', 'mae', 'ece', 'maxError'].some(higherIsBetter)).toBe(false);
  });
});

describe('the best threshold', () => {
  const labels = Float64Array.of(0, 0, 0, 1, 1);

  it('stands halfway between the scores that it parts', () => {
    expect(bestThreshold(labels, Float64Array.of(0.1, 0.2, 0.3, 0.7, 0.9), 'f1')).toMatchObject({ threshold: 0.5, value: 1 });
    expect(bestThreshold(labels, Float64Array.of(0.01, 0.02, 0.03, 0.07, 0.09), 'accuracy')).toMatchObject({ threshold: 0.05, value: 1 });
  });

  it('answers nothing where that is most often right', () => {
    const { threshold, value } = bestThreshold(Float64Array.of(0, 0, 0, 0, 1), Float64Array.of(0.1, 0.8, 0.7, 0.6, 0.2), 'accuracy');
    expect(threshold).toBeGreaterThan(0.8);
    expect(value).toBe(0.8);
  });

  const chances = Float64Array.of(0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1);
  const outcomes = Float64Array.of(1, 1, 0, 1, 0, 1, 0, 0);

  it('is that of least cost', () => {
    const costAt = (threshold: number): number =>
      outcomes.reduce((sum, label, row) => sum + ((chances[row] ?? 0) >= threshold ? (label === 1 ? -2 : 3) : label === 1 ? 5 : 0), 0) / 8;
    const { threshold, value } = bestThreshold(outcomes, chances, { costs: { falsePositive: 3, falseNegative: 5, truePositive: -2 } });
    expect(value).toBeCloseTo(costAt(threshold), 12);
    for (let at = 0; at <= 1; at += 0.05) expect(costAt(at)).toBeGreaterThanOrEqual(value - 1e-12);
  });

  it('reaches a precision with the most recall, or a recall with the most precision', () => {
    expect(bestThreshold(outcomes, chances, { precision: 0.75 })).toMatchObject({ precision: 0.75, recall: 0.75, value: 0.75, reached: true });
    expect(bestThreshold(outcomes, chances, { recall: 0.9 })).toMatchObject({ precision: 4 / 6, recall: 1, reached: true });
    expect(bestThreshold(Float64Array.of(0, 1), Float64Array.of(0.9, 0.1), { precision: 0.9 })).toMatchObject({ precision: 0.5, recall: 1, reached: false });
  });
});
