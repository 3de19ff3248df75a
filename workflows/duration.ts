import { MillraceError } from '../contracts/errors.ts';

/** Milliseconds, or a number with its unit: `'30 seconds'`, `'15 minutes'`, `'1 hour'`, `'3 days'`. */
export type Duration = number | `${number} ${Unit}`;
type Unit = 'ms' | 'second' | 'seconds' | 'minute' | 'minutes' | 'hour' | 'hours' | 'day' | 'days';

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  second: 1_000,
  seconds: 1_000,
  minute: 60_000,
  minutes: 60_000,
  hour: 3_600_000,
  hours: 3_600_000,
  day: 86_400_000,
  days: 86_400_000,
};

/** @throws INVALID_PARAMETERS when it is negative or has an unknown unit. */
export function durationMs(duration: Duration): number {
  const [value, unit] = typeof duration === 'number' ? [duration, 'ms'] : duration.split(' ');
  const ms = Number(value) * (UNITS_MS[unit] ?? Number.NaN);
  if (!Number.isFinite(ms) || ms < 0)
    throw new MillraceError('INVALID_PARAMETERS', `"${String(duration)}" is not a duration.`, {
      fix: `Write a number of milliseconds, or a number and one of ${Object.keys(UNITS_MS).join(', ')}.`,
    });
  return Math.round(ms);
}
