import { createEProcess } from './e-process.ts';
import type { SequentialTest } from './rates.ts';

/** Values of one group in sums. */
export interface ValueSums {
  readonly n: number;
  readonly sum: number;
  readonly sumSquares: number;
  /** Least and greatest value; of no values, 0. */
  readonly min: number;
  readonly max: number;
}

export interface MeanPair {
  readonly tried: ValueSums;
  readonly ruling: ValueSums;
}

export interface MeanScore {
  /** The tried group's sum less what its number of values would sum to at the mean of both groups. */
  readonly score: number;
  /** Variance of the score when the values are dealt to the groups at random. */
  readonly variance: number;
  /** How far above the mean of both groups the greatest value is. */
  readonly reach: number;
  /** Sum of squared distances from the mean of both groups, and how many values there are. */
  readonly squares: number;
  readonly n: number;
}

/** Values as they would be with the tried group's all lowered by `margin`, and all multiplied by `sign`, 1 or -1, first. */
function turned({ n, sum, sumSquares, min, max }: ValueSums, sign: 1 | -1, margin: number): ValueSums {
  const [low, high] = sign === 1 ? [min, max] : [-max, -min];
  return {
    n,
    sum: sign * sum - n * margin,
    sumSquares: sumSquares - 2 * margin * sign * sum + n * margin * margin,
    min: low - margin,
    max: high - margin,
  };
}

/**
 * The permutation score of one block and its variance V = n₁n₀ ÷ (N(N − 1)) · Σ(v − v̄)², given the block's values.
 * Source: E. J. G. Pitman, "Significance tests which may be applied to samples from any populations", 1937.
 */
export function scoreOfMeans({ tried, ruling }: MeanPair): MeanScore {
  const n = tried.n + ruling.n;
  if (tried.n === 0 || ruling.n === 0) return { score: 0, variance: 0, reach: 0, squares: 0, n };
  const mean = (tried.sum + ruling.sum) / n;
  const squares = Math.max(0, tried.sumSquares + ruling.sumSquares - n * mean * mean);
  return {
    score: tried.sum - tried.n * mean,
    variance: (tried.n * ruling.n * squares) / (n * (n - 1)),
    reach: Math.max(0, Math.max(tried.max, ruling.max) - mean),
    squares,
    n,
  };
}

/** Differences of means in standard deviations that are bet on. */
const EFFECTS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.8];
const EVEN = EFFECTS.map(() => 1);

export interface MeanTestOptions {
  /** Which side is good. */
  readonly better: 'higher' | 'lower';
  /** By how much the tried group's mean may be worse. Default 0. */
  readonly margin?: number;
}

/**
 * Tests that the tried group's mean is not worse than the other's by more than the margin, block by block. Each block's values
 * are taken as given; under the hypothesis of equal versions which of them are the tried group's is chance, whatever the values
 * are and however they drift from block to block. The factor is exp(λS − V·(e^{λR} − 1 − λR) ÷ R²): Bennett's bound on the score's
 * moment generating function with the variance of drawing without replacement. It is exact for values of two kinds (a hypergeometric
 * number is a sum of independent ones: V. A. Vatutin, V. G. Mikhailov 1982), for others to the third order of λ; simulated in the tests.
 * Sources: G. Bennett, "Probability inequalities for the sum of independent random variables", 1962; S. R. Howard, A. Ramdas,
 * J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021.
 */
export function testMeanNotWorse({ better, margin = 0 }: MeanTestOptions): SequentialTest<MeanPair> {
  const process = createEProcess(EVEN);
  const sign = better === 'lower' ? 1 : -1;
  let squares = 0;
  let n = 0;
  return {
    add(pair, atSeconds) {
      const block = scoreOfMeans({ tried: turned(pair.tried, sign, margin), ruling: turned(pair.ruling, sign, 0) });
      squares += block.squares;
      n += block.n;
      const deviation = Math.sqrt(squares / Math.max(1, n));
      if (block.variance === 0 || deviation === 0) return;
      process.update((i) => {
        const lambda = (EFFECTS[i] as number) / deviation;
        const reached = lambda * block.reach;
        const bend = reached < 1e-4 ? (lambda * lambda) / 2 : (Math.expm1(reached) - reached) / (block.reach * block.reach);
        return lambda * block.score - block.variance * bend;
      }, atSeconds);
    },
    get evidence() {
      return process.evidence;
    },
    get pValue() {
      return process.pValue;
    },
  };
}
