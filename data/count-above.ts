/** How many rows of a source lie above a value of a column, and what the greatest one is: looked at, not ingested. */
import { MillraceError } from '../contracts/errors.ts';
import type { Source } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { withDuckDb } from './duckdb.ts';
import { rowsAboveValue } from './increment.ts';
import { openAnySource } from './open-source.ts';
import { notGiven, type SourceAccess } from './source-access.ts';
import { identifier } from './sql-text.ts';

export interface CountedAbove {
  readonly rows: number;
  /** The greatest value there is, as text that can be compared with again; the one given where no row lies above it. */
  readonly value: string | null;
}

/** Beside workflows that are hosted in the same process. */
const MEMORY_BYTES = 512 * 1024 ** 2;

/**
 * Counts them. A query is counted by its own Postgres, so that no row is fetched; files are read.
 * @param before Text of a value; null: all rows.
 * @throws MillraceError as the source does; COLUMN_MISSING, COLUMN_TYPE
 */
export async function countAbove(
  source: Source,
  { column, before }: { readonly column: string; readonly before: string | null },
  access: SourceAccess,
  options: { readonly artifacts: ArtifactPort; readonly signal?: AbortSignal },
): Promise<CountedAbove> {
  if (source.format === 'postgres') return countInPostgres(source, { column, before }, access, options.signal);
  return withDuckDb({ threads: 1, memoryLimitBytes: MEMORY_BYTES, ...(options.signal === undefined ? {} : { signal: options.signal }) }, async (db) => {
    const opened = await openAnySource(db, source, access, options);
    try {
      const { rows, value } = await rowsAboveValue(db, opened, column, before);
      return { rows, value };
    } catch (error) {
      throw await opened.explain(error);
    } finally {
      await opened.close();
    }
  });
}

async function countInPostgres(
  source: Extract<Source, { readonly format: 'postgres' }>,
  { column, before }: { readonly column: string; readonly before: string | null },
  access: SourceAccess,
  signal?: AbortSignal,
): Promise<CountedAbove> {
  if (access.postgres === undefined) throw notGiven('a connection to Postgres');
  const own = source.query.replace(/(?:\s|;)+$/, '');
  const name = identifier(column);
  const where = before === null ? '' : ` WHERE ${name} > '${before.replaceAll("'", "''")}'`;
  const query = `SELECT count(*) AS n, CAST(max(${name}) AS text) AS greatest FROM (${own}\n) AS millrace_rows${where}`;
  const stream = await access.postgres({ ...source, query }, signal === undefined ? {} : { signal });
  try {
    let counted: CountedAbove | undefined;
    for await (const [counts, greatest] of stream.batches) counted = { rows: Number(counts?.[0] ?? 0), value: greatest?.[0] ?? before };
    if (counted === undefined) throw new MillraceError('INTERNAL', 'A count has no row.');
    return counted;
  } finally {
    await stream.close();
  }
}
