/** Tail probabilities of the distributions that tests of samples need. */
import { normalQuantile } from '../evaluation/normal.ts';

/**
 * P(X ≥ x) of a chi-square distribution with `degrees` degrees of freedom, to about 1e-14: the regularised upper incomplete
 * gamma function Q(degrees ÷ 2, x ÷ 2), by its series below the mean and its continued fraction (Lentz) above it.
 * Source: NIST Digital Library of Mathematical Functions, 8.7.1 and 8.9.2.
 */
export function chiSquareTail(x: number, degrees: number): number {
  if (x <= 0) return 1;
  const [a, z] = [degrees / 2, x / 2];
  const scale = Math.exp(a * Math.log(z) - z - logGamma(a));
  return z < a + 1 ? 1 - scale * lowerSeries(a, z) : scale * upperFraction(a, z);
}

function lowerSeries(a: number, z: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; n < 10_000 && Math.abs(term) > Math.abs(sum) * 1e-16; n++) {
    term *= z / (a + n);
    sum += term;
  }
  return sum;
}

function upperFraction(a: number, z: number): number {
  const tiny = 1e-300;
  let b = z + 1 - a;
  let c = 1 / tiny;
  let d = 1 / (Math.abs(b) < tiny ? tiny : b);
  let h = d;
  for (let n = 1; n < 10_000; n++) {
    const an = -n * (n - a);
    b += 2;
    d = an * d + b;
    d = 1 / (Math.abs(d) < tiny ? tiny : d);
    c = b + an / c;
    if (Math.abs(c) < tiny) c = tiny;
    const delta = d * c;
    h *= delta;
    if (Math.abs(delta - 1) < 1e-16) break;
  }
  return h;
}

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
  9.9843695780195716e-6, 1.5056327351493116e-7,
] as const;

/** ln Γ(a) for a > 0 (C. Lanczos, "A Precision Approximation of the Gamma Function", 1964; g = 7, nine terms). */
export function logGamma(a: number): number {
  if (a < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * a)) - logGamma(1 - a);
  const x = a - 1;
  const t = x + 7.5;
  const sum = LANCZOS.reduce((total, coefficient, index) => total + (index === 0 ? coefficient : coefficient / (x + index)), 0);
  return 0.5 * Math.log(2 * Math.PI) + (x + 0.5) * Math.log(t) - t + Math.log(sum);
}

/**
 * P(K ≥ x) of the Kolmogorov distribution, the limit of √n·D: 2 Σ (−1)^(k−1) exp(−2k²x²), for small x by its theta-transformed
 * series. Source: A. Kolmogorov 1933; W. Feller, "On the Kolmogorov-Smirnov limit theorems", 1948.
 */
export function kolmogorovTail(x: number): number {
  if (x <= 0) return 1;
  if (x < 1) {
    let sum = 0;
    for (let k = 1; k <= 20; k++) sum += Math.exp((-((2 * k - 1) ** 2) * Math.PI ** 2) / (8 * x * x));
    return 1 - (Math.sqrt(2 * Math.PI) / x) * sum;
  }
  let sum = 0;
  for (let k = 1; k <= 100; k++) {
    const term = Math.exp(-2 * k * k * x * x);
    sum += k % 2 === 1 ? term : -term;
    if (term < 1e-18) break;
  }
  return Math.min(1, Math.max(0, 2 * sum));
}

/**
 * The x with P(X ≥ x) = `tail` of a chi-square distribution; `tail` in (0, 1). Newton's steps on the logarithm of the tail, which is concave,
 * from the approximation of E. Wilson, M. Hilferty, "The distribution of chi-square" (1931).
 */
export function chiSquareUpperQuantile(tail: number, degrees: number): number {
  const a = degrees / 2;
  const spread = 2 / (9 * degrees);
  let x = Math.max(1e-3, degrees * (1 - spread - normalQuantile(tail) * Math.sqrt(spread)) ** 3);
  for (let i = 0; i < 100; i++) {
    const above = chiSquareTail(x, degrees);
    const density = Math.exp((a - 1) * Math.log(x / 2) - x / 2 - logGamma(a)) / 2;
    const step = ((Math.log(above) - Math.log(tail)) * above) / density;
    x = Math.max(x / 2, x + step);
    if (Math.abs(step) <= 1e-12 * x) break;
  }
  return x;
}
