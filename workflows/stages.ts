import { condition, upsertSearchAttributes } from '@temporalio/workflow';
import type { z } from 'zod';
import type { CleanRule } from '../contracts/clean-rules.ts';
import type { DecisionsInput } from '../contracts/decisions.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Expectations } from '../contracts/expectations.ts';
import type { Features } from '../contracts/features.ts';
import type { MonitorOptionsInput } from '../contracts/monitoring.ts';
import type { CandidateRef, DatasetRef, DeploymentRef, EvaluationRef, FoldsRef, SplitRef, VersionRef, WinnerRef } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { SourceInput } from '../contracts/source.ts';
import type { FoldOptionsInput, SplitOptionsInput } from '../contracts/split.ts';
import type { ThresholdRuleSchema } from '../contracts/evaluation.ts';
import type { EvaluateInputSchema, IngestInputSchema, Metric, TrainerSpec } from '../contracts/stages.ts';
import type { RolloutStrategyInput } from '../contracts/rollouts.ts';
import { type Duration, durationMs } from './duration.ts';
import { replace } from './rollouts.ts';
import { asStage, callStage, currentRun, openStage, runActivities, runStage, type StageOptions } from './run.ts';

/** Reads the source once into an immutable snapshot (Parquet, content-addressed) and profiles it. */
export function ingest(
  input: Omit<z.input<typeof IngestInputSchema>, 'source' | 'name'> & { readonly source: SourceInput; readonly name?: string },
  options?: StageOptions,
): Promise<DatasetRef> {
  return runStage('ingest', 'ingest', { transforms: [], ...input, name: input.name ?? currentRun().pipeline }, options);
}

/**
 * Checks every expectation in one scan and returns the dataset when all of severity `fail` hold. With `quarantine`, rows
 * that fail one that looks at single rows are put into a snapshot of their own, `NAME-quarantine`, and the dataset that
 * is returned holds the others; `{ atMost: 0.1 }` fails where more than a tenth of the rows would go. With `target`, its
 * profile says how strongly the other columns go along with that one.
 *
 * @throws EXPECTATIONS_FAILED with every expectation that does not hold; COLUMN_MISSING where there is no such target.
 */
export function validate(
  dataset: DatasetRef,
  input: { readonly expectations: Expectations; readonly target?: string; readonly quarantine?: boolean | { readonly atMost: number } },
  options?: StageOptions,
): Promise<DatasetRef> {
  return runStage('validate', 'validate', { dataset, ...input }, options);
}

export interface CleanStageOptions extends StageOptions {
  /** Rows that `impute`, `clip` and `dropOutliers` take their figures from: training rows. Not with parts, which have their own. */
  readonly fitOn?: DatasetRef;
}

/**
 * Cleans by a recipe: rules and row transforms, in order. What they do to a row alone is done to requests too. Given the parts of a
 * split, figures come from the training part and are applied to all three; rules over many rows (de-duplicate, drop outliers, fill from
 * a majority) change the training part only.
 */
export function clean(parts: SplitRef, rules: readonly (CleanRule | RowTransform)[], options?: StageOptions): Promise<SplitRef>;
export function clean(dataset: DatasetRef, rules: readonly (CleanRule | RowTransform)[], options?: CleanStageOptions): Promise<DatasetRef>;
export async function clean(
  data: DatasetRef | SplitRef,
  rules: readonly (CleanRule | RowTransform)[],
  { fitOn, ...options }: CleanStageOptions = {},
): Promise<DatasetRef | SplitRef> {
  if ('kind' in data) return runStage('clean', 'clean', { dataset: data, rules, ...(fitOn === undefined ? {} : { fitOn }) }, options);
  const { train: dataset, validation, test } = data;
  const cleaned = await runStage<{ dataset: DatasetRef; validation: DatasetRef; test: DatasetRef }>(
    'clean',
    'clean',
    { dataset, rules, fitOn: dataset, alongside: { validation, test } },
    options,
  );
  return { train: cleaned.dataset, validation: cleaned.validation, test: cleaned.test };
}

