import { metricDefinition } from '../contracts/metrics.ts';
import { binaryJudge } from './evaluation/binary.ts';
import { descendingOrder, type Judge, requireAnswers } from './evaluation/judge.ts';
import { multiclassJudge } from './evaluation/multiclass.ts';
import { rankingJudge } from './evaluation/ranking.ts';
import { regressionJudge } from './evaluation/regression.ts';

/** False for losses and errors. What is no metric of the table is taken as better when it is higher. */
export function higherIsBetter(metric: string): boolean {
  return metricDefinition(metric)?.better !== 'lower';
}

export type JudgedTask =
  | { readonly kind: 'binary' }
  | { readonly kind: 'multiclass'; readonly classes: number }
  | { readonly kind: 'regression' }
  /** Scores of rows that compete within their groups: for each row the number of its group. */
  | { readonly kind: 'ranking'; readonly groups: Int32Array };

/**
 * Judges answers against the targets: class indices and row-major probabilities [rows × K], or values; of a ranking
 * relevances and scores, where a judge's weights are of the groups. `threshold` (of
 * a binary task) default 0.5.
 * @throws SOURCE_EMPTY without rows; MODEL_INVALID where an answer is no finite number
 */
export function createJudge(task: JudgedTask, y: Float64Array, answers: Float64Array, threshold = 0.5): Judge {
  switch (task.kind) {
    case 'binary':
      return binaryJudge(y, answers, threshold);
    case 'multiclass':
      return multiclassJudge(y, answers, task.classes);
    case 'regression':
      return regressionJudge(y, answers);
    case 'ranking':
      requireAnswers(y, answers, 1);
      return rankingJudge(y, answers, task.groups);
  }
}

/** The distinct scores with the weights of positives and negatives at each, highest first: what curves are drawn from. */
export function scoreLevels(y: Float64Array, scores: Float64Array, weights?: Float64Array): { score: number; positives: number; negatives: number }[] {
  const levels: { score: number; positives: number; negatives: number }[] = [];
  let last: { score: number; positives: number; negatives: number } | undefined;
  for (const row of descendingOrder(scores)) {
    const score = scores[row] as number;
    if (last?.score !== score) levels.push((last = { score, positives: 0, negatives: 0 }));
    last[y[row] === 1 ? 'positives' : 'negatives'] += weights?.[row] ?? 1;
  }
  return levels;
}
