import { type AnyColumn, and, eq, gte, lt, sql } from 'drizzle-orm';
import type { ServingStats } from '../contracts/routes.ts';
import { type Database, onlyRow } from './database.ts';
import { servingStats } from './schema.ts';

export interface StatsSum {
  readonly requests: number;
  readonly errors: number;
  readonly latencyMsSum: number;
  /** 0 without requests. */
  readonly latencyMsMean: number;
  readonly latencyMsMax: number;
}

/** Sums of bigint come as text, and are null without rows. */
const total = (column: AnyColumn) => sql`coalesce(sum(${column}), 0)`.mapWith(Number);

export function createServingStatsStore({ orm }: Database) {
  return {
    /** Records intervals. A server sends each interval when it is over; sending it again replaces it, so that a retry counts once. */
    async add(stats: readonly ServingStats[]): Promise<void> {
      if (stats.length === 0) return;
      await orm
        .insert(servingStats)
        .values([...stats])
        .onConflictDoUpdate({
          target: [servingStats.endpoint, servingStats.model, servingStats.version, servingStats.from, servingStats.server],
          set: {
            requests: sql`excluded.requests`,
            errors: sql`excluded.errors`,
            latencyMsSum: sql`excluded.latency_ms_sum`,
            latencyMsMax: sql`excluded.latency_ms_max`,
          },
        });
    },

    /** The sum over all servers of the intervals that start at `from` or later, and before `to` when it is given. UTC ISO. */
    async read(input: {
      readonly endpoint: string;
      readonly model: string;
      readonly version: number;
      readonly from: string;
      readonly to?: string;
    }): Promise<StatsSum> {
      const row = onlyRow(
        await orm
          .select({
            requests: total(servingStats.requests),
            errors: total(servingStats.errors),
            latencyMsSum: total(servingStats.latencyMsSum),
            latencyMsMax: sql`coalesce(max(${servingStats.latencyMsMax}), 0)`.mapWith(Number),
          })
          .from(servingStats)
          .where(
            and(
              eq(servingStats.endpoint, input.endpoint),
              eq(servingStats.model, input.model),
              eq(servingStats.version, input.version),
              gte(servingStats.from, input.from),
              input.to === undefined ? undefined : lt(servingStats.from, input.to),
            ),
          ),
      );
      return { ...row, latencyMsMean: row.requests === 0 ? 0 : row.latencyMsSum / row.requests };
    },
  };
}
export type ServingStatsStore = ReturnType<typeof createServingStatsStore>;
