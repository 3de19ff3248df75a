import { z } from 'zod';

/** Bins of a round width (1, 2 or 5 times a power of ten), [edge i, edge i+1), the last one closed, and how many values lie on either side of them. */
const RoundBinsSchema = z.object({
  edges: z.array(z.number()),
  /** One entry fewer than edges. */
  counts: z.array(z.number().int()),
  below: z.number().int(),
  above: z.number().int(),
});
export type RoundBins = z.infer<typeof RoundBinsSchema>;

/** What one scan says of a dataset. Quantiles are exact unless `approximate` is set. */
export const NumberProfileSchema = z.object({
  kind: z.literal('number'),
  min: z.number().nullable(),
  max: z.number().nullable(),
  mean: z.number().nullable(),
  standardDeviation: z.number().nullable(),
  /**
   * Values at 0.01, 0.05, 0.1, 0.2 … 0.9, 0.95, 0.99, and at 0.25 and 0.75, which older profiles do not have.
   * `atOrBelow`: the share of the values that is at most `value`, where it was counted; it is above `q` where values repeat.
   */
  quantiles: z.array(z.object({ q: z.number(), value: z.number(), atOrBelow: z.number().optional() })),
  approximate: z.boolean().optional(),
  /** Bins [edge i, edge i+1), the last one closed; counts has one entry fewer than edges. */
  histogram: z.object({ edges: z.array(z.number()), counts: z.array(z.number().int()) }),
  /** Bins to look at: round ones over the bulk of the values, so that single far ones do not press all others into one bar. Older profiles have none. */
  display: RoundBinsSchema.optional(),
});
export const StringProfileSchema = z.object({
  kind: z.literal('string'),
  lengthMin: z.number().nullable(),
  lengthMean: z.number().nullable(),
  lengthMax: z.number().nullable(),
  /**
   * Lengths in characters (code points) at the shares 0.05, 0.25, 0.5, 0.75 and 0.95, and their histogram. Exact up to 4,096 characters,
   * beyond that a length may be told up to 1/2,048 too short. Older profiles have none.
   */
  lengths: z.object({ quantiles: z.array(z.object({ q: z.number(), value: z.number() })), histogram: RoundBinsSchema }).optional(),
  /** Most frequent values, at most 100, most frequent first; then by value. Cut at 200 characters; none where nearly every value is another. */
  top: z.array(z.object({ value: z.string(), count: z.number().int() })),
});
export const TimestampProfileSchema = z.object({
  kind: z.literal('timestamp'),
  /** UTC ISO. */
  min: z.string().nullable(),
  max: z.string().nullable(),
  histogram: z.object({ edges: z.array(z.string()), counts: z.array(z.number().int()) }),
});
export const ColumnProfileSchema = z.object({
  name: z.string(),
  type: z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date']),
  nulls: z.number().int(),
  /** Exact, unless `distinctError` is there. */
  distinct: z.number().int(),
  /**
   * Standard error of `distinct`, as a share of it, where it is estimated: columns of more than about 65,536 different values, but for
   * texts whose values repeat. About 0.005; of 1,000 such estimates 997 are off by less than three times as much.
   */
  distinctError: z.number().optional(),
  values: z.discriminatedUnion('kind', [NumberProfileSchema, StringProfileSchema, TimestampProfileSchema]),
});
/** How strongly one column goes along with the target. */
export const TargetCorrelationSchema = z.object({
  column: z.string(),
  /**
   * `pearson`: r, −1 to 1, of two numbers; instants count in milliseconds, booleans as 0 and 1 (with one boolean it is the point-biserial
   * correlation, with two of them φ). `correlationRatio`: η, 0 to 1, of a number and a category, biased upwards where categories are small.
   * `cramersV`: V, 0 to 1, of two categories, with the bias correction of W. Bergsma, "A bias-correction for Cramér's V" (2013).
   */
  measure: z.enum(['pearson', 'correlationRatio', 'cramersV']),
  value: z.number(),
  /** Rows in which both are there: all others are left out. */
  rows: z.number().int(),
});
/** Why there is no figure of a column. `manyValues`: a text of more than 500 different values, or of fewer than 10 rows a value. */
export const CorrelationGapSchema = z.object({ column: z.string(), reason: z.enum(['personal', 'constant', 'manyValues']) });
export const TargetCorrelationsSchema = z.object({
  target: z.string(),
  /** In the order of the dataset's columns. */
  columns: z.array(TargetCorrelationSchema),
  /** The target itself, and it alone, where it cannot be correlated with anything. */
  skipped: z.array(CorrelationGapSchema),
});
export const ProfileSchema = z.object({
  format: z.literal('millrace-profile/1'),
  rows: z.number().int(),
  columns: z.array(ColumnProfileSchema),
  /** Where the target was known when the profile was made. */
  correlations: TargetCorrelationsSchema.optional(),
});
export type ColumnProfile = z.infer<typeof ColumnProfileSchema>;
export type TargetCorrelation = z.infer<typeof TargetCorrelationSchema>;
export type TargetCorrelations = z.infer<typeof TargetCorrelationsSchema>;
export type NumberProfile = z.infer<typeof NumberProfileSchema>;
export type Profile = z.infer<typeof ProfileSchema>;
