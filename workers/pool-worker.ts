import { announceReady } from '../config/ready.ts';
import { detectGpus } from '../stack/gpus.ts';
import { createPoolWorker } from './hosting.ts';
import { runWorkerProcess } from './worker-process.ts';

/** The process of one pool's worker. */
export function runPoolWorker(defaultPool: string): Promise<void> {
  return runWorkerProcess(`${defaultPool}-worker`, async (context) => {
    const pool = context.config.pool ?? defaultPool;
    const settings = context.config.pools[pool];
    const slots = typeof settings?.slots === 'number' ? settings.slots : Math.max(1, detectGpus().length);
    const worker = await createPoolWorker(context, pool, slots);
    const running = worker.run();
    context.stopped.addEventListener('abort', () => {
      worker.shutdown();
    });
    if (context.stopped.aborted) worker.shutdown();
    announceReady({ name: `${pool}-worker`, pool, slots });
    await running;
  });
}
