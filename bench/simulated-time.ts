import { AsyncLocalStorage } from 'node:async_hooks';
import { Context } from '@temporalio/activity';
import { msToTs, tsToMs } from '@temporalio/common/lib/time.js';
import type { TestService } from './time-skipping-server.ts';

/**
 * Activities that wait for the clock, in the time of the test server: what a rollout is watched for, or a run is followed for, passes at once when
 * nothing else is under way.
 *
 * Invariants:
 * 1. Inside such an activity `Date.now` is the server's time, as of its start or its last sleep. Outside nothing is changed.
 * 2. An activity that sleeps does not keep the server's time from passing; one that works does.
 * 3. The server hears a heartbeat before each sleep: the SDK sends one a real second at most, in which hours may pass.
 */
const clock = new AsyncLocalStorage<{ aheadMs: number }>();
const realNow = Date.now;

/** Once a process. */
export function simulateClock(): void {
  Date.now = () => realNow() + (clock.getStore()?.aheadMs ?? 0);
}

/** The activity as it is, in the server's time. */
export function inServerTime<Input, Output>(
  { time, heartbeat }: { readonly time: TestService; readonly heartbeat: (taskToken: Uint8Array) => Promise<unknown> },
  work: (input: Input) => Promise<Output>,
): (input: Input) => Promise<Output> {
  const aheadMs = async (): Promise<number> => tsToMs((await time.getCurrentTime({})).time) - realNow();
  return async (input) => {
    const context = Context.current();
    const taskToken = Buffer.from(context.info.base64TaskToken, 'base64');
    const now = { aheadMs: await aheadMs() };
    const sleep = async (ms: number): Promise<void> => {
      context.cancellationSignal.throwIfAborted();
      await heartbeat(taskToken);
      await Promise.race([time.unlockTimeSkippingWithSleep({ duration: msToTs(ms) }), context.cancelled]);
      now.aheadMs = await aheadMs();
    };
    Object.defineProperty(context, 'sleep', { value: sleep });
    return clock.run(now, () => work(input));
  };
}
