import { and, asc, desc, eq, gt, inArray, lt, lte, sql } from 'drizzle-orm';
import type { PastWindow } from '../contracts/drift.ts';
import type { Database } from './database.ts';
import { monitors, monitorWindows, runs } from './schema.ts';

export type MonitorRecord = typeof monitors.$inferSelect;
export type MonitorWindow = typeof monitorWindows.$inferSelect;

interface WindowsThatEnd {
  readonly endpoint: string;
  /** UTC ISO. */
  readonly ends: readonly string[];
}

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

    /** Newest first; `before`: only windows that ended before then, `until`: or then, `ends`: at one of these (UTC ISO). Default limit 50, at most 1,000. */
    async listWindows(input: {
      readonly endpoint: string;
      readonly limit?: number;
      readonly before?: string;
      readonly until?: string;
      readonly ends?: readonly string[];
    }): Promise<readonly MonitorWindow[]> {
      return orm
        .select()
        .from(monitorWindows)
        .where(
          and(
            eq(monitorWindows.endpoint, input.endpoint),
            input.before === undefined ? undefined : lt(monitorWindows.to, input.before),
            input.until === undefined ? undefined : lte(monitorWindows.to, input.until),
            input.ends === undefined ? undefined : inArray(monitorWindows.to, [...input.ends]),
          ),
        )
        .orderBy(desc(monitorWindows.to), desc(monitorWindows.from))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** Which windows there are, as `listWindows` orders them, and a text that is another one whenever a window is written anew. */
    async windowStamps(input: {
      readonly endpoint: string;
      readonly limit: number;
      readonly before?: string;
      readonly until?: string;
    }): Promise<readonly { readonly from: string; readonly to: string; readonly stamp: string }[]> {
      return orm
        .select({ from: monitorWindows.from, to: monitorWindows.to, stamp: sql<string>`xmin::text` })
        .from(monitorWindows)
        .where(
          and(
            eq(monitorWindows.endpoint, input.endpoint),
            input.before === undefined ? undefined : lt(monitorWindows.to, input.before),
            input.until === undefined ? undefined : lte(monitorWindows.to, input.until),
          ),
        )
        .orderBy(desc(monitorWindows.to), desc(monitorWindows.from))
        .limit(input.limit);
    },

    /** What was decided of drift in the windows that end then, and of which version; null where nothing was. */
    async windowDecisions({
      endpoint,
      ends,
    }: WindowsThatEnd): Promise<
      readonly { readonly from: string; readonly to: string; readonly model: string; readonly version: number; readonly decision: PastWindow | null }[]
    > {
      const { figures } = monitorWindows;
      return orm
        .select({
          from: monitorWindows.from,
          to: monitorWindows.to,
          model: sql<string>`coalesce(${figures} -> 'version' ->> 'model', '')`,
          version: sql<number>`coalesce((${figures} -> 'version' ->> 'version')::int, 0)`,
          decision: sql<PastWindow | null>`${figures} -> 'decision'`,
        })
        .from(monitorWindows)
        .where(and(eq(monitorWindows.endpoint, endpoint), inArray(monitorWindows.to, [...ends])));
    },

    /** The drift reports of the windows that end then. */
    async windowDrift({ endpoint, ends }: WindowsThatEnd): Promise<readonly { readonly from: string; readonly to: string; readonly drift: unknown }[]> {
      return orm
        .select({ from: monitorWindows.from, to: monitorWindows.to, drift: sql<unknown>`${monitorWindows.figures} -> 'drift'` })
        .from(monitorWindows)
        .where(and(eq(monitorWindows.endpoint, endpoint), inArray(monitorWindows.to, [...ends])));
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
