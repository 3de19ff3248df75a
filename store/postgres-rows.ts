/**
 * The rows of a query on any Postgres, as a stream.
 *
 * Invariants:
 * 1. The query is one statement in a transaction that can write nothing; all rows are of one moment.
 * 2. Memory holds one batch, whatever the number of rows: a cursor on the server is fetched from.
 * 3. An abort cancels the statement on the server.
 * 4. Neither the server's address nor a value stands in an error. What the server says of the query itself, which its
 *    author wrote, does.
 */
import pg from 'pg';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { RowStream } from '../contracts/row-stream.ts';

export interface PostgresQuery {
  readonly connectionString: string;
  /** The variable that holds the address, as errors name it. */
  readonly variable: string;
  readonly query: string;
  /** Only rows whose column is greater than the text, read as the column's type. */
  readonly above?: { readonly column: string; readonly value: string };
  readonly signal?: AbortSignal;
}

const CONNECT_MS = 10_000;
const FIRST_ROWS = 1_000;
const MOST_ROWS = 50_000;
/** Characters that a batch should have. */
const BATCH_CHARACTERS = 4 * 1024 * 1024;
const CURSOR = 'millrace_source';

/** https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/catalog/pg_type.dat */
const TYPE_OF: Readonly<Record<number, ColumnType>> = {
  16: 'boolean',
  20: 'integer',
  21: 'integer',
  23: 'integer',
  26: 'integer',
  700: 'number',
  701: 'number',
  1082: 'date',
  1114: 'timestamp',
  1184: 'timestamp',
  1700: 'number',
};
const BYTEA = 17;

/**
 * Begins to run a query.
 * @throws MillraceError SOURCE_NOT_FOUND (no table, no right, no login), SOURCE_MALFORMED (the query), SOURCE_UNAVAILABLE, COLUMN_TYPE
 */
export async function openPostgresRows(query: PostgresQuery): Promise<RowStream> {
  const { signal, above } = query;
  signal?.throwIfAborted();
  const client = new pg.Client({
    connectionString: query.connectionString,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    application_name: 'millrace',
    // every value as the text that the server sends
    types: { getTypeParser: () => (value: string) => value },
  });
  // A connection that breaks is told by the query that is under way.
  client.on('error', () => undefined);
  const own = query.query.replace(/(?:\s|;)+$/, '');
  const prefix = `DECLARE ${CURSOR} NO SCROLL CURSOR FOR ${above === undefined ? '' : 'SELECT * FROM ('}`;
  const suffix =
    above === undefined
      ? ''
      : `\n) AS millrace_rows WHERE ${pg.escapeIdentifier(above.column)} > ${pg.escapeLiteral(above.value)} OR ${pg.escapeIdentifier(above.column)} IS NULL`;
  const failed = (error: unknown): Error => {
    if (signal?.aborted === true) return signal.reason as Error;
    return postgresError(error, query, own, prefix.length);
  };
  let processId = 0;
  const cancel = (): void => {
    void cancelStatement(query.connectionString, processId);
  };
  const end = async (): Promise<void> => {
    signal?.removeEventListener('abort', cancel);
    await client.end().catch(() => undefined);
  };
  try {
    await client.connect();
    const begun = await client.query<{ readonly pid: string }>('SELECT pg_backend_pid() AS pid');
    processId = Number(begun.rows[0]?.pid);
    signal?.addEventListener('abort', cancel);
    await client.query("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex'; SET extra_float_digits = 1");
    await client.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    signal?.throwIfAborted();
    // The extended protocol takes one statement: a second one could end the transaction and write.
    await client.query({ text: `${prefix}${own}${suffix}`, queryMode: 'extended' } as pg.QueryConfig);
    const first = await client.query<(string | null)[]>({ text: `FETCH ${FIRST_ROWS} FROM ${CURSOR}`, rowMode: 'array' });
    const columns = columnsOf(first.fields, query);
    return { columns, batches: batches(client, columns, first.rows, failed), close: end };
  } catch (error) {
    await end();
    throw failed(error);
  }
}

async function* batches(
  client: pg.Client,
  columns: readonly Column[],
  first: readonly (readonly (string | null)[])[],
  failed: (error: unknown) => Error,
): AsyncGenerator<readonly (readonly (string | null)[])[]> {
  try {
    let rows = first;
    let asked = FIRST_ROWS;
    while (rows.length > 0) {
      yield columns.map(({ type }, index) => rows.map((row) => valueOf(row[index] ?? null, type)));
      if (rows.length < asked) break;
      const characters = rows.reduce((sum, row) => sum + row.reduce((inner, value) => inner + (value?.length ?? 0) + 8, 0), 0);
      asked = Math.max(1, Math.min(MOST_ROWS, Math.floor((rows.length * BATCH_CHARACTERS) / characters)));
      rows = (await client.query<(string | null)[]>({ text: `FETCH ${asked} FROM ${CURSOR}`, rowMode: 'array' })).rows;
    }
  } catch (error) {
    throw failed(error);
  }
}

