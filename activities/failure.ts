import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { MillraceError } from '../contracts/errors.ts';

/** Attempts after which an error that nobody foresaw is taken for one that comes every time. */
const UNEXPECTED_ATTEMPTS = 3;

/**
 * An error as it may leave an activity: code, message, problems and fix; never a driver's text, a stack or a cause,
 * since Temporal keeps those in history. Cancellation passes as it is.
 */
export function toActivityFailure(error: unknown, attempt: number, log: (original: unknown) => void): ApplicationFailure | CancelledFailure {
  if (error instanceof CancelledFailure) return error;
  const known = asMillraceError(error);
  if (known === undefined || known.cause !== undefined) log(error);
  const shown = known ?? new MillraceError('INTERNAL');
  return ApplicationFailure.create({
    type: shown.code,
    message: shown.message,
    nonRetryable: !shown.retryable || (shown.code === 'INTERNAL' && attempt >= UNEXPECTED_ATTEMPTS),
    details: [shown.report()],
  });
}

function asMillraceError(error: unknown): MillraceError | undefined {
  if (error instanceof MillraceError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT') return new MillraceError('DISK_FULL', undefined, { cause: error });
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return new MillraceError('OUT_OF_MEMORY', undefined, { cause: error });
  return undefined;
}
