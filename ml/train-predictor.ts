import { canonicalJson } from '../contracts/canonical-json.ts';
import type { ColumnType, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { featureColumns, type Features } from '../contracts/features.ts';
import type { Signature } from '../contracts/signature.ts';
import { fitFeatures } from './features/fit-features.ts';
import { categoriesOf, type FittedFeatures } from './features/fitted-features.ts';
import { transformFeatures, transformTrainingFeatures } from './features/transform-features.ts';
import { groupNumbers } from './group-numbers.ts';
import { rowWeights } from './row-weights.ts';
import type { Matrix } from './matrix.ts';
import { createJudge, type JudgedTask } from './metrics.ts';
import { buildPredictorGraph, type PredictorGraph, type PredictorOrigin, predictorOrigin } from './predictor.ts';
import { type EncodedTarget, encodeLike, encodeTarget, type TaskKind } from './target.ts';
import { bestThreshold } from './threshold.ts';
import type { LabelledRows, TrainingContext, TrainingProgress } from './trainer.ts';
import { bindTrainer } from './trainers.ts';

/** Shares of the training at which the model so far is judged on the validation rows. */
export interface Rungs {
  /** Ascending; each between 0 and 1. */
  readonly fractions: readonly number[];
  /** Hears the metrics at the first step that is so far. Throwing ends the training. */
  readonly judge: (fraction: number, metrics: Readonly<Record<string, number>>) => void;
}

export interface TrainPredictorInput extends Omit<TrainingContext, 'look' | 'from'> {
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
  /** Column of the groups within which rows are ranked: the target is how relevant a row is, from 0. */
  readonly group?: string;
  /** Column of the training rows' weights, at least 0; not a feature. Default: 1 each. */
  readonly weight?: string;
  /** What a binary threshold is chosen by on validation; default none: 0.5. */
  readonly thresholdFor?: 'f1' | 'accuracy' | 'none';
  /** Goes on from an earlier predictor of the same trainer and features: its fitted features and classes, and what it learnt. */
  readonly from?: { readonly onnx: Uint8Array; readonly task: Signature['task'] };
  /** Needs validation rows. */
  readonly rungs?: Rungs;
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
  if (featureColumns(features).includes(target)) {
    throw new MillraceError('FEATURES_INVALID', `The target ${target} is among the features.`, {
      problems: [{ path: `features.${target}`, column: target, message: 'the target itself cannot be a feature', fix: 'leave it out' }],
    });
  }
  if (train.rows === 0) throw new MillraceError('SOURCE_EMPTY', 'There are no training rows.');
  const origin = input.from === undefined ? undefined : predictorOrigin(input.from.onnx);
  const encoded =
    input.from === undefined || origin === undefined
      ? encodeTarget(targetColumn(train, target), {
          name: target,
          ...(input.taskKind === undefined ? {} : { kind: input.taskKind }),
          ...(input.targetType === undefined ? {} : { type: input.targetType }),
        })
      : encodeAsBefore(input, input.from.task, origin, trainer.name);
  const { group, weight } = input;
  const task = group === undefined ? encoded.task : ({ kind: 'ranking' } as const);
  const fitted = origin?.fitted ?? fitFeatures({ features, table: train, target: encoded, trainer: trainer.name, seed });
  const categories = categoriesOf(fitted.steps);
  const labelled: LabelledRows = {
    x: transformTrainingFeatures(fitted, train, encoded, seed),
    y: encoded.y,
    names: fitted.names,
    ...(group === undefined ? {} : { groups: groupNumbers(train, group, 'training') }),
    ...(weight === undefined ? {} : { weights: rowWeights(train, weight, features) }),
    ...(categories === undefined ? {} : { categories }),
    ...(encoded.classes === undefined ? {} : { classes: encoded.classes }),
  };
  const checked = validation === undefined || validation.rows === 0 ? undefined : validationRows(fitted, validation, target, encoded, input.targetType, group);
  const { signal, resume, onProgress, checkpoint, threads } = input;
  const trained = await trainer.train(task, labelled, checked?.rows, {
    seed,
    threads,
    ...(origin === undefined ? {} : { from: origin.learnt }),
    ...(signal === undefined ? {} : { signal }),
    ...(resume === undefined ? {} : { resume }),
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(checkpoint === undefined ? {} : { checkpoint }),
    ...(input.rungs === undefined || checked === undefined ? {} : { look: lookAt(input.rungs, judgedTask(encoded, checked.rows), checked.rows) }),
  });
  const outputs = encoded.classes?.length ?? 1;
  const { onnx, graph } = buildPredictorGraph({
    fitted,
    toOnnx: (name, prefix) => trained.toOnnx(name, prefix),
    outputs,
    ...(encoded.classes === undefined ? {} : { classes: encoded.classes }),
    ...(trained.learnt === undefined ? {} : { origin: { trainer: trainer.name, features, fitted, learnt: trained.learnt } }),
  });
  const predictions = checked === undefined ? undefined : trained.predict(checked.rows.x);
  const threshold = predictions === undefined || checked === undefined ? 0.5 : chooseThreshold(encoded, checked.rows.y, predictions, thresholdFor);
  return {
    onnx,
    graph,
    task: signatureTask(encoded, target, group),
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
            metrics: metricsFor(judgedTask(encoded, checked.rows), checked.rows.y, predictions, threshold),
          },
        }),
  };
}

/**
 * The target by the classes of the earlier model, whose features must be those that are asked for.
 * @throws INVALID_PARAMETERS, FEATURES_INVALID, TARGET_INVALID.
 */
