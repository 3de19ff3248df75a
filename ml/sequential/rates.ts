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

/** How long a sprint runs, and how far apart two begin, in seconds. */
const SPRINT_SECONDS = 58;
const BETWEEN_SPRINTS_SECONDS = 10;
/** Part of the sprints' evidence with which the first one runs; after so many seconds half of the rest has run. */
const FIRST_SPRINT = 0.4;
const SPRINTS_HALF_SECONDS = 600;
/** Odds that a sprint bets on at most. */
const MOST_LOG_ODDS = Math.log(8);
/** Part of the evidence that runs in sprints. */
const SPRINTING = 0.6;

/** Variance of the tried group's events in a table, given its margins. */
function varianceOf({ triedTotal: tried, rulingTotal: ruling, triedEvents, rulingEvents }: RatePair): number {
  const [n, events] = [tried + ruling, triedEvents + rulingEvents];
  return n < 2 ? 0 : (events * tried * ruling * (n - events)) / (n * n * (n - 1));
}

/**
 * Evidence that plays for reaching `target` within a minute instead of growing fastest: what is wrong since a minute is seen with
 * more power than a likelihood ratio has. Each sprint's log odds at a block are those of the option that pays when the score ends
 * far enough up, h(d) ÷ √v: d from the sprint's evidence, v the variance that the rest of its time is expected to bring. They are
 * known before it is seen whose events the block's are, so that each sprint is a supermartingale as any product of `logOddsEvidence`
 * is; what a sprint has left at its end goes back to what later ones begin with. Source of the stakes: H. Föllmer, P. Leukert,
 * "Quantile hedging", Finance and Stochastics 1999 (reaching a goal by a time with the greatest chance).
 */
function createSprints(target: number): { update(block: RatePair, atSeconds: number): void; readonly evidence: number } {
  let sprints: { wealth: number; readonly untilSeconds: number }[] = [];
  let kept = 1;
  let seconds = 0;
  let lastBegun = Number.NEGATIVE_INFINITY;
  /** Of variance, and of the seconds that brought it; older ones weigh less. */
  const seen = { variance: 0, seconds: 0 };
  return {
    update(block, atSeconds) {
      const passed = Math.max(0, atSeconds - seconds);
      seconds = Math.max(seconds, atSeconds);
      for (const sprint of sprints) if (seconds > sprint.untilSeconds) kept += sprint.wealth;
      sprints = sprints.filter(({ untilSeconds }) => seconds <= untilSeconds);
      if (seconds - lastBegun >= BETWEEN_SPRINTS_SECONDS) {
        const elapsed = Math.min(seconds - lastBegun, 10 * BETWEEN_SPRINTS_SECONDS);
        const wealth = kept * (lastBegun === Number.NEGATIVE_INFINITY ? FIRST_SPRINT : elapsed / (SPRINTS_HALF_SECONDS + seconds));
        kept -= wealth;
        lastBegun = seconds;
        sprints.push({ wealth, untilSeconds: seconds + SPRINT_SECONDS });
      }
      const variance = varianceOf(block);
      const aSecond = seen.seconds === 0 ? variance : seen.variance / seen.seconds;
      for (const sprint of sprints) {
        const reaching = Math.min(0.99, Math.max(1e-100, sprint.wealth / target));
        if (sprint.wealth >= target) continue;
        const rest = Math.max(variance, aSecond * Math.max(1, sprint.untilSeconds - seconds));
        // √(2 ln 1/p) − 0.35 is within a twentieth of φ(d) ÷ (1 − Φ(d)) at 1 − Φ(d) = p where it matters
        const hazard = Math.max(0, Math.sqrt(-2 * Math.log(reaching)) - 0.35);
        if (rest > 0) sprint.wealth *= Math.exp(logOddsEvidence(block, Math.min(MOST_LOG_ODDS, hazard / Math.sqrt(rest))));
      }
      const keep = 0.5 ** (passed / 60);
      seen.variance = seen.variance * keep + variance;
      seen.seconds = seen.seconds * keep + passed;
    },
    get evidence() {
      return sprints.reduce((sum, { wealth }) => sum + wealth, kept);
    },
  };
}

/**
 * Tests that events are no more frequent in the challenger than in the champion, block by block: a mixture of `logOddsEvidence`,
 * which finds small differences in time, and of sprints, which find great ones soon. It is valid at every level, and made for `level`.
 */
export function testRateNotHigher(level = 0.05): SequentialTest<RatePair> {
  const process = createEProcess(WEIGHTS);
  const sprints = createSprints(1 / (level * SPRINTING));
  let greatest = 1;
  const evidence = (): number => (1 - SPRINTING) * process.evidence + SPRINTING * sprints.evidence;
  return {
    add(block, atSeconds) {
      process.update((i) => logOddsEvidence(block, LOG_ODDS[i] as number), atSeconds);
      sprints.update(block, atSeconds);
      greatest = Math.max(greatest, evidence());
    },
    get evidence() {
      return evidence();
    },
    get pValue() {
      return 1 / greatest;
    },
  };
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
