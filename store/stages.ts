import { and, asc, desc, eq, isNull, sql } from 'drizzle-orm';
import type { Column } from '../contracts/columns.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import { callFunction, type Database, type Executor, onlyRow, storable } from './database.ts';
import { type CachedFrom, type MissReason, runs, stages } from './schema.ts';

/**
 * Stages: attempts, their results, and what later runs may take over from them.
 *
 * Invariants:
 * 1. Every attempt gets a token greater than those before it. Completing, failing and committing a checkpoint under an
 *    older one is refused with FENCED.
 * 2. A stage that completed with the same fingerprint is not begun again: its output is given back.
 * 3. Only results that were computed are offered as hits, never results that were themselves taken from a cache.
 * 4. Begin and complete are one statement each. Begin does not wait for the disk: losing it with a killed Postgres makes
 *    the attempt fail with a retryable error, and nothing else.
 */
export type StageRecord = typeof stages.$inferSelect;

export interface BeginStageInput {
  readonly runId: string;
  /** Unique in its run. */
  readonly name: string;
  readonly kind: string;
  /** Place in the run, for display. */
  readonly ordinal: number;
  readonly pool?: string | null;
  readonly worker?: string | null;
  /** Temporal's attempt, from 1. */
  readonly attempt: number;
  /** Null: neither cached nor compared. */
  readonly fingerprint: string | null;
  /** What the fingerprint was made of, by name: `inputs`, `parameters`, `code`. Objects are compared one level deep. */
  readonly fingerprintParts?: Readonly<Record<string, unknown>> | null;
  readonly input?: unknown;
  /** False: run it, whatever is there from other runs. */
  readonly useCache: boolean;
}

export interface Checkpoint {
  readonly sha: string;
  readonly step: number;
}

export interface BegunStage {
  /** A result of an earlier run to take over. The caller makes sure that its artifacts are there, then completes with `cachedFrom`. */
  readonly hit: { readonly fromRunId: string; readonly fromStage: string; readonly output: unknown } | null;
  readonly token: number;
  /** The last one committed by an earlier attempt with the same fingerprint. */
  readonly checkpoint: Checkpoint | null;
  /** Present when this stage of this run is completed already: nothing is left to do. */
  readonly completedOutput?: unknown;
  readonly missReason: MissReason | null;
}

export interface StageMetric {
  readonly key: string;
  /** May be NaN or infinite. */
  readonly value: number;
  /** Default 0. */
  readonly step?: number;
}

export interface DatasetDraft {
  /** SHA-256 of the manifest. */
  readonly id: string;
  readonly name: string;
  readonly rows: number;
  readonly columns: readonly Column[];
  readonly sizeBytes: number;
  readonly source?: unknown;
  /** What made it: the stage's kind, or `quarantine`, `golden`. */
  readonly kind?: string | null;
  /** Manifests it was made from. */
  readonly parents?: readonly string[];
  /** Profile (artifact). */
  readonly profile?: string | null;
  /** What the stage has to tell of it (artifact): validation, clean counts, split checks. */
  readonly report?: string | null;
  readonly owner?: string | null;
}

export interface ArtifactDraft {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly kind: string;
}

