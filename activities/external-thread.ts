import { parentPort } from 'node:worker_threads';
import { threadIsUp } from '../config/module-worker.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import { type JoinJob, joinModel, type PrepareJob, prepareTraining } from './external-data.ts';

export type ExternalThreadMessage =
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly report: ErrorReport; readonly log: string };

/** The thread behind external-trainer.ts: reading, fitting and checking would stop the worker's heartbeats. */
if (!parentPort) throw new Error('external-thread runs as a worker thread only');
const port = parentPort;

async function answerTo(job: PrepareJob | JoinJob): Promise<ExternalThreadMessage> {
  try {
    return { type: 'done', result: job.kind === 'prepare' ? await prepareTraining(job) : await joinModel(job) };
  } catch (error) {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The computing around a trainer failed unexpectedly.');
    const cause = error instanceof MillraceError ? error.cause : error;
    return { type: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : '' };
  }
}

port.on('message', (job: PrepareJob | JoinJob) => {
  void answerTo(job).then((answer) => {
    port.postMessage(answer);
  });
});
threadIsUp();
