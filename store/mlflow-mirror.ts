import { sql } from 'drizzle-orm';
import { type Database, storable } from './database.ts';
import type { RunStatus } from './schema.ts';

/**
 * What of the runs an outside MLflow server has: the mirror's memory.
 *
 * Invariants:
 * 1. While the mirror is on, whatever changes of a run is noted by triggers in the transaction of the change, and the note goes
 *    when it was sent. The triggers are turned on under a lock that waits for those who write; what was there before is sent whole.
 * 2. One process at a time mirrors (`alone`): a session lock, which a paused process keeps and a killed one loses at once.
 * 3. That a run is asked for outside is written before it is asked for: whoever finds `askedAt` looks whether it came to be.
 * 4. Nothing is forgotten because the server is away: notes wait without an end.
 */
export interface MirroredPoint {
  /** As MLflow's clients see it: the key, or STAGE/KEY. */
  readonly name: string;
  readonly value: number;
  readonly step: number;
  /** UTC, milliseconds. */
  readonly atMs: number;
}

/** Where a walk over all points of a run has come to: key, time, step, value, stage. */
export type WholeCursor = readonly (string | number)[];

export interface RunToMirror {
  readonly runId: string;
  readonly experiment: string;
  readonly name: string;
  readonly userId: string | null;
  readonly status: RunStatus;
  /** UTC, milliseconds. */
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly isDeleted: boolean;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  /** Its id on the outside server; null while it is not known to be there. */
  readonly outsideId: string | null;
  /** UTC ISO: when it was asked for there, where the answer is not known. */
  readonly askedAt: string | null;
  readonly factsSent: string | null;
  readonly tagsSent: readonly string[];
  readonly whole: boolean;
  readonly wholeAfter: WholeCursor | null;
  readonly attempts: number;
  /** Notes of what changed, the oldest first, at most `MOST_NOTES`. */
  readonly notes: readonly { readonly id: number; readonly points: readonly MirroredPoint[] }[];
}

export interface MirrorStanding {
  readonly target: string;
  /** Runs of which something is not sent yet; counted up to 10,000. */
  readonly waitingRuns: number;
  /** UTC ISO: since when the oldest change waits; null when none does. */
  readonly oldest: string | null;
  /** UTC ISO: since when the server takes nothing; null while it does. */
  readonly failingSince: string | null;
  /** Runs that the server refuses. */
  readonly refusedRuns: number;
  /** What was said last of the server, or else of a run that it refuses; empty when all is well. */
  readonly lastError: string;
}

/** Any fixed number that nobody else locks in this database. */
const MIRROR_LOCK = 7_432_008;
const MOST_NOTES = 200;
const MOST_COUNTED = 10_000;
/** For the lock that turns triggers on or off: it is tried again later rather than hold up those who write. */
const LOCK_TIMEOUT = `set local lock_timeout = '2s'`;
const LONGEST_WAIT_SECONDS = 300;
const REFUSED_WAIT_SECONDS = 3_600;

const TRIGGERS = [
  ['runs', ['runs_mirrored']],
  ['run_params', ['run_params_mirrored_new', 'run_params_mirrored_other']],
  ['run_tags', ['run_tags_mirrored_new', 'run_tags_mirrored_other', 'run_tags_mirrored_gone']],
  ['metrics', ['metrics_mirrored']],
] as const;
const switched = (to: 'enable' | 'disable'): string =>
  TRIGGERS.map(([table, names]) => `alter table ${table} ${names.map((name) => `${to} trigger ${name}`).join(', ')};`).join(' ');

/** Makes a store that mirrors nothing, as a restored one is: what is set then sends everything again, and doubles nothing. */
export const MIRROR_OFF_SQL = `${switched('disable')} truncate mirror_feed; delete from mlflow_mirror; update mirrored_runs set whole = true, whole_after = null;`;

const point = (name: string, value: number, step: string | number, at: Date): MirroredPoint => ({ name, value, step: Number(step), atMs: at.getTime() });

