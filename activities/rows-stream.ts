import { endModuleWorker, startModuleWorker } from '../config/module-worker.ts';
import type { Column } from '../contracts/columns.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { RowStream } from '../contracts/row-stream.ts';

/**
 * A person's iterator of rows, in a thread of its own.
 *
 * Invariants:
 * 1. The iterator is asked on only when its last batch was taken: memory holds two.
 * 2. Cancelling tells the iterator, which has a moment to clean up; then its thread ends.
 */
export interface RowsCall {
  /** Path of the module that exports the step. */
  readonly module: string;
  readonly step: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly above: { readonly column: string; readonly value: string } | null;
  readonly runId: string;
  readonly pipeline: string;
}

export type RowsAnswer =
  | { readonly kind: 'batch'; readonly columns: readonly Column[]; readonly values: readonly (readonly (string | null)[])[] }
  | { readonly kind: 'end' }
  | { readonly kind: 'progress'; readonly message: string }
  | { readonly kind: 'failed'; readonly report: ErrorReport; readonly log: string };

const GRACE_MS = 2_000;

/**
 * Starts the iterator and waits for its first batch, which says what the columns are.
 * @throws MillraceError USER_CODE_FAILED with what it threw, SOURCE_EMPTY, SOURCE_MALFORMED and COLUMN_TYPE with row and column, OUT_OF_MEMORY
 */
export async function openRowsStream(
  call: RowsCall,
  {
    signal,
    onProgress,
    log,
    mask = (shown) => shown,
  }: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (message: string) => void;
    readonly log: (message: string) => void;
    /** Takes secrets out of what the step says. Default: it was given none. */
    readonly mask?: <Shown>(shown: Shown) => Shown;
  },
): Promise<RowStream> {
  signal?.throwIfAborted();
  const worker = startModuleWorker('rows-thread', import.meta.url, { workerData: call });
  let waiting: { readonly resolve: (answer: RowsAnswer) => void; readonly reject: (error: Error) => void } | undefined;
  let broken: Error | undefined;
  const breakOff = (error: Error): void => {
    broken ??= error;
    waiting?.reject(broken);
    waiting = undefined;
  };
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', (code) => {
      resolve();
      breakOff(
        new MillraceError('USER_CODE_FAILED', `The step ${call.step} ended its thread with code ${String(code)} before it was done.`, {
          fix: 'A step returns or throws; it does not call process.exit.',
        }),
      );
    });
  });
  worker.on('message', (answer: RowsAnswer) => {
    if (answer.kind === 'progress') {
      onProgress?.(mask(answer.message));
      return;
    }
    if (answer.kind === 'failed') {
      if (answer.log !== '') log(answer.log);
      breakOff(MillraceError.fromReport(mask(answer.report)));
      return;
    }
    waiting?.resolve(answer);
    waiting = undefined;
  });
  worker.on('error', (error) => {
    breakOff(
      'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY'
        ? new MillraceError('OUT_OF_MEMORY', `The step ${call.step} ran out of memory.`, { fix: 'Yield rows as they come, and keep none.' })
        : new MillraceError('USER_CODE_FAILED', `The step ${call.step} threw outside of what it yields: ${mask(error.message)}`),
    );
  });
  const close = async (): Promise<void> => {
    signal?.removeEventListener('abort', onAbort);
    worker.postMessage('stop');
    const timer = setTimeout(() => void endModuleWorker(worker, { patienceMs: GRACE_MS }), GRACE_MS);
    await exited;
    clearTimeout(timer);
  };
  const onAbort = (): void => {
    breakOff(signal?.reason as Error);
  };
  signal?.addEventListener('abort', onAbort);
  const next = (): Promise<RowsAnswer> =>
    new Promise((resolve, reject) => {
      if (broken !== undefined) {
        reject(broken);
        return;
      }
      waiting = { resolve, reject };
      worker.postMessage('next');
    });
  try {
    const first = await next();
    if (first.kind !== 'batch') throw new MillraceError('SOURCE_EMPTY', `The step ${call.step} yielded no rows.`);
    return { columns: first.columns, batches: batchesFrom(first, next), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function* batchesFrom(first: RowsAnswer, next: () => Promise<RowsAnswer>): AsyncGenerator<readonly (readonly (string | null)[])[]> {
  for (let answer = first; answer.kind === 'batch'; answer = await next()) yield answer.values;
}
