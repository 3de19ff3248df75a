/** Checks expectations: all that look at single rows or at figures of a column in one pass, each column's repeats in one more. */
import type { DuckDBValue } from '@duckdb/node-api';
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Expectation, ExpectationResult, Expectations, ValidationResult } from '../contracts/expectations.ts';
import type { Profile } from '../contracts/profile.ts';
import { type ColumnScan, createColumnScan, isComputable } from './column-scan.ts';
import { type DuckDb, type DuckDbOptions, DuckDbFailure, toCount, toNumber, withDuckDb } from './duckdb.ts';
import { finishProfile, planProfile } from './profile.ts';
import { numberedRelation, ROW_NUMBER, type RankedFile } from './row-rank.ts';
import { parseTimestamp } from './row-text.ts';
import { identifier, numberLiteral, parquetRelation, textLiteral } from './sql-text.ts';

const SAMPLE_ROWS = 5;
const SAMPLE_CHARACTERS = 60;
const HOUR_MS = 3_600_000;
/** Sets of more values than this are joined with. */
const JOINED_VALUES = 8;

export interface CheckOptions extends DuckDbOptions {
  /** What `freshness` counts from. Default: now. */
  readonly now?: Date;
}

/** Checks all expectations. What cannot be checked (a missing column, a type that does not fit) is a result that failed, not an error. */
export async function checkExpectations(
  files: readonly RankedFile[],
  columns: readonly Column[],
  expectations: Expectations,
  options: CheckOptions = {},
): Promise<ValidationResult> {
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
    const check = await planCheck(db, scan, files, columns, expectations, options.now ?? new Date());
    return check.finish(await scan.run(db));
  });
}

/** Profile and expectations in the same pass. */
export async function profileAndCheck(
  files: readonly RankedFile[],
  columns: readonly Column[],
  expectations: Expectations,
  options: CheckOptions = {},
): Promise<{ readonly profile: Profile; readonly validation: ValidationResult }> {
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
    const plan = planProfile(scan, columns);
    const check = await planCheck(db, scan, files, columns, expectations, options.now ?? new Date());
    const values = await scan.run(db);
    return { profile: await finishProfile(db, files, plan, values), validation: await check.finish(values) };
  });
}

/** The error that a stage throws for a validation that did not succeed: every expectation of severity `fail` that does not hold. */
export function expectationsFailed(validation: ValidationResult, dataset: string): MillraceError {
  const failed = validation.results.filter(({ success, severity }) => !success && severity === 'fail');
  const problems = failed.map(({ expectation, column, message, sample }): Problem => {
    const [first] = sample;
    const path = column === null ? expectation.kind : `${column}.${expectation.kind}`;
    return { path, message, ...(column === null ? {} : { column }), ...(first === undefined ? {} : { found: first.value, row: first.row }) };
  });
  return new MillraceError('EXPECTATIONS_FAILED', `${failed.length} of ${validation.results.length} expectations of ${dataset} do not hold.`, { problems });
}

type Outcome = Pick<ExpectationResult, 'success' | 'message'> & Partial<Pick<ExpectationResult, 'checked' | 'failing' | 'fraction' | 'observed' | 'sample'>>;

interface Context {
  readonly db: DuckDb;
  readonly scan: ColumnScan;
  readonly files: readonly RankedFile[];
  readonly relation: string;
  readonly columns: readonly Column[];
  readonly now: Date;
}
type Conclude = (values: readonly DuckDBValue[]) => Outcome | Promise<Outcome>;

async function planCheck(
  db: DuckDb,
  scan: ColumnScan,
  files: readonly RankedFile[],
  columns: readonly Column[],
  { expectations }: Expectations,
  now: Date,
): Promise<{ readonly finish: (values: readonly DuckDBValue[]) => Promise<ValidationResult> }> {
  const context: Context = { db, scan, files, relation: parquetRelation(files.map(({ path }) => path)), columns, now };
  const rowsPlace = scan.add('count(*)');
  const checks: { readonly expectation: Expectation; readonly conclude: Conclude }[] = [];
  for (const expectation of expectations) checks.push({ expectation, conclude: await planOne(expectation, context) });
  return {
    async finish(values) {
      const results: ExpectationResult[] = [];
      for (const { expectation, conclude } of checks) {
        const outcome = await conclude(values);
        const column = 'column' in expectation ? expectation.column : null;
        results.push({
          expectation,
          column,
          severity: expectation.severity,
          checked: null,
          failing: null,
          fraction: null,
          observed: null,
          sample: [],
          ...outcome,
        });
      }
      const success = results.every((result) => result.success || result.severity === 'warn');
      return { format: 'millrace-validation/1', rows: toCount(values[rowsPlace]), success, results };
    },
  };
}

