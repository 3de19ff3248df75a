import { proxyActivities, setWorkflowOptions, workflowInfo } from '@temporalio/workflow';
import type { TriggerActivities } from '../activities/types.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';

const { askRetraining: ask } = proxyActivities<TriggerActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '500ms', maximumInterval: '30s' },
});

/**
 * What a schedule starts so that a pipeline is retrained: a schedule can start workflows only, and whether and when a run
 * begins is the controller's to decide. Each time of the schedule asks once, also when it is backfilled twice.
 */
export async function askRetraining(input: { readonly pipeline: string; readonly source: string; readonly reason?: string }): Promise<void> {
  const info = workflowInfo();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the typed form has no key for the server's own attribute
  const nominal = info.searchAttributes['TemporalScheduledStartTime']?.[0];
  const at = (nominal instanceof Date ? nominal : info.startTime).toISOString();
  await ask({
    pipeline: input.pipeline,
    request: { reason: `${input.reason ?? 'scheduled'} (${at})`, source: input.source, evidence: { scheduledFor: at }, key: `${input.source}/${at}`, at },
  });
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, askRetraining);
