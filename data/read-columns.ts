/** Columns of a dataset in memory, as trainers, features and scoring read them. Made for worker threads. */
import type { DuckDBDataChunk } from '@duckdb/node-api';
import type { Column, RawColumn, RawTable } from '../contracts/columns.ts';
import { columnsMissing } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { ROW_RANK, rankBound, rankedRelation } from './row-rank.ts';
import { compareText } from './row-text.ts';
import { columnTypeOf, identifier, parquetRelation, textLiteral } from './sql-text.ts';

export interface ReadColumnsOptions extends DuckDbOptions {
  /** The first rows only. */
  readonly limitRows?: number;
  /** Exactly this many rows (or all, if there are fewer), drawn without replacement, in row order. */
  readonly sampleRows?: number;
  /** Of the sample. Default 0. */
  readonly seed?: number;
}

/** Above so many different values DuckDB's dictionary costs more than one made here. */
const ENUM_MOST_VALUES = 100_000;

/**
 * Reads the columns of snapshot files, in row order. Dictionaries are sorted by code point. Timestamps and dates are
 * milliseconds since 1970 UTC. A million rows of five columns take well under a second on two cores.
 * @throws MillraceError COLUMN_MISSING, naming all that are missing and all there are
 */
export async function readColumns(paths: readonly string[], columns: readonly string[], options: ReadColumnsOptions = {}): Promise<RawTable> {
  return withDuckDb(options, async (db) => {
    const there = (await db.rows(`DESCRIBE SELECT * FROM ${parquetRelation(paths)}`)).map(
      (row): Column => ({ name: String(row['column_name']), type: columnTypeOf(String(row['column_type'])) ?? 'string' }),
    );
    const missing = columns.filter((name) => !there.some((column) => column.name === name));
    if (missing.length > 0) throw columnsMissing(there, missing);
    const files = await fileRows(db, paths);
    const total = files.reduce((sum, file) => sum + file.rows, 0);
    const wanted = [...new Set(columns)].flatMap((name) => there.filter((column) => column.name === name));
    const rows = Math.min(total, options.limitRows ?? total, options.sampleRows ?? total);
    if (wanted.length === 0) return { rows, columns: new Map() };
    const names = wanted.map(({ name }) => name);
    const seed = options.seed ?? 0;
    const sampled = options.sampleRows !== undefined && options.sampleRows < total;
    const relation = sampled
      ? `(SELECT * FROM ${rankedRelation(files, names, seed)} WHERE ${ROW_RANK} < ${rankBound(total, seed, options.sampleRows ?? total)})`
      : parquetRelation(paths);
    const readers = (await openReaders(db, parquetRelation(paths), wanted, rows)).map((reader) => ({ ...reader, ...reader.begin(rows) }));
    const list = readers.map(({ sql }, index) => `${sql} AS c${index}`).join(', ');
    let read = 0;
    for await (const chunk of db.chunks(`SELECT ${list} FROM ${relation}${rows < total ? ` LIMIT ${rows}` : ''}`)) {
      readers.forEach((reader, index) => reader.take(chunk, index, read));
      read += chunk.rowCount;
    }
    return { rows, columns: new Map(readers.map((reader) => [reader.name, reader.finish()])) };
  });
}

/**
 * Reads a relation that is too large for memory, part by part: gives what reads a part, a relation with the same columns.
 * A part is read on DuckDB's threads, so that this thread can compute meanwhile. Texts of few values have one dictionary in all parts.
 */
export async function openPartReader(db: DuckDb, relation: string, columns: readonly Column[], rows: number): Promise<(part: string) => Promise<RawTable>> {
  const readers = await openReaders(db, relation, columns, rows);
  const list = readers.map(({ sql }, index) => `${sql} AS c${index}`).join(', ');
  return async (part) => {
    if (readers.length === 0) return { rows: toCount((await db.row(`SELECT count(*) AS n FROM ${part}`))['n']), columns: new Map() };
    const chunks = await db.whole(`SELECT ${list} FROM ${part}`);
    const partRows = chunks.reduce((sum, chunk) => sum + chunk.rowCount, 0);
    const begun = readers.map((reader) => ({ name: reader.name, ...reader.begin(partRows) }));
    let at = 0;
    for (const chunk of chunks) {
      for (const [index, reader] of begun.entries()) reader.take(chunk, index, at);
      at += chunk.rowCount;
    }
    return { rows: partRows, columns: new Map(begun.map((reader) => [reader.name, reader.finish()])) };
  };
}

async function fileRows(db: DuckDb, paths: readonly string[]): Promise<readonly { readonly path: string; readonly rows: number }[]> {
  const files: { path: string; rows: number }[] = [];
  for (const path of paths) files.push({ path, rows: toCount((await db.row(`SELECT num_rows FROM parquet_file_metadata(${textLiteral(path)})`))['num_rows']) });
  return files;
}