/**
 * Splits into train, validation and test. Statistics see the training part only. Leaks between the parts are looked for
 * and told, or end the run.
 *
 * @throws SPLIT_IMPOSSIBLE where a part would have no row; SPLIT_LEAKS where a leak is found that may not be.
 */
export function split(dataset: DatasetRef, how: SplitOptionsInput, options?: StageOptions): Promise<SplitRef> {
  return runStage('split', 'split', { dataset, options: how }, options);
}

/**
 * Makes k pairs of training and validation parts, so that each row is judged once: by a model that has not seen it.
 *
 * @throws SPLIT_IMPOSSIBLE where a part would have no row; SPLIT_LEAKS where a leak is found that may not be.
 */
export function kFold(dataset: DatasetRef, how: FoldOptionsInput, options?: StageOptions): Promise<FoldsRef> {
  return runStage('fold', 'k-fold', { dataset, options: how }, options);
}

export interface TrainOptions extends StageOptions {
  readonly trainer: TrainerSpec;
  /** The column that is learnt. */
  readonly target: string;
  readonly features: Features;
  /** Rows for early stopping and the threshold; never the test set. */
  readonly validation?: DatasetRef;
  /** Default: from the target's values. */
  readonly task?: 'auto' | 'binary' | 'multiclass' | 'regression' | 'ranking';
  /** Column of the groups within which rows are ranked, e.g. the query's: the target is then how relevant a row is, from 0. For `gbdt`. */
  readonly group?: string;
  /** Column of the training rows' weights, at least 0: how much each counts. Not a feature. For `gbdt`, `linear` and `mlp`. */
  readonly weight?: string;
  /** Train on this many rows, drawn at random. Default: all. */
  readonly sampleRows?: number;
  /** Score on this many validation rows while training, drawn likewise. Default: all. */
  readonly validationRows?: number;
  /** Default 0. */
  readonly seed?: number;
  readonly threads?: number;
  /** Goes on from an earlier model of the trainer `linear`, with the same features and target, on these rows. */
  readonly from?: CandidateRef | WinnerRef | VersionRef;
}

/** They hold all rows at once. */
const WITHOUT_BATCHES: ReadonlySet<string> = new Set(['gbdt', 'linear']);

/** Trains one candidate: features fitted on the training rows and compiled, with the model, into one ONNX graph. */
export function train(dataset: DatasetRef, options: TrainOptions): Promise<CandidateRef> {
  const { trainer, target, features, validation, task = 'auto', group, weight, sampleRows, validationRows, seed = 0, threads, from, ...stage } = options;
  const batches = stage.onOutOfMemory?.findIndex((step) => typeof step !== 'string' && step.batch !== 1) ?? -1;
  if (batches >= 0 && WITHOUT_BATCHES.has(trainer.name)) {
    throw new MillraceError('INVALID_PARAMETERS', `The trainer ${trainer.name} has no batches that could be smaller.`, {
      problems: [{ path: `onOutOfMemory.${String(batches)}`, message: 'is for trainers that have batches', fix: 'Name a pool with more memory instead.' }],
    });
  }
  const input = {
    train: dataset,
    trainer,
    target,
    features,
    task,
    seed,
    ...(group === undefined ? {} : { group }),
    ...(weight === undefined ? {} : { weight }),
    ...(validation ? { validation } : {}),
    ...(sampleRows ? { sampleRows } : {}),
    ...(validationRows ? { validationRows } : {}),
    ...(threads ? { threads } : {}),
    ...(from ? { from: from.kind === 'winner' ? from.candidate.predictor : from.predictor } : {}),
  };
  return runStage('train', `train-${trainer.name}`, input, stage);
}

