import { proxyActivities, setCurrentDetails, setWorkflowOptions } from '@temporalio/workflow';
import type { MonitorActivities, MonitorWindowInput, MonitorWindowResult } from '../activities/types.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { toWorkflowFailure } from './failure.ts';

const { checkWindow } = proxyActivities<MonitorActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '10 minutes',
  heartbeatTimeout: '30s',
  retry: { initialInterval: '1s', maximumInterval: '30s', maximumAttempts: 10 },
});

/** One window of one endpoint, started by the schedule `monitor/<endpoint>`. */
export async function monitor(input: MonitorWindowInput): Promise<MonitorWindowResult> {
  try {
    const result = await checkWindow(input);
    const worst = result.worst ? `; most drifted: ${result.worst.column}, PSI ${result.worst.psi.toFixed(3)}` : '';
    setCurrentDetails(`**${input.endpoint}**: ${result.verdict}, ${String(result.rows)} rows${worst}${result.retrainingAsked ? '; retraining asked' : ''}`);
    return result;
  } catch (error) {
    throw toWorkflowFailure(error);
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, monitor);
