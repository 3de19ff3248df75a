/**
 * How well single columns say the target, measured out of sample on a draw of the rows.
 *
 * A column's values (of numbers with many values: 200 bins of like size) are given the target's mean, or its most
 * frequent class, as seen in one half of the draw, and judged on the other half. Values that the other half does not
 * have count as the whole's mean. Numbers are also judged by their order as it is.
 */
import type { Column } from '../contracts/columns.ts';
import { type DuckDb, DuckDbFailure, type SqlRow, toCount, toNumber } from './duckdb.ts';
import { ROW_RANK, rankBound, rankedRelation, type RankedFile } from './row-rank.ts';
import { identifier } from './sql-text.ts';

export interface LeakingColumn {
  readonly column: string;
  readonly score: number;
  readonly measure: Measure;
}

type Measure = 'auc' | 'errors' | 'variance';
/** What the score is, as messages name it. */
export const POWER_OF: Readonly<Record<Measure, string>> = { auc: 'AUC', errors: 'share of errors avoided', variance: 'R²' };

const MOST_ROWS = 100_000;
/** Rows × columns of the draw. */
const MOST_CELLS = 10_000_000;
const LEAST_ROWS = 2_000;
const BINS = 200;
const MOST_CLASSES = 50;
/** Integers of more values than this are amounts, not classes. */
const MOST_INTEGER_CLASSES = 20;
/** Below this chance alone makes columns look strong. */
const LEAST_OF_A_CLASS = 20;
const LEAST_FOR_REGRESSION = 50;

/** The columns whose power is at least `threshold`, the strongest first. Empty where the target cannot be judged so. */
export async function leakingColumns(
  db: DuckDb,
  files: readonly RankedFile[],
  columns: readonly Column[],
  target: Column,
  threshold: number,
): Promise<readonly LeakingColumn[]> {
  if (columns.length === 0) return [];
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  const wanted = Math.min(MOST_ROWS, Math.max(LEAST_ROWS, Math.floor(MOST_CELLS / columns.length)));
  const names = [...columns, target].map(({ name }) => name);
  const drawn = `SELECT * FROM ${rankedRelation(files, names, 0)} WHERE ${identifier(target.name)} IS NOT NULL${rows > wanted ? ` AND ${ROW_RANK} < ${rankBound(rows, 0, wanted)}` : ''}`;
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_drawn AS ${drawn}`);
  const judge = await judgeOf(db, target);
  if (judge === undefined) return [];
  const found: LeakingColumn[] = [];
  for (const column of columns) {
    const score = await judge.score(column);
    if (score >= threshold) found.push({ column: column.name, score, measure: judge.measure });
  }
  return found.sort((a, b) => b.score - a.score || (a.column < b.column ? -1 : 1));
}

interface Judge {
  readonly measure: Measure;
  readonly score: (column: Column) => Promise<number>;
}

async function judgeOf(db: DuckDb, target: Column): Promise<Judge | undefined> {
  const y = identifier(target.name);
  const counts = await db.rows(
    `SELECT CAST(${y} AS VARCHAR) AS v, count(*) AS n FROM millrace_drawn GROUP BY ${y} ORDER BY n DESC, v LIMIT ${MOST_CLASSES + 1}`,
  );
  const [largest, second] = counts;
  if (largest === undefined || second === undefined) return undefined;
  const isClass = target.type === 'integer' ? counts.length <= MOST_INTEGER_CLASSES : counts.length <= (target.type === 'number' ? 2 : MOST_CLASSES);
  if (isClass && counts.length === 2) {
    if (toCount(second['n']) < LEAST_OF_A_CLASS) return undefined;
    await labelled(db, `CASE WHEN CAST(${y} AS VARCHAR) = (SELECT min(CAST(${y} AS VARCHAR)) FROM millrace_drawn) THEN 0 ELSE 1 END::DOUBLE`);
    return { measure: 'auc', score: (column) => scoreBinary(db, column) };
  }
  if (isClass) {
    if (counts.reduce((sum, { n }) => sum + toCount(n), 0) - toCount(largest['n']) < LEAST_OF_A_CLASS) return undefined;
    await labelled(db, `CAST(${y} AS VARCHAR)`);
    return { measure: 'errors', score: (column) => scoreClasses(db, column) };
  }
  if (target.type !== 'number' && target.type !== 'integer') return undefined;
  const { n, mean, spread } = await db.row(`SELECT count(*) AS n, avg(${y}) AS mean, stddev_pop(${y}) AS spread FROM millrace_drawn`);
  const deviation = toNumber(spread) ?? 0;
  if (toCount(n) < LEAST_FOR_REGRESSION || !(deviation > 0)) return undefined;
  await labelled(db, `(${y} - ${toNumber(mean) ?? 0}::DOUBLE) / ${deviation}::DOUBLE`);
  return { measure: 'variance', score: (column) => scoreRegression(db, column) };
}

const labelled = (db: DuckDb, y: string): Promise<void> =>
  db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_labelled AS SELECT *, ${y} AS __y, ${ROW_RANK} & 1 AS __half FROM millrace_drawn`);

const isOrdered = ({ type }: Column): boolean => type !== 'string' && type !== 'boolean';
const orderOf = ({ name, type }: Column): string =>
  type === 'timestamp' || type === 'date' ? `epoch_us(CAST(${identifier(name)} AS TIMESTAMP))` : identifier(name);

