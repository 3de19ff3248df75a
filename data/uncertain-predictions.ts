/** Predictions of a window whose score lies where the model is least sure. */
import { type DuckDbOptions, toCount, toText, withDuckDb } from './duckdb.ts';
import { predictionRelation } from './log-relations.ts';
import type { LogSegment } from './prediction-segments.ts';
import { numberLiteral, textLiteral } from './sql-text.ts';

export interface UncertainOptions extends DuckDbOptions {
  /** Of the prediction log. */
  readonly segments: readonly LogSegment[];
  readonly model: string;
  readonly version: number;
  /** [from, to), UTC ISO. */
  readonly from: string;
  readonly to: string;
  /** Both ends belong to it. The score is the only output, or the greatest of several. */
  readonly between: readonly [number, number];
  /** The nearest to the middle first. */
  readonly atMost: number;
}

export interface UncertainPrediction {
  readonly requestId: string;
  readonly row: number;
  readonly inputs: Readonly<Record<string, unknown>>;
  /** 0–1: 1 in the middle of the range. */
  readonly uncertainty: number;
}

/** In the order of their uncertainty; of one request's row the last prediction counts. */
export async function uncertainPredictions(options: UncertainOptions): Promise<readonly UncertainPrediction[]> {
  const { segments, model, version, from, to, between, atMost } = options;
  if (segments.length === 0) return [];
  return withDuckDb(options, async (db) => {
    const [low, high] = between;
    const half = Math.max((high - low) / 2, Number.MIN_VALUE);
    const rows = await db.rows(
      `SELECT requestId AS id, "row" AS r, CAST(inputs AS VARCHAR) AS i, 1 - abs(score - ${numberLiteral((low + high) / 2)}) / ${numberLiteral(half)} AS u FROM (SELECT *, list_max(output) AS score FROM ${predictionRelation(segments)} WHERE NOT shadow AND model = ${textLiteral(model)} AND version = ${version} AND "at" >= CAST(${textLiteral(from)} AS TIMESTAMP) AND "at" < CAST(${textLiteral(to)} AS TIMESTAMP) QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC) = 1) WHERE score BETWEEN ${numberLiteral(low)} AND ${numberLiteral(high)} ORDER BY u DESC, id, r LIMIT ${atMost}`,
    );
    return rows.map(({ id, r, i, u }) => ({
      requestId: toText(id ?? null) ?? '',
      row: toCount(r),
      inputs: JSON.parse(toText(i ?? null) ?? '{}') as Record<string, unknown>,
      uncertainty: toCount(u),
    }));
  });
}
