import { parentPort, workerData } from 'node:worker_threads';
import { MillraceError } from '../contracts/errors.ts';
import { type JoinJob, joinModel, type PrepareJob, prepareTraining } from './external-data.ts';

/** The thread behind external-trainer.ts: reading, fitting and checking would stop the worker's heartbeats. */
if (!parentPort) throw new Error('external-thread runs as a worker thread only');
const job = workerData as PrepareJob | JoinJob;
try {
  parentPort.postMessage({ type: 'done', result: job.kind === 'prepare' ? await prepareTraining(job) : await joinModel(job) });
} catch (error) {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The computing around a trainer failed unexpectedly.');
  const cause = error instanceof MillraceError ? error.cause : error;
  parentPort.postMessage({ type: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : '' });
}
