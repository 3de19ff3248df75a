import { Client, Connection, WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import type { MillraceConfig } from '../config/config.ts';
import { type ErrorReport, isErrorCode, MillraceError } from '../contracts/errors.ts';
import type { SendUpdate } from './resource.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const UPDATE_TIMEOUT_MS = 60_000;

/** Sends updates to workflows; connects when the first one is sent. */
export function createUpdateSender(config: Pick<MillraceConfig, 'temporal'>): { readonly update: SendUpdate; readonly close: () => Promise<void> } {
  let connecting: Promise<Connection> | undefined;
  const connection = (): Promise<Connection> => {
    connecting ??= Connection.connect({
      ...(config.temporal.connection as Parameters<typeof Connection.connect>[0]),
      connectTimeout: CONNECT_TIMEOUT_MS,
    }).catch((error: unknown) => {
      connecting = undefined;
      throw new MillraceError('TEMPORAL_UNAVAILABLE', `No Temporal answers at ${config.temporal.address}.`, { cause: error });
    });
    return connecting;
  };
  return {
    async update(workflowId, name, argument) {
      const client = new Client({ connection: await connection(), namespace: config.temporal.namespace });
      try {
        return await client.connection.withDeadline(Date.now() + UPDATE_TIMEOUT_MS, () =>
          client.workflow.getHandle(workflowId).executeUpdate<unknown, [unknown]>(name, { args: [argument] }),
        );
      } catch (error) {
        throw refusalOf(error, workflowId);
      }
    },
    async close() {
      await connecting?.then(
        (open) => open.close(),
        () => undefined,
      );
    },
  };
}

/** Whether a value is a report as it crosses a boundary. */
function isReport(value: unknown): value is ErrorReport {
  return typeof value === 'object' && value !== null && 'code' in value && isErrorCode(value.code) && 'message' in value && 'problems' in value;
}

/** What the workflow refused it with. */
function refusalOf(error: unknown, workflowId: string): MillraceError {
  if (error instanceof WorkflowNotFoundError) return new MillraceError('CONFLICT', `The workflow ${workflowId} is not running.`);
  const cause =
    error instanceof WorkflowUpdateFailedError
      ? (error.cause as { readonly type?: unknown; readonly message?: string; readonly details?: readonly unknown[] } | undefined)
      : undefined;
  const report: unknown = cause?.details?.[0];
  if (isReport(report)) return MillraceError.fromReport(report);
  if (cause !== undefined && isErrorCode(cause.type)) return new MillraceError(cause.type, cause.message);
  return error instanceof MillraceError ? error : new MillraceError('TEMPORAL_UNAVAILABLE', `The message to ${workflowId} was not answered.`, { cause: error });
}
