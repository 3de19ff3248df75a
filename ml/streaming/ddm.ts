import type { DdmOptions, DetectorState } from '../../contracts/detectors.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { type Detector, requireFinite } from './detector.ts';

type DdmState = Extract<DetectorState, { kind: 'ddm' }>;

/**
 * Watches an error rate: values are 1 for an error and 0 for none (or shares of errors, 0–1). A warning, and a change, are
 * told when the rate and its standard deviation √(p(1 − p) ÷ n) together lie so many deviations above the least that they
 * were. Only a rising rate is a change. Five numbers of memory.
 *
 * Source: J. Gama, P. Medas, G. Castillo, P. Rodrigues, "Learning with drift detection", SBIA 2004, strictly above as in
 * River 0.26.1.
 */
export function createDdm(options: DdmOptions): Detector {
  return ddmFrom({ kind: 'ddm', options, ...BEGIN });
}

const BEGIN = { values: 0, errorRate: 0, least: null, drifted: false } as const;

/** Goes on from a state. */
export function ddmFrom({ kind, options, ...from }: DdmState): Detector {
  const { warmStart, warningThreshold, driftThreshold } = options;
  let now: Omit<DdmState, 'kind' | 'options'> = from;
  return {
    update(value) {
      requireFinite(value);
      if (value < 0 || value > 1) {
        throw new MillraceError('INVALID_PARAMETERS', 'The detector ddm watches an error rate.', {
          problems: [{ path: 'value', message: 'must be 0 to 1', found: String(value) }],
          fix: 'Give 1 for an error and 0 for none, or watch this metric with `adwin`, `pageHinkley` or `kswin`.',
        });
      }
      if (now.drifted) now = BEGIN;
      const values = now.values + 1;
      const rate = now.errorRate + (value - now.errorRate) / values;
      // rounding may leave the mean of ones a hair above 1
      const deviation = Math.sqrt(Math.max(0, rate * (1 - rate)) / values);
      if (values <= warmStart) {
        now = { values, errorRate: rate, least: null, drifted: false };
        return { drift: false, warning: false };
      }
      const least = now.least === null || rate + deviation <= now.least.rate + now.least.deviation ? { rate, deviation } : now.least;
      const above = (deviations: number): boolean => rate + deviation > least.rate + deviations * least.deviation;
      const drifted = above(driftThreshold);
      now = { values, errorRate: rate, least, drifted };
      return { drift: drifted, warning: !drifted && above(warningThreshold) };
    },
    state: () => ({ kind, options, ...now }),
  };
}
