import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  isCancellation,
  setCurrentDetails,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import { type Metric, metricDefinition } from '../contracts/metrics.ts';
import type { CandidateRef, DatasetRef } from '../contracts/references.ts';
import {
  type SearchMethod,
  type Steer,
  SteerSchema,
  type StopRule,
  type TrialRecord,
  type TuningBudget,
  type TuningHistory,
  type TuningState,
  type TrialOutput,
  type TuneOutput,
} from '../contracts/tuning.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Direction, Observation, SearchParameter, TrialValues } from '../ml/search/parameters.ts';
import { type CompiledSpace, compileSpace, type TunedThing } from '../ml/search/space.ts';
import { trialLimits } from '../ml/search/stopping.ts';
import { suggestTrial } from '../ml/search/suggest.ts';
import { reportOf, toWorkflowFailure } from './failure.ts';
import { callStage, type Run, type StageOptions } from './run.ts';

/**
 * The search of one `tune`: a child of the run, on the run's build.
 *
 * Invariants:
 * 1. With p trials at once, trial n begins when all trials up to n − p have ended, and its values and limits come from
 *    those alone, whatever else is known by then. So timing and deaths change nothing: the same seed gives the same trials.
 *    The price is that one slow trial holds up the p-th after it.
 * 2. A trial is stopped early by limits that it was given when it began: what it takes to go on at each rung, as the
 *    trials of invariant 1 say.
 * 3. All that the search knows is in the trials: nothing else is carried over when history is cut.
 * 4. History is cut (continue as new) between trials, when Temporal suggests it: none is running then.
 */
export const steerUpdate = defineUpdate<TuningState, [Steer]>('steer');
export const tuningStateQuery = defineQuery<TuningState>('state');
export const pauseTuningSignal = defineSignal<[boolean]>('pauseTuning');
/** To the run: how far its tuning is. */
export const tuningProgressSignal = defineSignal<[{ readonly stage: string; readonly summary: string }]>('tuningProgress');

export interface TuningInput {
  readonly runId: string;
  readonly pipeline: string;
  /** Of the run that waits. */
  readonly workflowId: string;
  readonly stage: string;
  readonly ordinal: number;
  readonly priority?: NonNullable<Run['priority']>;
  readonly thing: TunedThing;
  /** What all trials are trained with. */
  readonly training: {
    readonly train: DatasetRef;
    readonly validation: DatasetRef;
    readonly target: string;
    readonly task: 'auto' | 'binary' | 'multiclass' | 'regression' | 'ranking';
    readonly group?: string;
    readonly weight?: string;
    readonly seed: number;
    readonly sampleRows?: number;
    readonly validationRows?: number;
    readonly threads?: number;
  };
  readonly metric: Metric;
  readonly search: SearchMethod;
  readonly seed: number;
  readonly settings: TuningSettings;
  readonly options: StageOptions;
  /** Trials of earlier studies. */
  readonly warm: readonly Observation[];
}

export interface TuningSettings {
  readonly trials: number;
  readonly parallel: number;
  readonly budget: TuningBudget;
  readonly stopRule: StopRule | null;
}

export interface TuningCarry {
  readonly settings: TuningSettings;
  readonly space: Readonly<Record<string, unknown>>;
  readonly records: readonly TrialRecord[];
  readonly best: BestTrial | null;
  readonly startedAtMs: number;
  readonly stopping: string | null;
  readonly paused: boolean;
  readonly told: number;
}

interface BestTrial {
  readonly trial: number;
  readonly value: number;
  readonly values: TrialValues;
  readonly candidate: CandidateRef;
}

/** So many trials must have ended, all of them failed, before the others are given up. */
const HOPELESS_AFTER = 10;
/** The run hears at most so often, and about so many times in all. */
const TELL_EVERY_MS = 2_000;
const TELL_TIMES = 100;

export async function tuning(input: TuningInput, carry?: TuningCarry): Promise<TuneOutput> {
  try {
    return await search(input, carry);
  } catch (error) {
    throw toWorkflowFailure(error);
  }
}
setWorkflowOptions({ versioningBehavior: 'PINNED' }, tuning);

