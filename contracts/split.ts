import { z } from 'zod';

/**
 * How a dataset becomes training, validation and test parts. Rows keep their order within a part. The same data, plan
 * and seed give the same parts.
 */
const fractions = {
  /** Share of the rows that tuning, early stopping, thresholds and selection see. */
  validationFraction: z.number().gt(0).lt(1).default(0.1),
  /** Share of the rows that only the winner sees. */
  testFraction: z.number().gt(0).lt(1).default(0.2),
};
export const SplitOptionsSchema = z
  .discriminatedUnion('by', [
    z.object({ by: z.literal('random'), seed: z.number().int().nonnegative().default(0), ...fractions }),
    /** As random, with the share of each of the column's values alike in all parts. Missing values are a value of their own. */
    z.object({ by: z.literal('stratified'), column: z.string().min(1), seed: z.number().int().nonnegative().default(0), ...fractions }),
    /**
     * The latest rows are the test part, those before them validation. Rows of one instant stay together, so that every
     * part is strictly later than the one before it. Rows without an instant go to training.
     */
    z.object({ by: z.literal('time'), column: z.string().min(1), ...fractions }),
  ])
  .refine(({ validationFraction, testFraction }) => validationFraction + testFraction < 1, {
    message: 'validationFraction and testFraction together must be below 1',
    path: ['testFraction'],
  });
export type SplitOptions = z.infer<typeof SplitOptionsSchema>;
export type SplitOptionsInput = z.input<typeof SplitOptionsSchema>;
