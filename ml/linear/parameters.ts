import { z } from 'zod';

/** Logistic (binary), softmax (multiclass) or ridge (regression), by the task. */
export const LinearParametersSchema = z.strictObject({
  /**
   * Penalty l2/2 · ‖w‖² beside the sum of the rows' losses; the intercept is free. scikit-learn's 1/C of
   * LogisticRegression and alpha of Ridge.
   */
  l2: z.number().min(0).default(1),
  /** `balanced` weighs each class by weight of all rows ÷ (classes × weight of the class's rows), as scikit-learn does. */
  classWeight: z.enum(['none', 'balanced']).default('none'),
  maxIterations: z.number().int().min(1).max(100_000).default(500),
  /** Ends when no component of the mean loss's gradient is larger. */
  tolerance: z.number().positive().default(1e-6),
  /** Iterations between two checkpoints. */
  checkpointEvery: z.number().int().min(1).default(20),
});
export type LinearParameters = z.output<typeof LinearParametersSchema>;
