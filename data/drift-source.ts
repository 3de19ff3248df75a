/**
 * Rows whose drift is measured, as a relation with one column for each that is compared: `i0`, `i1` … as asked for, and `output`, the list
 * that the model answered. Numbers and booleans (0 and 1) are DOUBLE and finite, or whole, instants TIMESTAMP, all else VARCHAR; what is not of its type is missing.
 */
import type { Column, ColumnType } from '../contracts/columns.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import { predictionRelation } from './log-relations.ts';
import type { LogSegment } from './prediction-segments.ts';
import { identifier, listLiteral, parquetRelation, textLiteral } from './sql-text.ts';

/** [from, to), UTC ISO. */
export interface TimeRange {
  readonly from: string;
  readonly to: string;
}

/** Recent rows, or those that they are compared with: segments of the prediction log (columns under `inputs`), or snapshot files. */
export type RecentRows =
  | {
      readonly kind: 'predictionLog';
      readonly segments: readonly LogSegment[];
      readonly model?: string;
      readonly version?: number;
      readonly from?: string;
      readonly to?: string;
      /** Only rows in any of these, such as the same hour of earlier weeks. Default: all. */
      readonly ranges?: readonly TimeRange[];
    }
  | {
      readonly kind: 'parquet';
      readonly paths: readonly string[];
      readonly within?: { readonly column: string; readonly ranges: readonly TimeRange[] };
      /** Column of what a model answered: a list of numbers. */
      readonly answers?: string;
      /** Columns of nulls that stand for none. */
      readonly absent?: readonly string[];
    };

export interface OpenedRows {
  readonly relation: string;
  readonly rows: number;
  /** Of the columns asked for, those that are there. */
  readonly there: ReadonlySet<string>;
  /** Length of the longest answer. */
  readonly outputs: number;
}

export const isEmptySource = (source: RecentRows): boolean => (source.kind === 'parquet' ? source.paths : source.segments).length === 0;
export const isNumeric = (type: ColumnType): boolean => type === 'number' || type === 'integer' || type === 'boolean';

/** `name` is the temporary table's that the rows of a log are read into: its lines are parsed once. */
export async function openRows(db: DuckDb, source: RecentRows, columns: readonly Column[], name: string): Promise<OpenedRows> {
  return source.kind === 'parquet' ? openParquet(db, source, columns) : openLog(db, source, columns, name);
}

async function openParquet(
  db: DuckDb,
  { paths, within, answers, absent = [] }: RecentRows & { kind: 'parquet' },
  columns: readonly Column[],
): Promise<OpenedRows> {
  const file = parquetRelation(paths);
  const described = new Map((await db.rows(`DESCRIBE SELECT * FROM ${file}`)).map((row) => [String(row['column_name']), String(row['column_type'])]));
  const there = columns.filter(({ name }) => described.has(name) && !absent.includes(name));
  const list = columns.map(({ name, type }, index) => `${described.has(name) ? typed(identifier(name), type, described.get(name)) : 'NULL'} AS i${index}`);
  const where = within === undefined ? '' : ` WHERE ${inRanges(identifier(within.column), within.ranges)}`;
  const relation = `(SELECT ${[...list, `${answers === undefined ? 'CAST(NULL AS DOUBLE[])' : identifier(answers)} AS output`].join(', ')} FROM ${file}${where})`;
  const { n, widest } = await db.row(
    `SELECT count(*) AS n, ${answers === undefined ? '0' : `max(len(${identifier(answers)}))`} AS widest FROM ${file}${where}`,
  );
  return { relation, rows: toCount(n), there: new Set(there.map(({ name }) => name)), outputs: toCount(widest) };
}

