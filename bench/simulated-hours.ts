import { continueAsNew, proxyLocalActivities, sleep } from '@temporalio/workflow';

const HOUR_MS = 3_600_000;
/** A history of so many hours stays short. */
const HOURS_A_RUN = 168;

export interface HourActivities {
  /** What happens at the end of an hour: the endpoint was asked, retrainings are, and its monitor starts. Over: nothing is under way any more. */
  hourPasses(input: { readonly hour: number; readonly endsMs: number }): Promise<{ readonly isOver: boolean }>;
}

export interface SimulatedHours {
  readonly beganMs: number;
  readonly hour: number;
}

const { hourPasses } = proxyLocalActivities<HourActivities>({ startToCloseTimeout: '30 seconds' });

/**
 * In place of the schedule `monitor/<endpoint>`, which the test server lacks: a timer an hour, which starts a monitor. While that one works, time does
 * not pass to the next hour. The hour in which all has come to rest.
 */
export async function simulatedHours({ beganMs, hour: from }: SimulatedHours): Promise<number> {
  for (let hour = from; hour < from + HOURS_A_RUN; hour++) {
    const endsMs = beganMs + (hour + 1) * HOUR_MS;
    await sleep(Math.max(1, endsMs - Date.now()));
    const { isOver } = await hourPasses({ hour, endsMs });
    if (isOver) return hour;
  }
  return continueAsNew<typeof simulatedHours>({ beganMs, hour: from + HOURS_A_RUN });
}
