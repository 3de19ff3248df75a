import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  condition,
  isCancellation,
  proxyActivities,
  proxyLocalActivities,
  setCurrentDetails,
  sleep,
  TimeoutFailure,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { RunActivities, StageActivities } from '../activities/types.ts';
import type { ErrorReport } from '../contracts/errors.ts';
import { MillraceError } from '../contracts/errors.ts';
import { poolQueue, SERVICE_QUEUE } from '../contracts/queues.ts';
import type { Purpose, RunProgress, StageStatus, StageView } from '../contracts/run.ts';
import { PUBLISHING, type StageCall, type StageKind, type StageResult } from '../contracts/stages.ts';
import { runDetails } from './current-details.ts';
import { type Duration, durationMs } from './duration.ts';
import { reportOf } from './failure.ts';

/**
 * One pipeline run, on the workflow's side: its stages, its rollback stack, what it shows.
 *
 * Invariants:
 * 1. A stage's name is fixed where it is called, in program order, so that a replay gives the same names.
 * 2. What publishes is on the rollback stack before its activity starts: an attempt that published and then died is
 *    taken back too.
 * 3. Rollback runs in reverse order, in a scope that cancellation does not reach, and goes on after a failed entry.
 */
export interface StageOptions {
  /** The stage's name in the run. Default: what it does (`train-gbdt`), numbered when it comes again. */
  readonly name?: string;
  /** The pool whose workers run it. Default `cpu`. */
  readonly pool?: string;
  /** `required` waits for a GPU worker; `preferred` runs on the CPU pool when no GPU worker polls. Not with `pool`. */
  readonly gpu?: 'required' | 'preferred';
  /** The longest one attempt may take. Default 12 hours. */
  readonly timeoutMs?: number;
  /** Attempts in all, for failures that another attempt can mend. Default 10. */
  readonly attempts?: number;
  /** False: run it even when its fingerprint was seen. Default true. */
  readonly cache?: boolean;
  /**
   * What to do when it runs out of memory, step by step: a pool to go on in, with its checkpoint; or `{ batch: 0.5 }`, to
   * train anew with batches of that share of their size. The step that worked is where the pipeline's next run begins.
   */
  readonly onOutOfMemory?: readonly (string | MemoryStep)[];
  /** 1 (first) to 5 among what waits for the same pool. Default: the pipeline's. */
  readonly priority?: Priority;
  /** Work that shows no progress for so long is taken for hung, and given to another worker. Default 5 minutes. */
  readonly stallAfter?: Duration;
}

export type Priority = 1 | 2 | 3 | 4 | 5;

export interface MemoryStep {
  /** Default: the pool where it ran out of memory. */
  readonly pool?: string;
  /** Share of the batch size, 0 … 1, for a trainer that has batches. */
  readonly batch: number;
}

interface MutableStage {
  name: string;
  kind: string;
  pool: string;
  status: StageStatus;
  summary?: string;
  startedAt?: string;
  endedAt?: string;
  error?: ErrorReport;
  /** Place in the run where that is not its place among `stages`: of a trial, that of its tuning. */
  ordinal?: number;
}

/** A gate that waits; the run shows it, the updates decide it. */
export interface OpenGate {
  readonly gate: string;
  readonly approversNeeded: number;
  readonly expiresAt: string | null;
  readonly approvals: { by: string; reason: string; at: string }[];
  rejection?: { by: string; reason: string };
}

type Compensation = { readonly kind: 'stage'; readonly stage: string } | { readonly kind: 'user'; readonly undo: () => unknown };

export interface Run {
  readonly runId: string;
  readonly pipeline: string;
  readonly purpose: Purpose | undefined;
  /** Of its stages, where they name none. */
  readonly priority?: Priority;
  readonly stages: MutableStage[];
  readonly gates: OpenGate[];
  readonly compensations: Compensation[];
  readonly undoProblems: string[];
  /** Endings of rollouts that were signalled to this run. */
  readonly rollouts: Map<string, { readonly status: string; readonly reason: string }>;
  /** Search attributes that are not sent yet: they go with the first stage's. */
  readonly searchAttributes: Readonly<Record<string, string[]>>[];
  /** What the search attribute says, and since when. */
  readonly stageShown: { name: string; resting: boolean };
  status: RunProgress['status'];
  paused: boolean;
  error?: ErrorReport;
}

