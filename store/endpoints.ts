import { asc, desc, eq, gt, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { Database } from './database.ts';
import { endpoints, rollouts, routeHistory, routes } from './schema.ts';

/**
 * Endpoints: who answers (routes), and how it came about.
 *
 * Invariants:
 * 1. A route changes only from the epoch its writer saw to a greater one; the row of a removed route stays for its epoch.
 * 2. Each change of a route stands in the history, and is announced on `millrace_routes` when it commits.
 */
export type EndpointRecord = typeof endpoints.$inferSelect;
export type RouteChange = typeof routeHistory.$inferSelect;

/** The channel on which a change of a route is announced; the payload is the endpoint's name. */
export const ROUTES_CHANNEL = 'millrace_routes';

export interface SetRouteInput {
  readonly route: Route;
  /** The epoch that the writer saw; 0 when the endpoint never had a route. */
  readonly expectedEpoch: number;
  readonly rolloutId: string | null;
  readonly runId?: string;
}

type RouteRow = typeof routes.$inferSelect;
const routeOf = (row: RouteRow & { champion: ServedVersion }): Route => ({
  endpoint: row.endpoint,
  epoch: row.epoch,
  champion: row.champion,
  challenger: row.challenger,
  log: row.log,
  ...(row.standby.length > 0 ? { standby: [...row.standby] } : {}),
});
const hasChampion = (row: RouteRow): row is RouteRow & { champion: ServedVersion } => row.champion !== null;

/** Whether two JSON values are the same, whatever the order of their keys. */
function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return false;
  const [left, right] = [Object.entries(a), new Map(Object.entries(b))];
  return left.length === right.size && left.every(([key, value]) => right.has(key) && isSameJson(value, right.get(key)));
}

export function createEndpointsStore({ orm }: Database) {
  interface RouteWrite {
    readonly endpoint: string;
    readonly epoch: number;
    readonly champion: ServedVersion | null;
    readonly challenger: Route['challenger'];
    readonly log: boolean;
    readonly expectedEpoch: number;
    readonly rolloutId: string | null;
    readonly runId: string | null;
  }
  const writeRoute = async (next: RouteWrite): Promise<void> => {
    if (!(next.epoch > next.expectedEpoch))
      throw new MillraceError('FENCED', `A route's epoch must grow: ${next.epoch} does not follow ${next.expectedEpoch}.`);
    await orm.transaction(async (tx) => {
      await tx.insert(endpoints).values({ name: next.endpoint }).onConflictDoNothing();
      // The endpoint's row is the lock: it is there before the first route is.
      await tx.select().from(endpoints).where(eq(endpoints.name, next.endpoint)).for('update');
      const [now] = await tx.select().from(routes).where(eq(routes.endpoint, next.endpoint));
      if (
        now?.epoch === next.epoch &&
        now.rolloutId === next.rolloutId &&
        now.log === next.log &&
        isSameJson(now.champion, next.champion) &&
        isSameJson(now.challenger, next.challenger)
      )
        return;
      if ((now?.epoch ?? 0) !== next.expectedEpoch)
        throw new MillraceError('FENCED', `The route of ${next.endpoint} is at epoch ${now?.epoch ?? 0}, not ${next.expectedEpoch}: someone else changed it.`);
      const { epoch, champion, challenger, log, rolloutId } = next;
      const row = { epoch, champion, challenger, log, rolloutId };
      await tx
        .insert(routes)
        .values({ endpoint: next.endpoint, ...row })
        .onConflictDoUpdate({ target: routes.endpoint, set: { ...row, updatedAt: sql`now()` } });
      await tx.insert(routeHistory).values({ endpoint: next.endpoint, ...row, runId: next.runId });
      if (rolloutId !== null) await tx.update(rollouts).set({ epoch }).where(eq(rollouts.id, rolloutId));
      await tx.execute(sql`select pg_notify(${ROUTES_CHANNEL}, ${next.endpoint})`);
    });
  };

  return {
    /** Makes sure that the endpoint has a record. */
    async ensure(endpoint: string): Promise<void> {
      await orm.insert(endpoints).values({ name: endpoint }).onConflictDoNothing();
    },

    /**
     * Changes a route from `expectedEpoch` to `route.epoch`, and announces it. The same change again does nothing.
     * @throws FENCED when the stored route is not at `expectedEpoch`.
     */
    async setRoute(input: SetRouteInput): Promise<void> {
      await writeRoute({ ...input.route, expectedEpoch: input.expectedEpoch, rolloutId: input.rolloutId, runId: input.runId ?? null });
    },

    /** Takes a route away, so that nothing answers: the undo of an endpoint's first version. @throws FENCED as `setRoute` does. */
    async removeRoute(input: {
      readonly endpoint: string;
      readonly expectedEpoch: number;
      readonly rolloutId: string | null;
      readonly runId?: string;
    }): Promise<void> {
      await writeRoute({ ...input, epoch: input.expectedEpoch + 1, champion: null, challenger: null, log: false, runId: input.runId ?? null });
    },

    async route(endpoint: string): Promise<Route | null> {
      const [row] = await orm.select().from(routes).where(eq(routes.endpoint, endpoint));
      return row !== undefined && hasChampion(row) ? routeOf(row) : null;
    },

    /** The epoch that the next `setRoute` must expect: 0 when there never was a route; also known when it was taken away. */
    async routeEpoch(endpoint: string): Promise<number> {
      const [row] = await orm.select({ epoch: routes.epoch }).from(routes).where(eq(routes.endpoint, endpoint));
      return row?.epoch ?? 0;
    },

    /** All routes, by endpoint. One that was taken away is not among them. */
    async listRoutes(): Promise<readonly Route[]> {
      return (await orm.select().from(routes).orderBy(asc(routes.endpoint))).filter(hasChampion).map(routeOf);
    },

    /** Newest first. Default limit 50, at most 1,000. */
    async routeHistory(endpoint: string, limit = 50): Promise<readonly RouteChange[]> {
      return orm.select().from(routeHistory).where(eq(routeHistory.endpoint, endpoint)).orderBy(desc(routeHistory.epoch)).limit(Math.min(limit, 1_000));
    },

    /** By name. Default limit 50, at most 1,000; `after` is the last name of the page before. */
    async list(input: { readonly limit?: number; readonly after?: string } = {}): Promise<readonly EndpointRecord[]> {
      return orm
        .select()
        .from(endpoints)
        .where(input.after === undefined ? undefined : gt(endpoints.name, input.after))
        .orderBy(asc(endpoints.name))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    async find(endpoint: string): Promise<EndpointRecord | null> {
      return (await orm.select().from(endpoints).where(eq(endpoints.name, endpoint)))[0] ?? null;
    },
  };
}
export type EndpointsStore = ReturnType<typeof createEndpointsStore>;
