/**
 * Sums of doubles without rounding: what is added can be taken away again and leaves no trace, so a sum that slides over a
 * history is that of its window alone, whatever went through it before and in whatever order.
 *
 * The sum is kept as doubles that do not overlap (J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast
 * Robust Geometric Predicates", 1997, §2.4); it is rounded once, when it is read, as Python's `math.fsum` does.
 */
export interface ExactSum {
  add(value: number): void;
  /** Takes away a value that was added. */
  remove(value: number): void;
  clear(): void;
  /** A part of the sum went beyond the largest double: `value` means nothing until `clear`. */
  overflowed(): boolean;
  /** The sum, rounded to the nearest double. Infinities add up as in arithmetic: of both signs, or with a NaN, they give NaN. */
  value(): number;
}

/** Non-overlapping doubles of all exponents are at most 2,098 bits ÷ 53. */
const MOST_PARTS = 64;

export function createExactSum(): ExactSum {
  const parts = new Float64Array(MOST_PARTS);
  let length = 0;
  let broken = false;
  // Counted, not added: an infinity that was added could not be taken away.
  let positive = 0;
  let negative = 0;
  let notNumbers = 0;

  const addFinite = (value: number): void => {
    let sum = value;
    let kept = 0;
    for (let at = 0; at < length; at++) {
      let smaller = parts[at] ?? 0;
      if (Math.abs(sum) < Math.abs(smaller)) [sum, smaller] = [smaller, sum];
      const total = sum + smaller;
      const lost = smaller - (total - sum);
      if (lost !== 0) parts[kept++] = lost;
      sum = total;
    }
    if (sum !== 0) parts[kept++] = sum;
    length = kept;
    if (!Number.isFinite(sum)) {
      broken = true;
      length = 0;
    }
  };
  const countSpecial = (value: number, by: number): void => {
    if (value === Infinity) positive += by;
    else if (value === -Infinity) negative += by;
    else notNumbers += by;
  };
  return {
    add(value) {
      if (Number.isFinite(value)) addFinite(value);
      else countSpecial(value, 1);
    },
    remove(value) {
      if (Number.isFinite(value)) addFinite(-value);
      else countSpecial(value, -1);
    },
    clear() {
      length = 0;
      broken = false;
      positive = 0;
      negative = 0;
      notNumbers = 0;
    },
    overflowed: () => broken,
    value() {
      if (notNumbers > 0 || (positive > 0 && negative > 0)) return Number.NaN;
      if (positive > 0) return Infinity;
      if (negative > 0) return -Infinity;
      return rounded(parts, length);
    },
  };
}

/** From the largest part down, until something is lost; a half that is lost goes the way of what lies below it. */
function rounded(parts: Float64Array, length: number): number {
  let at = length;
  let sum = 0;
  let lost = 0;
  while (at > 0 && lost === 0) {
    at--;
    const part = parts[at] ?? 0;
    const total = sum + part;
    lost = part - (total - sum);
    sum = total;
  }
  const below = at > 0 ? (parts[at - 1] ?? 0) : 0;
  if ((lost < 0 && below < 0) || (lost > 0 && below > 0)) {
    const twice = lost * 2;
    const next = sum + twice;
    if (next - sum === twice) return next;
  }
  return sum;
}