/**
 * Picks the candidate that is best on the validation set. The test set is for the winner alone. With `threshold` (binary)
 * each is judged, and the winner answers, from the probability on that is best for it on these rows: `'f1'`, `'accuracy'`,
 * least `{ costs }`, or a target `{ precision }` or `{ recall }`.
 *
 * @throws ACCEPTANCE_FAILED where no threshold reaches the target.
 */
export function select(
  candidates: readonly CandidateRef[],
  input: { readonly on: DatasetRef; readonly metric: Metric; readonly threshold?: z.input<typeof ThresholdRuleSchema> },
  options?: StageOptions,
): Promise<WinnerRef> {
  return runStage('select', 'select', { candidates, ...input }, options);
}

/**
 * The champion of a model, as an acceptance rule's opponent on the same rows. Alone: the candidate's figure must not be
 * worse, be it by noise. `by`: better by at least this. `confidence`: a paired test must be so sure that it is better (by
 * more than `by`). `notWorse`: a paired test must be sure (default 0.95) that it is not worse by more than this.
 */
export const champion = (
  model: string,
  more: { readonly by?: number; readonly confidence?: number; readonly notWorse?: number } = {},
): { readonly champion: string; readonly by?: number; readonly confidence?: number; readonly notWorse?: number } => ({ champion: model, ...more });

/**
 * Judges a candidate on rows that no training and no selection has seen: metrics with intervals, curves, slices (worst
 * first), your own figures, tests of behaviour, the champion on the same rows, importances. All of it stands in the
 * evaluation's report; rules of `accept` and `tests` decide whether the run goes on, those of `accept.warn` only tell.
 *
 * @throws ACCEPTANCE_FAILED naming each rule with the value found.
 */
export function evaluate(
  candidate: WinnerRef | CandidateRef,
  input: Omit<z.input<typeof EvaluateInputSchema>, 'candidate' | 'on'> & { readonly on: DatasetRef },
  options?: StageOptions,
): Promise<EvaluationRef> {
  return runStage('evaluate', 'evaluate', { candidate, ...input }, options);
}

/**
 * Gives the judged candidate a version number in the registry, as the model's alias `candidate`.
 *
 * @throws UNSERVED_COLUMN where the model reads a column that a step or a rule over many rows made or changed, and that is not in `acceptUnserved`.
 */
export function register(
  judged: EvaluationRef | CandidateRef,
  input: { readonly model: string; readonly description?: string; readonly acceptUnserved?: readonly string[] },
  options?: StageOptions,
): Promise<VersionRef> {
  upsertSearchAttributes({ MillraceModel: [input.model] });
  return runStage(
    'register',
    'register',
    { ...(judged.kind === 'evaluation' ? { evaluation: judged } : { candidate: judged }), ...input },
    { ...options, cache: false },
  );
}

/** Takes a bare ONNX file of the project folder as a candidate. */
export function importModel(
  input: { readonly path: string; readonly sampleRows?: readonly Readonly<Record<string, unknown>>[] },
  options?: StageOptions,
): Promise<CandidateRef> {
  return runStage('importModel', 'import-model', input, options);
}

/**
 * A version of the registry: `NAME`, `NAME@3` or `NAME@ALIAS`; without a version the champion, or the newest where there is
 * none. One that an MLflow client registered becomes a predictor by it, when there is an ONNX file in it.
 *
 * @throws NOT_FOUND; MODEL_INVALID for a version whose files are no model that can be served.
 */
export function registeredVersion(
  model: string,
  input: { readonly sampleRows?: readonly Readonly<Record<string, unknown>>[] } = {},
  options?: StageOptions,
): Promise<VersionRef> {
  return runStage('registeredVersion', 'registered-version', { model, ...input }, { ...options, cache: false });
}

/**
 * Hands the version to the endpoint's own workflow and waits until its rollout has ended.
 *
 * @throws ROLLED_BACK when a guard or a person took it back, CONFLICT where another rollout is under way and it was not to wait, DEPLOY_FAILED when it could not be brought into service.
 */
