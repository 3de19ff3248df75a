import type { onnx } from 'onnx-proto';
import type { Matrix } from './matrix.ts';

/** What is learnt. `classes` counts the classes of a classification (2 for binary); regression has none. */
export type LearningTask = { readonly kind: 'binary' } | { readonly kind: 'multiclass'; readonly classes: number } | { readonly kind: 'regression' };

/** Scores are learnt that put the rows of each group in order: for the trainers that can. */
export interface RankingTask {
  readonly kind: 'ranking';
}

/** Rows with their target: a class index 0 … K-1, the value of a regression, or how relevant the row is (≥ 0) in a ranking. */
export interface LabelledRows {
  readonly x: Matrix;
  readonly y: Float64Array;
  /** One weight a row, ≥ 0. Default: 1 each. */
  readonly weights?: Float64Array;
  /** Of a ranking: for each row the number of the group in which it is ranked. */
  readonly groups?: Int32Array;
  /** For each matrix column the number of its codes, 0 … n − 1, where it holds categories without an order; 0 for numbers. */
  readonly categories?: readonly number[];
  /** Names of the matrix's columns, for importance. */
  readonly names?: readonly string[];
  /** Text of each class in the order of its index, for weights that name classes. */
  readonly classes?: readonly string[];
}

export interface TrainingProgress {
  /** 0 … 1. */
  readonly fraction: number;
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export interface TrainingContext {
  readonly seed: number;
  /** Threads that the trainer may use in all, its own included. */
  readonly threads: number;
  /** State that an earlier attempt handed to `checkpoint`; training goes on from there and ends with the same bytes. */
  readonly resume?: Uint8Array;
  /** What an earlier model learnt (`TrainedTrainer.learnt`), on the same features: training goes on from it. */
  readonly from?: Uint8Array;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TrainingProgress) => void;
  /** Called between steps, often; the caller decides which states to keep, so `state` is made only when asked for. */
  readonly checkpoint?: (step: number, state: () => Uint8Array) => void | Promise<void>;
  /**
   * Called after each step, before its checkpoint, with the model as training would leave it here, made only when asked
   * for. Looking changes nothing of what is trained; throwing ends the training.
   */
  readonly look?: (progress: TrainingProgress, soFar: () => Pick<TrainedTrainer, 'predict'>) => void;
}

/** A piece of an ONNX graph: reads the FLOAT tensor [N, F] named `input`, ends in the tensor named `output`. */
export interface OnnxFragment {
  readonly nodes: readonly onnx.INodeProto[];
  readonly initializers: readonly onnx.ITensorProto[];
  /** FLOAT [N, K] probabilities that sum to 1 (K = 2 for binary), or FLOAT [N, 1]: values, or the scores of a ranking. */
  readonly output: string;
  /** Least opset needed: of ai.onnx, and of ai.onnx.ml where used. */
  readonly opset: { readonly ai: number; readonly ml?: number };
}

export interface TrainedTrainer {
  /** Row-major [N × K] probabilities, or [N × 1] values: what the ONNX fragment computes, to 1e-5. */
  predict(x: Matrix): Float64Array;
  toOnnx(input: string, prefix: string): OnnxFragment;
  /** Per matrix column, ≥ 0, sums to 1 (gain or weight size); empty where it has no meaning. */
  readonly importance: Float64Array;
  readonly history: readonly TrainingProgress[];
  /** What a later training on other rows can go on from; absent where the trainer cannot do that. */
  readonly learnt?: Uint8Array;
}

/** Same rows, parameters, seed and threads give the same model, whether or not it was interrupted. */
export type Trainer<Parameters, Task extends LearningTask | RankingTask = LearningTask> = (
  task: Task,
  parameters: Parameters,
  train: LabelledRows,
  validation: LabelledRows | undefined,
  context: TrainingContext,
) => Promise<TrainedTrainer>;
