/**
 * A look at a snapshot by hand: rows drawn from it, or one query over it.
 *
 * Invariants:
 * 1. A query sees the snapshot, as the table `dataset`, and nothing else: no other file, no network, no setting.
 * 2. What comes back is bounded, whatever is asked.
 */
import { MillraceError } from '../contracts/errors.ts';
import { DuckDbFailure, type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { numberedRelation, ROW_NUMBER, type RankedFile, rowRank } from './row-rank.ts';
import { identifier, listLiteral, parquetRelation, textLiteral } from './sql-text.ts';

export interface RowTable {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** As JSON has them: integers beyond 2^53, instants and nested values as text. */
  readonly rows: readonly (readonly Cell[])[];
  /** Whether there were more rows than the limit. */
  readonly cut: boolean;
}
export type Cell = string | number | boolean | null;

export interface QueryLimits extends DuckDbOptions {
  /** Rows at most. Default 1,000. */
  readonly limit?: number;
  /** Default 60,000. */
  readonly timeoutMs?: number;
}

const MOST_CELL_CHARACTERS = 10_000;

/**
 * Runs one query over `dataset`.
 * @throws MillraceError INVALID_REQUEST with what DuckDB has against it, or where it took too long
 */
export async function queryDataset(files: readonly RankedFile[], query: string, limits: QueryLimits = {}): Promise<RowTable> {
  const { limit = 1_000, timeoutMs = 60_000 } = limits;
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = limits.signal === undefined ? timeout : AbortSignal.any([limits.signal, timeout]);
  try {
    return await withDuckDb({ ...limits, signal }, async (db) => {
      const paths = files.map(({ path }) => path);
      await db.run(`SET allowed_paths = ${listLiteral(paths.map(textLiteral))}`);
      await db.run(`CREATE VIEW dataset AS SELECT * FROM ${parquetRelation(paths)}`);
      await db.run('SET enable_external_access = false');
      await db.run('SET lock_configuration = true');
      const reader = await db.connection.extractStatements(query);
      if (reader.count !== 1) throw refused('One query is run at a time.');
      // As a subquery it can only be a query, and its rows are bounded.
      const bounded = `SELECT * FROM (\n${query.replace(/;\s*$/, '')}\n) LIMIT ${limit + 1}`;
      const described = await db.rows(`DESCRIBE ${bounded}`);
      const columns = described.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }));
      const list = columns.map(({ type }, index) => `${cellOf(`c${index}`, type)} AS ${identifier(`c${index}`)}`);
      const found = await db.rows(`SELECT ${list.join(', ')} FROM (${bounded}) AS t(${columns.map((_, index) => `c${index}`).join(', ')})`);
      const rows = found.slice(0, limit).map((row) => columns.map(({ type }, index) => toCell(row[`c${index}`], type)));
      return { columns, rows, cut: found.length > limit };
    });
  } catch (error) {
    if (timeout.aborted && limits.signal?.aborted !== true) throw refused(`The query took longer than ${timeoutMs / 1_000} s.`);
    if (error instanceof DuckDbFailure) throw refused(error.detail.split('\n\nLINE ')[0] ?? error.detail);
    if (error instanceof MillraceError) throw error;
    throw refused(error instanceof Error ? (error.message.split('\n\nLINE ')[0] ?? '') : 'The query failed.');
  }
}

/** Rows drawn without replacement, in the order of the snapshot; the same ones for the same seed. */
export async function sampleDataset(
  files: readonly RankedFile[],
  options: { readonly rows: number; readonly seed: number } & DuckDbOptions,
): Promise<RowTable> {
  const total = files.reduce((sum, file) => sum + file.rows, 0);
  const drawn = leastRanked(total, options.rows, options.seed);
  return withDuckDb(options, async (db) => {
    const paths = files.map(({ path }) => path);
    const described = await db.rows(`DESCRIBE SELECT * FROM ${parquetRelation(paths)}`);
    const columns = described.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }));
    const numbered = numberedRelation(
      files,
      columns.map(({ name }) => name),
    );
    const list = columns.map(({ name, type }, index) => `${cellOf(identifier(name), type)} AS c${index}`);
    const found = await db.rows(
      `SELECT ${list.join(', ')} FROM ${numbered} WHERE ${identifier(ROW_NUMBER)} IN (${drawn.join(', ')}) ORDER BY ${identifier(ROW_NUMBER)}`,
    );
    return { columns, rows: found.map((row) => columns.map(({ type }, index) => toCell(row[`c${index}`], type))), cut: total > options.rows };
  });
}

/** The numbers of the rows with the least ranks; rows past the first hundred million are not drawn. */
function leastRanked(total: number, wanted: number, seed: number): readonly number[] {
  const best: { row: number; rank: number }[] = [];
  let worst = Infinity;
  for (let row = 0; row < Math.min(total, 100_000_000); row++) {
    const rank = rowRank(row, seed);
    if (best.length >= wanted && rank >= worst) continue;
    best.push({ row, rank });
    if (best.length < wanted * 2) continue;
    best.sort((a, b) => a.rank - b.rank).length = wanted;
    worst = best.at(-1)?.rank ?? Infinity;
  }
  best.sort((a, b) => a.rank - b.rank);
  return best
    .slice(0, wanted)
    .map(({ row }) => row)
    .sort((a, b) => a - b);
}

const NUMBERS = /^(?:TINYINT|SMALLINT|INTEGER|UTINYINT|USMALLINT|UINTEGER|FLOAT|DOUBLE|BOOLEAN)$/;

const INTEGERS = /^(?:BIGINT|UBIGINT|HUGEINT|UHUGEINT)$/;

/** A value in a form that JSON has. Decimals become doubles; what has no such form becomes text. */
function cellOf(value: string, type: string): string {
  if (NUMBERS.test(type)) return value;
  if (/^DECIMAL/.test(type)) return `CAST(${value} AS DOUBLE)`;
  if (INTEGERS.test(type)) return `CAST(${value} AS VARCHAR)`;
  return `left(CAST(${value} AS VARCHAR), ${MOST_CELL_CHARACTERS})`;
}

function toCell(value: unknown, type: string): Cell {
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'string') return INTEGERS.test(type) && Number.isSafeInteger(Number(value)) ? Number(value) : value;
  return typeof value === 'boolean' ? value : null;
}

const refused = (message: string): MillraceError =>
  new MillraceError('INVALID_REQUEST', message, { fix: 'The snapshot is the table `dataset`; write one SELECT over it, in the SQL of DuckDB.' });
