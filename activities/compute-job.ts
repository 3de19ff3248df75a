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
  | { readonly type: 'done'; readonly result: Result }
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

/**
 * Runs the job to its end. Cancelling ends the thread, between calls of native code; a user's step hears of it first, and has a
 * moment to clean up.
 */
export function compute<Result>(job: ComputeJob, hooks: ComputeHooks): Promise<Result> {
  return new Promise<Result>((resolve, reject) => {
    const worker = startModuleWorker('compute-thread', import.meta.url, {
      workerData: job,
      ...(hooks.heapMib === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: hooks.heapMib } }),
    });
    const patience = job.kind === 'step' ? { patienceMs: STEP_PATIENCE_MS } : {};
    let settled = false;
    let committing: Promise<void> = Promise.resolve();
    const settle = (end: () => void): void => {
      if (settled) return;
      settled = true;
      hooks.signal.removeEventListener('abort', onAbort);
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
    if (hooks.signal.aborted) onAbort();
    else hooks.signal.addEventListener('abort', onAbort);
    worker.on('message', (message: ComputeMessage<Result>) => {
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
        settle(() => {
          resolve(message.result);
        });
      } else {
        if (message.log) hooks.log(message.log);
        settle(() => {
          reject(MillraceError.fromReport(message.report));
        });
      }
    });
    worker.on('error', (error) => {
      settle(() => {
        reject('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? heapIsFull(job) : error);
      });
    });
    worker.on('exit', (code) => {
      settle(() => {
        reject(
          job.kind === 'step'
            ? new MillraceError('USER_CODE_FAILED', `The step ${job.step} ended its thread with code ${String(code)} before it was done.`, {
                fix: 'A step returns or throws; it does not call process.exit.',
              })
            : new MillraceError('INTERNAL', `The computing thread ended with code ${String(code)} before it was done.`),
        );
      });
    });
  });
}

function heapIsFull(job: ComputeJob): MillraceError {
  return job.kind === 'step'
    ? new MillraceError('OUT_OF_MEMORY', `The step ${job.step} ran out of memory.`, {
        fix: 'Make the step a relationStep: it works on the same data in DuckDB, whatever its size.',
      })
    : new MillraceError('OUT_OF_MEMORY');
}
