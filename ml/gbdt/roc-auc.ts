/** Area under the ROC curve: the weighted share of pairs of a 1 and a 0 that the scores order rightly, ties half (Mann and Whitney). NaN with one class. */
export function rocAuc(y: Float64Array, scores: Float64Array, weights?: Float64Array): number {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => (scores[a] as number) - (scores[b] as number));
  let negatives = 0;
  let positives = 0;
  let pairs = 0;
  for (let i = 0; i < order.length; ) {
    const score = scores[order[i] as number];
    let tiedNegatives = 0;
    let tiedPositives = 0;
    for (; i < order.length && scores[order[i] as number] === score; i += 1) {
      const row = order[i] as number;
      const weight = weights === undefined ? 1 : (weights[row] as number);
      if (y[row] === 1) tiedPositives += weight;
      else tiedNegatives += weight;
    }
    pairs += tiedPositives * (negatives + tiedNegatives / 2);
    negatives += tiedNegatives;
    positives += tiedPositives;
  }
  return pairs / (positives * negatives);
}
