import type { RawColumn, RawTable } from '../../contracts/columns.ts';

/** Changes of tables in memory: what tests of behaviour, importance and explanations score again. */

/** These rows, in this order; a row may come more than once. */
export function takeRows(table: RawTable, rows: ArrayLike<number>): RawTable {
  const take = (column: RawColumn): RawColumn =>
    column.kind === 'string'
      ? { ...column, codes: Int32Array.from(rows, (row) => column.codes[row] as number) }
      : { kind: column.kind, values: Float64Array.from(rows, (row) => column.values[row] as number) };
  return { rows: rows.length, columns: new Map([...table.columns].map(([name, column]) => [name, take(column)])) };
}

/** The table with another column in place of one. */
export function withColumn(table: RawTable, name: string, column: RawColumn): RawTable {
  return { rows: table.rows, columns: new Map([...table.columns, [name, column]]) };
}

/** The column with row i taking the value of row `from[i]`. */
export function reordered(column: RawColumn, from: ArrayLike<number>): RawColumn {
  return column.kind === 'string'
    ? { ...column, codes: Int32Array.from(from, (row) => column.codes[row] as number) }
    : { kind: column.kind, values: Float64Array.from(from, (row) => column.values[row] as number) };
}

export type Cell = number | string | boolean | null;

/** A column of these values, of the given kind: booleans are 0 and 1, times ISO texts or milliseconds; what does not fit is missing. */
export function columnOf(kind: RawColumn['kind'], cells: readonly Cell[]): RawColumn {
  if (kind !== 'string') {
    const number = (cell: Cell): number => {
      if (typeof cell === 'boolean') return cell ? 1 : 0;
      if (typeof cell === 'string') return kind === 'timestamp' ? Date.parse(cell) : Number.NaN;
      return cell ?? Number.NaN;
    };
    return { kind, values: Float64Array.from(cells, number) };
  }
  const dictionary = [...new Set(cells.flatMap((cell) => (cell === null ? [] : [String(cell)])))];
  const codeOf = new Map(dictionary.map((text, code) => [text, code]));
  return { kind, dictionary, codes: Int32Array.from(cells, (cell) => (cell === null ? -1 : (codeOf.get(String(cell)) ?? -1))) };
}

/** A row's value as people read it: texts, numbers, ISO times; null where it is missing. */
export function cellOf(column: RawColumn | undefined, row: number): string | number | null {
  if (column === undefined) return null;
  if (column.kind === 'string') return column.dictionary[column.codes[row] ?? -1] ?? null;
  const value = column.values[row] ?? Number.NaN;
  if (!Number.isFinite(value)) return null;
  return column.kind === 'timestamp' ? new Date(value).toISOString() : value;
}