async function search(input: TuningInput, carry: TuningCarry | undefined): Promise<TuneOutput> {
  const { metric, seed, thing, warm } = input;
  const direction: Direction = metricDefinition(metric)?.better === 'lower' ? 'minimize' : 'maximize';
  const run = runOfTrials(input);
  const startedAtMs = carry?.startedAtMs ?? Date.now();
  let settings = carry?.settings ?? input.settings;
  let spaceText = carry?.space ?? thing.space;
  let space: CompiledSpace = compileSpace({ ...thing, space: spaceText }, input.search);
  let stopping = carry?.stopping ?? null;
  let paused = carry?.paused ?? false;
  let best = carry?.best ?? null;
  let told = carry?.told ?? 0;
  let toldAtMs = 0;
  let changes = 0;
  const ended = new Map((carry?.records ?? []).map((record) => [record.trial, record]));
  const running = new Map<number, TrialValues>();
  /** All trials up to this one have ended. */
  let through = ended.size;
  let next = ended.size + 1;
  const trialsScope = new CancellationScope();

  const counted = (state: TrialRecord['state']): number => [...ended.values()].filter((record) => record.state === state).length;
  const total = (figure: 'cpuSeconds' | 'gpuSeconds' | 'cost'): number => [...ended.values()].reduce((sum, record) => sum + record[figure], 0);
  const stateOf = (): TuningState => ({
    trials: settings.trials,
    parallel: settings.parallel,
    ended: ended.size,
    running: [...running.keys()],
    completed: counted('completed'),
    stopped: counted('stopped'),
    failed: counted('failed'),
    best: best === null ? null : { trial: best.trial, value: best.value, values: best.values },
    used: { cpuSeconds: total('cpuSeconds'), gpuSeconds: total('gpuSeconds'), cost: total('cost') },
    stopping,
  });
  setHandler(tuningStateQuery, stateOf);
  setHandler(
    steerUpdate,
    (change) => {
      const { stop, space: newSpace, budget, ...rest } = change;
      if (newSpace !== undefined) {
        space = compileSpace({ ...thing, space: newSpace }, input.search);
        spaceText = newSpace;
      }
      settings = { ...settings, ...defined(rest), ...(budget === undefined ? {} : { budget: { ...settings.budget, ...defined(budget) } }) };
      if (stop !== undefined) stopping = 'stopped by hand';
      if (stop === 'now') trialsScope.cancel();
      changes++;
      return stateOf();
    },
    {
      validator: (change) => {
        checkSteering(change, thing, input.search);
      },
    },
  );
  setHandler(pauseTuningSignal, (wanted) => {
    paused = wanted;
    changes++;
  });

  const tellRun = async (): Promise<void> => {
    const state = stateOf();
    const summary = summaryOf(state, metric);
    setCurrentDetails(`**${input.stage}** of run \`${input.runId}\`: ${summary}`);
    if (Date.now() - toldAtMs < TELL_EVERY_MS || state.ended < told + settings.trials / TELL_TIMES) return;
    toldAtMs = Date.now();
    told = state.ended;
    // a run that is gone needs no news
    await getExternalWorkflowHandle(input.workflowId)
      .signal(tuningProgressSignal, { stage: input.stage, summary })
      .catch(() => undefined);
  };

  const runTrial = async (trial: number, values: TrialValues): Promise<void> => {
    const began = Date.now();
    const { trainer, features } = space.resolve(values);
    const limits = trialLimits(settings.stopRule, direction, known(ended, trial - settings.parallel));
    const name = `${input.stage}-trial-${String(trial)}`;
    const used = { seconds: 0, cpuSeconds: 0, gpuSeconds: 0, cost: 0 };
    try {
      const stage = {
        name,
        kind: 'trial',
        pool: input.options.pool ?? (input.options.gpu ? 'gpu' : 'cpu'),
        status: 'running' as const,
        ordinal: input.ordinal,
      };
      const { output, usage } = await callStage<TrialOutput>(run, stage, 'trial', { ...input.training, trainer, features, metric, limits }, input.options);
      Object.assign(used, usage === undefined ? {} : { cpuSeconds: usage.cpuSeconds, gpuSeconds: usage.gpuSeconds, cost: usage.cost });
      const { candidate, value, rungs } = output;
      const state = candidate === null ? 'stopped' : 'completed';
      ended.set(trial, {
        trial,
        state,
        values,
        value,
        rungs: [...rungs],
        ...(candidate === null ? {} : { predictor: candidate.predictor }),
        ...used,
        seconds: (Date.now() - began) / 1_000,
      });
      if (candidate !== null && value !== null && isBetter({ trial, value }, best, direction)) best = { trial, value, values, candidate };
    } catch (error) {
      const { code, message } = reportOf(error);
      const state = isCancellation(error) ? 'cancelled' : 'failed';
      ended.set(trial, {
        trial,
        state,
        values,
        value: null,
        rungs: [],
        ...(state === 'failed' ? { error: { code, message: message.slice(0, 300) } } : {}),
        ...used,
        seconds: (Date.now() - began) / 1_000,
      });
    } finally {
      running.delete(trial);
      while (ended.has(through + 1)) through++;
      changes++;
    }
    await tellRun();
  };

  const reasonToStop = (): string | null => {
    if (next > settings.trials) return '';
    const visible = known(ended, next - settings.parallel);
    if (visible.length >= HOPELESS_AFTER && visible.every(({ state }) => state === 'failed'))
      return `gave up: the first ${String(visible.length)} trials have failed`;
    return spent(settings.budget, ended, next - settings.parallel, startedAtMs);
  };

  const work = new Set<Promise<void>>();
  try {
    for (;;) {
      stopping ??= reasonToStop();
      if (stopping !== null) {
        // more trials may be asked for while the last ones run
        if (stopping === '' && running.size > 0) {
          const seen = changes;
          stopping = null;
          await condition(() => changes !== seen);
          continue;
        }
        break;
      }
      if (workflowInfo().continueAsNewSuggested) {
        await condition(() => running.size === 0);
        await Promise.all(work);
        await condition(allHandlersFinished);
        const records = [...ended.values()].sort((a, b) => a.trial - b.trial);
        await continueAsNew<typeof tuning>(input, { settings, space: spaceText, records, best, startedAtMs, stopping, paused, told });
      }
      if (paused || through < next - settings.parallel) {
        const seen = changes;
        await condition(() => changes !== seen);
        continue;
      }
      const visible = next - settings.parallel;
      const pending = Array.from(
        { length: Math.min(settings.parallel, next) - 1 },
        (_, i) => ended.get(next - 1 - i)?.values ?? running.get(next - 1 - i) ?? {},
      ).reverse();
      const values = suggestTrial({
        parameters: space.parameters,
        search: input.search,
        seed,
        direction,
        trial: next,
        observations: [...warm, ...known(ended, visible)],
        pending,
      });
      if (values === null) {
        stopping = 'the grid has no more points';
        continue;
      }
      const trial = next++;
      running.set(trial, values);
      const done = trialsScope.run(() => runTrial(trial, values));
      work.add(done);
      void done.finally(() => work.delete(done));
    }
    await condition(() => running.size === 0);
  } finally {
    // cancelled: its trials are ended before it is, whatever comes
    await CancellationScope.nonCancellable(() => Promise.all(work));
  }
  await condition(allHandlersFinished);
  const history: Omit<TuningHistory, 'best'> & { readonly best: number | null } = {
    format: 'millrace-tuning/1',
    metric,
    direction,
    search: input.search,
    seed,
    parameters: space.parameters.map(describeParameter),
    trials: [...ended.values()].sort((a, b) => a.trial - b.trial),
    best: best?.trial ?? null,
  };
  const stage = { name: input.stage, kind: 'tune', pool: 'cpu', status: 'running' as const, ordinal: input.ordinal };
  const closing = { history, candidate: best?.candidate ?? null, cancelled: stopping === '' ? null : stopping };
  const { output } = await callStage<TuneOutput>(run, stage, 'tune', closing, {});
  return output;
}

