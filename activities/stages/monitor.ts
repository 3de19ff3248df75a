import { MonitorInputSchema } from '../../contracts/stages.ts';
import { putMonitorSchedule } from '../monitor-schedule.ts';
import { defineStage } from '../stage-definition.ts';

/** Has the endpoint watched by a schedule. Undone, it is watched as before, or not at all. */
export const monitorStage = defineStage({
  input: MonitorInputSchema,
  cacheable: false,
  run: async (input, { call, deps }) => {
    const before = await deps.store.monitoring.findMonitor(input.endpoint);
    // the undo first: a schedule that is made and not yet noted could not be taken back
    await deps.store.undos.add({
      runId: call.runId,
      stage: call.stage,
      kind: 'monitor',
      key: input.endpoint,
      payload: { endpoint: input.endpoint, pipeline: call.pipeline, before: before?.config ?? null },
    });
    await putMonitorSchedule(deps, call.pipeline, input);
    await deps.store.monitoring.putMonitor({ endpoint: input.endpoint, config: input, runId: call.runId });
    return { output: null, summary: `every ${String(Math.round(input.everyMs / 1000))} s` };
  },
});
