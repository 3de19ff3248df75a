import type { Client, ScheduleOptions } from '@temporalio/client';
import type { KeptSchedule } from '../store/backup.ts';

/** Schedules as a backup keeps them: all of the namespace, by their ids. */
export async function readSchedules(client: Client): Promise<readonly KeptSchedule[]> {
  const kept: KeptSchedule[] = [];
  for await (const { scheduleId } of client.schedule.list()) {
    const found = await client.schedule
      .getHandle(scheduleId)
      .describe()
      .catch((error: unknown) => {
        // deleted since it was listed
        if (error instanceof Error && error.name === 'ScheduleNotFoundError') return null;
        throw error;
      });
    if (found === null) continue;
    const { spec, action, policies, memo, state } = found;
    const { type, workflowType, workflowId, taskQueue, args, memo: runMemo } = action;
    kept.push({
      id: scheduleId,
      spec,
      action: { type, workflowType, workflowId, taskQueue, args: args ?? [], ...(runMemo === undefined ? {} : { memo: runMemo }) },
      policies,
      memo: memo ?? {},
      paused: state.paused,
    });
  }
  return kept.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Makes those that are not there; paused ones stay paused. @returns the ids of those that were made */
export async function makeSchedules(client: Client, kept: readonly KeptSchedule[]): Promise<readonly string[]> {
  const made: string[] = [];
  for (const { id, spec, action, policies, memo, paused } of kept) {
    try {
      await client.schedule.create({
        scheduleId: id,
        spec: withDates(spec),
        action: action as ScheduleOptions['action'],
        policies,
        memo,
        state: { paused, note: 'Made again from a backup.' },
      });
      made.push(id);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'ScheduleAlreadyRunning') throw error;
    }
  }
  return made;
}

/** Dates went through JSON. */
function withDates({ startAt, endAt, ...spec }: KeptSchedule['spec']): ScheduleOptions['spec'] {
  const date = (value: unknown): Date | undefined => (typeof value === 'string' || value instanceof Date ? new Date(value) : undefined);
  const [from, to] = [date(startAt), date(endAt)];
  return { ...spec, ...(from === undefined ? {} : { startAt: from }), ...(to === undefined ? {} : { endAt: to }) };
}
