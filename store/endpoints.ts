import { and, asc, desc, eq, gt, inArray, sql } from 'drizzle-orm';
import type { ProductionPeriod } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import { writeAudit } from './audit.ts';
import { type Database, storable } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { endpoints, rollouts, routeHistory, routes } from './schema.ts';

/**
 * Endpoints: who answers (routes), and how it came about.
 *
 * Invariants:
 * 1. A route changes only from the epoch its writer saw to a greater one; the row of a removed route stays for its epoch.
 * 2. Each change of a route stands in the history and in the audit log, and is announced on `millrace_routes` when it commits. Renewing a lease
 *    is announced alone: the epoch is the same, and the lease only grows.
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
  /** Why, and who: they stand in the history. */
  readonly reason?: string;
  readonly by?: string;
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

/** What of a challenger stays the same when its lease is renewed. */
const withoutLease = (challenger: Route['challenger']): unknown => challenger && { ...challenger, leaseUntil: '' };

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
    readonly standby: readonly ServedVersion[];
    readonly log: boolean;
    readonly expectedEpoch: number;
    readonly rolloutId: string | null;
    readonly runId: string | null;
    readonly reason: string | null;
    readonly by: string | null;
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
        isSameJson(withoutLease(now.challenger), withoutLease(next.challenger)) &&
        isSameJson(now.standby, next.standby)
      )
        return;
      if ((now?.epoch ?? 0) !== next.expectedEpoch)
        throw new MillraceError('FENCED', `The route of ${next.endpoint} is at epoch ${now?.epoch ?? 0}, not ${next.expectedEpoch}: someone else changed it.`);
      const { epoch, champion, challenger, standby, log, rolloutId } = next;
      const row = { epoch, champion, challenger, standby, log, rolloutId };
      await tx
        .insert(routes)
        .values({ endpoint: next.endpoint, ...row })
        .onConflictDoUpdate({ target: routes.endpoint, set: { ...row, updatedAt: sql`now()` } });
      await tx
        .insert(routeHistory)
        .values({ endpoint: next.endpoint, ...row, runId: next.runId, reason: next.reason === null ? null : storable(next.reason), by: next.by });
      if (rolloutId !== null) await tx.update(rollouts).set({ epoch }).where(eq(rollouts.id, rolloutId));
      await tx.execute(sql`select pg_notify(${ROUTES_CHANNEL}, ${next.endpoint})`);
      await writeAudit(tx, {
        action: champion === null ? 'route.remove' : 'route.change',
        subject: `endpoints/${next.endpoint}`,
        who: next.by ?? (next.runId === null ? undefined : `run ${next.runId}`),
        details: { epoch, champion, challenger, rollout: rolloutId, reason: next.reason },
      });
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
      const { route, runId = null, reason = null, by = null, ...rest } = input;
      await writeRoute({ ...route, standby: route.standby ?? [], ...rest, runId, reason, by });
    },

    /**
     * Moves the end of a challenger's lease forward, at the epoch that stands, and announces it. An earlier end changes nothing.
     * @throws FENCED when the stored route is not at `epoch` or has no challenger.
     */
    async renewLease({ endpoint, epoch, leaseUntil }: { readonly endpoint: string; readonly epoch: number; readonly leaseUntil: string }): Promise<void> {
      await orm.transaction(async (tx) => {
        const [now] = await tx.select().from(routes).where(eq(routes.endpoint, endpoint)).for('update');
        if (now?.epoch !== epoch || now.challenger === null)
          throw new MillraceError('FENCED', `The route of ${endpoint} is at epoch ${now?.epoch ?? 0}, not ${epoch}: its lease is not renewed.`);
        if (Date.parse(now.challenger.leaseUntil) >= Date.parse(leaseUntil)) return;
        await tx
          .update(routes)
          .set({ challenger: { ...now.challenger, leaseUntil } })
          .where(eq(routes.endpoint, endpoint));
        await tx.execute(sql`select pg_notify(${ROUTES_CHANNEL}, ${endpoint})`);
      });
    },

    /** Takes a route away, so that nothing answers: the undo of an endpoint's first version. @throws FENCED as `setRoute` does. */
    async removeRoute(input: {
      readonly endpoint: string;
      readonly expectedEpoch: number;
      readonly rolloutId: string | null;
      readonly runId?: string;
      readonly reason?: string;
      readonly by?: string;
    }): Promise<void> {
      const { runId = null, reason = null, by = null, ...rest } = input;
      await writeRoute({ ...rest, epoch: input.expectedEpoch + 1, champion: null, challenger: null, standby: [], log: false, runId, reason, by });
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

    /** What served from when to when, newest first. Default limit 50, at most 1,000; `before` is the epoch of the last one of the page before. */
    async productionHistory(endpoint: string, input: { readonly limit?: number; readonly before?: number } = {}): Promise<readonly ProductionPeriod[]> {
      const limit = Math.min(input.limit ?? 50, 1_000);
      const { rows } = await orm.execute<{ epoch: string; until: Date | string | null }>(sql`
        select epoch, until from (
          select epoch, lead(at) over (order by epoch) as until from route_history where endpoint = ${endpoint}
        ) spans
        where ${input.before === undefined ? sql`true` : sql`epoch < ${input.before}`}
        order by epoch desc limit ${limit}`);
      if (rows.length === 0) return [];
      const ends = new Map(rows.map(({ epoch, until }) => [Number(epoch), until === null ? null : new Date(until).toISOString()]));
      const changes = await orm
        .select()
        .from(routeHistory)
        .where(and(eq(routeHistory.endpoint, endpoint), inArray(routeHistory.epoch, [...ends.keys()])))
        .orderBy(desc(routeHistory.epoch));
      return changes.map(({ epoch, at, champion, challenger, standby, reason, by, rolloutId }) => ({
        epoch,
        from: at,
        until: ends.get(epoch) ?? null,
        champion,
        challenger: challenger && { version: challenger.version, percent: challenger.percent, mode: challenger.mode ?? 'share' },
        standby,
        reason,
        by,
        rolloutId,
      }));
    },

    /** By name. Default limit 50, at most 1,000; `after` is the last name of the page before. */
    async list(input: OfProjects & { readonly limit?: number; readonly after?: string } = {}): Promise<readonly EndpointRecord[]> {
      return orm
        .select()
        .from(endpoints)
        .where(and(isOfProjects(sql`${endpoints.name}`, input), input.after === undefined ? undefined : gt(endpoints.name, input.after)))
        .orderBy(asc(endpoints.name))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    async find(endpoint: string): Promise<EndpointRecord | null> {
      return (await orm.select().from(endpoints).where(eq(endpoints.name, endpoint)))[0] ?? null;
    },
  };
}
export type EndpointsStore = ReturnType<typeof createEndpointsStore>;
