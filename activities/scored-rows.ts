import type { RawColumn } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetRef } from '../contracts/references.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import { datasetFiles, loadManifest, pickColumns } from '../data/dataset.ts';
import type { Scores } from '../ml/score.ts';
import { encodeLike } from '../ml/target.ts';
import { metricsFor } from '../ml/train-predictor.ts';
import { compute } from './compute-job.ts';
import type { StageContext } from './stage-definition.ts';

/** A dataset's rows with what a predictor says of them. */
export interface ScoredRows {
  readonly predictor: Predictor;
  readonly rows: number;
  /** Class index, or the value of a regression. */
  readonly y: Float64Array;
  /** Row-major [rows × outputs]. */
  readonly output: Float64Array;
  readonly outputs: number;
  readonly columns: ReadonlyMap<string, RawColumn>;
}

export async function loadPredictor(deps: StageContext['deps'], id: string): Promise<Predictor> {
  return PredictorSchema.parse(await deps.artifacts.getJson(id));
}

/** Scores every row of the dataset in a worker thread; `extra` columns come along for slices. */
export async function scoreRows(context: StageContext, predictorId: string, on: DatasetRef, extra: readonly string[], what: string): Promise<ScoredRows> {
  const { deps, signal, progress, call } = context;
  const predictor = await loadPredictor(deps, predictorId);
  const { signature } = predictor;
  if (signature.task.kind === 'raw')
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  const { target } = signature.task;
  const manifest = await loadManifest(deps.artifacts, on);
  const wanted = [...new Set([...signature.graph.numbers, ...signature.graph.dates, ...signature.graph.strings, target, ...extra])];
  pickColumns(manifest.columns, wanted);
  const files = await datasetFiles(deps.artifacts, manifest);
  const scored = await compute<{ scores: Scores; columns: [string, RawColumn][] }>(
    { kind: 'score', files: files.map((file) => file.path), columns: wanted, onnx: await deps.artifacts.pathOf(predictor.onnx), graph: signature.graph },
    {
      signal,
      progress: (fraction) => {
        progress(fraction, what);
      },
      log: (message) => {
        deps.log('error', `scoring for ${call.stage}`, { run: call.runId, error: message });
      },
    },
  );
  const columns = new Map(scored.columns);
  const targetColumn = columns.get(target);
  if (!targetColumn) throw new MillraceError('COLUMN_MISSING', `The data has no column ${target}.`);
  const classes = signature.task.kind === 'regression' ? undefined : signature.task.classes;
  const y = encodeLike(targetColumn, classes, manifest.columns.find((column) => column.name === target)?.type);
  const unknown = y.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (unknown > 0) {
    throw new MillraceError('TARGET_INVALID', `${String(unknown)} of ${String(y.length)} rows have no target that the model knows.`, {
      problems: [{ path: 'target', column: target, message: classes ? `must be one of ${classes.join(', ')}` : 'must be a number' }],
    });
  }
  return { predictor, rows: y.length, y, output: Float64Array.from(scored.scores.values), outputs: scored.scores.outputs, columns };
}

/** The metrics that the task has, over all rows or over some. */
export function metricsOf(scored: ScoredRows, rows?: readonly number[]): Readonly<Record<string, number>> {
  const { task, threshold } = scored.predictor.signature;
  const pick = (values: Float64Array, width: number): Float64Array => {
    if (!rows) return values;
    const picked = new Float64Array(rows.length * width);
    rows.forEach((row, i) => {
      picked.set(values.subarray(row * width, (row + 1) * width), i * width);
    });
    return picked;
  };
  const y = pick(scored.y, 1);
  const output = pick(scored.output, scored.outputs);
  if (task.kind === 'raw') return {};
  const learning = task.kind === 'multiclass' ? ({ kind: 'multiclass', classes: task.classes.length } as const) : ({ kind: task.kind } as const);
  return metricsFor(learning, y, output, threshold);
}
