import type { RawColumn } from '../../contracts/columns.ts';
import type { CategorySource } from './fitted-features.ts';

/** Category codes of a column: `codes[row]` points into `keys`, -1 is missing. Keys are as the graph sees them. */
export interface CategoryCodes {
  readonly source: CategorySource;
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
