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
 * Tree-structured Parzen estimators (Bergstra et al. 2011) over all parameters at once, as Optuna's TPESampler has them
 * with `multivariate` and `group`: 10 trials at random first; the best 15 in a hundred (at most 25) make the good density,
 * the rest the other one; of 24 draws from the good density, the one whose ratio of densities is greatest. Old
 * observations weigh less beyond 25.
 *
 * Each observation is a product of kernels, one a parameter, so that what goes well together is tried together. The
 * kernels are half as wide as Optuna's: narrower ones and a larger good share did better on Branin, Hartmann 6 and a mixed
 * Ackley function, with other seeds than those by which `npm run bench -- tune` compares.
 *
 * Parameters that exist in the same trials are drawn together, after those that decide whether they exist. Where an
 * observation lacks one of them, as one of an earlier study may, that one is taken to lie anywhere.
 */
export interface TpeSettings {
  /** Trials drawn at random before anything is estimated. */
  readonly startupTrials: number;
  /** Draws from the good density, of which the best is taken. */
  readonly candidates: number;
}

export const TPE_DEFAULTS: TpeSettings = { startupTrials: 10, candidates: 24 };

/** Parameters that exist in some trials only are estimated from so many of them on. */
const LEAST_OF_A_BRANCH = 4;
const GOOD_SHARE = 0.15;
const MOST_GOOD = 25;
const FULL_WEIGHTS = 25;
const PRIOR_WEIGHT = 1;
/** Width of a kernel, as a share of the range, were there one observation of one parameter. */
const KERNEL_WIDTH = 0.1;

interface TpeInput {
  /** Those that exist in the same trials. */
  readonly parameters: readonly SearchParameter[];
  /** Trials that have ended, in their order. */
  readonly observations: readonly Observation[];
  /** Trials that have not: taken for bad ones, so that the same place is not tried twice at once. */
  readonly pending: readonly TrialValues[];
  readonly direction: Direction;
  readonly settings: TpeSettings;
  readonly random: Random;
}

/** A trial's parameters as their numbers; undefined where it has none. */
type Point = readonly (number | undefined)[];

/** The next value of each parameter, as its number. */
export function drawByTpe({ parameters, observations, pending, direction, settings, random }: TpeInput): readonly number[] {
  const distributions = parameters.map(({ distribution }) => distribution);
  const pointOf = (values: TrialValues): Point | undefined => {
    const point = parameters.map(({ name, distribution }) => encodeValue(distribution, values[name]));
    return point.some((at) => at !== undefined) ? point : undefined;
  };
  const seen = observations.filter(({ state }) => state !== 'failed');
  const having = seen.flatMap((observation, order) => {
    const point = pointOf(observation.values);
    return point === undefined ? [] : [{ point, observation, order }];
  });
  const evenly = (): readonly number[] => distributions.map((distribution) => drawEvenly(distribution, random));
  if (seen.length < settings.startupTrials || having.length < Math.min(LEAST_OF_A_BRANCH, settings.startupTrials)) return evenly();

  const ranked = [...having].sort((a, b) => compare(a.observation, b.observation, direction) || a.order - b.order);
  const goodCount = Math.min(Math.ceil(GOOD_SHARE * having.length), MOST_GOOD);
  const inOrder = (part: typeof having): Point[] => [...part].sort((a, b) => a.order - b.order).map(({ point }) => point);
  const waiting = pending.flatMap((values) => {
    const point = pointOf(values);
    return point === undefined ? [] : [point];
  });
  const good = estimate(distributions, inOrder(ranked.slice(0, goodCount)));
  const other = estimate(distributions, [...inOrder(ranked.slice(goodCount)), ...waiting]);

  let best = evenly();
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
  draw(random: Random): readonly number[];
  /** At values, as their numbers. */
  logDensity(values: readonly number[]): number;
}

/** One parameter's part of the kernels: one an observation, and the last one, which is as likely everywhere. */
interface Kernels {
  draw(kernel: number, random: Random): number;
  logDensity(kernel: number, value: number): number;
}

