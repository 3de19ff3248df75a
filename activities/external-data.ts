import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RawColumn, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { TrainerTask } from '../contracts/external-trainer.ts';
import { featureColumns } from '../contracts/features.ts';
import { readColumns } from '../data/read-columns.ts';
import { type WrittenColumn, writeColumns } from '../data/write-columns.ts';
import { fitFeatures } from '../ml/features/fit-features.ts';
import type { FittedFeatures } from '../ml/features/fitted-features.ts';
import { transformFeatures, transformTrainingFeatures } from '../ml/features/transform-features.ts';
import type { DenseMatrix, Matrix } from '../ml/matrix.ts';
import { openExternalModel, reasonOf } from '../ml/onnx/external-model.ts';
import { finishRawModel, openRawModel, type RawKind } from '../ml/onnx/raw-model.ts';
import { buildPredictorGraph, type PredictorGraph } from '../ml/predictor.ts';
import { createScorer } from '../ml/score.ts';
import { type EncodedTarget, encodeLike, encodeTarget } from '../ml/target.ts';
import { metricsFor, namedImportance, signatureTask, targetColumn, type TrainedPredictor, validationRows } from '../ml/train-predictor.ts';
import type { LearningTask, TrainingProgress } from '../ml/trainer.ts';
import type { TrainedCandidate, TrainJob } from './compute-job.ts';
import { servable } from './servable.ts';

/** The computing around a program that trains: its files before, its model after. Runs in external-thread.ts. */
export interface PrepareJob {
  readonly kind: 'prepare';
  readonly job: TrainJob;
  readonly input: 'features' | 'raw';
  readonly featuresFor: 'trees' | 'numbers';
  /** Where the Parquet files go. */
  readonly folder: string;
}

/** What the program is told of its data, and what is needed to take its model in. */
export interface PreparedTraining {
  readonly data: Pick<TrainerTask, 'input' | 'layout' | 'task' | 'train' | 'validation' | 'test' | 'targets' | 'rows' | 'target' | 'features'>;
  readonly fitted: FittedFeatures | null;
  readonly learning: LearningTask;
  readonly classes: readonly string[] | null;
  /** Some training rows, for checks. */
  readonly probe: RawTable;
}

export interface JoinJob {
  readonly kind: 'join';
  readonly job: TrainJob;
  readonly prepared: PreparedTraining;
  /** Folder that holds `model.onnx`. */
  readonly output: string;
  readonly parameters: unknown;
  readonly history: readonly TrainingProgress[];
  readonly importance: readonly number[] | null;
}

const PROBE_ROWS = 256;
/** Of joined graphs against the model by itself. */
const AGREEMENT = 1e-3;
/** Larger models do not fit into one ONNX file. */
const MOST_MODEL_BYTES = 2_000_000_000;

async function readTables(job: TrainJob): Promise<{ readonly train: RawTable; readonly validation: RawTable | undefined }> {
  const columns = [...featureColumns(job.features), job.target];
  const train = await readColumns(job.train, columns, { seed: job.seed, ...(job.sampleRows === null ? {} : { sampleRows: job.sampleRows }) });
  if (job.validation === null) return { train, validation: undefined };
  return { train, validation: await readValidation(job, job.validation) };
}

const readValidation = (job: TrainJob, paths: readonly string[]): Promise<RawTable> =>
  readColumns(paths, [...featureColumns(job.features), job.target], {
    seed: job.seed,
    ...(job.validationRows === null ? {} : { sampleRows: job.validationRows }),
  });

