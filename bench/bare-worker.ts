/** The peer of stage-overhead: a worker process with one workflow and one activity that does nothing, on a queue of its own. */
import { fileURLToPath } from 'node:url';
import { NativeConnection, Worker } from '@temporalio/worker';
import { BARE_ACTIVITIES, BARE_WORKFLOWS } from './bare-queues.ts';

const connection = await NativeConnection.connect({ address: process.env['TEMPORAL_ADDRESS'] ?? '' });
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const workers = [
  await Worker.create({ connection, taskQueue: BARE_WORKFLOWS, workflowsPath: fileURLToPath(new URL(`./bare-workflow.${extension}`, import.meta.url)) }),
  await Worker.create({ connection, taskQueue: BARE_ACTIVITIES, activities: { noop: (n: number) => Promise.resolve(n) } }),
];
process.on('SIGTERM', () => {
  for (const worker of workers) worker.shutdown();
});
process.stdout.write('ready\n');
await Promise.all(workers.map((worker) => worker.run()));
await connection.close();
