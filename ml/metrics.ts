import { MillraceError } from '../contracts/errors.ts';

/**
 * Metrics of predictions. Probabilities come row-major [rows × K]; for binary K = 2 and column 1 is the positive class.
 * Every metric takes weights; each equals scikit-learn's of the same name.
 */
export const BINARY_METRICS = ['auc', 'averagePrecision', 'logLoss', 'brier', 'accuracy', 'f1', 'precision', 'recall'] as const;
export const MULTICLASS_METRICS = ['accuracy', 'logLoss', 'macroF1'] as const;
export const REGRESSION_METRICS = ['rmse', 'mae', 'r2'] as const;
export type MetricName = (typeof BINARY_METRICS)[number] | (typeof MULTICLASS_METRICS)[number] | (typeof REGRESSION_METRICS)[number];

const LOWER_IS_BETTER: ReadonlySet<string> = new Set(['logLoss', 'brier', 'rmse', 'mae']);

/** False for losses and errors. */
export function higherIsBetter(metric: string): boolean {
  return !LOWER_IS_BETTER.has(metric);
}

type Weights = Float64Array | undefined;
const weightOf = (weights: Weights, row: number): number => (weights === undefined ? 1 : (weights[row] ?? 0));
const totalOf = (weights: Weights, rows: number): number => weights?.reduce((sum, weight) => sum + weight, 0) ?? rows;
/** 0 where scikit-learn says 0 with a warning: nothing was predicted, or nothing was there. */
const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

/** Rows from the highest score to the lowest. */
function descendingOrder(scores: Float64Array): Uint32Array {
  return Uint32Array.from(scores, (_, row) => row).sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b);
}

/** Calls back once for each distinct score, highest first, with the weights of the rows that have it. */
function forEachScore(y: Float64Array, scores: Float64Array, weights: Weights, visit: (score: number, positives: number, negatives: number) => void): void {
  const order = descendingOrder(scores);
  for (let i = 0; i < order.length; ) {
    const score = scores[order[i] ?? 0] ?? 0;
    let positives = 0;
    let negatives = 0;
    for (; i < order.length && scores[order[i] ?? 0] === score; i++) {
      const row = order[i] ?? 0;
      if (y[row] === 1) positives += weightOf(weights, row);
      else negatives += weightOf(weights, row);
    }
    visit(score, positives, negatives);
  }
}

function classWeights(y: Float64Array, weights: Weights): { readonly positive: number; readonly negative: number } {
  let positive = 0;
  let negative = 0;
  y.forEach((label, row) => {
    if (label === 1) positive += weightOf(weights, row);
    else negative += weightOf(weights, row);
  });
  return { positive, negative };
}

/** Area under the ROC curve, ties counted half (Mann–Whitney); NaN when a class is absent. */
export function auc(y: Float64Array, scores: Float64Array, weights?: Float64Array): number {
  const { positive, negative } = classWeights(y, weights);
  let above = 0;
  let area = 0;
  forEachScore(y, scores, weights, (_, positives, negatives) => {
    area += negatives * (above + positives / 2);
    above += positives;
  });
  return positive > 0 && negative > 0 ? area / (positive * negative) : Number.NaN;
}

/** Sum over the thresholds of precision × the gain in recall; NaN when there is no positive. */
export function averagePrecision(y: Float64Array, scores: Float64Array, weights?: Float64Array): number {
  const { positive } = classWeights(y, weights);
  let truePositives = 0;
  let predicted = 0;
  let sum = 0;
  forEachScore(y, scores, weights, (_, positives, negatives) => {
    truePositives += positives;
    predicted += positives + negatives;
    if (predicted > 0) sum += positives * (truePositives / predicted);
  });
  return positive > 0 ? sum / positive : Number.NaN;
}

/** Mean of -ln p(class of the row), p cut to [2⁻⁵², 1 - 2⁻⁵²] as scikit-learn does for float64. */
export function logLoss(y: Float64Array, probabilities: Float64Array, classes: number, weights?: Float64Array): number {
  let sum = 0;
  y.forEach((label, row) => {
    const p = probabilities[row * classes + label] ?? 0;
    sum -= weightOf(weights, row) * Math.log(Math.min(1 - Number.EPSILON, Math.max(Number.EPSILON, p)));
  });
  return sum / totalOf(weights, y.length);
}

/** Mean of (p - y)². */
export function brier(y: Float64Array, scores: Float64Array, weights?: Float64Array): number {
  let sum = 0;
  y.forEach((label, row) => {
    sum += weightOf(weights, row) * ((scores[row] ?? 0) - label) ** 2;
  });
  return sum / totalOf(weights, y.length);
}

