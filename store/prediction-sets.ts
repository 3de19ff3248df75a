import { and, eq, ne, sql } from 'drizzle-orm';
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { copyIn } from './copy-in.ts';
import { type Database, type Executor, onlyRow } from './database.ts';
import { publishedSets } from './published-sets.ts';
import { predictionSets, predictionTargets, undos } from './schema.ts';
import { requireAttempt, requireOpenRun } from './stages.ts';

/**
 * Predictions that were published: rows of a table `predictions.NAME`, or answers of an endpoint by key.
 *
 * Invariants:
 * 1. Rows are written under a set that nobody reads; one transaction, under the target's lock, puts it in the place of the one
 *    before, together with the undo. A reader sees one set whole.
 * 2. A table is a view over its set, so that what depends on it stays when the set changes.
 * 3. A set that an undo may still go back to keeps its rows; others that are not in service lose them.
 * 4. Writing and publishing look at the set's status under its lock: one that was given up takes no more rows.
 */
export type PredictionSetRecord = typeof predictionSets.$inferSelect;

export interface BeginPredictionsInput {
  readonly kind: 'table' | 'endpoint';
  readonly name: string;
  /** The dataset of predictions. */
  readonly snapshot: string;
  readonly model: string;
  readonly version: number;
  readonly predictor: string;
  /** Columns of the table, or of the key. */
  readonly columns: readonly Column[];
  readonly runId: string;
  readonly stage: string;
  readonly token: number;
}

export type BegunPredictions = { readonly state: 'writing'; readonly set: number } | { readonly state: 'same'; readonly current: PredictionSetRecord };

/** Answers by key that an endpoint has, or that nothing was precomputed for it. */
export interface PrecomputedAnswers {
  readonly model: string;
  readonly version: number;
  readonly predictor: string;
  /** Columns of the key. */
  readonly columns: readonly Column[];
  /** By hash of the key; unknown keys are not in it. */
  readonly answers: ReadonlyMap<string, string>;
}

const POSTGRES_TYPE = { number: 'double precision', integer: 'bigint', boolean: 'boolean', string: 'text', timestamp: 'timestamp', date: 'date' } as const;
const sets = publishedSets({
  sets: 'prediction_sets',
  places: 'prediction_targets',
  rows: 'prediction_answers',
  place: [
    ['kind', 'kind'],
    ['name', 'name'],
  ],
  undo: 'predictions',
});

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const relationOf = (set: number): string => `prediction_sets.set_${String(set)}`;
const view = (name: string): string => `predictions.${quoted(name)}`;

async function lockTarget(tx: Executor, kind: 'table' | 'endpoint', name: string): Promise<typeof predictionTargets.$inferSelect> {
  await tx.insert(predictionTargets).values({ kind, name }).onConflictDoNothing();
  return onlyRow(
    await tx
      .select()
      .from(predictionTargets)
      .where(and(eq(predictionTargets.kind, kind), eq(predictionTargets.name, name)))
      .for('update'),
  );
}

async function setOf(tx: Executor, id: number): Promise<PredictionSetRecord> {
  return onlyRow(await tx.select().from(predictionSets).where(eq(predictionSets.id, id)));
}

/** Puts a set into service, or nothing. */
async function point(tx: Executor, target: typeof predictionTargets.$inferSelect, current: number | null): Promise<number> {
  const { kind, name, epoch } = target;
  await tx
    .update(predictionTargets)
    .set({ current, epoch: epoch + 1 })
    .where(and(eq(predictionTargets.kind, kind), eq(predictionTargets.name, name)));
  if (kind === 'table') await pointView(tx, name, target.current, current);
  return epoch + 1;
}

