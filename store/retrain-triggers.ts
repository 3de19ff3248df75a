import { and, asc, desc, eq, inArray, isNull, sql } from 'drizzle-orm';
import type { RetrainRequest } from '../contracts/retraining.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import { type Database, storable } from './database.ts';
import { retrainAsks, retrainTriggerItems, retrainTriggers } from './schema.ts';

/**
 * What asks for retrainings by itself: what of it was seen, and what was asked.
 *
 * Invariants:
 * 1. What was seen and what is asked for it are written in one transaction: nothing is asked twice, or noted and not asked.
 * 2. A look that was overtaken by another one, or by a changed declaration, writes nothing.
 * 3. What is asked stays until its controller was told. It may be told twice when a process dies in between; the request's
 *    key is then the same.
 */
export type RetrainTriggerRecord = typeof retrainTriggers.$inferSelect;
export type RetrainAskRecord = typeof retrainAsks.$inferSelect;

/** What a look at a trigger found. */
export interface Noticed {
  /** What the next look goes on from. */
  readonly state: unknown;
  /** Things that count as seen from now on. */
  readonly items?: readonly string[];
  /** What is asked, under its key; null: nothing. */
  readonly ask: (RetrainRequest & { readonly key: string }) | null;
}

const ITEMS_A_STATEMENT = 5_000;

