/** The peer of stage-overhead: a worker process with one workflow and one activity that does nothing, on a queue of its own. */
import { fileURLToPath } from 'node:url';
import { NativeConnection, Worker } from '@temporalio/worker';
import { BARE_ACTIVITIES, BARE_WORKFLOWS } from './bare-queues.ts';

const connection = await NativeConnection.connect({ address: process.env['TEMPORAL_ADDRESS'] ?? '' });
/** As many as the CPU pool has: a queue of the same kind. */
const slots = Number(process.env['BARE_SLOTS'] ?? '2');
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const workers = [
  await Worker.create({ connection, taskQueue: BARE_WORKFLOWS, workflowsPath: fileURLToPath(new URL(`./bare-workflow.${extension}`, import.meta.url)) }),
  await Worker.create({
    connection,
    taskQueue: BARE_ACTIVITIES,
    activities: { noop: (n: number) => Promise.resolve(n) },
    maxConcurrentActivityTaskExecutions: slots,
  }),
];
process.on('SIGTERM', () => {
  for (const worker of workers) worker.shutdown();
});
process.stdout.write('ready\n');
await Promise.all(workers.map((worker) => worker.run()));
await connection.close();
