/** Expectations that look at one row at a time, as SQL conditions. */
import type { DuckDBValue } from '@duckdb/node-api';
import type { Column } from '../contracts/columns.ts';
import type { Expectation } from '../contracts/expectations.ts';
import { isComputable } from './column-scan.ts';
import { toCount, toText } from './duckdb.ts';
import { type CheckContext, listed, numberSql, rangeText } from './expectation-check.ts';
import { parseTimestamp } from './row-text.ts';
import { identifier, textLiteral } from './sql-text.ts';

export interface RowRule {
  /** True for a row that fails; null and false pass. */
  readonly bad: string;
  /** Aggregate: how many values are looked at. */
  readonly checked: string;
  /** What a sample shows of a failing row. */
  readonly shown: string;
  /** Columns whose values `shown` holds. */
  readonly shows: readonly string[];
  readonly wanted: string;
  /** Evaluated in a pass of its own: it may fail on a row, and must not take the other expectations with it. */
  readonly alone?: boolean;
}

/** Sets of more values than this are joined with. */
const JOINED_VALUES = 8;
/** So many different values go to a person's function at a time. */
const VALUES_A_CALL = 2_000;

/** An instant or a date as its ISO text, everything else as it is. */
export const comparable = ({ name, type }: Column): string =>
  type === 'date'
    ? `strftime(${identifier(name)}, '%Y-%m-%d')`
    : type === 'timestamp'
      ? `strftime(${identifier(name)}, '%Y-%m-%dT%H:%M:%S.%gZ')`
      : identifier(name);

export function scalarSql(value: string | number | boolean, { type }: Column): string {
  if (typeof value === 'number') return numberSql(value);
  if (typeof value === 'boolean') return String(value);
  if (type !== 'timestamp') return textLiteral(value);
  const ms = parseTimestamp(value);
  return textLiteral(ms === null ? value : new Date(ms).toISOString());
}

function outside(value: string, min: number | null, max: number | null, literal: (bound: number) => string): string {
  const parts = [min === null ? '' : `${value} < ${literal(min)}`, max === null ? '' : `${value} > ${literal(max)}`].filter(Boolean);
  return parts.length === 0 ? 'false' : `(${parts.join(' OR ')})`;
}

/**
 * The rule of a row-wise expectation; undefined for one that is about a whole, a text that says why it cannot be checked for one that cannot.
 * The columns that it names are there and have types that go with it.
 */
