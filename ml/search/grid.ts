import { shuffledIndices } from '../random.ts';
import { decodeValue, type Distribution, fromSearchRange, isActive, type SearchParameter, type TrialValues } from './parameters.ts';

/** Grids are counted up to here; larger ones are never walked to their end. */
const MOST_POINTS = 100_000;

/** The values of one parameter on the grid: all of a choice or of a short range of whole numbers, else `points` evenly spaced ones. */
export function gridValues(distribution: Distribution, points: number): readonly number[] {
  if (distribution.kind === 'categorical') return distribution.options.map((_, i) => i);
  if (distribution.low === distribution.high) return [distribution.low];
  if (distribution.kind === 'int' && distribution.high - distribution.low < points)
    return Array.from({ length: distribution.high - distribution.low + 1 }, (_, i) => distribution.low + i);
  const { low, high } = distribution.log ? { low: Math.log(distribution.low), high: Math.log(distribution.high) } : distribution;
  const spread = points === 1 ? [(low + high) / 2] : Array.from({ length: points }, (_, i) => low + (i * (high - low)) / (points - 1));
  return [...new Set(spread.map((point) => fromSearchRange(distribution, point)))];
}

/** Every combination, in a seeded order, so that a search that ends early has looked everywhere alike. Conditional parameters multiply their branch only. */
export function gridTrials(parameters: readonly SearchParameter[], points: number, seed: number): readonly TrialValues[] {
  let trials: TrialValues[] = [{}];
  for (const parameter of parameters) {
    const values = gridValues(parameter.distribution, points).map((value) => decodeValue(parameter.distribution, value));
    trials = trials
      .flatMap((trial) => (isActive(parameter, trial) ? values.map((value) => ({ ...trial, [parameter.name]: value })) : [trial]))
      .slice(0, MOST_POINTS);
  }
  return [...shuffledIndices(trials.length, seed)].map((i) => trials[i] as TrialValues);
}
