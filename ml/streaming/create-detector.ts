import type { z } from 'zod';
import { type DetectorOptionsInput, DetectorOptionsSchema, DetectorStateSchema } from '../../contracts/detectors.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { adwinFrom, createAdwin } from './adwin.ts';
import { createDdm, ddmFrom } from './ddm.ts';
import type { Detector } from './detector.ts';
import { createKswin, kswinFrom } from './kswin.ts';
import { createPageHinkley, pageHinkleyFrom } from './page-hinkley.ts';

/**
 * A detector by its kind; options that are left out have River's defaults. Detectors are plain computation without clock,
 * file or network: they may run in a worker thread, and inside a workflow.
 * @throws INVALID_PARAMETERS with every problem
 * @example
 * const detector = createDetector({ kind: 'adwin', delta: 0.01 });
 * for (const error of errors) if (detector.update(error).drift) console.log('the error rate has changed');
 */
export function createDetector(given: DetectorOptionsInput): Detector {
  const options = parsed(DetectorOptionsSchema, given, 'The options of the detector do not fit.');
  switch (options.kind) {
    case 'adwin':
      return createAdwin(options);
    case 'pageHinkley':
      return createPageHinkley(options);
    case 'ddm':
      return createDdm(options);
    case 'kswin':
      return createKswin(options);
  }
}

/** The detector that left this state, as it was: what `state()` gave, also after JSON. @throws INVALID_PARAMETERS */
export function restoreDetector(state: unknown): Detector {
  const read = parsed(DetectorStateSchema, state, 'This is no state of a detector.');
  switch (read.kind) {
    case 'adwin':
      return adwinFrom(read);
    case 'pageHinkley':
      return pageHinkleyFrom(read);
    case 'ddm':
      return ddmFrom(read);
    case 'kswin':
      return kswinFrom(read);
  }
}

function parsed<T>(schema: z.ZodType<T>, value: unknown, message: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new MillraceError('INVALID_PARAMETERS', message, {
    problems: result.error.issues.map((issue) => ({ path: issue.path.map(String).join('.') || 'detector', message: issue.message })),
    fix: 'docs/monitoring.md lists the options of each detector.',
  });
}
