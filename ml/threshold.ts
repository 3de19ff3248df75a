import { scoreLevels } from './metrics.ts';

/**
 * The probability of the positive class from which on it is answered, so that the metric is highest on these rows: halfway
 * between the last score that is answered and the next one. Of equal ones the threshold nearest to 0.5 is taken. Choose
 * it on validation rows, never on test rows.
 */
export function bestThreshold(
  y: Float64Array,
  scores: Float64Array,
  metric: 'f1' | 'accuracy',
  weights?: Float64Array,
): { readonly threshold: number; readonly value: number } {
  const levels = scoreLevels(y, scores, weights);
  const positive = levels.reduce((sum, level) => sum + level.positives, 0);
  const negative = levels.reduce((sum, level) => sum + level.negatives, 0);
  let best = { threshold: 0.5, value: Number.NEGATIVE_INFINITY };
  const consider = (truePositives: number, falsePositives: number, threshold: number): void => {
    const f1Whole = truePositives + falsePositives + positive;
    const f1 = f1Whole === 0 ? 0 : (2 * truePositives) / f1Whole;
    const value = metric === 'f1' ? f1 : (truePositives + negative - falsePositives) / (positive + negative);
    const nearer = Math.abs(threshold - 0.5) < Math.abs(best.threshold - 0.5);
    if (value > best.value || (value === best.value && nearer)) best = { threshold, value };
  };
  const highest = levels[0]?.score ?? 1;
  // Answering nothing: the threshold stands above every score, where there is room.
  if (highest < 1) consider(0, 0, (highest + 1) / 2);
  let truePositives = 0;
  let falsePositives = 0;
  levels.forEach(({ score, positives, negatives }, i) => {
    truePositives += positives;
    falsePositives += negatives;
    const next = levels[i + 1]?.score ?? 0;
    const middle = (score + next) / 2;
    consider(truePositives, falsePositives, middle > next ? middle : score);
  });
  return best;
}