let current: Run | undefined;

/** The run of this workflow. Stages may be called only inside a pipeline's function. */
export function currentRun(): Run {
  if (!current) throw new MillraceError('USAGE', 'A stage was called outside a pipeline.', { fix: 'Call stages inside the function given to definePipeline.' });
  return current;
}

export function openRun(run: Run): void {
  current = run;
}

export const runActivities = proxyLocalActivities<RunActivities>({
  startToCloseTimeout: '30 seconds',
  scheduleToCloseTimeout: '1 day',
  retry: { initialInterval: '200ms', maximumInterval: '10s' },
});

/** How long a worker may be silent before its stage is given to another. */
const HEARTBEAT_TIMEOUT_MS = 10_000;

const now = (): string => new Date(Date.now()).toISOString();

export function progressOf(run: Run): RunProgress {
  return {
    runId: run.runId,
    pipeline: run.pipeline,
    status: run.status,
    paused: run.paused,
    stages: run.stages.map((stage): StageView => ({ ...stage })),
    gates: run.gates,
    ...(run.error ? { error: run.error } : {}),
    undoProblems: run.undoProblems,
  };
}

export function showProgress(run: Run): void {
  setCurrentDetails(runDetails(progressOf(run), run.purpose));
}

function stageName(run: Run, wanted: string): string {
  let name = wanted;
  for (let n = 2; run.stages.some((s) => s.name === name); n++) name = `${wanted}-${String(n)}`;
  return name;
}

/** Adds a stage to the run's table and returns it; its name is unique in the run. */
export function addStage(run: Run, kind: string, wanted: string, pool: string): MutableStage {
  const stage: MutableStage = { name: stageName(run, wanted), kind, pool, status: 'waiting' };
  run.stages.push(stage);
  return stage;
}

export async function whileNotPaused(run: Run): Promise<void> {
  if (run.paused) await condition(() => !run.paused);
}

/** Each change of a search attribute costs the server as much as a stage that does nothing. */
const STAGE_SHOWN_EVERY_MS = 2_000;

/**
 * Keeps the search attribute `MillraceStage` at the stage that runs, at most 2 s late. A timer tells when the last change is
 * long enough ago, never a clock that is read: after a local activity a replay reads another time.
 */
function showStage(run: Run, name: string): void {
  run.stageShown.name = name;
  if (run.stageShown.resting) return;
  run.stageShown.resting = true;
  upsertSearchAttributes({ ...run.searchAttributes.splice(0)[0], MillraceStage: [name] });
  void CancellationScope.nonCancellable(() => sleep(STAGE_SHOWN_EVERY_MS)).then(() => {
    run.stageShown.resting = false;
    if (run.stageShown.name !== name) showStage(run, run.stageShown.name);
  });
}

/** Runs a piece of work as a stage: status, times and errors are kept, and shown in Temporal's UI. */
export async function asStage<T>(run: Run, stage: MutableStage, work: () => Promise<{ output: T; cached?: boolean; summary?: string }>): Promise<T> {
  await whileNotPaused(run);
  stage.status = 'running';
  stage.startedAt = now();
  showProgress(run);
  showStage(run, stage.name);
  try {
    const { output, cached, summary } = await work();
    stage.status = cached ? 'cached' : 'completed';
    if (summary) stage.summary = summary;
    return output;
  } catch (error) {
    stage.status = isCancellation(error) ? 'cancelled' : 'failed';
    if (!isCancellation(error)) stage.error = { ...reportOf(error) };
    throw error;
  } finally {
    stage.endedAt = now();
    showProgress(run);
  }
}