export interface UndoDraft {
  readonly kind: string;
  /** What is undone, within its run and kind. */
  readonly key: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What an attempt used; stages add up their attempts. */
export interface StageUsage {
  readonly cpuSeconds: number;
  /** Greatest resident memory of the processes that did the work. */
  readonly peakMib: number;
  /** Time that a device was held. */
  readonly gpuSeconds?: number;
  readonly gpuPeakMib?: number;
  /** Mean share of the device's time in use, 0 … 1. */
  readonly gpuUtilisation?: number;
  /** By the rates of the configuration. */
  readonly cost?: number;
}

export interface CompleteStageInput {
  readonly runId: string;
  readonly name: string;
  readonly token: number;
  readonly output: unknown;
  readonly cachedFrom?: CachedFrom | null;
  /** What this attempt used. Default: nothing. */
  readonly usage?: StageUsage;
  readonly device?: string;
  /** Written with the record, in its transaction. */
  readonly metrics?: readonly StageMetric[];
  readonly datasets?: readonly DatasetDraft[];
  readonly artifacts?: readonly ArtifactDraft[];
  /** What the stage published outside of the store, and how to take it back. */
  readonly undos?: readonly UndoDraft[];
}

interface BeginAnswer {
  readonly refused?: 'noRun' | 'ended';
  readonly status?: string;
  readonly token: number;
  readonly completed: boolean;
  readonly output?: unknown;
  readonly hit?: NonNullable<BegunStage['hit']>;
  readonly checkpoint?: Checkpoint;
  readonly missReason?: MissReason | null;
}

/** What the store says of an attempt that wants to write, when it may not. */
function refuse(state: string, runId: string, name: string): MillraceError {
  if (state === 'lost')
    return new MillraceError(
      'INTERNAL',
      `The record of this attempt of stage ${name} (run ${runId}) was lost with the database; the next attempt starts anew.`,
    );
  const why = state === 'fenced' ? 'a newer attempt of the stage has begun, or the run has ended' : `the stage is ${state}`;
  return new MillraceError('FENCED', `An attempt of stage ${name} (run ${runId}) may not write: ${why}.`);
}

/** Locks the stage's row for a transaction in which this attempt publishes. @throws FENCED when it is not the newest one. */
export async function requireAttempt(tx: Executor, runId: string, name: string, token: number): Promise<void> {
  const { rows } = await tx.execute<{ state: string }>(sql`select millrace_check_attempt(${runId}, ${name}, ${token}) as state`);
  const { state } = onlyRow(rows);
  if (state !== 'running' && state !== 'completed') throw refuse(state, runId, name);
}

/** Keeps a run from ending while a transaction publishes for it. @throws FENCED when it has ended, NOT_FOUND */
export async function requireOpenRun(tx: Executor, runId: string): Promise<void> {
  const [run] = await tx.select({ status: runs.status }).from(runs).where(eq(runs.id, runId)).for('share');
  if (run === undefined) throw new MillraceError('NOT_FOUND', `There is no run ${runId}.`);
  if (run.status !== 'running' && run.status !== 'waiting') throw new MillraceError('FENCED', `Run ${runId} is ${run.status}: it may not publish any more.`);
}

/** JSON has no NaN and no infinity; Postgres reads these words as such. */
const metricValue = (value: number): number | string => (Number.isFinite(value) ? value : String(value));

export function createStagesStore({ orm, pool }: Database) {
  const one = (name: string, text: string, parameter: unknown) => callFunction(pool, name, text, parameter);
  return {
    /**
     * Begins an attempt, and says in the same round trip whether there is anything to do: the stage's own earlier result,
     * a result of another run under the same fingerprint, a checkpoint, or why the cache has nothing.
     * @throws NOT_FOUND for an unknown run, FENCED when the run has ended.
     */
    async begin(input: BeginStageInput): Promise<BegunStage> {
      const answer = (await one('begin_stage', 'select millrace_begin_stage($1::jsonb) as answer', input)) as BeginAnswer;
      if (answer.refused === 'noRun') throw new MillraceError('NOT_FOUND', `There is no run ${input.runId}.`);
      if (answer.refused === 'ended')
        throw new MillraceError('FENCED', `Stage ${input.name} may not begin: run ${input.runId} is ${answer.status ?? 'at its end'}.`);
      return {
        hit: answer.hit ?? null,
        token: answer.token,
        checkpoint: answer.checkpoint ?? null,
        missReason: answer.missReason ?? null,
        ...(answer.completed ? { completedOutput: answer.output ?? null } : {}),
      };
    },

    /**
     * Writes the stage's result and everything that belongs to it in one transaction. Again under the same token: nothing
     * happens. @throws FENCED for an attempt that is not the newest one, or whose run has ended.
     */
    async complete(input: CompleteStageInput): Promise<void> {
      // Of two points of one key and step the later counts.
      const points = input.metrics && [...new Map(input.metrics.map((m) => [JSON.stringify([m.key, m.step ?? 0]), m])).values()];
      const metrics = points?.map((m) => ({ key: m.key, step: m.step ?? 0, value: metricValue(m.value) }));
      const state = (await one('complete_stage', 'select millrace_complete_stage($1::jsonb) as answer', {
        ...input,
        output: input.output ?? null,
        ...(metrics === undefined ? {} : { metrics }),
      })) as string;
      if (state !== 'ok') throw refuse(state, input.runId, input.name);
    },

    /** Marks the attempt as failed; a later attempt may begin. @throws FENCED as `complete` does. */
    async fail(input: {
      readonly runId: string;
      readonly name: string;
      readonly token: number;
      readonly error: ErrorReport;
      readonly cancelled?: boolean;
      readonly usage?: StageUsage;
    }): Promise<void> {
      await orm.transaction(async (tx) => {
        await requireAttempt(tx, input.runId, input.name, input.token);
        if (input.usage !== undefined) await tx.execute(sql`select millrace_add_usage(${input.runId}, ${input.name}, ${JSON.stringify(input.usage)}::jsonb)`);
        await tx
          .update(stages)
          .set({ status: input.cancelled === true ? 'cancelled' : 'failed', error: storable(input.error), endedAt: sql`now()` })
          .where(and(eq(stages.runId, input.runId), eq(stages.name, input.name), eq(stages.status, 'running')));
      });
    },

    /** Makes this the checkpoint from which a later attempt goes on. @throws FENCED as `complete` does. */
    async commitCheckpoint(
      input: { readonly runId: string; readonly name: string; readonly token: number; readonly usage?: StageUsage } & Checkpoint,
    ): Promise<void> {
      await orm.transaction(async (tx) => {
        await requireAttempt(tx, input.runId, input.name, input.token);
        // what was used up to here counts also when the worker dies over the rest
        if (input.usage !== undefined) await tx.execute(sql`select millrace_add_usage(${input.runId}, ${input.name}, ${JSON.stringify(input.usage)}::jsonb)`);
        await tx
          .update(stages)
          .set({ checkpointSha: input.sha, checkpointStep: input.step })
          .where(and(eq(stages.runId, input.runId), eq(stages.name, input.name)));
      });
    },

    /** Where a stage of this name last completed by its own work, and with what input. */
    async lastCompleted(pipeline: string, name: string): Promise<Pick<StageRecord, 'pool' | 'input'> | null> {
      const [found] = await orm
        .select({ pool: stages.pool, input: stages.input })
        .from(stages)
        .where(and(eq(stages.pipeline, pipeline), eq(stages.name, name), eq(stages.status, 'completed'), isNull(stages.cachedFrom)))
        .orderBy(desc(stages.endedAt))
        .limit(1);
      return found ?? null;
    },

    async list(runId: string): Promise<readonly StageRecord[]> {
      return orm.select().from(stages).where(eq(stages.runId, runId)).orderBy(asc(stages.ordinal), asc(stages.startedAt), asc(stages.name));
    },

    async find(runId: string, name: string): Promise<StageRecord | null> {
      const rows = await orm
        .select()
        .from(stages)
        .where(and(eq(stages.runId, runId), eq(stages.name, name)));
      return rows[0] ?? null;
    },
  };
}
export type StagesStore = ReturnType<typeof createStagesStore>;
