/** Rows that come in batches, as a relation of DuckDB. */
import { DuckDBDataChunk, VARCHAR } from '@duckdb/node-api';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { RowStream } from '../contracts/row-stream.ts';
import type { DuckDb } from './duckdb.ts';
import type { SourceRelation } from './source-relation.ts';
import { DUCKDB_TYPE, identifier } from './sql-text.ts';

const TABLE = 'millrace_stream';
const STAGING = 'millrace_stream_texts';
/** Most rows of one DuckDB chunk. */
const CHUNK_ROWS = 2048;
/** Rows after which texts become values, so that they do not pile up. */
const STAGED_ROWS = 50 * CHUNK_ROWS;

export interface StreamOptions {
  readonly signal?: AbortSignal;
  /** Called now and then with the number of rows so far. */
  readonly onRows?: (rows: number) => void;
}

/**
 * Reads all rows of a stream into a table that spills to disk when it grows: memory holds a batch of texts and DuckDB's
 * own share.
 * @throws MillraceError SOURCE_MALFORMED where two columns have one name
 */
export async function streamRelation(db: DuckDb, stream: RowStream, options: StreamOptions = {}): Promise<SourceRelation> {
  try {
    return await readStream(db, stream, options);
  } finally {
    await stream.close();
  }
}

async function readStream(db: DuckDb, stream: RowStream, options: StreamOptions): Promise<SourceRelation> {
  const { columns } = stream;
  refuseRepeated(columns.map(({ name }) => name));
  const names = columns.map(({ name }) => identifier(name));
  await db.run(`CREATE TEMPORARY TABLE ${TABLE} (${columns.map(({ type }, index) => `${names[index] ?? ''} ${DUCKDB_TYPE[type]}`).join(', ')})`);
  await db.run(`CREATE TEMPORARY TABLE ${STAGING} (${names.map((name) => `${name} VARCHAR`).join(', ')})`);
  const values = columns.map(({ type }, index) => {
    const value = `CAST(${names[index] ?? ''} AS ${DUCKDB_TYPE[type]})`;
    return type === 'number' || type === 'timestamp' || type === 'date' ? `CASE WHEN isfinite(${value}) THEN ${value} END` : value;
  });
  let staged = 0;
  let rows = 0;
  const settle = async (): Promise<void> => {
    await db.run(`INSERT INTO ${TABLE} SELECT ${values.join(', ')} FROM ${STAGING}`);
    await db.run(`TRUNCATE ${STAGING}`);
    staged = 0;
  };
  for await (const batch of stream.batches) {
    options.signal?.throwIfAborted();
    const taken = batch[0]?.length ?? 0;
    const appender = await db.connection.createAppender(STAGING);
    try {
      for (let from = 0; from < taken; from += CHUNK_ROWS) {
        const chunk = DuckDBDataChunk.create(
          columns.map(() => VARCHAR),
          Math.min(CHUNK_ROWS, taken - from),
        );
        batch.forEach((column, index) => {
          chunk.setColumnValues(index, column.slice(from, from + CHUNK_ROWS));
        });
        appender.appendDataChunk(chunk);
      }
    } finally {
      appender.closeSync();
    }
    staged += taken;
    rows += taken;
    options.onRows?.(rows);
    if (staged >= STAGED_ROWS) await settle();
  }
  await settle();
  return { sql: TABLE, columns: columns.map(({ name, type }) => ({ name, type })) };
}

function refuseRepeated(names: readonly string[]): void {
  const repeated = names.filter((name, index) => names.findIndex((other) => other.toLowerCase() === name.toLowerCase()) !== index);
  if (repeated.length === 0) return;
  const problems = repeated.map(
    (column): Problem => ({
      path: 'source',
      column,
      message: `The column name ${column} occurs twice.`,
      found: column,
      fix: 'Give each column a name of its own.',
    }),
  );
  throw new MillraceError('SOURCE_MALFORMED', `The source names columns twice: ${repeated.join(', ')}.`, {
    problems,
    fix: 'Give each column a name of its own.',
  });
}
