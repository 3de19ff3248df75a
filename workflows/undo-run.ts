import { proxyActivities, setWorkflowOptions } from '@temporalio/workflow';
import type { StageActivities } from '../activities/types.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { toWorkflowFailure } from './failure.ts';

const activities = proxyActivities<StageActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '5 minutes',
  retry: { initialInterval: '500ms', maximumInterval: '30s', maximumAttempts: 20 },
});

/** Takes back what a run has published that ended without doing so itself (terminated from outside). */
export async function undoRun(runId: string): Promise<{ readonly problems: readonly string[] }> {
  try {
    return await activities.undoRun({ runId });
  } catch (error) {
    throw toWorkflowFailure(error);
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, undoRun);

/** Answers at once: a start of it proves that workers take work. */
export function probe(): Promise<string> {
  return Promise.resolve('ready');
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, probe);
