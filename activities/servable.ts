import type { RawTable } from '../contracts/columns.ts';
import type { Signature } from '../contracts/signature.ts';
import { compileRowTransforms, pruneTransforms } from '../data/row-transforms.ts';
import { requestRow, samplePredictions } from '../ml/score.ts';
import type { TrainedPredictor } from '../ml/train-predictor.ts';
import type { TrainedCandidate, TrainJob } from './compute-job.ts';

const SAMPLE_ROWS = 5;

/** The signature's raw columns and transforms, and a sample that a server can be checked by. */
export async function servable(
  task: Pick<TrainJob, 'transforms' | 'rawColumns'>,
  trained: TrainedPredictor,
  table: RawTable,
): Promise<Omit<TrainedCandidate, 'trained' | 'rungs'>> {
  const { graph } = trained;
  const { transforms, rawColumns } = pruneTransforms(task.transforms, [...graph.numbers, ...graph.dates, ...graph.strings], task.rawColumns);
  const signature = { columns: rawColumns.map(({ name, type }) => ({ name, type })), transforms: [...transforms], graph };
  const sample = isAtRest(signature, table, requestRow)
    ? await samplePredictions({ onnx: trained.onnx, signature, table, count: SAMPLE_ROWS })
    : { rows: [], output: [] };
  return { columns: signature.columns, transforms: signature.transforms, sample };
}

/**
 * The training rows are as they are after the transforms. They may stand for raw rows where the transforms leave them as
 * they are (a text that is lower case already); where they do not (a hash), there is no sample.
 */
function isAtRest({ columns, transforms, graph }: Pick<Signature, 'columns' | 'transforms' | 'graph'>, table: RawTable, rowOf: typeof requestRow): boolean {
  if (columns.some((column) => !table.columns.has(column.name))) return false;
  if (transforms.length === 0) return true;
  if (JSON.stringify(transforms).includes('"op":"hash"')) return false;
  const apply = compileRowTransforms(transforms, columns);
  const taken = Math.min(SAMPLE_ROWS, table.rows);
  return Array.from({ length: taken }, (_, i) => rowOf(columns, table, Math.floor((i * table.rows) / taken))).every((row) => {
    const after = apply(row);
    return [...graph.numbers, ...graph.dates, ...graph.strings].every((name) => !(name in row) || after[name] === row[name]);
  });
}
