import { descendingOrder } from './judge.ts';

export interface Areas {
  /** Area under the ROC curve of each list of scores. */
  readonly auc: readonly number[];
  /** Covariances of the areas, [i][j]. */
  readonly covariance: readonly (readonly number[])[];
}

/**
 * Areas under ROC curves of several scores of the same rows, with their covariance: DeLong, DeLong & Clarke-Pearson
 * (1988), by the midranks of Sun & Xu (2014), in n log n. NaN where a class has fewer than two rows.
 */
export function delong(y: Float64Array, scores: readonly Float64Array[]): Areas {
  const isPositive = (row: number): boolean => y[row] === 1;
  const positives = y.reduce((count, label) => count + (label === 1 ? 1 : 0), 0);
  const negatives = y.length - positives;
  const parts = scores.map((values) => {
    const [all, ofPositives, ofNegatives] = [
      midranks(values),
      midranks(values.filter((_, row) => isPositive(row))),
      midranks(values.filter((_, row) => !isPositive(row))),
    ];
    // the share of the other class that each row stands on the right side of
    const [above, below] = [new Float64Array(positives), new Float64Array(negatives)];
    let [p, n] = [0, 0];
    for (let row = 0; row < y.length; row++) {
      if (isPositive(row)) above[p] = ((all[row] as number) - (ofPositives[p++] as number)) / negatives;
      else below[n] = 1 - ((all[row] as number) - (ofNegatives[n++] as number)) / positives;
    }
    return { above, below, auc: above.reduce((sum, share) => sum + share, 0) / positives };
  });
  return {
    auc: parts.map(({ auc }) => auc),
    covariance: parts.map((a) => parts.map((b) => covariance(a.above, b.above) / positives + covariance(a.below, b.below) / negatives)),
  };
}

/** Ranks from 1 for the least; equal values share the mean of theirs. */
function midranks(values: Float64Array): Float64Array {
  const order = descendingOrder(values);
  const rows = values.length;
  const ranks = new Float64Array(rows);
  for (let i = 0; i < rows; ) {
    const from = i;
    while (i < rows && values[order[i] as number] === values[order[from] as number]) i++;
    // from … i - 1 from the top are rows - i + 1 … rows - from from the bottom
    for (let j = from; j < i; j++) ranks[order[j] as number] = (rows - i + 1 + rows - from) / 2;
  }
  return ranks;
}

function covariance(a: Float64Array, b: Float64Array): number {
  const meanA = a.reduce((sum, value) => sum + value, 0) / a.length;
  const meanB = b.reduce((sum, value) => sum + value, 0) / b.length;
  return a.reduce((sum, value, i) => sum + (value - meanA) * ((b[i] as number) - meanB), 0) / (a.length - 1);
}