/** The view over the set. Where the columns are the same, what depends on it stays. */
async function pointView(tx: Executor, name: string, before: number | null, current: number | null): Promise<void> {
  const same = before !== null && current !== null && JSON.stringify((await setOf(tx, before)).columns) === JSON.stringify((await setOf(tx, current)).columns);
  if (!same) await tx.execute(sql.raw(`drop view if exists ${view(name)}`));
  if (current !== null) await tx.execute(sql.raw(`create or replace view ${view(name)} as select * from ${relationOf(current)}`));
}

/** Takes a publication back: the predictions before it are in service again, unless newer ones have taken its place since. Says what it did. */
export async function undoPredictionSet(tx: Executor, undone: { readonly set: number }): Promise<string> {
  const { kind, name } = await setOf(tx, undone.set);
  const target = await lockTarget(tx, kind, name);
  const what = kind === 'table' ? view(name) : `${name}, by key,`;
  const last = await sets.takeBack(tx, undone.set);
  if (target.current !== undone.set) return `${what} has newer predictions since; they stay`;
  await point(tx, target, last);
  if (last === null) return `${what} has no predictions now`;
  const before = await setOf(tx, last);
  return `${what} has the predictions of ${before.model} ${String(before.version)} again`;
}

export function createPredictionSetsStore({ orm, pool }: Database) {
  return {
    /**
     * Opens a set for an attempt; what an earlier attempt of the same stage left unfinished is given up.
     * @throws FENCED when the run has ended or the attempt is not the newest
     */
    async begin(input: BeginPredictionsInput): Promise<BegunPredictions> {
      return orm.transaction(async (tx): Promise<BegunPredictions> => {
        const { token, ...values } = input;
        await requireOpenRun(tx, input.runId);
        await requireAttempt(tx, input.runId, input.stage, token);
        const target = await lockTarget(tx, input.kind, input.name);
        await sets.giveUp(tx, input);
        if (target.current !== null) {
          const current = await setOf(tx, target.current);
          if (current.snapshot === input.snapshot && JSON.stringify(current.columns) === JSON.stringify(input.columns)) return { state: 'same', current };
        }
        const { id } = onlyRow(
          await tx
            .insert(predictionSets)
            .values({ ...values, columns: [...input.columns] })
            .returning({ id: predictionSets.id }),
        );
        if (input.kind === 'table') {
          // one at a time: two that make a schema at once would meet
          await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('millrace prediction schemas', 0))`);
          await tx.execute(sql`create schema if not exists predictions`);
          await tx.execute(sql`create schema if not exists prediction_sets`);
          const columns = input.columns.map(({ name, type }) => `${quoted(name)} ${POSTGRES_TYPE[type]}`).join(', ');
          await tx.execute(sql.raw(`create table ${relationOf(id)} (${columns})`));
        }
        return { state: 'writing', set: id };
      });
    },

    /** Adds a CSV file's rows to a set that is being written, in one transaction. @throws FENCED for one that is not any more */
    async write(input: { readonly set: number; readonly csv: string; readonly signal?: AbortSignal }): Promise<number> {
      const { kind } = await setOf(orm, input.set);
      const client = await pool.connect();
      try {
        await client.query('begin');
        await client.query('set local statement_timeout = 0');
        const { rows } = await client.query<{ status: string }>('select status from prediction_sets where id = $1 for share', [input.set]);
        if (rows[0]?.status !== 'writing') throw new MillraceError('FENCED', 'A newer attempt has taken over; these predictions are not written.');
        if (kind === 'table') {
          const count = await copyIn(client, `copy ${relationOf(input.set)} from stdin with (format csv)`, input.csv, input.signal);
          await client.query('commit');
          return count;
        }
        // the set stands in no line of the file: rows come by way of a table of this transaction
        await client.query('create temporary table answers_in (key text, answer text) on commit drop');
        await copyIn(client, 'copy answers_in from stdin with (format csv)', input.csv, input.signal);
        const { rowCount } = await client.query(
          'insert into prediction_answers ("set", key, answer) select $1, key, answer from answers_in where key is not null',
          [input.set],
        );
        await client.query('commit');
        return rowCount ?? 0;
      } catch (error) {
        await client.query('rollback').catch(() => undefined);
        input.signal?.throwIfAborted();
        throw error;
      } finally {
        client.release();
      }
    },

    /**
     * Puts a set into service, with its undo in the same transaction. Again: nothing happens.
     * @throws FENCED when the run has ended, the attempt is not the newest, or the set was given up
     */
    async publish(input: {
      readonly set: number;
      readonly rows: number;
      readonly runId: string;
      readonly stage: string;
      readonly token: number;
    }): Promise<PredictionSetRecord> {
      return orm.transaction(async (tx) => {
        await requireOpenRun(tx, input.runId);
        await requireAttempt(tx, input.runId, input.stage, input.token);
        const { kind, name } = await setOf(tx, input.set);
        const target = await lockTarget(tx, kind, name);
        const set = await setOf(tx, input.set);
        if (target.current === set.id) return set;
        if (set.status !== 'writing') throw new MillraceError('FENCED', 'A newer attempt has taken over; these predictions are not published.');
        const epoch = await point(tx, target, set.id);
        await tx.update(predictionSets).set({ status: 'published', epoch, rows: input.rows, publishedAt: sql`now()` }).where(eq(predictionSets.id, set.id));
        await tx
          .insert(undos)
          .values({
            runId: input.runId,
            stage: input.stage,
            kind: 'predictions',
            key: `${kind}/${name}/${String(set.id)}`,
            payload: { kind, name, set: set.id },
          })
          .onConflictDoNothing();
        return setOf(tx, set.id);
      });
    },

    /** What is in service for a target, or null. */
    async current(kind: 'table' | 'endpoint', name: string): Promise<PredictionSetRecord | null> {
      const [row] = await orm
        .select({ set: predictionSets })
        .from(predictionTargets)
        .innerJoin(predictionSets, eq(predictionSets.id, predictionTargets.current))
        .where(and(eq(predictionTargets.kind, kind), eq(predictionTargets.name, name)));
      return row?.set ?? null;
    },

    /** Removes rows that nobody reads and no undo can bring back. Answers with how many sets. */
    async sweep(): Promise<number> {
      await sets.condemn(orm, { mark: 'removing' });
      // those that an earlier sweep marked and did not get to the end of are there as well
      const condemned = await orm.select().from(predictionSets).where(eq(predictionSets.status, 'removing'));
      for (const { id, kind } of condemned) {
        if (kind === 'table') await orm.execute(sql.raw(`drop table if exists ${relationOf(id)}`));
        else await sets.removeRows(orm, id);
        await orm
          .update(predictionSets)
          .set({ status: 'removed' })
          .where(and(eq(predictionSets.id, id), ne(predictionSets.status, 'removed')));
      }
      return condemned.length;
    },

    /** Answers that were precomputed for an endpoint's keys, all of one set; null when there are none of it at all. */
    async answers(endpoint: string, keys: readonly string[]): Promise<PrecomputedAnswers | null> {
      const { rows } = await pool.query<{ model: string; version: number; predictor: string; columns: Column[]; key: string | null; answer: string }>({
        name: 'precomputed_answers',
        text: `select s.model, s.version, s.predictor, s.columns, a.key, a.answer from prediction_targets t
               join prediction_sets s on s.id = t.current
               left join prediction_answers a on a."set" = s.id and a.key = any($2::text[])
               where t.kind = 'endpoint' and t.name = $1`,
        values: [endpoint, keys],
      });
      const [first] = rows;
      if (first === undefined) return null;
      const { model, version, predictor, columns } = first;
      return { model, version, predictor, columns, answers: new Map(rows.flatMap(({ key, answer }) => (key === null ? [] : [[key, answer] as const]))) };
    },
  };
}
export type PredictionSetsStore = ReturnType<typeof createPredictionSetsStore>;