export async function rowRuleOf(expectation: Expectation, context: CheckContext): Promise<RowRule | string | undefined> {
  const of = 'column' in expectation ? context.columns.find((there) => there.name === expectation.column) : undefined;
  const column = of ?? { name: '', type: 'string' };
  const name = identifier(column.name);
  const rule = (bad: string, wanted: string): RowRule => ({
    bad,
    checked: `count(${name})`,
    shown: name,
    shows: [column.name],
    wanted: `${column.name} ${wanted}`,
  });
  switch (expectation.kind) {
    case 'notNull':
      return { ...rule(`${name} IS NULL`, 'is never missing'), checked: 'count(*)', shown: "'NULL'", shows: [] };
    case 'isNull':
      return { ...rule(`${name} IS NOT NULL`, 'is always missing'), checked: 'count(*)' };
    case 'inSet':
    case 'notInSet': {
      const list = expectation.values.map((value) => scalarSql(value, column)).join(', ');
      // DuckDB compares with each literal of a list in turn; of many it makes a hash join only when they are rows
      const inside = `${comparable(column)} IN (${expectation.values.length > JOINED_VALUES ? `SELECT unnest([${list}])` : list})`;
      const values = listed(expectation.values.map(String));
      return expectation.kind === 'inSet' ? rule(`NOT (${inside})`, `is one of ${values}`) : rule(inside, `is not one of ${values}`);
    }
    case 'between':
      return rule(outside(comparable(column), expectation.min, expectation.max, numberSql), `lies ${rangeText(expectation)}`);
    case 'zScoreAtMost': {
      const figure = (aggregate: string): string => `(SELECT ${aggregate}(CAST(${name} AS DOUBLE)) FROM ${context.relation})`;
      const bad = `abs(CAST(${name} AS DOUBLE) - ${figure('avg')}) > ${numberSql(expectation.deviations)} * ${figure('stddev_samp')}`;
      return rule(bad, `lies within ${expectation.deviations} standard deviations of its mean`);
    }
    case 'dateBetween': {
      const [from, to] = [expectation.from, expectation.to].map((text) => (text === null ? null : parseTimestamp(text)));
      if (from === undefined || to === undefined || (from === null && expectation.from !== null) || (to === null && expectation.to !== null))
        return 'from and to have to be ISO dates, such as 2001-01-31 or 2001-01-31T12:00:00Z.';
      const bad = outside(`CAST(${name} AS TIMESTAMP)`, from, to, (ms) => `epoch_ms(${ms})`);
      return rule(bad, `lies ${rangeText({ min: expectation.from, max: expectation.to })}`);
    }
    case 'lengthBetween':
      return rule(outside(`length(${name})`, expectation.min, expectation.max, String), `has a length ${rangeText(expectation)}`);
    case 'matches':
    case 'notMatches': {
      const found = `regexp_matches(${name}, ${textLiteral(expectation.pattern)})`;
      if (!(await isComputable(context.db, context.relation, found))) return `The pattern ${expectation.pattern} is not one that RE2 reads.`;
      return expectation.kind === 'matches' ? rule(`NOT ${found}`, `matches ${expectation.pattern}`) : rule(found, `does not match ${expectation.pattern}`);
    }
    case 'dateFormat': {
      const parsed = `try_strptime(${name}, [${expectation.formats.map(textLiteral).join(', ')}])`;
      if (!(await isComputable(context.db, context.relation, parsed))) return `A format of ${expectation.formats.join(', ')} is not one that strptime reads.`;
      return rule(`${name} IS NOT NULL AND ${parsed} IS NULL`, `is written as ${expectation.formats.join(' or ')}`);
    }
    case 'json':
      return rule(`NOT json_valid(${name})`, 'is JSON');
    case 'compareColumns': {
      const [left, right] = [identifier(expectation.left), identifier(expectation.right)];
      return {
        bad: `NOT (${left} ${expectation.is} ${right})`,
        checked: `count(*) FILTER (WHERE ${left} IS NOT NULL AND ${right} IS NOT NULL)`,
        shown: `concat(${left}, ' ', ${textLiteral(expectation.is)}, ' ', ${right})`,
        shows: [expectation.left, expectation.right],
        wanted: `${expectation.left} ${expectation.is} ${expectation.right}`,
      };
    }
    case 'sumEquals': {
      const sum = expectation.columns.map((part) => `CAST(${identifier(part)} AS DOUBLE)`).join(' + ');
      const total = `CAST(${identifier(expectation.total)} AS DOUBLE)`;
      return {
        bad: `abs(${sum} - ${total}) > ${numberSql(expectation.within)}`,
        checked: `count(${sum} + ${total})`,
        shown: `concat(${sum}, ' and not ', ${total})`,
        shows: [...expectation.columns, expectation.total],
        wanted: `${expectation.columns.join(' + ')} = ${expectation.total}`,
      };
    }
    case 'customSql': {
      const condition = `CAST((${expectation.sql}\n) AS BOOLEAN)`;
      if (!(await isComputable(context.db, context.relation, condition))) return notEvaluable(expectation.name, context.columns);
      return {
        bad: `NOT ${condition}`,
        checked: `count(${condition})`,
        shown: textLiteral(expectation.name),
        shows: [],
        wanted: expectation.name,
        alone: true,
      };
    }
    case 'foreignKey': {
      const other = await openReference(context, expectation.dataset, expectation.key, column);
      if (typeof other === 'string') return other;
      return rule(`NOT (${name} IN (SELECT v FROM ${other.values}))`, `is one of the values of ${expectation.key} in ${other.name}`);
    }
    case 'customFunction': {
      const failing = await failingValues(expectation, column, context);
      return typeof failing === 'string' ? failing : rule(`${name} IN (SELECT v FROM ${failing.table})`, `passes ${expectation.step}`);
    }
    default:
      return undefined;
  }
}

