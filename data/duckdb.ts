/**
 * One in-memory DuckDB for one piece of work, closed when the work ends.
 *
 * Invariants:
 * 1. Nothing is downloaded: extensions are neither installed nor loaded on their own.
 * 2. Memory is limited; what does not fit is spilled into a folder that is removed with the database.
 * 3. Rows keep their order (`preserve_insertion_order`), so that a file written twice has the same bytes.
 * 4. The time zone is UTC.
 * 5. A thread is not ended while it has a database: a query that runs is interrupted.
 * 6. DuckDB's own error text never leaves: whatever is thrown is a `MillraceError`, an abort's reason, or a
 *    `DuckDbFailure` that the caller turns into one.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DuckDBConnection, type DuckDBDataChunk, DuckDBInstance, type DuckDBValue } from '@duckdb/node-api';
import { nativeCode } from '../config/module-worker.ts';
import { MillraceError } from '../contracts/errors.ts';

const GIB = 1024 ** 3;
const PROGRESS_EVERY_MS = 500;
const INTERRUPT_EVERY_MS = 50;

export interface QueryProgress {
  /** 0–1, or null while DuckDB cannot tell. */
  readonly fraction: number | null;
  readonly rows: number;
}

export interface DuckDbOptions {
  /** A database that is open already: the work is done in it, with its settings, and the other options play no part. */
  readonly within?: DuckDb;
  /** Default: the machine's cores. */
  readonly threads?: number;
  /** Default: a quarter of the machine's memory, at most 2 GiB. */
  readonly memoryLimitBytes?: number;
  /** Where to spill what does not fit into memory. Default: the system's temporary folder. */
  readonly temporaryFolder?: string;
  readonly signal?: AbortSignal;
  /** Called about twice a second while a query runs. */
  readonly onProgress?: (progress: QueryProgress) => void;
}

export type SqlRow = Readonly<Record<string, DuckDBValue>>;

/** DuckDB's refusal of a query. `detail` is its own text: to be read by data/ only, never shown. */
export class DuckDbFailure extends Error {
  override readonly name = 'DuckDbFailure';
  readonly detail: string;
  constructor(detail: string) {
    super('DuckDB refused a query.');
    this.detail = detail;
  }
}

export interface DuckDb {
  run(sql: string, values?: readonly DuckDBValue[]): Promise<void>;
  /** All rows of a small result. */
  rows(sql: string, values?: readonly DuckDBValue[]): Promise<readonly SqlRow[]>;
  /** The one row of an aggregate. */
  row(sql: string, values?: readonly DuckDBValue[]): Promise<SqlRow>;
  /** A large result, chunk by chunk, in order. */
  chunks(sql: string, values?: readonly DuckDBValue[]): AsyncGenerator<DuckDBDataChunk>;
  /** A result that fits into memory, computed whole on DuckDB's threads before anything of it comes back. */
  whole(sql: string): Promise<readonly DuckDBDataChunk[]>;
  /** DuckDB's own connection, for what the above does not say (appenders). */
  readonly connection: DuckDBConnection;
  /** A second connection for the time of some work: to append while chunks are being read. It sees no temporary tables. */
  beside<Result>(work: (connection: DuckDBConnection) => Promise<Result>): Promise<Result>;
}

/** Opens a database, does the work, closes it. An abort of `signal` interrupts the running query and throws its reason. */
export function withDuckDb<Result>(options: DuckDbOptions, work: (db: DuckDb) => Promise<Result>): Promise<Result> {
  if (options.within !== undefined) return work(options.within);
  return nativeCode((ending) => {
    const signals = [options.signal, ending].filter((signal) => signal !== undefined);
    const [signal] = signals;
    return inDatabase(signal === undefined ? options : { ...options, signal: signals.length > 1 ? AbortSignal.any(signals) : signal }, work);
  });
}

