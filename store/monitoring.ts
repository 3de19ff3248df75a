import { asc, desc, eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { monitors, monitorWindows } from './schema.ts';

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

    async listMonitors(): Promise<readonly MonitorRecord[]> {
      return orm.select().from(monitors).orderBy(asc(monitors.endpoint));
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

    /** Newest first. Default limit 50, at most 1,000. */
    async listWindows(input: { readonly endpoint: string; readonly limit?: number }): Promise<readonly MonitorWindow[]> {
      return orm
        .select()
        .from(monitorWindows)
        .where(eq(monitorWindows.endpoint, input.endpoint))
        .orderBy(desc(monitorWindows.to), desc(monitorWindows.from))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type MonitoringStore = ReturnType<typeof createMonitoringStore>;
