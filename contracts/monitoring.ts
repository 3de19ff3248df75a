import { z } from 'zod';
import { ALERT_KINDS } from './alerts.ts';
import { DetectorOptionsSchema, DetectorStateSchema } from './detectors.ts';
import { ColumnDriftSchema, DomainDriftSchema, DriftDecisionSchema, DriftReportSchema, DriftSettingsSchema } from './drift.ts';
import { IntervalOptionsSchema, METRICS, MetricSchema } from './evaluation.ts';
import { ExpectationsSchema, ValidationResultSchema } from './expectations.ts';
import { NameSchema, Sha256Schema } from './ids.ts';
import type { Metric } from './metrics.ts';
import { EstimatedPerformanceSchema, WindowQualitySchema } from './window-quality.ts';

/** How an endpoint is watched, and what one window of its requests showed. */

const windowsInARow = z.int().min(1).max(1_000);
const DAY_MS = 86_400_000;

/** A figure that must not be past a bound, in so many windows in a row. */
export const BoundSchema = z
  .strictObject({
    below: z.number().optional(),
    above: z.number().optional(),
    windows: windowsInARow.default(1),
    /** `interval`: the figure's whole interval must be past the bound, not the figure alone. */
    judge: z.enum(['figure', 'interval']).default('figure'),
  })
  .refine(({ below, above }) => below !== undefined || above !== undefined, 'needs below, above or both');
export type Bound = z.output<typeof BoundSchema>;

const metricBounds = Object.fromEntries(METRICS.map((metric) => [metric, BoundSchema.optional()])) as { [M in Metric]: z.ZodOptional<typeof BoundSchema> };
const found = z.union([z.literal(true), z.strictObject({ windows: windowsInARow })]);

/** What is worth an alert or a retraining. */
export const MonitorRulesSchema = z.strictObject({
  /** A feature or an output has drifted: `calibrated` by tests whose false alarms are bounded; or its PSI is above a fixed value. */
  drift: z.union([z.literal('calibrated'), z.strictObject({ psi: z.number().positive() })]).optional(),
  /** The same as `drift: { psi }`. */
  psi: z.number().positive().optional(),
  /** So many drifted windows in a row. */
  windows: windowsInARow.optional(),
  /** Live requests fail an expectation of severity `fail`. */
  data: found.optional(),
  /** The training path answers logged requests differently. */
  skew: found.optional(),
  /** One of the monitor's detectors says that its stream has changed. */
  detectors: z.boolean().optional(),
  /** Metrics by labels: `auc: { below: 0.6, windows: 3 }`. */
  ...metricBounds,
  /** Metrics as estimated without labels. */
  estimated: z.partialRecord(MetricSchema, BoundSchema).optional(),
  /** Means of outcomes by name. */
  outcomes: z.record(z.string().min(1), BoundSchema).optional(),
  /** Share of requests that failed in the server, 0–1. */
  errorRate: BoundSchema.optional(),
  /** Of the requests' latencies. */
  latencyMsP99: BoundSchema.optional(),
});
export type MonitorRules = z.output<typeof MonitorRulesSchema>;

/** What is compared by drift figures. Rows of the log are only compared as far as they were made by the same version. */
export const ReferenceSchema = z.union([
  z.literal('training'),
  /** The rows of so many windows before this one. */
  z.strictObject({ windows: z.int().min(1).max(1_000) }),
  /** The same time of so many days or weeks before. */
  z.strictObject({ season: z.enum(['day', 'week']), cycles: z.int().min(1).max(52).default(4) }),
]);
export type Reference = z.output<typeof ReferenceSchema>;

