import type { ColumnType, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Features } from '../contracts/features.ts';
import type { Signature } from '../contracts/signature.ts';
import { fitFeatures } from './features/fit-features.ts';
import type { FittedFeatures } from './features/fitted-features.ts';
import { transformFeatures, transformTrainingFeatures } from './features/transform-features.ts';
import type { Matrix } from './matrix.ts';
import { createJudge } from './metrics.ts';
import { buildPredictorGraph, type PredictorGraph } from './predictor.ts';
import { type EncodedTarget, encodeLike, encodeTarget, type TaskKind } from './target.ts';
import { bestThreshold } from './threshold.ts';
import type { LabelledRows, TrainingContext, TrainingProgress } from './trainer.ts';
import { bindTrainer } from './trainers.ts';

export interface TrainPredictorInput extends TrainingContext {
  readonly trainer: { readonly name: string; readonly parameters?: unknown };
  readonly features: Features;
  readonly train: RawTable;
  /** For early stopping, validation metrics and the threshold. Never the test set. */
  readonly validation?: RawTable;
  /** Name of the target's column, which may not be a feature. */
  readonly target: string;
  /** The column's type; `boolean` gives the classes `false` and `true`. */
  readonly targetType?: ColumnType;
  /** Default auto, see `encodeTarget`. */
  readonly taskKind?: TaskKind;
  /** What a binary threshold is chosen by on validation; default none: 0.5. */
  readonly thresholdFor?: 'f1' | 'accuracy' | 'none';
}

export interface TrainedPredictor {
  readonly onnx: Uint8Array;
  readonly graph: PredictorGraph;
  readonly task: Exclude<Signature['task'], { kind: 'raw' }>;
  readonly threshold: number;
  readonly trainer: { readonly name: string; readonly parameters: unknown };
  /** Matrix columns with their share, largest first, at most 200; those without a share are left out. */
  readonly importance: readonly { readonly feature: string; readonly share: number }[];
  readonly history: readonly TrainingProgress[];
  readonly trainRows: number;
  readonly matrixColumns: number;
  readonly validation?: ValidationResult;
}

export interface ValidationResult {
  /** Row-major [rows × K] probabilities, or values; of the rows in `rowIndex`. */
  readonly predictions: Float64Array;
  readonly y: Float64Array;
  /** Row numbers of the validation table: those whose target is missing or of a class unknown in training are left out. */
  readonly rowIndex: Uint32Array;
  readonly skippedRows: number;
  readonly metrics: Readonly<Record<string, number>>;
}

const MOST_IMPORTANCES = 200;

/**
 * Trains one predictor: target and features are fitted on the training rows alone, the trainer learns, and both become
 * one ONNX file from raw columns to output. The same input and seed give the same bytes, interrupted or not.
 * Keeps the event loop busy: run it in a worker thread.
 * @throws INVALID_PARAMETERS, COLUMN_MISSING, COLUMN_TYPE, FEATURES_INVALID, TARGET_INVALID, TARGET_ONE_CLASS,
 * TRAINING_DIVERGED; the reason of `signal` when aborted.
 */
export async function trainPredictor(input: TrainPredictorInput): Promise<TrainedPredictor> {
  const { features, train, validation, target, seed, thresholdFor = 'none' } = input;
  const trainer = bindTrainer(input.trainer.name, input.trainer.parameters);
  if (Object.hasOwn(features, target)) {
    throw new MillraceError('FEATURES_INVALID', `The target ${target} is among the features.`, {
      problems: [{ path: `features.${target}`, column: target, message: 'the target itself cannot be a feature', fix: 'leave it out' }],
    });
  }
  if (train.rows === 0) throw new MillraceError('SOURCE_EMPTY', 'There are no training rows.');
  const encoded = encodeTarget(targetColumn(train, target), {
    name: target,
    ...(input.taskKind === undefined ? {} : { kind: input.taskKind }),
    ...(input.targetType === undefined ? {} : { type: input.targetType }),
  });
  const fitted = fitFeatures({ features, table: train, target: encoded, trainer: trainer.name, seed });
  const labelled: LabelledRows = { x: transformTrainingFeatures(fitted, train, encoded, seed), y: encoded.y, names: fitted.names };
  const checked = validation === undefined || validation.rows === 0 ? undefined : validationRows(fitted, validation, target, encoded, input.targetType);
  const { signal, resume, onProgress, checkpoint, threads } = input;
  const trained = await trainer.train(encoded.task, labelled, checked?.rows, {
    seed,
    threads,
    ...(signal === undefined ? {} : { signal }),
    ...(resume === undefined ? {} : { resume }),
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(checkpoint === undefined ? {} : { checkpoint }),
  });
  const outputs = encoded.classes?.length ?? 1;
  const { onnx, graph } = buildPredictorGraph({
    fitted,
    toOnnx: (name, prefix) => trained.toOnnx(name, prefix),
    outputs,
    ...(encoded.classes === undefined ? {} : { classes: encoded.classes }),
  });
  const predictions = checked === undefined ? undefined : trained.predict(checked.rows.x);
  const threshold = predictions === undefined || checked === undefined ? 0.5 : chooseThreshold(encoded, checked.rows.y, predictions, thresholdFor);
  return {
    onnx,
    graph,
    task: signatureTask(encoded, target),
    threshold,
    trainer: { name: trainer.name, parameters: trainer.parameters },
    importance: namedImportance(fitted.names, trained.importance),
    history: trained.history,
    trainRows: train.rows,
    matrixColumns: fitted.names.length,
    ...(checked === undefined || predictions === undefined
      ? {}
      : {
          validation: {
            predictions,
            y: checked.rows.y,
            rowIndex: checked.rowIndex,
            skippedRows: checked.skippedRows,
            metrics: metricsFor(encoded.task, checked.rows.y, predictions, threshold),
          },
        }),
  };
}

