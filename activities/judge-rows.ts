import type { RawColumn, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { higherIsBetter } from '../ml/metrics.ts';
import type { Scores } from '../ml/score.ts';
import { encodeLike } from '../ml/target.ts';
import { metricsFor } from '../ml/train-predictor.ts';
import type { JudgedRows, ScoreJob, SliceMetric } from './compute-job.ts';

/** Slices smaller than this say too little to be listed. */
const LEAST_SLICE_ROWS = 100;
/** Of a column with many values the largest slices are judged, and the worst of them listed. */
const JUDGED_SLICES = 200;
const LISTED_SLICES = 50;

/** Metrics of the scored rows, over all of them and by slice. @throws TARGET_INVALID when a row's target is unknown to the model */
export function judgeRows({ signature, targetType, slices }: ScoreJob, table: RawTable, scores: Scores): JudgedRows {
  const { task, threshold } = signature;
  if (task.kind === 'raw')
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  const target = table.columns.get(task.target);
  if (!target) throw new MillraceError('COLUMN_MISSING', `The data has no column ${task.target}.`);
  const classes = task.kind === 'regression' ? undefined : task.classes;
  const y = encodeLike(target, classes, targetType ?? undefined);
  const unknown = y.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (unknown > 0) {
    throw new MillraceError('TARGET_INVALID', `${String(unknown)} of ${String(y.length)} rows have no target that the model knows.`, {
      problems: [{ path: 'target', column: task.target, message: classes ? `must be one of ${classes.join(', ')}` : 'must be a number' }],
    });
  }
  const output = Float64Array.from(scores.values);
  const learning = task.kind === 'multiclass' ? ({ kind: 'multiclass', classes: task.classes.length } as const) : ({ kind: task.kind } as const);
  const metricsOf = (rows?: readonly number[]): Readonly<Record<string, number>> =>
    metricsFor(learning, pick(y, 1, rows), pick(output, scores.outputs, rows), threshold);
  return {
    rows: y.length,
    metrics: metricsOf(),
    slices: slices.map(({ column, metric }) => {
      const values = table.columns.get(column);
      return { column, metric, values: values ? worstSlices(values, table.rows, metric, (rows) => metricsOf(rows)[metric] ?? Number.NaN) : [] };
    }),
  };
}

function pick(values: Float64Array, width: number, rows: readonly number[] | undefined): Float64Array {
  if (!rows) return values;
  const picked = new Float64Array(rows.length * width);
  rows.forEach((row, i) => {
    picked.set(values.subarray(row * width, (row + 1) * width), i * width);
  });
  return picked;
}

function worstSlices(column: RawColumn, rows: number, metric: string, judge: (rows: readonly number[]) => number): SliceMetric[] {
  const rowsOf = new Map<string, number[]>();
  for (let row = 0; row < rows; row++) {
    const text = valueText(column, row);
    const slice = rowsOf.get(text);
    if (slice) slice.push(row);
    else rowsOf.set(text, [row]);
  }
  return [...rowsOf]
    .filter(([, slice]) => slice.length >= LEAST_SLICE_ROWS)
    .sort((a, b) => b[1].length - a[1].length)
    .slice(0, JUDGED_SLICES)
    .map(([value, slice]) => ({ value, rows: slice.length, metric: judge(slice) }))
    .filter((slice) => Number.isFinite(slice.metric))
    .sort((a, b) => (higherIsBetter(metric) ? a.metric - b.metric : b.metric - a.metric))
    .slice(0, LISTED_SLICES);
}

function valueText(column: RawColumn, row: number): string {
  if (column.kind === 'string') return column.dictionary[column.codes[row] ?? -1] ?? 'null';
  const value = column.values[row] ?? Number.NaN;
  if (Number.isNaN(value)) return 'null';
  return column.kind === 'timestamp' ? new Date(value).toISOString() : String(value);
}
