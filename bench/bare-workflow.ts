import { proxyActivities } from '@temporalio/workflow';
import { BARE_ACTIVITIES } from './bare-queues.ts';

const { noop } = proxyActivities<{ noop: (n: number) => Promise<number> }>({ taskQueue: BARE_ACTIVITIES, startToCloseTimeout: '1 minute' });

export async function bare({ stages, atOnce }: { stages: number; atOnce: boolean }): Promise<void> {
  if (atOnce) await Promise.all(Array.from({ length: stages }, (_, n) => noop(n)));
  else for (let n = 0; n < stages; n++) await noop(n);
}
