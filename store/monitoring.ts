import { and, asc, desc, eq, gt, inArray, lt, lte, sql } from 'drizzle-orm';
import type { PastWindow } from '../contracts/drift.ts';
import type { Database } from './database.ts';
import { monitors, monitorWindows, runs } from './schema.ts';

export type MonitorRecord = typeof monitors.$inferSelect;
export type MonitorWindow = typeof monitorWindows.$inferSelect;

export function createMonitoringStore({ orm }: Database) {
  return {
    /** Says how an endpoint is watched; replaces what was said before. */
    async putMonitor(input: { readonly endpoint: string; readonly config: unknown; readonly runId?: string }): Promise<void> {
      const row = { config: input.config ?? {}, runId: input.runId ?? null };
      await orm
        .insert(monitors)
        .values({ endpoint: input.endpoint, ...row })
        .onConflictDoUpdate({ target: monitors.endpoint, set: { ...row, updatedAt: sql`now()` } });
    },

    async findMonitor(endpoint: string): Promise<MonitorRecord | null> {
      return (await orm.select().from(monitors).where(eq(monitors.endpoint, endpoint)))[0] ?? null;
    },

    /** `pipeline`: only those that a run of it asked for last. */
    async listMonitors({ pipeline }: { readonly pipeline?: string } = {}): Promise<readonly MonitorRecord[]> {
      return orm
        .select()
        .from(monitors)
        .where(pipeline === undefined ? undefined : inArray(monitors.runId, orm.select({ id: runs.id }).from(runs).where(eq(runs.pipeline, pipeline))))
        .orderBy(asc(monitors.endpoint));
    },

    /** Records a window's figures; the same window again replaces them. Times are UTC ISO. */
    async putWindow(input: {
      readonly endpoint: string;
      readonly from: string;
      readonly to: string;
      readonly figures: unknown;
      readonly drifted: boolean;
    }): Promise<void> {
      const row = { figures: input.figures ?? {}, drifted: input.drifted };
      await orm
        .insert(monitorWindows)
        .values({ endpoint: input.endpoint, from: input.from, to: input.to, ...row })
        .onConflictDoUpdate({ target: [monitorWindows.endpoint, monitorWindows.from, monitorWindows.to], set: { ...row, at: sql`now()` } });
    },

    /** Newest first; `before`: only windows that ended before then, `until`: or then (UTC ISO). Default limit 50, at most 1,000. */
    async listWindows(input: {
      readonly endpoint: string;
      readonly limit?: number;
      readonly before?: string;
      readonly until?: string;
    }): Promise<readonly MonitorWindow[]> {
      return orm
        .select()
        .from(monitorWindows)
        .where(
          and(
            eq(monitorWindows.endpoint, input.endpoint),
            input.before === undefined ? undefined : lt(monitorWindows.to, input.before),
            input.until === undefined ? undefined : lte(monitorWindows.to, input.until),
          ),
        )
        .orderBy(desc(monitorWindows.to), desc(monitorWindows.from))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /**
     * What was decided of drift in the windows of one version that ended at `until` or before, newest first. At most 3,000. `season`: what is usual then is
     * asked for: of its newest windows (starts rounded to the hour, counted modulo `of` hours) also the drift report.
     */
    async pastDecisions(input: {
      readonly endpoint: string;
      readonly model: string;
      readonly version: number;
      readonly until: string;
      readonly season?: { readonly season: number; readonly of: number; readonly most: number };
    }): Promise<readonly { readonly decision: PastWindow; readonly drift: unknown }[]> {
      const figures = monitorWindows.figures;
      const { season = 0, of = 1, most = 0 } = input.season ?? {};
      const seasonOf = sql`(round(extract(epoch from ${monitorWindows.from}) / 3600)::bigint % ${of}::bigint)`;
      const order = sql`row_number() over (partition by ${seasonOf} order by ${monitorWindows.to} desc, ${monitorWindows.from} desc)`;
      const rows = await orm
        .select({
          decision: sql<PastWindow | null>`${figures} -> 'decision'`,
          drift: sql<unknown>`case when ${seasonOf} = ${season}::bigint and ${order} <= ${most}::bigint then ${figures} -> 'drift' end`,
        })
        .from(monitorWindows)
        .where(
          and(
            eq(monitorWindows.endpoint, input.endpoint),
            lte(monitorWindows.to, input.until),
            sql`${figures} -> 'version' ->> 'model' = ${input.model} and (${figures} -> 'version' ->> 'version')::int = ${input.version} and ${figures} ? 'decision'`,
          ),
        )
        .orderBy(desc(monitorWindows.to), desc(monitorWindows.from))
        .limit(3_000);
      return rows.flatMap(({ decision, drift }) => (decision === null ? [] : [{ decision, drift }]));
    },

    /** Forgets windows that end after an instant (UTC ISO): a clock was ahead when they were looked at. @returns how many */
    async dropWindowsAfter(input: { readonly endpoint: string; readonly after: string }): Promise<number> {
      const dropped = await orm
        .delete(monitorWindows)
        .where(and(eq(monitorWindows.endpoint, input.endpoint), gt(monitorWindows.to, input.after)))
        .returning({ to: monitorWindows.to });
      return dropped.length;
    },
  };
}
export type MonitoringStore = ReturnType<typeof createMonitoringStore>;
