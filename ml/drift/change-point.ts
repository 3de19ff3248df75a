/** Fewest values on either side of a change. */
const LEAST_SEGMENT = 3;
/** Times σ² ln n: with it a series of 100 values without a change is parted about once in a hundred. */
const PENALTY = 3;

/**
 * Where the newest level of a series begins: index of the first value after the last change of its mean, or null where it has none.
 *
 * Optimal partitioning (B. Jackson et al. 2005; what PELT of R. Killick, P. Fearnhead and I. Eckley 2012 finds): the parts minimise
 * Σ (x − mean of its part)² + 3 σ² ln n for each change, with σ from the median absolute difference of neighbours ÷ (0.6745 √2), so that the changes themselves do not widen it.
 * Exact and O(n²): for some hundreds of values. NaNs are left out of `values` by the caller.
 */
export function lastChange(values: readonly number[]): number | null {
  const n = values.length;
  if (n < 2 * LEAST_SEGMENT) return null;
  const steps = values
    .slice(1)
    .map((value, i) => Math.abs(value - (values[i] as number)))
    .sort((a, b) => a - b);
  const sigma = (steps[steps.length >> 1] as number) / (0.6745 * Math.SQRT2);
  const sums = new Float64Array(n + 1);
  const squares = new Float64Array(n + 1);
  // around the first value: a small spread of great values keeps its digits
  values.forEach((value, i) => {
    const x = value - (values[0] as number);
    sums[i + 1] = (sums[i] as number) + x;
    squares[i + 1] = (squares[i] as number) + x * x;
  });
  const cost = (from: number, to: number): number => {
    const sum = (sums[to] as number) - (sums[from] as number);
    return Math.max(0, (squares[to] as number) - (squares[from] as number) - (sum * sum) / (to - from));
  };
  // a series of steps without noise is parted by any step that is more than rounding
  const penalty = Math.max(PENALTY * sigma * sigma * Math.log(n), 1e-9 * cost(0, n));
  const best = new Float64Array(n + 1).fill(Number.POSITIVE_INFINITY);
  best[0] = -penalty;
  const before = new Int32Array(n + 1);
  for (let to = LEAST_SEGMENT; to <= n; to++) {
    for (let from = 0; from <= to - LEAST_SEGMENT; from++) {
      const total = (best[from] as number) + cost(from, to) + penalty;
      if (total < (best[to] as number)) {
        best[to] = total;
        before[to] = from;
      }
    }
  }
  const start = before[n] as number;
  return start === 0 ? null : start;
}
