import { and, eq, gte, lt, max, sql, sum } from 'drizzle-orm';
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
            requests: sum(servingStats.requests).mapWith(Number),
            errors: sum(servingStats.errors).mapWith(Number),
            latencyMsSum: sum(servingStats.latencyMsSum).mapWith(Number),
            latencyMsMax: max(servingStats.latencyMsMax),
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
      const requests = row.requests ?? 0;
      const latencyMsSum = row.latencyMsSum ?? 0;
      return {
        requests,
        errors: row.errors ?? 0,
        latencyMsSum,
        latencyMsMean: requests === 0 ? 0 : latencyMsSum / requests,
        latencyMsMax: row.latencyMsMax ?? 0,
      };
    },
  };
}
export type ServingStatsStore = ReturnType<typeof createServingStatsStore>;
