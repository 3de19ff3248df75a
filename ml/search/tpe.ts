import type { Random } from '../random.ts';
import { normalLogDensity, normalMass } from './normal.ts';
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
import { drawEvenly } from './random-search.ts';

/**
 * Tree-structured Parzen estimators (Bergstra et al. 2011), one parameter at a time, with the settings of Optuna's
 * TPESampler: 10 trials at random first; the best tenth (at most 25) make the good density, the rest the other one; of 24
 * draws from the good density, the one whose ratio of densities is greatest. Old observations weigh less beyond 25.
 *
 * Beside Optuna's: of a parameter that does not exist in every trial only the trials that have it are split, so that a
 * branch that is rarely chosen is still learnt within.
 */
export interface TpeSettings {
  /** Trials drawn at random before anything is estimated. */
  readonly startupTrials: number;
  /** Draws from the good density, of which the best is taken. */
  readonly candidates: number;
}

export const TPE_DEFAULTS: TpeSettings = { startupTrials: 10, candidates: 24 };

/** A parameter that exists in some trials only is estimated from so many of them on. */
const LEAST_OF_A_BRANCH = 4;
const MOST_GOOD = 25;
const FULL_WEIGHTS = 25;
const PRIOR_WEIGHT = 1;

interface TpeInput {
  readonly parameter: SearchParameter;
  /** Trials that have ended, in their order. */
  readonly observations: readonly Observation[];
  /** Trials that have not: taken for bad ones, so that the same place is not tried twice at once. */
  readonly pending: readonly TrialValues[];
  readonly direction: Direction;
  readonly settings: TpeSettings;
  readonly random: Random;
}

/** The next value of one parameter, as its number. */
export function drawByTpe({ parameter, observations, pending, direction, settings, random }: TpeInput): number {
  const { distribution, name } = parameter;
  const seen = observations.filter(({ state }) => state !== 'failed');
  const having = seen.flatMap((observation, order) => {
    const at = encodeValue(distribution, observation.values[name]);
    return at === undefined ? [] : [{ at, observation, order }];
  });
  if (seen.length < settings.startupTrials || having.length < Math.min(LEAST_OF_A_BRANCH, settings.startupTrials)) return drawEvenly(distribution, random);

  const ranked = [...having].sort((a, b) => compare(a.observation, b.observation, direction) || a.order - b.order);
  const goodCount = Math.min(Math.ceil(0.1 * having.length), MOST_GOOD);
  const inOrder = (part: typeof having): number[] => [...part].sort((a, b) => a.order - b.order).map(({ at }) => at);
  const waiting = pending.flatMap((values) => encodeValue(distribution, values[name]) ?? []);
  const good = estimate(distribution, inOrder(ranked.slice(0, goodCount)));
  const other = estimate(distribution, [...inOrder(ranked.slice(goodCount)), ...waiting]);

  let best = drawEvenly(distribution, random);
  let bestRatio = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < settings.candidates; i++) {
    const point = good.draw(random);
    const ratio = good.logDensity(point) - other.logDensity(point);
    if (ratio > bestRatio) {
      bestRatio = ratio;
      best = point;
    }
  }
  return best;
}

/** Completed ones by their value; stopped ones behind them, those that came furthest first. */
function compare(a: Observation, b: Observation, direction: Direction): number {
  const sign = direction === 'minimize' ? 1 : -1;
  if (a.value !== null && b.value !== null) return sign * (a.value - b.value);
  if (a.value !== null || b.value !== null) return a.value !== null ? -1 : 1;
  const [lastA, lastB] = [a.rungs.at(-1), b.rungs.at(-1)];
  if (lastA === undefined || lastB === undefined) return (lastB === undefined ? 0 : 1) - (lastA === undefined ? 0 : 1);
  return lastA.fraction !== lastB.fraction ? lastB.fraction - lastA.fraction : sign * (lastA.value - lastB.value);
}

interface Density {
  draw(random: Random): number;
  /** At a value, as its number. */
  logDensity(value: number): number;
}

/** Weights of observations in the order of their trials: the last 25 count fully, older ones the less the older they are. */
function observationWeights(count: number): number[] {
  const old = count - FULL_WEIGHTS;
  if (old <= 0) return Array.from({ length: count }, () => 1);
  return Array.from({ length: count }, (_, i) => (i >= old ? 1 : old === 1 ? 1 / count : 1 / count + (i * (1 - 1 / count)) / (old - 1)));
}

