/** Predictions by request id, out of an endpoint's log. */
import { type DuckDbOptions, toCount, toText, withDuckDb } from './duckdb.ts';
import { predictionRelation } from './log-relations.ts';
import type { LogSegment } from './prediction-segments.ts';
import { listLiteral, textLiteral } from './sql-text.ts';

export interface LoggedPrediction {
  readonly requestId: string;
  readonly row: number;
  readonly model: string;
  readonly version: number;
  /** UTC ISO. */
  readonly at: string;
  readonly output: readonly number[];
}

/** Every row of these requests that was answered; under one id and row the last one, as `predictions(endpoint)` has it. */
export async function findPredictions(
  segments: readonly LogSegment[],
  requestIds: readonly string[],
  options: DuckDbOptions = {},
): Promise<readonly LoggedPrediction[]> {
  if (segments.length === 0 || requestIds.length === 0) return [];
  return withDuckDb(options, async (db) => {
    await db.run(`CREATE TEMPORARY TABLE millrace_wanted AS SELECT unnest(${listLiteral(requestIds.map(textLiteral))}) AS requestId`);
    const rows = await db.rows(
      `SELECT requestId AS id, "row" AS r, model AS m, version AS v, epoch_ms("at") AS t, CAST(to_json(output) AS VARCHAR) AS o FROM ${predictionRelation(segments)} SEMI JOIN millrace_wanted USING (requestId) WHERE NOT shadow QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC, version DESC) = 1`,
    );
    return rows.map(({ id, r, m, v, t, o }) => ({
      requestId: toText(id) ?? '',
      row: toCount(r),
      model: toText(m) ?? '',
      version: toCount(v),
      at: new Date(toCount(t)).toISOString(),
      output: JSON.parse(toText(o) ?? '[]') as number[],
    }));
  });
}
