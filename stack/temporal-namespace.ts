import { setTimeout as sleep } from 'node:timers/promises';
import { type Connection, isGrpcServiceError } from '@temporalio/client';
import { msToTs, tsToMs } from '@temporalio/common/lib/time.js';
import { SEARCH_ATTRIBUTES } from '../contracts/queues.ts';

/** How long the embedded server keeps closed histories. */
export const RETENTION_DAYS = 30;

const KEYWORD = 2;
const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const POLL_EVERY_MS = 250;
const VISIBLE_WITHIN_MS = 60_000;
const DAY_MS = 86_400_000;

const failedWith = (code: number) => (error: unknown) => isGrpcServiceError(error) && (error.code as number) === code;

async function ignoring<T>(expected: (error: unknown) => boolean, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (expected(error)) return undefined;
    throw error;
  }
}

/**
 * Makes a namespace fit for Millrace: it exists, our search attributes are registered, and closed histories are kept
 * `retentionDays` when that is given. Changes nothing that fits already, so every process may run it at its start. Resolves when the server shows all of it.
 *
 * @throws The gRPC error of a server that refuses, for instance one where only an operator registers search attributes.
 */
export async function prepareNamespace(connection: Connection, namespace: string, options: { readonly retentionDays?: number } = {}): Promise<void> {
  const { workflowService, operatorService } = connection;
  const wantedMs = options.retentionDays === undefined ? undefined : options.retentionDays * DAY_MS;
  const described = await ignoring(failedWith(NOT_FOUND), workflowService.describeNamespace({ namespace }));
  if (described === undefined) {
    await ignoring(
      failedWith(ALREADY_EXISTS),
      workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: msToTs(wantedMs ?? RETENTION_DAYS * DAY_MS) }),
    );
  } else if (wantedMs !== undefined && tsToMs(described.config?.workflowExecutionRetentionTtl ?? undefined) !== wantedMs) {
    await workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl: msToTs(wantedMs) } });
  }

  // The server's processes learn of a new namespace or attribute some seconds later: until then a run would fail on it.
  for (let waitedMs = 0; ; waitedMs += POLL_EVERY_MS) {
    const registered = await ignoring(failedWith(NOT_FOUND), operatorService.listSearchAttributes({ namespace }));
    const missing = SEARCH_ATTRIBUTES.filter((name) => registered?.customAttributes[name] === undefined);
    if (missing.length === 0) return;
    if (waitedMs > VISIBLE_WITHIN_MS) throw new Error(`the search attributes ${missing.join(', ')} were registered but cannot be seen`);
    if (registered !== undefined)
      await ignoring(
        failedWith(ALREADY_EXISTS),
        operatorService.addSearchAttributes({ namespace, searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])) }),
      );
    await sleep(registered === undefined || waitedMs > 0 ? POLL_EVERY_MS : 0);
  }
}
