import type { StopRule } from '../../contracts/tuning.ts';
import type { Direction, Observation } from './parameters.ts';

/**
 * When a trial is stopped early. What it takes to go on is known before the trial begins, since it depends on trials that
 * have ended only; so a trial carries its limits with it, and is stopped where it runs.
 */
export interface RungLimit {
  /** How far training is, 0 … 1. */
  readonly fraction: number;
  /** Goes on when at least as good as this; null: goes on in any case. */
  readonly limit: number | null;
}

export interface TrialLimits {
  /** What is held against a limit: the value at the rung, or the best at any rung so far. */
  readonly by: 'last' | 'best';
  readonly rungs: readonly RungLimit[];
}

/** Where trials are looked at: for `asha` 1/η, 1/η² … down to the least, for `median` evenly between. */
function rungsOf(rule: StopRule): readonly number[] {
  if (rule.rule === 'median')
    return Array.from({ length: rule.rungs }, (_, i) => (i + 1) / (rule.rungs + 1)).filter((fraction) => fraction >= rule.leastFraction);
  const rungs: number[] = [];
  for (let fraction = 1 / rule.reduction; fraction >= rule.leastFraction - 1e-12 && rungs.length < 20; fraction /= rule.reduction) rungs.unshift(fraction);
  return rungs;
}

/**
 * The limits of the next trial.
 *
 * - `median`: at each rung the median of the completed trials' values there, once enough have completed; held against the
 *   trial's best value so far (Optuna's MedianPruner).
 * - `asha`: at each rung the value that the best 1/η of all that reached it have, the trial itself among them (Li et al.
 *   2020, in the variant of Optuna's SuccessiveHalvingPruner: what is stopped is not taken up again).
 */
export function trialLimits(rule: StopRule | null, direction: Direction, observations: readonly Observation[]): TrialLimits | null {
  if (rule === null) return null;
  const sign = direction === 'minimize' ? 1 : -1;
  const completed = observations.filter(({ state }) => state === 'completed');
  const limitAt = (fraction: number): number | null => {
    const at = (of: readonly Observation[]): number[] =>
      of
        .flatMap(({ rungs }) => rungs.find((rung) => Math.abs(rung.fraction - fraction) < 1e-9)?.value ?? [])
        .filter((value) => !Number.isNaN(value))
        .sort((a, b) => sign * (a - b));
    if (rule.rule === 'median') {
      const values = completed.length < rule.startupTrials ? [] : at(completed);
      const middle = (values.length - 1) / 2;
      const [low, high] = [values[Math.floor(middle)], values[Math.ceil(middle)]];
      return low === undefined || high === undefined ? null : (low + high) / 2;
    }
    const values = at(observations);
    const places = Math.max(1, Math.floor((values.length + 1) / rule.reduction));
    return values[places - 1] ?? null;
  };
  return { by: rule.rule === 'median' ? 'best' : 'last', rungs: rungsOf(rule).map((fraction) => ({ fraction, limit: limitAt(fraction) })) };
}

/** Whether a trial with these values at its rungs so far, the last of them at `limit`, goes on. */
export function goesOn(by: TrialLimits['by'], limit: number | null, valuesSoFar: readonly number[], direction: Direction): boolean {
  const sign = direction === 'minimize' ? 1 : -1;
  const last = valuesSoFar.at(-1) ?? Number.NaN;
  const known = valuesSoFar.filter((value) => !Number.isNaN(value));
  const value = by === 'last' ? last : known.length === 0 ? Number.NaN : sign * Math.min(...known.map((v) => sign * v));
  // a value that is not a number is as bad as can be, also where there is nothing to compare with
  if (Number.isNaN(value)) return false;
  return limit === null || sign * value <= sign * limit;
}
