/**
 * Row transforms with their types worked out: the one form that both the SQL and the JavaScript compiler read, so that
 * neither decides on its own what an operation means.
 *
 * Invariants:
 * 1. Inside an expression there are four types: number (a double), boolean, text, and timestamp (whole milliseconds since
 *    1970 UTC). A column that is only passed on keeps its own type and precision.
 * 2. A number is finite or null: an operation whose result is infinite or no number gives null.
 * 3. Whatever does not fit is found here, all of it, before any row is read.
 */
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Expression, FunctionName, RowTransform } from '../contracts/row-transforms.ts';
import { isReplacement, javaScriptPattern } from './row-pattern.ts';
import { parseTimestamp } from './row-text.ts';

export type ValueType = 'number' | 'boolean' | 'string' | 'timestamp' | 'null';
export type LiteralValue = number | string | boolean | null;

export type TypedExpression =
  | { readonly op: 'column'; readonly type: ValueType; readonly name: string; readonly columnType: ColumnType }
  /** A timestamp's value is its milliseconds. */
  | { readonly op: 'literal'; readonly type: ValueType; readonly value: LiteralValue }
  | { readonly op: 'call'; readonly type: ValueType; readonly fn: FunctionName; readonly args: readonly TypedExpression[] }
  | { readonly op: 'hash'; readonly type: 'string'; readonly value: TypedExpression };

export type TypedTransform =
  | { readonly kind: 'set'; readonly column: string; readonly type: ColumnType; readonly to: TypedExpression; readonly columns: readonly Column[] }
  | { readonly kind: 'select'; readonly from: readonly string[]; readonly columns: readonly Column[] }
  | { readonly kind: 'keep'; readonly where: TypedExpression; readonly columns: readonly Column[] };

const VALUE_TYPE: Readonly<Record<ColumnType, ValueType>> = {
  number: 'number',
  integer: 'number',
  boolean: 'boolean',
  string: 'string',
  timestamp: 'timestamp',
  date: 'timestamp',
};

const DATE_PARTS: ReadonlySet<FunctionName> = new Set<FunctionName>(['year', 'month', 'day', 'hour', 'minute', 'dayOfWeek', 'dayOfYear']);
const WHOLE: ReadonlySet<FunctionName> = new Set<FunctionName>([...DATE_PARTS, 'length']);

interface Rule {
  readonly least: number;
  readonly most: number;
  /** `same`: all arguments of one type, which is one of `of`. */
  readonly takes: ValueType | 'any' | { readonly same: readonly ValueType[] };
  readonly gives: ValueType | 'same';
}
const MANY = 1000;
const numbers = (least: number, most = least): Rule => ({ least, most, takes: 'number', gives: 'number' });
const texts = (count: number, gives: ValueType): Rule => ({ least: count, most: count, takes: 'string', gives });
const compare = (of: readonly ValueType[]): Rule => ({ least: 2, most: 2, takes: { same: of }, gives: 'boolean' });
const ALL: readonly ValueType[] = ['number', 'boolean', 'string', 'timestamp'];
const ORDERED: readonly ValueType[] = ['number', 'string', 'timestamp'];
const part: Rule = { least: 1, most: 1, takes: 'timestamp', gives: 'number' };

