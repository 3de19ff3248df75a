import { ScheduleNotFoundError } from '@temporalio/client';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { endpointWorkflowId, monitorScheduleId } from '../contracts/queues.ts';
import { MonitorInputSchema } from '../contracts/stages.ts';
import type { UndoHandler } from '../store/undos.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { updateEndpoint } from './endpoint-client.ts';
import { putMonitorSchedule } from './monitor-schedule.ts';

/** Takes back what a run (or one stage of it) has published, newest first. What could not be is in the problems. */
export async function undoPublications(deps: ActivityDependencies, runId: string, stage?: string): Promise<{ readonly problems: readonly string[] }> {
  const handlers: Readonly<Record<string, UndoHandler>> = {
    /** The endpoint's own workflow takes its rollout back: only it may publish a route. */
    route: async (undo) => {
      const { endpoint, rolloutId: rollout } = undo.payload as { endpoint: string; rolloutId: string };
      const reason = `run ${runId} was undone`;
      const { champion } = await updateEndpoint(deps, endpoint, 'rollback', { rollout, by: 'run', reason });
      // one that was completed, or that the endpoint never heard of, is noted here; one that failed by itself stays so
      await deps.store.rollouts.finish({ id: rollout, status: 'rolled_back', reason }).catch((error: unknown) => {
        if (!(error instanceof MillraceError && error.code === 'CONFLICT')) throw error;
      });
      return champion
        ? `${endpoint} is served by ${champion.model} ${String(champion.version)}`
        : `${endpoint} (${endpointWorkflowId(endpoint)}) serves nothing`;
    },
    monitor: async (undo) => {
      const { endpoint, before, pipeline } = undo.payload as { endpoint: string; before: unknown; pipeline: string };
      const earlier = MonitorInputSchema.safeParse(before);
      if (earlier.success) {
        await putMonitorSchedule(deps, pipeline, earlier.data);
        return `${endpoint} is watched as before`;
      }
      await deps.client.schedule
        .getHandle(monitorScheduleId(endpoint))
        .delete()
        .catch((error: unknown) => {
          if (!(error instanceof ScheduleNotFoundError)) throw error;
        });
      return `${endpoint} is not watched any more`;
    },
  };
  const { failed } = await deps.store.undos.perform(runId, { handlers, ...(stage === undefined ? {} : { stage }) });
  return { problems: failed.map((undo) => `${undo.kind} ${undo.key}: ${undo.error ? (describeError(undo.error).split('\n')[0] ?? '') : 'failed'}`) };
}
