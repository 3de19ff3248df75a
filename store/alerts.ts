import { and, eq, sql } from 'drizzle-orm';
import type { AlertMessage } from '../contracts/alerts.ts';
import type { Database, Executor } from './database.ts';
import { storable } from './database.ts';
import { alertDeliveries, alerts } from './schema.ts';

/**
 * Messages to people, kept until each channel has taken them.
 *
 * Invariants:
 * 1. A message is written in the transaction of what it tells of, once for a key.
 * 2. Each channel of the time when it is spread gets it at least once, whatever the others do.
 * 3. One process at a time tries a delivery: `claim` leases it.
 */
export interface DueDelivery {
  readonly alert: number;
  readonly channel: string;
  readonly key: string;
  readonly message: AlertMessage;
  /** Counts this one. */
  readonly attempt: number;
}

/** Longest wait between two attempts. */
const LONGEST_WAIT_SECONDS = 3_600;
/** A message that no attempt has brought through for so long is given up. */
const GIVE_UP_AFTER = '3 days';

/** Writes the message with whatever transaction `tx` belongs to; the same key again changes nothing. */
export async function writeAlert(tx: Executor, key: string, message: AlertMessage): Promise<void> {
  await tx
    .insert(alerts)
    .values({ key, message: storable(message) })
    .onConflictDoNothing();
}

export function createAlertsStore({ orm }: Database) {
  return {
    /** Makes a delivery to each channel of every message that has none yet. */
    async spread(channels: readonly string[]): Promise<void> {
      await orm.transaction(async (tx) => {
        const { rows } = await tx.execute<{ seq: string }>(sql`update alerts set spread = true where not spread returning seq`);
        const deliveries = rows.flatMap(({ seq }) => channels.map((channel) => ({ alert: Number(seq), channel })));
        if (deliveries.length > 0) await tx.insert(alertDeliveries).values(deliveries).onConflictDoNothing();
      });
    },

    /** The channel's next messages, the oldest first; nobody else gets them for `leaseSeconds`. */
    async claim(channel: string, options: { readonly limit: number; readonly leaseSeconds: number }): Promise<readonly DueDelivery[]> {
      const { rows } = await orm.execute<{ alert: string; key: string; message: AlertMessage; attempts: number }>(sql`
        with due as (
          select alert, channel from alert_deliveries
          where channel = ${channel} and delivered_at is null and gave_up_at is null and next_at <= now()
          order by alert limit ${options.limit} for update skip locked
        )
        update alert_deliveries d set attempts = d.attempts + 1, next_at = now() + make_interval(secs => ${options.leaseSeconds})
        from due join alerts a on a.seq = due.alert
        where d.alert = due.alert and d.channel = due.channel
        returning d.alert, a.key, a.message, d.attempts`);
      return rows
        .map((row) => ({ alert: Number(row.alert), channel, key: row.key, message: row.message, attempt: row.attempts }))
        .sort((a, b) => a.alert - b.alert);
    },

    async delivered(alert: number, channel: string): Promise<void> {
      await orm
        .update(alertDeliveries)
        .set({ deliveredAt: sql`now()`, lastError: null })
        .where(and(eq(alertDeliveries.alert, alert), eq(alertDeliveries.channel, channel)));
    },

    /** Tries again later, each time after twice the wait; given up after three days. `why` is a sentence of ours. */
    async failed(delivery: DueDelivery, why: string): Promise<void> {
      const waitSeconds = Math.min(LONGEST_WAIT_SECONDS, 2 ** Math.min(delivery.attempt - 1, 20));
      await orm.execute(sql`
        update alert_deliveries d set last_error = ${storable(why)}, next_at = now() + make_interval(secs => ${waitSeconds}),
          gave_up_at = case when a.created_at < now() - ${GIVE_UP_AFTER}::interval then now() end
        from alerts a where a.seq = d.alert and d.alert = ${delivery.alert} and d.channel = ${delivery.channel} and d.delivered_at is null`);
    },

    /** Newest first, each with how its deliveries stand. Default limit 50, at most 1,000. */
    async list(
      input: { readonly limit?: number } = {},
    ): Promise<readonly (typeof alerts.$inferSelect & { readonly deliveries: readonly (typeof alertDeliveries.$inferSelect)[] })[]> {
      const found = await orm
        .select()
        .from(alerts)
        .orderBy(sql`${alerts.seq} desc`)
        .limit(Math.min(input.limit ?? 50, 1_000));
      return Promise.all(
        found.map(async (alert) => ({ ...alert, deliveries: await orm.select().from(alertDeliveries).where(eq(alertDeliveries.alert, alert.seq)) })),
      );
    },
  };
}
export type AlertsStore = ReturnType<typeof createAlertsStore>;