/** What is known of the trials up to this one, in their order. */
function known(ended: ReadonlyMap<number, TrialRecord>, upTo: number): Observation[] {
  const observations: Observation[] = [];
  for (let trial = 1; trial <= upTo; trial++) {
    const record = ended.get(trial);
    if (record !== undefined && record.state !== 'cancelled')
      observations.push({ values: record.values, state: record.state, value: record.value, rungs: record.rungs });
  }
  return observations;
}

function spent(budget: TuningBudget, ended: ReadonlyMap<number, TrialRecord>, upTo: number, startedAtMs: number): string | null {
  if (budget.timeMs !== undefined && Date.now() - startedAtMs >= budget.timeMs) return 'its time was over';
  const limits = [
    ['cpuSeconds', 'its CPU seconds were used'],
    ['gpuSeconds', 'its GPU seconds were used'],
    ['cost', 'its money was spent'],
  ] as const;
  for (const [figure, why] of limits) {
    const limit = budget[figure];
    if (limit === undefined) continue;
    let used = 0;
    for (let trial = 1; trial <= upTo; trial++) used += ended.get(trial)?.[figure] ?? 0;
    if (used >= limit) return why;
  }
  return null;
}

function isBetter(
  a: { readonly trial: number; readonly value: number },
  b: { readonly trial: number; readonly value: number } | null,
  direction: Direction,
): boolean {
  if (b === null) return true;
  if (a.value === b.value) return a.trial < b.trial;
  return direction === 'minimize' ? a.value < b.value : a.value > b.value;
}

