import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { MillraceError } from '../contracts/errors.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';

export const DEPLOYMENT = 'millrace';

/** Makes the build the one that new runs take. The server must have seen a worker of it first, so this tries for a while. */
export async function setCurrentBuild(client: Client, namespace: string, buildId: string, timeoutMs = 30_000): Promise<void> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    try {
      await client.workflowService.setWorkerDeploymentCurrentVersion({
        namespace,
        deploymentName: DEPLOYMENT,
        version: `${DEPLOYMENT}.${buildId}`,
        buildId,
        ignoreMissingTaskQueues: true,
        identity: 'millrace',
      });
      return;
    } catch (error) {
      if (Date.now() > until) throw new MillraceError('TEMPORAL_UNAVAILABLE', `Temporal did not take build ${buildId} as the current one.`, { cause: error });
      await sleep(200);
    }
  }
}

/** Starts a workflow and waits for its answer: until a deployment has a current version, starts hang silently. */
export async function proveStart(client: Client, timeoutMs = 30_000): Promise<void> {
  const handle = await client.workflow.start('probe', {
    workflowId: `probe-${randomUUID()}`,
    taskQueue: WORKFLOW_QUEUE,
    args: [],
    workflowExecutionTimeout: timeoutMs,
  });
  try {
    await handle.result();
  } catch (error) {
    throw new MillraceError('TEMPORAL_UNAVAILABLE', 'A workflow that was started as a proof did not end.', {
      cause: error,
      fix: 'Look at the log of the orchestrator and at Temporal.',
    });
  }
}
