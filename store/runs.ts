import { and, asc, count, desc, eq, gte, inArray, isNull, lt, ne, sql } from 'drizzle-orm';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { Trigger } from '../contracts/run.ts';
import { callFunction, type Database, storable } from './database.ts';
import { isOfProjects, type OfProjects } from './project-names.ts';
import { type GitState, runParams, runs, runTags, type RunStatus } from './schema.ts';

/**
 * Runs.
 *
 * Invariants:
 * 1. One workflow execution has one run: `begin` called again gives the run that is there.
 * 2. Of one pipeline no more runs are `running` than its limit; the others wait, the oldest first.
 * 3. A run that ended stays as it ended, and no attempt of its stages may write any more.
 */
export type RunRecord = typeof runs.$inferSelect;

export interface BeginRunInput {
  /** The id to take if the workflow has no run yet: 32 hex digits. */
  readonly runId: string;
  readonly workflowId: string;
  readonly temporalRunId: string;
  readonly pipeline: string;
  readonly buildId?: string;
  readonly params: unknown;
  readonly trigger: Trigger;
  readonly retryOf?: string;
  readonly purpose?: unknown;
  readonly git?: GitState;
  /** Runs of this pipeline at once. Default: no limit. */
  readonly maxConcurrent?: number;
}

export interface BegunRun {
  readonly runId: string;
  /** `waiting`: the limit is reached; call again later. Any other: what the run that is there says. */
  readonly status: RunStatus;
}

export interface EndRunInput {
  readonly runId: string;
  readonly status: 'completed' | 'failed' | 'cancelled' | 'terminated';
  readonly error?: ErrorReport;
  /** True (default): a run that has ended stays as it is. False: its end is written anew. */
  readonly ifOpen?: boolean;
}

export interface ListRunsInput extends OfProjects {
  readonly pipeline?: string;
  readonly status?: RunStatus | readonly RunStatus[];
  /** Default 50, at most 1,000. */
  readonly limit?: number;
  /** `seq` of the last run of the page before. */
  readonly before?: number;
}

const OPEN = ['waiting', 'running'] as const satisfies readonly RunStatus[];

