import { retrainingWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { RetrainRequest } from '../contracts/retraining.ts';
import type { ActivityDependencies } from './dependencies.ts';

/** Asks the controller of a pipeline's retraining, and starts it where it is not there. The same key asks once. */
export async function askRetraining(deps: Pick<ActivityDependencies, 'client'>, pipeline: string, request: RetrainRequest): Promise<void> {
  await deps.client.workflow.signalWithStart('retraining', {
    taskQueue: WORKFLOW_QUEUE,
    workflowId: retrainingWorkflowId(pipeline),
    args: [pipeline],
    signal: 'retrain',
    signalArgs: [request],
  });
}