async function openLog(db: DuckDb, source: RecentRows & { kind: 'predictionLog' }, columns: readonly Column[], name: string): Promise<OpenedRows> {
  const conditions = [
    'NOT shadow',
    source.model === undefined ? '' : `model = ${textLiteral(source.model)}`,
    source.version === undefined ? '' : `version = ${source.version}`,
    source.from === undefined ? '' : `"at" >= CAST(${textLiteral(source.from)} AS TIMESTAMP)`,
    source.to === undefined ? '' : `"at" < CAST(${textLiteral(source.to)} AS TIMESTAMP)`,
    source.ranges === undefined ? '' : inRanges('"at"', source.ranges),
  ].filter(Boolean);
  const from = `${predictionRelation(source.segments)} WHERE ${conditions.join(' AND ')}`;
  const paths = columns.map((column) => textLiteral(`$."${column.name.replaceAll('"', '\\"')}"`));
  // all paths at once: a line's inputs are parsed once
  const found = columns.length === 0 ? '' : `json_extract_string(inputs, ${listLiteral(paths)}) AS e, `;
  const list = columns.map(({ type }, index) => `${typed(`e[${index + 1}]`, type)} AS i${index}`);
  const read = `SELECT ${[...list, 'output', 'k', '"at"'].join(', ')} FROM (SELECT ${found}output, hash(requestId, "row") AS k, "at" FROM ${from})`;
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE ${name} AS ${read}`);
  const { n, unlike } = await db.row(`SELECT count(*) AS n, count(DISTINCT k) AS unlike FROM ${name}`);
  // a server that died may have logged rows again: of each the last one counts
  if (toCount(n) > toCount(unlike)) {
    const last = `SELECT * FROM ${name} QUALIFY row_number() OVER (PARTITION BY k ORDER BY "at" DESC, CAST(output AS VARCHAR)) = 1`;
    await db.run(`CREATE TEMPORARY TABLE ${name}_once AS ${last}`);
    await db.run(`DROP TABLE ${name}`);
    await db.run(`ALTER TABLE ${name}_once RENAME TO ${name}`);
  }
  const counted = await db.row(
    `SELECT count(*) AS n, max(len(output)) AS widest${columns.map((_, index) => `, count(i${index}) AS c${index}`).join('')} FROM ${name}`,
  );
  const rows = toCount(counted['n']);
  const silent = columns.filter((_, index) => toCount(counted[`c${index}`]) === 0);
  const there = new Set(columns.filter((column) => !silent.includes(column)).map((column) => column.name));
  if (silent.length > 0 && rows > 0) {
    // null in every request, or not sent at all: the one is a column of missing values, the other none
    const sent = await db.row(
      `SELECT ${silent.map((column, index) => `bool_or(json_exists(inputs, ${paths[columns.indexOf(column)] ?? ''})) AS s${index}`).join(', ')} FROM ${from}`,
    );
    silent.forEach((column, index) => {
      if (sent[`s${index}`] === true) there.add(column.name);
    });
  }
  return { relation: name, rows, there, outputs: toCount(counted['widest']) };
}

function typed(sql: string, type: ColumnType, stored?: string): string {
  // whole numbers are counted faster as they are
  if ((type === 'integer' || type === 'number') && stored !== undefined && /^U?(?:TINY|SMALL|BIG)?INT(?:EGER)?$/.test(stored)) return sql;
  if (type === 'boolean') return `CAST(CAST(TRY_CAST(${sql} AS BOOLEAN) AS INTEGER) AS DOUBLE)`;
  if (type === 'timestamp' || type === 'date') return `TRY_CAST(${sql} AS TIMESTAMP)`;
  if (!isNumeric(type)) return `CAST(${sql} AS VARCHAR)`;
  const number = `TRY_CAST(${sql} AS DOUBLE)`;
  return `CASE WHEN isfinite(${number}) THEN ${number} END`;
}

const inRanges = (column: string, ranges: readonly TimeRange[]): string =>
  ranges.length === 0
    ? 'false'
    : `(${ranges.map(({ from, to }) => `(${column} >= CAST(${textLiteral(from)} AS TIMESTAMP) AND ${column} < CAST(${textLiteral(to)} AS TIMESTAMP))`).join(' OR ')})`;