const settled =
  (outcome: Outcome): Conclude =>
  () =>
    outcome;

async function planOne(expectation: Expectation, context: Context): Promise<Conclude> {
  const { columns, scan } = context;
  const named =
    'column' in expectation
      ? [expectation.column]
      : expectation.kind === 'uniqueTogether'
        ? expectation.columns
        : expectation.kind === 'compareColumns'
          ? [expectation.left, expectation.right]
          : [];
  const missing = named.filter((name) => !columns.some((column) => column.name === name));
  if (missing.length > 0) {
    return settled({
      success: false,
      message: `There is no column ${missing.join(', ')}. The columns are: ${columns.map(({ name }) => name).join(', ')}.`,
      observed: 'missing',
    });
  }
  const column = columns.find(({ name }) => name === named[0]) ?? { name: '', type: 'string' };
  const wrong = wrongType(expectation, columns);
  if (wrong !== undefined) return settled({ success: false, message: wrong, observed: column.type });
  const name = identifier(column.name);
  switch (expectation.kind) {
    case 'notNull':
      return planRows(expectation, context, { bad: `${name} IS NULL`, checked: 'count(*)', shown: 'NULL', wanted: `${column.name} is never missing` });
    case 'nullFractionAtMost': {
      const [rows, present] = [scan.add('count(*)'), scan.add(`count(${name})`)];
      return (values) => {
        const total = toCount(values[rows]);
        const observed = total === 0 ? 0 : (total - toCount(values[present])) / total;
        return {
          success: observed <= expectation.fraction,
          observed,
          message: `${column.name} is missing in a share of ${figure(observed)}; at most ${expectation.fraction} is wanted.`,
        };
      };
    }
    case 'inSet':
    case 'notInSet': {
      const list = expectation.values.map((value) => scalarSql(value, column)).join(', ');
      // DuckDB compares with each literal of a list in turn; of many it makes a hash join only when they are rows
      const inside = `${comparable(column)} IN (${expectation.values.length > JOINED_VALUES ? `SELECT unnest([${list}])` : list})`;
      return planRows(expectation, context, {
        bad: expectation.kind === 'inSet' ? `NOT (${inside})` : inside,
        checked: `count(${name})`,
        shown: name,
        wanted: `${column.name} is ${expectation.kind === 'inSet' ? '' : 'not '}one of ${listed(expectation.values.map(String))}`,
      });
    }
    case 'between':
      return planRows(expectation, context, {
        bad: outside(comparable(column), expectation.min, expectation.max, numberSql),
        checked: `count(${name})`,
        shown: name,
        wanted: `${column.name} lies ${rangeText(expectation)}`,
      });
    case 'dateBetween': {
      const [from, to] = [expectation.from, expectation.to].map((text) => (text === null ? null : parseTimestamp(text)));
      if (from === undefined || to === undefined || (from === null && expectation.from !== null) || (to === null && expectation.to !== null)) {
        return settled({ success: false, message: 'from and to have to be ISO dates, such as 2001-01-31 or 2001-01-31T12:00:00Z.' });
      }
      const bad = outside(`CAST(${name} AS TIMESTAMP)`, from, to, (ms) => `epoch_ms(${ms})`);
      return planRows(expectation, context, {
        bad,
        checked: `count(${name})`,
        shown: name,
        wanted: `${column.name} lies ${rangeText({ min: expectation.from, max: expectation.to })}`,
      });
    }
    case 'lengthBetween':
      return planRows(expectation, context, {
        bad: outside(`length(${name})`, expectation.min, expectation.max, String),
        checked: `count(${name})`,
        shown: name,
        wanted: `${column.name} has a length ${rangeText(expectation)}`,
      });
    case 'matches': {
      const bad = `NOT regexp_matches(${name}, ${textLiteral(expectation.pattern)})`;
      if (!(await isComputable(context.db, context.relation, bad)))
        return settled({ success: false, message: `The pattern ${expectation.pattern} is not one that RE2 reads.` });
      return planRows(expectation, context, { bad, checked: `count(${name})`, shown: name, wanted: `${column.name} matches ${expectation.pattern}` });
    }
    case 'compareColumns': {
      const [left, right] = [identifier(expectation.left), identifier(expectation.right)];
      return planRows(expectation, context, {
        bad: `NOT (${left} ${expectation.is} ${right})`,
        checked: `count(*) FILTER (WHERE ${left} IS NOT NULL AND ${right} IS NOT NULL)`,
        shown: `concat(${left}, ' ', ${textLiteral(expectation.is)}, ' ', ${right})`,
        wanted: `${expectation.left} ${expectation.is} ${expectation.right}`,
      });
    }
    case 'customSql':
      return planCustom(expectation, context);
    case 'unique':
      return planUnique(expectation, [column.name], context);
    case 'uniqueTogether':
      return planUnique(expectation, expectation.columns, context);
    case 'increasing':
      return planIncreasing(expectation, column, context);
    case 'type': {
      const wanted = typeof expectation.type === 'string' ? [expectation.type] : expectation.type;
      return settled({
        success: wanted.includes(column.type),
        observed: column.type,
        message: `${column.name} is of type ${column.type}; ${wanted.join(' or ')} is wanted.`,
      });
    }
    case 'meanBetween':
      return planFigure(expectation, column, scan.add(`avg(${name})`), 'mean');
    case 'sumBetween':
      return planFigure(expectation, column, scan.add(`sum(CAST(${name} AS DOUBLE))`), 'sum');
    case 'standardDeviationBetween':
      return planFigure(expectation, column, scan.add(`stddev_samp(${name})`), 'standard deviation');
    case 'quantileBetween':
      return planFigure(expectation, column, scan.add(`quantile_disc(${comparable(column)}, ${expectation.q})`), `quantile ${expectation.q}`);
    case 'distinctBetween': {
      const { db, relation } = context;
      return async () => {
        const { n } = await db.row(`SELECT count(*) AS n FROM (SELECT DISTINCT ${name} AS v FROM ${relation} WHERE ${name} IS NOT NULL)`);
        return inRange(toCount(n), expectation, `${column.name} has # different values`);
      };
    }
    case 'freshness': {
      const place = scan.add(`epoch_us(CAST(max(${name}) AS TIMESTAMP)) / 1000.0::DOUBLE`);
      return (values) => {
        const latest = toNumber(values[place]);
        if (latest === null) return { success: false, message: `${column.name} has no instant.` };
        const ageHours = (context.now.getTime() - latest) / HOUR_MS;
        return {
          success: ageHours <= expectation.maxAgeHours,
          observed: new Date(latest).toISOString(),
          message: `The latest ${column.name} is ${figure(ageHours)} hours old; at most ${expectation.maxAgeHours} are wanted.`,
        };
      };
    }
    case 'columnsExist': {
      const absent = expectation.columns.filter((wanted) => !columns.some((there) => there.name === wanted));
      return settled({
        success: absent.length === 0,
        message: absent.length === 0 ? 'All columns are there.' : `There is no column ${absent.join(', ')}.`,
        observed: columns.map((there) => there.name).join(', '),
      });
    }
    case 'exactColumns': {
      const absent = expectation.columns.filter((wanted) => !columns.some((there) => there.name === wanted));
      const extra = columns.filter((there) => !expectation.columns.includes(there.name)).map((there) => there.name);
      const said = [absent.length > 0 ? `There is no column ${absent.join(', ')}.` : '', extra.length > 0 ? `There are others: ${extra.join(', ')}.` : '']
        .filter(Boolean)
        .join(' ');
      return settled({
        success: said === '',
        message: said === '' ? 'The columns are exactly these.' : said,
        observed: columns.map((there) => there.name).join(', '),
      });
    }
    case 'rowCount': {
      const place = scan.add('count(*)');
      return (values) => inRange(toCount(values[place]), expectation, 'There are # rows');
    }
  }
}

