import { ActivityFailure, ApplicationFailure, CancelledFailure, isCancellation, TimeoutFailure } from '@temporalio/workflow';
import { type ErrorReport, isErrorCode, MillraceError } from '../contracts/errors.ts';

/**
 * Between Millrace's errors and Temporal's failures, on the workflow's side. An error that is thrown in workflow code
 * and is not an `ApplicationFailure` would fail the workflow task, which Temporal retries for ever: everything that
 * leaves a workflow passes `toWorkflowFailure`.
 */
export function toWorkflowFailure(error: unknown): ApplicationFailure | CancelledFailure {
  if (error instanceof CancelledFailure) return error;
  const report = reportOf(error);
  return ApplicationFailure.create({ type: report.code, message: report.message, nonRetryable: true, details: [report] });
}

/** The report that an error carries, through however many wrappers. */
export function reportOf(error: unknown): ErrorReport {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at instanceof MillraceError) return at.report();
    if (at instanceof ApplicationFailure) {
      const report = at.details?.[0];
      if (isReport(report)) return report;
      if (isErrorCode(at.type)) return new MillraceError(at.type, at.message).report();
      return new MillraceError('USER_CODE_FAILED', at.message).report();
    }
    if (at instanceof TimeoutFailure) {
      return new MillraceError('INTERNAL', `The work did not end, or gave no sign of progress, in its time (${at.timeoutType}).`, {
        fix: 'Look at the log of the worker; give the stage more time with `timeoutMs`, or less work.',
      }).report();
    }
  }
  if (isCancellation(error))
    return new MillraceError('CONFLICT', 'The run was cancelled.', { fix: 'Nothing to do; start a new run when it is wanted.' }).report();
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new MillraceError('USER_CODE_FAILED', `The pipeline's code threw an error: ${message}`).report();
}

/** Whether the failure is the run being cancelled (and not a stage that failed). */
export function isRunCancelled(error: unknown): boolean {
  return isCancellation(error) && !(error instanceof ActivityFailure && !(error.cause instanceof CancelledFailure));
}

function isReport(value: unknown): value is ErrorReport {
  return typeof value === 'object' && value !== null && 'code' in value && isErrorCode(value.code) && 'message' in value && 'problems' in value;
}