const QualityOptionsSchema = z.strictObject({
  /** Default: the chief ones of the task, and those that rules name. */
  metrics: z.array(MetricSchema).max(50).default([]),
  /** Raw columns, or pairs of them, by whose values they are told too. */
  slices: z
    .array(z.union([z.string().min(1), z.tuple([z.string().min(1), z.string().min(1)])]))
    .max(10)
    .default([]),
  leastSliceRows: z.int().min(1).default(100),
  /** Fewer labelled rows give no figure. */
  leastRows: z.int().min(1).default(100),
  /** For so long after its end a window is looked at again when more labels or outcomes came. */
  latenessMs: z
    .int()
    .min(0)
    .max(400 * DAY_MS)
    .default(7 * DAY_MS),
  intervals: IntervalOptionsSchema.prefault({ replicates: 200 }),
});

const SkewOptionsSchema = z.strictObject({
  /** Requests that are scored again in a window, drawn by seed. */
  rows: z.int().min(1).max(10_000).default(200),
  /** Greatest difference of an output that is none. */
  tolerance: z.number().positive().default(1e-5),
  seed: z.int().nonnegative().default(0),
});

const DetectorRuleSchema = z.strictObject({
  /** Name of the stream. Default: `of`, the detector's kind. */
  name: z.string().min(1).max(100).optional(),
  /** A value a row: `error` (wrong or not; of values the absolute error), `score` (the first output; of two classes the positive one's); or a value a window: `auc`, `outcome.NAME`, `latencyMsP99`, `psi.COLUMN` … */
  of: z.string().min(1).max(200),
  detector: DetectorOptionsSchema,
});

/** The monitor's options, times in milliseconds. */
export const MonitorOptionsSchema = z.object({
  endpoint: NameSchema,
  /** How often it is looked; a window runs from where the last one ended. */
  everyMs: z.int().min(1000),
  /** A window is as long as this and ends now: it overlaps with the one before. */
  lengthMs: z.int().min(1000).optional(),
  /** A window is so many requests; looked for every `everyMs`. */
  rows: z.int().min(1).max(100_000_000).optional(),
  /** Requests fewer than this in a window give no verdict. */
  leastRows: z.int().min(1).default(500),
  against: ReferenceSchema.default('training'),
  /** How a calibrated drift is told from chance. */
  drift: DriftSettingsSchema.extend({
    /** Columns that are not looked at. */
    except: z.array(z.string().min(1)).max(1_000).default([]),
    /** Whether a classifier looks for what only several columns together show. */
    domain: z.boolean().default(false),
    /**
     * The training rows by this column of times are the history of an endpoint's first windows. Default: the column that the rows were split by,
     * or the only one of times; `false`: first windows have none.
     */
    trainingTime: z.union([z.literal(false), z.string().min(1)]).optional(),
  }).prefault({}),
  quality: z.union([z.literal(false), QualityOptionsSchema]).prefault({}),
  /** Quality as estimated from calibrated scores, without labels. */
  estimate: z.boolean().default(true),
  skew: z.union([z.literal(false), SkewOptionsSchema]).prefault({}),
  /** What live requests have to be like. Default: what the model's training data had to be like, as far as requests have the columns. */
  expectations: z.union([z.literal(false), ExpectationsSchema]).optional(),
  detectors: z.array(DetectorRuleSchema).max(50).default([]),
  /** Alerts beside those of drift, skew, data and detectors, and of what `retrainOn` says. */
  alertOn: MonitorRulesSchema.optional(),
  retrainOn: MonitorRulesSchema.optional(),
});

export type MonitorOptions = z.output<typeof MonitorOptionsSchema>;
/** As people write them: what is left out has its default. */
export type MonitorOptionsInput = z.input<typeof MonitorOptionsSchema>;

export const CHECKS = ['drift', 'quality', 'estimated', 'outcome', 'skew', 'data', 'schema', 'detector', 'system'] as const;