/** Accuracy, precision, recall and F1 of the positive class, answered from the threshold on. */
export function thresholdMetrics(
  y: Float64Array,
  scores: Float64Array,
  threshold: number,
  weights?: Float64Array,
): { readonly accuracy: number; readonly precision: number; readonly recall: number; readonly f1: number } {
  let truePositives = 0;
  let predicted = 0;
  let positives = 0;
  let correct = 0;
  y.forEach((label, row) => {
    const weight = weightOf(weights, row);
    const answer = (scores[row] ?? 0) >= threshold ? 1 : 0;
    if (answer === label) correct += weight;
    predicted += answer * weight;
    positives += label * weight;
    truePositives += answer * label * weight;
  });
  return {
    accuracy: correct / totalOf(weights, y.length),
    precision: ratio(truePositives, predicted),
    recall: ratio(truePositives, positives),
    f1: ratio(2 * truePositives, predicted + positives),
  };
}

/** The most probable class of each row; of equal ones the first. */
export function mostProbable(probabilities: Float64Array, classes: number): Float64Array {
  return Float64Array.from({ length: probabilities.length / classes }, (_, row) => {
    let best = 0;
    for (let k = 1; k < classes; k++) if ((probabilities[row * classes + k] ?? 0) > (probabilities[row * classes + best] ?? 0)) best = k;
    return best;
  });
}

/** All metrics of a binary classification. `probabilities` is [rows × 2]; threshold default 0.5. */
export function binaryMetrics(
  y: Float64Array,
  probabilities: Float64Array,
  options: { readonly threshold?: number; readonly weights?: Float64Array } = {},
): Record<(typeof BINARY_METRICS)[number], number> {
  const { threshold = 0.5, weights } = options;
  requireRows(y, probabilities, 2);
  const scores = Float64Array.from(y, (_, row) => probabilities[2 * row + 1] ?? 0);
  return {
    auc: auc(y, scores, weights),
    averagePrecision: averagePrecision(y, scores, weights),
    logLoss: logLoss(y, probabilities, 2, weights),
    brier: brier(y, scores, weights),
    ...thresholdMetrics(y, scores, threshold, weights),
  };
}

/** All metrics of a classification with K classes. F1 is the plain mean over the classes that occur or are answered. */
export function multiclassMetrics(
  y: Float64Array,
  probabilities: Float64Array,
  classes: number,
  weights?: Float64Array,
): Record<(typeof MULTICLASS_METRICS)[number], number> {
  requireRows(y, probabilities, classes);
  const answers = mostProbable(probabilities, classes);
  const hits = new Float64Array(classes);
  const answered = new Float64Array(classes);
  const present = new Float64Array(classes);
  y.forEach((label, row) => {
    const answer = answers[row] ?? 0;
    const weight = weightOf(weights, row);
    answered[answer] = (answered[answer] ?? 0) + weight;
    present[label] = (present[label] ?? 0) + weight;
    if (answer === label) hits[label] = (hits[label] ?? 0) + weight;
  });
  const scored = [...hits.keys()].filter((k) => (answered[k] ?? 0) + (present[k] ?? 0) > 0);
  const f1 = (k: number): number => (2 * (hits[k] ?? 0)) / ((answered[k] ?? 0) + (present[k] ?? 0));
  return {
    accuracy: hits.reduce((sum, hit) => sum + hit, 0) / totalOf(weights, y.length),
    logLoss: logLoss(y, probabilities, classes, weights),
    macroF1: ratio(
      scored.reduce((sum, k) => sum + f1(k), 0),
      scored.length,
    ),
  };
}

/** Root mean squared error, mean absolute error, and R² (0 when the target is constant, 1 when it is also met). */
export function regressionMetrics(y: Float64Array, predictions: Float64Array, weights?: Float64Array): Record<(typeof REGRESSION_METRICS)[number], number> {
  requireRows(y, predictions, 1);
  const total = totalOf(weights, y.length);
  let mean = 0;
  let squares = 0;
  let absolute = 0;
  y.forEach((value, row) => {
    const weight = weightOf(weights, row);
    const error = value - (predictions[row] ?? 0);
    mean += (weight * value) / total;
    squares += weight * error * error;
    absolute += weight * Math.abs(error);
  });
  const spread = y.reduce((sum, value, row) => sum + weightOf(weights, row) * (value - mean) ** 2, 0);
  return { rmse: Math.sqrt(squares / total), mae: absolute / total, r2: spread === 0 ? (squares === 0 ? 1 : 0) : 1 - squares / spread };
}

function requireRows(y: Float64Array, predictions: Float64Array, outputs: number): void {
  if (y.length === 0) throw new MillraceError('SOURCE_EMPTY', 'There are no rows to evaluate on.');
  if (predictions.length !== y.length * outputs) {
    throw new MillraceError('INTERNAL', `${y.length} rows need ${y.length * outputs} predictions, not ${predictions.length}.`);
  }
}

/** The distinct scores with the weights of positives and negatives at each, highest first: what curves are drawn from. */
export function scoreLevels(y: Float64Array, scores: Float64Array, weights?: Float64Array): { score: number; positives: number; negatives: number }[] {
  const levels: { score: number; positives: number; negatives: number }[] = [];
  forEachScore(y, scores, weights, (score, positives, negatives) => levels.push({ score, positives, negatives }));
  return levels;
}
