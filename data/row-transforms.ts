/**
 * Row transforms on a request: closures over an array of slots, one slot a column, made once for a signature.
 * Semantics are those of row-transforms-sql.ts, value for value; a property test holds the two together.
 */
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { FunctionName, RowTransform } from '../contracts/row-transforms.ts';
import { type TypedExpression, typeTransforms } from './row-expression.ts';
import { compileHash, hashKeys } from './row-hash.ts';
import { compileReplace, javaScriptPattern } from './row-pattern.ts';
import { compareText, inCalendar, lowerCase, numberText, parseNumber, parseTimestamp, substringOf, textLength, upperCase } from './row-text.ts';

export { pruneTransforms } from './row-expression.ts';

/** number, integer: finite. timestamp, date: milliseconds since 1970 UTC. */
export type RowValue = number | string | boolean | null;
export type Slots = RowValue[];
type Evaluate = (slots: Slots) => RowValue;
type Numeric = (slots: Slots) => number | null;
type Logical = (slots: Slots) => boolean | null;
type Textual = (slots: Slots) => string | null;

export interface RowProgram {
  readonly slotCount: number;
  /** Runs the transforms in place. The first slots are the raw columns in order. */
  readonly run: (slots: Slots) => void;
  /** Columns after the transforms, and the slot that each lies in. */
  readonly columns: readonly (Column & { readonly slot: number })[];
}

/**
 * Compiles transforms into a program over slots. `keep` does nothing here: a request's row is never dropped.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS as `typeTransforms`; INVALID_CONFIG where a hash has no key.
 */
export function compileRowProgram(transforms: readonly RowTransform[], rawColumns: readonly Column[], hashKey?: string): RowProgram {
  const { steps } = typeTransforms(transforms, rawColumns);
  let slotCount = rawColumns.length;
  let columns: readonly (Column & { readonly slot: number })[] = rawColumns.map((column, slot) => ({ ...column, slot }));
  const actions: ((slots: Slots) => void)[] = [];
  for (const step of steps) {
    if (step.kind === 'keep') continue;
    const slots = new Map(columns.map(({ name, slot }) => [name, slot]));
    if (step.kind === 'select') {
      columns = step.columns.map((column, index) => ({ ...column, slot: slots.get(step.from[index] ?? '') ?? 0 }));
      continue;
    }
    const evaluate = compile(step.to, slots, hashKey);
    const target = slotCount++;
    // Signed zeros are not kept, as in the snapshot.
    actions.push((row) => {
      const value = evaluate(row);
      row[target] = value === 0 ? 0 : value;
    });
    columns = step.columns.map((column) => ({ ...column, slot: column.name === step.column ? target : (slots.get(column.name) ?? 0) }));
  }
  const run = (row: Slots): void => {
    for (const action of actions) action(row);
  };
  return { slotCount, run, columns };
}

/** Compiles transforms into a function from a raw row to a transformed one. Timestamps may come as milliseconds, ISO texts or Dates, and leave as milliseconds. */
export function compileRowTransforms(
  transforms: readonly RowTransform[],
  rawColumns: readonly Column[],
  hashKey?: string,
): (row: Readonly<Record<string, unknown>>) => Record<string, RowValue> {
  const program = compileRowProgram(transforms, rawColumns, hashKey);
  return (row) => {
    const slots = new Array<RowValue>(program.slotCount).fill(null);
    rawColumns.forEach(({ name, type }, index) => {
      slots[index] = lenient(row[name], type);
    });
    program.run(slots);
    return Object.fromEntries(program.columns.map(({ name, slot }) => [name, slots[slot] ?? null]));
  };
}

function lenient(value: unknown, type: ColumnType): RowValue {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.getTime();
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'string') return type === 'timestamp' || type === 'date' ? parseTimestamp(value) : value;
  return typeof value === 'boolean' ? value : null;
}