/** All metrics that fit a task, by name. */
export function metricsFor(task: EncodedTarget['task'], y: Float64Array, predictions: Float64Array, threshold = 0.5): Readonly<Record<string, number>> {
  return createJudge(task, y, predictions, threshold).values();
}

export function targetColumn(table: RawTable, target: string) {
  const column = table.columns.get(target);
  if (column !== undefined) return column;
  throw new MillraceError('COLUMN_MISSING', `The target ${target} is not in the data.`, {
    problems: [{ path: 'target', column: target, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` }],
  });
}

export function validationRows(fitted: FittedFeatures, table: RawTable, target: string, encoded: EncodedTarget, type: ColumnType | undefined) {
  const y = encodeLike(targetColumn(table, target), encoded.classes, type);
  const rowIndex = Uint32Array.from(y.keys()).filter((row) => Number.isFinite(y[row]));
  if (rowIndex.length === 0) {
    throw new MillraceError('TARGET_INVALID', `No validation row has a target that training knows.`, {
      problems: [{ path: target, column: target, message: 'every validation row has a missing value or a class that is not in the training rows' }],
    });
  }
  const all = transformFeatures(fitted, table);
  const complete = rowIndex.length === table.rows;
  const rows: LabelledRows = {
    x: complete ? all : selectRows(all, rowIndex),
    y: complete ? y : Float64Array.from(rowIndex, (row) => y[row] ?? Number.NaN),
    names: fitted.names,
  };
  return { rows, rowIndex, skippedRows: table.rows - rowIndex.length };
}

/** The rows of a matrix in the order of their numbers, in the matrix's own form. */
export function selectRows(x: Matrix, rowIndex: Uint32Array): Matrix {
  const rows = rowIndex.length;
  if (x.kind === 'dense') {
    const data = new Float32Array(new SharedArrayBuffer(rows * x.columns * Float32Array.BYTES_PER_ELEMENT));
    for (let c = 0; c < x.columns; c++) rowIndex.forEach((row, i) => (data[c * rows + i] = x.data[c * x.rows + row] ?? Number.NaN));
    return { kind: 'dense', rows, columns: x.columns, data };
  }
  const rowStart = new Uint32Array(rows + 1);
  rowIndex.forEach((row, i) => (rowStart[i + 1] = (rowStart[i] ?? 0) + (x.rowStart[row + 1] ?? 0) - (x.rowStart[row] ?? 0)));
  const columnIndex = new Uint32Array(rowStart[rows] ?? 0);
  const values = new Float32Array(columnIndex.length);
  rowIndex.forEach((row, i) => {
    columnIndex.set(x.columnIndex.subarray(x.rowStart[row], x.rowStart[row + 1]), rowStart[i]);
    values.set(x.values.subarray(x.rowStart[row], x.rowStart[row + 1]), rowStart[i]);
  });
  return { kind: 'sparse', rows, columns: x.columns, rowStart, columnIndex, values };
}

function chooseThreshold(encoded: EncodedTarget, y: Float64Array, predictions: Float64Array, metric: 'f1' | 'accuracy' | 'none'): number {
  if (encoded.task.kind !== 'binary' || metric === 'none') return 0.5;
  const scores = Float64Array.from(y, (_, row) => predictions[2 * row + 1] ?? 0);
  return bestThreshold(y, scores, metric).threshold;
}

export function signatureTask(encoded: EncodedTarget, target: string): TrainedPredictor['task'] {
  if (encoded.classes === undefined) return { kind: 'regression', target };
  return { kind: encoded.task.kind === 'binary' ? 'binary' : 'multiclass', target, classes: [...encoded.classes] };
}

export function namedImportance(names: readonly string[], shares: Float64Array): TrainedPredictor['importance'] {
  return names
    .map((feature, column) => ({ feature, share: shares[column] ?? 0 }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share)
    .slice(0, MOST_IMPORTANCES);
}
