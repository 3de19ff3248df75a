import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { MillraceError } from '../contracts/errors.ts';
import { undoWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';

/**
 * Closes the records of runs whose workflow has ended without doing so itself (terminated, timed out, its server lost),
 * and starts the undo of what they had published. It may run in several processes, and twice: each step is idempotent.
 */
export async function reconcile(deps: ActivityDependencies): Promise<{ readonly closed: readonly string[]; readonly undone: readonly string[] }> {
  const closed: string[] = [];
  for (const run of await deps.store.runs.open()) {
    if (run.workflowId === null) continue;
    const ended = await endedStatus(deps, run.workflowId, run.temporalRunId);
    if (ended === null) continue;
    const error = new MillraceError('CONFLICT', `The workflow was ${ended} from outside.`, {
      fix: 'What it had published is taken back; start a new run when it is wanted.',
    }).report();
    await deps.store.runs.end({
      runId: run.id,
      status: ended === 'completed' ? 'completed' : ended === 'cancelled' ? 'cancelled' : ended === 'failed' ? 'failed' : 'terminated',
      ...(ended === 'completed' ? {} : { error }),
    });
    closed.push(run.id);
  }
  // nobody waits any more for what was asked by runs that have ended
  await deps.store.approvals.closeEnded();
  await deps.store.labels.closeEnded();
  // values that runs left behind which ended while they wrote them
  await deps.store.featureViews.sweep();
  await deps.store.predictionSets.sweep();
  const undone: string[] = [];
  for (const runId of await deps.store.undos.owing()) {
    const run = await deps.store.runs.get(runId);
    // a run that rolls itself back is still open in Temporal; it is left to do so
    if (run.workflowId !== null && (await endedStatus(deps, run.workflowId, run.temporalRunId)) === null) continue;
    try {
      await deps.client.workflow.start('undoRun', {
        workflowId: undoWorkflowId(runId),
        taskQueue: WORKFLOW_QUEUE,
        args: [runId],
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      });
      undone.push(runId);
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }
  return { closed, undone };
}

/** How the workflow has ended, or null while it runs. One that Temporal does not know any more counts as terminated. */
async function endedStatus(deps: ActivityDependencies, workflowId: string, temporalRunId: string | null): Promise<string | null> {
  try {
    const { status } = await deps.client.workflow.getHandle(workflowId, temporalRunId ?? undefined).describe();
    return status.name === 'RUNNING' || status.name === 'CONTINUED_AS_NEW' ? null : status.name.toLowerCase();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'terminated';
    throw error;
  }
}