function encodeAsBefore(input: TrainPredictorInput, task: Signature['task'], origin: PredictorOrigin, trainer: string): EncodedTarget {
  const { target, taskKind = 'auto' } = input;
  const unlike = (path: string, message: string, found: string, fix: string): MillraceError =>
    new MillraceError('INVALID_PARAMETERS', `Training cannot go on from that model: ${message}.`, { problems: [{ path, message, found, fix }] });
  if (origin.trainer !== trainer) throw unlike('from', `it is one of the trainer ${origin.trainer}`, trainer, `train with ${origin.trainer}`);
  if (task.kind === 'raw' || task.target !== target) {
    throw unlike('target', `it answers ${task.kind === 'raw' ? 'nothing that is known' : task.target}`, target, 'name the same target');
  }
  if (taskKind !== 'auto' && taskKind !== task.kind) throw unlike('task', `its task is ${task.kind}`, taskKind, 'leave task out');
  if (canonicalJson(origin.features) !== canonicalJson(input.features)) {
    const names = [...new Set([...Object.keys(origin.features), ...Object.keys(input.features)])];
    const differing = names.filter((name) => canonicalJson(origin.features[name] ?? null) !== canonicalJson(input.features[name] ?? null));
    throw new MillraceError('FEATURES_INVALID', 'Training goes on with the same features only, since it keeps what was fitted to them.', {
      problems: differing.map((name) => ({
        path: `features.${name}`,
        message: name in origin.features ? (name in input.features ? 'has other options than before' : 'is missing') : 'was not there before',
        fix: 'give the features of the earlier training, or train anew without from',
      })),
    });
  }
  const classes = task.kind === 'regression' ? undefined : task.classes;
  const column = targetColumn(input.train, target);
  if (column.kind === 'timestamp' || (classes === undefined && column.kind === 'string')) {
    throw new MillraceError('TARGET_INVALID', `The target ${target} is not of the kind that it was.`, {
      problems: [{ path: target, column: target, message: classes === undefined ? 'a regression needs numbers' : 'it was no timestamp', found: column.kind }],
    });
  }
  const y = encodeLike(column, classes, input.targetType);
  const unknown = y.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (unknown > 0) {
    throw new MillraceError('TARGET_INVALID', `${unknown} rows have no ${target} that the earlier model knows.`, {
      problems: [
        {
          path: target,
          column: target,
          message: 'a value is missing, or of a class that the earlier training did not have',
          fix: classes === undefined ? 'drop those rows' : `drop those rows, or train anew without from: its classes are ${classes.slice(0, 20).join(', ')}`,
        },
      ],
    });
  }
  const kind = task.kind;
  return {
    y,
    task: kind === 'multiclass' ? { kind, classes: task.classes.length } : { kind },
    ...(classes === undefined ? {} : { classes }),
  };
}

/** Progress is a quotient of whole numbers: one of 1/3 may lie a last digit below. */
const FRACTION_TOLERANCE = 1e-9;

/** Judges each rung once, at the first step that has come so far; of several passed in one step, each by the same figures. */
function lookAt({ fractions, judge }: Rungs, task: JudgedTask, rows: LabelledRows): NonNullable<TrainingContext['look']> {
  let next = 0;
  return ({ fraction }, soFar) => {
    const first = next;
    while (next < fractions.length && fraction >= (fractions[next] ?? 1) - FRACTION_TOLERANCE) next++;
    if (next === first) return;
    const metrics = metricsFor(task, rows.y, soFar().predict(rows.x));
    for (const passed of fractions.slice(first, next)) judge(passed, metrics);
  };
}

/** What is judged: of rows with groups, their ranking. */
const judgedTask = ({ task }: EncodedTarget, { groups }: LabelledRows): JudgedTask => (groups === undefined ? task : { kind: 'ranking', groups });

/** All metrics that fit a task, by name. */
export function metricsFor(task: JudgedTask, y: Float64Array, predictions: Float64Array, threshold = 0.5): Readonly<Record<string, number>> {
  return createJudge(task, y, predictions, threshold).values();
}

export function targetColumn(table: RawTable, target: string) {
  const column = table.columns.get(target);
  if (column !== undefined) return column;
  throw new MillraceError('COLUMN_MISSING', `The target ${target} is not in the data.`, {
    problems: [{ path: 'target', column: target, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` }],
  });
}

export function validationRows(fitted: FittedFeatures, table: RawTable, target: string, encoded: EncodedTarget, type: ColumnType | undefined, group?: string) {
  const y = encodeLike(targetColumn(table, target), encoded.classes, type);
  const rowIndex = Uint32Array.from(y.keys()).filter((row) => Number.isFinite(y[row]));
  if (rowIndex.length === 0) {
    throw new MillraceError('TARGET_INVALID', `No validation row has a target that training knows.`, {
      problems: [{ path: target, column: target, message: 'every validation row has a missing value or a class that is not in the training rows' }],
    });
  }
  const all = transformFeatures(fitted, table);
  const complete = rowIndex.length === table.rows;
  const groups = group === undefined ? undefined : groupNumbers(table, group, 'validation');
  const rows: LabelledRows = {
    x: complete ? all : selectRows(all, rowIndex),
    y: complete ? y : Float64Array.from(rowIndex, (row) => y[row] ?? Number.NaN),
    names: fitted.names,
    ...(groups === undefined ? {} : { groups: complete ? groups : Int32Array.from(rowIndex, (row) => groups[row] ?? 0) }),
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

export function signatureTask(encoded: EncodedTarget, target: string, group?: string): TrainedPredictor['task'] {
  if (group !== undefined) return { kind: 'regression', target, group };
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
