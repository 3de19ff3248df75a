import { z } from 'zod';
import { BehaviourTestSchema } from './behaviour-tests.ts';
import { NameSchema, Sha256Schema } from './ids.ts';
import { METRIC_TABLE, type Metric } from './metrics.ts';
import { ScoreBinSchema, SliceQualitySchema } from './window-quality.ts';

/** What the stage `evaluate` is asked for, and the report that it leaves in the artifact store. */
export const METRICS = Object.keys(METRIC_TABLE) as [Metric, ...Metric[]];
export const MetricSchema = z.enum(METRICS);

/** A bound names a metric, or a figure of one's own as `business.NAME`. */
const BoundNameSchema = z.union([MetricSchema, z.templateLiteral(['business.', z.string().min(1)])]);
const BoundsSchema = z.partialRecord(BoundNameSchema, z.number()).default({});
const MetricBoundsSchema = z.partialRecord(MetricSchema, z.number()).default({});

export const ChampionOfSchema = z
  .object({
    champion: NameSchema,
    /** The improvement must be at least this, in the metric's unit. */
    by: z.number().min(0).optional(),
    /** It must be sure to this degree (one-sided) by a paired test that it is more than noise. */
    confidence: z.number().gt(0.5).lt(1).optional(),
    /** It must be sure (default 0.95) that the candidate is not worse by more than this. */
    notWorse: z.number().gt(0).optional(),
  })
  .refine(({ by, notWorse }) => by === undefined || notWorse === undefined, '`by` and `notWorse` exclude each other');
export type ChampionOf = z.infer<typeof ChampionOfSchema>;

const RulesShape = {
  atLeast: BoundsSchema,
  atMost: BoundsSchema,
  /** Bounds that every slice listed must keep. */
  slices: z.object({ atLeast: MetricBoundsSchema, atMost: MetricBoundsSchema }).optional(),
};
export const AcceptSchema = z.object({
  ...RulesShape,
  /** Against this model's champion on the same rows, by the evaluation's main metric. No champion: passes. */
  beats: ChampionOfSchema.optional(),
  /** `interval`: the worse end of a metric's interval must keep the bound, not the figure alone. */
  judge: z.enum(['figure', 'interval']).default('figure'),
  /** Rules that are told and let pass. */
  warn: z.object(RulesShape).optional(),
});
export type Accept = z.infer<typeof AcceptSchema>;

/** What the threshold of a binary winner is chosen for, on the rows of the selection. */
export const ThresholdRuleSchema = z.union([
  z.enum(['f1', 'accuracy']),
  z.strictObject({
    /** Least cost; a gain is negative. */
    costs: z.strictObject({ falsePositive: z.number(), falseNegative: z.number(), truePositive: z.number().default(0), trueNegative: z.number().default(0) }),
  }),
  /** Highest recall of at least this precision. */
  z.strictObject({ precision: z.number().gt(0).lte(1) }),
  /** Highest precision of at least this recall. */
  z.strictObject({ recall: z.number().gt(0).lte(1) }),
]);

export const IntervalOptionsSchema = z.object({
  confidence: z.number().gt(0.5).lt(1).default(0.95),
  replicates: z.number().int().min(100).max(10_000).default(500),
  seed: z.number().int().nonnegative().default(0),
});

/** A step of the pipeline that turns judged rows into figures. */
export const BusinessSchema = z.object({
  pipeline: z.string(),
  step: z.string(),
  parameters: z.record(z.string(), z.unknown()).default({}),
  /** Columns that its rows carry beside the target and the answer. */
  columns: z.array(z.string().min(1)).max(200).default([]),
});

export const ImportanceOptionsSchema = z.object({
  repeats: z.number().int().min(1).max(100).default(5),
  /** Rows of the sample. */
  rows: z.number().int().min(10).max(1_000_000).default(2_000),
  seed: z.number().int().nonnegative().default(0),
});

export const ExplainOptionsSchema = z.object({
  /** Of the rows that are answered worst, so many are explained. */
  rows: z.number().int().min(1).max(100).default(5),
  permutations: z.number().int().min(1).max(10_000).default(100),
  seed: z.number().int().nonnegative().default(0),
});

/** What beside the metrics an evaluation works out. */
export const EvaluationOptionsShape = {
  /** Columns, or pairs of columns, by whose values the metrics are shown too, the worst slice first. */
  slices: z
    .array(z.union([z.string().min(1), z.tuple([z.string().min(1), z.string().min(1)])]))
    .max(20)
    .default([]),
  /** Slices of fewer rows are not listed. */
  leastSliceRows: z.number().int().min(1).default(100),
  accept: AcceptSchema.prefault({}),
  metric: MetricSchema.optional(),
  /** Intervals of the metrics; false: none. */
  intervals: z.union([z.literal(false), IntervalOptionsSchema]).prefault({}),
  /** Column that says which rows compete with each other: adds the ranking metrics. */
  group: z.string().min(1).optional(),
  business: z.array(BusinessSchema).max(20).default([]),
  tests: z.array(BehaviourTestSchema).max(200).default([]),
  importance: z.union([z.boolean(), ImportanceOptionsSchema]).default(false),
  explain: z.union([z.boolean(), ExplainOptionsSchema]).default(false),
};

const FiguresSchema = z.record(z.string(), z.number());
const IntervalSchema = z.object({ low: z.number(), high: z.number(), method: z.string() });
const ProblemSchema = z.looseObject({ path: z.string(), message: z.string(), found: z.string().optional(), fix: z.string().optional() });
const CellSchema = z.union([z.string(), z.number(), z.null()]);