export function createRetrainTriggersStore({ orm }: Database) {
  return {
    /**
     * Makes these the triggers of a pipeline. One that is there, alike, keeps what it saw; one that is declared otherwise
     * begins anew.
     * @returns those that were there and are no more
     */
    async declare(pipeline: string, triggers: readonly RetrainTrigger[]): Promise<readonly RetrainTriggerRecord[]> {
      return orm.transaction(async (tx) => {
        const there = await tx.select().from(retrainTriggers).where(eq(retrainTriggers.pipeline, pipeline)).for('update');
        for (const trigger of triggers) {
          const known = there.find(({ name }) => name === trigger.name);
          const same = await tx
            .select({ same: sql<boolean>`${retrainTriggers.trigger} = ${JSON.stringify(storable(trigger))}::jsonb` })
            .from(retrainTriggers)
            .where(and(eq(retrainTriggers.pipeline, pipeline), eq(retrainTriggers.name, trigger.name)));
          if (same[0]?.same === true) continue;
          if (known !== undefined) await tx.delete(retrainTriggers).where(and(eq(retrainTriggers.pipeline, pipeline), eq(retrainTriggers.name, trigger.name)));
          await tx
            .insert(retrainTriggers)
            .values({ pipeline, name: trigger.name, trigger: storable(trigger) })
            .onConflictDoNothing();
        }
        const gone = there.filter(({ name }) => !triggers.some((trigger) => trigger.name === name));
        if (gone.length > 0)
          await tx.delete(retrainTriggers).where(
            and(
              eq(retrainTriggers.pipeline, pipeline),
              inArray(
                retrainTriggers.name,
                gone.map(({ name }) => name),
              ),
            ),
          );
        return gone;
      });
    },

    async find(pipeline: string, name: string): Promise<RetrainTriggerRecord | null> {
      const [found] = await orm
        .select()
        .from(retrainTriggers)
        .where(and(eq(retrainTriggers.pipeline, pipeline), eq(retrainTriggers.name, name)));
      return found ?? null;
    },

    /** By pipeline and name, each with when it last asked. */
    async list(pipeline?: string): Promise<readonly (RetrainTriggerRecord & { readonly asked: number; readonly askedAt: string | null })[]> {
      const records = await orm
        .select()
        .from(retrainTriggers)
        .where(pipeline === undefined ? undefined : eq(retrainTriggers.pipeline, pipeline))
        .orderBy(asc(retrainTriggers.pipeline), asc(retrainTriggers.name));
      const asked = await orm
        .select({ pipeline: retrainAsks.pipeline, name: retrainAsks.name, n: sql<number>`count(*)::int`, last: sql<string>`max(${retrainAsks.noticedAt})` })
        .from(retrainAsks)
        .where(pipeline === undefined ? undefined : eq(retrainAsks.pipeline, pipeline))
        .groupBy(retrainAsks.pipeline, retrainAsks.name);
      return records.map((record) => {
        const of = asked.find((one) => one.pipeline === record.pipeline && one.name === record.name);
        return { ...record, asked: of?.n ?? 0, askedAt: of === undefined ? null : new Date(of.last).toISOString() };
      });
    },

    /** Those of the items that were not seen yet. */
    async unseen(pipeline: string, name: string, items: readonly string[]): Promise<readonly string[]> {
      const seen = new Set<string>();
      for (let at = 0; at < items.length; at += ITEMS_A_STATEMENT) {
        const rows = await orm
          .select({ item: retrainTriggerItems.item })
          .from(retrainTriggerItems)
          .where(
            and(
              eq(retrainTriggerItems.pipeline, pipeline),
              eq(retrainTriggerItems.name, name),
              inArray(retrainTriggerItems.item, items.slice(at, at + ITEMS_A_STATEMENT)),
            ),
          );
        for (const { item } of rows) seen.add(item);
      }
      return items.filter((item) => !seen.has(item));
    },

    /**
     * Writes what a look found.
     * @returns false where another look came first, or the trigger is declared otherwise now: then nothing was written
     */
    async notice(before: Pick<RetrainTriggerRecord, 'pipeline' | 'name' | 'epoch' | 'armedAt'>, { state, items = [], ask }: Noticed): Promise<boolean> {
      const { pipeline, name } = before;
      return orm.transaction(async (tx) => {
        const updated = await tx
          .update(retrainTriggers)
          .set({ state: state === null ? null : storable(state), epoch: before.epoch + 1, lookedAt: sql`now()`, problem: null })
          .where(
            and(
              eq(retrainTriggers.pipeline, pipeline),
              eq(retrainTriggers.name, name),
              eq(retrainTriggers.epoch, before.epoch),
              eq(retrainTriggers.armedAt, before.armedAt),
            ),
          )
          .returning({ name: retrainTriggers.name });
        if (updated.length === 0) return false;
        for (let at = 0; at < items.length; at += ITEMS_A_STATEMENT)
          await tx
            .insert(retrainTriggerItems)
            .values(items.slice(at, at + ITEMS_A_STATEMENT).map((item) => ({ pipeline, name, item })))
            .onConflictDoNothing();
        if (ask !== null)
          await tx
            .insert(retrainAsks)
            .values({ pipeline, key: ask.key, name, request: storable(ask) })
            .onConflictDoNothing();
        return true;
      });
    },

    /** A look that found nothing new: only that it was taken. */
    async looked({ pipeline, name }: Pick<RetrainTriggerRecord, 'pipeline' | 'name'>, problem: string | null): Promise<void> {
      await orm
        .update(retrainTriggers)
        .set({ lookedAt: sql`now()`, problem: problem === null ? null : storable(problem.slice(0, 2_000)) })
        .where(and(eq(retrainTriggers.pipeline, pipeline), eq(retrainTriggers.name, name)));
    },

    /** What controllers were not told yet, the oldest first. */
    async untold(limit = 100): Promise<readonly RetrainAskRecord[]> {
      return orm.select().from(retrainAsks).where(isNull(retrainAsks.toldAt)).orderBy(asc(retrainAsks.seq)).limit(limit);
    },

    async told({ pipeline, key }: Pick<RetrainAskRecord, 'pipeline' | 'key'>): Promise<void> {
      await orm
        .update(retrainAsks)
        .set({ toldAt: sql`now()` })
        .where(and(eq(retrainAsks.pipeline, pipeline), eq(retrainAsks.key, key)));
    },

    /** What a pipeline's triggers asked, newest first. Default limit 50. */
    async asks(pipeline: string, limit = 50): Promise<readonly RetrainAskRecord[]> {
      return orm.select().from(retrainAsks).where(eq(retrainAsks.pipeline, pipeline)).orderBy(desc(retrainAsks.seq)).limit(limit);
    },

    /** When the pipeline's last completed run began; null where none has completed. */
    async lastTrainingAt(pipeline: string): Promise<string | null> {
      const { rows } = await orm.execute<{ at: string | null }>(
        sql`select max(coalesce(started_at, created_at)) as at from runs where pipeline = ${pipeline} and status = 'completed'`,
      );
      const at = rows[0]?.at;
      return at === null || at === undefined ? null : new Date(at).toISOString();
    },

    /** Labels that came after an instant: feedback that found its prediction, or settled answers of a queue. */
    async labelsSince({ endpoint, queue, since }: { readonly endpoint?: string; readonly queue?: string; readonly since: string }): Promise<number> {
      const { rows } = await orm.execute<{ n: number }>(
        queue === undefined
          ? sql`select count(*)::int as n from feedback where endpoint = ${endpoint ?? ''} and name = '' and status = 'joined' and received_at > ${since}`
          : sql`select count(*)::int as n from label_items where queue = ${queue} and status = 'settled' and label is not null and settled_at > ${since}`,
      );
      return rows[0]?.n ?? 0;
    },

    /** Snapshots of a name by runs of other pipelines that completed, newest first; at most 1,000. */
    async foreignSnapshots(
      name: string,
      pipeline: string,
    ): Promise<readonly { readonly id: string; readonly rows: number; readonly pipeline: string; readonly runId: string }[]> {
      const { rows } = await orm.execute<{ id: string; rows: number; pipeline: string; runId: string }>(sql`
        select d.id, d.rows::double precision as rows, r.pipeline, r.id as "runId" from datasets d join runs r on r.id = d.run_id
        where d.name = ${name} and r.pipeline <> ${pipeline} and r.status = 'completed' order by d.seq desc limit 1000`);
      return rows;
    },
  };
}
export type RetrainTriggersStore = ReturnType<typeof createRetrainTriggersStore>;
