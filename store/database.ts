import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import * as schema from './schema.ts';

/** Everything the aggregates need of Postgres: Drizzle for what is plain, the pool itself for prepared hot statements. */
export interface Database {
  readonly orm: Orm;
  readonly pool: pg.Pool;
}
export type Orm = NodePgDatabase<typeof schema>;
/** A transaction, or the database itself: what a function that takes part in someone's transaction is given. */
export type Executor = Pick<Orm, 'select' | 'insert' | 'update' | 'delete' | 'execute'>;

export interface DatabaseOptions {
  readonly databaseUrl: string;
  /** Connections at most. Default 10. */
  readonly poolSize?: number;
  /** Told of a connection that broke while nobody used it; the pool makes a new one by itself. */
  readonly onIdleError?: (error: Error) => void;
}

const CONNECT_TIMEOUT_MS = 5_000;
const IDLE_TIMEOUT_MS = 60_000;
/** No statement of the store takes this long; one that does waits for a lock whose holder is gone. */
const STATEMENT_TIMEOUT_MS = 60_000;

/** Opens a pool. Nothing is connected before the first statement. */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.databaseUrl,
    max: options.poolSize ?? 10,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'millrace',
  });
  // Without a listener, an idle connection that Postgres closes would end the process.
  pool.on('error', (error) => options.onIdleError?.(error));
  return { pool, orm: drizzle(pool, { schema, casing: 'snake_case' }) };
}

/** The first row, where the statement always gives one. */
export function onlyRow<T>(rows: readonly T[]): T {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that always gives a row gave none');
  return row;
}

/** Calls a function of the migrations that takes one JSON value and gives one, prepared by name: planning the call costs as much as running it. */
export async function callFunction(pool: pg.Pool, name: string, text: string, parameter: unknown): Promise<unknown> {
  const result = await pool.query<{ answer: unknown }>({ name, text, values: [JSON.stringify(parameter)] });
  return onlyRow(result.rows).answer;
}

/**
 * A value that jsonb takes, for texts that come from outside: NUL and lone surrogates, which Postgres refuses, become
 * U+FFFD. For error reports and evidence, where a record with a replaced character is better than none.
 */
export function storable<T>(value: T): T {
  return JSON.parse(
    JSON.stringify(value, (_key, item: unknown) =>
      typeof item === 'string' ? item.replaceAll('\u0000', '\uFFFD').replace(/[\uD800-\uDFFF]/gu, '\uFFFD') : item,
    ),
  ) as T;
}