export const notEvaluable = (name: string, columns: readonly Column[]): string =>
  `The SQL of ${name} cannot be evaluated: it has to be a boolean expression over the columns ${columns.map((column) => column.name).join(', ')}.`;

export interface Reference {
  readonly name: string;
  readonly rows: number;
  /** A relation with one column `v`: the values that are not missing, in the checked column's type. */
  readonly values: string;
}

const FAMILY = { number: 'number', integer: 'number', boolean: 'boolean', string: 'text', timestamp: 'time', date: 'time' } as const;

/** A column of another dataset; a text that says why it cannot be compared with. */
export async function openReference(
  { access }: Pick<CheckContext, 'access'>,
  ref: Parameters<NonNullable<CheckContext['access']['openDataset']>>[0],
  key: string,
  column: Column,
): Promise<Reference | string> {
  if (access.openDataset === undefined) return `The dataset ${ref.name} cannot be looked at here.`;
  const other = await access.openDataset(ref);
  const there = other.manifest.columns.find(({ name }) => name === key);
  if (there === undefined)
    return `The dataset ${ref.name} has no column ${key}. Its columns are: ${other.manifest.columns.map(({ name }) => name).join(', ')}.`;
  if (FAMILY[there.type] !== FAMILY[column.type])
    return `${column.name} is of type ${column.type} and ${key} of ${ref.name} of type ${there.type}: they cannot be compared.`;
  const paths = other.files.map(({ path }) => textLiteral(path)).join(', ');
  // two dates or instants compare in either type; numbers as they are
  const value =
    FAMILY[there.type] === 'time' && there.type !== column.type
      ? `CAST(${identifier(key)} AS ${column.type === 'date' ? 'DATE' : 'TIMESTAMP'})`
      : identifier(key);
  return { name: ref.name, rows: other.manifest.rows, values: `(SELECT ${value} AS v FROM read_parquet([${paths}]) WHERE ${identifier(key)} IS NOT NULL)` };
}

let tables = 0;

/** A table of the column's values that a person's function does not pass. Each different value is asked for once. */
async function failingValues(
  { step, parameters }: Expectation & { kind: 'customFunction' },
  column: Column,
  { db, relation, access }: CheckContext,
): Promise<{ readonly table: string } | string> {
  if (access.checkValues === undefined) return `The step ${step} cannot be called here.`;
  const [all, failing] = [`millrace_values_${tables}`, `millrace_failing_${tables++}`];
  const name = identifier(column.name);
  await db.run(
    `CREATE TEMPORARY TABLE ${all} AS SELECT v, row_number() OVER () - 1 AS i FROM (SELECT DISTINCT ${name} AS v FROM ${relation} WHERE ${name} IS NOT NULL ORDER BY v)`,
  );
  await db.run(`CREATE TEMPORARY TABLE ${failing} (i BIGINT)`);
  const { n } = await db.row(`SELECT count(*) AS n FROM ${all}`);
  for (let from = 0; from < toCount(n); from += VALUES_A_CALL) {
    const rows = await db.rows(`SELECT ${comparable({ ...column, name: 'v' })} AS v FROM ${all} WHERE i >= ${from} AND i < ${from + VALUES_A_CALL} ORDER BY i`);
    const verdicts = await access.checkValues(
      step,
      rows.map(({ v }) => plainValue(v ?? null, column)),
      parameters,
    );
    if (verdicts.length !== rows.length) return `The step ${step} has to give one boolean a value: it got ${rows.length} values and gave ${verdicts.length}.`;
    const bad = verdicts.flatMap((passes, index) => (passes ? [] : [`(${from + index})`]));
    if (bad.length > 0) await db.run(`INSERT INTO ${failing} VALUES ${bad.join(', ')}`);
  }
  return { table: `(SELECT v FROM ${all} JOIN ${failing} USING (i))` };
}

const plainValue = (value: DuckDBValue, { type }: Column): string | number | boolean =>
  typeof value === 'boolean' ? value : type === 'number' || type === 'integer' ? toCount(value) : (toText(value) ?? '');