const NUMERIC: readonly Column['type'][] = ['number', 'integer', 'boolean'];
const TIMED: readonly Column['type'][] = ['timestamp', 'date'];

/** Why a column's type does not go with an expectation. */
function wrongType(expectation: Expectation, columns: readonly Column[]): string | undefined {
  const typeOf = (name: string): Column['type'] | undefined => columns.find((column) => column.name === name)?.type;
  const needs = (name: string, types: readonly Column['type'][]): string | undefined => {
    const found = typeOf(name);
    return found === undefined || types.includes(found)
      ? undefined
      : `${expectation.kind} is for columns of type ${types.join(', ')}; ${name} is of type ${found}.`;
  };
  switch (expectation.kind) {
    case 'between':
    case 'meanBetween':
    case 'sumBetween':
    case 'standardDeviationBetween':
    case 'quantileBetween':
      return needs(expectation.column, ['number', 'integer']);
    case 'dateBetween':
    case 'freshness':
      return needs(expectation.column, TIMED);
    case 'lengthBetween':
    case 'matches':
      return needs(expectation.column, ['string']);
    case 'inSet':
    case 'notInSet': {
      const kind = typeof expectation.values[0];
      if (expectation.values.some((value) => typeof value !== kind)) return `The values of ${expectation.kind} have to be of one type.`;
      return kind === 'boolean'
        ? needs(expectation.column, ['boolean'])
        : kind === 'number'
          ? needs(expectation.column, ['number', 'integer'])
          : needs(expectation.column, ['string', ...TIMED]);
    }
    case 'compareColumns': {
      const [left, right] = [typeOf(expectation.left), typeOf(expectation.right)];
      const family = (found: Column['type'] | undefined): string =>
        found === undefined || found === 'string' ? 'text' : TIMED.includes(found) ? 'time' : NUMERIC.includes(found) ? 'number' : 'text';
      return family(left) === family(right)
        ? undefined
        : `${expectation.left} is of type ${left ?? ''} and ${expectation.right} of type ${right ?? ''}: they cannot be compared.`;
    }
    default:
      return undefined;
  }
}