const RULES: Readonly<Record<FunctionName, Rule>> = {
  add: numbers(2, MANY),
  subtract: { least: 2, most: 2, takes: { same: ['number', 'timestamp'] }, gives: 'number' },
  multiply: numbers(2, MANY),
  divide: numbers(2),
  modulo: numbers(2),
  abs: numbers(1),
  floor: numbers(1),
  ceil: numbers(1),
  round: numbers(1, 2),
  ln: numbers(1),
  exp: numbers(1),
  sqrt: numbers(1),
  least: { least: 1, most: MANY, takes: { same: ['number', 'timestamp'] }, gives: 'same' },
  greatest: { least: 1, most: MANY, takes: { same: ['number', 'timestamp'] }, gives: 'same' },
  equal: compare(ALL),
  notEqual: compare(ALL),
  less: compare(ORDERED),
  lessOrEqual: compare(ORDERED),
  greater: compare(ORDERED),
  greaterOrEqual: compare(ORDERED),
  isNull: { least: 1, most: 1, takes: 'any', gives: 'boolean' },
  and: { least: 1, most: MANY, takes: 'boolean', gives: 'boolean' },
  or: { least: 1, most: MANY, takes: 'boolean', gives: 'boolean' },
  not: { least: 1, most: 1, takes: 'boolean', gives: 'boolean' },
  if: { least: 3, most: 3, takes: 'any', gives: 'same' },
  coalesce: { least: 1, most: MANY, takes: { same: ALL }, gives: 'same' },
  nullIf: { least: 2, most: 2, takes: { same: ALL }, gives: 'same' },
  in: { least: 2, most: MANY, takes: { same: ALL }, gives: 'boolean' },
  lower: texts(1, 'string'),
  upper: texts(1, 'string'),
  trim: texts(1, 'string'),
  length: texts(1, 'number'),
  concat: { least: 1, most: MANY, takes: 'string', gives: 'string' },
  substring: { least: 2, most: 3, takes: 'any', gives: 'string' },
  replace: texts(3, 'string'),
  regexReplace: texts(3, 'string'),
  contains: texts(2, 'boolean'),
  startsWith: texts(2, 'boolean'),
  endsWith: texts(2, 'boolean'),
  normalizeUnicode: texts(1, 'string'),
  toNumber: { least: 1, most: 1, takes: 'any', gives: 'number' },
  toText: { least: 1, most: 1, takes: 'any', gives: 'string' },
  toTimestamp: { least: 1, most: 1, takes: { same: ORDERED }, gives: 'timestamp' },
  year: part,
  month: part,
  day: part,
  hour: part,
  minute: part,
  dayOfWeek: part,
  dayOfYear: part,
};

interface Scope {
  readonly columns: ReadonlyMap<string, ColumnType>;
  readonly problems: Found[];
}
interface Found {
  readonly code: 'COLUMN_MISSING' | 'COLUMN_TYPE' | 'INVALID_PARAMETERS';
  readonly problem: Problem;
}

const NULL: TypedExpression = { op: 'literal', type: 'null', value: null };

function typeExpression(expression: Expression, path: string, scope: Scope): TypedExpression {
  const refuse = (code: Found['code'], message: string, found?: string, fix?: string): TypedExpression => {
    scope.problems.push({ code, problem: { path, message, ...(found === undefined ? {} : { found }), ...(fix === undefined ? {} : { fix }) } });
    return NULL;
  };
  switch (expression.op) {
    case 'column': {
      const columnType = scope.columns.get(expression.name);
      if (columnType === undefined)
        return refuse(
          'COLUMN_MISSING',
          `There is no column ${expression.name} at this point.`,
          expression.name,
          `Use one of: ${[...scope.columns.keys()].join(', ')}.`,
        );
      return { op: 'column', type: VALUE_TYPE[columnType], name: expression.name, columnType };
    }
    case 'literal': {
      const { value } = expression;
      if (value === null) return NULL;
      if (typeof value === 'number')
        return Number.isFinite(value) ? { op: 'literal', type: 'number', value } : refuse('INVALID_PARAMETERS', 'A number has to be finite.', String(value));
      return { op: 'literal', type: typeof value === 'string' ? 'string' : 'boolean', value };
    }
    case 'hash':
      return { op: 'hash', type: 'string', value: typeExpression(expression.value, `${path}.value`, scope) };
    case 'call':
      return typeCall(expression, path, scope, refuse);
  }
}

function typeCall(
  call: Expression & { op: 'call' },
  path: string,
  scope: Scope,
  refuse: (code: Found['code'], message: string, found?: string, fix?: string) => TypedExpression,
): TypedExpression {
  const { fn } = call;
  const rule = RULES[fn];
  const before = scope.problems.length;
  let args = call.args.map((arg, index) => typeExpression(arg, `${path}.args[${index}]`, scope));
  if (args.length < rule.least || args.length > rule.most) {
    const wanted = rule.least === rule.most ? String(rule.least) : rule.most === MANY ? `at least ${rule.least}` : `${rule.least} to ${rule.most}`;
    return refuse('INVALID_PARAMETERS', `${fn} takes ${wanted} arguments.`, String(args.length));
  }
  if (scope.problems.length > before) return NULL;
  const mismatch = (wanted: string, found: ValueType): TypedExpression =>
    refuse('COLUMN_TYPE', `${fn} takes ${wanted}.`, found, 'Convert with toNumber, toText or toTimestamp.');
  const takes: Rule['takes'] = rule.takes;
  let same: ValueType = 'null';
  if (typeof takes === 'object') {
    const unified = unify(args);
    if (unified === undefined) return mismatch('arguments of one type', args.find((arg) => arg.type !== args[0]?.type)?.type ?? 'null');
    ({ args, type: same } = unified);
    if (same !== 'null' && !takes.same.includes(same)) return mismatch(takes.same.join(' or '), same);
  } else if (takes === 'timestamp') {
    args = args.map((arg) => asTimestamp(arg) ?? arg);
    const wrong = args.find((arg) => arg.type !== 'timestamp' && arg.type !== 'null');
    if (wrong !== undefined) return mismatch('a timestamp', wrong.type);
  } else if (takes !== 'any') {
    const wrong = args.find((arg) => arg.type !== takes && arg.type !== 'null');
    if (wrong !== undefined) return mismatch(`a ${takes}`, wrong.type);
  }
  if (fn === 'if') {
    const [condition, ...branches] = args;
    if (condition !== undefined && condition.type !== 'boolean' && condition.type !== 'null') return mismatch('a boolean first', condition.type);
    const unified = unify(branches);
    if (unified === undefined) return mismatch('two results of one type', branches[1]?.type ?? 'null');
    return { op: 'call', fn, type: unified.type, args: condition === undefined ? unified.args : [condition, ...unified.args] };
  }
  const complaint = literalComplaint(fn, args);
  if (complaint !== undefined) return refuse('INVALID_PARAMETERS', complaint);
  return { op: 'call', fn, type: rule.gives === 'same' ? same : rule.gives, args };
}

