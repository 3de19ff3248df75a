import { ChildWorkflowCancellationType, condition, ParentClosePolicy, setHandler, startChild, workflowInfo } from '@temporalio/workflow';
import type { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Features } from '../contracts/features.ts';
import { tuningWorkflowId } from '../contracts/queues.ts';
import type { CandidateRef, DatasetRef } from '../contracts/references.ts';
import type { BranchDimension, SearchSpace } from '../contracts/search-space.ts';
import { type Metric, MetricSchema, type TrainerSpec } from '../contracts/stages.ts';
import {
  type SearchMethod,
  SearchMethodSchema,
  StopRuleSchema,
  type TuningBudget,
  TuningBudgetSchema,
  TuningSettingsSchema,
  type TuneOutput,
} from '../contracts/tuning.ts';
import { compileSpace, probeTrials, type TunedThing } from '../ml/search/space.ts';
import { type Duration, durationMs } from './duration.ts';
import { addStage, asStage, currentRun, runActivities, showProgress, type StageOptions } from './run.ts';
import { pauseTuningSignal, type TuningInput, tuningProgressSignal, type tuning } from './tuning.ts';

type Method = SearchMethod['method'];

export interface TuneOptions<Trainers = TrainerSpec> extends StageOptions {
  readonly train: DatasetRef;
  /** Rows by which trials are compared; never the test set. */
  readonly validation: DatasetRef;
  readonly target: string;
  /** A recipe, or `choice({ plain: …, withText: … })` of several. */
  readonly features: Features | BranchDimension<Features>;
  readonly task?: 'auto' | 'binary' | 'multiclass' | 'regression' | 'ranking';
  /** Column of the groups within which rows are ranked. */
  readonly group?: string;
  /** Column of the training rows' weights, at least 0. */
  readonly weight?: string;
  /** What is made best, on the validation rows. */
  readonly metric: Metric;
  /** Parameters by their paths; of several trainers a space for each, by the trainer's name. */
  readonly space: Trainers extends TrainerSpec ? SearchSpace : { readonly [Name in keyof Trainers]?: SearchSpace };
  /** Default `tpe`. `{ method: 'grid', points: 5 }` and the like set more. */
  readonly search?: Method | z.input<typeof SearchMethodSchema>;
  /** 1 to 1,000. */
  readonly trials: number;
  /** Trials at once. A search learns from trial n − parallel and earlier ones only. Default 1. */
  readonly parallel?: number;
  /** Stops trials early that are worse than others: by the median, or by successive halving. Default: none is stopped. */
  readonly scheduler?: 'median' | 'asha' | z.input<typeof StopRuleSchema>;
  /** After which no trial begins any more. Costs are in the currency of the configuration's rates. */
  readonly budget?: { readonly time?: Duration; readonly cpuSeconds?: number; readonly gpuSeconds?: number; readonly cost?: number };
  /** Of the search and of every training. Default 0. */
  readonly seed?: number;
  /** Trials of an earlier run to learn from: of the last run of this pipeline that completed this tuning, or of a run by its id. */
  readonly warmStart?: 'last' | { readonly run: string };
  /** Train each trial on this many rows, drawn at random. Default: all. */
  readonly sampleRows?: number;
  readonly validationRows?: number;
  readonly threads?: number;
}

export interface Tuned extends Omit<TuneOutput, 'kind'> {
  readonly best: CandidateRef;
}

/** Stages whose tuning tells this run how far it is. */
const listening = new Map<string, (summary: string) => void>();

/**
 * Searches for the parameters whose candidate is best on the validation rows, and gives that candidate. Each trial is a
 * stage of the run. The same seed gives the same trials, whatever dies meanwhile, and however long each takes.
 *
 * @throws INVALID_PARAMETERS with every problem of space and settings, before anything runs; TUNING_FAILED where no trial
 * has completed.
 */
