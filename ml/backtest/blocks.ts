import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { Simulation } from '../../contracts/policy.ts';

/** Rows `from` … `to - 1` of a table; numbers and codes share its memory. */
export function rowsOf(table: RawTable, from: number, to: number): RawTable {
  const part = (column: RawColumn): RawColumn =>
    column.kind === 'string' ? { ...column, codes: column.codes.subarray(from, to) } : { ...column, values: column.values.subarray(from, to) };
  return { rows: to - from, columns: new Map([...table.columns].map(([name, column]) => [name, part(column)])) };
}

/** The rows in this order. */
export function takeRows(table: RawTable, rows: Uint32Array): RawTable {
  const taken = (column: RawColumn): RawColumn =>
    column.kind === 'string'
      ? { ...column, codes: Int32Array.from(rows, (row) => column.codes[row] ?? -1) }
      : { ...column, values: Float64Array.from(rows, (row) => column.values[row] ?? Number.NaN) };
  return { rows: rows.length, columns: new Map([...table.columns].map(([name, column]) => [name, taken(column)])) };
}

/**
 * Where blocks begin, and behind the last one where it ends: of `count` blocks block i begins at ⌊rows × i ÷ count⌋; of
 * `rows` a rest that fills no block is left out; of `hours` blocks without rows are.
 * @throws INVALID_PARAMETERS where there is no block to be scored behind the first `start`
 */
export function blockEdges(rows: number, blocks: Simulation['blocks'], start: number, timesMs: Float64Array | undefined): readonly number[] {
  const edges = edgesOf(rows, blocks, timesMs);
  const distinct = edges.filter((edge, i) => i === 0 || edge > (edges[i - 1] ?? -1));
  if (distinct.length - 1 > start) return distinct;
  throw new MillraceError(
    'INVALID_PARAMETERS',
    `The data make ${String(Math.max(0, distinct.length - 1))} blocks, and the first ${String(start)} train the first version.`,
    {
      problems: [
        { path: 'simulation.blocks', message: 'leave nothing to be scored', found: JSON.stringify(blocks), fix: 'Make blocks smaller, or give more data.' },
      ],
    },
  );
}

const MOST_BLOCKS = 10_000;

function edgesOf(rows: number, blocks: Simulation['blocks'], timesMs: Float64Array | undefined): readonly number[] {
  if ('count' in blocks) return Array.from({ length: blocks.count + 1 }, (_, i) => Math.floor((rows * i) / blocks.count));
  if ('rows' in blocks) return Array.from({ length: Math.min(MOST_BLOCKS, Math.floor(rows / blocks.rows)) + 1 }, (_, i) => i * blocks.rows);
  if (timesMs === undefined) {
    throw new MillraceError('INVALID_PARAMETERS', 'Blocks of hours need a column of time.', {
      problems: [{ path: 'simulation.time', message: 'is missing', fix: 'Name the column: --time COLUMN, or make blocks of rows.' }],
    });
  }
  const hourMs = 3_600_000 * blocks.hours;
  const first = timesMs[0] ?? 0;
  const edges: number[] = [0];
  let current = 0;
  for (let row = 0; row < rows; row++) {
    const block = Math.floor(((timesMs[row] ?? first) - first) / hourMs);
    if (block === current) continue;
    edges.push(row);
    current = block;
    if (edges.length > MOST_BLOCKS) return edges;
  }
  // the last block has not ended
  return edges;
}
