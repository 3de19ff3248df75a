import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { endModuleWorker, nativeCode, startModuleWorker, throwIfEnding } from '../../../config/module-worker.ts';

interface Started {
  readonly worker: Worker;
  /** Ends of native code, rounds of a loop that never ends, and native code that began after it. */
  readonly counts: Int32Array;
}

async function started(what?: string): Promise<Started> {
  const shared = new SharedArrayBuffer(12);
  const worker = startModuleWorker('native-thread', import.meta.url, { workerData: shared });
  await once(worker, 'message');
  if (what !== undefined) {
    worker.postMessage(what);
    await once(worker, 'message');
  }
  return { worker, counts: new Int32Array(shared) };
}

it.each(['works', 'listens', 'loops'])('a thread whose native code %s is ended after it, and begins no more of it', async (what) => {
  const { worker, counts } = await started(what);
  expect(Atomics.load(counts, 0)).toBe(0);
  await endModuleWorker(worker);
  expect(worker.threadId).toBe(-1);
  expect([...counts]).toEqual([1, 0, 0]);
});

it('a thread that does not come back is waited for no longer than was said', async () => {
  const { worker, counts } = await started('hangs');
  await endModuleWorker(worker, { patienceMs: 100 });
  expect(worker.threadId).toBe(-1);
  expect(Atomics.load(counts, 0)).toBe(0);
  expect(Atomics.load(counts, 1)).toBeGreaterThan(0);
});

it('one that rests, has ended already, or has only just been started is ended', async () => {
  const { worker } = await started();
  await endModuleWorker(worker);
  await endModuleWorker(worker);
  const fresh = startModuleWorker('native-thread', import.meta.url, { workerData: new SharedArrayBuffer(12) });
  await endModuleWorker(fresh);
  expect([worker.threadId, fresh.threadId]).toEqual([-1, -1]);
});

it('the main thread is ended by nobody', async () => {
  expect(await nativeCode((ending) => Promise.resolve(ending))).toBeUndefined();
  expect(throwIfEnding).not.toThrow();
});