export function createMlflowMirrorStore({ orm, pool }: Database) {
  /** Whether the triggers are on. */
  const isOn = async (): Promise<boolean> => {
    const { rows } = await pool.query<{ on: boolean }>(
      `select tgenabled <> 'D' as on from pg_trigger where tgname = 'metrics_mirrored' and tgrelid = 'metrics'::regclass`,
    );
    return rows[0]?.on === true;
  };

  return {
    /** From now on changes are noted for this server, and the runs of before are queued. Nothing happens when that is so already. */
    async turnOn(target: string): Promise<void> {
      const { rows } = await pool.query<{ target: string; queued: boolean }>('select target, queued from mlflow_mirror');
      const [found] = rows;
      if (found?.target !== target || !(await isOn())) {
        await orm.transaction(async (tx) => {
          await tx.execute(sql.raw(LOCK_TIMEOUT));
          await tx.execute(sql.raw(switched('enable')));
          // what is known of another server is of no use for this one
          if (found !== undefined && found.target !== target) await tx.execute(sql`delete from mirrored_runs`);
          await tx.execute(sql`
            insert into mlflow_mirror (id, target) values (1, ${target})
            on conflict (id) do update set target = excluded.target, queued = false, attempts = 0, next_at = now(), failing_since = null, last_error = null`);
        });
      } else if (found.queued) return;
      await orm.transaction(async (tx) => {
        await tx.execute(sql`
          insert into mirrored_runs (run_id, seq, whole) select id, seq, true from runs
          on conflict (run_id) do update set whole = true, whole_after = null, facts_sent = null, next_at = now(), attempts = 0, last_error = null`);
        await tx.execute(sql`update mlflow_mirror set queued = true`);
      });
    },

    /** Notes nothing any more. Where runs stand outside is kept, in case it is turned on again. @returns whether it was on */
    async turnOff(): Promise<boolean> {
      if (!(await isOn())) return false;
      await orm.transaction(async (tx) => {
        await tx.execute(sql.raw(LOCK_TIMEOUT));
        await tx.execute(sql.raw(MIRROR_OFF_SQL));
      });
      return true;
    },

    /** Does the work while no other process does any; null when one does. The signal says that the lock was lost: stop then. */
    async alone<T>(work: (lost: AbortSignal) => Promise<T>): Promise<T | null> {
      const client = await pool.connect();
      const lost = new AbortController();
      const onError = (): void => lost.abort();
      client.on('error', onError);
      let isHeld = false;
      try {
        const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [MIRROR_LOCK]);
        isHeld = rows[0]?.held === true;
        return isHeld ? await work(lost.signal) : null;
      } finally {
        client.off('error', onError);
        const freed =
          !isHeld ||
          (await client.query('select pg_advisory_unlock($1)', [MIRROR_LOCK]).then(
            () => true,
            () => false,
          ));
        // a connection that may still hold the lock is closed
        client.release(!freed);
      }
    },

    /** Whether the server may be tried: not so while it is given time after it was not reached. */
    async isDue(): Promise<boolean> {
      const { rows } = await pool.query<{ due: boolean }>('select next_at <= now() as due from mlflow_mirror');
      return rows[0]?.due === true;
    },

    /** The server takes nothing: it is tried again after 1, 2, 4 … seconds, at most five minutes, each by chance up to half shorter. */
    async notReached(why: string): Promise<void> {
      await orm.execute(sql`
        update mlflow_mirror set attempts = attempts + 1, failing_since = coalesce(failing_since, now()), last_error = ${storable(why)},
          next_at = now() + make_interval(secs => least(${LONGEST_WAIT_SECONDS}, power(2, least(attempts, 20))) * (1 - random() / 2))`);
    },

    async reached(): Promise<void> {
      await pool.query('update mlflow_mirror set attempts = 0, failing_since = null, last_error = null where failing_since is not null');
    },

    /** A run to go on with: the one whose change waits longest (`news`), or the oldest that is sent whole. Null when there is none. */
    async next(of: 'news' | 'whole'): Promise<string | null> {
      const { rows } = await pool.query<{ runId: string }>(
        of === 'news'
          ? `select f.run_id as "runId" from mirror_feed f left join mirrored_runs m on m.run_id = f.run_id
             where m.next_at is null or m.next_at <= now() order by f.id limit 1`
          : `select run_id as "runId" from mirrored_runs where whole and next_at <= now() order by seq limit 1`,
      );
      return rows[0]?.runId ?? null;
    },

    /** All that is to be sent of a run, and what of it was; null, and its notes gone, for a run that is not there any more. */
    async read(runId: string): Promise<RunToMirror | null> {
      await pool.query('insert into mirrored_runs (run_id, seq) select id, seq from runs where id = $1 on conflict do nothing', [runId]);
      // the notes first: what is noted later is of what the facts may have already
      const notes = await pool.query<{ id: string; names: string[] | null; steps: string[] | null; values: number[] | null; ats: Date[] | null }>(
        'select id, names, steps, values, ats from mirror_feed where run_id = $1 order by id limit $2',
        [runId, MOST_NOTES],
      );
      const { rows } = await pool.query<Omit<RunToMirror, 'notes' | 'askedAt'> & { readonly askedAt: Date | null }>(
        `select r.id as "runId", coalesce(e.name, 'Default') as experiment, coalesce(r.name, r.workflow_id, '') as name, r.user_id as "userId", r.status,
           extract(epoch from coalesce(r.started_at, r.created_at))::double precision * 1000 as "startedAtMs",
           extract(epoch from r.ended_at)::double precision * 1000 as "endedAtMs", r.lifecycle_stage <> 'active' as "isDeleted",
           coalesce((select jsonb_object_agg(key, value) from run_params where run_id = r.id), '{}') as params,
           coalesce((select jsonb_object_agg(key, value) from run_tags where run_id = r.id), '{}') as tags,
           m.outside_id as "outsideId", m.asked_at as "askedAt", m.facts_sent as "factsSent", m.tags_sent as "tagsSent", m.whole, m.whole_after as "wholeAfter", m.attempts
         from runs r join mirrored_runs m on m.run_id = r.id left join experiments e on e.id = r.experiment_id where r.id = $1`,
        [runId],
      );
      const [run] = rows;
      if (run === undefined) {
        await pool.query('delete from mirror_feed where run_id = $1', [runId]);
        return null;
      }
      return {
        ...run,
        askedAt: run.askedAt?.toISOString() ?? null,
        startedAtMs: Math.round(run.startedAtMs),
        endedAtMs: run.endedAtMs === null ? null : Math.round(run.endedAtMs),
        notes: notes.rows.map(({ id, names, steps, values, ats }) => ({
          id: Number(id),
          points: (names ?? []).map((name, at) => point(name, values?.[at] ?? Number.NaN, steps?.[at] ?? 0, ats?.[at] ?? new Date(0))),
        })),
      };
    },

    /** The next points of a run that is sent whole, in the order of its index; `next` is null after the last. */
    async points(input: {
      readonly runId: string;
      readonly after: WholeCursor | null;
      readonly limit: number;
    }): Promise<{ readonly points: readonly MirroredPoint[]; readonly next: WholeCursor | null }> {
      const { rows } = await pool.query<{ key: string; stage: string; step: string; value: number; at: Date }>(
        `select key, stage, step, value, at from metrics where run_id = $1
         ${input.after === null ? '' : 'and (key, at, step, value, stage) > ($3, $4::timestamptz, $5::bigint, $6::double precision, $7)'}
         order by key, at, step, value, stage limit $2`,
        [input.runId, input.limit, ...(input.after ?? [])],
      );
      const last = rows.at(-1);
      return {
        points: rows.map(({ key, stage, step, value, at }) => point(stage === '' ? key : `${stage}/${key}`, value, step, at)),
        next: rows.length < input.limit || last === undefined ? null : [last.key, last.at.toISOString(), last.step, String(last.value), last.stage],
      };
    },

    /** The run's id on the outside server; null where it is not known. */
    async outsideIdOf(runId: string): Promise<string | null> {
      const { rows } = await pool.query<{ id: string | null }>('select outside_id as id from mirrored_runs where run_id = $1', [runId]);
      return rows[0]?.id ?? null;
    },

    /** The run is going to be made on the outside server. */
    async asking(runId: string): Promise<void> {
      await pool.query('update mirrored_runs set asked_at = now() where run_id = $1', [runId]);
    },

    /** The run stands there under this id; all of its points are to be sent. */
    async isThere(runId: string, outsideId: string): Promise<void> {
      await pool.query('update mirrored_runs set outside_id = $2, asked_at = null, whole = true, whole_after = null where run_id = $1', [runId, outsideId]);
    },

    /** The outside server has it no more: it is made again. */
    async isGone(runId: string): Promise<void> {
      await pool.query(`update mirrored_runs set outside_id = null, asked_at = null, facts_sent = null, tags_sent = '[]' where run_id = $1`, [runId]);
    },

    /** So much of the run's points was sent; null: all of them. */
    async wholeSent(runId: string, after: WholeCursor | null): Promise<void> {
      await pool.query('update mirrored_runs set whole = $2, whole_after = $3 where run_id = $1', [
        runId,
        after !== null,
        after === null ? null : JSON.stringify(after),
      ]);
    },

    /** What these notes say was sent, and with it these facts. */
    async sent(input: { readonly runId: string; readonly notes: readonly number[]; readonly facts: string; readonly tags: readonly string[] }): Promise<void> {
      await pool.query(
        `with gone as (delete from mirror_feed where id = any($2::bigint[]))
         update mirrored_runs set facts_sent = $3, tags_sent = $4, attempts = 0, last_error = null, next_at = now() where run_id = $1`,
        [input.runId, input.notes, input.facts, JSON.stringify(input.tags)],
      );
    },

    /** The run is tried again at a time, for a reason that is no failure. */
    async postpone(runId: string, seconds: number): Promise<void> {
      await pool.query('update mirrored_runs set next_at = now() + make_interval(secs => $2) where run_id = $1', [runId, seconds]);
    },

    /** The server refuses something of this run: it is tried again after 1, 2, 4 … seconds, at most an hour. */
    async refused(runId: string, why: string): Promise<void> {
      await orm.execute(sql`
        update mirrored_runs set attempts = attempts + 1, last_error = ${storable(why)},
          next_at = now() + make_interval(secs => least(${REFUSED_WAIT_SECONDS}, power(2, least(attempts, 20)))) where run_id = ${runId}`);
    },

    /** How far behind the mirror is; null when there is none. */
    async standing(): Promise<MirrorStanding | null> {
      const { rows } = await pool.query<Omit<MirrorStanding, 'oldest' | 'failingSince'> & { readonly oldest: Date | null; readonly failingSince: Date | null }>(
        `with recursive news (run_id) as (
           (select run_id from mirror_feed order by run_id limit 1)
           union all
           select (select f.run_id from mirror_feed f where f.run_id > n.run_id order by f.run_id limit 1) from news n where n.run_id is not null
         ), counted as (select run_id from news where run_id is not null limit ${MOST_COUNTED}),
         waiting as (select run_id from counted union select run_id from (select run_id from mirrored_runs where whole limit ${MOST_COUNTED}) w)
         select target, (select least(count(*), ${MOST_COUNTED})::int from waiting) as "waitingRuns", (select at from mirror_feed order by id limit 1) as oldest,
           failing_since as "failingSince", (select count(*)::int from mirrored_runs where last_error is not null) as "refusedRuns",
           coalesce(last_error, (select r.last_error from mirrored_runs r where r.last_error is not null order by r.next_at desc limit 1), '') as "lastError"
         from mlflow_mirror`,
      );
      const [row] = rows;
      return row === undefined ? null : { ...row, oldest: row.oldest?.toISOString() ?? null, failingSince: row.failingSince?.toISOString() ?? null };
    },
  };
}
export type MlflowMirrorStore = ReturnType<typeof createMlflowMirrorStore>;
