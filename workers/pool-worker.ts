import { announceReady } from '../config/ready.ts';
import { detectGpus } from '../stack/gpus.ts';
import { createPoolWorker, createServiceWorker } from './hosting.ts';
import { runWorkerProcess } from './worker-process.ts';

/** The process of one pool's worker. */
export function runPoolWorker(defaultPool: string): Promise<void> {
  return runWorkerProcess(`${defaultPool}-worker`, async (context) => {
    const pool = context.config.pool ?? defaultPool;
    const settings = context.config.pools[pool];
    const slots = typeof settings?.slots === 'number' ? settings.slots : Math.max(1, detectGpus().length);
    const workers = [await createPoolWorker(context, pool, slots), ...(pool === 'cpu' ? [await createServiceWorker(context)] : [])];
    const running = Promise.all(workers.map((worker) => worker.run()));
    const stop = (): void => {
      for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
    };
    context.stopped.addEventListener('abort', stop);
    if (context.stopped.aborted) stop();
    announceReady({ name: `${pool}-worker`, pool, slots });
    await running;
  });
}
