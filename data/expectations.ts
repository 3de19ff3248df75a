/** Checks expectations: all that look at single rows or at figures of a column in one pass, each column's repeats in one more. */
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Expectation, ExpectationResult, Expectations, ValidationResult } from '../contracts/expectations.ts';
import type { Profile } from '../contracts/profile.ts';
import { type ColumnScan, createColumnScan } from './column-scan.ts';
import { type DuckDb, type DuckDbOptions, DuckDbFailure, toCount, toNumber, toText, withDuckDb } from './duckdb.ts';
import {
  type CheckAccess,
  type CheckContext,
  type Conclude,
  figure,
  inRange,
  MASKED,
  type Outcome,
  SAMPLE_CHARACTERS,
  SAMPLE_ROWS,
  sampleOf,
  settled,
  tolerated,
} from './expectation-check.ts';
import { columnsOf, wrongType } from './expectation-types.ts';
import { finishProfile, planProfile, type ProfileOptions } from './profile.ts';
import { planComparison } from './reference-tests.ts';
import { numberedRelation, ROW_NUMBER, type RankedFile } from './row-rank.ts';
import { comparable, notEvaluable, type RowRule, rowRuleOf, scalarSql } from './row-rules.ts';
import { identifier, parquetRelation } from './sql-text.ts';

const HOUR_MS = 3_600_000;

export type CheckOptions = DuckDbOptions & CheckAccess;

/** Checks all expectations. What cannot be checked (a missing column, a type that does not fit) is a result that failed, not an error. */
export async function checkExpectations(
  files: readonly RankedFile[],
  columns: readonly Column[],
  expectations: Expectations,
  options: CheckOptions = {},
): Promise<ValidationResult> {
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
    const check = await planCheck(db, scan, files, columns, expectations, options);
    return check.finish(await scan.run(db));
  });
}

/** Profile and expectations in the same pass. */
export async function profileAndCheck(
  files: readonly RankedFile[],
  columns: readonly Column[],
  expectations: Expectations,
  options: CheckOptions & Pick<ProfileOptions, 'target'> = {},
): Promise<{ readonly profile: Profile; readonly validation: ValidationResult }> {
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
    const plan = planProfile(scan, columns);
    const check = await planCheck(db, scan, files, columns, expectations, options);
    const values = await scan.run(db);
    return { profile: await finishProfile(db, files, plan, values, options), validation: await check.finish(values) };
  });
}

/** The error that a stage throws for a validation that did not succeed: every expectation of severity `fail` that does not hold. */
export function expectationsFailed(validation: ValidationResult, dataset: string): MillraceError {
  const failed = validation.results.filter(({ success, severity }) => !success && severity === 'fail');
  const problems = failed.map(({ expectation, column, message, sample }): Problem => {
    const [first] = sample;
    return {
      path: pathOf(expectation),
      message,
      ...(column === null ? {} : { column }),
      ...(first === undefined ? {} : { found: first.value, row: first.row }),
    };
  });
  return new MillraceError('EXPECTATIONS_FAILED', `${failed.length} of ${validation.results.length} expectations of ${dataset} do not hold.`, { problems });
}

/** What an expectation is called in errors and in quarantined rows: `delay.between`, `rowCount`. */
export const pathOf = (expectation: Expectation): string =>
  'column' in expectation ? `${expectation.column}.${expectation.kind}` : expectation.kind === 'customSql' ? `customSql.${expectation.name}` : expectation.kind;

interface PlannedCheck {
  readonly expectation: Expectation;
  readonly conclude: Conclude;
  /** Of one that looks at one row at a time. */
  readonly rule?: RowRule;
}

