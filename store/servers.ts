import { and, asc, eq, gt, gte, sql } from 'drizzle-orm';
import type { ErrorReport } from '../contracts/errors.ts';
import { type Database, storable } from './database.ts';
import { serverRoutes, servers } from './schema.ts';

/** Prediction servers that are alive, and the routes they obey. Leases are measured by the database's clock alone. */
export type ServerRecord = typeof servers.$inferSelect;

export interface HeartbeatInput {
  readonly serverId: string;
  readonly url: string;
  /** Routes that the server obeys now; what is not listed it no longer holds. */
  readonly holding: readonly { readonly endpoint: string; readonly epoch: number }[];
  /** Routes that it could not take up. Default: none. */
  readonly failures?: readonly { readonly endpoint: string; readonly epoch: number; readonly error: ErrorReport }[];
  readonly leaseSeconds: number;
}

export function createServersStore({ orm }: Database) {
  return {
    /** Renews a server's lease, and says which routes it obeys. */
    async heartbeat(input: HeartbeatInput): Promise<void> {
      const until = sql`now() + make_interval(secs => ${input.leaseSeconds})`;
      await orm.transaction(async (tx) => {
        await tx
          .insert(servers)
          .values({ id: input.serverId, url: input.url, leaseUntil: until, failures: storable(input.failures ?? []) })
          .onConflictDoUpdate({ target: servers.id, set: { url: input.url, leaseUntil: until, failures: storable(input.failures ?? []) } });
        await tx.delete(serverRoutes).where(eq(serverRoutes.serverId, input.serverId));
        if (input.holding.length > 0)
          await tx.insert(serverRoutes).values(input.holding.map(({ endpoint, epoch }) => ({ serverId: input.serverId, endpoint, epoch, leaseUntil: until })));
      });
    },

    /** Forgets a server that stops in an orderly way. */
    async leave(serverId: string): Promise<void> {
      await orm.delete(servers).where(eq(servers.id, serverId));
    },

    /** How many servers are alive, and how many of them obey the endpoint's route of this epoch or a newer one, and why others could not take it up. */
    async holders(input: {
      readonly endpoint: string;
      readonly epoch: number;
    }): Promise<{ readonly live: number; readonly holding: number; readonly problems: readonly string[] }> {
      const alive = gt(servers.leaseUntil, sql`now()`);
      const [live, holding] = await Promise.all([
        orm.select({ id: servers.id, failures: servers.failures }).from(servers).where(alive),
        orm
          .select({ id: servers.id })
          .from(servers)
          .innerJoin(serverRoutes, eq(serverRoutes.serverId, servers.id))
          .where(and(alive, eq(serverRoutes.endpoint, input.endpoint), gte(serverRoutes.epoch, input.epoch))),
      ]);
      const problems = live.flatMap(({ id, failures }) =>
        failures.filter((failure) => failure.endpoint === input.endpoint && failure.epoch === input.epoch).map(({ error }) => `${id}: ${error.message}`),
      );
      return { live: live.length, holding: holding.length, problems };
    },

    /** Servers whose lease holds, by id. */
    async live(): Promise<readonly ServerRecord[]> {
      return orm.select().from(servers).where(gt(servers.leaseUntil, sql`now()`)).orderBy(asc(servers.id));
    },
  };
}
export type ServersStore = ReturnType<typeof createServersStore>;
