import { parentPort } from 'node:worker_threads';
import { MillraceError } from '../contracts/errors.ts';
import { loadOnnxRunner, type ModelRunner } from './model-runner.ts';
import type { ThreadAnswer, ThreadCall } from './threaded-runner.ts';

/** The thread behind threaded-runner.ts: holds one model, and runs what it is sent, one after the other. */
if (!parentPort) throw new Error('runner-thread runs as a worker thread only');
const port = parentPort;
const send = (answer: ThreadAnswer, transfer: ArrayBuffer[] = []): void => {
  port.postMessage(answer, transfer);
};

let runner: ModelRunner | undefined;

async function handle(call: ThreadCall): Promise<void> {
  if (call.kind === 'load') runner = await loadOnnxRunner(call.model, call.signature, call.options);
  else if (call.kind === 'close') {
    await runner?.close();
    port.close();
    return;
  } else {
    if (runner === undefined) throw new MillraceError('INTERNAL', 'The model is not loaded.');
    const { values, width } = await runner.run(call.packed, 0, call.rows);
    const copy = Float64Array.from(values);
    send({ kind: 'ran', values: copy, width }, [copy.buffer]);
    return;
  }
  send({ kind: 'loaded' });
}

let work: Promise<void> = Promise.resolve();
port.on('message', (call: ThreadCall) => {
  work = work
    .then(() => handle(call))
    .catch((error: unknown) => {
      const known = error instanceof MillraceError ? error : undefined;
      const cause = known?.cause ?? error;
      send({ kind: 'failed', report: known?.report(), cause: cause instanceof Error ? cause.message : String(cause) });
    });
});