/** Years before Christ are in brackets where they are read, and t and f are words. */
function valueOf(value: string | null, type: ColumnType): string | null {
  if (value === null) return null;
  if (type === 'boolean') return value === 't' ? 'true' : 'false';
  return (type === 'date' || type === 'timestamp') && value.endsWith(' BC') ? `${value.slice(0, -3)} (BC)` : value;
}

function columnsOf(fields: readonly pg.FieldDef[], { above }: PostgresQuery): readonly Column[] {
  const problems = fields
    .filter(({ dataTypeID }) => dataTypeID === BYTEA)
    .map(({ name }) => ({
      path: 'source.query',
      column: name,
      message: 'A column of type bytea cannot be used.',
      found: 'bytea',
      fix: "Leave it out, or write it as text: encode(column, 'hex').",
    }));
  if (problems.length > 0) throw new MillraceError('COLUMN_TYPE', 'The query gives columns of types that cannot be used.', { problems });
  const unnamed = fields.find(({ name }) => name === '' || name === '?column?');
  if (unnamed !== undefined)
    throw new MillraceError('SOURCE_MALFORMED', 'The query gives a column without a name.', {
      problems: [{ path: 'source.query', message: 'A column has no name', fix: 'Name it: AS name.' }],
    });
  if (above !== undefined && !fields.some(({ name }) => name === above.column))
    throw new MillraceError('COLUMN_MISSING', `There is no column ${above.column}.`);
  return fields.map(({ name, dataTypeID }) => ({ name, type: TYPE_OF[dataTypeID] ?? 'string' }));
}

/** On a connection of its own: the one that works does not listen. */
async function cancelStatement(connectionString: string, processId: number): Promise<void> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: CONNECT_MS });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT pg_cancel_backend($1)', [processId]);
  } catch {
    // The server is gone, and its statement with it.
  } finally {
    await client.end().catch(() => undefined);
  }
}

function postgresError(error: unknown, { variable }: PostgresQuery, query: string, prefixLength: number): Error {
  if (error instanceof MillraceError) return error;
  const state = error instanceof pg.DatabaseError ? (error.code ?? '') : '';
  const about = (code: 'SOURCE_NOT_FOUND' | 'SOURCE_MALFORMED', message: string, fix: string, path = 'source.query'): MillraceError =>
    new MillraceError(code, message, { problems: [{ path, message, fix }], fix });
  if (state.startsWith('28') || state === '3D000')
    return about(
      'SOURCE_NOT_FOUND',
      `The Postgres of ${variable} refuses the login, or has no such database.`,
      `Check the address in ${variable}.`,
      'source.connection',
    );
  if (state === '25006') return about('SOURCE_MALFORMED', 'The query writes, and a source may only read.', 'Write a query that only reads.');
  if (error instanceof pg.DatabaseError && (state.startsWith('42') || state.startsWith('3F') || state.startsWith('0A'))) {
    const offset = Number(error.position ?? 0) - 1 - prefixLength;
    const before = query.slice(0, Math.max(0, offset));
    const place = offset >= 0 && offset <= query.length ? ` (line ${before.split('\n').length}, character ${offset - before.lastIndexOf('\n')})` : '';
    const missing = ['42P01', '42501', '3F000'].includes(state);
    return about(missing ? 'SOURCE_NOT_FOUND' : 'SOURCE_MALFORMED', `The query cannot be run: ${error.message}${place}.`, 'Correct the query.');
  }
  // The server's words may hold a value.
  if (state.startsWith('22') || state.startsWith('23') || state.startsWith('P0'))
    return about('SOURCE_MALFORMED', `The query failed on a value (SQLSTATE ${state}).`, 'Run the query by hand: it fails there too.');
  if (state === '57014')
    return about('SOURCE_MALFORMED', 'The server cancelled the query (SQLSTATE 57014).', "Is it slower than the server's statement_timeout?");
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'ENOTFOUND' || code === 'ERR_INVALID_URL' || code.startsWith('CERT_') || code.includes('SELF_SIGNED'))
    return about('SOURCE_NOT_FOUND', `The Postgres of ${variable} is not to be found (${code}).`, `Check the address in ${variable}.`, 'source.connection');
  return new MillraceError('SOURCE_UNAVAILABLE', `The Postgres of ${variable} does not answer${code === '' ? '' : ` (${code})`}.`, {
    problems: [{ path: 'source.connection', message: 'The connection failed', found: variable }],
  });
}
