/**
 * Evidence against a hypothesis that may be looked at whenever one likes.
 *
 * Invariants:
 * 1. While the hypothesis holds, the evidence is a nonnegative supermartingale that begins at 1: whatever rule ends the
 *    looking, P(it ever reaches 1/α) ≤ α (J. Ville 1939; A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, "Game-theoretic
 *    statistics and safe anytime-valid inference", Statistical Science 2023).
 * 2. It only depends on what was added, in the order in which it was added: adding the same again gives the same.
 */
export interface EProcess {
  /**
   * Multiplies in what one more block says. `logFactor(i)`: ln of a factor whose mean given all before (and given what the
   * i-th alternative may know of the block) is at most 1 under the hypothesis. `atSeconds`: the block's time since the begin.
   */
  update(logFactor: (i: number) => number, atSeconds: number): void;
  /** The evidence now. */
  readonly evidence: number;
  /** 1 ÷ the greatest evidence so far, at most 1: a p-value that is valid at every time. */
  readonly pValue: number;
}

/** Evidence is kept below this: it says all there is to say, and products stay finite. */
const ENOUGH = 1e100;
/** After so many seconds half of what was kept back is in play: ten minutes, as a usual step of a rollout. */
const HALF_RELEASED_SECONDS = 600;

/**
 * The mixture of one factor a weighted alternative (H. Robbins, "Statistical methods related to the law of the iterated
 * logarithm", 1970), of which a part is kept back at the begin and put in later: an alternative that becomes true after an
 * hour is not held against the hour before. The sum over starting times is a supermartingale as each summand is
 * (J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2022, with
 * weights that sum to one instead of a running sum). `atOnce` is the part that begins with the first block.
 */
export function createEProcess(weights: readonly number[], atOnce = 0.6): EProcess {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const prior = weights.map((weight) => weight / total);
  const wealth = Float64Array.from(prior, (weight) => weight * atOnce);
  let kept = 1 - atOnce;
  let seconds = 0;
  let evidence = 1;
  let greatest = 1;
  return {
    update(logFactor, atSeconds) {
      seconds = Math.max(seconds, atSeconds);
      const keeps = ((1 - atOnce) * HALF_RELEASED_SECONDS) / (HALF_RELEASED_SECONDS + seconds);
      const released = Math.max(0, kept - keeps);
      kept -= released;
      let sum = kept;
      for (const [i, share] of prior.entries()) {
        const next = Math.min(ENOUGH, ((wealth[i] ?? 0) + released * share) * Math.exp(Math.min(200, logFactor(i))));
        wealth[i] = next;
        sum += next;
      }
      evidence = sum;
      greatest = Math.max(greatest, sum);
    },
    get evidence() {
      return evidence;
    },
    get pValue() {
      return 1 / greatest;
    },
  };
}