async function inDatabase<Result>(options: DuckDbOptions, work: (db: DuckDb) => Promise<Result>): Promise<Result> {
  options.signal?.throwIfAborted();
  const spillFolder = await mkdtemp(join(options.temporaryFolder ?? tmpdir(), 'millrace-duckdb-'));
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(options.threads ?? availableParallelism()),
    memory_limit: `${Math.floor((options.memoryLimitBytes ?? Math.min(totalmem() / 4, 2 * GIB)) / 1024)}KiB`,
    temp_directory: spillFolder,
    preserve_insertion_order: 'true',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  try {
    const connection = await instance.connect();
    try {
      await connection.run("SET TimeZone = 'UTC'");
      if (options.onProgress !== undefined)
        await connection.run('SET enable_progress_bar = true; SET enable_progress_bar_print = false; SET progress_bar_time = 0');
      const queries = new Set<Promise<unknown>>();
      try {
        return await work(openDatabase(instance, connection, options, queries));
      } finally {
        // A query that nobody waits for any more, as a read ahead of work that failed: it would never end in a database that is closed.
        while (queries.size > 0) {
          connection.interrupt();
          await Promise.race([Promise.allSettled(queries), sleep(INTERRUPT_EVERY_MS)]);
        }
      }
    } finally {
      connection.closeSync();
    }
  } finally {
    instance.closeSync();
    await rm(spillFolder, { recursive: true, force: true });
  }
}

/** `queries` holds those that are under way. */
function openDatabase(instance: DuckDBInstance, connection: DuckDBConnection, { signal, onProgress }: DuckDbOptions, queries: Set<Promise<unknown>>): DuckDb {
  const watched = async <Result>(query: () => Promise<Result>): Promise<Result> => {
    signal?.throwIfAborted();
    const interrupt = (): void => connection.interrupt();
    signal?.addEventListener('abort', interrupt, { once: true });
    const timer =
      onProgress === undefined
        ? undefined
        : setInterval(() => {
            const { percentage, rows_processed } = connection.progress;
            onProgress({ fraction: percentage < 0 ? null : percentage / 100, rows: Number(rows_processed) });
          }, PROGRESS_EVERY_MS);
    const running = query();
    queries.add(running);
    try {
      return await running;
    } catch (error) {
      signal?.throwIfAborted();
      throw failureOf(error);
    } finally {
      queries.delete(running);
      clearInterval(timer);
      signal?.removeEventListener('abort', interrupt);
    }
  };
  const bound = (values: readonly DuckDBValue[] | undefined): DuckDBValue[] | undefined => (values === undefined ? undefined : [...values]);
  const rows = (sql: string, values?: readonly DuckDBValue[]): Promise<readonly SqlRow[]> =>
    watched(async () => (await connection.runAndReadAll(sql, bound(values))).getRowObjects());
  return {
    connection,
    rows,
    async beside(work) {
      const second = await instance.connect();
      try {
        return await work(second);
      } catch (error) {
        signal?.throwIfAborted();
        throw failureOf(error);
      } finally {
        second.closeSync();
      }
    },
    async run(sql, values) {
      await watched(() => connection.run(sql, bound(values)));
    },
    async row(sql, values) {
      const [first] = await rows(sql, values);
      if (first === undefined) throw new MillraceError('INTERNAL', 'An aggregate gave no row.');
      return first;
    },
    whole: (sql) =>
      watched(async () => {
        const result = await connection.run(sql);
        return Array.from({ length: result.chunkCount }, (_, index) => result.getChunk(index));
      }),
    async *chunks(sql, values) {
      const result = await watched(() => connection.stream(sql, bound(values)));
      for (;;) {
        const chunk = await watched(() => result.fetchChunk());
        if (chunk === null || chunk.rowCount === 0) return;
        yield chunk;
      }
    },
  };
}

/** Errors that mean the same whatever the query was: a full disk, too little memory. The rest stays a `DuckDbFailure`. */
function failureOf(error: unknown): Error {
  if (error instanceof MillraceError || error instanceof DuckDbFailure) return error;
  const detail = error instanceof Error ? error.message : String(error);
  if (/No space left on device|ENOSPC|disk quota exceeded|File too large|EFBIG|max_temp_directory_size|failed to offload data block/i.test(detail)) {
    return new MillraceError('DISK_FULL', 'The disk was full while data was written.');
  }
  if (/^(?:\w+ )*Out of Memory Error/i.test(detail)) {
    return new MillraceError('OUT_OF_MEMORY', 'The query needs more memory than it was given.');
  }
  return new DuckDbFailure(detail);
}

/** A DuckDB integer of any width as a number; null stays null. */
export function toNumber(value: DuckDBValue | undefined): number | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'boolean') return value ? 1 : 0;
  throw new MillraceError('INTERNAL', 'A number was expected of a query.');
}

/** As `toNumber`, where the query cannot give a null. */
export const toCount = (value: DuckDBValue | undefined): number => toNumber(value) ?? 0;

export const toText = (value: DuckDBValue | undefined): string | null => (typeof value === 'string' ? value : null);
