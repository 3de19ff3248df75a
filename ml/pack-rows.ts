import { Tensor } from 'onnxruntime-node';
import type { RawColumn, RawTable } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { wholeMilliseconds } from './features/date-parts.ts';
import type { PredictorGraph } from './predictor.ts';

const NULL_INSTANT = -(2n ** 63n);
const NULL_TEXT = '\u0000';
const KINDS = { numbers: 'number', dates: 'timestamp', strings: 'string' } as const;

/**
 * Rows `from` … `to - 1` of a table as the tensors that a predictor's graph takes, nulls by the markers of
 * contracts/signature.ts. The table carries the columns as they are after the row transforms.
 * @throws COLUMN_MISSING, COLUMN_TYPE with every column that does not fit.
 */
export function packRows(graph: PredictorGraph, table: RawTable, from = 0, to = table.rows): Record<string, Tensor> {
  const problems: (Problem & { readonly missing: boolean })[] = [];
  const columnsOf = <Input extends keyof typeof KINDS>(input: Input): Extract<RawColumn, { kind: (typeof KINDS)[Input] }>[] =>
    graph[input].flatMap((name) => {
      const column = table.columns.get(name);
      if (column?.kind === KINDS[input]) return [column as Extract<RawColumn, { kind: (typeof KINDS)[Input] }>];
      if (column === undefined) problems.push({ path: name, column: name, message: 'the column is not in the data', missing: true });
      else problems.push({ path: name, column: name, message: `the model takes ${KINDS[input]} values here`, found: column.kind, missing: false });
      return [];
    });
  const [numbers, dates, strings] = [columnsOf('numbers'), columnsOf('dates'), columnsOf('strings')];
  if (problems.length > 0) {
    throw new MillraceError(problems.some(({ missing }) => missing) ? 'COLUMN_MISSING' : 'COLUMN_TYPE', 'The rows do not fit the model.', {
      problems: problems.map(({ missing: _, ...problem }) => problem),
    });
  }
  const rows = to - from;
  const feeds: Record<string, Tensor> = {};
  if (numbers.length > 0) {
    const data = new Float32Array(rows * numbers.length);
    numbers.forEach(({ values }, c) => {
      for (let row = 0; row < rows; row++) data[row * numbers.length + c] = values[from + row] ?? Number.NaN;
    });
    feeds['numbers'] = new Tensor('float32', data, [rows, numbers.length]);
  }
  if (dates.length > 0) {
    const data = new BigInt64Array(rows * dates.length);
    dates.forEach(({ values }, c) => {
      for (let row = 0; row < rows; row++) {
        const ms = wholeMilliseconds(values[from + row] ?? Number.NaN);
        data[row * dates.length + c] = Number.isNaN(ms) ? NULL_INSTANT : BigInt(ms);
      }
    });
    feeds['dates'] = new Tensor('int64', data, [rows, dates.length]);
  }
  if (strings.length > 0) {
    const data = new Array<string>(rows * strings.length);
    strings.forEach(({ codes, dictionary }, c) => {
      for (let row = 0; row < rows; row++) data[row * strings.length + c] = dictionary[codes[from + row] ?? -1] ?? NULL_TEXT;
    });
    feeds['strings'] = new Tensor('string', data, [rows, strings.length]);
  }
  return feeds;
}
