import type { Column } from '../contracts/columns.ts';
import type { FunctionName, RowTransform } from '../contracts/row-transforms.ts';
import type { DuckDb } from './duckdb.ts';
import { type TypedExpression, type TypedTransform, typeTransforms } from './row-expression.ts';
import { type HashKeys, hashKeys } from './row-hash.ts';
import { CALENDAR_MS, NUMBER_PATTERN, TIMESTAMP_PATTERN, WHITE_SPACE } from './row-text.ts';
import { DUCKDB_TYPE, identifier, numberLiteral, textLiteral } from './sql-text.ts';

export interface TransformedRelation {
  /** A sub-select in parentheses. */
  readonly sql: string;
  readonly columns: readonly Column[];
}

/**
 * Compiles transforms over a relation whose columns have canonical types into one sub-select. A query over it that has
 * hashes needs `bindHashKey` first: the key stands in no SQL text.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS, with every problem.
 */
export function transformedRelation(relation: string, transforms: readonly RowTransform[], rawColumns: readonly Column[]): TransformedRelation {
  const { steps, columns } = typeTransforms(transforms, rawColumns);
  let sql = `(SELECT ${rawColumns.map(({ name }) => identifier(name)).join(', ')} FROM ${relation})`;
  for (const step of steps) sql = stepRelation(sql, step);
  return { sql, columns };
}

/** Gives the project's hash key to the database as session variables. */
export async function bindHashKey(db: DuckDb, hashKey: string): Promise<void> {
  const keys: HashKeys = hashKeys(hashKey);
  await db.run('SET VARIABLE millrace_hash_inner = $1', [keys.inner]);
  await db.run('SET VARIABLE millrace_hash_outer = $1', [keys.outer]);
}

function stepRelation(relation: string, step: TypedTransform): string {
  const names = step.columns.map(({ name }) => identifier(name));
  if (step.kind === 'select') {
    return `(SELECT ${step.from.map((from, index) => `${identifier(from)} AS ${names[index] ?? ''}`).join(', ')} FROM ${relation})`;
  }
  // What is used twice becomes a column of a projection below, so that text and work stay linear in the expression.
  let below = relation;
  let count = 0;
  const hoist = (sql: string): string => {
    const alias = identifier(`__millrace_${count++}`);
    below = `(SELECT *, ${sql} AS ${alias} FROM ${below})`;
    return alias;
  };
  if (step.kind === 'keep') {
    const where = expressionSql(step.where, hoist);
    return `(SELECT ${names.join(', ')} FROM ${below} WHERE ${where})`;
  }
  const value = step.to.op === 'column' ? identifier(step.to.name) : storedSql(expressionSql(step.to, hoist), step);
  const list = step.columns.map(({ name }, index) => (name === step.column ? `${value} AS ${names[index] ?? ''}` : (names[index] ?? '')));
  return `(SELECT ${list.join(', ')} FROM ${below})`;
}

function storedSql(sql: string, step: TypedTransform & { kind: 'set' }): string {
  if (step.to.type === 'null') return `CAST(NULL AS ${DUCKDB_TYPE[step.type]})`;
  if (step.type === 'timestamp') return `epoch_ms(CAST(${sql} AS BIGINT))`;
  // The sum −0 + 0 is 0: a stored number has no signed zero, as JSON and ONNX inputs need not keep it.
  return step.type === 'number' ? `(${sql}) + 0.0::DOUBLE` : `CAST(${sql} AS ${DUCKDB_TYPE[step.type]})`;
}

type Hoist = (sql: string) => string;

function expressionSql(expression: TypedExpression, hoist: Hoist): string {
  switch (expression.op) {
    case 'column': {
      const name = identifier(expression.name);
      if (expression.type === 'number') return `CAST(${name} AS DOUBLE)`;
      // floor, because epoch_ms() does not round towards the past for instants before 1970.
      return expression.type === 'timestamp' ? `floor(epoch_us(CAST(${name} AS TIMESTAMP)) / 1000.0::DOUBLE)` : name;
    }
    case 'literal':
      if (typeof expression.value === 'number') return numberLiteral(expression.value);
      if (typeof expression.value === 'string') return textLiteral(expression.value);
      return expression.value === null ? 'NULL' : String(expression.value);
    case 'hash':
      return `sha256(getvariable('millrace_hash_outer') || sha256(getvariable('millrace_hash_inner') || ${textSql(expression.value, hoist)}))`;
    case 'call':
      return callSql(expression, hoist);
  }
}

