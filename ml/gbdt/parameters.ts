import { z } from 'zod';

/** Settings of the trainer `gbdt`. Names and defaults follow LightGBM where it has the same setting. */
export const GbdtParametersSchema = z.strictObject({
  objective: z
    .enum(['auto', 'lambdarank', 'pairwise'])
    .default('auto')
    .describe(
      'What is minimised. `auto`: log loss, squared error, and for a ranking `lambdarank`. `lambdarank` and `pairwise` are for rankings: pairs of rows of a group, weighed by what swapping them would change of NDCG, or all alike.',
    ),
  rankingDepth: z.int().min(1).max(10_000).default(30).describe('Of `lambdarank`: NDCG at this rank is improved; a little more than the ranks that are shown.'),
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
  monotone: z
    .record(z.string(), z.union([z.literal(1), z.literal(-1)]))
    .default({})
    .describe('Matrix columns in which the output may only rise (1) or only fall (-1), all else equal. For one output: not for several classes.'),
  classWeight: z
    .union([z.enum(['none', 'balanced']), z.record(z.string(), z.number().min(0))])
    .default('none')
    .describe(
      '`balanced` weighs each class by weight of all rows ÷ (classes × weight of its rows), as scikit-learn does; or a weight for each class by its text, 1 where not named.',
    ),
  categorySmoothing: z
    .number()
    .min(0)
    .default(10)
    .describe('Rows of doubt for a category: it is ordered by Σ gradient ÷ (Σ Hessian + this), and one with fewer rows is not split off.'),
  categoryL2: z.number().min(0).default(10).describe('L2 regularisation beside `l2` of the leaves of a split by categories.'),
  maxSplitCategories: z.int().min(1).max(255).default(32).describe('Most categories on one side of a split.'),
  minDataPerGroup: z.int().min(1).max(1_000_000_000).default(100).describe('Least rows by which the side of a split by categories grows at a time.'),
  oneHotUpTo: z.int().min(0).max(255).default(4).describe('A column of at most so many categories is split one against the others.'),
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
    .enum(['auto', 'loss', 'auc', 'ndcg'])
    .default('auto')
    .describe(
      'What early stopping watches on the validation rows: the loss (log loss, or mean squared error), the area under the ROC curve (binary only), or NDCG at 10 (rankings only). `auto`: the loss, and for a ranking NDCG.',
    ),
});

/** Settings of the trainer `gbdt`, with every default filled in. */
export type GbdtParameters = z.output<typeof GbdtParametersSchema>;
