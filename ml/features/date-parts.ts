import type { DatePart } from './fitted-features.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** Days from 0000-03-01 to 1970-01-01. */
const EPOCH_SHIFT_DAYS = 719_468;
const DAYS_IN_400_YEARS = 146_097;
/** The range of JavaScript's Date; outside it an instant is taken as missing. */
const MAX_INSTANT_MS = 8.64e15;

/** Whole milliseconds of an instant, or NaN when it is missing or out of the range of JavaScript's Date. */
export function wholeMilliseconds(instantMs: number): number {
  const whole = Math.floor(instantMs);
  return Math.abs(whole) <= MAX_INSTANT_MS ? whole : Number.NaN;
}

/** Least residue, for numbers below 0 too. */
const modulo = (a: number, b: number): number => a - Math.floor(a / b) * b;

/**
 * One part of an instant in UTC (ranges stand at the contract's DatetimeFeatureSchema), by whole-number arithmetic
 * before 1970 too; NaN for a missing instant. Formula: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
 * civil_from_days, with years that begin in March.
 */
export function datePart(instantMs: number, part: DatePart): number {
  const ms = wholeMilliseconds(instantMs);
  if (Number.isNaN(ms)) return Number.NaN;
  const days = Math.floor(ms / DAY_MS);
  switch (part) {
    case 'epochDays':
      return days;
    case 'dayOfWeek':
      return modulo(days + 4, 7);
    case 'hour':
      return Math.floor(modulo(ms, DAY_MS) / HOUR_MS);
    case 'minute':
      return Math.floor(modulo(ms, HOUR_MS) / MINUTE_MS);
    default:
      return civilPart(days, part);
  }
}

function civilPart(days: number, part: 'year' | 'month' | 'day' | 'dayOfYear'): number {
  const shifted = days + EPOCH_SHIFT_DAYS;
  const era = Math.floor(shifted / DAYS_IN_400_YEARS);
  const dayOfEra = shifted - era * DAYS_IN_400_YEARS;
  const yearOfEra = Math.floor((dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365);
  const dayFromMarch = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayFromMarch + 2) / 153);
  const inNextYear = monthFromMarch >= 10 ? 1 : 0;
  switch (part) {
    case 'year':
      return yearOfEra + era * 400 + inNextYear;
    case 'month':
      return monthFromMarch + 3 - 12 * inNextYear;
    case 'day':
      return dayFromMarch - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
    case 'dayOfYear': {
      // January and February follow 306 days after 1 March; the other months come 59 or, in a leap year, 60 days in.
      const leap = yearOfEra % 4 === 0 && (yearOfEra % 100 !== 0 || yearOfEra === 0) ? 1 : 0;
      return inNextYear === 1 ? dayFromMarch - 305 : dayFromMarch + 60 + leap;
    }
  }
}
