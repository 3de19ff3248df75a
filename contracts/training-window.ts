import { z } from 'zod';

const DAY_MS = 86_400_000;
const column = z.string().min(1);
/** Rows, or time before the newest row. */
const LengthSchema = z.union([
  z.object({ rows: z.number().int().min(1) }),
  z.object({
    ms: z
      .number()
      .min(1)
      .max(36_600 * DAY_MS),
  }),
]);

/** Which rows of a dataset are trained on. Time is counted back from the newest row, never from the clock: the same data give the same rows. */
export const WindowRuleSchema = z.discriminatedUnion('rule', [
  z.object({ rule: z.literal('all') }),
  /** The newest rows. */
  z.object({ rule: z.literal('sliding'), column, length: LengthSchema }),
  /** Rows at the change point and after it. */
  z.object({
    rule: z.literal('sinceChange'),
    column,
    /** UTC ISO; of a column of numbers, a number's text. Null: none is known, and the rule is `all`. */
    changePoint: z.string().min(1).nullable(),
    /** Where fewer follow the change point, the newest so many instead. */
    leastRows: z.number().int().min(1).default(1),
  }),
  /** All rows, each with a weight that halves with every half-life before the newest one. */
  z.object({
    rule: z.literal('weighted'),
    column,
    halfLife: LengthSchema,
    /** Where the weights are put. */
    weightColumn: z.string().min(1).default('weight'),
    /** Rows of a smaller weight are left out. */
    leastWeight: z.number().min(0).lt(1).default(0),
  }),
]);
export type WindowRule = z.infer<typeof WindowRuleSchema>;
