import { describe, expect, it } from 'vitest';
import { compareOnRows } from '../../../../ml/evaluation/compare.ts';
import { delong } from '../../../../ml/evaluation/delong.ts';
import type { JudgedAnswers } from '../../../../ml/evaluation/intervals.ts';
import { fairCoinsAtMost, normalQuantile, normalTail, wilsonInterval } from '../../../../ml/evaluation/normal.ts';
import { createRandom } from '../../../../ml/random.ts';
import { sequence } from '../sequence.ts';

const options = { confidence: 0.95, replicates: 2_000, seed: 1 };
// numpy.round takes the even neighbour of a half.
const rounded = (value: number): number => {
  const low = Math.floor(value * 20);
  return (value * 20 - low === 0.5 ? low + (low % 2) : Math.round(value * 20)) / 20;
};
const y = sequence(200, 3).map((value) => (value > 0.6 ? 1 : 0));
const scored = (seed: number, noise: number, signal: number): Float64Array =>
  sequence(200, seed).map((value, row) => rounded(value * noise + (y[row] ?? 0) * signal));
const binary = (scores: Float64Array): JudgedAnswers => ({
  task: { kind: 'binary' },
  y,
  answers: Float64Array.from([...scores].flatMap((p) => [1 - p, p])),
  threshold: 0.5,
});
const [first, second] = [scored(5, 0.8, 0.2), scored(7, 0.9, 0.15)];
const target = sequence(300, 21).map((value) => value * 10);
const regression = (seed: number, spread: number): JudgedAnswers => ({
  task: { kind: 'regression' },
  y: target,
  answers: sequence(300, seed).map((value, row) => (target[row] ?? 0) + value * spread - spread / 3),
  threshold: 0.5,
});

describe('distributions', () => {
  it('equal SciPy 1.17.1', () => {
    for (const [z, tail] of [
      [1, 0.15865525393145707],
      [1.96, 0.024997895148220435],
      [2.5, 0.006209665325776132],
      [5, 2.866515718791933e-7],
    ] as const)
      expect(Math.abs(normalTail(z) / tail - 1)).toBeLessThan(1e-12);
    expect(normalTail(-1)).toBeCloseTo(1 - 0.15865525393145707, 14);
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 12);
    expect(normalQuantile(0.2)).toBeCloseTo(-0.8416212335729143, 12);
    expect(fairCoinsAtMost(3, 12)).toBeCloseTo(0.072998046875, 14);
    expect(fairCoinsAtMost(40, 100)).toBeCloseTo(0.028443966820490444, 13);
    for (const [hits, rows, low, high] of [
      [0, 10, 0, 0.27753279986288926],
      [27, 30, 0.7437891742081592, 0.9654001112526657],
      [500, 1000, 0.4690696003681042, 0.5309303996318958],
    ] as const) {
      expect(wilsonInterval(hits, rows, 0.95).low).toBeCloseTo(low, 12);
      expect(wilsonInterval(hits, rows, 0.95).high).toBeCloseTo(high, 12);
    }
  });
});

