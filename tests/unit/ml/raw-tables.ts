import { InferenceSession, type Tensor } from 'onnxruntime-node';
import type { RawColumn, RawTable } from '../../../contracts/columns.ts';

export type Cell = number | string | boolean | null;

/** Columns from plain lists: texts become string columns, a `Date` list a timestamp column, all else numbers. */
export function rawTable(columns: Readonly<Record<string, readonly (Cell | Date)[]>>): RawTable {
  const entries = Object.entries(columns);
  return { rows: entries[0]?.[1].length ?? 0, columns: new Map(entries.map(([name, cells]) => [name, rawColumn(cells)])) };
}

function rawColumn(cells: readonly (Cell | Date)[]): RawColumn {
  if (cells.some((cell) => cell instanceof Date)) {
    return { kind: 'timestamp', values: Float64Array.from(cells, (cell) => (cell instanceof Date ? cell.getTime() : Number.NaN)) };
  }
  if (cells.some((cell) => typeof cell === 'string')) {
    const dictionary = [...new Set(cells.filter((cell) => typeof cell === 'string'))];
    const codes = new Map(dictionary.map((text, code) => [text, code]));
    return { kind: 'string', dictionary, codes: Int32Array.from(cells, (cell) => (typeof cell === 'string' ? (codes.get(cell) ?? -1) : -1)) };
  }
  return { kind: 'number', values: Float64Array.from(cells, (cell) => (cell === null ? Number.NaN : Number(cell))) };
}

/** Runs a model on whole tensors; `output` as plain numbers, row-major. */
export async function runModel(onnx: Uint8Array, feeds: Readonly<Record<string, Tensor>>): Promise<{ dims: readonly number[]; data: Float32Array }> {
  const session = await InferenceSession.create(onnx);
  const { output } = await session.run(feeds);
  if (output === undefined) throw new Error('the model has no output');
  return { dims: output.dims, data: output.data as Float32Array };
}