/** Runs one stage on its pool and returns its output. */
export async function runStage<Output>(kind: StageKind, wantedName: string, input: unknown, options: StageOptions = {}): Promise<Output> {
  const run = currentRun();
  const stage = openStage(run, kind, wantedName, options);
  return asStage(run, stage, () => callStage<Output>(run, stage, kind, input, options));
}

/** Adds the stage to the run's table and, when it publishes, to the rollback stack. */
export function openStage(run: Run, kind: StageKind, wantedName: string, options: StageOptions): MutableStage {
  const stage = addStage(run, kind, options.name ?? wantedName, options.pool ?? (options.gpu ? 'gpu' : 'cpu'));
  if (PUBLISHING.has(kind)) run.compensations.push({ kind: 'stage', stage: stage.name });
  return stage;
}

/** Whose code a stage runs with, where that is not the run's own. */
export interface StageOrigin {
  readonly pipeline: string;
  readonly buildId: string;
}

/** Calls the stage's activity on its pool; a result that is in the cache takes no slot of a scarce pool. */
export async function callStage<Output>(
  run: Run,
  stage: MutableStage,
  kind: StageKind,
  input: unknown,
  { origin, ...options }: StageOptions & { readonly origin?: StageOrigin },
): Promise<StageResult<Output>> {
  if (options.gpu) stage.pool = await choosePool(run, stage, options.gpu);
  const call: StageCall = {
    runId: run.runId,
    pipeline: origin?.pipeline ?? run.pipeline,
    buildId: origin?.buildId ?? buildId(),
    stage: stage.name,
    kind,
    ordinal: stage.ordinal ?? run.stages.indexOf(stage),
    pool: stage.pool,
    cache: options.cache ?? true,
    input,
    ...(options.stallAfter === undefined ? {} : { stallAfterMs: durationMs(options.stallAfter) }),
  };
  if (stage.pool !== 'cpu' && call.cache && !PUBLISHING.has(kind)) {
    const hit = await serviceActivities(stage.name).lookupStage(call);
    if (hit) return hit as StageResult<Output>;
  }
  const result = (await climbing(run, stage, call, options)) as StageResult<Output>;
  return options.gpu === 'preferred' && stage.pool === 'cpu' ? { ...result, summary: `${result.summary} (no GPU worker: on CPU)` } : result;
}

/** Calls the stage; where it runs out of memory, again with what its ladder says, as long as that has steps. */
async function climbing(run: Run, stage: MutableStage, call: StageCall, options: StageOptions): Promise<StageResult> {
  const { onOutOfMemory = [] } = options;
  if (onOutOfMemory.length === 0) return onPool(run, stage, call, options);
  let pool = call.pool;
  const steps: readonly MemoryStep[] = [
    { pool, batch: 1 },
    ...onOutOfMemory.map((step): MemoryStep => {
      const { pool: next = pool, batch } = typeof step === 'string' ? { pool: step, batch: 1 } : step;
      pool = next;
      return { pool, batch };
    }),
  ];
  const { step: first } = await runActivities.memoryStep({ pipeline: run.pipeline, stage: stage.name, steps });
  for (let at = first; ; at++) {
    const step = steps[at];
    if (step?.pool === undefined) throw new MillraceError('INTERNAL', 'A ladder has no such step.');
    if (at > 0) {
      const why = at === first ? 'where it last had memory enough' : 'out of memory before';
      stage.pool = step.pool;
      stage.summary = `on ${step.pool}${step.batch === 1 ? '' : `, batches × ${String(step.batch)}`}: ${why}`;
      showProgress(run);
    }
    const input = step.batch === 1 ? call.input : { ...(call.input as object), batchShare: step.batch };
    try {
      return await onPool(run, stage, { ...call, pool: step.pool, input }, options);
    } catch (error) {
      if (at + 1 >= steps.length || reportOf(error).code !== 'OUT_OF_MEMORY' || isCancellation(error)) throw error;
    }
  }
}