function compile(expression: TypedExpression, slots: ReadonlyMap<string, number>, hashKey: string | undefined): Evaluate {
  switch (expression.op) {
    case 'column': {
      const slot = slots.get(expression.name) ?? 0;
      return (row) => row[slot] ?? null;
    }
    case 'literal': {
      const { value } = expression;
      return () => value;
    }
    case 'hash': {
      if (hashKey === undefined) throw new MillraceError('INVALID_CONFIG', 'The data was hashed with a key, and no key is configured.');
      const hash = compileHash(hashKeys(hashKey));
      const text = toTextOf(expression.value, compile(expression.value, slots, hashKey));
      return (row) => {
        const value = text(row);
        return value === null ? null : hash(value);
      };
    }
    case 'call':
      return compileCall(
        expression,
        expression.args.map((arg) => compile(arg, slots, hashKey)),
      );
  }
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);
const one =
  <In extends RowValue>(f: (row: Slots) => In | null, then: (value: In) => RowValue): Evaluate =>
  (row) => {
    const value = f(row);
    return value === null ? null : then(value);
  };
const two =
  <In extends RowValue>(f: (row: Slots) => In | null, g: (row: Slots) => In | null, then: (a: In, b: In) => RowValue): Evaluate =>
  (row) => {
    const a = f(row);
    if (a === null) return null;
    const b = g(row);
    return b === null ? null : then(a, b);
  };
const fold =
  (terms: readonly Numeric[], then: (a: number, b: number) => number): Evaluate =>
  (row) => {
    let total: number | null = null;
    for (const term of terms) {
      const value = term(row);
      if (value === null) return null;
      total = total === null ? value : then(total, value);
    }
    return total === null ? null : finite(total);
  };

/** Half away from zero, as C's round(). */
const roundHalfAway = (value: number): number => {
  const whole = Math.trunc(value);
  return Math.abs(value - whole) >= 0.5 ? whole + Math.sign(value) : whole;
};

function compileCall({ fn, args: typed }: TypedExpression & { op: 'call' }, args: readonly Evaluate[]): Evaluate {
  const [first = (): null => null, second = (): null => null, third = (): null => null] = args;
  // The types were checked: what is read as a number here is one.
  const n = first as Numeric;
  const m = second as Numeric;
  const s = first as Textual;
  const t = second as Textual;
  const literal = (index: number): string | number | boolean | null => {
    const arg = typed[index];
    return arg?.op === 'literal' ? arg.value : null;
  };
  const texts = typed.some((arg) => arg.type === 'string');
  const order = (test: (sign: number) => boolean): Evaluate =>
    texts ? two(s, t, (a, b) => test(compareText(a, b))) : two(n, m, (a, b) => test(a < b ? -1 : a > b ? 1 : 0));
  switch (fn) {
    case 'add':
      return fold(args as readonly Numeric[], (a, b) => a + b);
    case 'multiply':
      return fold(args as readonly Numeric[], (a, b) => a * b);
    case 'subtract':
      return two(n, m, (a, b) => finite(a - b));
    case 'divide':
      return two(n, m, (a, b) => finite(a / b));
    case 'modulo':
      return two(n, m, (a, b) => finite(a % b));
    case 'abs':
      return one(n, Math.abs);
    case 'floor':
      return one(n, Math.floor);
    case 'ceil':
      return one(n, Math.ceil);
    case 'round': {
      const scale = 10 ** Number(literal(1) ?? 0);
      return one(n, scale === 1 ? roundHalfAway : (value) => finite(roundHalfAway(value * scale) / scale) ?? value);
    }
    case 'ln':
      return one(n, (value) => (value > 0 ? Math.log(value) : null));
    case 'exp':
      return one(n, (value) => finite(Math.exp(value)));
    case 'sqrt':
      return one(n, (value) => (value >= 0 ? Math.sqrt(value) : null));
    case 'least':
      return fold(args as readonly Numeric[], Math.min);
    case 'greatest':
      return fold(args as readonly Numeric[], Math.max);
    case 'equal':
      return two(first, second, (a, b) => a === b);
    case 'notEqual':
      return two(first, second, (a, b) => a !== b);
    case 'less':
      return order((sign) => sign < 0);
    case 'lessOrEqual':
      return order((sign) => sign <= 0);
    case 'greater':
      return order((sign) => sign > 0);
    case 'greaterOrEqual':
      return order((sign) => sign >= 0);
    case 'isNull':
      return (row) => first(row) === null;
    case 'and':
      return connective(args as readonly Logical[], false);
    case 'or':
      return connective(args as readonly Logical[], true);
    case 'not':
      return one(first as Logical, (value) => !value);
    case 'if':
      return (row) => (first(row) === true ? second(row) : third(row));
    case 'coalesce':
      return (row) => {
        for (const arg of args) {
          const value = arg(row);
          if (value !== null) return value;
        }
        return null;
      };
    case 'nullIf':
      return (row) => {
        const value = first(row);
        return value !== null && value === second(row) ? null : value;
      };
    case 'in':
      return membership(first, args.slice(1));
    case 'lower':
      return one(s, lowerCase);
    case 'upper':
      return one(s, upperCase);
    case 'trim':
      return one(s, (value) => value.trim());
    case 'length':
      return one(s, textLength);
    case 'concat':
      return (row) => {
        let text = '';
        for (const arg of args) {
          const value = arg(row);
          if (value === null) return null;
          text += value as string;
        }
        return text;
      };
    case 'substring': {
      const start = Number(literal(1));
      const length = typed.length === 3 ? Number(literal(2)) : Infinity;
      return one(s, (value) => substringOf(value, start, length));
    }
    case 'replace': {
      const u = third as Textual;
      return (row) => {
        const [text, from, to] = [s(row), t(row), u(row)];
        if (text === null || from === null || to === null) return null;
        return from === '' ? text : text.replaceAll(from, () => to);
      };
    }
    case 'regexReplace': {
      const translated = javaScriptPattern(String(literal(1)));
      const replace = compileReplace('pattern' in translated ? translated.pattern : '(?!)', String(literal(2)));
      return one(s, replace);
    }
    case 'contains':
      return two(s, t, (text, part) => text.includes(part));
    case 'startsWith':
      return two(s, t, (text, part) => text.startsWith(part));
    case 'endsWith':
      return two(s, t, (text, part) => text.endsWith(part));
    case 'normalizeUnicode':
      return one(s, (text) => text.normalize('NFC'));
    case 'toNumber':
      return typed[0]?.type === 'string' ? one(s, parseNumber) : typed[0]?.type === 'boolean' ? one(first as Logical, Number) : first;
    case 'toText':
      return typed[0] === undefined ? first : toTextOf(typed[0], first);
    case 'toTimestamp':
      if (typed[0]?.type === 'string') return one(s, parseTimestamp);
      return typed[0]?.type === 'number' ? one(n, (value) => (inCalendar(Math.floor(value)) ? Math.floor(value) : null)) : first;
    default:
      return one(n, DATE_PARTS[fn]);
  }
}