/** One thing that a window showed. Findings of one check and subject in windows that follow each other are one trouble. */
export const FindingSchema = z.object({
  check: z.enum(CHECKS),
  /** What alerts of it are called. */
  kind: z.enum(ALERT_KINDS),
  /** Column, metric, outcome, expectation or stream: the same words as long as it is the same trouble. */
  subject: z.string(),
  /** One sentence, with the figures. */
  what: z.string(),
  value: z.number().nullable(),
  limit: z.number().nullable(),
  /** With what it was compared, for people. */
  against: z.string().nullable(),
  /** Start of the first window of the streak, UTC ISO. */
  since: z.string(),
  /** How sure it is, for people; null where it is a fact. */
  sure: z.string().nullable(),
  /** In as many windows in a row as its rule asks for: an alert stands. */
  firing: z.boolean(),
  /** Windows in a row that had it, this one too. */
  windowsInARow: z.int(),
  /** Whether it asked for a retraining in this window. */
  retrain: z.boolean(),
});
export type Finding = z.output<typeof FindingSchema>;

export const WindowOutcomeSchema = z.object({
  rows: z.int(),
  sum: z.number(),
  mean: z.number(),
  /** 95 %, by the normal distribution; null of one value. */
  low: z.number().nullable(),
  high: z.number().nullable(),
});

export const WindowSkewSchema = z.object({
  rows: z.int(),
  /** Rows that differ by more than the tolerance. */
  differing: z.int(),
  greatest: z.number(),
  /** Raw columns that make the difference, most rows first; `model`: none of them does. */
  columns: z.array(z.object({ column: z.string(), rows: z.int() })),
  /** The request that differs most. */
  example: z.object({ requestId: z.string(), row: z.int(), logged: z.array(z.number()), again: z.array(z.number()) }).nullable(),
  why: z.string().nullable(),
});

/** What a window leaves. Everything but the first fields may be missing: in windows of older versions, and where it was not asked for. */
export const WindowFiguresSchema = z.object({
  /** Predictions of `version`, of requests sent twice the last one. */
  rows: z.int(),
  version: z.object({ model: z.string(), version: z.int(), predictor: Sha256Schema.optional() }),
  verdict: z.enum(['drifted', 'steady', 'too few rows']).optional(),
  /** What else is to be said of the window: no traffic, a clock that went back, a changed schema. */
  notes: z.array(z.string()).optional(),
  /** Of this time: rows of other versions, requests logged twice, labels that name no logged request or were given twice. */
  log: z.object({ otherVersions: z.int(), repeated: z.int(), relabelled: z.int() }).optional(),
  reference: z.object({ kind: z.enum(['training', 'windows', 'season']), rows: z.int(), label: z.string() }).optional(),
  drift: DriftReportSchema.optional(),
  domain: DomainDriftSchema.nullable().optional(),
  decision: DriftDecisionSchema.optional(),
  quality: WindowQualitySchema.nullable().optional(),
  estimated: EstimatedPerformanceSchema.nullable().optional(),
  outcomes: z.record(z.string(), WindowOutcomeSchema).optional(),
  skew: WindowSkewSchema.nullable().optional(),
  data: ValidationResultSchema.nullable().optional(),
  system: z
    .object({
      requests: z.number(),
      errors: z.number(),
      /** 0–1; null without requests. */
      errorRate: z.number().nullable(),
      latencyMsP50: z.number().nullable(),
      latencyMsP95: z.number().nullable(),
      latencyMsP99: z.number().nullable(),
    })
    .optional(),
  /** By name: what the detectors know after this window, how many values it had for them, and at how many of those they saw a change; of a value a window, the end of the last one they took. */
  detectors: z.record(z.string(), z.object({ state: DetectorStateSchema, values: z.int(), changes: z.int(), until: z.string().optional() })).optional(),
  findings: z.array(FindingSchema).optional(),
  /** Labels and outcomes that came later are not in it. UTC ISO. */
  labelsUntil: z.string().optional(),
  /** Windows of older versions: their fixed limit, and figures of the columns. */
  limit: z.number().optional(),
  columns: z.array(ColumnDriftSchema).optional(),
});
export type WindowFigures = z.output<typeof WindowFiguresSchema>;
