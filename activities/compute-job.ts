import type { Worker } from 'node:worker_threads';
import { endModuleWorker, startModuleWorker } from '../config/module-worker.ts';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { Features } from '../contracts/features.ts';
import type { DatasetRef } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { Predictor, Signature } from '../contracts/signature.ts';
import type { TrainerSpec } from '../contracts/stages.ts';
import type { Direction, RungValue } from '../ml/search/parameters.ts';
import type { TrialLimits } from '../ml/search/stopping.ts';
import type { ChosenThreshold, ThresholdRule } from '../ml/threshold.ts';
import type { TrainedPredictor } from '../ml/train-predictor.ts';
import type { EnsembleJob } from './ensemble-job.ts';
import type { EvaluateJob } from './evaluate-job.ts';
import type { MonitorJob } from './monitor-job.ts';
import type { PredictJob } from './predict-job.ts';

/**
 * Heavy computing of a stage, in a worker thread: the event loop of the worker stays free for heartbeats, and a heap that
 * runs over ends the thread, not the worker.
 *
 * Invariants:
 * 1. A thread does one job at a time, and is ended with it. Only one that has measured a small window may wait for the next window:
 *    to start a thread costs more than that.
 * 2. A thread that waits keeps no process alive, and is ended after a while. One whose job was cancelled or failed never waits.
 */
export interface TrainJob {
  readonly kind: 'train';
  readonly train: readonly string[];
  readonly validation: readonly string[] | null;
  readonly trainer: TrainerSpec;
  readonly features: Features;
  readonly target: string;
  readonly task: 'auto' | 'binary' | 'multiclass' | 'regression';
  /** Column of the groups within which rows are ranked. */
  readonly group?: string | null;
  /** Column of the training rows' weights. */
  readonly weight?: string | null;
  readonly sampleRows: number | null;
  readonly validationRows: number | null;
  readonly seed: number;
  readonly threads: number;
  readonly resume: Uint8Array | null;
  readonly targetType: ColumnType;
  /** Of the training data, since its raw source. */
  readonly transforms: readonly RowTransform[];
  readonly rawColumns: readonly Column[];
  readonly checkpointEveryMs: number;
  /** Path of the ONNX file that training goes on from, and what it answers. */
  readonly from?: { readonly onnx: string; readonly task: Signature['task'] } | null;
  /** Looks at the training on its way, and ends it where it is worse than others were. Needs validation rows. */
  readonly rungs: JobRungs | null;
}

export interface JobRungs extends TrialLimits {
  readonly metric: string;
  readonly direction: Direction;
}

export interface TrainedCandidate {
  readonly trained: TrainedPredictor;
  readonly columns: Signature['columns'];
  readonly transforms: Signature['transforms'];
  readonly sample: Predictor['sample'];
  /** Values at the rungs that were passed. */
  readonly rungs: readonly RungValue[];
}

/** A training that ended at a rung. */
export interface StoppedTraining {
  readonly stoppedAt: number;
  readonly rungs: readonly RungValue[];
}

export interface ScoreJob {
  readonly kind: 'score';
  readonly files: readonly string[];
  readonly columns: readonly string[];
  /** Path of the ONNX file. */
  readonly onnx: string;
  readonly signature: Signature;
  readonly targetType: ColumnType | null;
  /** Of a binary task: the threshold is chosen for this on the rows, before they are judged. */
  readonly threshold: ThresholdRule | null;
}

/** What a predictor's answers to a dataset's rows are worth. */
export interface JudgedRows {
  readonly rows: number;
  /** Null where none was to be chosen. */
  readonly threshold: ChosenThreshold | null;
  readonly metrics: Readonly<Record<string, number>>;
}

/** A user's step on a dataset. Value steps are called in the worker itself: they only hand JSON about. */
export interface StepJob {
  readonly kind: 'step';
  /** Path of the module that exports the step. */
  readonly module: string;
  readonly step: string;
  readonly dataset: DatasetRef;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly runId: string;
  readonly pipeline: string;
  readonly artifactsFolder: string;
  /** The project's key for hashed columns: a step's counterpart may hash. */
  readonly hashKey: string;
}

export type ComputeJob = TrainJob | ScoreJob | EvaluateJob | EnsembleJob | PredictJob | MonitorJob | StepJob;

export type ComputeMessage<Result> =
  | { readonly type: 'progress'; readonly fraction: number | null; readonly message: string }
  | { readonly type: 'checkpoint'; readonly step: number; readonly state: Uint8Array }
  /** `rests`: the thread has given back what the job took, and could do another one. */
  | { readonly type: 'done'; readonly result: Result; readonly rests?: boolean }
  | { readonly type: 'failed'; readonly report: ErrorReport; readonly log: string };

export interface ComputeHooks {
  readonly signal: AbortSignal;
  readonly progress: (fraction: number | null, message: string) => void;
  readonly commitCheckpoint?: (step: number, state: Uint8Array) => Promise<void>;
  readonly log: (message: string) => void;
  /** Most JavaScript heap of the thread. Default: what Node gives. */
  readonly heapMib?: number | undefined;
}

