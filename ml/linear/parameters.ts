import { z } from 'zod';

/** Logistic (binary), softmax (multiclass) or ridge (regression), by the task. */
export const LinearParametersSchema = z.strictObject({
  /**
   * Penalty l2/2 · ‖w‖² beside the sum of the rows' losses; the intercept is free. scikit-learn's 1/C of
   * LogisticRegression and alpha of Ridge.
   */
  l2: z.number().min(0).default(1),
  /**
   * Penalty l1 · ‖w‖₁ beside it, which makes weights exactly 0; with `l2` the elastic net. scikit-learn's l1_ratio/C of
   * LogisticRegression (and l2 its (1 - l1_ratio)/C); rows × alpha of Lasso. Default 0.
   */
  l1: z.number().min(0).optional(),
  /**
   * `balanced` weighs each class by weight of all rows ÷ (classes × weight of the class's rows), as scikit-learn does. Or
   * a weight for each class by its text; one that is not named has 1.
   */
  classWeight: z.union([z.enum(['none', 'balanced']), z.record(z.string(), z.number().min(0))]).default('none'),
  /**
   * When training goes on from an earlier model: how much the rows count that it was trained on, 1 as if they were here
   * too (to second order), 0 not at all. Default 1.
   */
  memory: z.number().min(0).max(1).optional(),
  maxIterations: z.number().int().min(1).max(100_000).default(500),
  /** Ends when no component of the mean loss's gradient is larger. */
  tolerance: z.number().positive().default(1e-6),
  /** Iterations between two checkpoints. */
  checkpointEvery: z.number().int().min(1).default(20),
});
export type LinearParameters = z.output<typeof LinearParametersSchema>;