export async function deploy(
  version: VersionRef,
  input: {
    readonly endpoint: string;
    /** Default: `replace()`. */
    readonly rollout?: RolloutStrategyInput;
    readonly decide?: DecisionsInput;
    /** When another rollout of the endpoint is under way: `queue` (the default) waits for its end, `refuse` fails. */
    readonly whenBusy?: 'queue' | 'refuse';
  },
  options?: StageOptions,
): Promise<DeploymentRef> {
  const run = currentRun();
  const stageOptions = { ...options, cache: false };
  const stage = openStage(run, 'deploy', 'deploy', stageOptions);
  return asStage(run, stage, async () => {
    const { output: deployment } = await callStage<DeploymentRef>(
      run,
      stage,
      'deploy',
      {
        version,
        endpoint: input.endpoint,
        rollout: input.rollout ?? replace(),
        ...(input.decide === undefined ? {} : { decide: input.decide }),
        ...(input.whenBusy === undefined ? {} : { whenBusy: input.whenBusy }),
      },
      stageOptions,
    );
    const ended = (): { readonly status: string; readonly reason: string } | undefined => run.rollouts.get(deployment.rollout);
    while (!ended()) {
      // the endpoint signals; should its signal be lost with a server, the record tells
      if (await condition(() => ended() !== undefined, '15 seconds')) break;
      const outcome = await runActivities.rolloutOutcome({ rollout: deployment.rollout });
      if (outcome) run.rollouts.set(outcome.rollout, outcome);
    }
    const outcome = ended();
    if (outcome?.status === 'rolled_back')
      throw new MillraceError('ROLLED_BACK', `${input.endpoint} took version ${String(version.version)} back: ${outcome.reason}`);
    if (outcome?.status !== 'completed')
      throw new MillraceError('DEPLOY_FAILED', `${input.endpoint} could not serve version ${String(version.version)}: ${outcome?.reason ?? ''}`);
    return { output: deployment, summary: outcome.reason };
  });
}

type QualityOptions = Exclude<NonNullable<MonitorOptionsInput['quality']>, false>;
type MonitorInput = Omit<MonitorOptionsInput, 'endpoint' | 'everyMs' | 'lengthMs' | 'quality'> & {
  /** How often a window is looked at; it runs from where the last one ended. */
  readonly every: Duration;
  /** A window is as long as this and ends now: it overlaps with the one before. */
  readonly length?: Duration;
  /** `lateness`: for how long after its end a window is looked at again when labels or outcomes came for it. Default 7 days. */
  readonly quality?: false | (Omit<QualityOptions, 'latenessMs'> & { readonly lateness?: Duration });
  /** Predictions that people shall look at, put into a label queue: their answers become labels of the requests. */
  readonly review?: { readonly queue: string; readonly between: readonly [number, number]; readonly atMost?: number };
};

/**
 * Watches the endpoint by a Temporal Schedule `monitor/<endpoint>`: drift against the training profile or earlier requests, quality by labels and
 * outcomes, also late ones, what the training path answers, and the training data's expectations, window by window. What is the matter is an alert;
 * what `retrainOn` names asks for a retraining.
 */
export function monitor(endpoint: string, input: MonitorInput, options?: StageOptions): Promise<void> {
  const { every, length, quality, ...rest } = input;
  const { lateness, ...judged } = quality === false || quality === undefined ? {} : quality;
  return runStage(
    'monitor',
    'monitor',
    {
      endpoint,
      everyMs: durationMs(every),
      ...(length === undefined ? {} : { lengthMs: durationMs(length) }),
      ...(quality === undefined
        ? {}
        : { quality: quality === false ? false : { ...judged, ...(lateness === undefined ? {} : { latenessMs: durationMs(lateness) }) } }),
      ...rest,
    },
    { ...options, cache: false },
  );
}
