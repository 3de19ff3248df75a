import { z } from 'zod';
import { CleanRuleSchema } from './clean-rules.ts';
import { DecisionsSchema } from './decisions.ts';
import { EvaluationOptionsShape, MetricSchema, ThresholdRuleSchema } from './evaluation.ts';
import { ExpectationsSchema } from './expectations.ts';
import { FeaturesSchema } from './features.ts';
import { NameSchema, Sha256Schema } from './ids.ts';
import type { Metric } from './metrics.ts';
import { MonitorOptionsSchema } from './monitoring.ts';
import { CandidateRefSchema, DatasetRefSchema, EvaluationRefSchema, VersionRefSchema, WinnerRefSchema } from './references.ts';
import { RolloutStrategySchema } from './rollouts.ts';
import { RowTransformSchema } from './row-transforms.ts';
import { SourceSchema } from './source.ts';
import { FoldOptionsSchema, SplitOptionsSchema } from './split.ts';
import { WindowRuleSchema } from './training-window.ts';

/** Inputs of the stages, as they stand in workflow history. Each is checked again by the activity that receives it. */
export const IngestInputSchema = z.object({
  source: SourceSchema,
  name: NameSchema,
  /** Personal columns, and what is done to them before anything is written. */
  pii: z.record(z.string().min(1), z.enum(['hash', 'mask', 'drop'])).default({}),
  transforms: z.array(RowTransformSchema).default([]),
  /** Rows set aside for a test that is the same in every run: drawn by a hash of these columns (default: of all), so that a row's lot never changes. */
  golden: z
    .object({ fraction: z.number().gt(0).max(0.5), by: z.array(z.string().min(1)).min(1).optional(), seed: z.number().int().nonnegative().default(0) })
    .optional(),
  /** Go on from the last snapshot of this name: read only rows above its watermark, or files it has not seen. */
  increment: z.discriminatedUnion('by', [z.object({ by: z.literal('watermark'), column: z.string().min(1) }), z.object({ by: z.literal('files') })]).optional(),
  /** Who answers for the data. Shown in the catalogue. */
  owner: z.string().min(1).max(200).optional(),
});

export const ValidateInputSchema = z.object({
  dataset: DatasetRefSchema,
  expectations: ExpectationsSchema,
  /** The column that is to be predicted: the profile then says how strongly the others go along with it. */
  target: z.string().min(1).optional(),
  /** Put rows that fail a row-wise expectation of severity `fail` into a snapshot of their own and go on with the others. */
  quarantine: z.union([z.boolean(), z.object({ /** Largest share of the rows that may be put aside. */ atMost: z.number().gt(0).lte(1) })]).default(false),
});

export const CleanInputSchema = z.object({
  dataset: DatasetRefSchema,
  /** In order: rules of a recipe, and plain row transforms. */
  rules: z
    .array(z.union([CleanRuleSchema, RowTransformSchema]))
    .min(1)
    .max(500),
  /** Rows that fitted rules take their figures from. Default: none, and such rules are refused. */
  fitOn: DatasetRefSchema.optional(),
  /** Datasets that get the row-wise rules alike, with the same fitted figures; rules over many rows leave them as they are. */
  alongside: z.record(z.string(), DatasetRefSchema).default({}),
});

export const SplitInputSchema = z.object({ dataset: DatasetRefSchema, options: SplitOptionsSchema });
export const FoldInputSchema = z.object({ dataset: DatasetRefSchema, options: FoldOptionsSchema });

export const TrainingWindowInputSchema = z.object({ dataset: DatasetRefSchema, rule: WindowRuleSchema });

/** Parameters are checked by the trainer's own schema, where it runs. */
export const TrainerSpecSchema = z.object({ name: z.enum(['gbdt', 'linear', 'mlp', 'python', 'command']), parameters: z.record(z.string(), z.unknown()) });
export type TrainerSpec = z.infer<typeof TrainerSpecSchema>;

export const TrainInputSchema = z.object({
  train: DatasetRefSchema,
  /** Early stopping and thresholds see this one. */
  validation: DatasetRefSchema.optional(),
  trainer: TrainerSpecSchema,
  target: z.string().min(1),
  task: z.enum(['auto', 'binary', 'multiclass', 'regression', 'ranking']).default('auto'),
  /** Column of the groups within which rows are ranked. Makes the task a ranking. */
  group: z.string().min(1).optional(),
  features: FeaturesSchema,
  /** Column of the rows' weights, at least 0. */
  weight: z.string().min(1).optional(),
  /** Train on this many rows, drawn at random with the seed. Default: all. */
  sampleRows: z.number().int().min(1).optional(),
  /** Score on this many validation rows, drawn likewise. Default: all. */
  validationRows: z.number().int().min(1).optional(),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(0),
  threads: z.number().int().min(1).max(256).optional(),
  /** Predictor that training goes on from: the same features and target, other rows. */
  from: Sha256Schema.optional(),
  /** Share of the trainer's batch size; less than 1 where a whole batch did not fit into memory. */
  batchShare: z.number().gt(0).lte(1).optional(),
});

export { METRICS, MetricSchema } from './evaluation.ts';
export type { Metric };

export const SelectInputSchema = z.object({
  candidates: z.array(CandidateRefSchema).min(1).max(1000),
  on: DatasetRefSchema,
  metric: MetricSchema,
  /** Binary: each candidate is judged, and the winner answers, from the threshold that is best for this on these rows. Default: as trained. */
  threshold: ThresholdRuleSchema.optional(),
});

export const EvaluateInputSchema = z.object({
  candidate: z.union([WinnerRefSchema, CandidateRefSchema]),
  on: DatasetRefSchema,
  ...EvaluationOptionsShape,
});

