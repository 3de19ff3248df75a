import { createEProcess, type EProcess } from './e-process.ts';

/** Events of two groups that were drawn from the same stream at the same time. */
export interface RatePair {
  /** Requests of the challenger, and how many of them are events. */
  readonly triedTotal: number;
  readonly triedEvents: number;
  readonly rulingTotal: number;
  readonly rulingEvents: number;
}

/**
 * ln of Fisher's noncentral hypergeometric probability of the table at an odds ratio, over the central one (odds ratio 1):
 * x·ln ψ − ln E[ψ^X], X hypergeometric. Given the margins its mean is exactly 1 when events do not depend on the group, and
 * at most 1 when they are rarer in the tried one; whatever the common rate is, and however it changes from block to block.
 * Source: R. A. Fisher, "The logic of inductive inference", 1935; as a likelihood ratio that multiplies over strata:
 * P. Grünwald, A. Ly, M. Pérez-Ortiz, J. ter Schure, "The safe logrank test", 2020.
 */
export function logOddsEvidence(table: RatePair, logOdds: number): number {
  const { triedTotal: tried, rulingTotal: ruling, triedEvents } = table;
  const events = triedEvents + table.rulingEvents;
  const least = Math.max(0, events - ruling);
  const most = Math.min(events, tried);
  if (least === most) return 0;
  // hypergeometric weights relative to the first, by their ratio; ln Σ h·ψ^(u − least) and ln Σ h are kept with one scale each
  let [logWeight, top, sum, plainTop, plain] = [0, 0, 1, 0, 1];
  for (let u = least + 1; u <= most; u++) {
    logWeight += Math.log(((tried - u + 1) * (events - u + 1)) / (u * (ruling - events + u)));
    const tilted = logWeight + logOdds * (u - least);
    if (tilted > top) [sum, top] = [sum * Math.exp(top - tilted) + 1, tilted];
    else sum += Math.exp(tilted - top);
    if (logWeight > plainTop) [plain, plainTop] = [plain * Math.exp(plainTop - logWeight) + 1, logWeight];
    else plain += Math.exp(logWeight - plainTop);
  }
  return logOdds * (triedEvents - least) - (top + Math.log(sum)) + (plainTop + Math.log(plain));
}

/** Odds ratios of the alternatives, and how much is bet on each: most on doubled to quintupled rates. */
const ODDS: readonly (readonly [ratio: number, weight: number])[] = [
  [1.3, 0.08],
  [1.7, 0.14],
  [2.3, 0.22],
  [3.2, 0.26],
  [5, 0.16],
  [10, 0.08],
  [40, 0.06],
];
const LOG_ODDS = ODDS.map(([ratio]) => Math.log(ratio));
const WEIGHTS = ODDS.map(([, weight]) => weight);

/** A running test whose blocks are of one kind. */
export interface SequentialTest<Block> extends Pick<EProcess, 'evidence' | 'pValue'> {
  /** `atSeconds`: the block's time since the begin. */
  add(block: Block, atSeconds: number): void;
}

function testOf<Block>(process: EProcess, add: (block: Block, atSeconds: number) => void): SequentialTest<Block> {
  return {
    add,
    get evidence() {
      return process.evidence;
    },
    get pValue() {
      return process.pValue;
    },
  };
}

/** Tests that events are no more frequent in the challenger than in the champion, block by block: a mixture of `logOddsEvidence`. */
export function testRateNotHigher(): SequentialTest<RatePair> {
  const process = createEProcess(WEIGHTS);
  return testOf(process, (block, atSeconds) => {
    process.update((i) => logOddsEvidence(block, LOG_ODDS[i] as number), atSeconds);
  });
}

/**
 * Tests that a share is at most `limit`: the likelihood ratio of greater shares to the limit, whose mean is 1 at the limit and
 * less below it, mixed over their odds. Source: A. Wald, "Sequential tests of statistical hypotheses", 1945; H. Robbins 1970.
 */
export function testShareAtMost(limit: number): SequentialTest<{ readonly total: number; readonly events: number }> {
  const process = createEProcess(WEIGHTS);
  const ratios = ODDS.map(([odds]) => {
    const share = (odds * limit) / (1 - limit + odds * limit);
    return { event: Math.log(share / limit), none: Math.log((1 - share) / (1 - limit)) };
  });
  return testOf(process, ({ total, events }, atSeconds) => {
    process.update((i) => events * (ratios[i]?.event ?? 0) + (total - events) * (ratios[i]?.none ?? 0), atSeconds);
  });
}