/** Dates are compared by their ISO text, everything else as it is. */
const comparable = ({ name, type }: Column): string =>
  type === 'date'
    ? `strftime(${identifier(name)}, '%Y-%m-%d')`
    : type === 'timestamp'
      ? `strftime(${identifier(name)}, '%Y-%m-%dT%H:%M:%S.%gZ')`
      : identifier(name);

function scalarSql(value: string | number | boolean, { type }: Column): string {
  if (typeof value === 'number') return numberSql(value);
  if (typeof value === 'boolean') return String(value);
  if (type !== 'timestamp') return textLiteral(value);
  const ms = parseTimestamp(value);
  return textLiteral(ms === null ? value : new Date(ms).toISOString());
}

/** A whole number stays one, so that DuckDB compares integers as integers and skips what Parquet's statistics rule out. */
const numberSql = (value: number): string => (Number.isSafeInteger(value) ? String(value) : numberLiteral(value));

function outside(value: string, min: number | null, max: number | null, literal: (bound: number) => string): string {
  const parts = [min === null ? '' : `${value} < ${literal(min)}`, max === null ? '' : `${value} > ${literal(max)}`].filter(Boolean);
  return parts.length === 0 ? 'false' : `(${parts.join(' OR ')})`;
}

interface RowRule {
  /** True for a row that fails; null and false pass. */
  readonly bad: string;
  /** Aggregate: how many values are looked at. */
  readonly checked: string;
  /** What a sample shows of a failing row. */
  readonly shown: string;
  readonly wanted: string;
}
type Tolerant = Expectation & { readonly mostly: number };

function planRows(expectation: Tolerant, context: Context, { bad, checked, shown, wanted }: RowRule): Conclude {
  const [checkedPlace, failingPlace] = [context.scan.add(checked), context.scan.add(`count(*) FILTER (WHERE ${bad})`)];
  return async (values) => {
    const failing = toCount(values[failingPlace]);
    const outcome = tolerated(expectation, toCount(values[checkedPlace]), failing, wanted);
    if (failing === 0) return outcome;
    const numbered = numberedRelation(
      context.files,
      context.columns.map(({ name }) => name),
    );
    return { ...outcome, sample: await sampleOf(context.db, `SELECT ${ROW_NUMBER} AS row, ${shown} AS value FROM ${numbered} WHERE ${bad}`) };
  };
}

async function sampleOf(db: DuckDb, sql: string): Promise<{ row: number; value: string }[]> {
  const rows = await db.rows(`SELECT row, CAST(value AS VARCHAR) AS value FROM (${sql}) ORDER BY row LIMIT ${SAMPLE_ROWS}`);
  return rows.map(({ row, value }) => {
    const text = typeof value === 'string' ? value : 'null';
    return { row: toCount(row), value: text.length > SAMPLE_CHARACTERS ? `${text.slice(0, SAMPLE_CHARACTERS)}…` : text };
  });
}

function tolerated({ mostly }: { readonly mostly: number }, checked: number, failing: number, wanted: string): Outcome {
  const fraction = checked === 0 ? 0 : failing / checked;
  // In counts and not in shares: 1 − 1/1000 is not 0.999 in binary.
  const success = failing <= Math.floor((1 - mostly) * checked + 1e-9);
  const tolerance = mostly === 1 ? '' : ` (for a share of ${mostly})`;
  return {
    success,
    checked,
    failing,
    fraction,
    message: `It is wanted that ${wanted}${tolerance}: ${failing === 0 ? 'all' : `${failing} of`} ${checked} ${failing === 0 ? 'do' : 'do not'}.`,
  };
}