function summaryOf(state: TuningState, metric: string): string {
  const parts = [`${String(state.ended)} of ${String(state.trials)} trials`];
  if (state.best !== null) parts.push(`best ${metric} ${state.best.value.toPrecision(4)} (trial ${String(state.best.trial)})`);
  if (state.stopped > 0) parts.push(`${String(state.stopped)} stopped early`);
  if (state.failed > 0) parts.push(`${String(state.failed)} failed`);
  return parts.join(', ');
}

/** @throws ApplicationFailure with every problem: the update is refused, nothing changes. */
function checkSteering(change: unknown, thing: TunedThing, method: SearchMethod): void {
  try {
    const parsed = SteerSchema.safeParse(change);
    if (!parsed.success) {
      throw new MillraceError('INVALID_PARAMETERS', 'The steering does not fit.', {
        problems: parsed.error.issues.map(({ path, message }) => ({ path: path.map(String).join('.'), message })),
      });
    }
    if (parsed.data.space !== undefined) compileSpace({ ...thing, space: parsed.data.space }, method);
  } catch (error) {
    const report = reportOf(error);
    throw ApplicationFailure.create({ type: report.code, message: report.message, nonRetryable: true, details: [report] });
  }
}

function describeParameter({ name, distribution }: SearchParameter): TuningHistory['parameters'][number] {
  if (distribution.kind === 'categorical') return { name, kind: 'categorical', options: [...distribution.options] };
  const { kind, low, high, log } = distribution;
  return { name, kind, low, high, log };
}

const defined = <T extends object>(fields: T): Partial<{ [K in keyof T]: Exclude<T[K], undefined> }> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<{ [K in keyof T]: Exclude<T[K], undefined> }>;

/** The run whose stages the trials are, as the code that calls stages wants it. Nothing here is published, so nothing is undone. */
function runOfTrials({ runId, pipeline, priority }: TuningInput): Run {
  return {
    runId,
    pipeline,
    purpose: undefined,
    ...(priority === undefined ? {} : { priority }),
    stages: [],
    gates: [],
    compensations: [],
    undoProblems: [],
    rollouts: new Map(),
    searchAttributes: [],
    stageShown: { name: '', resting: false },
    status: 'running',
    paused: false,
  };
}
