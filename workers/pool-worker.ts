import { join } from 'node:path';
import { announceReady } from '../config/ready.ts';
import { detectGpus } from '../stack/gpus.ts';
import { createDeviceLeases } from './device-leases.ts';
import { createPoolWorker, createServiceWorker, createWatchWorker } from './hosting.ts';
import { keepPredictionRecords } from './prediction-records.ts';
import { runWorkerProcess } from './worker-process.ts';

/** The process of one pool's worker. */
export function runPoolWorker(defaultPool: string): Promise<void> {
  return runWorkerProcess(`${defaultPool}-worker`, async (context) => {
    const pool = context.config.pool ?? defaultPool;
    const settings = context.config.pools[pool];
    // devices are numbered as nvidia-smi does it, here and in the programs that are started from here
    process.env['CUDA_DEVICE_ORDER'] ??= 'PCI_BUS_ID';
    const gpus = settings?.gpu === true ? detectGpus() : [];
    const slots = typeof settings?.slots === 'number' ? settings.slots : Math.max(1, gpus.length);
    const devices = gpus.length === 0 ? {} : { devices: createDeviceLeases({ devices: gpus, slots, folder: join(context.config.cacheFolder, 'devices') }) };
    const hosting = { ...context, deps: { ...context.deps, ...devices } };
    const workers = [
      await createPoolWorker(hosting, pool, slots),
      ...(pool === 'cpu' ? [await createServiceWorker(context), await createWatchWorker(context)] : []),
    ];
    const running = Promise.all(workers.map((worker) => worker.run()));
    const stop = (): void => {
      for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
    };
    context.stopped.addEventListener('abort', stop);
    if (context.stopped.aborted) stop();
    // beside the work of the pool that every stack has
    const records = pool === 'cpu' ? keepPredictionRecords(context.deps, context.stopped, context.log) : undefined;
    announceReady({ name: `${pool}-worker`, pool, slots });
    await running;
    await records;
  });
}
