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
  // numbers in arrays and no objects: an interval learns it some hundred times
  const [pooledRows, pooledHits] = [new Float64Array(bins.length), new Float64Array(bins.length)];
  const ends = new Int32Array(bins.length);
  let pools = 0;
  for (let bin = 0; bin < bins.length; bin++) {
    let rows = bins[bin]?.rows ?? 0;
    let hit = hits[bin] as number;
    while (pools > 0 && (pooledHits[pools - 1] as number) * rows >= hit * (pooledRows[pools - 1] as number)) {
      pools--;
      rows += pooledRows[pools] as number;
      hit += pooledHits[pools] as number;
    }
    pooledRows[pools] = rows;
    pooledHits[pools] = hit;
    ends[pools++] = bin + 1;
  }
  const shares = new Float64Array(bins.length);
  for (let pool = 0, from = 0; pool < pools; pool++) {
    const to = ends[pool] as number;
    shares.fill((pooledHits[pool] as number) / (pooledRows[pool] as number), from, to);
    from = to;
  }
  return shares;
}

/** Where scores lie among the bins' means: on the line between two of them, and beyond the outermost ones on one. */
export interface ScorePlaces {
  readonly low: Int32Array;
  readonly high: Int32Array;
  /** Of the way from the low bin's mean to the high one's. */
  readonly way: Float64Array;
}

export function placesOf(scores: Float64Array, bins: readonly Pick<ScoreBin, 'meanScore'>[]): ScorePlaces {
  const means = Float64Array.from(bins, ({ meanScore }) => meanScore);
  const last = bins.length - 1;
  const places = { low: new Int32Array(scores.length), high: new Int32Array(scores.length), way: new Float64Array(scores.length) };
  for (let at = 0; at < scores.length; at++) {
    const score = scores[at] as number;
    let [low, high] = [0, last];
    if (score <= (means[0] as number)) high = 0;
    else if (score >= (means[last] as number)) low = last;
    else {
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if ((means[middle] as number) <= score) low = middle;
        else high = middle;
      }
      places.way[at] = (score - (means[low] as number)) / ((means[high] as number) - (means[low] as number));
    }
    places.low[at] = low;
    places.high[at] = high;
  }
  return places;
}

/** The share at each of the places. */
export function sharesAt({ low, high, way }: ScorePlaces, shares: Float64Array): Float64Array {
  const found = new Float64Array(low.length);
  for (let at = 0; at < found.length; at++) {
    const from = shares[low[at] as number] as number;
    found[at] = from + (way[at] as number) * ((shares[high[at] as number] as number) - from);
  }
  return found;
}
