import { startModuleWorker } from '../config/module-worker.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import type { PackedRows } from '../data/request-row.ts';
import type { ModelOutput, ModelRunner, RunnerOptions } from './model-runner.ts';

/**
 * A model on a thread of its own: building its session, and running it, keeps nobody else waiting.
 *
 * Invariants:
 * 1. One run is under way at a time; requests that come meanwhile are run together as soon as it has ended, at most `MAX_ROWS` rows.
 * 2. A run that fails is made again request by request: nobody fails because of a neighbour.
 * 3. When the thread has ended, whatever the reason, every request is answered with MODEL_CRASHED.
 */
export type ThreadCall =
  | { readonly kind: 'load'; readonly model: Uint8Array; readonly signature: Signature; readonly options: RunnerOptions }
  | { readonly kind: 'run'; readonly packed: PackedRows; readonly rows: number }
  | { readonly kind: 'close' };

export type ThreadAnswer =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'ran'; readonly values: Float64Array<ArrayBuffer>; readonly width: number }
  | { readonly kind: 'failed'; readonly report: ErrorReport | undefined; readonly cause: string };

export interface ThreadedRunnerOptions {
  readonly runner?: RunnerOptions | undefined;
  /** Told that the thread's native code runs; what it gives is called when that is over. */
  readonly runs?: (() => () => void) | undefined;
  /** Told when the thread ended though nobody asked it to. */
  readonly onLost?: (() => void) | undefined;
}

/** Starts such a runner. @throws MillraceError MODEL_INVALID as `loadOnnxRunner` does; MODEL_CRASHED when the thread ended */
export type StartRunner = (model: Buffer, signature: Signature, options: ThreadedRunnerOptions) => Promise<ModelRunner>;

const MAX_ROWS = 256;

interface Asked {
  readonly packed: PackedRows;
  readonly firstRow: number;
  readonly rows: number;
  /** A run of several failed: it is run by itself. */
  readonly alone: boolean;
  readonly resolve: (output: ModelOutput) => void;
  readonly reject: (error: MillraceError) => void;
}

function errorOf({ report, cause }: Extract<ThreadAnswer, { kind: 'failed' }>): MillraceError {
  return report === undefined
    ? new MillraceError('INTERNAL', 'The model failed on this request.', { cause: new Error(cause) })
    : MillraceError.fromReport(report);
}

export const startThreadedRunner: StartRunner = async (model, signature, { runner = {}, runs, onLost }) => {
  const { graph } = signature;
  const widths = { numbers: graph.numbers.length, dates: graph.dates.length, strings: graph.strings.length };
  const worker = startModuleWorker('runner-thread', import.meta.url);
  let waiting: Asked[] = [];
  let underWay: readonly Asked[] = [];
  let ended: (() => void) | undefined;
  let lost: MillraceError | undefined;
  let closing = false;
  let onAnswer: ((answer: ThreadAnswer) => void) | undefined;
  let onGone: ((error: MillraceError) => void) | undefined;

  worker.on('message', (answer: ThreadAnswer) => {
    onAnswer?.(answer);
  });
  // what ends a thread is told by its exit too; without a listener it would end the process
  worker.on('error', () => undefined);
  const gone = new Promise<void>((resolve) => {
    worker.once('exit', () => {
      lost = new MillraceError('MODEL_CRASHED', 'The thread of the model has ended.');
      onGone?.(lost);
      for (const { reject } of [...underWay, ...waiting]) reject(lost);
      underWay = waiting = [];
      if (!closing) onLost?.();
      resolve();
    });
  });
  const send = (call: ThreadCall, transfer: ArrayBuffer[] = []): void => {
    worker.postMessage(call, transfer);
  };

  await new Promise<void>((resolve, reject) => {
    onGone = reject;
    onAnswer = (answer) => {
      if (answer.kind === 'failed') reject(errorOf(answer));
      else resolve();
    };
    // the file's bytes go to the thread; where they are part of a larger buffer a copy does
    const own = model.byteLength === model.buffer.byteLength ? model : Uint8Array.from(model);
    send({ kind: 'load', model: own, signature, options: runner }, [own.buffer as ArrayBuffer]);
  }).catch(async (error: unknown) => {
    closing = true;
    await worker.terminate();
    throw error;
  });
  onGone = undefined;

  /** Rows of all requests, one after the other, in arrays of their own. */
  function together(asked: readonly Asked[], rows: number): PackedRows {
    const all = {
      numbers: new Float32Array(rows * widths.numbers),
      dates: new BigInt64Array(rows * widths.dates),
      strings: new Array<string>(),
    };
    let at = 0;
    for (const { packed, firstRow, rows: own } of asked) {
      const cut = (width: number): [number, number] => [firstRow * width, (firstRow + own) * width];
      all.numbers.set(packed.numbers.subarray(...cut(widths.numbers)), at * widths.numbers);
      all.dates.set(packed.dates.subarray(...cut(widths.dates)), at * widths.dates);
      if (widths.strings > 0) all.strings.push(...packed.strings.slice(...cut(widths.strings)));
      at += own;
    }
    return all;
  }

  /** Those who are run next: the first, and with it as many as fit. */
  function take(): readonly Asked[] {
    let [count, rows] = [0, 0];
    for (const asked of waiting) {
      if (count > 0 && (asked.alone || rows + asked.rows > MAX_ROWS)) break;
      count += 1;
      rows += asked.rows;
      if (asked.alone) break;
    }
    return waiting.splice(0, count);
  }

  function next(): void {
    if (underWay.length > 0 || waiting.length === 0) return;
    underWay = take();
    const rows = underWay.reduce((sum, asked) => sum + asked.rows, 0);
    const packed = together(underWay, rows);
    ended = runs?.();
    send({ kind: 'run', packed, rows }, [packed.numbers.buffer as ArrayBuffer, packed.dates.buffer as ArrayBuffer]);
  }

  onAnswer = (answer) => {
    ended?.();
    const asked = underWay;
    underWay = [];
    if (answer.kind === 'ran') {
      const { values, width } = answer;
      let at = 0;
      for (const { rows, resolve } of asked) {
        resolve({ values: values.subarray(at * width, (at + rows) * width), width });
        at += rows;
      }
    } else if (answer.kind === 'failed') {
      if (asked.length === 1) for (const { reject } of asked) reject(errorOf(answer));
      else waiting.unshift(...asked.map((one) => ({ ...one, alone: true })));
    }
    next();
  };

  return {
    run(packed, firstRow, rows) {
      return new Promise((resolve, reject) => {
        if (lost !== undefined) {
          reject(lost);
          return;
        }
        waiting.push({ packed, firstRow, rows, alone: false, resolve, reject });
        next();
      });
    },
    async close() {
      if (lost !== undefined) return;
      closing = true;
      send({ kind: 'close' });
      await gone;
    },
  };
};
