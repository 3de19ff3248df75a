import { ScheduleAlreadyRunning, ScheduleNotFoundError, ScheduleOverlapPolicy } from '@temporalio/client';
import { retrainScheduleId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import { catchUpWindowMs, LEAST_CATCH_UP_MS } from '../contracts/catch-up.ts';
import type { ActivityDependencies } from './dependencies.ts';

type ScheduleTrigger = Extract<RetrainTrigger, { readonly kind: 'schedule' }>;
type Deps = Pick<ActivityDependencies, 'client' | 'config'>;

/** Makes the schedule that asks for the pipeline's retraining, or changes the one that is there; one that people paused stays so. */
export async function putRetrainSchedule({ client, config }: Deps, pipeline: string, trigger: ScheduleTrigger): Promise<void> {
  const scheduleId = retrainScheduleId(pipeline, trigger.name);
  const { everyMs, cron, jitterMs } = trigger;
  const spec = {
    ...(everyMs === undefined ? {} : { intervals: [{ every: everyMs }] }),
    ...(cron === undefined ? {} : { cronExpressions: [...cron] }),
    ...(jitterMs === undefined ? {} : { jitter: jitterMs }),
    timezone: trigger.timeZone ?? config.schedules.timeZone,
  };
  const action = {
    type: 'startWorkflow' as const,
    workflowType: 'askRetraining',
    workflowId: `ask-${pipeline}`,
    taskQueue: WORKFLOW_QUEUE,
    args: [{ pipeline, source: scheduleId, ...(trigger.reason === undefined ? {} : { reason: trigger.reason }) }],
  };
  const wantedMs = trigger.catchUpMs ?? (config.schedules.catchupWindowSeconds === undefined ? everyMs : config.schedules.catchupWindowSeconds * 1000);
  // an ask is a matter of moments, and its controller merges what comes while a run is under way
  const policies = { overlap: ScheduleOverlapPolicy.ALLOW_ALL, catchupWindow: Math.max(LEAST_CATCH_UP_MS, wantedMs ?? LEAST_CATCH_UP_MS) };
  const handle = await client.schedule.create({ scheduleId, spec, action, policies, memo: { pipeline } }).catch(async (error: unknown) => {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    const there = client.schedule.getHandle(scheduleId);
    await there.update((current) => ({ ...current, spec, action, policies: { ...current.policies, ...policies } }));
    return there;
  });
  if (wantedMs !== undefined) return;
  const { info } = await handle.describe();
  const catchupWindow = catchUpWindowMs(undefined, info.nextActionTimes);
  await handle.update((current) => ({ ...current, policies: { ...current.policies, catchupWindow } }));
}

/** Removes the schedule, where it is there. */
export async function deleteRetrainSchedule({ client }: Pick<Deps, 'client'>, pipeline: string, name: string): Promise<void> {
  try {
    await client.schedule.getHandle(retrainScheduleId(pipeline, name)).delete();
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
  }
}
