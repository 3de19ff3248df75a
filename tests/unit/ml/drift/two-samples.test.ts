import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { chiSquareUpperQuantile, chiSquareTail } from '../../../../ml/drift/distributions.ts';
import {
  chiSquareOfHomogeneity,
  expectedPsi,
  jensenShannonDistance,
  populationStability,
  smirnovPValue,
  twoProportions,
  valueDistances,
} from '../../../../ml/drift/two-samples.ts';
import { createRandom } from '../../../../ml/random.ts';

interface Fixture {
  readonly samples: readonly { values: number[]; here: number[]; there: number[]; statistic: number; pValue: number; wasserstein: number }[];
  readonly tails: readonly { n: number; m: number; d: number; pValue: number }[];
  readonly tables: readonly { here: number[]; there: number[]; statistic: number; degreesOfFreedom: number; pValue: number; jensenShannon: number }[];
  readonly shares: readonly { hits: number; rows: number; referenceHits: number; referenceRows: number; pValue: number; z: number }[];
}
// the figures are SciPy 1.17.1's, made by make-two-samples.py beside the file
const scipy = JSON.parse(readFileSync(new URL('../../../fixtures/drift/two-samples.json', import.meta.url), 'utf8')) as Fixture;

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
const near = (found: number, wanted: number): void => {
  expect(Math.abs(found - wanted), `${found} for ${wanted}`).toBeLessThanOrEqual(1e-9 * Math.max(1, Math.abs(wanted)));
};

describe('figures of two samples', () => {
  it('give ks_2samp and wasserstein_distance of SciPy', () => {
    expect(scipy.samples.length).toBeGreaterThan(20);
    for (const { here, there, values, ...wanted } of scipy.samples) {
      const { statistic, wasserstein } = valueDistances({ values, here, there });
      near(statistic, wanted.statistic);
      near(wasserstein, wanted.wasserstein);
      near(smirnovPValue(statistic, sum(here), sum(there)), wanted.pValue);
    }
  });

  it('give its p-values of D, exact ones of small samples and those in the limit', () => {
    for (const { n, m, d, pValue } of scipy.tails) {
      near(smirnovPValue(d, n, m), pValue);
      if (n < 100_000) near(smirnovPValue(d, m, n), pValue);
      // far tails too: thresholds for many tests lie there
      if (pValue > 1e-100 && pValue < 1e-3) expect(smirnovPValue(d, n, m) / pValue).toBeCloseTo(1, 6);
    }
  });

  it('give chi2_contingency without correction and jensenshannon', () => {
    for (const { here, there, ...wanted } of scipy.tables) {
      const found = chiSquareOfHomogeneity(here, there);
      near(found.statistic, wanted.statistic);
      expect(found.degreesOfFreedom).toBe(wanted.degreesOfFreedom);
      near(found.pValue, wanted.pValue);
      near(jensenShannonDistance(here, there), wanted.jensenShannon);
      // a bin that neither side has says nothing
      expect(chiSquareOfHomogeneity([...here, 0], [...there, 0])).toEqual(found);
    }
  });

  it('give two shares the z whose square is the chi-square of their table', () => {
    for (const { hits, rows, referenceHits, referenceRows, ...wanted } of scipy.shares) {
      const found = twoProportions(hits, rows, referenceHits, referenceRows);
      near(found.pValue, wanted.pValue);
      near(Math.abs(found.z), wanted.z);
    }
    expect(twoProportions(0, 10, 0, 1000)).toEqual({ z: 0, pValue: 1 });
    expect(twoProportions(10, 10, 1000, 1000)).toEqual({ z: 0, pValue: 1 });
  });

  it('give the index by its formula, an empty bin being half a row', () => {
    const { psi, bins } = populationStability([50, 50, 0, 0], [60, 40, 0, 20]);
    const term = (p: number, q: number): number => (p - q) * Math.log(p / q);
    expect(psi).toBeCloseTo(term(0.5, 0.5) + term(0.5, 1 / 3) + term(0.005, 1 / 6), 12);
    expect(bins).toBe(3);
  });

  it('give on average the index that is expected by chance where nothing moved', () => {
    const random = createRandom(3);
    const draw = (rows: number): number[] => {
      const counts = new Array<number>(12).fill(0);
      for (let i = 0; i < rows; i++) counts[Math.floor(12 * random.next() ** 1.3)]!++;
      return counts;
    };
    const found = Array.from({ length: 200 }, () => populationStability(draw(900), draw(2_500)).psi);
    expect(sum(found) / found.length / expectedPsi(12, 900, 2_500)).toBeGreaterThan(0.9);
    expect(sum(found) / found.length / expectedPsi(12, 900, 2_500)).toBeLessThan(1.1);
  });

  it('turn a tail of chi-square into its quantile', () => {
    for (const degrees of [1, 9, 21, 254])
      for (const tail of [0.99, 0.5, 0.01, 1e-9, 1e-60]) expect(chiSquareTail(chiSquareUpperQuantile(tail, degrees), degrees) / tail).toBeCloseTo(1, 6);
  });

  it('are nothing where both sides are constant', () => {
    expect(valueDistances({ values: [5], here: [10], there: [30] })).toEqual({ statistic: 0, wasserstein: 0 });
    expect(smirnovPValue(0, 10, 30)).toBe(1);
    expect(chiSquareOfHomogeneity([10], [30])).toEqual({ statistic: 0, degreesOfFreedom: 0, pValue: 1 });
    expect(populationStability([10], [30]).psi).toBe(0);
  });
});
