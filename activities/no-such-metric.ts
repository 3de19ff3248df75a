import { MillraceError } from '../contracts/errors.ts';

/** A metric that the task has not, or that has no value on these rows. */
export function noSuchMetric(metric: string, there: readonly string[]): MillraceError {
  return new MillraceError('INVALID_PARAMETERS', `The model has no ${metric} on these rows.`, {
    problems: [{ path: 'metric', message: 'does not fit the task, or has no value on these rows', found: metric, fix: `use one of ${there.join(', ')}` }],
  });
}