const finite = (sql: string, hoist: Hoist): string => {
  const value = hoist(sql);
  return hoist(`CASE WHEN isfinite(${value}) THEN ${value} END`);
};

const COMPARISONS: Partial<Record<FunctionName, string>> = { equal: '=', notEqual: '<>', less: '<', lessOrEqual: '<=', greater: '>', greaterOrEqual: '>=' };
const DATE_PART: Partial<Record<FunctionName, string>> = {
  year: 'year',
  month: 'month',
  day: 'day',
  hour: 'hour',
  minute: 'minute',
  dayOfWeek: 'dayofweek',
  dayOfYear: 'dayofyear',
};
const UNTYPED_NULL = {
  number: 'CAST(NULL AS DOUBLE)',
  timestamp: 'CAST(NULL AS DOUBLE)',
  string: 'CAST(NULL AS VARCHAR)',
  boolean: 'CAST(NULL AS BOOLEAN)',
  null: 'NULL',
} as const;

function callSql({ fn, args, type }: TypedExpression & { op: 'call' }, hoist: Hoist): string {
  // A bare NULL has no type of its own: it takes that of its neighbours, or of what the function reads.
  const neighbour = args.find((arg) => arg.type !== 'null')?.type ?? 'null';
  const sql = args.map((arg) => (arg.op === 'literal' && arg.value === null ? UNTYPED_NULL[neighbour] : expressionSql(arg, hoist)));
  const [a = 'NULL', b = 'NULL', c = 'NULL'] = sql;
  const allPresent = (values: readonly string[], then: string): string =>
    `CASE WHEN ${values.map((value) => `${value} IS NOT NULL`).join(' AND ')} THEN ${then} END`;
  const comparison = COMPARISONS[fn];
  if (comparison !== undefined) return `(${a} ${comparison} ${b})`;
  const datePart = DATE_PART[fn];
  if (datePart !== undefined) return `CAST(${datePart}(epoch_ms(CAST(${a} AS BIGINT))) AS DOUBLE)`;
  switch (fn) {
    case 'add':
    case 'multiply':
      return finite(`(${sql.join(fn === 'add' ? ' + ' : ' * ')})`, hoist);
    case 'subtract':
      return finite(`(${a} - ${b})`, hoist);
    case 'divide':
      return finite(`(${a} / ${b})`, hoist);
    case 'modulo':
      return finite(`(${a} % ${b})`, hoist);
    case 'abs':
    case 'floor':
    case 'ceil':
      return `${fn}(CAST(${a} AS DOUBLE))`;
    case 'round': {
      const digits = args[1]?.op === 'literal' && typeof args[1].value === 'number' ? args[1].value : 0;
      if (digits === 0) return `round(CAST(${a} AS DOUBLE))`;
      const value = hoist(a);
      const scaled = hoist(`round(${value} * ${numberLiteral(10 ** digits)}) / ${numberLiteral(10 ** digits)}`);
      return `CASE WHEN isfinite(${scaled}) THEN ${scaled} ELSE ${value} END`;
    }
    case 'ln': {
      const value = hoist(a);
      return `CASE WHEN ${value} > 0 THEN ln(${value}) END`;
    }
    case 'exp':
      return finite(`exp(${a})`, hoist);
    case 'sqrt': {
      const value = hoist(a);
      return `CASE WHEN ${value} >= 0 THEN sqrt(${value}) END`;
    }
    case 'least':
    case 'greatest': {
      const values = sql.map((value) => hoist(value));
      return allPresent(values, `${fn}(${values.join(', ')})`);
    }
    case 'isNull':
      return `(${a} IS NULL)`;
    case 'and':
    case 'or':
      return `(${sql.map((value) => `CAST(${value} AS BOOLEAN)`).join(fn === 'and' ? ' AND ' : ' OR ')})`;
    case 'not':
      return `(NOT CAST(${a} AS BOOLEAN))`;
    case 'if': {
      const [yes, no] = args.slice(1).map((arg, index) => (arg.type === 'null' ? UNTYPED_NULL[type] : index === 0 ? b : c));
      return `CASE WHEN ${a} THEN ${yes ?? 'NULL'} ELSE ${no ?? 'NULL'} END`;
    }
    case 'coalesce':
      return `coalesce(${sql.join(', ')})`;
    case 'nullIf':
      return `nullif(${hoist(a)}, ${b})`;
    case 'in':
      return `(${a} IN (${sql.slice(1).join(', ')}))`;
    case 'lower':
    case 'upper':
      return `${fn}(${a})`;
    case 'trim':
      return trimSql(a);
    case 'length':
      return `CAST(length(${a}) AS DOUBLE)`;
    case 'concat':
      return `(${sql.join(' || ')})`;
    case 'substring': {
      const bounds = args.slice(1).map((arg) => (arg.op === 'literal' ? String(arg.value) : '1'));
      return `substring(${a}, ${bounds.join(', ')})`;
    }
    case 'replace':
      return `replace(${a}, ${b}, ${c})`;
    case 'regexReplace':
      return `regexp_replace(${a}, ${b}, ${c}, 'g')`;
    case 'contains':
      return `contains(${a}, ${b})`;
    case 'startsWith':
      return `starts_with(${a}, ${b})`;
    case 'endsWith':
      return `suffix(${a}, ${b})`;
    case 'normalizeUnicode':
      return `nfc_normalize(${a})`;
    case 'toNumber':
      return toNumberSql(args[0], a, hoist);
    case 'toText':
      return args[0] === undefined ? 'NULL' : textSql(args[0], hoist, a);
    case 'toTimestamp':
      return toTimestampSql(args[0], a, hoist);
    default:
      throw new Error(`row transform ${fn} has no SQL`);
  }
}