export function createRunsStore({ orm, pool }: Database) {
  const one = (name: string, text: string, parameter: unknown) => callFunction(pool, name, text, parameter);
  return {
    /** Makes the run's record, or finds the one of this workflow execution; a waiting one goes when there is room. */
    async begin(input: BeginRunInput): Promise<BegunRun> {
      if (input.maxConcurrent !== undefined && !(input.maxConcurrent >= 1))
        throw new MillraceError('INVALID_PARAMETERS', 'A limit on runs at once must be at least 1.', {
          problems: [{ path: 'maxConcurrent', message: 'must be at least 1', found: String(input.maxConcurrent) }],
        });
      return (await one('begin_run', 'select millrace_begin_run($1::jsonb) as answer', { ...input, trigger: storable(input.trigger) })) as BegunRun;
    },

    /** Closes the run and the stages it left open; their attempts are fenced off. `changed` is false when it had ended before. */
    async end(input: EndRunInput): Promise<{ readonly changed: boolean; readonly status: RunStatus }> {
      const answer = await one('end_run', 'select millrace_end_run($1::jsonb) as answer', {
        runId: input.runId,
        status: input.status,
        ifOpen: input.ifOpen ?? true,
        ...(input.error === undefined ? {} : { error: storable(input.error) }),
      });
      if (answer === null) throw new MillraceError('NOT_FOUND', `There is no run ${input.runId}.`);
      return answer as { readonly changed: boolean; readonly status: RunStatus };
    },

    async find(runId: string): Promise<RunRecord | null> {
      return (await orm.select().from(runs).where(eq(runs.id, runId)))[0] ?? null;
    },

    /** @throws NOT_FOUND */
    async get(runId: string): Promise<RunRecord> {
      const [run] = await orm.select().from(runs).where(eq(runs.id, runId));
      if (run === undefined) throw new MillraceError('NOT_FOUND', `There is no run ${runId}.`);
      return run;
    },

    /** The run of a workflow; of its newest execution when no Temporal run id is given. */
    async findByWorkflow(workflowId: string, temporalRunId?: string): Promise<RunRecord | null> {
      const [run] = await orm
        .select()
        .from(runs)
        .where(and(eq(runs.workflowId, workflowId), temporalRunId === undefined ? undefined : eq(runs.temporalRunId, temporalRunId)))
        .orderBy(desc(runs.seq))
        .limit(1);
      return run ?? null;
    },

    /** Runs whose ids begin with these hex digits, newest first, at most 100. */
    async findByPrefix(digits: string): Promise<readonly RunRecord[]> {
      return (
        orm
          .select()
          .from(runs)
          // Above every hex digit, so that the index of the key finds them.
          .where(and(eq(runs.lifecycleStage, 'active'), gte(runs.id, digits), lt(runs.id, `${digits}g`)))
          .orderBy(desc(runs.seq))
          .limit(100)
      );
    },

    /** Newest first. */
    async list(input: ListRunsInput = {}): Promise<readonly RunRecord[]> {
      const { status } = input;
      return orm
        .select()
        .from(runs)
        .where(
          and(
            eq(runs.lifecycleStage, 'active'),
            isOfProjects(sql`${runs.pipeline}`, input),
            input.pipeline === undefined ? undefined : eq(runs.pipeline, input.pipeline),
            status === undefined ? undefined : typeof status === 'string' ? eq(runs.status, status) : inArray(runs.status, [...status]),
            input.before === undefined ? undefined : lt(runs.seq, input.before),
          ),
        )
        .orderBy(desc(runs.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** Runs that have not ended and have a workflow, oldest first: what the reconciler holds against Temporal. */
    async open(): Promise<readonly RunRecord[]> {
      return orm
        .select()
        .from(runs)
        .where(and(inArray(runs.status, OPEN), sql`${runs.workflowId} is not null`))
        .orderBy(asc(runs.seq));
    },

    /** How many runs there are of each pipeline and status. */
    async counts(): Promise<readonly { readonly pipeline: string; readonly status: RunStatus; readonly runs: number }[]> {
      return orm.select({ pipeline: runs.pipeline, status: runs.status, runs: count() }).from(runs).groupBy(runs.pipeline, runs.status);
    },

    /** Build ids that runs still open were started on, of which the orchestrator keeps the code. */
    async openBuilds(): Promise<readonly string[]> {
      const rows = await orm
        .selectDistinct({ id: runs.buildId })
        .from(runs)
        .where(and(inArray(runs.status, OPEN), ne(runs.buildId, '')));
      return rows.flatMap((row) => (row.id === null ? [] : [row.id]));
    },

    /** Notes what pipeline code said of its run once it was known: purpose, build, Git state. Only what is still empty is written. */
    async describe(runId: string, details: { readonly purpose?: unknown; readonly buildId?: string; readonly git?: GitState }): Promise<void> {
      if (details.purpose !== undefined)
        await orm
          .update(runs)
          .set({ purpose: details.purpose })
          .where(and(eq(runs.id, runId), isNull(runs.purpose)));
      if (details.buildId !== undefined)
        await orm
          .update(runs)
          .set({ buildId: details.buildId })
          .where(and(eq(runs.id, runId), isNull(runs.buildId)));
      if (details.git !== undefined)
        await orm
          .update(runs)
          .set({ gitRemote: details.git.remote, gitCommit: details.git.commit, gitClean: details.git.clean })
          .where(and(eq(runs.id, runId), isNull(runs.gitCommit)));
    },

    /** Sets a tag, or replaces it. */
    async setTag(runId: string, key: string, value: string): Promise<void> {
      await orm
        .insert(runTags)
        .values({ runId, key, value })
        .onConflictDoUpdate({ target: [runTags.runId, runTags.key], set: { value } });
    },

    /** Logs a parameter once. @throws CONFLICT when it is there with another value. */
    async logParam(runId: string, key: string, value: string): Promise<void> {
      await orm.insert(runParams).values({ runId, key, value }).onConflictDoNothing();
      const [row] = await orm
        .select({ value: runParams.value })
        .from(runParams)
        .where(and(eq(runParams.runId, runId), eq(runParams.key, key)));
      if (row?.value !== value)
        throw new MillraceError('CONFLICT', `The parameter ${key} of run ${runId} is set already; a parameter does not change.`, {
          problems: [{ path: key, message: 'is set to another value', ...(row === undefined ? {} : { found: row.value }) }],
        });
    },

    async tags(runId: string): Promise<Readonly<Record<string, string>>> {
      const rows = await orm.select().from(runTags).where(eq(runTags.runId, runId)).orderBy(asc(runTags.key));
      return Object.fromEntries(rows.map((row) => [row.key, row.value]));
    },

    async params(runId: string): Promise<Readonly<Record<string, string>>> {
      const rows = await orm.select().from(runParams).where(eq(runParams.runId, runId)).orderBy(asc(runParams.key));
      return Object.fromEntries(rows.map((row) => [row.key, row.value]));
    },
  };
}
export type RunsStore = ReturnType<typeof createRunsStore>;