/** Arguments that the two engines can only agree on when they are known beforehand. */
function literalComplaint(fn: FunctionName, args: readonly TypedExpression[]): string | undefined {
  const wholeLiteral = (arg: TypedExpression | undefined, least: number, most: number): boolean =>
    arg?.op === 'literal' && typeof arg.value === 'number' && Number.isInteger(arg.value) && arg.value >= least && arg.value <= most;
  if (fn === 'round' && args.length === 2 && !wholeLiteral(args[1], 0, 15)) return 'round takes its digits as a whole literal from 0 to 15.';
  if (fn === 'substring') {
    if (args[0]?.type !== 'string' && args[0]?.type !== 'null') return 'substring takes a string first.';
    if (!wholeLiteral(args[1], 1, 1e9)) return 'substring takes its start as a whole literal from 1.';
    if (args.length === 3 && !wholeLiteral(args[2], 0, 1e9)) return 'substring takes its length as a whole literal from 0.';
  }
  if (fn === 'regexReplace') {
    const [, pattern, replacement] = args;
    if (pattern?.op !== 'literal' || typeof pattern.value !== 'string') return 'regexReplace takes its pattern as a literal.';
    if (replacement?.op !== 'literal' || typeof replacement.value !== 'string') return 'regexReplace takes its replacement as a literal.';
    const translated = javaScriptPattern(pattern.value);
    if ('problem' in translated) return `The pattern cannot be used: ${translated.problem}.`;
    if (!isReplacement(replacement.value)) return 'In a replacement, a backslash is followed by a digit or a backslash.';
  }
  return undefined;
}

/** A text literal where a timestamp is wanted is read as one: `less(col('date'), '2001-03-01')`. */
function asTimestamp(expression: TypedExpression): TypedExpression | undefined {
  if (expression.op !== 'literal' || typeof expression.value !== 'string') return undefined;
  const ms = parseTimestamp(expression.value);
  return ms === null ? undefined : { op: 'literal', type: 'timestamp', value: ms };
}

function unify(args: readonly TypedExpression[]): { readonly args: TypedExpression[]; readonly type: ValueType } | undefined {
  const timed = args.some((arg) => arg.type === 'timestamp');
  const read = args.map((arg) => (timed ? (asTimestamp(arg) ?? arg) : arg));
  const types = new Set(read.map((arg) => arg.type).filter((type) => type !== 'null'));
  return types.size > 1 ? undefined : { args: read, type: [...types][0] ?? 'null' };
}

function resultType(expression: TypedExpression): ColumnType {
  if (expression.op === 'column') return expression.columnType;
  if (expression.op === 'call' && WHOLE.has(expression.fn)) return 'integer';
  return expression.type === 'null' ? 'string' : expression.type;
}

export interface TypedTransforms {
  readonly steps: readonly TypedTransform[];
  /** Columns after all steps. */
  readonly columns: readonly Column[];
}

/**
 * Works out the types of transforms over the raw columns.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS, with every problem.
 */
