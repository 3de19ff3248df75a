import { z } from 'zod';

/** Settings of the trainer `gbdt`. Names and defaults follow LightGBM where it has the same setting. */
export const GbdtParametersSchema = z.strictObject({
  trees: z.int().min(1).max(10_000).default(100).describe('Boosting rounds. A multiclass model grows one tree a class in each round.'),
  leaves: z.int().min(2).max(4096).default(31).describe('Most leaves of one tree.'),
  learningRate: z
    .number()
    .positive()
    .max(10)
    .default(0.1)
    .describe('Factor on the values of each tree. Smaller learns slower and often better; give more trees then.'),
  maxDepth: z.int().min(0).max(1000).default(0).describe('Most splits between the root and a leaf. 0: no limit.'),
  minDataInLeaf: z
    .int()
    .min(1)
    .max(1_000_000_000)
    .default(20)
    .describe('Least rows on each side of a split, estimated from the sum of Hessians as LightGBM does (exact for an unweighted regression).'),
  minSumHessian: z.number().min(0).default(1e-3).describe('Least sum of second derivatives on each side of a split.'),
  minGain: z.number().min(0).default(0).describe('A split must improve the loss by more than this.'),
  l2: z.number().min(0).default(0).describe('L2 regularisation of the leaf values.'),
  maxBins: z.int().min(2).max(255).default(255).describe('Most bins of one feature. Missing values have one bin more.'),
  featureFraction: z.number().gt(0).max(1).default(1).describe('Fraction of the features, drawn anew for each tree, that may split.'),
  baggingFraction: z.number().gt(0).max(1).default(1).describe('Fraction of the training rows, drawn anew for each round, that a tree is grown on.'),
  earlyStoppingRounds: z
    .int()
    .min(0)
    .max(10_000)
    .default(0)
    .describe('Stop when the validation metric has not improved for so many rounds, and keep the rounds up to the best. 0: never. Needs validation rows.'),
  metric: z
    .enum(['loss', 'auc'])
    .default('loss')
    .describe('What early stopping watches on the validation rows: the loss (log loss, or mean squared error), or the area under the ROC curve (binary only).'),
});

/** Settings of the trainer `gbdt`, with every default filled in. */
export type GbdtParameters = z.output<typeof GbdtParametersSchema>;