/** Calls the stage on its pool; a preferred GPU whose worker has died after it last polled is not waited for. */
async function onPool(run: Run, stage: MutableStage, call: StageCall, options: StageOptions): Promise<StageResult> {
  if (options.gpu !== 'preferred' || call.pool !== 'gpu') return stageActivities(run, call.pool, stage.name, options).runStage(call);
  try {
    return await stageActivities(run, call.pool, stage.name, options, PREFERRED_WAIT_MS).runStage(call);
  } catch (error) {
    if (!(error instanceof ActivityFailure && error.cause instanceof TimeoutFailure && error.cause.timeoutType === 'SCHEDULE_TO_START')) throw error;
    stage.pool = 'cpu';
    stage.summary = 'no GPU worker took it: runs on CPU';
    showProgress(run);
    return stageActivities(run, 'cpu', stage.name, options).runStage({ ...call, pool: 'cpu' });
  }
}

/** How long a stage that prefers a GPU waits for a worker that was there a minute ago. */
const PREFERRED_WAIT_MS = 60_000;

/** The build that this run is pinned to. */
export function buildId(): string {
  return workflowInfo().currentDeploymentVersion?.buildId ?? 'unversioned';
}

/** The engine's own light work: beside the pools, so that it waits for no slot of theirs. */
function serviceActivities(summary: string): StageActivities {
  return proxyActivities<StageActivities>({
    taskQueue: SERVICE_QUEUE,
    startToCloseTimeout: '10 minutes',
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    retry: { initialInterval: '500ms', maximumInterval: '15s', maximumAttempts: 10 },
    summary,
  });
}

function stageActivities(run: Run, pool: string, summary: string, options: StageOptions, scheduleToStartTimeoutMs?: number): StageActivities {
  const priorityKey = options.priority ?? run.priority;
  return proxyActivities<StageActivities>({
    // Within one priority, pipelines take turns: a thousand stages of one do not hold up the first of another.
    priority: { ...(priorityKey === undefined ? {} : { priorityKey }), fairnessKey: fairnessKey(run.pipeline) },
    taskQueue: poolQueue(pool),
    startToCloseTimeout: options.timeoutMs ?? 12 * 3_600_000,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    ...(scheduleToStartTimeoutMs === undefined ? {} : { scheduleToStartTimeout: scheduleToStartTimeoutMs }),
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '20s', maximumAttempts: options.attempts ?? 10 },
    summary,
  });
}

/** Fairness keys are limited to 64 bytes; names of workflows are ASCII. */
const fairnessKey = (pipeline: string): string => pipeline.slice(0, 64);

async function choosePool(run: Run, stage: MutableStage, wish: 'required' | 'preferred'): Promise<string> {
  if (await runActivities.hasPollers({ pool: 'gpu' })) return 'gpu';
  if (wish === 'preferred') {
    stage.summary = 'no GPU worker: runs on CPU';
    return 'cpu';
  }
  stage.summary = 'waits for a GPU worker';
  showProgress(run);
  return 'gpu';
}

/** Takes back what the run has published, newest first, whatever happens to the run meanwhile. */
export async function rollBack(run: Run): Promise<void> {
  if (run.compensations.length === 0) return;
  run.status = 'rolling back';
  showProgress(run);
  await CancellationScope.nonCancellable(async () => {
    const services = serviceActivities('rollback');
    while (run.compensations.length > 0) {
      const compensation = run.compensations.pop();
      if (!compensation) break;
      try {
        if (compensation.kind === 'user') await compensation.undo();
        else run.undoProblems.push(...(await services.undoStage({ runId: run.runId, stage: compensation.stage })).problems);
      } catch (error) {
        run.undoProblems.push(`${compensation.kind === 'user' ? 'onRollback' : compensation.stage}: ${reportOf(error).message}`);
      }
      showProgress(run);
    }
  });
}

/**
 * Adds an undo of your own: it is called when the run fails or is cancelled after this point, newest first, between
 * the undos of the stages. It may call steps. A run that is terminated from outside calls none of these.
 */
export function onRollback(undo: () => unknown): void {
  currentRun().compensations.push({ kind: 'user', undo });
}