/** The column's values as categories; what is missing is one of them. */
async function categories(db: DuckDb, column: Column): Promise<string> {
  const name = identifier(column.name);
  const plain = `coalesce(CAST(${name} AS VARCHAR), chr(0))`;
  if (!isOrdered(column)) return `(SELECT ${plain} AS c, __y, __half FROM millrace_labelled)`;
  const { n } = await db.row(`SELECT approx_count_distinct(${name}) AS n FROM millrace_labelled`);
  if (toCount(n) <= BINS) return `(SELECT ${plain} AS c, __y, __half FROM millrace_labelled)`;
  const bin = `CASE WHEN ${name} IS NULL THEN chr(0) ELSE CAST(floor(${BINS} * percent_rank() OVER (ORDER BY ${name})) AS VARCHAR) END`;
  return `(SELECT ${bin} AS c, __y, __half FROM millrace_labelled)`;
}

/** Each category of each half with what the other half expects of it. */
const expected = (relation: string): string => `(
  WITH halves AS (SELECT c, __half, count(*) AS n, sum(__y) AS s, sum(__y * __y) AS ss FROM ${relation} GROUP BY ALL),
    whole AS (SELECT sum(s) / sum(n) AS mean FROM halves)
  SELECT a.n, a.s, a.ss, (coalesce(b.s, 0) + mean) / (coalesce(b.n, 0) + 1) AS score
  FROM halves AS a LEFT JOIN halves AS b ON a.c = b.c AND a.__half <> b.__half, whole)`;

/** AUC of groups of equal score: Mann and Whitney's U, ties counted half. */
const aucOf = (relation: string): string =>
  `SELECT sum(pos * (below + neg / 2)) / (sum(pos) * sum(neg)) AS auc FROM (SELECT pos, neg, sum(neg) OVER (ORDER BY score ROWS UNBOUNDED PRECEDING) - neg AS below FROM (SELECT score, sum(s) AS pos, sum(n - s) AS neg FROM ${relation} GROUP BY score))`;

async function scoreBinary(db: DuckDb, column: Column): Promise<number> {
  const out = toNumber((await db.row(aucOf(expected(await categories(db, column)))))['auc']) ?? 0;
  if (!isOrdered(column)) return out;
  const byOrder = `(SELECT ${orderOf(column)} AS score, count(*) AS n, sum(__y) AS s FROM millrace_labelled WHERE ${identifier(column.name)} IS NOT NULL GROUP BY ALL)`;
  const { present, of } = await db.row(
    `SELECT least(sum(__y) FILTER (WHERE ${identifier(column.name)} IS NOT NULL), count(*) FILTER (WHERE ${identifier(column.name)} IS NOT NULL AND __y = 0)) AS present, count(*) AS of FROM millrace_labelled`,
  );
  if (toCount(present) < LEAST_OF_A_CLASS || toCount(of) === 0) return out;
  const auc = toNumber((await db.row(aucOf(byOrder)))['auc']) ?? 0.5;
  return Math.max(out, auc, 1 - auc);
}

async function scoreClasses(db: DuckDb, column: Column): Promise<number> {
  const relation = await categories(db, column);
  const { right, base, n } = await db.row(`
    WITH cells AS (SELECT c, __half, __y, count(*) AS n FROM ${relation} GROUP BY ALL),
      classes AS (SELECT __y, sum(n) AS n FROM cells GROUP BY __y),
      usual AS (SELECT arg_max(__y, (n, __y)) AS y, max(n) AS n, sum(n) AS whole FROM classes),
      learnt AS (SELECT c, __half, arg_max(__y, (n, __y)) AS y FROM cells GROUP BY c, __half)
    SELECT sum(a.n) FILTER (WHERE a.__y = coalesce(b.y, usual.y)) AS right, any_value(usual.n) AS base, any_value(usual.whole) AS n
    FROM cells AS a LEFT JOIN learnt AS b ON a.c = b.c AND a.__half <> b.__half, usual`);
  const errors = toCount(n) - toCount(base);
  return errors === 0 ? 0 : (toCount(right) - toCount(base)) / errors;
}

async function scoreRegression(db: DuckDb, column: Column): Promise<number> {
  const { unexplained, n } = await db.row(
    `SELECT sum(ss - 2 * score * s + n * score * score) AS unexplained, sum(n) AS n FROM ${expected(await categories(db, column))}`,
  );
  const out = 1 - (toNumber(unexplained) ?? 0) / Math.max(1, toCount(n));
  if (!isOrdered(column)) return out;
  const x = orderOf(column);
  const { linear, monotone, of } = await db
    .row(
      `SELECT corr(x, __y) AS linear, corr(rank_x, rank_y) AS monotone, count(*) AS of FROM (SELECT CAST(${x} AS DOUBLE) AS x, __y, rank() OVER (ORDER BY ${x}) AS rank_x, rank() OVER (ORDER BY __y) AS rank_y FROM millrace_labelled WHERE ${identifier(column.name)} IS NOT NULL)`,
    )
    .catch((error: unknown): SqlRow => {
      // The squares of values beyond 1e154 do not fit a double: such a column has no correlation.
      if (error instanceof DuckDbFailure) return {};
      throw error;
    });
  if (toCount(of) < LEAST_FOR_REGRESSION) return out;
  const square = (value: number | null): number => (value === null || !Number.isFinite(value) ? 0 : value * value);
  return Math.max(out, square(toNumber(linear)), square(toNumber(monotone)));
}
