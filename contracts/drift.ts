import { z } from 'zod';
import type { NumberProfile } from './profile.ts';

/**
 * What is measured of recent rows against a reference, and what is decided from it. Stored with a monitor's windows: fields
 * that windows of older versions do not have are optional.
 */

const ShareSchema = z.object({ training: z.number(), recent: z.number() });

/** One column. `training` stands for the reference throughout, whichever it is. */
export const ColumnDriftSchema = z.object({
  column: z.string(),
  /** Population stability index over `bins`, an empty bin counting as half a row. */
  psi: z.number(),
  /** What `psi` would be on average by chance with so many rows if nothing had moved. */
  expectedPsi: z.number(),
  /** Shares of all rows; the last one is missing values. Of a text: buckets of n-grams, shares of all n-grams. */
  bins: z.array(z.object({ label: z.string(), training: z.number(), recent: z.number() })),
  nullFraction: ShareSchema,
  /** Recent values that are not null. */
  values: z.number(),
  kind: z.enum(['number', 'category', 'text']).optional(),
  /** Column of the rows, or what the model answered (`output[0]`). */
  of: z.enum(['input', 'output']).optional(),
  /** All rows, missing values too. */
  rows: ShareSchema.optional(),
  /** Whether the figures come from the reference's rows, or from a profile's bins; then `kolmogorovSmirnov` is a lower bound and `wasserstein` an estimate. */
  exact: z.boolean().optional(),
  /** Numbers only, missing values left out. */
  kolmogorovSmirnov: z.object({ statistic: z.number(), pValue: z.number() }).optional(),
  /** Over the bins that either side has, missing values being one of them. */
  chiSquare: z.object({ statistic: z.number(), degreesOfFreedom: z.number(), pValue: z.number() }).optional(),
  /** Distance over the same bins, 0 to √ln 2 = 0.83. */
  jensenShannon: z.number().optional(),
  /** Numbers only, in the column's unit, missing values left out. */
  wasserstein: z.number().optional(),
  /** Two-sided test that both sides miss values equally often. */
  nulls: z.object({ z: z.number(), pValue: z.number() }).optional(),
  /** Values that one side alone has: the most frequent ones by name, and how many there are. Null where the reference does not list all of its values. */
  categories: z
    .object({
      appeared: z.object({ values: z.number(), rows: z.number(), named: z.array(z.object({ value: z.string(), rows: z.number() })) }),
      vanished: z.object({ values: z.number(), rows: z.number(), named: z.array(z.object({ value: z.string(), rows: z.number() })) }),
    })
    .nullable()
    .optional(),
  /** Of a text: the n-grams that moved most, in shares of documents; and by how much counts of n-grams vary more than single draws would. */
  text: z.object({ terms: z.array(z.object({ term: z.string(), training: z.number(), recent: z.number() })), designEffect: z.number() }).optional(),
});
export type ColumnDrift = z.infer<typeof ColumnDriftSchema>;

export const DriftReportSchema = z.object({
  rows: z.number(),
  referenceRows: z.number().optional(),
  /** The columns that can be compared, most moved first. */
  columns: z.array(ColumnDriftSchema),
  /** Columns of the reference that the recent rows do not have, or that cannot be compared. */
  skipped: z.array(z.string()),
  /** Why, for each of `skipped`. */
  reasons: z.record(z.string(), z.enum(['no rows', 'missing', 'time', 'nothing in the reference'])).optional(),
});
export type DriftReport = z.infer<typeof DriftReportSchema>;

/** How well a classifier tells recent rows from reference rows: 0.5 is not at all. */
export const DomainDriftSchema = z.object({
  rows: ShareSchema,
  /** Out of fold. */
  auc: z.number(),
  /** DeLong's interval. */
  low: z.number(),
  high: z.number(),
  confidence: z.number(),
  /** Two-sided, of an area of 0.5. */
  pValue: z.number(),
  classifier: z.enum(['gbdt', 'linear']),
  /** The columns that tell them apart, most first; shares that sum to 1. */
  columns: z.array(z.object({ column: z.string(), share: z.number() })),
});
export type DomainDrift = z.infer<typeof DomainDriftSchema>;

