/** A thread of module-worker.test.ts: what it does in the place of native code, it tells. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { nativeCode, threadIsUp, throwIfEnding } from '../../../config/module-worker.ts';

const tell = (what: string): void => parentPort?.postMessage(what);
const counts = new Int32Array(workerData as SharedArrayBuffer);

parentPort?.on('message', (what: 'works' | 'listens' | 'loops' | 'hangs') => {
  void nativeCode(async (ending) => {
    tell('begun');
    if (what === 'works') await sleep(300);
    if (what === 'hangs') for (;;) Atomics.add(counts, 1, 1);
    if (what === 'loops') for (;;) throwIfEnding();
    if (what === 'listens') {
      await new Promise((resolve) => {
        ending?.addEventListener('abort', resolve);
      });
    }
  })
    .finally(() => Atomics.add(counts, 0, 1))
    // no more of it begins
    .then(() => nativeCode(() => Promise.resolve(Atomics.add(counts, 2, 1))))
    .catch(() => undefined);
});
threadIsUp();
tell('up');