function estimate(distribution: Distribution, values: readonly number[]): Density {
  const raw = [...observationWeights(values.length), PRIOR_WEIGHT];
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const weights = raw.map((weight) => weight / total);
  return distribution.kind === 'categorical' ? categorical(distribution.options.length, values, weights) : numeric(distribution, values, weights);
}

/** Each observation gives its option more, all others a little; the last weight is the even prior's. */
function categorical(options: number, values: readonly number[], weights: readonly number[]): Density {
  const kernels = values.length + 1;
  const smoothing = PRIOR_WEIGHT / kernels;
  const shares = new Float64Array(options);
  weights.forEach((weight, kernel) => {
    const chosen = values[kernel];
    const whole = smoothing * options + (chosen === undefined ? 0 : 1);
    for (let option = 0; option < options; option++) shares[option] = (shares[option] ?? 0) + (weight * (smoothing + (option === chosen ? 1 : 0))) / whole;
  });
  return {
    draw: (random) => pick(shares, random),
    logDensity: (value) => Math.log(shares[value] ?? 0),
  };
}

/** A mixture of normals cut at the range's ends: one an observation, as wide as the gap to its neighbours, and one over the whole range. */
function numeric(distribution: Exclude<Distribution, { kind: 'categorical' }>, values: readonly number[], weights: readonly number[]): Density {
  const { low, high } = searchRange(distribution);
  const range = high - low;
  const centres = [...values.map((value) => (distribution.log ? Math.log(value) : value)), low + range / 2];
  const widths = gaps(centres, low, high);
  const least = range / Math.min(100, 1 + centres.length);
  const sigmas = centres.map((_, i) => (i === centres.length - 1 ? range : Math.min(range, Math.max(least, widths[i] ?? range))));
  const masses = centres.map((centre, i) => normalMass((low - centre) / (sigmas[i] ?? 1), (high - centre) / (sigmas[i] ?? 1)));
  // logarithms of whole numbers lie so unevenly that, as Optuna does, they are taken for continuous
  const discrete = distribution.kind === 'int' && !distribution.log;
  return {
    draw: (random) => {
      const kernel = pick(weights, random);
      const [centre, sigma] = [centres[kernel] ?? low, sigmas[kernel] ?? range];
      // centres lie in the range and no kernel is wider than it: about one draw in three stays inside
      for (let attempt = 0; attempt < 1_000; attempt++) {
        const point = centre + sigma * random.normal();
        if (point >= low && point <= high) return fromSearchRange(distribution, point);
      }
      return fromSearchRange(distribution, centre);
    },
    logDensity: (value) => {
      const point = distribution.log ? Math.log(value) : value;
      const logs = centres.map((centre, i) => {
        const [sigma, mass, weight] = [sigmas[i] ?? range, masses[i] ?? 1, weights[i] ?? 0];
        const inside = discrete
          ? Math.log(normalMass((value - 0.5 - centre) / sigma, (value + 0.5 - centre) / sigma))
          : normalLogDensity((point - centre) / sigma) - Math.log(sigma);
        return Math.log(weight) + inside - Math.log(mass);
      });
      const most = Math.max(...logs);
      return most === Number.NEGATIVE_INFINITY ? most : most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0));
    },
  };
}

/** The greater of the gaps to the neighbours on both sides; at the ends, where there are two observations or more, to the one neighbour. */
function gaps(centres: readonly number[], low: number, high: number): number[] {
  const order = centres.map((_, i) => i).sort((a, b) => (centres[a] ?? 0) - (centres[b] ?? 0) || a - b);
  const edges = [low, ...order.map((i) => centres[i] ?? 0), high];
  const widths = new Array<number>(centres.length).fill(0);
  order.forEach((i, place) => {
    const [before = low, at = low, after = high] = edges.slice(place, place + 3);
    const ends = edges.length >= 4 && (place === 0 || place === order.length - 1);
    widths[i] = ends ? (place === 0 ? after - at : at - before) : Math.max(at - before, after - at);
  });
  return widths;
}

function pick(weights: ArrayLike<number>, random: Random): number {
  let rest = random.next();
  for (let i = 0; i < weights.length; i++) {
    rest -= weights[i] ?? 0;
    if (rest < 0) return i;
  }
  return weights.length - 1;
}