interface ColumnReader {
  readonly name: string;
  readonly sql: string;
  /** Room for so many rows. */
  readonly begin: (rows: number) => {
    readonly take: (chunk: DuckDBDataChunk, index: number, at: number) => void;
    readonly finish: () => RawColumn;
  };
}

async function openReaders(db: DuckDb, relation: string, columns: readonly Column[], rows: number): Promise<readonly ColumnReader[]> {
  const texts = columns.filter(({ type }) => type === 'string');
  const counts =
    texts.length === 0
      ? {}
      : await db.row(`SELECT ${texts.map(({ name }, index) => `approx_count_distinct(${identifier(name)}) AS n${index}`).join(', ')} FROM ${relation}`);
  const readers: ColumnReader[] = [];
  for (const column of columns) {
    const textIndex = texts.indexOf(column);
    if (textIndex === -1) readers.push(numberReader(column));
    else if (toCount(counts[`n${textIndex}`]) > Math.min(ENUM_MOST_VALUES, rows / 2)) readers.push(textReader(column));
    else readers.push(await enumReader(db, relation, column, textIndex));
  }
  return readers;
}

/** The chunk's numbers, copied as a block: the SQL gives DOUBLEs without nulls. */
export function copyNumbers(chunk: DuckDBDataChunk, index: number, values: Float64Array | Int32Array, at: number): void {
  const vector = chunk.getColumnVector(index) as { readonly items?: unknown };
  const { items } = vector;
  if (items instanceof Float64Array || items instanceof Int32Array) {
    values.set(items.length > chunk.rowCount ? items.subarray(0, chunk.rowCount) : items, at);
    return;
  }
  chunk.getColumnValues(index).forEach((value, row) => {
    values[at + row] = Number(value);
  });
}

function numberReader({ name, type }: Column): ColumnReader {
  const timed = type === 'timestamp' || type === 'date';
  const sql = timed ? `floor(epoch_us(CAST(${identifier(name)} AS TIMESTAMP)) / 1000.0::DOUBLE)` : `CAST(${identifier(name)} AS DOUBLE)`;
  return {
    name,
    sql: `coalesce(${sql}, 'nan'::DOUBLE)`,
    begin: (rows) => {
      const values = new Float64Array(rows);
      return {
        take: (chunk, index, at) => copyNumbers(chunk, index, values, at),
        finish: () => (timed ? { kind: 'timestamp', values } : { kind: 'number', values }),
      };
    },
  };
}

/** Few values: DuckDB codes them by an ENUM, whose order is that of the sorted values. */
async function enumReader(db: DuckDb, relation: string, { name }: Column, index: number): Promise<ColumnReader> {
  const column = identifier(name);
  const type = `millrace_dictionary_${index}`;
  // ENUMs hold no empty dictionary: a column of nulls only has nothing to code.
  const found = await db.rows(`SELECT DISTINCT ${column} AS v FROM ${relation} WHERE ${column} IS NOT NULL ORDER BY v`);
  const dictionary = found.map(({ v }) => String(v));
  // of a reader that was opened before on the same connection, and is done
  await db.run(`DROP TYPE IF EXISTS ${type}`);
  if (dictionary.length > 0)
    await db.run(`CREATE TYPE ${type} AS ENUM (SELECT DISTINCT ${column} AS v FROM ${relation} WHERE ${column} IS NOT NULL ORDER BY v)`);
  return {
    name,
    sql: dictionary.length === 0 ? '-1::INTEGER' : `coalesce(CAST(enum_code(CAST(${column} AS ${type})) AS INTEGER), -1)`,
    begin: (rows) => {
      const codes = new Int32Array(rows).fill(-1);
      return { take: (chunk, at, row) => copyNumbers(chunk, at, codes, row), finish: () => ({ kind: 'string', codes, dictionary }) };
    },
  };
}

/** Many values: coded as they come, then put into order. */
function textReader({ name }: Column): ColumnReader {
  return {
    name,
    sql: identifier(name),
    begin: (rows) => {
      const codes = new Int32Array(rows);
      const seen = new Map<string, number>();
      return {
        take: (chunk, index, at) => {
          const vector = chunk.getColumnVector(index);
          for (let row = 0; row < chunk.rowCount; row++) {
            const value = vector.getItem(row);
            if (typeof value !== 'string') {
              codes[at + row] = -1;
              continue;
            }
            let code = seen.get(value);
            if (code === undefined) {
              code = seen.size;
              seen.set(value, code);
            }
            codes[at + row] = code;
          }
        },
        finish: () => {
          const order = [...seen.keys()].map((value, code) => ({ value, code })).sort((a, b) => compareText(a.value, b.value));
          const place = new Int32Array(order.length);
          order.forEach(({ code }, index) => {
            place[code] = index;
          });
          for (let row = 0; row < rows; row++) {
            const code = codes[row] ?? -1;
            if (code >= 0) codes[row] = place[code] ?? -1;
          }
          return { kind: 'string', codes, dictionary: order.map(({ value }) => value) };
        },
      };
    },
  };
}