const STEP_GRACE_MS = 2_000;
/** What a user's step does is not known to end. */
const STEP_PATIENCE_MS = 5_000;
/** How long a thread waits for the next window at most. It has 60 MiB or so. */
const REST_MS = 30_000;
const MOST_RESTING = 2;
/** Threads that wait, with what is to end them. */
const resting = new Map<Worker, NodeJS.Timeout>();

/** To a thread that waits. */
export interface NextWindow {
  readonly type: 'window';
  readonly job: MonitorJob;
}

/**
 * Runs the job to its end. Cancelling ends the thread, between calls of native code; a user's step hears of it first, and has a
 * moment to clean up.
 */
export function compute<Result>(job: ComputeJob, hooks: ComputeHooks): Promise<Result> {
  return new Promise<Result>((resolve, reject) => {
    const isWindow = job.kind === 'monitor' && hooks.heapMib === undefined;
    const waiting = isWindow && !hooks.signal.aborted ? wake(job) : undefined;
    const worker = waiting ?? newThread(job, hooks.heapMib);
    const patience = job.kind === 'step' ? { patienceMs: STEP_PATIENCE_MS } : {};
    let settled = false;
    let committing: Promise<void> = Promise.resolve();
    const leave = (): void => {
      settled = true;
      hooks.signal.removeEventListener('abort', onAbort);
      // one by one: taking all listeners off would take the thread's own relay of messages with them
      worker.off('message', onMessage).off('exit', onExit);
    };
    const settle = (end: () => void): void => {
      if (settled) return;
      leave();
      // a checkpoint that is being written ends before the stage does
      void committing.then(() => endModuleWorker(worker, patience)).then(end, end);
    };
    const onAbort = (): void => {
      const end = (): void => {
        settle(() => {
          reject(hooks.signal.reason as Error);
        });
      };
      if (job.kind !== 'step') return end();
      worker.postMessage({ type: 'abort' });
      setTimeout(end, STEP_GRACE_MS).unref();
    };
    const onMessage = (message: ComputeMessage<Result>): void => {
      if (message.type === 'progress') hooks.progress(message.fraction, message.message);
      else if (message.type === 'checkpoint') {
        committing = committing
          .then(() => hooks.commitCheckpoint?.(message.step, message.state))
          .then(
            () => {
              worker.postMessage({ type: 'committed', step: message.step });
            },
            (error: unknown) => {
              settle(() => {
                reject(error instanceof Error ? error : new Error(String(error)));
              });
            },
          );
      } else if (message.type === 'done') {
        if (isWindow && message.rests === true && !settled && resting.size < MOST_RESTING) {
          leave();
          worker.off('error', onError);
          rest(worker);
          resolve(message.result);
          return;
        }
        settle(() => {
          resolve(message.result);
        });
      } else {
        if (message.log) hooks.log(message.log);
        settle(() => {
          reject(MillraceError.fromReport(message.report));
        });
      }
    };
    // stays while the thread is being ended: what fails then concerns nobody
    const onError = (error: Error): void => {
      settle(() => {
        reject('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? heapIsFull(job) : error);
      });
    };
    const onExit = (code: number): void => {
      settle(() => {
        reject(
          job.kind === 'step'
            ? new MillraceError('USER_CODE_FAILED', `The step ${job.step} ended its thread with code ${String(code)} before it was done.`, {
                fix: 'A step returns or throws; it does not call process.exit.',
              })
            : new MillraceError('INTERNAL', `The computing thread ended with code ${String(code)} before it was done.`),
        );
      });
    };
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    if (hooks.signal.aborted) onAbort();
    else hooks.signal.addEventListener('abort', onAbort);
  });
}

const newThread = (job: ComputeJob, heapMib: number | undefined): Worker =>
  startModuleWorker('compute-thread', import.meta.url, {
    workerData: job,
    ...(heapMib === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: heapMib } }),
  });

function rest(worker: Worker): void {
  worker.unref();
  const timer = setTimeout(() => {
    forget(worker);
    void endModuleWorker(worker);
  }, REST_MS).unref();
  resting.set(worker, timer);
  // one that ends by itself meanwhile is gone: it has nobody's job
  worker.on('error', forgetful).on('exit', forgetful);
}

function forgetful(this: Worker): void {
  forget(this);
}

function forget(worker: Worker): void {
  clearTimeout(resting.get(worker));
  resting.delete(worker);
}

/** Gives the window to a thread that waits; undefined where none does. */
function wake(job: MonitorJob): Worker | undefined {
  const [worker] = resting.keys();
  if (worker === undefined) return undefined;
  forget(worker);
  worker.off('error', forgetful).off('exit', forgetful);
  worker.ref();
  const next: NextWindow = { type: 'window', job };
  worker.postMessage(next);
  return worker;
}

function heapIsFull(job: ComputeJob): MillraceError {
  return job.kind === 'step'
    ? new MillraceError('OUT_OF_MEMORY', `The step ${job.step} ran out of memory.`, {
        fix: 'Make the step a relationStep: it works on the same data in DuckDB, whatever its size.',
      })
    : new MillraceError('OUT_OF_MEMORY');
}
