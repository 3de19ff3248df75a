import { MillraceError } from '../contracts/errors.ts';
import { toText, withDuckDb } from './duckdb.ts';
import { predictionRelation } from './log-relations.ts';
import { predictionSegments } from './prediction-segments.ts';

/** The newest requests of an endpoint's prediction log, as many as `limit`: each the rows that it brought, in order. Columns that were hashed before they were logged stay so. */
export async function recordedRequests(
  home: string,
  endpoint: string,
  limit: number,
  signal: AbortSignal,
): Promise<readonly (readonly Readonly<Record<string, unknown>>[])[]> {
  const segments = await predictionSegments(home, endpoint, new Date(0).toISOString());
  if (segments.length === 0)
    throw new MillraceError('SOURCE_EMPTY', `No requests of ${endpoint} were recorded.`, {
      fix: 'Give rows instead: loadTest(version, { …, from: dataset }).',
    });
  const rows = await withDuckDb({ signal }, (db) =>
    db.rows(
      `SELECT '[' || string_agg(CAST(inputs AS VARCHAR), ',' ORDER BY "row") || ']' AS r, max("at") AS t FROM ${predictionRelation(segments)} WHERE NOT shadow GROUP BY requestId ORDER BY t DESC, r LIMIT ${limit}`,
    ),
  );
  if (rows.length === 0) throw new MillraceError('SOURCE_EMPTY', `No requests of ${endpoint} were recorded.`);
  return rows.map(({ r }) => JSON.parse(toText(r) ?? '[]') as Readonly<Record<string, unknown>>[]);
}
