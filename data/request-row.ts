/**
 * A request's rows on their way into the graph: checked by the signature, through the row transforms, packed by kind.
 * This is what every prediction pays for: one array of slots is used again and again, and checks are made per column once.
 *
 * Invariants:
 * 1. Every problem of a row is reported, with the row's number and the column; a row with problems leaves no trace.
 * 2. A column that is named by the signature has to be there; null says that it is not known. Columns that the signature
 *    does not name are ignored.
 * 3. Numbers that are null become NaN, dates the least int64, texts the single character U+0000.
 */
import type { ColumnType } from '../contracts/columns.ts';
import type { Problem } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import { compileRowProgram, type RowValue } from './row-transforms.ts';
import { inCalendar, parseTimestamp, wellFormed } from './row-text.ts';

/** Rows as the graph takes them, row after row. */
export interface PackedRows {
  readonly numbers: Float32Array;
  readonly dates: BigInt64Array;
  readonly strings: string[];
}

export interface RowReader {
  /** Room for so many rows. */
  allocate(rows: number): PackedRows;
  /**
   * Packs the request's row `row` at place `at`. Gives undefined, or what is wrong with it.
   * The reader is not to be shared between threads; it keeps nothing between calls.
   */
  read(values: unknown, row: number, packed: PackedRows, at: number): readonly Problem[] | undefined;
}

const NULL_DATE = -(2n ** 63n);
const NULL_TEXT = '\u0000';
const SHOWN_CHARACTERS = 40;

/** What does not fit: a value that is no `RowValue`. */
const WRONG = Symbol('wrong');
type Coerce = (value: unknown) => RowValue | typeof WRONG;

const asNumber: Coerce = (value) =>
  typeof value === 'number' && Number.isFinite(value) ? value : value === null ? null : typeof value === 'boolean' ? Number(value) : WRONG;
const asInstant: Coerce = (value) => {
  if (value === null) return null;
  if (typeof value === 'number') return inCalendar(value) ? Math.floor(value) : WRONG;
  return typeof value === 'string' ? (parseTimestamp(value) ?? WRONG) : WRONG;
};
const COERCE: Readonly<Record<ColumnType, Coerce>> = {
  number: asNumber,
  integer: (value) => {
    const number = asNumber(value);
    return typeof number === 'number' && !Number.isInteger(number) ? WRONG : number;
  },
  boolean: (value) => (typeof value === 'boolean' || value === null ? value : value === 0 || value === 1 ? value === 1 : WRONG),
  string: (value) => (typeof value === 'string' ? wellFormed(value) : value === null ? null : WRONG),
  timestamp: asInstant,
  date: (value) => {
    const instant = asInstant(value);
    return typeof instant === 'number' ? Math.floor(instant / 86_400_000) * 86_400_000 : instant;
  },
};
const EXPECTED: Readonly<Record<ColumnType, string>> = {
  number: 'a finite number or null',
  integer: 'a whole number or null',
  boolean: 'true, false or null',
  string: 'a text or null',
  timestamp: 'an ISO date and time, milliseconds since 1970 UTC, or null',
  date: 'an ISO date, or null',
};

/** A request's value as a column of that type has it; undefined where it does not fit. */
export function coerceValue(type: ColumnType, value: unknown): RowValue | undefined {
  const coerced = COERCE[type](value);
  return coerced === WRONG ? undefined : coerced;
}

/** What a column of that type takes, in words. */
export const expectedValue = (type: ColumnType): string => EXPECTED[type];

/**
 * Compiles a signature into a reader.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS where the signature contradicts itself; INVALID_CONFIG where a hash has no key
 */
export function createRowReader(signature: Pick<Signature, 'columns' | 'transforms' | 'graph'>, hashKey?: string): RowReader {
  const { columns, transforms, graph } = signature;
  const program = compileRowProgram(transforms, columns, hashKey);
  const slotOf = new Map(program.columns.map(({ name, slot }) => [name, slot]));
  const slotsOf = (names: readonly string[]): Int32Array => Int32Array.from(names, (name) => slotOf.get(name) ?? -1);
  const [numberSlots, dateSlots, textSlots] = [slotsOf(graph.numbers), slotsOf(graph.dates), slotsOf(graph.strings)];
  const names = columns.map(({ name }) => name);
  const coerce = columns.map(({ type }) => COERCE[type]);
  // A name such as "constructor" must not be found on the prototype; of all others reading is enough.
  const inherited = names.map((name) => name in Object.prototype);
  const slots = new Array<RowValue>(program.slotCount).fill(null);

  const problemOf = (row: number, column: number, value: unknown): Problem => {
    const { name = '', type = 'string' } = columns[column] ?? {};
    const place = { path: `rows[${row}].${name}`, row, column: name };
    if (value === undefined)
      return { ...place, message: `The column ${name} is missing.`, fix: `A row has the columns ${names.join(', ')}; a value that is not known is null.` };
    return { ...place, message: `${name} has to be ${EXPECTED[type]}.`, found: shown(value) };
  };

  return {
    allocate: (rows) => ({
      numbers: new Float32Array(rows * numberSlots.length),
      dates: new BigInt64Array(rows * dateSlots.length),
      strings: new Array<string>(rows * textSlots.length).fill(NULL_TEXT),
    }),
    read(values, row, packed, at) {
      if (typeof values !== 'object' || values === null || Array.isArray(values)) {
        return [{ path: `rows[${row}]`, row, message: 'A row has to be an object: column name → value.', found: shown(values) }];
      }
      const record = values as Readonly<Record<string, unknown>>;
      let problems: Problem[] | undefined;
      for (let index = 0; index < names.length; index++) {
        const name = names[index] ?? '';
        const value = inherited[index] === true && !Object.hasOwn(record, name) ? undefined : record[name];
        const coerced = coerce[index]?.(value) ?? null;
        if (coerced === WRONG) (problems ??= []).push(problemOf(row, index, value));
        else slots[index] = coerced;
      }
      if (problems !== undefined) return problems;
      program.run(slots);
      const { numbers, dates, strings } = packed;
      let to = at * numberSlots.length;
      for (const slot of numberSlots) {
        const value = slots[slot];
        numbers[to++] = typeof value === 'number' ? value : typeof value === 'boolean' ? (value ? 1 : 0) : NaN;
      }
      to = at * dateSlots.length;
      for (const slot of dateSlots) {
        const value = slots[slot];
        dates[to++] = typeof value === 'number' ? BigInt(value) : NULL_DATE;
      }
      to = at * textSlots.length;
      for (const slot of textSlots) {
        const value = slots[slot];
        strings[to++] = typeof value === 'string' ? value : value === null || value === undefined ? NULL_TEXT : String(value);
      }
      return undefined;
    },
  };
}

/** A wrong value as an error shows it: its type and, where short, its text. Objects are named, not shown. */
function shown(value: unknown): string {
  if (typeof value === 'string') return `text of ${value.length} characters`;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value).slice(0, SHOWN_CHARACTERS);
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value;
}
