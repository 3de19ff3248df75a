import { createRandom, hashIndex, type Random } from '../random.ts';
import {
  type Direction,
  type Distribution,
  encodeValue,
  fromSearchRange,
  type Observation,
  searchRange,
  type SearchParameter,
  type TrialValues,
} from './parameters.ts';

/**
 * CMA-ES (Hansen, "The CMA Evolution Strategy: A Tutorial", 2016) in the unit cube, with restarts that double the
 * population (Auger and Hansen 2005).
 *
 * Invariants:
 * 1. It keeps no state: mean, step size and covariance are worked out again from the trials that are known, in their
 *    order, one population at a time. So the same trials give the same next one, whoever asks.
 * 2. A trial may have been drawn from an older distribution, or by another search: such a one is moved towards the mean,
 *    as Hansen 2011 ("Injecting external solutions") does, before anything is learnt from it.
 * 3. Outside of the cube nothing is tried: a draw that leaves it is repeated, then cut.
 */
const FIRST_STEP = 0.3;
/** Restarts when steps are this small, or values of a population this alike. */
const LEAST_STEP = 1e-8;
const LEAST_SPREAD = 1e-12;
/** Populations without a better value after which it restarts, for each dimension, and 20 more. */
const STAGNATION = 10;
const REDRAWS = 100;

interface Strategy {
  readonly dimensions: number;
  readonly size: number;
  readonly parents: number;
  readonly weights: readonly number[];
  readonly effective: number;
  readonly stepRate: number;
  readonly stepDamping: number;
  readonly covarianceRate: number;
  readonly rankOne: number;
  readonly rankMu: number;
  readonly expectedNorm: number;
}

/** Table 1 of the tutorial, with positive weights only. */
function strategyOf(dimensions: number, size: number): Strategy {
  const n = dimensions;
  const parents = Math.floor(size / 2);
  const raw = Array.from({ length: parents }, (_, i) => Math.log((size + 1) / 2) - Math.log(i + 1));
  const total = raw.reduce((sum, w) => sum + w, 0);
  const weights = raw.map((w) => w / total);
  const effective = 1 / weights.reduce((sum, w) => sum + w * w, 0);
  const stepRate = (effective + 2) / (n + effective + 5);
  const rankOne = 2 / ((n + 1.3) ** 2 + effective);
  return {
    dimensions,
    size,
    parents,
    weights,
    effective,
    stepRate,
    stepDamping: 1 + 2 * Math.max(0, Math.sqrt((effective - 1) / (n + 1)) - 1) + stepRate,
    covarianceRate: (4 + effective / n) / (n + 4 + (2 * effective) / n),
    rankOne,
    rankMu: Math.min(1 - rankOne, (2 * (effective - 2 + 1 / effective)) / ((n + 2) ** 2 + effective)),
    expectedNorm: Math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
  };
}

interface State {
  strategy: Strategy;
  mean: Float64Array;
  step: number;
  covariance: Float64Array[];
  pathStep: Float64Array;
  pathCovariance: Float64Array;
  /** Axes as columns, and their lengths: covariance = B·D²·Bᵀ. */
  axes: Float64Array[];
  lengths: Float64Array;
  generation: number;
  bestValue: number;
  bestGeneration: number;
  restarts: number;
}

function begin(dimensions: number, size: number, mean: Float64Array, restarts: number): State {
  const identity = (): Float64Array[] => Array.from({ length: dimensions }, (_, i) => Float64Array.from({ length: dimensions }, (__, j) => (i === j ? 1 : 0)));
  return {
    strategy: strategyOf(dimensions, size),
    mean,
    step: FIRST_STEP,
    covariance: identity(),
    pathStep: new Float64Array(dimensions),
    pathCovariance: new Float64Array(dimensions),
    axes: identity(),
    lengths: new Float64Array(dimensions).fill(1),
    generation: 0,
    bestValue: Number.POSITIVE_INFINITY,
    bestGeneration: 0,
    restarts,
  };
}

interface Judged {
  readonly point: Float64Array;
  /** Smaller is better; infinite where nothing is known but that it is bad. */
  readonly value: number;
}

const populationSize = (dimensions: number): number => 4 + Math.floor(3 * Math.log(dimensions));

