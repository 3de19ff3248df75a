import { WithStartWorkflowOperation } from '@temporalio/client';
import type { RollbackRequest, RolloutRequest } from '../contracts/endpoint.ts';
import { endpointWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { ActivityDependencies } from './dependencies.ts';

interface Updates {
  readonly rollout: { readonly request: RolloutRequest; readonly answer: { readonly queued: number } };
  readonly rollback: { readonly request: RollbackRequest; readonly answer: { readonly champion: ServedVersion | null } };
}

/**
 * Sends a run's update to the endpoint's workflow, which is started when it is not there, and waits for its answer. What a
 * pipeline brings into service was decided at its gates: the run has the voucher of an operator.
 */
export async function updateEndpoint<Name extends keyof Updates>(
  deps: Pick<ActivityDependencies, 'client' | 'store'>,
  endpoint: string,
  name: Name,
  request: Updates[Name]['request'],
): Promise<Updates[Name]['answer']> {
  const startWorkflowOperation = new WithStartWorkflowOperation('endpoint', {
    workflowId: endpointWorkflowId(endpoint),
    taskQueue: WORKFLOW_QUEUE,
    args: [endpoint],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const voucher = await deps.store.tokens.issueVoucher({
    identity: { who: 'by' in request ? request.by : request.reason, roles: ['operator'], projects: ['*'] },
    action: name,
    workflowId: endpointWorkflowId(endpoint),
    name: endpoint,
  });
  return deps.client.workflow.executeUpdateWithStart<(endpoint: string) => Promise<void>, Updates[Name]['answer'], [Updates[Name]['request']]>(name, {
    args: [{ ...request, voucher }],
    startWorkflowOperation,
  });
}
