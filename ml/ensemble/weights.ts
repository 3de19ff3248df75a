/** Weights of a voting that lose least on rows that no member was trained on. */

const MOST_STEPS = 1_000;
const ENOUGH = 1e-10;
const LEAST_PROBABILITY = 1e-12;
/** A member with less has no part that could be told from none. */
const LEAST_SHARE = 1e-3;

export interface VotingRows {
  /** Of each member, row-major: [rows × classes] probabilities, or [rows] values. */
  readonly answers: readonly ArrayLike<number>[];
  /** Class indices, or values. */
  readonly y: ArrayLike<number>;
  /** 1 for a regression. */
  readonly outputs: number;
}

/**
 * Weights ≥ 0 that sum to 1: those of the least log loss of the mixed probabilities, or of the least mean squared error of
 * the mixed values. Both are convex, so that the start is of no account. Members under 0.001 have 0.
 *
 * Probabilities: expectation maximisation of a mixture's proportions (Dempster, Laird and Rubin, 1977, § 4.3), which never
 * loses. Values: projected gradient on the simplex (Duchi et al., 2008) on the members' Gram matrix.
 */
export function optimalWeights(rows: VotingRows): readonly number[] {
  const raw = rows.outputs > 1 ? mixtureWeights(rows) : leastSquaresWeights(rows);
  const kept = raw.map((weight) => (weight < LEAST_SHARE ? 0 : weight));
  const total = kept.reduce((sum, weight) => sum + weight, 0);
  return kept.map((weight) => weight / total);
}

function mixtureWeights({ answers, y, outputs }: VotingRows): number[] {
  const ofTruth = answers.map((answer) => Float64Array.from(y, (target, row) => Math.max(LEAST_PROBABILITY, answer[row * outputs + target] ?? 0)));
  let weights = answers.map(() => 1 / answers.length);
  let before = Number.POSITIVE_INFINITY;
  for (let step = 0; step < MOST_STEPS; step++) {
    const sums = weights.map(() => 0);
    let loss = 0;
    for (let row = 0; row < y.length; row++) {
      let mixed = 0;
      for (const [m, p] of ofTruth.entries()) mixed += (weights[m] ?? 0) * (p[row] ?? 0);
      loss -= Math.log(mixed);
      for (const [m, p] of ofTruth.entries()) sums[m] = (sums[m] ?? 0) + ((weights[m] ?? 0) * (p[row] ?? 0)) / mixed;
    }
    weights = sums.map((sum) => sum / y.length);
    if (before - loss < ENOUGH * Math.abs(loss)) break;
    before = loss;
  }
  return weights;
}

function leastSquaresWeights({ answers, y }: VotingRows): number[] {
  // of weights that sum to 1, the error is a mix of the members' errors
  const errors = answers.map((answer) => Float64Array.from(y, (value, row) => (answer[row] ?? 0) - value));
  const gram = errors.map((a) => errors.map((b) => a.reduce((sum, value, row) => sum + value * (b[row] ?? 0), 0) / y.length));
  const steepest = gram.reduce((trace, line, m) => trace + (line[m] ?? 0), 0);
  let weights = answers.map(() => 1 / answers.length);
  if (steepest === 0) return weights;
  for (let step = 0; step < 20 * MOST_STEPS; step++) {
    const next = ontoSimplex(weights.map((weight, m) => weight - (gram[m] ?? []).reduce((sum, g, n) => sum + g * (weights[n] ?? 0), 0) / steepest));
    const moved = next.reduce((most, weight, m) => Math.max(most, Math.abs(weight - (weights[m] ?? 0))), 0);
    weights = next;
    if (moved < ENOUGH) break;
  }
  return weights;
}

/** The nearest point whose coordinates are ≥ 0 and sum to 1. */
function ontoSimplex(point: readonly number[]): number[] {
  const sorted = [...point].sort((a, b) => b - a);
  let sum = 0;
  let shift = 0;
  sorted.forEach((value, i) => {
    sum += value;
    const candidate = (sum - 1) / (i + 1);
    if (value > candidate) shift = candidate;
  });
  return point.map((value) => Math.max(0, value - shift));
}