/** Next values by name, for numeric parameters that exist in every trial. */
export function drawByCmaEs(input: {
  readonly parameters: readonly SearchParameter[];
  readonly observations: readonly Observation[];
  readonly direction: Direction;
  readonly seed: number;
  readonly random: Random;
}): TrialValues {
  const { parameters, observations, direction, seed, random } = input;
  const numeric = parameters.map(({ name, distribution }) => ({ name, distribution: distribution as Exclude<Distribution, { kind: 'categorical' }> }));
  const judged = observations.flatMap((observation): Judged[] => {
    const point = Float64Array.from(numeric, ({ name, distribution }) => toUnit(distribution, encodeValue(distribution, observation.values[name])));
    if (point.some(Number.isNaN)) return [];
    const value = observation.value === null ? Number.POSITIVE_INFINITY : direction === 'minimize' ? observation.value : -observation.value;
    return [{ point, value }];
  });
  const point = drawPoint(learn(judged, numeric.length, seed), random);
  return Object.fromEntries(
    numeric.map(({ name, distribution }, i) => {
      const { low, high } = searchRange(distribution);
      return [name, fromSearchRange(distribution, low + (point[i] ?? 0) * (high - low))];
    }),
  );
}

function toUnit(distribution: Exclude<Distribution, { kind: 'categorical' }>, value: number | undefined): number {
  if (value === undefined) return Number.NaN;
  const { low, high } = searchRange(distribution);
  return high === low ? 0.5 : ((distribution.log ? Math.log(value) : value) - low) / (high - low);
}

/** The distribution after all whole populations of these trials. */
function learn(judged: readonly Judged[], dimensions: number, seed: number): State {
  const centre = (): Float64Array => new Float64Array(dimensions).fill(0.5);
  let state = begin(dimensions, populationSize(dimensions), centre(), 0);
  for (let from = 0; from + state.strategy.size <= judged.length; ) {
    const population = judged.slice(from, from + state.strategy.size);
    from += state.strategy.size;
    update(state, population);
    if (isStuck(state, population)) {
      const random = createRandom(hashIndex(state.restarts, seed ^ 0x5bd1e995));
      const mean = centre().map(() => random.next());
      state = begin(dimensions, state.strategy.size * 2, mean, state.restarts + 1);
    }
  }
  return state;
}

function isStuck(state: State, population: readonly Judged[]): boolean {
  const finite = population.map(({ value }) => value).filter(Number.isFinite);
  const spread = finite.length < 2 ? Number.POSITIVE_INFINITY : Math.max(...finite) - Math.min(...finite);
  const longest = Math.max(...state.lengths);
  const shortest = Math.min(...state.lengths);
  return (
    state.step * longest < LEAST_STEP ||
    spread <= LEAST_SPREAD * Math.max(1, Math.abs(finite[0] ?? 0)) ||
    longest > 1e7 * shortest ||
    state.generation - state.bestGeneration > 20 + STAGNATION * state.strategy.dimensions
  );
}