export async function tune(trainer: TrainerSpec, options: TuneOptions): Promise<Tuned>;
export async function tune<Trainers extends Readonly<Record<string, TrainerSpec>>>(trainers: Trainers, options: TuneOptions<Trainers>): Promise<Tuned>;
export async function tune(trainer: TunedThing['trainer'], options: TuneOptions | TuneOptions<Readonly<Record<string, TrainerSpec>>>): Promise<Tuned> {
  const {
    train,
    validation,
    target,
    features,
    task = 'auto',
    group,
    weight,
    metric,
    space,
    search,
    trials,
    parallel,
    scheduler,
    budget,
    seed = 0,
    warmStart,
    ...more
  } = options;
  const { sampleRows, validationRows, threads, name = 'tune', ...stageOptions } = more;
  const run = currentRun();
  const stage = addStage(run, 'tune', name, stageOptions.pool ?? (stageOptions.gpu ? 'gpu' : 'cpu'));
  return asStage(run, stage, async () => {
    const checked = checkOptions({ metric, search, scheduler, budget, trials, parallel, seed });
    const thing: TunedThing = { trainer, features, space };
    const compiled = compileSpace(thing, checked.search);
    const { warm } = await runActivities.planTuning({
      pipeline: run.pipeline,
      stage: stage.name,
      metric,
      trainers: probeTrials(compiled).map((values) => compiled.resolve(values).trainer),
      ...(warmStart === undefined ? {} : { warmStart }),
    });
    const input: TuningInput = {
      runId: run.runId,
      pipeline: run.pipeline,
      workflowId: workflowInfo().workflowId,
      stage: stage.name,
      ordinal: run.stages.indexOf(stage),
      ...(run.priority === undefined ? {} : { priority: run.priority }),
      thing,
      training: {
        train,
        validation,
        target,
        task,
        seed,
        ...(group === undefined ? {} : { group }),
        ...(weight === undefined ? {} : { weight }),
        ...(sampleRows === undefined ? {} : { sampleRows }),
        ...(validationRows === undefined ? {} : { validationRows }),
        ...(threads === undefined ? {} : { threads }),
      },
      metric,
      search: checked.search,
      seed,
      settings: checked.settings,
      options: stageOptions,
      warm,
    };
    listening.set(stage.name, (summary) => {
      stage.summary = summary;
      showProgress(run);
    });
    setHandler(tuningProgressSignal, ({ stage: from, summary }) => listening.get(from)?.(summary));
    const child = await startChild<typeof tuning>('tuning', {
      workflowId: tuningWorkflowId(run.runId, stage.name),
      args: [input],
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    });
    let isDone = false;
    const result = child.result().finally(() => {
      isDone = true;
    });
    const passPauses = async (): Promise<void> => {
      for (let paused = false; ; ) {
        await condition(() => isDone || run.paused !== paused);
        if (isDone) return;
        paused = run.paused;
        await child.signal(pauseTuningSignal, paused);
      }
    };
    const [tuned] = await Promise.all([result, passPauses()]);
    const { kind: _kind, ...output } = tuned;
    return { output, summary: told(output, metric) };
  });
}

function told({ value, trial, trials, stopped, failed }: Tuned, metric: string): string {
  const others = [stopped > 0 ? `${String(stopped)} stopped early` : '', failed > 0 ? `${String(failed)} failed` : ''].filter(Boolean);
  return `${metric} ${value.toPrecision(4)} in trial ${String(trial)} of ${String(trials)}${others.length > 0 ? ` (${others.join(', ')})` : ''}`;
}

interface Given {
  readonly metric: unknown;
  readonly search: TuneOptions['search'];
  readonly scheduler: TuneOptions['scheduler'];
  readonly budget: TuneOptions['budget'];
  readonly trials: unknown;
  readonly parallel: unknown;
  readonly seed: unknown;
}

function checkOptions(given: Given): { readonly search: SearchMethod; readonly settings: TuningInput['settings'] } {
  const problems: Problem[] = [];
  const take = <Schema extends z.ZodType>(path: string, schema: Schema, value: unknown): z.output<Schema> | undefined => {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    problems.push(
      ...parsed.error.issues.map((issue) => ({
        path: [path, ...issue.path.map(String)].filter(Boolean).join('.'),
        message: issue.message,
        found: value === undefined ? 'nothing' : JSON.stringify(value),
      })),
    );
    return undefined;
  };
  const { search = 'tpe', scheduler, budget = {}, trials, parallel = 1, seed, metric } = given;
  take('metric', MetricSchema, metric);
  const method = take('search', SearchMethodSchema, typeof search === 'string' ? { method: search } : search);
  const stopRule =
    scheduler === undefined ? null : (take('scheduler', StopRuleSchema, typeof scheduler === 'string' ? { rule: scheduler } : scheduler) ?? null);
  const { time, ...figures } = budget;
  const limits: TuningBudget | undefined = take('budget', TuningBudgetSchema, { ...figures, ...(time === undefined ? {} : { timeMs: durationMs(time) }) });
  const counts = take('', TuningSettingsSchema, { trials, parallel, seed });
  if (problems.length > 0 || method === undefined || limits === undefined || counts === undefined)
    throw new MillraceError('INVALID_PARAMETERS', 'The settings of the tuning do not fit.', { problems });
  return { search: method, settings: { trials: counts.trials, parallel: counts.parallel, budget: limits, stopRule } };
}
