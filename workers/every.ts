import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessLog } from './process-log.ts';

/** Does the work again and again, with a pause after each time, until the process stops. A failure is told, and tried again. */
export async function every(intervalMs: number, stopped: AbortSignal, log: ProcessLog, work: () => Promise<void>): Promise<void> {
  while (!stopped.aborted) {
    await work().catch((error: unknown) => {
      if (stopped.aborted) return;
      log('warn', 'a background task failed; it is tried again', { error: error instanceof Error ? error.message : String(error) });
    });
    await sleep(intervalMs, undefined, { signal: stopped }).catch(() => undefined); // only the stop ends it early
  }
}
