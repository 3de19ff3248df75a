import type { Matrix } from '../matrix.ts';

/**
 * Scores x·w + b of every row, row-major into `z`. `weights` holds `outputs` vectors of x.columns numbers, and the
 * `outputs` intercepts behind them.
 */
export function scores(x: Matrix, weights: Float64Array, outputs: number, z: Float64Array): void {
  const { rows, columns } = x;
  for (let k = 0; k < outputs; k++) {
    const first = k * columns;
    const intercept = weights[outputs * columns + k] as number;
    if (x.kind === 'dense') {
      for (let row = 0; row < rows; row++) z[row * outputs + k] = intercept;
      for (let c = 0; c < columns; c++) {
        const weight = weights[first + c] as number;
        if (weight === 0) continue;
        const offset = c * rows;
        for (let row = 0; row < rows; row++) z[row * outputs + k] = (z[row * outputs + k] as number) + weight * (x.data[offset + row] as number);
      }
    } else {
      const { rowStart, columnIndex, values } = x;
      for (let row = 0; row < rows; row++) {
        let sum = intercept;
        const end = rowStart[row + 1] as number;
        for (let i = rowStart[row] as number; i < end; i++) sum += (weights[first + (columnIndex[i] as number)] as number) * (values[i] as number);
        z[row * outputs + k] = sum;
      }
    }
  }
}

/** xᵀ·r and the sum of r for each of the `outputs` columns of the row-major r, laid out as `scores` reads weights. */
export function transposedProduct(x: Matrix, r: Float64Array, outputs: number, result: Float64Array): void {
  const { rows, columns } = x;
  result.fill(0);
  for (let k = 0; k < outputs; k++) {
    const first = k * columns;
    let total = 0;
    for (let row = 0; row < rows; row++) total += r[row * outputs + k] as number;
    result[outputs * columns + k] = total;
    if (x.kind === 'dense') {
      for (let c = 0; c < columns; c++) {
        const offset = c * rows;
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += (r[row * outputs + k] as number) * (x.data[offset + row] as number);
        result[first + c] = sum;
      }
    } else {
      const { rowStart, columnIndex, values } = x;
      for (let row = 0; row < rows; row++) {
        const residual = r[row * outputs + k] as number;
        const end = rowStart[row + 1] as number;
        for (let i = rowStart[row] as number; i < end; i++) {
          const cell = first + (columnIndex[i] as number);
          result[cell] = (result[cell] as number) + residual * (values[i] as number);
        }
      }
    }
  }
}

/** Sums and sums of squares of each column, each row times its weight. */
export function columnMoments(x: Matrix, weights: Float64Array | undefined): { readonly sums: Float64Array; readonly squares: Float64Array } {
  const sums = new Float64Array(x.columns);
  const squares = new Float64Array(x.columns);
  const add = (column: number, row: number, value: number): void => {
    const weighted = (weights?.[row] ?? 1) * value;
    sums[column] = (sums[column] as number) + weighted;
    squares[column] = (squares[column] as number) + weighted * value;
  };
  for (let outer = 0; outer < (x.kind === 'dense' ? x.columns : x.rows); outer++) {
    if (x.kind === 'dense') for (let row = 0; row < x.rows; row++) add(outer, row, x.data[outer * x.rows + row] as number);
    else for (let i = x.rowStart[outer] as number; i < (x.rowStart[outer + 1] as number); i++) add(x.columnIndex[i] as number, outer, x.values[i] as number);
  }
  return { sums, squares };
}
