import { type SQL, sql } from 'drizzle-orm';
import type { Executor } from './database.ts';

/**
 * Sets of rows that are written while nobody reads them, and published whole: one set is in service at a place, with an epoch that
 * grows with each change.
 *
 * Invariants:
 * 1. A set that an undo may still go back to keeps its rows; all others that are not in service lose them.
 * 2. An undo goes back by one, and only from the set that it undoes: what was published since stays.
 */
export interface SetsLayout {
  /** Tables: the sets, where they are served, and their rows, by `set` and `key`. */
  readonly sets: string;
  readonly places: string;
  readonly rows: string;
  /** Columns that name a set's place: of the set, and of the place itself. */
  readonly place: readonly (readonly [ofSet: string, ofPlace: string])[];
  /** Kind of the undo of a publication, whose payload names the set. */
  readonly undo: string;
}

const REMOVED_AT_ONCE = 20_000;
const and = (conditions: readonly SQL[]): SQL => sql.join([...conditions], sql` and `);

export function publishedSets({ sets, places, rows, place, undo }: SetsLayout) {
  const [setsTable, placesTable, rowsTable] = [sql.identifier(sets), sql.identifier(places), sql.identifier(rows)];
  const column = (of: string, name: string): SQL => sql`${sql.identifier(of)}.${sql.identifier(name)}`;
  const samePlace = and(place.map(([ofSet, ofPlace]) => sql`${column('p', ofPlace)} = ${column('s', ofSet)}`));
  const samePlaceLater = and(place.map(([ofSet]) => sql`${column('later', ofSet)} = ${column('s', ofSet)}`));

  return {
    /** Gives up what an earlier attempt of a stage left unfinished. */
    async giveUp(tx: Executor, { runId, stage }: { readonly runId: string; readonly stage: string }): Promise<void> {
      await tx.execute(sql`update ${setsTable} set status = 'undone' where run_id = ${runId} and stage = ${stage} and status = 'writing'`);
    },

    /** Takes a publication back. @returns the newest one before it that was not, null for none */
    async takeBack(tx: Executor, id: number): Promise<number | null> {
      await tx.execute(sql`update ${setsTable} set status = 'undone' where id = ${id} and status = 'published'`);
      const { rows: before } = await tx.execute<{ id: string }>(sql`
        select later.id from ${setsTable} later join ${setsTable} s on s.id = ${id} and ${samePlaceLater}
        where later.status = 'published' and (s.epoch is null or later.epoch < s.epoch) order by later.epoch desc limit 1`);
      return before[0] === undefined ? null : Number(before[0].id);
    },

    /** Marks sets whose rows nobody reads and no undo can bring back. @returns Ids. */
    async condemn(tx: Executor, { mark, where = sql`true` }: { readonly mark: string; readonly where?: SQL }): Promise<readonly number[]> {
      const { rows: condemned } = await tx.execute<{ id: string }>(sql`
        update ${setsTable} s set status = ${mark}
        where ${where}
          and s.id is distinct from (select p.current from ${placesTable} p where ${samePlace})
          and case s.status
            when 'undone' then true
            when 'writing' then not exists (select from runs r where r.id = s.run_id and r.status in ('waiting', 'running'))
            -- an undo goes back by one: this one is needed as long as the next may be undone
            when 'published' then not coalesce((
              select r.status in ('waiting', 'running') or (r.status <> 'completed' and exists (
                select from undos u where u.run_id = r.id and u.kind = ${undo} and u.status <> 'done' and (u.payload ->> 'set')::bigint = later.id))
              from ${setsTable} later join runs r on r.id = later.run_id
              where ${samePlaceLater} and later.epoch > s.epoch and later.status = 'published'
              order by later.epoch limit 1), false)
            else false end
        returning s.id`);
      return condemned.map(({ id }) => Number(id));
    },

    /** Removes the rows of a set, in parts: each is short. */
    async removeRows(tx: Executor, set: number): Promise<void> {
      for (;;) {
        const { rowCount } = await tx.execute(sql`
          delete from ${rowsTable} where ("set", key) in (select "set", key from ${rowsTable} where "set" = ${set} limit ${REMOVED_AT_ONCE})`);
        if ((rowCount ?? 0) < REMOVED_AT_ONCE) return;
      }
    },
  };
}
