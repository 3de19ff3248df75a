import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  setHandler,
  setWorkflowOptions,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { RetrainTriggerInput } from '../contracts/retrain-triggers.ts';
import type { RetrainingSettingsInput } from '../contracts/retraining.ts';
import { MEMO_RETRY_OF, MEMO_TRIGGER, type Purpose, type Trigger, TriggerSchema } from '../contracts/run.ts';
import { handleDecisions } from './approval.ts';
import { createAuthorize } from './authorize.ts';
import { isRunCancelled, reportOf, toWorkflowFailure } from './failure.ts';
import { pauseUpdate, progressQuery, resumeUpdate, rolloutFinishedSignal } from './messages.ts';
import { buildId, openRun, type Priority, progressOf, rollBack, type Run, runActivities, showProgress, whileNotPaused } from './run.ts';

/** Marks a pipeline among the exports of a module, so that the build finds it. */
export const PIPELINE = Symbol.for('millrace.pipeline');

export interface PipelineOptions<Parameters extends z.ZodObject> {
  /** The run's one argument; every field needs a default where `{}` is to be a valid start. */
  readonly params: Parameters;
  /** What the model is for; shown on approvals and cards. */
  readonly purpose?: Purpose;
  /** Runs of this pipeline at once; further ones wait, in the order they came. Default: no limit. */
  readonly maxConcurrentRuns?: number;
  /** 1 (first) to 5 (last) of its stages among what waits for the same pool; pipelines of one priority take turns. Default 3. */
  readonly priority?: Priority;
  /**
   * What asks for a retraining by itself: `schedule`, `newFiles`, `newRows`, `notification`, `newLabels`, `newSnapshot`. Each
   * asks the pipeline's controller, which decides when a run starts. Default: nothing but people, programs and monitors.
   */
  readonly retrainOn?: readonly RetrainTriggerInput[];
  /** When it may be retrained: cool-down, budget, quiet hours, back-off. `millrace retrainings configure` wins over it. */
  readonly retraining?: RetrainingSettingsInput;
}

export interface PipelineDefinition {
  readonly params: z.ZodObject;
  readonly purpose: Purpose | undefined;
  readonly retrainOn: readonly RetrainTriggerInput[];
  readonly retraining: RetrainingSettingsInput;
  readonly maxConcurrentRuns: number | undefined;
}

export type Pipeline<Input> = ((input?: Input) => Promise<unknown>) & { readonly [PIPELINE]: PipelineDefinition };

/**
 * Makes a durable pipeline of an async function. Its name is the name under which it is exported; it is a Temporal
 * workflow of that type on the task queue `millrace`, with one JSON argument.
 *
 * Messages: updates `approve`, `reject`, `pause`, `resume`; query `progress`. On failure and on cancel, what the
 * stages published is taken back in reverse order. A run stays on the code that it was started with.
 *
 * @throws ApplicationFailure of type INVALID_PARAMETERS at once, with every problem, when the argument does not fit.
 */
export function definePipeline<Parameters extends z.ZodObject>(
  options: PipelineOptions<Parameters>,
  body: (params: z.output<Parameters>) => Promise<unknown>,
): Pipeline<z.input<Parameters>> {
  const pipeline = async (input: unknown = {}): Promise<unknown> => {
    const info = workflowInfo();
    try {
      const params = parseParameters(options.params, input, info.workflowType);
      const run: Run = {
        runId: '',
        pipeline: info.workflowType,
        purpose: options.purpose,
        ...(options.priority === undefined ? {} : { priority: options.priority }),
        stages: [],
        gates: [],
        compensations: [],
        undoProblems: [],
        rollouts: new Map(),
        searchAttributes: [],
        stageShown: { name: '', resting: false },
        status: 'waiting',
        paused: false,
      };
      return await execute(run, options, input, () => body(params));
    } catch (error) {
      throw toWorkflowFailure(error);
    }
  };
  setWorkflowOptions({ versioningBehavior: 'PINNED' }, pipeline);
  const definition: PipelineDefinition = {
    params: options.params,
    purpose: options.purpose,
    retrainOn: options.retrainOn ?? [],
    retraining: options.retraining ?? {},
    maxConcurrentRuns: options.maxConcurrentRuns,
  };
  return Object.assign(pipeline, { [PIPELINE]: definition });
}

