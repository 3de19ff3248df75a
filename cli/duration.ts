import { MillraceError } from '../contracts/errors.ts';

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  second: 1_000,
  seconds: 1_000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  hours: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
  days: 86_400_000,
};

/**
 * A duration as it is typed on a command line, in milliseconds: `30s`, `15 minutes`, `1h`, `2 days`.
 *
 * @throws USAGE when it has no unit that is known, or is not positive.
 */
export function parseDurationMs(option: string, text: string): number {
  const [, value, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const ms = Number(value) * (UNITS_MS[unit?.toLowerCase() ?? ''] ?? Number.NaN);
  if (!(ms > 0)) throw new MillraceError('USAGE', `${option}: "${text}" is not a duration.`, { fix: 'Write a number with its unit: 30s, 15m, 1h, 2d.' });
  return Math.round(ms);
}

/** A whole number above 0. @throws USAGE */
export function parseCount(option: string, text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new MillraceError('USAGE', `${option}: "${text}" is not a whole number above 0.`, { fix: `Write ${option} 20.` });
  return Number(text);
}

/** A UTC ISO instant. @throws USAGE */
export function parseInstant(option: string, text: string): Date {
  const date = new Date(/[Zz]|[+-]\d\d:?\d\d$/.test(text) || /^\d{4}-\d\d-\d\d$/.test(text) ? text : `${text}Z`);
  if (Number.isNaN(date.getTime())) throw new MillraceError('USAGE', `${option}: "${text}" is not a time.`, { fix: `Write ${option} 2026-01-31T08:00:00Z.` });
  return date;
}
