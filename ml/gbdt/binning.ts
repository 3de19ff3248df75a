/**
 * Turns feature values into bins. A bin b of a feature holds the values v with bounds[b - 1] < v ≤ bounds[b]; the
 * bounds are float32, so that the comparison `v <= threshold` of an ONNX tree decides exactly as the bins did.
 */
import { createSeededRandom } from './seeded-random.ts';

/** Rows that the bounds are taken from, as in LightGBM (bin_construct_sample_cnt). */
export const BIN_SAMPLE_ROWS = 200_000;

/** A bin takes at least so many rows of the sample, as in LightGBM (min_data_in_bin). */
const MIN_ROWS_IN_BIN = 3;

/** The seeded stream of the sample; the trees' streams have larger numbers. */
export const BIN_SAMPLE_STREAM = 0;

/** Row numbers to find the bounds with, ascending: one drawn from each of equal parts of the rows. */
export function sampleRows(rows: number, seed: number): Int32Array {
  const count = Math.min(rows, BIN_SAMPLE_ROWS);
  const sample = new Int32Array(count);
  const random = createSeededRandom(seed, BIN_SAMPLE_STREAM);
  for (let i = 0; i < count; i += 1) sample[i] = rows === count ? i : Math.min(rows - 1, Math.floor(((i + random()) * rows) / count));
  return sample;
}

/** A float32 that separates `low` from `high`, near their middle where there is one: low ≤ bound < high. */
function boundBetween(low: number, high: number): number {
  const middle = Math.fround(low / 2 + high / 2);
  return middle >= low && middle < high ? middle : low;
}

/**
 * Upper bounds of the bins of one feature, ascending, the last Infinity; empty when every value is missing. Values that
 * take more than their share of the rows get bins of their own, the others bins of about equal counts (LightGBM's
 * GreedyFindBin). `values` is reordered.
 */
export function findBounds(values: Float32Array, maxBins: number): Float32Array {
  let present = 0;
  for (const value of values) {
    if (!Number.isNaN(value)) {
      values[present] = value;
      present += 1;
    }
  }
  if (present === 0) return new Float32Array(0);
  const sorted = values.subarray(0, present).sort();
  const distinct: number[] = [];
  const counts: number[] = [];
  for (let i = 0; i < present; ) {
    const value = sorted[i] ?? 0;
    let next = i + 1;
    while (next < present && sorted[next] === value) next += 1;
    // -0 sorts before 0 and equals it.
    if (distinct.length > 0 && distinct[distinct.length - 1] === value) counts[counts.length - 1] = (counts[counts.length - 1] ?? 0) + next - i;
    else {
      distinct.push(value);
      counts.push(next - i);
    }
    i = next;
  }
  const bounds: number[] = [];
  const close = (last: number): void => {
    bounds.push(boundBetween(distinct[last] ?? 0, distinct[last + 1] ?? 0));
  };
  if (distinct.length <= maxBins) {
    let inBin = 0;
    for (let i = 0; i + 1 < distinct.length; i += 1) {
      inBin += counts[i] ?? 0;
      if (inBin >= Math.min(MIN_ROWS_IN_BIN, present / maxBins)) {
        close(i);
        inBin = 0;
      }
    }
  } else {
    const mostBins = Math.max(1, Math.min(maxBins, Math.floor(present / MIN_ROWS_IN_BIN)));
    let mean = present / mostBins;
    const big = counts.map((count) => count >= mean);
    let restBins = mostBins;
    let restRows = present;
    counts.forEach((count, i) => {
      if (big[i]) {
        restBins -= 1;
        restRows -= count;
      }
    });
    const shareOfRest = (): number => (restBins > 0 ? restRows / restBins : Number.POSITIVE_INFINITY);
    mean = shareOfRest();
    let inBin = 0;
    for (let i = 0; i + 1 < distinct.length && bounds.length < mostBins - 1; i += 1) {
      const count = counts[i] ?? 0;
      if (!big[i]) restRows -= count;
      inBin += count;
      if (big[i] || inBin >= mean || (big[i + 1] && inBin >= Math.max(1, mean * 0.5))) {
        close(i);
        inBin = 0;
        if (!big[i]) {
          restBins -= 1;
          mean = shareOfRest();
        }
      }
    }
  }
  bounds.push(Number.POSITIVE_INFINITY);
  return Float32Array.from(bounds);
}

/** Turns the bits of a float32 into a number of the same order: -Infinity … Infinity to 0 … 2^32. */
const orderedHigh = (bits: number): number => (bits < 0 ? ~bits >>> 16 : (bits >>> 16) | 0x8000);

/** Maps values to bins through a table over the upper 16 bits of a float32, then a search between two entries. */
export interface BinFinder {
  readonly bounds: Float32Array;
  /** Least bin that a value with these upper bits may be in; 65,537 entries. */
  readonly table: Uint8Array;
}

export function createBinFinder(bounds: Float32Array): BinFinder {
  const table = new Uint8Array(65_537);
  const scratch = new Float32Array(1);
  const bits = new Int32Array(scratch.buffer);
  let from = 0;
  bounds.forEach((bound, bin) => {
    // The values that share the bound's upper bits may lie on both sides of it: later entries start at the next bin.
    scratch[0] = bound === 0 ? 0 : bound;
    const high = orderedHigh(bits[0] ?? 0);
    if (high >= from) {
      table.fill(bin, from, high + 1);
      from = high + 1;
    }
  });
  table.fill(Math.max(0, bounds.length - 1), from);
  return { bounds, table };
}

/** Writes the bin of each value of `values[first … last)` to `bins[first * stride + offset …]`; missing values get `missingBin`. */
export function writeBins(
  finder: BinFinder,
  values: Float32Array,
  valueBits: Int32Array,
  first: number,
  last: number,
  missingBin: number,
  bins: Uint8Array,
  start: number,
  stride: number,
): void {
  const { bounds, table } = finder;
  let target = start;
  for (let i = first; i < last; i += 1) {
    const value = values[i] as number;
    if (value !== value) bins[target] = missingBin;
    else {
      const bits = valueBits[i] as number;
      const high = orderedHigh(bits);
      let low = table[high] as number;
      let end = table[high + 1] as number;
      // The first bin whose bound is not below the value; `end` always is such a bin.
      while (low < end) {
        const middle = (low + end) >> 1;
        if (value <= (bounds[middle] as number)) end = middle;
        else low = middle + 1;
      }
      bins[target] = low;
    }
    target += stride;
  }
}
