import { canonicalJson } from '../../contracts/canonical-json.ts';
import type { SearchMethod } from '../../contracts/tuning.ts';
import { createRandom, hashIndex } from '../random.ts';
import { drawByCmaEs } from './cma-es.ts';
import { gridTrials } from './grid.ts';
import { decodeValue, type Direction, isActive, type Observation, type SearchParameter, type TrialValues } from './parameters.ts';
import { drawEvenly } from './random-search.ts';
import { drawByTpe, TPE_DEFAULTS } from './tpe.ts';

/**
 * Which values a trial gets.
 *
 * Invariants:
 * 1. It is a function of what it is given: no state, no clock. The same seed, trial number and known trials give the same
 *    values, however often and wherever it is asked.
 * 2. A parameter comes after those that it depends on, and is drawn only where it exists.
 */
export interface SuggestInput {
  /** In an order in which each comes after those it depends on. */
  readonly parameters: readonly SearchParameter[];
  readonly search: SearchMethod;
  readonly seed: number;
  readonly direction: Direction;
  /** From 1. */
  readonly trial: number;
  /** Ended trials that may be known here, in their order; of earlier studies first. */
  readonly observations: readonly Observation[];
  /** Values of trials whose result may not be known here. */
  readonly pending: readonly TrialValues[];
}

/** The values of the trial, or null when the search has nothing more to try. */
export function suggestTrial({ parameters, search, seed, direction, trial, observations, pending }: SuggestInput): TrialValues | null {
  const random = createRandom(hashIndex(trial, seed));
  if (search.method === 'grid') return gridTrials(parameters, search.points, seed)[trial - 1] ?? null;
  if (search.method === 'cmaEs' && parameters.length > 0) return drawByCmaEs({ parameters, observations, direction, seed, random });
  const settings = { ...TPE_DEFAULTS, ...(search.method === 'tpe' && search.startupTrials !== undefined ? { startupTrials: search.startupTrials } : {}) };
  const values: Record<string, TrialValues[string]> = {};
  for (const parameter of parameters) {
    if (!isActive(parameter, values) || Object.hasOwn(values, parameter.name)) continue;
    // by TPE those that exist in the same trials are drawn together
    const together = search.method === 'tpe' ? parameters.filter(({ when }) => canonicalJson(when) === canonicalJson(parameter.when)) : [parameter];
    const encoded =
      search.method === 'tpe'
        ? drawByTpe({ parameters: together, observations, pending, direction, settings, random })
        : together.map(({ distribution }) => drawEvenly(distribution, random));
    together.forEach(({ name, distribution }, index) => {
      values[name] = decodeValue(distribution, encoded[index] ?? 0);
    });
  }
  return values;
}
