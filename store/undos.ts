import { and, asc, desc, eq, inArray, ne, sql } from 'drizzle-orm';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { type DriverErrorLog, fromDriver } from './driver-errors.ts';
import { undoFeatureSet } from './feature-views.ts';
import { undoAliasMove, undoVersion } from './models.ts';
import { undoPredictionSet } from './prediction-sets.ts';
import { runs, undos } from './schema.ts';
import type { UndoDraft } from './stages.ts';

/**
 * Undoing what a run published.
 *
 * Invariants:
 * 1. An undo is written in the transaction that publishes.
 * 2. Undos run in the reverse order of publishing. One that fails is recorded with its error, and the others still run.
 * 3. An undo that is done is not done again; one that failed is tried again by the next `perform`.
 * 4. The store undoes what lies in the store, each in a transaction with its mark. What lies elsewhere is undone by the
 *    caller's handler, which may be called twice.
 */
export type UndoRecord = typeof undos.$inferSelect;

/** Takes back what the store cannot. Answers with what it did, in words. */
export type UndoHandler = (undo: UndoRecord) => Promise<string>;

export interface PerformUndosInput {
  /** Only what this stage published. */
  readonly stage?: string;
  /** By kind: `route`, and whatever stages of the project write. */
  readonly handlers?: Readonly<Record<string, UndoHandler>>;
  /** Why, for the records of what is taken back. Default: the run's end. */
  readonly reason?: string;
}

export interface PerformedUndos {
  readonly done: readonly UndoRecord[];
  readonly failed: readonly UndoRecord[];
}

/** Text and number fields of a payload that the store wrote itself. */
function field<T extends 'string' | 'number'>(undo: UndoRecord, name: string, type: T): T extends 'string' ? string : number {
  const value = undo.payload[name];
  if (typeof value !== type) throw new MillraceError('UNDO_FAILED', `The undo record ${undo.seq} has no ${name}.`);
  return value as T extends 'string' ? string : number;
}

export function createUndosStore({ orm }: Database, log?: DriverErrorLog) {
  /** What lies in the store itself. */
  const own: Readonly<Record<string, (tx: Executor, undo: UndoRecord, reason: string) => Promise<string>>> = {
    version: (tx, undo, reason) => undoVersion(tx, { model: field(undo, 'model', 'string'), version: field(undo, 'version', 'number'), reason }),
    alias: (tx, undo) =>
      undoAliasMove(tx, {
        model: field(undo, 'model', 'string'),
        alias: field(undo, 'alias', 'string'),
        epoch: field(undo, 'epoch', 'number'),
        runId: undo.runId,
      }),
    features: (tx, undo) =>
      undoFeatureSet(tx, { view: field(undo, 'view', 'string'), version: field(undo, 'version', 'number'), set: field(undo, 'set', 'number') }),
    predictions: (tx, undo) => undoPredictionSet(tx, { set: field(undo, 'set', 'number') }),
  };

  const mark = async (tx: Executor, seq: number, set: { status: 'done' | 'failed'; outcome?: string; error?: ErrorReport }): Promise<UndoRecord> =>
    onlyRow(
      await tx
        .update(undos)
        .set({
          status: set.status,
          outcome: set.outcome ?? null,
          error: set.error === undefined ? null : storable(set.error),
          doneAt: set.status === 'done' ? sql`now()` : null,
        })
        .where(eq(undos.seq, seq))
        .returning(),
    );

  const performOne = async (undo: UndoRecord, input: PerformUndosInput): Promise<UndoRecord> => {
    const inStore = own[undo.kind];
    const handler = input.handlers?.[undo.kind];
    try {
      if (inStore !== undefined)
        return await orm.transaction(async (tx) => {
          const now = onlyRow(await tx.select().from(undos).where(eq(undos.seq, undo.seq)).for('update'));
          if (now.status === 'done') return now;
          return mark(tx, undo.seq, { status: 'done', outcome: await inStore(tx, now, input.reason ?? `run ${undo.runId} was undone`) });
        });
      if (handler === undefined) throw new MillraceError('UNDO_FAILED', `Nothing here can undo ${undo.kind} ${undo.key}.`);
      return await mark(orm, undo.seq, { status: 'done', outcome: await handler(undo) });
    } catch (error) {
      const mapped = fromDriver(`undos.${undo.kind}`, error, log);
      // Postgres is away: the mark cannot be written either, and the caller tries all of it again.
      if (mapped.code === 'DATABASE_UNAVAILABLE') throw mapped;
      return mark(orm, undo.seq, { status: 'failed', error: mapped.report() });
    }
  };

  return {
    /** Notes what a run published elsewhere. The same (run, kind, key) again changes nothing. */
    async add(input: UndoDraft & { readonly runId: string; readonly stage: string }): Promise<void> {
      await orm
        .insert(undos)
        .values({ runId: input.runId, stage: input.stage, kind: input.kind, key: input.key, payload: input.payload })
        .onConflictDoNothing();
    },

    /** What is not undone yet, the last published first. */
    async pending(runId: string): Promise<readonly UndoRecord[]> {
      return orm
        .select()
        .from(undos)
        .where(and(eq(undos.runId, runId), ne(undos.status, 'done')))
        .orderBy(desc(undos.seq));
    },

    /** All of a run's undos, done or not, in the order of publishing. */
    async list(runId: string): Promise<readonly UndoRecord[]> {
      return orm.select().from(undos).where(eq(undos.runId, runId)).orderBy(asc(undos.seq));
    },

    /** Undoes what the run published, the last first. Failures are recorded and given back, never thrown away. */
    async perform(runId: string, input: PerformUndosInput = {}): Promise<PerformedUndos> {
      const open = await orm
        .select()
        .from(undos)
        .where(and(eq(undos.runId, runId), ne(undos.status, 'done'), input.stage === undefined ? undefined : eq(undos.stage, input.stage)))
        .orderBy(desc(undos.seq));
      const done: UndoRecord[] = [];
      const failed: UndoRecord[] = [];
      for (const undo of open) {
        const after = await performOne(undo, input);
        (after.status === 'done' ? done : failed).push(after);
      }
      return { done, failed };
    },

    /** Runs that ended without success and still have something to undo: what the reconciler starts `undo/<run>` for. */
    async owing(): Promise<readonly string[]> {
      const rows = await orm
        .selectDistinct({ runId: undos.runId })
        .from(undos)
        .innerJoin(runs, eq(runs.id, undos.runId))
        .where(and(ne(undos.status, 'done'), inArray(runs.status, ['failed', 'cancelled', 'terminated'])))
        .orderBy(asc(undos.runId));
      return rows.map((row) => row.runId);
    },
  };
}
export type UndosStore = ReturnType<typeof createUndosStore>;
