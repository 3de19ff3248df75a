import type { DetectorState, PageHinkleyOptions } from '../../contracts/detectors.ts';
import { type Detector, requireFinite } from './detector.ts';

type PageHinkleyState = Extract<DetectorState, { kind: 'pageHinkley' }>;

/**
 * Sums how far values lie from the mean so far, less what is borne, and tells a change when the sum has left its least
 * (or greatest) value by more than the threshold. Six numbers of memory.
 *
 * Sources: E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954; the two-sided form with a forgetting factor:
 * R. Sebastião, J. M. Fernandes, "Supporting the Page-Hinkley test with empirical mode decomposition for change
 * detection", ISMIS 2017. As in River 0.26.1 the greatest sum begins at -1.
 */
export function createPageHinkley(options: PageHinkleyOptions): Detector {
  return pageHinkleyFrom({ kind: 'pageHinkley', options, ...BEGIN });
}

const BEGIN = { values: 0, mean: 0, increase: 0, decrease: 0, leastIncrease: null, greatestDecrease: -1, drifted: false } as const;

/** Goes on from a state. */
export function pageHinkleyFrom({ kind, options, ...from }: PageHinkleyState): Detector {
  const { minInstances, delta, threshold, alpha, mode } = options;
  let now: Omit<PageHinkleyState, 'kind' | 'options'> = from;
  return {
    update(value) {
      requireFinite(value);
      if (now.drifted) now = BEGIN;
      const values = now.values + 1;
      const mean = now.mean + (value - now.mean) / values;
      const increase = alpha * now.increase + (value - mean) - delta;
      const decrease = alpha * now.decrease + (value - mean) + delta;
      const leastIncrease = Math.min(now.leastIncrease ?? increase, increase);
      const greatestDecrease = Math.max(now.greatestDecrease, decrease);
      const rises = mode !== 'down' && increase - leastIncrease > threshold;
      const falls = mode !== 'up' && greatestDecrease - decrease > threshold;
      const drifted = values >= minInstances && (rises || falls);
      now = { values, mean, increase, decrease, leastIncrease, greatestDecrease, drifted };
      return { drift: drifted };
    },
    state: () => ({ kind, options, ...now }),
  };
}