function update(state: State, population: readonly Judged[]): void {
  const { strategy, mean, step } = state;
  const { dimensions: n, weights, effective, stepRate, covarianceRate, rankOne, rankMu, expectedNorm, stepDamping } = strategy;
  const ranked = population.map((entry, order) => ({ ...entry, order })).sort((a, b) => a.value - b.value || a.order - b.order || 0);
  state.generation++;
  const best = ranked[0]?.value ?? Number.POSITIVE_INFINITY;
  if (best < state.bestValue) {
    state.bestValue = best;
    state.bestGeneration = state.generation;
  }
  const furthest = Math.sqrt(n) + (2 * n) / (n + 2);
  const steps = ranked.slice(0, strategy.parents).map(({ point }) => {
    const y = point.map((value, i) => (value - (mean[i] ?? 0)) / step);
    const length = norm(whiten(state, y));
    return length > furthest ? y.map((value) => (value * furthest) / length) : y;
  });
  const move = new Float64Array(n);
  steps.forEach((y, k) => {
    for (let i = 0; i < n; i++) move[i] = (move[i] ?? 0) + (weights[k] ?? 0) * (y[i] ?? 0);
  });
  state.mean = mean.map((value, i) => Math.min(1, Math.max(0, value + step * (move[i] ?? 0))));

  const white = whiten(state, move);
  const grow = Math.sqrt(stepRate * (2 - stepRate) * effective);
  state.pathStep = state.pathStep.map((value, i) => (1 - stepRate) * value + grow * (white[i] ?? 0));
  const pathLength = norm(state.pathStep);
  state.step = Math.min(1, step * Math.exp((stepRate / stepDamping) * (pathLength / expectedNorm - 1)));

  const early = pathLength / Math.sqrt(1 - (1 - stepRate) ** (2 * state.generation)) < (1.4 + 2 / (n + 1)) * expectedNorm ? 1 : 0;
  const along = Math.sqrt(covarianceRate * (2 - covarianceRate) * effective);
  state.pathCovariance = state.pathCovariance.map((value, i) => (1 - covarianceRate) * value + early * along * (move[i] ?? 0));
  const kept = 1 - rankOne - rankMu + (1 - early) * rankOne * covarianceRate * (2 - covarianceRate);
  for (let i = 0; i < n; i++) {
    const row = state.covariance[i] as Float64Array;
    for (let j = 0; j < n; j++) {
      let sum = 0;
      steps.forEach((y, k) => (sum += (weights[k] ?? 0) * (y[i] ?? 0) * (y[j] ?? 0)));
      row[j] = kept * (row[j] ?? 0) + rankOne * (state.pathCovariance[i] ?? 0) * (state.pathCovariance[j] ?? 0) + rankMu * sum;
    }
  }
  const { values, vectors } = eigen(state.covariance);
  state.axes = vectors;
  state.lengths = values.map((value) => Math.sqrt(Math.max(value, 1e-20)));
}

/** covariance^(−½)·y */
function whiten({ axes, lengths }: State, y: Float64Array): Float64Array {
  const n = y.length;
  const out = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    let along = 0;
    for (let i = 0; i < n; i++) along += (axes[i]?.[k] ?? 0) * (y[i] ?? 0);
    along /= lengths[k] ?? 1;
    for (let i = 0; i < n; i++) out[i] = (out[i] ?? 0) + (axes[i]?.[k] ?? 0) * along;
  }
  return out;
}

function drawPoint({ mean, step, axes, lengths }: State, random: Random): Float64Array {
  const n = mean.length;
  let point = mean;
  for (let attempt = 0; attempt < REDRAWS; attempt++) {
    const z = Float64Array.from({ length: n }, (_, k) => (lengths[k] ?? 1) * random.normal());
    point = mean.map((value, i) => {
      let along = 0;
      for (let k = 0; k < n; k++) along += (axes[i]?.[k] ?? 0) * (z[k] ?? 0);
      return value + step * along;
    });
    if (point.every((value) => value >= 0 && value <= 1)) return point;
  }
  return point.map((value) => Math.min(1, Math.max(0, value)));
}

const norm = (vector: Float64Array): number => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));

/** Eigenvalues and eigenvectors (columns) of a symmetric matrix, by Jacobi's rotations (Golub and Van Loan, 8.5). */
function eigen(matrix: readonly Float64Array[]): { readonly values: Float64Array; readonly vectors: Float64Array[] } {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  const v = Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (__, j) => (i === j ? 1 : 0)));
  const get = (m: readonly Float64Array[], i: number, j: number): number => m[i]?.[j] ?? 0;
  const set = (m: readonly Float64Array[], i: number, j: number, value: number): void => {
    (m[i] as Float64Array)[j] = value;
  };
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) off += get(a, i, j) ** 2;
    if (off < 1e-30) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const apq = get(a, p, q);
        if (apq === 0) continue;
        const theta = (get(a, q, q) - get(a, p, p)) / (2 * apq);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const [akp, akq] = [get(a, k, p), get(a, k, q)];
          set(a, k, p, c * akp - s * akq);
          set(a, k, q, s * akp + c * akq);
        }
        for (let k = 0; k < n; k++) {
          const [apk, aqk] = [get(a, p, k), get(a, q, k)];
          set(a, p, k, c * apk - s * aqk);
          set(a, q, k, s * apk + c * aqk);
          const [vkp, vkq] = [get(v, k, p), get(v, k, q)];
          set(v, k, p, c * vkp - s * vkq);
          set(v, k, q, s * vkp + c * vkq);
        }
      }
    }
  }
  return { values: Float64Array.from({ length: n }, (_, i) => get(a, i, i)), vectors: v };
}
