/** The standard normal distribution, to double precision. */
const SQRT_2 = Math.SQRT2;
const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);
/** From here on the continued fraction needs fewer terms than the series. */
const FAR = 3;

/** erf(x) = 2/√π · e^(−x²) Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)) (Abramowitz and Stegun 7.1.6): no terms of two signs, so nothing cancels. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return TWO_OVER_SQRT_PI * Math.exp(-x * x) * sum;
}

/** erfc of a large x by its continued fraction (Abramowitz and Stegun 7.1.14), taken backwards. */
function erfcFraction(x: number): number {
  let tail = 0;
  for (let n = 60; n >= 1; n--) tail = n / 2 / (x + tail);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + tail);
}

function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  return x < FAR ? 1 - erfSeries(x) : erfcFraction(x);
}

/** P(a < Z < b) of a standard normal Z; exact to its digits in both tails. */
export function normalMass(a: number, b: number): number {
  if (a > 0) return normalMass(-b, -a);
  if (b < 0) return (erfc(-b / SQRT_2) - erfc(-a / SQRT_2)) / 2;
  // erf is odd: from the middle to each side
  return (erf(b / SQRT_2) + erf(-a / SQRT_2)) / 2;
}

const erf = (x: number): number => (x < FAR ? erfSeries(x) : 1 - erfcFraction(x));

const LOG_SQRT_2_PI = Math.log(Math.sqrt(2 * Math.PI));

/** Logarithm of the density of a standard normal. */
export const normalLogDensity = (z: number): number => -0.5 * z * z - LOG_SQRT_2_PI;