export function typeTransforms(transforms: readonly RowTransform[], rawColumns: readonly Column[]): TypedTransforms {
  const found: Found[] = [];
  let columns: readonly Column[] = rawColumns;
  const steps: TypedTransform[] = [];
  transforms.forEach((transform, index) => {
    const path = `transforms[${index}]`;
    const scope: Scope = { columns: new Map(columns.map(({ name, type }) => [name, type])), problems: found };
    const missing = (name: string, where: string): void => {
      const problem = {
        path: where,
        message: `There is no column ${name} at this point.`,
        found: name,
        fix: `Use one of: ${[...scope.columns.keys()].join(', ')}.`,
      };
      found.push({ code: 'COLUMN_MISSING', problem });
    };
    switch (transform.kind) {
      case 'set': {
        const to = typeExpression(transform.to, `${path}.to`, scope);
        const column = { name: transform.column, type: resultType(to) };
        const clash = columns.find(({ name }) => name !== column.name && name.toLowerCase() === column.name.toLowerCase());
        if (clash !== undefined)
          found.push({
            code: 'INVALID_PARAMETERS',
            problem: { path: `${path}.column`, message: `The name differs from ${clash.name} only in case.`, found: column.name },
          });
        columns = scope.columns.has(column.name) ? columns.map((old) => (old.name === column.name ? column : old)) : [...columns, column];
        steps.push({ kind: 'set', column: column.name, type: column.type, to, columns });
        break;
      }
      case 'drop':
        for (const name of transform.columns) if (!scope.columns.has(name)) missing(name, `${path}.columns`);
        columns = columns.filter(({ name }) => !transform.columns.includes(name));
        if (columns.length === 0)
          found.push({ code: 'INVALID_PARAMETERS', problem: { path: `${path}.columns`, message: 'At least one column has to be left.' } });
        steps.push({ kind: 'select', from: columns.map(({ name }) => name), columns });
        break;
      case 'rename': {
        if (!scope.columns.has(transform.from)) missing(transform.from, `${path}.from`);
        const taken = columns.find(({ name }) => name !== transform.from && name.toLowerCase() === transform.to.toLowerCase());
        if (taken !== undefined)
          found.push({ code: 'INVALID_PARAMETERS', problem: { path: `${path}.to`, message: `There is a column ${taken.name} already.`, found: transform.to } });
        const from = columns.map(({ name }) => name);
        columns = columns.map((column) => (column.name === transform.from ? { name: transform.to, type: column.type } : column));
        steps.push({ kind: 'select', from, columns });
        break;
      }
      case 'keep': {
        const where = typeExpression(transform.where, `${path}.where`, scope);
        if (where.type !== 'boolean' && where.type !== 'null')
          found.push({ code: 'COLUMN_TYPE', problem: { path: `${path}.where`, message: 'keep takes a boolean.', found: where.type } });
        steps.push({ kind: 'keep', where, columns });
        break;
      }
    }
  });
  const [first] = found;
  if (first !== undefined) throw new MillraceError(first.code, 'The row transforms do not fit the columns.', { problems: found.map(({ problem }) => problem) });
  return { steps, columns };
}

function columnsOf(expression: Expression, into: Set<string>): void {
  if (expression.op === 'column') into.add(expression.name);
  else if (expression.op === 'hash') columnsOf(expression.value, into);
  else if (expression.op === 'call') for (const arg of expression.args) columnsOf(arg, into);
}

/**
 * What serving has to do to a request's row: the transforms that lead to the needed columns, without those that drop rows
 * or make what nobody reads, and the raw columns that a request has to carry for them.
 */
export function pruneTransforms(
  transforms: readonly RowTransform[],
  neededColumns: readonly string[],
  rawColumns: readonly Column[],
): { readonly transforms: readonly RowTransform[]; readonly rawColumns: readonly Column[] } {
  const needed = new Set(neededColumns);
  const kept: RowTransform[] = [];
  for (const transform of transforms.toReversed()) {
    if (transform.kind === 'set' && needed.delete(transform.column)) {
      columnsOf(transform.to, needed);
      kept.push(transform);
    } else if (transform.kind === 'rename' && needed.delete(transform.to)) {
      needed.add(transform.from);
      kept.push(transform);
    }
  }
  const raw = rawColumns.filter(({ name }) => needed.delete(name));
  if (needed.size > 0) {
    throw new MillraceError('COLUMN_MISSING', 'The model reads columns that the data never had.', {
      problems: [...needed].map((name) => ({
        path: name,
        message: `There is no column ${name}.`,
        fix: `The raw columns are: ${rawColumns.map((column) => column.name).join(', ')}.`,
      })),
    });
  }
  return { transforms: kept.toReversed(), rawColumns: raw };
}