export async function planCheck(
  db: DuckDb,
  scan: ColumnScan,
  files: readonly RankedFile[],
  columns: readonly Column[],
  { expectations }: Expectations,
  access: CheckAccess,
): Promise<{
  readonly checks: readonly PlannedCheck[];
  readonly finish: (values: Awaited<ReturnType<ColumnScan['run']>>) => Promise<ValidationResult>;
}> {
  const context: CheckContext = { db, scan, files, relation: parquetRelation(files.map(({ path }) => path)), columns, access };
  const rowsPlace = scan.add('count(*)');
  const checks: PlannedCheck[] = [];
  for (const expectation of expectations) checks.push({ expectation, ...(await planOne(expectation, context)) });
  return {
    checks,
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

async function planOne(expectation: Expectation, context: CheckContext): Promise<Omit<PlannedCheck, 'expectation'>> {
  const { columns } = context;
  const missing = columnsOf(expectation).filter((name) => !columns.some((column) => column.name === name));
  if (missing.length > 0) {
    const there = columns.map(({ name }) => name).join(', ');
    return { conclude: settled({ success: false, message: `There is no column ${missing.join(', ')}. The columns are: ${there}.`, observed: 'missing' }) };
  }
  const column = columns.find(({ name }) => name === columnsOf(expectation)[0]) ?? { name: '', type: 'string' };
  const wrong = wrongType(expectation, columns);
  if (wrong !== undefined) return { conclude: settled({ success: false, message: wrong, observed: column.type }) };
  const rule = await rowRuleOf(expectation, context);
  if (typeof rule === 'string') return { conclude: settled({ success: false, message: rule }) };
  if (rule !== undefined && 'mostly' in expectation)
    return { rule, conclude: rule.alone === true ? planAlone(expectation, rule, context) : planRows(expectation, context, rule) };
  return { conclude: await planWhole(expectation, column, context) };
}

/** Expectations of a column or of the table as a whole. */
function planWhole(expectation: Expectation, column: Column, context: CheckContext): Conclude | Promise<Conclude> {
  const { columns, scan, access } = context;
  const name = identifier(column.name);
  switch (expectation.kind) {
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
    case 'unique':
      return planUnique(expectation, [column.name], context);
    case 'uniqueTogether':
      return planUnique(expectation, expectation.columns, context);
    case 'increasing':
    case 'decreasing':
      return planMonotone(expectation, column, context);
    case 'type': {
      const wanted = typeof expectation.type === 'string' ? [expectation.type] : expectation.type;
      return settled({
        success: wanted.includes(column.type),
        observed: column.type,
        message: `${column.name} is of type ${column.type}; ${wanted.join(' or ')} is wanted.`,
      });
    }
    case 'minBetween':
      return planFigure(expectation, column, scan.add(`min(${name})`), 'least value');
    case 'maxBetween':
      return planFigure(expectation, column, scan.add(`max(${name})`), 'greatest value');
    case 'meanBetween':
      return planFigure(expectation, column, scan.add(`avg(${name})`), 'mean');
    case 'sumBetween':
      return planFigure(expectation, column, scan.add(`sum(CAST(${name} AS DOUBLE))`), 'sum');
    case 'standardDeviationBetween':
      return planFigure(expectation, column, scan.add(`stddev_samp(${name})`), 'standard deviation');
    case 'quantileBetween':
      return planFigure(expectation, column, scan.add(`quantile_disc(${comparable(column)}, ${expectation.q})`), `quantile ${expectation.q}`);
    case 'distinctBetween':
      return async () => inRange((await distinctCounts(context, name)).distinct, expectation, `${column.name} has # different values`);
    case 'distinctFractionBetween':
      return async () => {
        const { distinct, present } = await distinctCounts(context, name);
        return inRange(present === 0 ? null : distinct / present, expectation, `The share of different values of ${column.name} is #`);
      };
    case 'distinctInclude':
      return async () => {
        const wanted = expectation.values.map((value, index) => `(${scalarSql(value, column)}, ${index})`).join(', ');
        const value = comparable(column);
        const found = await context.db.rows(
          `SELECT i FROM (VALUES ${wanted}) AS w(v, i) WHERE NOT (v IN (SELECT ${value} FROM ${context.relation} WHERE ${name} IS NOT NULL)) ORDER BY i`,
        );
        const absent = found.map(({ i }) => String(expectation.values[toCount(i)]));
        return {
          success: absent.length === 0,
          message: absent.length === 0 ? `All wanted values of ${column.name} occur.` : `${column.name} is never ${absent.join(', ')}.`,
        };
      };
    case 'mostCommonIn':
      return async () => {
        const value = comparable(column);
        const counted = `SELECT ${value} AS v, count(*) AS n FROM ${context.relation} WHERE ${name} IS NOT NULL GROUP BY ALL`;
        const wanted = expectation.values.map((wish) => scalarSql(wish, column)).join(', ');
        const rows = await context.db.rows(
          `SELECT v, v IN (${wanted}) AS ok FROM (${counted}) WHERE n = (SELECT max(n) FROM (${counted})) ORDER BY v LIMIT ${SAMPLE_ROWS}`,
        );
        const shown = access.masked?.has(column.name) === true ? MASKED : rows.map(({ v }) => (toText(v ?? null) ?? '').slice(0, SAMPLE_CHARACTERS)).join(', ');
        return {
          success: rows.length > 0 && rows.every(({ ok }) => ok === true),
          observed: shown,
          message:
            rows.length === 0 ? `${column.name} has no values.` : `${column.name} is most often ${shown}; wanted is one of ${expectation.values.join(', ')}.`,
        };
      };
    case 'psiAtMost':
    case 'kolmogorovSmirnov':
    case 'chiSquare':
      return planComparison(expectation, column, context);
    case 'freshness': {
      const place = scan.add(`epoch_us(CAST(max(${name}) AS TIMESTAMP)) / 1000.0::DOUBLE`);
      return (values) => {
        const latest = toNumber(values[place]);
        if (latest === null) return { success: false, message: `${column.name} has no instant.` };
        const ageHours = ((access.now ?? new Date()).getTime() - latest) / HOUR_MS;
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
    case 'columnCount':
      return settled(inRange(columns.length, expectation, 'There are # columns'));
    case 'rowCount': {
      const place = scan.add('count(*)');
      return (values) => inRange(toCount(values[place]), expectation, 'There are # rows');
    }
    default:
      throw new MillraceError('INTERNAL', `The expectation ${expectation.kind} is about rows.`);
  }
}

type Tolerant = Expectation & { readonly mostly: number };

function planRows(expectation: Tolerant, context: CheckContext, { bad, checked, shown, shows, wanted }: RowRule): Conclude {
  const [checkedPlace, failingPlace] = [context.scan.add(checked), context.scan.add(`count(*) FILTER (WHERE ${bad})`)];
  return async (values) => {
    const failing = toCount(values[failingPlace]);
    const outcome = tolerated(expectation, toCount(values[checkedPlace]), failing, wanted);
    if (failing === 0) return outcome;
    const numbered = numberedRelation(
      context.files,
      context.columns.map(({ name }) => name),
    );
    const value = shows.some((name) => context.access.masked?.has(name) === true) ? `'${MASKED}'` : shown;
    return { ...outcome, sample: await sampleOf(context.db, `SELECT ${ROW_NUMBER} AS row, ${value} AS value FROM ${numbered} WHERE ${bad}`) };
  };
}

function planAlone(expectation: Tolerant, rule: RowRule, context: CheckContext): Conclude {
  return async () => {
    const own = createColumnScan(context.relation);
    const conclude = planRows(expectation, { ...context, scan: own }, rule);
    try {
      return await conclude(await own.run(context.db));
    } catch (error) {
      if (error instanceof DuckDbFailure) return { success: false, message: notEvaluable(rule.wanted, context.columns) };
      throw error;
    }
  };
}

const planFigure =
  (range: { readonly min: number | null; readonly max: number | null }, column: Column, place: number, what: string): Conclude =>
  (values) =>
    inRange(toNumber(values[place]), range, `The ${what} of ${column.name} is #`);

async function distinctCounts({ db, relation }: CheckContext, name: string): Promise<{ readonly distinct: number; readonly present: number }> {
  const row = await db.row(
    `SELECT count(*) AS d, sum(n) AS n FROM (SELECT ${name} AS v, count(*) AS n FROM ${relation} WHERE ${name} IS NOT NULL GROUP BY ALL)`,
  );
  return { distinct: toCount(row['d']), present: toCount(row['n'] ?? 0) };
}

function planUnique(expectation: Tolerant, names: readonly string[], { db, relation, access }: CheckContext): Conclude {
  const list = names.map(identifier).join(', ');
  const present = names.map((name) => `${identifier(name)} IS NOT NULL`).join(' AND ');
  // not `n`: that may be the name of one of the columns
  const groups = `SELECT ${list}, count(*) AS millrace_count FROM ${relation} WHERE ${present} GROUP BY ALL`;
  return async (): Promise<Outcome> => {
    const { checked, failing } = await db.row(
      `SELECT sum(millrace_count) AS checked, sum(millrace_count) FILTER (WHERE millrace_count > 1) AS failing FROM (${groups})`,
    );
    const outcome = tolerated(expectation, toCount(checked), toCount(failing), `no value of ${names.join(', ')} occurs twice`);
    if (toCount(failing) === 0 || names.some((name) => access.masked?.has(name) === true)) return outcome;
    const shown = names.map((name) => `CAST(${identifier(name)} AS VARCHAR)`).join(" || ', ' || ");
    const repeats = await db.rows(
      `SELECT ${shown} || ' (' || millrace_count || ' times)' AS value FROM (${groups}) WHERE millrace_count > 1 ORDER BY millrace_count DESC, value LIMIT ${SAMPLE_ROWS}`,
    );
    return { ...outcome, message: `${outcome.message} Most often: ${repeats.map(({ value }) => String(value).slice(0, SAMPLE_CHARACTERS)).join('; ')}.` };
  };
}

function planMonotone(expectation: Expectation & { kind: 'increasing' | 'decreasing' }, column: Column, { db, files, access }: CheckContext): Conclude {
  const name = identifier(column.name);
  const present = `(SELECT ${ROW_NUMBER}, ${name} AS v FROM ${numberedRelation(files, [column.name])} WHERE ${name} IS NOT NULL)`;
  const stepped = `(SELECT ${ROW_NUMBER} AS row, v, lag(v) OVER () AS before FROM ${present})`;
  const bad = `v ${expectation.kind === 'increasing' ? '<' : '>'}${expectation.strictly ? '=' : ''} before`;
  const value = access.masked?.has(column.name) === true ? `'${MASKED}'` : 'v';
  return async () => {
    const { checked, failing } = await db.row(`SELECT count(*) AS checked, count(*) FILTER (WHERE ${bad}) AS failing FROM ${stepped}`);
    const outcome = tolerated(
      expectation,
      toCount(checked),
      toCount(failing),
      `${column.name} ${expectation.kind === 'increasing' ? 'increases' : 'decreases'} from row to row`,
    );
    return toCount(failing) === 0 ? outcome : { ...outcome, sample: await sampleOf(db, `SELECT row, ${value} AS value FROM ${stepped} WHERE ${bad}`) };
  };
}