/** Fits target and features on the training rows, and writes the files that the program reads. */
export async function prepareTraining({ job, input, featuresFor, folder }: PrepareJob): Promise<PreparedTraining> {
  const { train, validation } = await readTables(job);
  const { target, seed } = job;
  if (train.rows === 0) throw new MillraceError('SOURCE_EMPTY', 'There are no training rows.');
  if (featureColumns(job.features).includes(target)) {
    throw new MillraceError('FEATURES_INVALID', `The target ${target} is among the features.`, {
      problems: [{ path: `features.${target}`, column: target, message: 'the target itself cannot be a feature', fix: 'leave it out' }],
    });
  }
  const encoded = encodeTarget(targetColumn(train, target), { name: target, kind: job.task, type: job.targetType });
  const files = { train: join(folder, 'train.parquet'), validation: join(folder, 'validation.parquet') };
  const common = {
    task: { kind: encoded.task.kind, classes: encoded.classes ?? null },
    train: files.train,
    test: null,
  } as const;
  const known = { learning: encoded.task, classes: encoded.classes ?? null, probe: someRows(train, PROBE_ROWS) };

  if (input === 'raw') {
    const names = featureColumns(job.features);
    const columns = (table: RawTable): WrittenColumn[] => names.flatMap((name) => rawColumn(name, table.columns.get(name)));
    await writeColumns(files.train, train.rows, [...columns(train), targetValues(target, encoded, encoded.y)]);
    const checked = validation === undefined || validation.rows === 0 ? undefined : knownRows(validation, target, encoded, job);
    if (checked !== undefined) await writeColumns(files.validation, checked.table.rows, [...columns(checked.table), targetValues(target, encoded, checked.y)]);
    return {
      ...known,
      fitted: null,
      data: {
        ...common,
        input,
        layout: 'dense',
        validation: checked === undefined ? null : files.validation,
        targets: { train: files.train, validation: checked === undefined ? null : files.validation },
        rows: { train: train.rows, validation: checked?.table.rows ?? 0 },
        target,
        features: names.map((name) => ({ column: name, name, type: train.columns.get(name)?.kind ?? 'number' })),
      },
    };
  }

  // the flavours of `auto` that the trainers of that kind get
  const fitted = fitFeatures({ features: job.features, table: train, target: encoded, trainer: featuresFor === 'trees' ? 'gbdt' : 'mlp', seed });
  const x = transformTrainingFeatures(fitted, train, encoded, seed);
  const checked = validation === undefined || validation.rows === 0 ? undefined : validationRows(fitted, validation, target, encoded, job.targetType);
  const targets =
    x.kind === 'dense'
      ? { train: files.train, validation: checked === undefined ? null : files.validation }
      : { train: join(folder, 'train-target.parquet'), validation: checked === undefined ? null : join(folder, 'validation-target.parquet') };
  await writeMatrix(files.train, targets.train, x, targetValues(TARGET, encoded, encoded.y));
  if (checked !== undefined) await writeMatrix(files.validation, targets.validation ?? '', checked.rows.x, targetValues(TARGET, encoded, checked.rows.y));
  return {
    ...known,
    fitted,
    data: {
      ...common,
      input,
      layout: x.kind,
      validation: checked === undefined ? null : files.validation,
      targets,
      rows: { train: train.rows, validation: checked?.rows.x.rows ?? 0 },
      target: TARGET,
      features: fitted.names.map((name, index) => ({ column: `f${String(index)}`, name, type: 'number' })),
    },
  };
}

const TARGET = 'target';

const targetValues = (name: string, { classes }: EncodedTarget, y: Float64Array): WrittenColumn =>
  classes === undefined ? { name, kind: 'float64', values: y } : { name, kind: 'int32', values: Int32Array.from(y) };

async function writeMatrix(path: string, targetPath: string, x: Matrix, target: WrittenColumn): Promise<void> {
  if (x.kind === 'dense') {
    const columns = Array.from(
      { length: x.columns },
      (_, c): WrittenColumn => ({ name: `f${String(c)}`, kind: 'float32', values: x.data.subarray(c * x.rows, (c + 1) * x.rows) }),
    );
    return writeColumns(path, x.rows, [...columns, target]);
  }
  const rowOf = new Uint32Array(x.values.length);
  for (let row = 0; row < x.rows; row++) rowOf.fill(row, x.rowStart[row], x.rowStart[row + 1]);
  await writeColumns(path, x.values.length, [
    { name: 'row', kind: 'int32', values: rowOf },
    { name: 'column', kind: 'int32', values: x.columnIndex },
    { name: 'value', kind: 'float32', values: x.values },
  ]);
  await writeColumns(targetPath, x.rows, [target]);
}

function rawColumn(name: string, column: RawColumn | undefined): WrittenColumn[] {
  if (column === undefined) return [];
  if (column.kind === 'string') return [{ name, ...column }];
  return [{ name, kind: column.kind === 'timestamp' ? 'timestamp' : 'float64', values: column.values }];
}

