import { LATENCY_BINS, LATENCY_GROWTH, latencyBin, type BinCounts } from '../../contracts/serving-bins.ts';
import { createEProcess } from './e-process.ts';
import { type SequentialTest, testRateNotHigher } from './rates.ts';

/** Counts by bin of challenger and champion over the same time. */
export interface CountsPair {
  readonly tried: BinCounts;
  readonly ruling: BinCounts;
}

const totalOf = (counts: BinCounts): number => {
  let total = 0;
  for (let i = 1; i < counts.length; i += 2) total += counts[i] as number;
  return total;
};

/** Counts of which older ones weigh less: what is learned from follows what changes. */
interface Memory {
  readonly counts: Map<number, number>;
  total: number;
}
const remember = (memory: Memory, counts: BinCounts, keep: number): void => {
  for (const [bin, count] of memory.counts) memory.counts.set(bin, count * keep);
  memory.total *= keep;
  for (let i = 0; i < counts.length; i += 2) {
    memory.counts.set(counts[i] as number, (memory.counts.get(counts[i] as number) ?? 0) + (counts[i + 1] as number));
    memory.total += counts[i + 1] as number;
  }
};
const memory = (): Memory => ({ counts: new Map(), total: 0 });

/** Parts of the greatest stake that keeps a factor positive. */
const STAKES = [0.1, 0.25, 0.5, 0.8];
const EVEN_STAKES = STAKES.map(() => 1);
/** Rows of each group before anything is bet. */
const LEAST_LEARNED = 20;
/** Rows after which a row weighs half. */
const HALF_LIFE_ROWS = 2_000;

/**
 * Tests that the total variation distance of two distributions is at most `maxDistance`. On each block it bets that one set of bins,
 * those that earlier blocks showed more often in the tried group, holds a share greater by more than the distance; no set does
 * under the hypothesis. The factor is 1 + λ(Y − δ), Y the difference of the set's shares in the block. Only the mean matters:
 * rows of one request may be alike. Source: I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by
 * betting", JRSS B 2024; the set as in S. Shekhar, A. Ramdas, "Nonparametric two-sample testing by betting", 2023.
 */
export function testDistance(maxDistance: number): SequentialTest<CountsPair> {
  const process = createEProcess(EVEN_STAKES);
  const [tried, ruling] = [memory(), memory()];
  const greatest = 1 / (1 + maxDistance);
  const isOftener = (bin: number): boolean => (tried.counts.get(bin) ?? 0) / tried.total > (ruling.counts.get(bin) ?? 0) / ruling.total;
  const inSet = (counts: BinCounts): number => {
    let events = 0;
    for (let i = 0; i < counts.length; i += 2) if (isOftener(counts[i] as number)) events += counts[i + 1] as number;
    return events;
  };
  return {
    add(block, atSeconds) {
      const [triedRows, rulingRows] = [totalOf(block.tried), totalOf(block.ruling)];
      if (triedRows === 0 || rulingRows === 0) return;
      if (Math.min(tried.total, ruling.total) >= LEAST_LEARNED) {
        const over = inSet(block.tried) / triedRows - inSet(block.ruling) / rulingRows - maxDistance;
        process.update((i) => Math.log1p((STAKES[i] as number) * greatest * over), atSeconds);
      }
      remember(tried, block.tried, 0.5 ** (triedRows / HALF_LIFE_ROWS));
      remember(ruling, block.ruling, 0.5 ** (rulingRows / HALF_LIFE_ROWS));
    },
    get evidence() {
      return process.evidence;
    },
    get pValue() {
      return process.pValue;
    },
  };
}

export interface PercentileTestOptions {
  /** 0.99: p99. */
  readonly share: number;
  /** The challenger's percentile may be so many times the champion's; taken up to the next bin (at most 10 % more). */
  readonly maxRatio: number;
  /** Faster than this is never too slow, in milliseconds. */
  readonly ignoreBelowMs: number;
}

/** Requests of the champion before its percentile is taken for known. */
const LEAST_LATENCIES = 50;

/**
 * Tests that a percentile of the challenger's latency is at most `maxRatio` times the champion's. The bound q that splits off the
 * champion's slowest requests comes from earlier blocks; a request of the champion is an event above q, one of the challenger above
 * maxRatio·q. Were the challenger slower by exactly that ratio, events would be as frequent in both: `testRateNotHigher`.
 */
export function testPercentileRatio({ share, maxRatio, ignoreBelowMs }: PercentileTestOptions): SequentialTest<CountsPair> {
  const test = testRateNotHigher(0.005);
  const known = memory();
  const shift = Math.ceil(Math.log(maxRatio) / Math.log(LATENCY_GROWTH) - 1e-9);
  const ignoredBin = latencyBin(ignoreBelowMs);
  const above = (counts: BinCounts, bin: number): number => {
    let events = 0;
    for (let i = 0; i < counts.length; i += 2) if ((counts[i] as number) > bin) events += counts[i + 1] as number;
    return events;
  };
  /** The bin whose bound the share of known requests does not exceed. */
  function percentileBin(): number {
    let slower = known.total;
    for (let bin = 0; bin < LATENCY_BINS; bin++) {
      slower -= known.counts.get(bin) ?? 0;
      if (slower <= (1 - share) * known.total + 1e-9) return bin;
    }
    return LATENCY_BINS - 1;
  }
  return {
    add(block, atSeconds) {
      if (known.total >= LEAST_LATENCIES) {
        const bin = percentileBin();
        test.add(
          {
            triedTotal: totalOf(block.tried),
            triedEvents: above(block.tried, Math.max(bin + shift, ignoredBin)),
            rulingTotal: totalOf(block.ruling),
            rulingEvents: above(block.ruling, bin),
          },
          atSeconds,
        );
      }
      remember(known, block.ruling, 0.5 ** (totalOf(block.ruling) / (HALF_LIFE_ROWS * 5)));
    },
    get evidence() {
      return test.evidence;
    },
    get pValue() {
      return test.pValue;
    },
  };
}
