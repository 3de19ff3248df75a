/** Temporal takes no shorter catch-up window. */
export const LEAST_CATCH_UP_MS = 10_000;
const DAY_MS = 86_400_000;

/** The shortest time between the next starts, which is what a missed start may be late by. */
export function shortestInterval(times: readonly Date[]): number | undefined {
  const gaps = times.slice(1).map((time, i) => time.getTime() - (times[i]?.getTime() ?? 0));
  return gaps.length === 0 ? undefined : Math.min(...gaps);
}

/**
 * How late a missed start is made up for: what is wanted, or one interval of the schedule itself. Temporal's own default is
 * a year: a stack that was left down would start all that it missed.
 */
export const catchUpWindowMs = (wantedMs: number | undefined, next: readonly Date[]): number =>
  Math.max(LEAST_CATCH_UP_MS, wantedMs ?? shortestInterval(next) ?? DAY_MS);
