import type { DuckDBValue } from '@duckdb/node-api';
import { type DuckDb, DuckDbFailure } from './duckdb.ts';

/** Aggregates over one relation, gathered from several askers and computed in one pass. */
export interface ColumnScan {
  /** Adds an aggregate; the same text is computed once. Gives the place of its value in what `run` returns. */
  readonly add: (aggregate: string) => number;
  readonly run: (db: DuckDb) => Promise<readonly DuckDBValue[]>;
}

/** Beyond this many aggregates the work is spread over several passes: DuckDB's planner does not grow linearly. */
const AGGREGATES_A_PASS = 1500;

export function createColumnScan(relation: string): ColumnScan {
  const places = new Map<string, number>();
  return {
    add(aggregate) {
      const place = places.get(aggregate) ?? places.size;
      places.set(aggregate, place);
      return place;
    },
    async run(db) {
      const aggregates = [...places.keys()];
      const values: DuckDBValue[] = [];
      for (let start = 0; start < aggregates.length; start += AGGREGATES_A_PASS) {
        const list = aggregates.slice(start, start + AGGREGATES_A_PASS).map((sql, index) => `${sql} AS a${index}`);
        const row = await db.row(`SELECT ${list.join(', ')} FROM ${relation}`);
        for (let index = 0; index < list.length; index++) values.push(row[`a${index}`] ?? null);
      }
      return values;
    },
  };
}

/** Whether the aggregate can be computed at all, on no rows: a pattern or SQL text that a person wrote may not parse. */
export async function isComputable(db: DuckDb, relation: string, expression: string): Promise<boolean> {
  try {
    await db.rows(`SELECT ${expression} AS v FROM ${relation} LIMIT 0`);
    return true;
  } catch (error) {
    if (error instanceof DuckDbFailure) return false;
    throw error;
  }
}
