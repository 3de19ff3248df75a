/**
 * Text as DuckDB treats it, said again in JavaScript: what a snapshot's column holds and what a request's row gets have
 * to be the same characters. Tested against DuckDB over all of Unicode.
 */
const ASCII = /^[\0-\x7f]*$/;

/** Letters that got their other case after Unicode 15.1, which DuckDB knows: both engines leave them as they are. */
const CASELESS: readonly (readonly [number, number])[] = [
  [0x19b, 0x19b],
  [0x264, 0x264],
  [0x1c89, 0x1c8a],
  [0xa7cb, 0xa7cf],
  [0xa7d2, 0xa7d5],
  [0xa7da, 0xa7dc],
  [0x10d50, 0x10d85],
  [0x16ea0, 0x16ed3],
];
const isCaseless = (code: number): boolean => code >= 0x19b && CASELESS.some(([from, to]) => code >= from && code <= to);

/** Letters whose full upper case is several letters: DuckDB takes the single title-case one. */
function simpleUpper(code: number): number | undefined {
  if (code === 0xdf) return 0x1e9e;
  if ((code >= 0x1f80 && code <= 0x1f87) || (code >= 0x1f90 && code <= 0x1f97) || (code >= 0x1fa0 && code <= 0x1fa7)) return code + 8;
  if (code === 0x1fb3 || code === 0x1fc3 || code === 0x1ff3) return code + 9;
  return undefined;
}

const oneLetter = (mapped: string, letter: string): string => (mapped.length === letter.length || [...mapped].length === 1 ? mapped : letter);

/** Upper case, letter by letter: the text keeps its number of letters. */
export function upperCase(text: string): string {
  if (ASCII.test(text)) return text.toUpperCase();
  let out = '';
  for (const letter of text) {
    const code = letter.codePointAt(0) ?? 0;
    const simple = simpleUpper(code);
    out += simple === undefined ? (isCaseless(code) ? letter : oneLetter(letter.toUpperCase(), letter)) : String.fromCodePoint(simple);
  }
  return out;
}

/** Lower case, letter by letter. */
export function lowerCase(text: string): string {
  if (ASCII.test(text)) return text.toLowerCase();
  let out = '';
  for (const letter of text) {
    const code = letter.codePointAt(0) ?? 0;
    out += code === 0x130 ? 'i' : isCaseless(code) ? letter : oneLetter(letter.toLowerCase(), letter);
  }
  return out;
}

/** What `trim` takes off both ends: exactly what JavaScript's own does, given to DuckDB as a list. */
export const WHITE_SPACE = '\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff';

/** Order of code points, which is the order of UTF-8 bytes: JavaScript's own order of 16-bit units differs beyond U+FFFF. */
export function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) {
      const leftHigh = left >= 0xd800 && left <= 0xdfff;
      const rightHigh = right >= 0xd800 && right <= 0xdfff;
      return leftHigh === rightHigh ? left - right : leftHigh ? 1 : -1;
    }
  }
  return a.length - b.length;
}

/** Number of code points. */
export function textLength(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      length--;
      i++;
    }
  }
  return length;
}

/** Code points `start` (from 1) to `start + length - 1`. */
export function substringOf(text: string, start: number, length: number): string {
  if (ASCII.test(text)) return text.slice(start - 1, start - 1 + length);
  return [...text].slice(start - 1, start - 1 + length).join('');
}

/** Text whose lone surrogates, which UTF-8 cannot hold, are U+FFFD. */
export function wellFormed(text: string): string {
  return text.toWellFormed();
}

/** A number as text: whole numbers below 10^15 without a point, others by their shortest digits, as DuckDB writes a DOUBLE. */
export function numberText(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value === 0 ? 0 : value);
  const [mantissa = '', exponentText = '0'] = value.toExponential().split('e');
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    return `${mantissa}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const sign = value < 0 ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '');
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`;
}

/** Texts that `toNumber` reads, after trimming. Others become null. */
export const NUMBER_PATTERN = '[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,6})?';
const NUMBER = new RegExp(`^${NUMBER_PATTERN}$`);

export function parseNumber(text: string): number | null {
  const trimmed = text.trim();
  if (!NUMBER.test(trimmed)) return null;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : null;
}

/** Texts that `toTimestamp` reads, after trimming: an ISO date, with time, fraction and offset if need be. No offset is UTC. */
export const TIMESTAMP_PATTERN = '([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.]([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?';
const TIMESTAMP = new RegExp(`^${TIMESTAMP_PATTERN}$`);
const MINUTE_MS = 60_000;
const DAYS_OF_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Milliseconds since 1970 UTC of a text, or null where it is no date of the years 1–9999. Fractions of a millisecond are cut. */
export function parseTimestamp(text: string): number | null {
  const match = TIMESTAMP.exec(text.trim());
  if (match === null) return null;
  const part = (index: number): number => Number(match[index] ?? 0);
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)];
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > (DAYS_OF_MONTH[month - 1] ?? 0) || hour > 23 || minute > 59 || second > 59) return null;
  if (month === 2 && day === 29 && (year % 4 !== 0 || (year % 100 === 0 && year % 400 !== 0))) return null;
  const millisecond = Number((match[7] ?? '').slice(0, 3).padEnd(3, '0'));
  // Date.UTC reads years below 100 as 1900 and later.
  const at = new Date(0);
  at.setUTCFullYear(year, month - 1, day);
  at.setUTCHours(hour, minute, second, millisecond);
  const zone = match[8];
  if (zone === undefined || zone === 'Z') return at.getTime();
  const zoneHours = Number(zone.slice(1, 3));
  const zoneMinutes = Number(zone.slice(4, 6));
  if (zoneHours > 15 || zoneMinutes > 59) return null;
  const shifted = at.getTime() - (zone.startsWith('-') ? -1 : 1) * (zoneHours * 60 + zoneMinutes) * MINUTE_MS;
  return inCalendar(shifted) ? shifted : null;
}

const FIRST_MS = Date.parse('0001-01-01T00:00:00.000Z');
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z');
export const CALENDAR_MS = { first: FIRST_MS, last: LAST_MS } as const;
/** Whether milliseconds fall into the years 1–9999, outside of which neither engine's calendar text can be relied on. */
export const inCalendar = (ms: number): boolean => ms >= FIRST_MS && ms <= LAST_MS;
