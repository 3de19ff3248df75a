/**
 * Distributions of Kolmogorov's and Smirnov's D in finite samples.
 *
 * Sources: J. Hodges, "The significance probability of the Smirnov two-sample test" (1958); J. Durbin (1973) and G. Marsaglia,
 * W. Tsang, J. Wang, "Evaluating Kolmogorov's distribution" (2003); W. Pelz, I. Good, "Approximating the lower tail-areas of the
 * Kolmogorov-Smirnov one-sample statistic" (1976); which one where: R. Simard, P. L'Ecuyer (2011), as SciPy does.
 */
import { logGamma } from './distributions.ts';

/** Up to so many rows on each side the two-sample p-value is exact, as SciPy's `ks_2samp` does by default. */
const EXACT_ROWS = 10_000;
/** Up to so many rows a tail is summed, and by about so many of its terms. */
const SUMMED_ROWS = 1_000_000;
const SUMMED_TERMS = 512;
/** From here on 2 exp(−2nD²) is below the least double. */
const BEYOND = 370;

/** P(D ≥ d) of two samples of n and m rows from one continuous distribution: what SciPy's `ks_2samp` (`auto`, two-sided) gives. */
export function smirnovTwoSampleTail(d: number, n: number, m: number): number {
  if (d <= 0) return 1;
  const effective = (n * m) / (n + m);
  if (Math.max(n, m) > EXACT_ROWS) return kolmogorovSampleTail(Math.min(1, d), roundHalfEven(effective));
  if (effective * d * d >= BEYOND) return 0;
  const divisor = greatestCommonDivisor(n, m);
  const h = Math.round(d * (n / divisor) * m);
  if (h === 0) return 1;
  return n === m ? outsideSquare(n, h) : outsideBand(Math.max(n, m), Math.min(n, m), divisor, h);
}

const roundHalfEven = (value: number): number => {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
};

function greatestCommonDivisor(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return x;
}

/** Share of the lattice paths to (n, n) that come h from the diagonal, by reflection. */
function outsideSquare(n: number, h: number): number {
  let share = 0;
  for (let k = Math.floor(n / h); k >= 0; k--) {
    let factor = 1;
    for (let j = 0; j < h; j++) factor *= (n - k * h - j) / (n + k * h + j + 1);
    share = factor * (1 - share);
  }
  return Math.min(1, 2 * share);
}

/**
 * Share of the lattice paths to (m, n) that come h from the diagonal. A path's last step to (i, j) is along i in i of i + j cases, so
 * u(i, j) = (i u(i−1, j) + j u(i, j−1)) ÷ (i + j), and u = 1 outside of the band: only the band is walked.
 */
function outsideBand(m: number, n: number, divisor: number, h: number): number {
  const [stepI, stepJ] = [n / divisor, m / divisor];
  const share = new Float64Array(n + 1).fill(1);
  for (let i = 0; i <= m; i++) {
    // |i·stepI − j·stepJ| < h
    const first = Math.max(0, Math.floor((i * stepI - h) / stepJ) + 1);
    const last = Math.min(n, Math.ceil((i * stepI + h) / stepJ) - 1);
    if (first > last) return 1;
    for (let j = first; j <= last; j++) {
      const before = j > first ? (share[j - 1] as number) : 1;
      share[j] = i + j === 0 ? 0 : (i * (share[j] as number) + j * (j === 0 ? 0 : before)) / (i + j);
    }
    if (first > 0) share[first - 1] = 1;
  }
  return Math.min(1, share[n] as number);
}

/** P(D ≥ d) of one sample of n rows from a known continuous distribution: what SciPy's `kstwo.sf(d, n)` gives. */
export function kolmogorovSampleTail(d: number, n: number): number {
  if (d >= 1) return 0;
  const t = n * d;
  if (t <= 0.5) return 1;
  if (t <= 1) return 1 - Math.exp(stirlingError(n) + 0.5 * Math.log(2 * Math.PI * n) - n + n * Math.log(2 * t - 1));
  if (t >= n - 1) return 2 * (1 - d) ** n;
  const square = t * d;
  if (square >= BEYOND) return 0;
  if (d >= 0.5 || square >= (n <= 140 ? 4 : 2.2)) return Math.min(1, 2 * oneSidedTail(d, n));
  return 1 - (n <= 140 || (n <= 100_000 && n * d ** 1.5 <= 1.4) ? durbin(d, n) : pelzGood(d, n));
}

/**
 * P(D⁺ ≥ d): Σ over j of C(n, j) d (d + j/n)^(j−1) (1 − d − j/n)^(n−j). No terms of two signs, so nothing cancels; binomial coefficients
 * by Stirling's formula with its error, as C. Loader, "Fast and Accurate Computation of Binomial Probabilities" (2000), so that great
 * logarithms do not either.
 */
function oneSidedTail(d: number, n: number): number {
  const shift = n * d;
  // J. Maag, G. Dicaire (1971): off by less than one part in a million here
  if (n > SUMMED_ROWS) return Math.exp(-((6 * shift + 1) ** 2) / (18 * n));
  // the terms are smooth in j and all but 0 at both ends: every tenth of them, say, sums up to a tenth with an error below rounding
  const step = n > 2 * SUMMED_TERMS && shift * d > 1 ? Math.floor(n / SUMMED_TERMS) : 1;
  let sum = 0;
  const whole = stirlingError(n);
  const last = Math.min(n - 1, Math.floor(n * (1 - d)));
  for (let j = step; j <= last; j += step) {
    const rest = n - j;
    if (rest <= shift) break;
    const exponent = j * Math.log1p(shift / j) + rest * Math.log1p(-shift / rest) + whole - stirlingError(j) - stirlingError(rest);
    sum += Math.exp(exponent) * Math.sqrt(n / (2 * Math.PI * j * rest)) * (shift / (shift + j));
  }
  return step * sum + (1 - d) ** n;
}

