import { ScheduleAlreadyRunning, ScheduleOverlapPolicy } from '@temporalio/client';
import { monitorScheduleId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { MonitorInput } from '../contracts/stages.ts';
import type { ActivityDependencies } from './dependencies.ts';
import type { MonitorWindowInput } from './types.ts';

/** Makes the endpoint's schedule, or changes the one that is there. */
export async function putMonitorSchedule(deps: Pick<ActivityDependencies, 'client'>, pipeline: string, input: MonitorInput): Promise<void> {
  const scheduleId = monitorScheduleId(input.endpoint);
  const window: MonitorWindowInput = { ...input, pipeline };
  const action = {
    type: 'startWorkflow' as const,
    workflowType: 'monitor',
    workflowId: `monitor-${input.endpoint}`,
    taskQueue: WORKFLOW_QUEUE,
    args: [window],
  };
  const spec = { intervals: [{ every: input.everyMs }] };
  // a stack that was down for a night looks at the last window once, not at each that it missed
  const policies = { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: Math.max(10_000, input.everyMs) };
  try {
    await deps.client.schedule.create({ scheduleId, spec, action, policies });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await deps.client.schedule.getHandle(scheduleId).update((current) => ({ ...current, spec, action, policies }));
  }
}
