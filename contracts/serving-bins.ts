import type { Signature } from './signature.ts';

/**
 * How prediction servers sort what they count, and how its readers understand it: one definition for both.
 * Counts travel as pairs in one list, `[bin, count, bin, count, …]`, without the bins that have none.
 */
export type BinCounts = readonly number[];

/** Upper bound of the first latency bin, in milliseconds. */
const LEAST_LATENCY_MS = 0.05;
/** Each bin's upper bound is so many times the one before: a percentile read from the bins is at most 4.9 % off. */
export const LATENCY_GROWTH = 1.1;
const PER_LATENCY_BIN = 1 / Math.log(LATENCY_GROWTH);
/** Up to 81 seconds; the last bin takes what is longer. */
export const LATENCY_BINS = 152;

/** Bin k holds latencies above the bound of k - 1, up to the bound of k. */
export function latencyBin(latencyMs: number): number {
  if (!(latencyMs > LEAST_LATENCY_MS)) return 0;
  // what lies on a bound by the last bit of the logarithm belongs below it
  return Math.min(LATENCY_BINS - 1, Math.ceil(Math.log(latencyMs / LEAST_LATENCY_MS) * PER_LATENCY_BIN - 1e-9));
}

/** Upper bound of a bin in milliseconds; of the last one Infinity. */
export const latencyBoundMs = (bin: number): number => (bin >= LATENCY_BINS - 1 ? Number.POSITIVE_INFINITY : LEAST_LATENCY_MS * LATENCY_GROWTH ** bin);

/** The latency that a share of requests does not exceed (0.99: p99), in milliseconds: the middle of its bin. Null without counts. */
export function latencyPercentileMs(counts: BinCounts, share: number): number | null {
  let total = 0;
  for (let i = 1; i < counts.length; i += 2) total += counts[i] as number;
  if (total === 0) return null;
  const bins: [number, number][] = [];
  for (let i = 0; i < counts.length; i += 2) bins.push([counts[i] as number, counts[i + 1] as number]);
  bins.sort((a, b) => a[0] - b[0]);
  let below = 0;
  for (const [bin, count] of bins) {
    below += count;
    if (below >= share * total - 1e-9) return (LEAST_LATENCY_MS * LATENCY_GROWTH ** bin) / Math.sqrt(LATENCY_GROWTH);
  }
  return null;
}

/** Probabilities: twenty bins of 0.05. */
export const PROBABILITY_BINS = 20;
/** Numbers: bins that grow by a fourth of a doubling, from a millionth to 2^40 on both sides of zero. */
const PER_DOUBLING = 4;
const LEAST_EXPONENT = -20;
const VALUE_BINS_A_SIDE = 60 * PER_DOUBLING;
/** Of a distribution of predicted values: negative ones, zero, positive ones. */
export const VALUE_BINS = 2 * VALUE_BINS_A_SIDE + 1;
/** What is no number. */
export const NOT_A_NUMBER_BIN = 10_000;
/** Classes beyond are counted together. */
export const MAX_LABEL_BINS = 1_000;

export const probabilityBin = (probability: number): number =>
  Number.isNaN(probability) ? NOT_A_NUMBER_BIN : Math.max(0, Math.min(PROBABILITY_BINS - 1, Math.floor(probability * PROBABILITY_BINS)));

export function valueBin(value: number): number {
  if (Number.isNaN(value)) return NOT_A_NUMBER_BIN;
  const size = Math.abs(value);
  const step = Math.floor((Math.log2(size) - LEAST_EXPONENT) * PER_DOUBLING);
  if (!(step >= 0)) return VALUE_BINS_A_SIDE;
  const away = 1 + Math.min(VALUE_BINS_A_SIDE - 1, step);
  return VALUE_BINS_A_SIDE + (value < 0 ? -away : away);
}

/** How many bins the outputs of a task are sorted into, without the one of what is no number. */
export const outputBins = (task: Signature['task']): number =>
  task.kind === 'binary' ? PROBABILITY_BINS : task.kind === 'multiclass' ? Math.min(MAX_LABEL_BINS, task.classes.length) : VALUE_BINS;

/** Adds pairs up: `[1, 2]` and `[1, 3, 4, 1]` are `[1, 5, 4, 1]`. Ascending by bin. */
export function addBinCounts(all: Iterable<BinCounts>): BinCounts {
  const sums = new Map<number, number>();
  for (const counts of all)
    for (let i = 0; i < counts.length; i += 2) sums.set(counts[i] as number, (sums.get(counts[i] as number) ?? 0) + (counts[i + 1] as number));
  return [...sums].sort(([a], [b]) => a - b).flat();
}
