/**
 * How far two samples are apart, from counts: of bins, or of ascending values. Each figure equals SciPy's of the same name where it has one.
 *
 * Invariants:
 * 1. `here` are the recent rows and `there` the reference; all but Wasserstein's distance and the index of differences are the same with the two swapped.
 * 2. A sample without rows gives no figure: callers ask first.
 */
import { chiSquareTail } from './distributions.ts';
import { smirnovTwoSampleTail } from './kolmogorov.ts';

type Counts = ArrayLike<number>;

const totalOf = (counts: Counts): number => {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i] as number;
  return total;
};

/**
 * PSI = Σ (pᵢ − qᵢ) ln(pᵢ / qᵢ) over the bins that either side has (N. Siddiqi, "Credit Risk Scorecards", 2006, ch. 8). An empty bin
 * counts as half a row: a share of 0 would make the index infinite.
 */
export function populationStability(here: Counts, there: Counts): { readonly psi: number; readonly bins: number } {
  const [n, m] = [totalOf(here), totalOf(there)];
  let psi = 0;
  let bins = 0;
  for (let i = 0; i < here.length; i++) {
    const [a, b] = [here[i] as number, there[i] as number];
    if (a <= 0 && b <= 0) continue;
    const [p, q] = [Math.max(a, 0.5) / n, Math.max(b, 0.5) / m];
    psi += (p - q) * Math.log(p / q);
    bins++;
  }
  return { psi, bins };
}

/**
 * PSI's mean where nothing has moved: (B − 1)(1/n + 1/m) for B bins, n recent and m reference rows, for it is asymptotically that
 * multiple of a chi-square with B − 1 degrees of freedom over its mean (B. Yurdakul, "Statistical Properties of Population Stability Index", 2018).
 */
export const expectedPsi = (bins: number, rows: number, referenceRows: number): number => Math.max(0, bins - 1) * (1 / rows + 1 / referenceRows);

export interface ChiSquare {
  readonly statistic: number;
  readonly degreesOfFreedom: number;
  readonly pValue: number;
}

/** Pearson's test of homogeneity over the bins that either side has: `scipy.stats.chi2_contingency(…, correction=False)`. With one bin nothing can differ: p is 1. */
export function chiSquareOfHomogeneity(here: Counts, there: Counts): ChiSquare {
  const [n, m] = [totalOf(here), totalOf(there)];
  let statistic = 0;
  let bins = 0;
  for (let i = 0; i < here.length; i++) {
    const [a, b] = [here[i] as number, there[i] as number];
    const both = a + b;
    if (both <= 0) continue;
    const [expectedHere, expectedThere] = [(both * n) / (n + m), (both * m) / (n + m)];
    statistic += (a - expectedHere) ** 2 / expectedHere + (b - expectedThere) ** 2 / expectedThere;
    bins++;
  }
  const degreesOfFreedom = Math.max(0, bins - 1);
  return { statistic, degreesOfFreedom, pValue: degreesOfFreedom === 0 ? 1 : chiSquareTail(statistic, degreesOfFreedom) };
}

/** The square root of Jensen and Shannon's divergence in nats, 0 to √ln 2: `scipy.spatial.distance.jensenshannon`. */
export function jensenShannonDistance(here: Counts, there: Counts): number {
  const [n, m] = [totalOf(here), totalOf(there)];
  let divergence = 0;
  for (let i = 0; i < here.length; i++) {
    const [p, q] = [(here[i] as number) / n, (there[i] as number) / m];
    const middle = (p + q) / 2;
    if (p > 0) divergence += p * Math.log(p / middle);
    if (q > 0) divergence += q * Math.log(q / middle);
  }
  return Math.sqrt(Math.max(0, divergence / 2));
}

/** Different values, ascending, and how often each side has them. */
export interface CountedValues {
  readonly values: Counts;
  readonly here: Counts;
  readonly there: Counts;
}

export interface ValueDistances {
  /** The greatest difference of the two distribution functions. */
  readonly statistic: number;
  /** Area between them, in the values' unit: `scipy.stats.wasserstein_distance`. */
  readonly wasserstein: number;
}

/** Smirnov's statistic and Wasserstein's first distance in one walk over the values. */
export function valueDistances({ values, here, there }: CountedValues): ValueDistances {
  const [n, m] = [totalOf(here), totalOf(there)];
  let [a, b, statistic, wasserstein] = [0, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    a += here[i] as number;
    b += there[i] as number;
    const gap = Math.abs(a / n - b / m);
    if (gap > statistic) statistic = gap;
    if (i + 1 < values.length) wasserstein += gap * ((values[i + 1] as number) - (values[i] as number));
  }
  return { statistic, wasserstein };
}

/** The p-value of Smirnov's statistic: exact up to 10,000 rows on each side, else from the limit, as `scipy.stats.ks_2samp` chooses. */
export const smirnovPValue = (statistic: number, rows: number, referenceRows: number): number => smirnovTwoSampleTail(statistic, rows, referenceRows);

/**
 * Two-sided test that two shares are equal, with the pooled share's variance: z² is the chi-square of the 2 × 2 table without
 * correction. Where both are 0 or both 1, z is 0.
 */
export function twoProportions(hits: number, rows: number, referenceHits: number, referenceRows: number): { readonly z: number; readonly pValue: number } {
  const pooled = (hits + referenceHits) / (rows + referenceRows);
  const variance = pooled * (1 - pooled) * (1 / rows + 1 / referenceRows);
  if (!(variance > 0)) return { z: 0, pValue: 1 };
  const z = (hits / rows - referenceHits / referenceRows) / Math.sqrt(variance);
  return { z, pValue: chiSquareTail(z * z, 1) };
}
