import { inArray, sql } from 'drizzle-orm';
import { type Database, storable } from './database.ts';
import type { DatasetRecord } from './datasets.ts';
import { datasets } from './schema.ts';

/**
 * What OpenLineage's receiver was told of which run: the outbox of its events, which are made of the records when they are
 * sent.
 *
 * Invariants:
 * 1. Each run has a line for its start and, once it has ended, one for its end; runs from before it was configured too.
 * 2. A run's end is told after its start. One process at a time tries a line: `claim` leases it.
 * 3. A line may be told twice, never not at all; after three days without success it is given up.
 */
export interface DueEvent {
  readonly runId: string;
  readonly event: 'start' | 'end';
  /** Counts this one. */
  readonly attempt: number;
}

const LONGEST_WAIT_SECONDS = 3_600;
const GIVE_UP_AFTER = '3 days';
const GATHERED_AT_ONCE = 500;
/** A run's number is drawn before its row can be seen: so far back of the greatest one is looked for rows that came late. */
const LOOK_BACK = 1_000;

export function createOpenLineageStore({ orm }: Database) {
  return {
    /** Writes lines for runs that have begun or ended since. @returns how many */
    async gather(): Promise<number> {
      const begun = await orm.execute(sql`
        insert into lineage_events (run_id, event, seq)
        select r.id, 'start', r.seq from runs r
        where r.seq > (select coalesce(max(seq), 0) from lineage_events) - ${LOOK_BACK}
          and not exists (select 1 from lineage_events e where e.run_id = r.id and e.event = 'start')
        order by r.seq limit ${GATHERED_AT_ONCE}
        on conflict do nothing`);
      const ended = await orm.execute(sql`
        with over as (
          select e.run_id, e.seq from lineage_events e join runs r on r.id = e.run_id
          where e.event = 'start' and not e.closed and r.ended_at is not null
          order by e.seq limit ${GATHERED_AT_ONCE} for update of e skip locked
        ), closed as (
          update lineage_events e set closed = true from over where e.run_id = over.run_id and e.event = 'start'
        )
        insert into lineage_events (run_id, event, seq) select run_id, 'end', seq from over on conflict do nothing`);
      return (begun.rowCount ?? 0) + (ended.rowCount ?? 0);
    },

    /** The oldest line that is due, leased; null when none is. A run that still waits to begin has nothing to tell. */
    async claim(options: { readonly leaseSeconds: number }): Promise<DueEvent | null> {
      const { rows } = await orm.execute<{ runId: string; event: 'start' | 'end'; attempts: number }>(sql`
        with due as (
          select e.run_id, e.event from lineage_events e join runs r on r.id = e.run_id
          where e.delivered_at is null and e.gave_up_at is null and e.next_at <= now() and (r.started_at is not null or r.ended_at is not null)
            and not (e.event = 'end' and exists (
              select 1 from lineage_events b where b.run_id = e.run_id and b.event = 'start' and b.delivered_at is null and b.gave_up_at is null))
          order by e.seq, e.event desc limit 1 for update of e skip locked
        )
        update lineage_events e set attempts = e.attempts + 1, next_at = now() + make_interval(secs => ${options.leaseSeconds})
        from due where e.run_id = due.run_id and e.event = due.event
        returning e.run_id as "runId", e.event, e.attempts`);
      const [row] = rows;
      return row === undefined ? null : { runId: row.runId, event: row.event, attempt: row.attempts };
    },

    async delivered({ runId, event }: Pick<DueEvent, 'runId' | 'event'>): Promise<void> {
      await orm.execute(sql`update lineage_events set delivered_at = now(), last_error = null where run_id = ${runId} and event = ${event}`);
    },

    /** Tries again later, each time after twice the wait. `why` is a sentence of ours. */
    async failed({ runId, event, attempt }: DueEvent, why: string): Promise<void> {
      const waitSeconds = Math.min(LONGEST_WAIT_SECONDS, 2 ** Math.min(attempt - 1, 20));
      await orm.execute(sql`
        update lineage_events set last_error = ${storable(why)}, next_at = now() + make_interval(secs => ${waitSeconds}),
          gave_up_at = case when created_at < now() - ${GIVE_UP_AFTER}::interval then now() end
        where run_id = ${runId} and event = ${event} and delivered_at is null`);
    },

    /** Those of these hashes that are datasets. */
    async datasets(hashes: readonly string[]): Promise<readonly DatasetRecord[]> {
      if (hashes.length === 0) return [];
      return orm
        .select()
        .from(datasets)
        .where(inArray(datasets.id, [...hashes]));
    },
  };
}
export type OpenLineageStore = ReturnType<typeof createOpenLineageStore>;