export const RegisterInputSchema = z.object({
  evaluation: EvaluationRefSchema.optional(),
  candidate: CandidateRefSchema.optional(),
  model: NameSchema,
  description: z.string().max(5000).optional(),
  /** Columns that the model reads, that were made without a counterpart for requests, and that whoever asks will send made the same way. */
  acceptUnserved: z.array(z.string().min(1)).default([]),
});

/** A bare ONNX file as a candidate: read from the project folder, checked, wrapped into a predictor. */
export const ImportModelInputSchema = z.object({ path: z.string().min(1), sampleRows: z.array(z.record(z.string(), z.unknown())).max(100).default([]) });

/** A version of the registry, whoever registered it; one of an MLflow client's becomes a predictor by it. */
export const RegisteredVersionInputSchema = z.object({
  /** `NAME`, `NAME@3` or `NAME@ALIAS`; without a version: the champion, or the newest where there is none. */
  model: z.string().min(1).max(600),
  /** For an MLflow client's: rows that it is tried with. Default: one of zeros. */
  sampleRows: z.array(z.record(z.string(), z.unknown())).max(100).default([]),
});

export const DeployInputSchema = z.object({
  version: VersionRefSchema,
  endpoint: NameSchema,
  rollout: RolloutStrategySchema,
  /** When another rollout of the endpoint is under way: wait for its end, or be refused. */
  whenBusy: z.enum(['queue', 'refuse']).default('queue'),
  /** What is done with its predictions. */
  decide: DecisionsSchema.optional(),
});

export const ReviewSchema = z.object({
  /** A standing queue; made with the model's classes where it is not there. */
  queue: NameSchema,
  /** Range of the score (probability of the positive class; of several classes the greatest), both ends in it. */
  between: z.tuple([z.number().min(0).max(1), z.number().min(0).max(1)]).refine(([low, high]) => low <= high, 'the first must not be above the second'),
  /** At most so many a window, the least sure first. */
  atMost: z.number().int().min(1).max(1000).default(50),
});
export type Review = z.infer<typeof ReviewSchema>;

export const MonitorInputSchema = MonitorOptionsSchema.extend({
  /** Predictions that people shall look at: those whose score lies in a range, put into a label queue window by window. */
  review: ReviewSchema.optional(),
});

export const ApproveInputSchema = z.object({ version: VersionRefSchema, gate: NameSchema });

/** A user's own step: which function of which pipeline's steps file, with JSON arguments. */
export const StepInputSchema = z.object({ pipeline: z.string(), step: z.string(), args: z.array(z.unknown()) });

export type IngestInput = z.infer<typeof IngestInputSchema>;
export type ValidateInput = z.infer<typeof ValidateInputSchema>;
export type CleanInput = z.infer<typeof CleanInputSchema>;
export type SplitInput = z.infer<typeof SplitInputSchema>;
export type TrainInput = z.infer<typeof TrainInputSchema>;
export type SelectInput = z.infer<typeof SelectInputSchema>;
export type EvaluateInput = z.infer<typeof EvaluateInputSchema>;
export type RegisterInput = z.infer<typeof RegisterInputSchema>;
export type ImportModelInput = z.infer<typeof ImportModelInputSchema>;
export type DeployInput = z.infer<typeof DeployInputSchema>;
export type MonitorInput = z.infer<typeof MonitorInputSchema>;
export type StepInput = z.infer<typeof StepInputSchema>;

export type StageKind =
  | 'ingest'
  | 'validate'
  | 'clean'
  | 'split'
  | 'fold'
  | 'train'
  | 'trial'
  | 'tune'
  | 'ensemble'
  | 'select'
  | 'evaluate'
  | 'register'
  | 'importModel'
  | 'registeredVersion'
  | 'approve'
  | 'deploy'
  | 'monitor'
  | 'step'
  | 'labelFunctions'
  | 'label'
  | 'trainingSet'
  | 'trainingWindow'
  | 'materialize'
  | 'batchPredict'
  | 'publishPredictions'
  | 'loadTest';

/** Stages that change what the outside sees; each writes its undo in the transaction that publishes. */
export const PUBLISHING: ReadonlySet<StageKind> = new Set(['register', 'approve', 'deploy', 'monitor', 'materialize', 'publishPredictions']);

/** What every stage activity receives. */
export interface StageCall<Input = unknown> {
  readonly runId: string;
  readonly pipeline: string;
  readonly buildId: string;
  readonly stage: string;
  readonly kind: StageKind;
  readonly ordinal: number;
  readonly pool: string;
  /** False: run it even when its fingerprint was seen. */
  readonly cache: boolean;
  /** Work that shows no progress for so long is taken for hung. Default 5 minutes. */
  readonly stallAfterMs?: number;
  readonly input: Input;
}

/** What every stage activity returns. */
export interface StageResult<Output = unknown> {
  readonly output: Output;
  readonly cached: boolean;
  /** One line for people. */
  readonly summary: string;
  /** What the attempt that did the work used; not there where nothing was computed. */
  readonly usage?: {
    readonly cpuSeconds: number;
    readonly gpuSeconds: number;
    readonly peakMib: number /** 0 where the configuration names no rates. */;
    readonly cost: number;
  };
}

/** Heartbeat details of a running stage; the CLI shows them as a progress bar. */
export interface StageHeartbeat {
  readonly fraction: number | null;
  readonly message: string;
}

/** Sent by an endpoint to the run that waits for its rollout. */
export interface RolloutOutcome {
  readonly rollout: string;
  readonly status: 'completed' | 'rolled_back' | 'failed';
  readonly reason: string;
}
