import { CommanderError } from 'commander';
import { describeError, ERRORS, type ErrorReport, isErrorCode, MillraceError } from '../contracts/errors.ts';
import type { Terminal } from './terminal.ts';

/** Whether a value is a report as it crosses a boundary. */
function isReport(value: unknown): value is ErrorReport {
  return typeof value === 'object' && value !== null && 'code' in value && isErrorCode(value.code) && 'message' in value && 'problems' in value;
}

/** Node's codes of a connection that cannot be made. */
const UNREACHABLE = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
/** gRPC: CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE. */
const GRPC_UNAVAILABLE = new Set<unknown>([1, 4, 14]);
const GRPC_NOT_FOUND = 5;
const GRPC_ALREADY_EXISTS = 6;
const GRPC_INVALID_ARGUMENT = 3;
const GRPC_REFUSED = new Set<unknown>([7, 16]);

/**
 * Any error as one of the table. Temporal's wrappers are opened: a workflow's or an update's failure carries the report
 * of what went wrong; what its client says of the connection becomes TEMPORAL_UNAVAILABLE, of a missing thing NOT_FOUND.
 */
export function toMillraceError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  // By name and shape, not by class: loading Temporal's client to look at an error that is not its own would cost its load time.
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at instanceof MillraceError) return at;
    const { name, message } = at;
    const rest = at as unknown as Readonly<Record<string, unknown>>;
    const text = (field: string): string => (typeof rest[field] === 'string' ? rest[field] : '');
    const details = Array.isArray(rest['details']) ? (rest['details'] as readonly unknown[])[0] : undefined;
    if (isReport(details)) return MillraceError.fromReport(details);
    if (isErrorCode(rest['type'])) return new MillraceError(rest['type'], message, { cause: error });
    if (name === 'WorkflowNotFoundError')
      return new MillraceError('NOT_FOUND', `There is no workflow ${text('workflowId')} in Temporal that is still open.`, { cause: error });
    if (name === 'ScheduleNotFoundError') return new MillraceError('NOT_FOUND', `There is no schedule ${text('scheduleId')}.`, { cause: error });
    if (name === 'WorkflowExecutionAlreadyStartedError')
      return new MillraceError('CONFLICT', `A workflow ${text('workflowId')} is running already.`, {
        fix: 'Choose another --id, or wait until it has ended.',
        cause: error,
      });
    if (name === 'ScheduleAlreadyRunning')
      return new MillraceError('CONFLICT', `There is a schedule ${text('scheduleId')} already.`, {
        fix: 'Delete it, or choose another --id.',
        cause: error,
      });
    if (name === 'WorkflowUpdateRPCTimeoutOrCancelledError')
      return new MillraceError('TEMPORAL_UNAVAILABLE', 'No worker took the request in time.', { cause: error });
    const code = rest['code'];
    if (typeof code === 'number' && 'details' in rest) {
      if (GRPC_UNAVAILABLE.has(code)) return new MillraceError('TEMPORAL_UNAVAILABLE', undefined, { cause: error });
      if (GRPC_REFUSED.has(code))
        return new MillraceError('TEMPORAL_UNAVAILABLE', 'Temporal refuses us: the key or the namespace is not allowed.', { cause: error });
      if (code === GRPC_NOT_FOUND) return new MillraceError('NOT_FOUND', `Temporal has nothing of that name: ${text('details')}.`, { cause: error });
      if (code === GRPC_ALREADY_EXISTS) return new MillraceError('CONFLICT', undefined, { cause: error });
      if (code === GRPC_INVALID_ARGUMENT)
        return new MillraceError('INVALID_REQUEST', `Temporal does not take it: ${text('details')}.`, { fix: 'Correct it.', cause: error });
    }
    if (typeof code === 'string' && UNREACHABLE.has(code)) return new MillraceError('SERVER_UNAVAILABLE', undefined, { cause: error });
    if (name === 'CancelledFailure')
      return new MillraceError('CONFLICT', 'The run was cancelled.', { fix: 'Start a new run when it is wanted.', cause: error });
    if (name === 'TerminatedFailure')
      return new MillraceError('CONFLICT', 'The run was terminated from outside.', {
        fix: 'Start a new run when it is wanted; what it had published is taken back.',
        cause: error,
      });
  }
  return new MillraceError('INTERNAL', error instanceof Error ? `${error.name}: ${error.message}` : String(error), {
    fix: 'Run the command again with --debug for the place, and look at the logs in the state folder.',
    cause: error,
  });
}

/** What commander says, as an error of the table; undefined for what is no error (help and version). */
function usageError(error: CommanderError): MillraceError | undefined {
  if (error.exitCode === 0) return undefined;
  const message = error.code === 'commander.help' ? 'A command is missing.' : error.message.replace(/^error: /, '');
  return new MillraceError('USAGE', message.endsWith('.') || message.endsWith(')') ? message : `${message}.`);
}

/**
 * Tells a failure and gives the exit code: with `json` as `{"error": report}` on standard output, else in words on
 * standard error. The stack, with its causes, only with `debug`.
 */
export function tellFailure(error: unknown, terminal: Terminal, options: { readonly json: boolean; readonly debug: boolean; readonly hint?: string }): number {
  const failure = error instanceof CommanderError ? usageError(error) : toMillraceError(error);
  if (failure === undefined) return 0;
  const report: ErrorReport =
    failure.code === 'USAGE' && options.hint !== undefined && failure.fix === ERRORS.USAGE.fix ? { ...failure.report(), fix: options.hint } : failure.report();
  if (options.json) terminal.write(`${JSON.stringify({ error: report })}\n`);
  else terminal.writeError(`${describeError(report)}\n`);
  if (options.debug) {
    for (let at: unknown = failure, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++)
      terminal.writeError(`${depth === 0 ? '' : 'caused by '}${at.stack ?? at.message}\n`);
  }
  return ERRORS[failure.code].exit;
}