/** Weights of observations in the order of their trials: the last 25 count fully, older ones the less the older they are. */
function observationWeights(count: number): number[] {
  const old = count - FULL_WEIGHTS;
  if (old <= 0) return Array.from({ length: count }, () => 1);
  return Array.from({ length: count }, (_, i) => (i >= old ? 1 : old === 1 ? 1 / count : 1 / count + (i * (1 - 1 / count)) / (old - 1)));
}

function estimate(distributions: readonly Distribution[], points: readonly Point[]): Density {
  const raw = [...observationWeights(points.length), PRIOR_WEIGHT];
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const weights = raw.map((weight) => weight / total);
  const dimensions = distributions.map((distribution, index) => {
    const values = points.map((point) => point[index]);
    return distribution.kind === 'categorical' ? categorical(distribution.options.length, values) : numeric(distribution, values, distributions.length);
  });
  return {
    draw: (random) => {
      const kernel = pick(weights, random);
      return dimensions.map((dimension) => dimension.draw(kernel, random));
    },
    logDensity: (values) => {
      const logs = weights.map((weight, kernel) =>
        dimensions.reduce((sum, dimension, index) => sum + dimension.logDensity(kernel, values[index] ?? 0), Math.log(weight)),
      );
      const most = Math.max(...logs);
      return most === Number.NEGATIVE_INFINITY ? most : most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0));
    },
  };
}

/** Each observation gives its option more, all others a little. */
function categorical(options: number, values: readonly (number | undefined)[]): Kernels {
  const smoothing = PRIOR_WEIGHT / (values.length + 1);
  const whole = smoothing * options + 1;
  const share = (kernel: number, option: number): number => {
    const chosen = values[kernel];
    return chosen === undefined ? 1 / options : (smoothing + (option === chosen ? 1 : 0)) / whole;
  };
  const all = Array.from({ length: options }, (_, option) => option);
  return {
    draw: (kernel, random) =>
      pick(
        all.map((option) => share(kernel, option)),
        random,
      ),
    logDensity: (kernel, option) => Math.log(share(kernel, option)),
  };
}

/** Normals cut at the range's ends. Those of observations are the narrower the more there are, and the wider the more parameters. */
function numeric(distribution: Exclude<Distribution, { kind: 'categorical' }>, values: readonly (number | undefined)[], parameters: number): Kernels {
  const { low, high } = searchRange(distribution);
  const range = high - low;
  const kernels = values.length + 1;
  const width = Math.min(1, Math.max(KERNEL_WIDTH * Math.max(1, values.length) ** (-1 / (parameters + 4)), 1 / Math.min(100, 1 + kernels)));
  const everywhere = { centre: low + range / 2, sigma: range };
  const normals = [...values, undefined].map((value) => {
    const { centre, sigma } = value === undefined ? everywhere : { centre: distribution.log ? Math.log(value) : value, sigma: width * range };
    return { centre, sigma, logMass: Math.log(normalMass((low - centre) / sigma, (high - centre) / sigma)) };
  });
  const normalAt = (kernel: number): (typeof normals)[number] => normals[kernel] ?? { ...everywhere, logMass: 0 };
  // logarithms of whole numbers lie so unevenly that, as Optuna does, they are taken for continuous
  const discrete = distribution.kind === 'int' && !distribution.log;
  return {
    draw: (kernel, random) => {
      const { centre, sigma } = normalAt(kernel);
      // centres lie in the range and no kernel is wider than it: about one draw in three stays inside
      for (let attempt = 0; attempt < 1_000; attempt++) {
        const point = centre + sigma * random.normal();
        if (point >= low && point <= high) return fromSearchRange(distribution, point);
      }
      return fromSearchRange(distribution, centre);
    },
    logDensity: (kernel, value) => {
      const { centre, sigma, logMass } = normalAt(kernel);
      const inside = discrete
        ? Math.log(normalMass((value - 0.5 - centre) / sigma, (value + 0.5 - centre) / sigma))
        : normalLogDensity(((distribution.log ? Math.log(value) : value) - centre) / sigma) - Math.log(sigma);
      return inside - logMass;
    },
  };
}

function pick(weights: ArrayLike<number>, random: Random): number {
  let rest = random.next();
  for (let i = 0; i < weights.length; i++) {
    rest -= weights[i] ?? 0;
    if (rest < 0) return i;
  }
  return weights.length - 1;
}