const trimSql = (sql: string): string => `trim(${sql}, ${textLiteral(WHITE_SPACE)})`;

function toNumberSql(arg: TypedExpression | undefined, sql: string, hoist: Hoist): string {
  if (arg?.type === 'boolean') return `CAST(CAST(${sql} AS INTEGER) AS DOUBLE)`;
  if (arg?.type !== 'string') return `CAST(${sql} AS DOUBLE)`;
  const text = hoist(trimSql(sql));
  const value = hoist(`CASE WHEN regexp_full_match(${text}, ${textLiteral(NUMBER_PATTERN)}) THEN TRY_CAST(${text} AS DOUBLE) END`);
  return `CASE WHEN isfinite(${value}) THEN ${value} END`;
}

/** The text of a value of any type; `sql` where the value's SQL is there already. */
function textSql(arg: TypedExpression, hoist: Hoist, sql = expressionSql(arg, hoist)): string {
  if (arg.type === 'string') return sql;
  if (arg.type === 'boolean' || arg.type === 'null') return `CAST(${sql} AS VARCHAR)`;
  const value = hoist(sql);
  if (arg.type === 'timestamp') return `strftime(epoch_ms(CAST(${value} AS BIGINT)), '%Y-%m-%dT%H:%M:%S.%gZ')`;
  return `CASE WHEN ${value} = trunc(${value}) AND abs(${value}) < 1e15 THEN CAST(CAST(${value} AS BIGINT) AS VARCHAR) ELSE CAST(${value} AS VARCHAR) END`;
}

function toTimestampSql(arg: TypedExpression | undefined, sql: string, hoist: Hoist): string {
  if (arg?.type === 'timestamp') return sql;
  const ms =
    arg?.type === 'string'
      ? (() => {
          const text = hoist(trimSql(sql));
          const instant = hoist(
            `CASE WHEN regexp_full_match(${text}, ${textLiteral(TIMESTAMP_PATTERN)}) AND ${text} NOT LIKE '0000%' THEN TRY_CAST(${text} AS TIMESTAMP) END`,
          );
          return hoist(`floor(epoch_us(${instant}) / 1000.0::DOUBLE)`);
        })()
      : hoist(`floor(CAST(${sql} AS DOUBLE))`);
  return `CASE WHEN ${ms} BETWEEN ${CALENDAR_MS.first} AND ${CALENDAR_MS.last} THEN ${ms} END`;
}