/** Validation rows whose target training knows. */
function knownRows(table: RawTable, target: string, encoded: EncodedTarget, job: TrainJob): { readonly table: RawTable; readonly y: Float64Array } {
  const y = encodeLike(targetColumn(table, target), encoded.classes, job.targetType);
  const rowIndex = Uint32Array.from(y.keys()).filter((row) => Number.isFinite(y[row]));
  if (rowIndex.length === 0) {
    throw new MillraceError('TARGET_INVALID', 'No validation row has a target that training knows.', {
      problems: [{ path: target, column: target, message: 'every validation row has a missing value or a class that is not in the training rows' }],
    });
  }
  return { table: pickRows(table, rowIndex), y: Float64Array.from(rowIndex, (row) => y[row] ?? Number.NaN) };
}

function someRows(table: RawTable, most: number): RawTable {
  const rows = Math.min(most, table.rows);
  return pickRows(
    table,
    Uint32Array.from({ length: rows }, (_, i) => Math.floor((i * table.rows) / rows)),
  );
}

/** The rows of these numbers, with dictionaries of what is in them only. */
function pickRows(table: RawTable, rowIndex: Uint32Array): RawTable {
  const columns = [...table.columns].map(([name, column]): [string, RawColumn] => {
    if (column.kind !== 'string') return [name, { kind: column.kind, values: Float64Array.from(rowIndex, (row) => column.values[row] ?? Number.NaN) }];
    const used = new Map<number, number>();
    const codes = Int32Array.from(rowIndex, (row) => {
      const code = column.codes[row] ?? -1;
      if (code < 0) return -1;
      const place = used.get(code) ?? used.size;
      used.set(code, place);
      return place;
    });
    return [name, { kind: 'string', codes, dictionary: [...used.keys()].map((code) => column.dictionary[code] ?? '') }];
  });
  return { rows: rowIndex.length, columns: new Map(columns) };
}

/** Takes the program's model in: joined to the features, checked on rows, with all that makes it servable. */
export async function joinModel({ job, prepared, output, parameters, history, importance }: JoinJob): Promise<TrainedCandidate> {
  const { fitted, probe, classes, learning } = prepared;
  const { bytes, beside } = await readModel(output);
  const { onnx, graph } = fitted === null ? await joinRaw(job, prepared, bytes, beside) : await joinFeatures(prepared, fitted, bytes, beside);
  const names = prepared.data.features.map(({ name }) => name);
  const shares = Float64Array.from(importance ?? []);
  const sum = shares.reduce((total, share) => total + share, 0);
  const validation = job.validation === null ? undefined : await judge(job, prepared, onnx, graph, job.validation);
  const encoded: EncodedTarget = { task: learning, y: new Float64Array(), ...(classes === null ? {} : { classes }) };
  const trained: TrainedPredictor = {
    onnx,
    graph,
    task: signatureTask(encoded, job.target),
    threshold: 0.5,
    trainer: { name: job.trainer.name, parameters },
    importance:
      sum > 0 && shares.length === names.length
        ? namedImportance(
            names,
            shares.map((share) => share / sum),
          )
        : [],
    history,
    trainRows: prepared.data.rows.train,
    matrixColumns: names.length,
    ...(validation === undefined ? {} : { validation }),
  };
  return { trained, ...(await servable(job, trained, probe)), rungs: [] };
}

async function readModel(folder: string): Promise<{ readonly bytes: Uint8Array; readonly beside: ReadonlyMap<string, Uint8Array> }> {
  const beside = new Map<string, Uint8Array>();
  let size = 0;
  for (const name of await readdir(folder)) {
    const info = await stat(join(folder, name));
    if (!info.isFile()) continue;
    size += info.size;
    if (size > MOST_MODEL_BYTES)
      throw new MillraceError('MODEL_INVALID', 'The files in the output folder are larger than 2 GB together, and a model must fit into one ONNX file.', {
        fix: 'Write model.onnx alone there, with fewer or smaller weights.',
      });
    beside.set(name, await readFile(join(folder, name)));
  }
  const bytes = beside.get('model.onnx');
  if (bytes === undefined) throw new MillraceError('MODEL_INVALID', 'There is no model.onnx in the output folder.');
  if (bytes.length === 0) throw new MillraceError('MODEL_INVALID', 'model.onnx is empty.');
  return { bytes, beside };
}