/** How it is decided from the figures whether a column has drifted. */
export const DriftSettingsSchema = z.strictObject({
  /** Fewer recent rows decide nothing. */
  leastRows: z.int().min(1).default(100),
  /** How often a quiet window may alarm, all columns together. */
  falseAlarms: z.number().gt(0).max(0.5).default(0.01),
  /** For many tests at once: `holm` bounds the chance of any false alarm in a window, `benjaminiHochberg` the share of false ones among the alarms. */
  correction: z.enum(['holm', 'benjaminiHochberg', 'none']).default('holm'),
  /** Less than this is never a drift, however sure: PSI beyond what chance makes, and difference of the null rates, and a domain classifier's area under the ROC curve beyond 0.5. */
  leastEffect: z
    .strictObject({ psi: z.number().min(0).default(0.1), nulls: z.number().min(0).max(1).default(0.02), auc: z.number().min(0).max(0.5).default(0.05) })
    .prefault({}),
  /** A column has drifted when it was over its threshold in so many windows in a row. */
  windowsInARow: z.int().min(1).max(1_000).default(1),
  /** Earlier windows from which on thresholds come from their figures; fewer, and only the distributions under no drift count. */
  leastHistory: z.int().min(5).max(100_000).default(20),
  /**
   * Which earlier windows are alike: those that began in the same hour of the day (UTC), or of the week; effects count beside the mean of
   * these. `none`: all windows are alike. A season with fewer than three earlier windows is held against all.
   */
  season: z.enum(['none', 'hourOfDay', 'hourOfWeek']).default('hourOfDay'),
});
export type DriftSettings = z.infer<typeof DriftSettingsSchema>;

/** `season`: the distribution against earlier windows of the same season. `domain`: all columns together, under the name `*`. */
export const DRIFT_TESTS = ['distribution', 'season', 'nulls', 'domain'] as const;

/** What was decided of one column, and all that later windows need of it for their thresholds. */
export const ColumnDecisionSchema = z.object({
  column: z.string(),
  /** Over its threshold in this window. */
  exceeded: z.boolean(),
  /** So in as many windows in a row as the settings ask for. */
  drifted: z.boolean(),
  /** Windows in a row, this one included, in which it was over its threshold. */
  streak: z.number(),
  tests: z.array(
    z.object({
      kind: z.enum(DRIFT_TESTS),
      /** PSI beyond what chance makes (may be below 0), difference of the null rates, or area under the ROC curve beyond 0.5. */
      effect: z.number(),
      /** Standard deviation that chance alone gives the effect with so many rows where nothing has moved. Decisions of older versions have none. */
      chance: z.number().optional(),
      /** Effect that this window would have had to exceed, all corrections made. Null where it cannot be reached. */
      threshold: z.number().nullable(),
      pValue: z.number(),
      /** After the correction for many tests: at most `falseAlarms` where the threshold is exceeded. */
      adjustedPValue: z.number(),
      /** Where the p-value comes from, and from how many earlier windows. */
      calibration: z.enum(['theory', 'history']),
      historyWindows: z.number(),
      exceeded: z.boolean(),
    }),
  ),
  /** One sentence for people: what moved, from where to where. */
  message: z.string(),
});
export type ColumnDecision = z.infer<typeof ColumnDecisionSchema>;

export const DriftDecisionSchema = z.object({
  /** Start of the window, UTC ISO. */
  from: z.string(),
  rows: z.number(),
  verdict: z.enum(['too few rows', 'steady', 'drifted']),
  /** The surest first. */
  columns: z.array(ColumnDecisionSchema),
});
export type DriftDecision = z.infer<typeof DriftDecisionSchema>;

/** Windows can be put together where their bins are the same ones. */
export interface BinCounts {
  readonly labels: readonly string[];
  readonly counts: readonly number[];
}

/** What a decision needs of an earlier window: a stored `DriftDecision` is one. */
export interface PastWindow {
  readonly from: string;
  readonly columns: readonly {
    readonly column: string;
    readonly exceeded: boolean;
    /** Rows by bin of the values, missing ones left out; of windows of the season of the one that is decided. */
    readonly bins?: BinCounts;
    readonly tests: readonly Pick<ColumnDecision['tests'][number], 'kind' | 'effect' | 'chance' | 'pValue' | 'calibration' | 'exceeded'>[];
  }[];
}

/** How a model's answers were distributed over the rows of an evaluation. */
export interface EvaluatedAnswers {
  readonly kind: 'answers';
  /** Of two classes or of a value the last output; of several classes the greatest one of each row. */
  readonly output: 'last' | 'greatest';
  readonly values: NumberProfile;
  readonly rows: number;
}
