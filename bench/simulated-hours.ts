import { continueAsNew, executeChild, proxyLocalActivities, sleep } from '@temporalio/workflow';
import type { MonitorWindowInput, MonitorWindowResult } from '../activities/types.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';

const HOUR_MS = 3_600_000;
/** A history of so many hours stays short. */
const HOURS_A_RUN = 168;

export interface HourActivities {
  /** What happens in an hour that ends now: the endpoint is asked, and retrainings are. */
  hourPasses(input: { readonly hour: number; readonly endsMs: number }): Promise<{ readonly isOver: boolean }>;
}

export interface SimulatedHours {
  readonly monitor: MonitorWindowInput;
  readonly beganMs: number;
  readonly hour: number;
  /** Of the hours before: windows with requests enough, those that drifted, and those that asked for a retraining. */
  readonly windows: { readonly measured: number; readonly drifted: number; readonly asked: number };
}

const { hourPasses } = proxyLocalActivities<HourActivities>({ startToCloseTimeout: '30 seconds' });

/** In place of the schedule `monitor/<endpoint>`, which the test server lacks: a timer an hour, then a monitor. */
export async function simulatedHours({ monitor, beganMs, hour: from, windows }: SimulatedHours): Promise<Pick<SimulatedHours, 'hour' | 'windows'>> {
  const counts = { ...windows };
  for (let hour = from; hour < from + HOURS_A_RUN; hour++) {
    const endsMs = beganMs + (hour + 1) * HOUR_MS;
    await sleep(Math.max(1, endsMs - Date.now()));
    const { isOver } = await hourPasses({ hour, endsMs });
    if (isOver) return { hour, windows: counts };
    const seen = await executeChild<(input: MonitorWindowInput) => Promise<MonitorWindowResult>>('monitor', {
      workflowId: `monitor-${monitor.endpoint}-${String(hour)}`,
      taskQueue: WORKFLOW_QUEUE,
      args: [monitor],
    });
    if (seen.verdict === 'steady' || seen.verdict === 'drifted') counts.measured += 1;
    if (seen.verdict === 'drifted') counts.drifted += 1;
    if (seen.retrainingAsked) counts.asked += 1;
  }
  return continueAsNew<typeof simulatedHours>({ monitor, beganMs, hour: from + HOURS_A_RUN, windows: counts });
}