function connective(args: readonly Logical[], decisive: boolean): Evaluate {
  return (row) => {
    let unknown = false;
    for (const arg of args) {
      const value = arg(row);
      if (value === decisive) return decisive;
      if (value === null) unknown = true;
    }
    return unknown ? null : !decisive;
  };
}

function membership(value: Evaluate, members: readonly Evaluate[]): Evaluate {
  return (row) => {
    const wanted = value(row);
    if (wanted === null) return null;
    let unknown = false;
    for (const member of members) {
      const candidate = member(row);
      if (candidate === wanted) return true;
      if (candidate === null) unknown = true;
    }
    return unknown ? null : false;
  };
}

function toTextOf(typed: TypedExpression, evaluate: Evaluate): Textual {
  if (typed.type === 'number') return one(evaluate as Numeric, numberText) as Textual;
  if (typed.type === 'boolean') return one(evaluate as Logical, String) as Textual;
  if (typed.type === 'timestamp') return one(evaluate as Numeric, (ms) => new Date(ms).toISOString()) as Textual;
  return evaluate as Textual;
}

const DAY_MS = 86_400_000;
const DATE_PARTS: Readonly<Record<Extract<FunctionName, 'year' | 'month' | 'day' | 'hour' | 'minute' | 'dayOfWeek' | 'dayOfYear'>, (ms: number) => number>> = {
  year: (ms) => new Date(ms).getUTCFullYear(),
  month: (ms) => new Date(ms).getUTCMonth() + 1,
  day: (ms) => new Date(ms).getUTCDate(),
  hour: (ms) => new Date(ms).getUTCHours(),
  minute: (ms) => new Date(ms).getUTCMinutes(),
  dayOfWeek: (ms) => new Date(ms).getUTCDay(),
  dayOfYear: (ms) => {
    const at = new Date(ms);
    const start = new Date(ms);
    start.setUTCMonth(0, 1);
    start.setUTCHours(0, 0, 0, 0);
    return Math.floor((at.getTime() - start.getTime()) / DAY_MS) + 1;
  },
};