/** ln n! − ln(√(2πn) (n/e)ⁿ). */
function stirlingError(n: number): number {
  if (n < 16) return logGamma(n + 1) - (n + 0.5) * Math.log(n) + n - 0.5 * Math.log(2 * Math.PI);
  const square = n * n;
  return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / n;
}

/** P(D < d), exactly: n! ÷ nⁿ times the middle element of a matrix to the n-th power. */
function durbin(d: number, n: number): number {
  const k = Math.ceil(n * d);
  const size = 2 * k - 1;
  const h = k - n * d;
  const matrix = new Float64Array(size * size);
  const at = (row: number, column: number): number => row * size + column;
  for (let row = 0; row < size; row++) for (let column = 0; column < size; column++) matrix[at(row, column)] = row - column + 1 < 0 ? 0 : 1;
  for (let row = 0; row < size; row++) {
    matrix[at(row, 0)] = (matrix[at(row, 0)] as number) - h ** (row + 1);
    matrix[at(size - 1, row)] = (matrix[at(size - 1, row)] as number) - h ** (size - row);
  }
  matrix[at(size - 1, 0)] = (matrix[at(size - 1, 0)] as number) + (2 * h - 1 > 0 ? (2 * h - 1) ** size : 0);
  for (let row = 0; row < size; row++)
    for (let column = 0; column <= row; column++) for (let g = 2; g <= row - column + 1; g++) matrix[at(row, column)] = (matrix[at(row, column)] as number) / g;
  let { values, exponent } = power(matrix, size, n);
  let middle = values[at(k - 1, k - 1)] as number;
  for (let i = 1; i <= n; i++) {
    middle *= i / n;
    if (middle < 1e-140) {
      middle *= 1e140;
      exponent -= 140;
    }
  }
  return middle * 10 ** exponent;
}

interface Power {
  values: Float64Array;
  exponent: number;
}

/** By squaring, with a decimal exponent of its own: the elements leave the range of doubles. */
function power(matrix: Float64Array, size: number, n: number): Power {
  if (n === 1) return { values: matrix, exponent: 0 };
  const half = power(matrix, size, Math.floor(n / 2));
  const result = { values: product(half.values, half.values, size), exponent: 2 * half.exponent };
  if (n % 2 === 1) result.values = product(matrix, result.values, size);
  if ((result.values[((size - 1) / 2) * (size + 1)] as number) > 1e140) {
    result.values = result.values.map((value) => value * 1e-140);
    result.exponent += 140;
  }
  return result;
}

function product(a: Float64Array, b: Float64Array, size: number): Float64Array {
  const result = new Float64Array(size * size);
  for (let row = 0; row < size; row++) {
    for (let inner = 0; inner < size; inner++) {
      const factor = a[row * size + inner] as number;
      if (factor === 0) continue;
      for (let column = 0; column < size; column++)
        result[row * size + column] = (result[row * size + column] as number) + factor * (b[inner * size + column] as number);
    }
  }
  return result;
}

/** P(D < d) by the limit and its corrections of order n^(−1/2), n^(−1) and n^(−3/2). */
function pelzGood(d: number, n: number): number {
  const z = Math.sqrt(n) * d;
  const [z2, z4, z6] = [z ** 2, z ** 4, z ** 6];
  const pi2 = Math.PI ** 2;
  const root = Math.sqrt(2 * Math.PI);
  let [k0, k1, k2, k2b, k3, k3b] = [0, 0, 0, 0, 0, 0];
  for (let k = 0; k < 1_000; k++) {
    const odd = (k + 0.5) ** 2;
    const term = Math.exp((-pi2 * odd) / (2 * z2));
    const even = Math.exp((-pi2 * k * k) / (2 * z2));
    k0 += term;
    k1 += (pi2 * odd - z2) * term;
    k2 += (6 * z6 + 2 * z4 + pi2 * (2 * z4 - 5 * z2) * odd + pi2 ** 2 * (1 - 2 * z2) * odd ** 2) * term;
    k2b += pi2 * k * k * even;
    k3 += (-30 * z6 - 90 * z ** 8 + pi2 * (135 * z4 - 96 * z6) * odd + pi2 ** 2 * (212 * z4 - 60 * z2) * odd ** 2 + pi2 ** 3 * (5 - 30 * z2) * odd ** 3) * term;
    k3b += (3 * pi2 * k * k * z2 - pi2 ** 2 * k ** 4) * even;
    if (even < 1e-22 && k > 0) break;
  }
  return (
    (root / z) * k0 +
    (root / (2 * 3 * z4 * Math.sqrt(n))) * k1 +
    ((root / (72 * z ** 7)) * k2 - (root / (36 * z ** 3)) * k2b) / n +
    ((root / (6480 * z ** 10)) * k3 + (root / (216 * z6)) * k3b) / n ** 1.5
  );
}
