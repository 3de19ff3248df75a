/**
 * Every metric that an evaluation computes: for which tasks, which way is better, and where its formula comes from.
 * `ranking` figures are there when the evaluation is told which rows belong together. A figure that has no value on the
 * rows (one class alone, a logarithm of a negative number) is left out.
 */
export interface MetricDefinition {
  readonly tasks: readonly ('binary' | 'multiclass' | 'regression' | 'ranking')[];
  readonly better: 'higher' | 'lower';
  /** The function of scikit-learn that it equals, or its formula. */
  readonly formula: string;
  /** Shown where there is one line for all. */
  readonly headline?: true;
  /** A share of rows that are right: its interval is Wilson's where rows are few. */
  readonly proportion?: true;
}

type Tasks = MetricDefinition['tasks'];
const BINARY: Tasks = ['binary'];
const MULTICLASS: Tasks = ['multiclass'];
const CLASSES: Tasks = ['binary', 'multiclass'];
const REGRESSION: Tasks = ['regression'];
const RANKING: Tasks = ['ranking'];

const higher = (tasks: Tasks, formula: string, more: Pick<MetricDefinition, 'headline' | 'proportion'> = {}): MetricDefinition => ({
  tasks,
  better: 'higher',
  formula,
  ...more,
});
const lower = (tasks: Tasks, formula: string, more: Pick<MetricDefinition, 'headline'> = {}): MetricDefinition => ({
  tasks,
  better: 'lower',
  formula,
  ...more,
});

export const METRIC_TABLE = {
  auc: higher(BINARY, 'roc_auc_score', { headline: true }),
  averagePrecision: higher(BINARY, 'average_precision_score', { headline: true }),
  logLoss: lower(CLASSES, 'log_loss', { headline: true }),
  brier: lower(CLASSES, 'brier_score_loss; of several classes mean of Σₖ (pₖ - yₖ)²', { headline: true }),
  accuracy: higher(CLASSES, 'accuracy_score; equal to every micro average', { headline: true, proportion: true }),
  precision: higher(BINARY, 'precision_score', { headline: true, proportion: true }),
  recall: higher(BINARY, 'recall_score', { headline: true, proportion: true }),
  f1: higher(BINARY, 'f1_score', { headline: true }),
  macroF1: higher(CLASSES, "f1_score(average='macro')", { headline: true }),
  rmse: lower(REGRESSION, 'root_mean_squared_error', { headline: true }),
  mae: lower(REGRESSION, 'mean_absolute_error', { headline: true }),
  r2: higher(REGRESSION, 'r2_score', { headline: true }),
  specificity: higher(BINARY, 'recall_score(pos_label=0)', { proportion: true }),
  balancedAccuracy: higher(CLASSES, 'balanced_accuracy_score'),
  macroPrecision: higher(CLASSES, "precision_score(average='macro')"),
  macroRecall: higher(CLASSES, "recall_score(average='macro')"),
  weightedPrecision: higher(CLASSES, "precision_score(average='weighted')"),
  weightedRecall: higher(CLASSES, "recall_score(average='weighted')"),
  weightedF1: higher(CLASSES, "f1_score(average='weighted')"),
  matthews: higher(CLASSES, 'matthews_corrcoef'),
  cohenKappa: higher(CLASSES, 'cohen_kappa_score'),
  quadraticKappa: higher(MULTICLASS, "cohen_kappa_score(weights='quadratic'), classes in their order"),
  ece: lower(CLASSES, 'Σ share of the bin × |mean probability - frequency|, 15 bins of equal width (Naeini 2015); of several classes of the answered one'),
  ks: higher(BINARY, 'scipy.stats.ks_2samp of the scores of the two classes'),
  aucOvr: higher(MULTICLASS, "roc_auc_score(multi_class='ovr'), over classes that occur, at most 100"),
  aucOvrWeighted: higher(MULTICLASS, "roc_auc_score(multi_class='ovr', average='weighted')"),
  aucOvo: higher(MULTICLASS, "roc_auc_score(multi_class='ovo'), over classes that occur, at most 100"),
  aucOvoWeighted: higher(MULTICLASS, "roc_auc_score(multi_class='ovo', average='weighted')"),
  top2Accuracy: higher(MULTICLASS, 'top_k_accuracy_score(k=2)', { proportion: true }),
  top3Accuracy: higher(MULTICLASS, 'top_k_accuracy_score(k=3)', { proportion: true }),
  top5Accuracy: higher(MULTICLASS, 'top_k_accuracy_score(k=5)', { proportion: true }),
  medae: lower(REGRESSION, 'median_absolute_error'),
  mape: lower(REGRESSION, 'mean_absolute_percentage_error'),
  smape: lower(REGRESSION, 'mean of 2 |y - p| / (|y| + |p|), 0 where both are 0'),
  rmsle: lower(REGRESSION, 'root_mean_squared_log_error'),
  explainedVariance: higher(REGRESSION, 'explained_variance_score'),
  maxError: lower(REGRESSION, 'max_error'),
  pinball10: lower(REGRESSION, 'mean_pinball_loss(alpha=0.1)'),
  pinball50: lower(REGRESSION, 'mean_pinball_loss(alpha=0.5)'),
  pinball90: lower(REGRESSION, 'mean_pinball_loss(alpha=0.9)'),
  poissonDeviance: lower(REGRESSION, 'mean_poisson_deviance'),
  gammaDeviance: lower(REGRESSION, 'mean_gamma_deviance'),
  d2Absolute: higher(REGRESSION, 'd2_absolute_error_score'),
  d2Poisson: higher(REGRESSION, 'd2_tweedie_score(power=1)'),
  ndcg: higher(RANKING, 'ndcg_score, mean over the groups', { headline: true }),
  'ndcg@5': higher(RANKING, 'ndcg_score(k=5)'),
  'ndcg@10': higher(RANKING, 'ndcg_score(k=10)', { headline: true }),
  map: higher(RANKING, 'mean over the groups of average_precision_score, relevant is above 0'),
  'map@10': higher(RANKING, 'mean over the groups of Σ precision at each relevant one of the first 10 / min(relevant ones, 10)'),
  mrr: higher(RANKING, 'mean over the groups of 1 / rank of the first relevant one; of equal scores the irrelevant ones come first'),
} as const satisfies Readonly<Record<string, MetricDefinition>>;

export type Metric = keyof typeof METRIC_TABLE;

/** The definition of a metric by its name; undefined for what is none, such as a business metric. */
export function metricDefinition(name: string): MetricDefinition | undefined {
  return Object.hasOwn(METRIC_TABLE, name) ? METRIC_TABLE[name as Metric] : undefined;
}
