/** The standard normal distribution, and tails of the binomial one. */

/** P(Z > z), to 1e-14 of its value: a series near 0, a continued fraction beyond (Abramowitz & Stegun 26.2.10, 26.2.14). */
export function normalTail(z: number): number {
  if (Number.isNaN(z)) return Number.NaN;
  if (z < 0) return 1 - normalTail(-z);
  if (z > 38) return 0;
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
      term *= (z * z) / (2 * k + 1);
      sum += term;
    }
    return 0.5 - density * sum;
  }
  let fraction = 0;
  for (let k = 120; k > 0; k--) fraction = k / (z + fraction);
  return density / (z + fraction);
}

/** The z with P(Z ≤ z) = p, by bisection on the tail; p in (0, 1). */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) return p === 0 ? Number.NEGATIVE_INFINITY : p === 1 ? Number.POSITIVE_INFINITY : Number.NaN;
  if (p > 0.5) return -normalQuantile(1 - p);
  let [low, high] = [0, 39];
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (normalTail(middle) > p) low = middle;
    else high = middle;
  }
  return -(low + high) / 2;
}

/** P(X ≤ k) of a binomial distribution of n fair coins. */
export function fairCoinsAtMost(k: number, n: number): number {
  if (k >= n) return 1;
  let log = -n * Math.LN2;
  let sum = 0;
  for (let i = 0; i <= k; i++) {
    sum += Math.exp(log);
    log += Math.log((n - i) / (i + 1));
  }
  return Math.min(1, sum);
}

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** Wilson's interval (1927) of a share, of which `hits` of `rows` were seen. */
export function wilsonInterval(hits: number, rows: number, confidence: number): Interval {
  if (rows === 0) return { low: 0, high: 1 };
  const z = normalQuantile((1 + confidence) / 2);
  const share = hits / rows;
  const middle = (share + z ** 2 / (2 * rows)) / (1 + z ** 2 / rows);
  const half = (z * Math.sqrt((share * (1 - share)) / rows + z ** 2 / (4 * rows ** 2))) / (1 + z ** 2 / rows);
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Of ascending values, as numpy's default: between the two that stand nearest. */
export function quantileOf(ascending: Float64Array, share: number): number {
  const at = share * (ascending.length - 1);
  const low = Math.floor(at);
  const [a, b] = [ascending[low] ?? Number.NaN, ascending[Math.min(low + 1, ascending.length - 1)] ?? Number.NaN];
  return a + (at - low) * (b - a);
}
