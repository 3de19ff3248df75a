import type { DetectorSignal, DetectorState } from '../../contracts/detectors.ts';
import { MillraceError } from '../../contracts/errors.ts';

/**
 * Watches a stream of one metric for change.
 *
 * Invariants:
 * 1. What it says depends on the values and their order alone: from a state it goes on exactly as if it had never stopped.
 * 2. Its memory is bounded by its options, never by the number of values.
 * 3. After a change it begins anew with the next value, as River's detectors do.
 */
export interface Detector {
  /** Takes the next value. @throws INVALID_PARAMETERS for what is no finite number; the state is then as before */
  update(value: number): DetectorSignal;
  /** Everything it knows, as JSON. */
  state(): DetectorState;
}

/** Infinity and NaN would stay in the sums for ever. @throws INVALID_PARAMETERS */
export function requireFinite(value: number): void {
  if (Number.isFinite(value)) return;
  throw new MillraceError('INVALID_PARAMETERS', 'A detector takes finite numbers.', {
    problems: [{ path: 'value', message: 'is no finite number', found: String(value) }],
    fix: 'Leave out what has no value, such as the metric of a window without rows.',
  });
}
