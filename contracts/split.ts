import { z } from 'zod';
import { DatasetRefSchema } from './references.ts';

/**
 * How a dataset becomes training, validation and test parts. Rows keep their order within a part. The same data, plan
 * and seed give the same parts.
 */
const validationFraction = z.number().gt(0).lt(1).default(0.1);
const fractions = {
  /** Share of the rows that tuning, early stopping, thresholds and selection see. */
  validationFraction,
  /** Share of the rows that only the winner sees. */
  testFraction: z.number().gt(0).lt(1).default(0.2),
};
const seed = z.number().int().nonnegative().default(0);
const ColumnsSchema = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(20)]);

export const LEAK_KINDS = ['rows', 'groups', 'time', 'target'] as const;
/**
 * `rows`: the same row in two parts. `groups`: a group in two parts. `time`: a training row that is not earlier than a
 * row that it is judged by. `target`: a column that says the target by itself.
 */
export type LeakKind = (typeof LEAK_KINDS)[number];
const LeakSeveritySchema = z.enum(['warn', 'fail', 'off']);
export type LeakSeverity = z.infer<typeof LeakSeveritySchema>;

/** What is looked for once the parts are made, and what a find does: `warn` says it in the run's summary and report, `fail` ends the run. */
export const LeakOptionsSchema = z
  .union([
    LeakSeveritySchema,
    z.object({
      severity: z.union([LeakSeveritySchema, z.partialRecord(z.enum(LEAK_KINDS), LeakSeveritySchema)]).default('warn'),
      /** The column that is learnt: rows are compared without it, and columns that say it by themselves are looked for. */
      target: z.string().min(1).optional(),
      /** Columns whose values, taken together, may be in one part only. Default: those of a grouped split. */
      groups: ColumnsSchema.optional(),
      /** A column of instants; training has to lie before the other parts. Default: that of a split by time. */
      time: z.string().min(1).optional(),
      /** Columns that are no features (row numbers, ids): rows are compared without them, and they are not looked at. */
      ignore: z.array(z.string().min(1)).default([]),
      /** From which score on a column says the target by itself: AUC, or the share of the target's variance or errors that it explains. */
      threshold: z.number().min(0.5).max(1).default(0.99),
    }),
  ])
  .default('warn');
export type LeakOptions = z.infer<typeof LeakOptionsSchema>;

const leaks = LeakOptionsSchema;
const tooMuch = { message: 'validationFraction and testFraction together must be below 1', path: ['testFraction'] };

export const SplitOptionsSchema = z
  .discriminatedUnion('by', [
    z.object({ by: z.literal('random'), seed, ...fractions, leaks }),
    /** As random, with the share of each of the column's values alike in all parts. Missing values are a value of their own. */
    z.object({ by: z.literal('stratified'), column: z.string().min(1), seed, ...fractions, leaks }),
    /**
     * The rows of a group, those that have the same values in the column or columns, are all in one part. Missing values
     * are a value of their own. Fractions are met as nearly as whole groups allow.
     */
    z.object({ by: z.literal('group'), column: ColumnsSchema, seed, ...fractions, leaks }),
    /**
     * The latest rows are the test part, those before them validation. Rows of one instant stay together, so that every
     * part is strictly later than the one before it. Rows without an instant go to training.
     */
    z.object({ by: z.literal('time'), column: z.string().min(1), ...fractions, leaks }),
    /**
     * The test part is the golden set that ingest reserved, or the dataset that is given: the same in every run. The
     * dataset's own rows are training and validation, with groups kept whole where `group` names columns.
     */
    z.object({ by: z.literal('fixed'), test: DatasetRefSchema.optional(), group: ColumnsSchema.optional(), seed, validationFraction, leaks }),
  ])
  .refine((options) => options.by === 'fixed' || options.validationFraction + options.testFraction < 1, tooMuch);
export type SplitOptions = z.infer<typeof SplitOptionsSchema>;
export type SplitOptionsInput = z.input<typeof SplitOptionsSchema>;

const folding = {
  /** How many folds: each row is in the validation part of exactly one. */
  k: z.number().int().min(2).max(20).default(5),
  /** Rows that no fold has: the golden set that ingest reserved, or a share of the rows. Default: none. */
  test: z.union([z.literal('golden'), z.number().gt(0).lt(1)]).optional(),
  leaks,
};
export const FoldOptionsSchema = z.discriminatedUnion('by', [
  z.object({ by: z.literal('random'), seed, ...folding }),
  z.object({ by: z.literal('stratified'), column: z.string().min(1), seed, ...folding }),
  z.object({ by: z.literal('group'), column: ColumnsSchema, seed, ...folding }),
  /** Forward in time: of k + 1 blocks of time the first is for training only, and each later one is judged by what was learnt from all before it. */
  z.object({ by: z.literal('time'), column: z.string().min(1), ...folding }),
]);
export type FoldOptions = z.infer<typeof FoldOptionsSchema>;
export type FoldOptionsInput = z.input<typeof FoldOptionsSchema>;

const LeakFindingSchema = z.object({
  kind: z.enum(LEAK_KINDS),
  severity: z.enum(['warn', 'fail']),
  message: z.string(),
  /** Rows concerned, where rows are counted. */
  rows: z.number().int().nonnegative().optional(),
  column: z.string().optional(),
  /** 0 to 1, where a column's power is measured. */
  score: z.number().optional(),
  fix: z.string(),
});
export type LeakFinding = z.infer<typeof LeakFindingSchema>;

/** What the leak checks found, as it lies in the artifact store beside the parts. */
export const LeakReportSchema = z.object({
  format: z.literal('millrace-leaks/1'),
  checked: z.array(z.enum(LEAK_KINDS)),
  findings: z.array(LeakFindingSchema),
});
export type LeakReport = z.infer<typeof LeakReportSchema>;