export const ComparisonSchema = z.object({
  metric: z.string(),
  method: z.enum(['delong', 'mcnemar', 'paired-bootstrap']),
  /** Positive where the candidate is better. */
  improvement: z.number(),
  low: z.number(),
  high: z.number(),
  confidence: z.number(),
  pValue: z.number(),
  atLeast: z.number(),
  pNoBetter: z.number(),
});
export type Comparison = z.infer<typeof ComparisonSchema>;

const ReportV1Schema = z.object({
  format: z.literal('millrace-evaluation/1'),
  predictor: Sha256Schema,
  on: Sha256Schema,
  rows: z.number().int(),
  metrics: FiguresSchema,
  champion: z.object({ model: z.string(), version: z.number().int(), metrics: FiguresSchema }).nullable(),
  slices: z.array(
    z.object({ column: z.string(), metric: z.string(), values: z.array(z.object({ value: z.string(), rows: z.number().int(), metric: z.number() })) }),
  ),
  accepted: z.boolean(),
  problems: z.array(ProblemSchema),
});

const point = (...names: readonly string[]) => z.object(Object.fromEntries(names.map((name) => [name, z.number()])));
const CurvesSchema = z.object({
  roc: z.array(z.object({ threshold: z.number(), falsePositiveRate: z.number(), truePositiveRate: z.number() })).optional(),
  precisionRecall: z.array(z.object({ threshold: z.number(), precision: z.number(), recall: z.number() })).optional(),
  calibration: z
    .array(
      z.object({ from: z.number(), to: z.number(), rows: z.number(), meanProbability: z.number(), frequency: z.number(), low: z.number(), high: z.number() }),
    )
    .optional(),
  /** What estimated performance is calibrated by: scores of the positive class, or of the answered one. Reports of earlier versions have none. */
  scoreBins: z.array(ScoreBinSchema).optional(),
  brierParts: z.object({ reliability: z.number(), resolution: z.number(), uncertainty: z.number(), within: z.number() }).optional(),
  confusion: z.object({ classes: z.array(z.string()), counts: z.array(z.array(z.number())) }).optional(),
  residuals: z
    .object({
      points: z.array(z.object({ answer: z.number(), residual: z.number() })),
      histogram: z.array(z.object({ from: z.number(), to: z.number(), rows: z.number() })),
      quantiles: point('1%', '5%', '25%', '50%', '75%', '95%', '99%'),
    })
    .optional(),
});

/** The report as it lies in the artifact store. */
const ReportV2Schema = z.object({
  format: z.literal('millrace-evaluation/2'),
  predictor: Sha256Schema,
  on: Sha256Schema,
  rows: z.number().int(),
  task: z.enum(['binary', 'multiclass', 'regression', 'ranking']),
  /** Texts of the classes; of a regression and a ranking none. */
  classes: z.array(z.string()),
  threshold: z.number().nullable(),
  /** The metric that the champion, the slices and the importances go by. */
  metric: z.string(),
  metrics: FiguresSchema,
  intervals: z.record(z.string(), IntervalSchema),
  confidence: z.number().nullable(),
  champion: z.object({ model: z.string(), version: z.number().int(), metrics: FiguresSchema, comparison: ComparisonSchema.nullable() }).nullable(),
  slices: z.array(SliceQualitySchema),
  curves: CurvesSchema,
  business: FiguresSchema,
  tests: z.array(
    z.object({
      test: z.number().int(),
      kind: z.enum(['invariance', 'direction', 'mustPass']),
      what: z.string(),
      tried: z.number().int(),
      failed: z.number().int(),
      worst: z.number().nullable(),
      passed: z.boolean(),
      severity: z.enum(['fail', 'warn']),
      examples: z.array(z.object({ row: z.record(z.string(), z.unknown()), found: z.string(), expected: z.string() })),
    }),
  ),
  importance: z.array(z.object({ column: z.string(), loss: z.number(), deviation: z.number() })).nullable(),
  explanations: z.array(
    z.object({
      row: z.number().int(),
      output: z.number().int(),
      target: CellSchema,
      answer: z.number(),
      base: z.number(),
      contributions: z.array(z.object({ column: z.string(), value: CellSchema, contribution: z.number(), error: z.number() })),
    }),
  ),
  accepted: z.boolean(),
  problems: z.array(ProblemSchema),
  warnings: z.array(ProblemSchema),
});
export type EvaluationReport = z.infer<typeof ReportV2Schema>;

/** Reads a report of this version or of an earlier one. */
export const EvaluationReportSchema = z.union([
  ReportV2Schema,
  ReportV1Schema.transform(
    (old): EvaluationReport => ({
      ...old,
      format: 'millrace-evaluation/2',
      task: 'accuracy' in old.metrics ? ('precision' in old.metrics ? 'binary' : 'multiclass') : 'regression',
      classes: [],
      threshold: null,
      metric: old.slices[0]?.metric ?? Object.keys(old.metrics)[0] ?? '',
      intervals: {},
      confidence: null,
      champion: old.champion && { ...old.champion, comparison: null },
      slices: old.slices.map((list) => ({ ...list, values: list.values.map((slice) => ({ ...slice, metrics: {} })), tooSmall: 0, withoutValue: 0 })),
      curves: {},
      business: {},
      tests: [],
      importance: null,
      explanations: [],
      warnings: [],
    }),
  ),
]);
