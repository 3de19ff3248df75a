/** What pipeline authors import from `millrace`. Safe in workflow code: no IO is reachable from here. */
export {
  type CleanRule,
  clip,
  deduplicate,
  dropOutliers,
  extract,
  fillFromMajority,
  impute,
  lowerCase,
  mapValues,
  normalizeUnicode,
  nullIf,
  parseDate,
  parseNumber,
  replaceText,
  trim,
  upperCase,
} from '../contracts/clean-rules.ts';
export { direction, invariance, mustPass } from '../contracts/behaviour-tests.ts';
export { type DecisionsInput, predicted, when } from '../contracts/decisions.ts';
export { MillraceError } from '../contracts/errors.ts';
export * from '../contracts/expectations.ts';
export { categorical, cross, datetime, type Features, numeric, passthrough, text } from '../contracts/features.ts';
export { rule, votes } from '../contracts/labels.ts';
export type {
  CandidateRef,
  DatasetRef,
  DeploymentRef,
  EvaluationRef,
  FeatureSetRef,
  FoldsRef,
  SplitRef,
  VersionRef,
  WinnerRef,
} from '../contracts/references.ts';
export { call, col, drop, hashed, keep, type RowTransform, rename, set } from '../contracts/row-transforms.ts';
export type { Purpose } from '../contracts/run.ts';
export { choice, int, logUniform, type SearchSpace, uniform } from '../contracts/search-space.ts';
export { secret } from '../contracts/secrets.ts';
export { predictions, SourceSchema } from '../contracts/source.ts';
export { batchPredict, type BatchPredictOptions, precompute, type PrecomputeOptions, table } from './batch-predictions.ts';
export { businessMetrics } from './business-metrics.ts';
export { approval, type ApprovalOptions } from './approval.ts';
export { definePipeline, type Pipeline, type PipelineOptions } from './define-pipeline.ts';
export { type Duration, durationMs } from './duration.ts';
export { ensemble, type EnsembleOptions } from './ensemble.ts';
export { featureView, type FeatureViewOptions, materialize, over, trainingSet } from './feature-view.ts';
export { label, type LabelOptions, type PeopleOptions } from './label.ts';
export { loadTest, type LoadTestOptions } from './load-test.ts';
export { newestLabelled } from './newest-labelled.ts';
export { newFiles, newLabels, newRows, newSnapshot, notification, schedule } from './retrain-on.ts';
export { onRollback, type StageOptions } from './run.ts';
export {
  champion,
  clean,
  deploy,
  evaluate,
  importModel,
  ingest,
  kFold,
  monitor,
  register,
  registeredVersion,
  select,
  split,
  train,
  type TrainOptions,
  validate,
} from './stages.ts';
export { abTest, blueGreen, canary, replace, shadow } from './rollouts.ts';
export { rows, type RowsOptions } from './rows.ts';
export { steps } from './steps.ts';
export { runTrigger, trainingWindow, type TrainingWindowRule } from './training-window.ts';
export { tune, type TuneOptions, type Tuned } from './tune.ts';
export { command, gbdt, linear, mlp, python } from './trainers.ts';
