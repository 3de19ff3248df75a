import type { ScoreBin } from '../../contracts/window-quality.ts';
import { descendingOrder } from './judge.ts';

const MOST_BINS = 100;
const LEAST_ROWS = 20;

/**
 * Rows in order of their scores, parted into at most 100 bins with at least 20 rows each: what a calibration is fitted on,
 * and how sure it is. Each bin has about as much of the expected hits Σ s ÷ all of them, plus of the expected misses
 * Σ (1 − s), so that a rare class has as many bins as the frequent one; it goes by scores, not by outcomes, which would
 * favour hits. Equal scores stand in one bin. `hits` are 1 and 0.
 */
export function scoreBinsOf(scores: Float64Array, hits: Float64Array): ScoreBin[] {
  const order = descendingOrder(scores).reverse();
  const expected = scores.map((score) => Math.min(1, Math.max(0, score)));
  const allHits = expected.reduce((sum, share) => sum + share, 0);
  const allMisses = scores.length - allHits;
  const bins: { from: number; to: number; sum: number; rows: number; hits: number }[] = [];
  let reached = 0;
  let bin: (typeof bins)[number] | undefined;
  for (const row of order) {
    const score = scores[row] as number;
    // a sum that is nearly the next whole step, but for rounding, is it
    const full = bin !== undefined && bin.rows >= LEAST_ROWS && score !== bin.to && reached >= (2 / MOST_BINS) * (1 - 1e-9);
    if (bin === undefined || full) {
      bins.push((bin = { from: score, to: score, sum: 0, rows: 0, hits: 0 }));
      reached = 0;
    }
    const share = expected[row] as number;
    reached += (allHits > 0 ? share / allHits : 0) + (allMisses > 0 ? (1 - share) / allMisses : 0);
    bin.to = score;
    bin.sum += score;
    bin.rows++;
    bin.hits += hits[row] as number;
  }
  const [last, before] = [bins.at(-1), bins.at(-2)];
  if (last !== undefined && before !== undefined && last.rows < LEAST_ROWS) {
    bins.splice(-2, 2, { from: before.from, to: last.to, sum: before.sum + last.sum, rows: before.rows + last.rows, hits: before.hits + last.hits });
  }
  return bins.map(({ from, to, sum, rows, hits }) => ({ from, to, meanScore: sum / rows, rows, hits }));
}

/**
 * Share of hits in each bin that never falls with the score and lies nearest to what was seen: isotonic regression by
 * pooling neighbours (M. Ayer, H. D. Brunk, G. M. Ewing, W. T. Reid, E. Silverman, 1955). Equal to scikit-learn's
 * IsotonicRegression of the bins' shares, weighted by their rows. `hits` default: those that were seen.
 */
export function isotonicShares(bins: readonly Pick<ScoreBin, 'rows' | 'hits'>[], hits: ArrayLike<number> = bins.map((bin) => bin.hits)): Float64Array {
  const pools: { rows: number; hits: number; bins: number }[] = [];
  bins.forEach(({ rows }, i) => {
    let pool = { rows, hits: hits[i] as number, bins: 1 };
    for (let last = pools.at(-1); last !== undefined && last.hits * pool.rows >= pool.hits * last.rows; last = pools.at(-1)) {
      pools.pop();
      pool = { rows: last.rows + pool.rows, hits: last.hits + pool.hits, bins: last.bins + pool.bins };
    }
    pools.push(pool);
  });
  return Float64Array.from(pools.flatMap((pool) => new Array<number>(pool.bins).fill(pool.hits / pool.rows)));
}

/** The share at a score: on the line between the two bins' means around it, and beyond the outermost ones theirs. */
export function shareAt(score: number, bins: readonly Pick<ScoreBin, 'meanScore'>[], shares: Float64Array): number {
  let [low, high] = [0, bins.length - 1];
  const scoreOf = (i: number): number => bins[i]?.meanScore ?? Number.NaN;
  if (score <= scoreOf(low)) return shares[low] ?? Number.NaN;
  if (score >= scoreOf(high)) return shares[high] ?? Number.NaN;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (scoreOf(middle) <= score) low = middle;
    else high = middle;
  }
  const [from, to] = [shares[low] as number, shares[high] as number];
  return from + ((score - scoreOf(low)) / (scoreOf(high) - scoreOf(low))) * (to - from);
}