async function execute(
  draft: Run,
  options: Pick<PipelineDefinition, 'maxConcurrentRuns' | 'purpose'> | PipelineOptions<z.ZodObject>,
  input: unknown,
  body: () => Promise<unknown>,
): Promise<unknown> {
  const info = workflowInfo();
  let run = draft;
  setHandler(progressQuery, () => progressOf(run));
  const authorize = createAuthorize();
  setHandler(pauseUpdate, async (message) => {
    await authorize('pauseRun', info.workflowType, message);
    run.paused = true;
    if (run.runId) showProgress(run);
  });
  setHandler(resumeUpdate, async (message) => {
    await authorize('resumeRun', info.workflowType, message);
    run.paused = false;
    if (run.runId) showProgress(run);
  });
  setHandler(rolloutFinishedSignal, (outcome) => {
    run.rollouts.set(outcome.rollout, outcome);
  });
  handleDecisions(() => run, authorize);
  const trigger = triggerOf(info);
  run.searchAttributes.push({ MillracePipeline: [info.workflowType], MillraceTrigger: [trigger.kind] });

  const retryOf = info.memo?.[MEMO_RETRY_OF];
  const begun = {
    workflowId: info.workflowId,
    temporalRunId: info.runId,
    pipeline: info.workflowType,
    buildId: buildId(),
    params: input,
    trigger,
    ...(typeof retryOf === 'string' ? { retryOf } : {}),
    ...(options.purpose ? { purpose: options.purpose } : {}),
    ...(options.maxConcurrentRuns === undefined ? {} : { maxConcurrentRuns: options.maxConcurrentRuns }),
  };
  try {
    let started = await runActivities.beginRun(begun);
    run = Object.assign(run, { runId: started.runId });
    openRun(run);
    if (started.status === 'waiting') upsertSearchAttributes(run.searchAttributes[0] ?? {});
    for (let waitMs = 500; started.status === 'waiting'; waitMs = Math.min(waitMs * 2, 5_000)) {
      await sleep(waitMs);
      started = await runActivities.beginRun(begun);
    }
    run.status = 'running';
    await whileNotPaused(run);
    const result = await body();
    run.status = 'completed';
    await runActivities.endRun({ runId: run.runId, status: 'completed' });
    showProgress(run);
    return { runId: run.runId, ...(result !== null && typeof result === 'object' && !Array.isArray(result) ? result : result === undefined ? {} : { result }) };
  } catch (error) {
    const cancelled = isRunCancelled(error);
    if (!cancelled) run.error = reportOf(error);
    if (run.runId) {
      await rollBack(run);
      const status = cancelled ? 'cancelled' : 'failed';
      run.status = status;
      await CancellationScope.nonCancellable(() =>
        runActivities.endRun({ runId: run.runId, status, ...(run.error ? { error: run.error } : {}), undoProblems: run.undoProblems }),
      );
      showProgress(run);
    }
    if (cancelled) throw error instanceof CancelledFailure ? error : new CancelledFailure('The run was cancelled.');
    throw error;
  }
}

function parseParameters<Parameters extends z.ZodObject>(schema: Parameters, input: unknown, pipeline: string): z.output<Parameters> {
  const parsed = schema.safeParse(input ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue): Problem => {
    const found = issue.path.reduce<unknown>(
      (at, key) => (at !== null && typeof at === 'object' ? (at as Record<PropertyKey, unknown>)[key] : undefined),
      input,
    );
    return {
      path: issue.path.map(String).join('.') || '(input)',
      message: issue.message,
      found: found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 200),
    };
  });
  const list = problems.map((p) => `${p.path}: ${p.message} (found ${p.found ?? 'nothing'})`).join('; ');
  throw ApplicationFailure.create({
    type: 'INVALID_PARAMETERS',
    message: `The parameters of ${pipeline} do not fit: ${list}`,
    nonRetryable: true,
    details: [new MillraceError('INVALID_PARAMETERS', `The parameters of ${pipeline} do not fit.`, { problems }).report()],
  });
}

function triggerOf(info: ReturnType<typeof workflowInfo>): Trigger {
  const given = TriggerSchema.safeParse(info.memo?.[MEMO_TRIGGER]);
  if (given.success) return given.data;
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the typed form has no key for the server's own attribute
  const scheduled = info.searchAttributes['TemporalScheduledById'];
  if (scheduled?.[0] !== undefined) return { kind: 'schedule', source: String(scheduled[0]) };
  return { kind: 'manual' };
}