interface Joined {
  readonly onnx: Uint8Array;
  readonly graph: PredictorGraph;
}

async function joinFeatures(
  { probe, classes, learning }: PreparedTraining,
  fitted: FittedFeatures,
  bytes: Uint8Array,
  beside: ReadonlyMap<string, Uint8Array>,
): Promise<Joined> {
  const matrix = dense(transformFeatures(fitted, probe));
  const data = new Float32Array(matrix.rows * matrix.columns);
  for (let c = 0; c < matrix.columns; c++)
    for (let row = 0; row < matrix.rows; row++) data[row * matrix.columns + c] = matrix.data[c * matrix.rows + row] ?? Number.NaN;
  const model = await openExternalModel({ bytes, beside, task: learning, probe: { rows: matrix.rows, columns: matrix.columns, data } });
  const joined = buildPredictorGraph({ fitted, toOnnx: model.toOnnx, outputs: classes?.length ?? 1, ...(classes === null ? {} : { classes }) });
  const answers = await answersOf(joined, probe);
  const scale = Math.max(1, ...model.answers.map(Math.abs));
  const off = answers.reduce((most, value, at) => Math.max(most, Math.abs(value - (model.answers[at] ?? Number.NaN))), 0);
  if (!(off <= AGREEMENT * scale)) {
    throw new MillraceError('MODEL_INVALID', 'model.onnx behind the features answers otherwise than by itself.', {
      problems: [{ path: 'outputs', message: 'must be the same to 1e-3', found: `off by ${off.toPrecision(3)}` }],
      fix: 'Export it with target_opset=20, so that no operator has to be raised.',
    });
  }
  return joined;
}

async function joinRaw(job: TrainJob, { data, probe, classes }: PreparedTraining, bytes: Uint8Array, beside: ReadonlyMap<string, Uint8Array>): Promise<Joined> {
  const kinds = { number: 'numbers', timestamp: 'dates', string: 'strings' } as const satisfies Record<string, RawKind>;
  const { onnx, graph } = openRawModel(
    bytes,
    beside,
    data.features.map(({ column, type }) => ({ name: column, kind: kinds[type] })),
  );
  const answers = Float32Array.from(
    await answersOf({ onnx, graph }, probe).catch((error: unknown) => {
      if (!(error instanceof MillraceError) || error.cause === undefined) throw error;
      throw new MillraceError(error.code, error.message, { problems: [{ path: 'model.onnx', message: 'is refused', found: reasonOf(error.cause) }] });
    }),
  );
  return { onnx: finishRawModel(onnx, answers, probe.rows, classes?.length ?? 1), graph };
}

async function answersOf({ onnx, graph }: Joined, table: RawTable): Promise<Float64Array> {
  const scorer = await createScorer(onnx, graph);
  try {
    return Float64Array.from((await scorer.score(table)).values);
  } finally {
    await scorer.close();
  }
}

async function judge(
  job: TrainJob,
  { classes, learning }: PreparedTraining,
  onnx: Uint8Array,
  graph: PredictorGraph,
  paths: readonly string[],
): Promise<NonNullable<TrainedPredictor['validation']>> {
  const table = await readValidation(job, paths);
  const all = encodeLike(targetColumn(table, job.target), classes ?? undefined, job.targetType);
  const rowIndex = Uint32Array.from(all.keys()).filter((row) => Number.isFinite(all[row]));
  const y = Float64Array.from(rowIndex, (row) => all[row] ?? Number.NaN);
  const predictions = await answersOf({ onnx, graph }, rowIndex.length === table.rows ? table : pickRows(table, rowIndex));
  return { predictions, y, rowIndex, skippedRows: table.rows - rowIndex.length, metrics: metricsFor(learning, y, predictions) };
}

function dense(x: Matrix): DenseMatrix {
  if (x.kind === 'dense') return x;
  const data = new Float32Array(x.rows * x.columns);
  for (let row = 0; row < x.rows; row++)
    for (let at = x.rowStart[row] ?? 0; at < (x.rowStart[row + 1] ?? 0); at++) data[(x.columnIndex[at] ?? 0) * x.rows + row] = x.values[at] ?? 0;
  return { kind: 'dense', rows: x.rows, columns: x.columns, data };
}
