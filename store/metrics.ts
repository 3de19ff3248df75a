import { and, asc, eq, getTableColumns, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { latestMetrics, metrics } from './schema.ts';
import type { StageMetric } from './stages.ts';

export type MetricRecord = typeof metrics.$inferSelect;

export function createMetricsStore({ orm, pool }: Database) {
  return {
    /** Adds points to a run; `stage` is empty for the run itself. `at` is UTC ISO, default now. NaN and infinities are kept; the same point twice is one. */
    async log(input: { readonly runId: string; readonly stage?: string; readonly points: readonly (StageMetric & { readonly at?: string })[] }): Promise<void> {
      if (input.points.length === 0) return;
      // Four arrays instead of a row a point: the statement stays the same for one point and for ten thousand.
      await pool.query({
        name: 'log_metrics',
        text: `insert into metrics (run_id, stage, key, step, value, at)
               select $1, $2, key, step, value, coalesce(at, now())
               from unnest($3::text[], $4::bigint[], $5::double precision[], $6::timestamptz[]) as points (key, step, value, at)
               on conflict do nothing`,
        values: [
          input.runId,
          input.stage ?? '',
          input.points.map((p) => p.key),
          input.points.map((p) => p.step ?? 0),
          input.points.map((p) => p.value),
          input.points.map((p) => p.at ?? null),
        ],
      });
    },

    /** The last point of each stage's metrics: the greatest step, and of these the newest. */
    async latest(runId: string): Promise<readonly MetricRecord[]> {
      const { name: _, ...columns } = getTableColumns(latestMetrics);
      return orm.select(columns).from(latestMetrics).where(eq(latestMetrics.runId, runId)).orderBy(latestMetrics.stage, latestMetrics.key);
    },

    /** All points of a metric, by step, then by time. At most `limit`, default 25,000. */
    async history(input: { readonly runId: string; readonly key: string; readonly stage?: string; readonly limit?: number }): Promise<readonly MetricRecord[]> {
      return orm
        .select()
        .from(metrics)
        .where(and(eq(metrics.runId, input.runId), eq(metrics.key, input.key), input.stage === undefined ? sql`true` : eq(metrics.stage, input.stage)))
        .orderBy(asc(metrics.step), asc(metrics.at))
        .limit(input.limit ?? 25_000);
    },
  };
}
export type MetricsStore = ReturnType<typeof createMetricsStore>;
