/**
 * Days and times of day in a time zone, as instants. Pure: zones and their changes come from the runtime's own tables
 * (`Intl`), which workflow code may use too.
 */
export interface LocalDay {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
}

const DAY_MS = 86_400_000;

/** Whether the runtime knows the time zone: `UTC`, `Europe/Berlin`. */
export function isTimeZone(zone: string): boolean {
  try {
    return formatterOf(zone).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

/** The day of the calendar there. */
export function localDay(atMs: number, timeZone: string): LocalDay {
  const wall = new Date(atMs + offsetMs(atMs, timeZone));
  return { year: wall.getUTCFullYear(), month: wall.getUTCMonth() + 1, day: wall.getUTCDate() };
}

/** So many days later, or earlier; months and years are carried. */
export function addDays({ year, month, day }: LocalDay, days: number): LocalDay {
  const date = new Date(Date.UTC(year, month - 1, day) + days * DAY_MS);
  return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() };
}

/** 0 (Sunday) to 6. */
export const weekdayOf = ({ year, month, day }: LocalDay): number => new Date(Date.UTC(year, month - 1, day)).getUTCDay();

/**
 * When a clock there shows so many minutes after midnight, in milliseconds of the epoch. A time that comes twice, when clocks
 * are put back, is the first or the second as asked; one that a clock skips is as much later as clocks are put forward.
 */
export function localInstant({ year, month, day }: LocalDay, minutes: number, timeZone: string, which: 'first' | 'second' = 'first'): number {
  const wallMs = Date.UTC(year, month - 1, day) + minutes * 60_000;
  const before = offsetMs(wallMs - DAY_MS, timeZone);
  const after = offsetMs(wallMs + DAY_MS, timeZone);
  const fitting = [...new Set([before, after])].map((offset) => wallMs - offset).filter((ms) => ms + offsetMs(ms, timeZone) === wallMs);
  if (fitting.length === 0) return wallMs - before;
  return which === 'first' ? Math.min(...fitting) : Math.max(...fitting);
}

/** What a clock there shows, less what one of UTC shows. */
function offsetMs(atMs: number, timeZone: string): number {
  if (timeZone === 'UTC') return 0;
  const of = Object.fromEntries(
    formatterOf(timeZone)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = of;
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(atMs / 1_000) * 1_000;
}

/** One is slow to make, and does not change. */
const formatters = new Map<string, Intl.DateTimeFormat>();

function formatterOf(timeZone: string): Intl.DateTimeFormat {
  const known = formatters.get(timeZone);
  if (known) return known;
  const made = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  formatters.set(timeZone, made);
  return made;
}