describe('two models on the same rows', () => {
  it('are compared in AUC as the published fast DeLong does, with ties', () => {
    const { auc, covariance } = delong(y, [first, second]);
    [0.7046019900497513, 0.6610696517412935].forEach((value, i) => expect(auc[i]).toBeCloseTo(value, 12));
    [0.0015435547141772672, 3.5360419642412494e-5, 3.5360419642412494e-5, 0.001555821838675673].forEach((value, i) =>
      expect(covariance[i >> 1]?.[i % 2]).toBeCloseTo(value, 14),
    );
    const compared = compareOnRows('auc', binary(first), binary(second), options);
    expect(compared.method).toBe('delong');
    expect(compared.pValue).toBeCloseTo(0.42893276941913405, 10);
    expect(compared.low).toBeCloseTo(-0.06433079814571681, 10);
    expect(compared.high).toBeCloseTo(0.15139547476263243, 10);
    expect(compared.atLeast).toBeCloseTo(-0.046989259338473297, 10);
  });

  it('have the covariance of DeLong by its definition over all pairs', () => {
    const positives = [...y.keys()].filter((row) => y[row] === 1);
    const negatives = [...y.keys()].filter((row) => y[row] === 0);
    const psi = (scores: Float64Array, p: number, n: number): number => ((scores[p] ?? 0) > (scores[n] ?? 0) ? 1 : scores[p] === scores[n] ? 0.5 : 0);
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = (values: readonly number[]): number => values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1);
    const v10 = positives.map((p) => mean(negatives.map((n) => psi(first, p, n))));
    const v01 = negatives.map((n) => mean(positives.map((p) => psi(first, p, n))));
    expect(delong(y, [first]).covariance[0]?.[0]).toBeCloseTo(variance(v10) / positives.length + variance(v01) / negatives.length, 14);
  });

  it('are compared in accuracy by the exact McNemar test', () => {
    const compared = compareOnRows('accuracy', binary(first), binary(second), options);
    // 49 rows are right by the first alone, 48 by the second alone; scipy.stats.binomtest(49, 97)
    expect(compared.method).toBe('mcnemar');
    expect(compared.pValue).toBeCloseTo(1, 12);
    expect(compared.improvement).toBeCloseTo(1 / 200, 14);
    const few = compareOnRows(
      'accuracy',
      { ...binary(first), y: new Float64Array(12).fill(1), answers: Float64Array.from({ length: 24 }, (_, i) => (i < 18 ? i % 2 : 1 - (i % 2))) },
      { ...binary(first), y: new Float64Array(12).fill(1), answers: Float64Array.from({ length: 24 }, (_, i) => (i < 18 ? 1 - (i % 2) : i % 2)) },
      options,
    );
    // 9 against 3; scipy.stats.binomtest(3, 12)
    expect(few.pValue).toBeCloseTo(0.14599609375, 12);
    expect(few.pNoBetter).toBeCloseTo(0.072998046875, 12);
  });

  it('are compared in any other metric by a paired bootstrap that is the same each time', () => {
    const compared = compareOnRows('mae', regression(23, 3), regression(29, 3.3), options);
    // scipy.stats.bootstrap(paired=True, method='percentile', n_resamples=50000)
    expect(compared.improvement).toBeCloseTo(0.037407075735740314, 10);
    expect(Math.abs(compared.low - -0.05633361004948372)).toBeLessThan(0.008);
    expect(Math.abs(compared.high - 0.1296193749491087)).toBeLessThan(0.008);
    expect(compareOnRows('mae', regression(23, 3), regression(29, 3.3), options)).toEqual(compared);
    const turned = compareOnRows('mae', regression(29, 3.3), regression(23, 3), options);
    expect(turned.improvement).toBeCloseTo(-compared.improvement, 14);
  });

  it('of many rows are compared as widely apart as theory says', () => {
    const rows = 300_000;
    const random = createRandom(5);
    const many = Float64Array.from({ length: rows }, () => random.normal());
    const model = (noise: number): JudgedAnswers => ({
      task: { kind: 'regression' },
      y: many,
      answers: many.map((value) => value + random.normal() * noise),
      threshold: 0.5,
    });
    const [mine, theirs] = [model(1), model(1.01)];
    const differences = many.map((value, row) => Math.abs(value - (theirs.answers[row] ?? 0)) - Math.abs(value - (mine.answers[row] ?? 0)));
    const mean = differences.reduce((sum, value) => sum + value, 0) / rows;
    const spread = Math.sqrt(differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows / rows);
    const compared = compareOnRows('mae', mine, theirs, { ...options, replicates: 200 });
    expect(compared.improvement).toBeCloseTo(mean, 10);
    expect((compared.high - compared.low) / (2 * 1.96 * spread)).toBeGreaterThan(0.8);
    expect((compared.high - compared.low) / (2 * 1.96 * spread)).toBeLessThan(1.2);
  });

  it('are no different from themselves', () => {
    for (const metric of ['auc', 'accuracy', 'logLoss']) {
      const same = compareOnRows(metric, binary(first), binary(first), options);
      expect([same.improvement, same.pValue], metric).toEqual([0, 1]);
      expect(same.atLeast, metric).toBeLessThanOrEqual(0);
    }
  });

  it('say "better" wrongly about as often as the confidence allows', () => {
    // two models of equal worth on fresh rows, a hundred times
    let better = 0;
    for (let trial = 0; trial < 200; trial++) {
      const labels = sequence(300, 1_000 + trial).map((value) => (value > 0.5 ? 1 : 0));
      const model = (seed: number): JudgedAnswers => ({
        task: { kind: 'binary' },
        y: labels,
        answers: Float64Array.from(
          [...sequence(300, seed)].flatMap((noise, row) => [1 - noise * 0.7 - (labels[row] ?? 0) * 0.3, noise * 0.7 + (labels[row] ?? 0) * 0.3]),
        ),
        threshold: 0.5,
      });
      if (compareOnRows('auc', model(5_000 + 37 * trial), model(90_000 + 41 * trial), options).atLeast > 0) better++;
    }
    // 5 % of 200 is 10; the exact 99.9 % bounds of a binomial count
    expect(better).toBeGreaterThanOrEqual(1);
    expect(better).toBeLessThanOrEqual(22);
  });
});
