import type { Worker } from 'node:worker_threads';
import { endModuleWorker, startModuleWorker } from '../config/module-worker.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';

/**
 * Value steps off the worker's event loop, which stays free for heartbeats.
 *
 * Invariants:
 * 1. A thread runs one step at a time. It is kept for the next one, because starting it costs more than most steps do.
 * 2. A thread whose step was cancelled, or that ended by itself, is not used again.
 * 3. Idle threads keep no process alive.
 */
export interface ValueStepCall {
  /** Path of the module that exports the step. */
  readonly module: string;
  readonly pipeline: string;
  readonly step: string;
  readonly args: readonly unknown[];
}

export type ValueStepAnswer =
  | { readonly kind: 'done' /** JSON. */; readonly output: string }
  | { readonly kind: 'failed'; readonly report: ErrorReport; readonly log: string };

/** More idle threads than this are ended. */
const KEPT = 4;
const idle: Worker[] = [];

/**
 * Calls a value step.
 * @throws MillraceError USER_CODE_FAILED with what it threw, OUT_OF_MEMORY; the signal's reason when it is cancelled
 */
export function callValueStep(
  call: ValueStepCall,
  { signal, log }: { readonly signal: AbortSignal; readonly log: (message: string) => void },
): Promise<unknown> {
  return new Promise<unknown>((resolve, reject) => {
    signal.throwIfAborted();
    const worker = idle.pop() ?? newThread();
    worker.ref();
    const leave = (): void => {
      signal.removeEventListener('abort', onAbort);
      // one by one: taking all listeners off would take the thread's own relay of messages with them
      worker.off('message', onAnswer).off('error', onError).off('exit', onExit);
    };
    const end = (reason: Error): void => {
      leave();
      void endModuleWorker(worker);
      reject(reason);
    };
    const onAbort = (): void => {
      end(signal.reason as Error);
    };
    const onAnswer = (answer: ValueStepAnswer): void => {
      leave();
      worker.unref();
      if (idle.length < KEPT) idle.push(worker);
      else void endModuleWorker(worker);
      if (answer.kind === 'done') {
        resolve(JSON.parse(answer.output));
        return;
      }
      if (answer.log !== '') log(answer.log);
      reject(MillraceError.fromReport(answer.report));
    };
    const onError = (error: Error): void => {
      end(
        'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY'
          ? new MillraceError('OUT_OF_MEMORY', `The step ${call.step} ran out of memory.`, {
              fix: 'For data, make it a relationStep: it works in DuckDB, whatever the size.',
            })
          : new MillraceError('USER_CODE_FAILED', `The step ${call.step} threw outside of what it returned: ${error.message}`),
      );
    };
    const onExit = (code: number): void => {
      end(
        new MillraceError('USER_CODE_FAILED', `The step ${call.step} ended its thread with code ${String(code)} before it was done.`, {
          fix: 'A step returns or throws; it does not call process.exit.',
        }),
      );
    };
    signal.addEventListener('abort', onAbort);
    worker.on('message', onAnswer).on('error', onError).on('exit', onExit);
    worker.postMessage(call);
  });
}

function newThread(): Worker {
  const worker = startModuleWorker('step-thread', import.meta.url);
  // what a step left running may fail when no one waits for it any more: its thread is gone then, and nothing else
  worker.on('error', () => undefined);
  worker.on('exit', () => {
    if (idle.includes(worker)) idle.splice(idle.indexOf(worker), 1);
  });
  return worker;
}