function inRange(observed: number | null, { min, max }: { readonly min: number | null; readonly max: number | null }, said: string): Outcome {
  if (observed === null) return { success: false, message: `${said.replace('#', 'no')}: there are no values.` };
  const success = (min === null || observed >= min) && (max === null || observed <= max);
  return { success, observed, message: `${said.replace('#', figure(observed))}; wanted is ${rangeText({ min, max })}.` };
}

const planFigure =
  (range: { readonly min: number | null; readonly max: number | null }, column: Column, place: number, what: string): Conclude =>
  (values) =>
    inRange(toNumber(values[place]), range, `The ${what} of ${column.name} is #`);

async function planCustom(expectation: Expectation & { kind: 'customSql' }, context: Context): Promise<Conclude> {
  const condition = `CAST((${expectation.sql}\n) AS BOOLEAN)`;
  const unusable: Outcome = {
    success: false,
    message: `The SQL of ${expectation.name} cannot be evaluated: it has to be a boolean expression over the columns ${context.columns.map(({ name }) => name).join(', ')}.`,
  };
  if (!(await isComputable(context.db, context.relation, condition))) return settled(unusable);
  // In a pass of its own: a person's SQL may fail on a row, and must not take the other expectations with it.
  return async () => {
    const own = createColumnScan(context.relation);
    const conclude = planRows(
      expectation,
      { ...context, scan: own },
      { bad: `NOT ${condition}`, checked: `count(${condition})`, shown: textLiteral(expectation.name), wanted: expectation.name },
    );
    try {
      return await conclude(await own.run(context.db));
    } catch (error) {
      if (error instanceof DuckDbFailure) return unusable;
      throw error;
    }
  };
}

function planUnique(expectation: Tolerant, names: readonly string[], { db, relation }: Context): Conclude {
  const list = names.map(identifier).join(', ');
  const present = names.map((name) => `${identifier(name)} IS NOT NULL`).join(' AND ');
  const groups = `SELECT ${list}, count(*) AS n FROM ${relation} WHERE ${present} GROUP BY ALL`;
  return async () => {
    const { checked, failing } = await db.row(`SELECT sum(n) AS checked, sum(n) FILTER (WHERE n > 1) AS failing FROM (${groups})`);
    const outcome = tolerated(expectation, toCount(checked), toCount(failing), `no value of ${names.join(', ')} occurs twice`);
    if (toCount(failing) === 0) return outcome;
    const shown = names.map((name) => `CAST(${identifier(name)} AS VARCHAR)`).join(" || ', ' || ");
    const repeats = await db.rows(
      `SELECT ${shown} || ' (' || n || ' times)' AS value FROM (${groups}) WHERE n > 1 ORDER BY n DESC, value LIMIT ${SAMPLE_ROWS}`,
    );
    return { ...outcome, message: `${outcome.message} Most often: ${repeats.map(({ value }) => String(value).slice(0, SAMPLE_CHARACTERS)).join('; ')}.` };
  };
}

function planIncreasing(expectation: Expectation & { kind: 'increasing' }, column: Column, { db, files }: Context): Conclude {
  const name = identifier(column.name);
  const present = `(SELECT ${ROW_NUMBER}, ${name} AS v FROM ${numberedRelation(files, [column.name])} WHERE ${name} IS NOT NULL)`;
  const stepped = `(SELECT ${ROW_NUMBER} AS row, v, lag(v) OVER () AS before FROM ${present})`;
  const bad = `v ${expectation.strictly ? '<=' : '<'} before`;
  return async () => {
    const { checked, failing } = await db.row(`SELECT count(*) AS checked, count(*) FILTER (WHERE ${bad}) AS failing FROM ${stepped}`);
    const outcome = tolerated(expectation, toCount(checked), toCount(failing), `${column.name} increases from row to row`);
    return toCount(failing) === 0 ? outcome : { ...outcome, sample: await sampleOf(db, `SELECT row, v AS value FROM ${stepped} WHERE ${bad}`) };
  };
}

const figure = (value: number): string => (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6))));
const rangeText = ({ min, max }: { readonly min: number | string | null; readonly max: number | string | null }): string =>
  min === null ? (max === null ? 'anywhere' : `at most at ${max}`) : max === null ? `at least at ${min}` : `between ${min} and ${max}`;
const listed = (values: readonly string[]): string =>
  values.length > 10 ? `${values.slice(0, 10).join(', ')} and ${values.length - 10} more` : values.join(', ');
