import { heartbeat, Context } from '@temporalio/activity';
import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { MEMO_TRIGGER, type Trigger } from '../contracts/run.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import type { RetrainingActivities } from './types.ts';

const LOOK_EVERY_MS = 2_000;

/** What the controller of a pipeline's retraining does in the world: start runs, follow them, write the ledger. */
export function createRetrainingActivities(deps: ActivityDependencies): RetrainingActivities {
  const guard =
    <Input, Output>(work: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      try {
        return await work(input);
      } catch (error) {
        throw toActivityFailure(error, 1, (original) => {
          deps.log('error', 'retraining', { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    };
  return {
    startRetraining: guard(async ({ pipeline, workflowId, reasons }) => {
      const trigger: Trigger = {
        kind: 'retrain',
        reason: reasons
          .map((r) => r.reason)
          .join('; ')
          .slice(0, 2_000),
        source: [...new Set(reasons.map((r) => r.source))].join(', ').slice(0, 200),
      };
      try {
        await deps.client.workflow.start(pipeline, {
          workflowId,
          taskQueue: WORKFLOW_QUEUE,
          args: [{}],
          memo: { [MEMO_TRIGGER]: trigger },
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
        });
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error; // an earlier attempt has started it
      }
    }),
    awaitRetraining: guard(async ({ workflowId }) => {
      const handle = deps.client.workflow.getHandle(workflowId);
      for (;;) {
        const status = await handle.describe().then(
          (description) => description.status,
          (error: unknown) => {
            if (error instanceof WorkflowNotFoundError) return { name: 'NOT_FOUND' };
            throw error;
          },
        );
        if (status.name !== 'RUNNING') return { status: status.name.toLowerCase() };
        heartbeat();
        await Context.current().sleep(LOOK_EVERY_MS);
      }
    }),
    noteRetraining: guard(async ({ pipeline, key, entry }) => {
      await deps.store.retraining.append({
        pipeline,
        key,
        trigger: { requests: entry.requests, because: entry.because, workflowId: entry.workflowId ?? null },
        reasons: entry.requests.map((r) => r.reason),
        decision: entry.decision,
        at: entry.at,
      });
    }),
  };
}
