import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { binOf, binText } from './bins.ts';
import type { CategorySource, CrossPart } from './fitted-features.ts';
import { joinHashes, murmurHashOfNumber, murmurHashOfText } from './murmur-hash.ts';

/** Category codes of a column: `codes[row]` points into `keys`, -1 is missing. Keys are as the graph sees them. */
export interface CategoryCodes {
  readonly source: CategorySource | 'cross';
  readonly codes: Int32Array;
  readonly keys: readonly (string | number)[];
}

/** A text as the graph sees it: well-formed, and ended by its first `\u0000`. */
export function graphText(value: string): string {
  const end = value.indexOf('\0');
  return toWellFormed(end < 0 ? value : value.slice(0, end));
}

/** Lone surrogates become U+FFFD, as the UTF-8 of the graph's input has them. */
function toWellFormed(value: string): string {
  return /[\ud800-\udfff]/.test(value) ? Buffer.from(value, 'utf8').toString('utf8') : value;
}

/** Categories of a text or number column, numbers as float32; a timestamp has none. */
export function categoryCodes(column: Exclude<RawColumn, { kind: 'timestamp' }>): CategoryCodes {
  if (column.kind === 'string') {
    // Two dictionary entries may become the same text, so they are numbered anew.
    const indexOf = new Map<string, number>();
    const keys: string[] = [];
    const renumbered = Int32Array.from(column.dictionary, (entry) => {
      const text = graphText(entry);
      if (text === '') return -1;
      const known = indexOf.get(text);
      if (known !== undefined) return known;
      indexOf.set(text, keys.length);
      return keys.push(text) - 1;
    });
    return { source: 'string', keys, codes: column.codes.map((code) => (code < 0 ? -1 : (renumbered[code] ?? -1))) };
  }
  const indexOf = new Map<number, number>();
  const keys: number[] = [];
  const codes = new Int32Array(column.values.length);
  for (let row = 0; row < codes.length; row++) {
    const value = Math.fround(column.values[row] ?? Number.NaN);
    let code = -1;
    if (!Number.isNaN(value)) {
      const known = indexOf.get(value);
      if (known === undefined) {
        code = keys.push(value === 0 ? 0 : value) - 1;
        indexOf.set(value, code);
      } else code = known;
    }
    codes[row] = code;
  }
  return { source: 'number', codes, keys };
}

/** Rows' places in a dictionary, by the dictionary's own keys: -1 for a missing value, `other` for an unknown key. */
export function placesOf(coded: CategoryCodes, keys: readonly (string | number)[], other: number): Int32Array {
  const places = new Map(keys.map((key, place) => [key, place]));
  return Int32Array.from(coded.keys, (key) => places.get(key) ?? other);
}

/** Whole numbers that a part of a cross can be. */
export const partSize = (part: CrossPart): number => ('keys' in part ? part.keys.length : 'edges' in part ? part.edges.length + 1 : 0) + 2;

/** What a part of a cross is in each row: its place, or the hash of its value. */
function partNumbers(part: CrossPart, column: Exclude<RawColumn, { kind: 'timestamp' }>): Float64Array {
  if ('edges' in part) {
    const values = column.kind === 'number' ? column.values : new Float64Array(0);
    return values.map((value) => {
      const bin = binOf(part.edges, Math.fround(value));
      return bin < 0 ? partSize(part) - 1 : bin;
    });
  }
  const coded = categoryCodes(column);
  if ('keys' in part) {
    const places = placesOf(coded, part.keys, part.keys.length);
    return Float64Array.from(coded.codes, (code) => (code < 0 ? part.keys.length + 1 : (places[code] ?? part.keys.length)));
  }
  const hashes = Float64Array.from(coded.keys, hashOfKey);
  // The empty text hashes to 0, and so a missing value does.
  return Float64Array.from(coded.codes, (code) => hashes[code] ?? 0);
}

/** Whether a cross has no list of its combinations: it joins hashes. */
export const isHashed = (parts: readonly CrossPart[]): boolean => parts.some((part) => !('keys' in part || 'edges' in part));

/** Several columns' values taken together: one whole number for each combination. */
export function crossCodes(parts: readonly CrossPart[], table: RawTable): CategoryCodes {
  const numbers = parts.map((part) => {
    const column = table.columns.get(part.column);
    return column === undefined || column.kind === 'timestamp' ? new Float64Array(table.rows) : partNumbers(part, column);
  });
  const hashed = isHashed(parts);
  const sizes = parts.map(partSize);
  const indexOf = new Map<number, number>();
  const keys: number[] = [];
  const codes = new Int32Array(table.rows);
  for (let row = 0; row < table.rows; row++) {
    let combined = 0;
    numbers.forEach((values, i) => {
      const value = values[row] ?? 0;
      combined = hashed ? joinHashes(combined, value) : combined * (sizes[i] ?? 1) + value;
    });
    let code = indexOf.get(combined);
    if (code === undefined) {
      code = keys.push(combined) - 1;
      indexOf.set(combined, code);
    }
    codes[row] = code;
  }
  return { source: 'cross', codes, keys };
}

/** A crossed key in words, for names: `JFK×[10,20)`. */
export function crossText(parts: readonly CrossPart[], key: number): string {
  const texts: string[] = [];
  let rest = key;
  for (const part of [...parts].reverse()) {
    const size = partSize(part);
    const place = rest % size;
    rest = Math.floor(rest / size);
    if (place === size - 1) texts.unshift('(missing)');
    else if ('edges' in part) texts.unshift(binText(part.edges, place));
    else texts.unshift('keys' in part && place < part.keys.length ? String(part.keys[place]) : '(other)');
  }
  return texts.join('×');
}

/** What is hashed of a category: a text's UTF-8 bytes, a number's float32. */
export const hashOfKey = (key: string | number): number => (typeof key === 'string' ? murmurHashOfText(key) : murmurHashOfNumber(key));
