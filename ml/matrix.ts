/** Feature matrices that trainers read. Values are float32, as the ONNX graph sees them; NaN is a missing value. */

export interface DenseMatrix {
  readonly kind: 'dense';
  readonly rows: number;
  readonly columns: number;
  /** Column-major: the value of row r in column c is `data[c * rows + r]`. May lie on a SharedArrayBuffer. */
  readonly data: Float32Array;
}

/** Compressed sparse rows: row r has the entries `rowStart[r] … rowStart[r + 1] - 1`; columns ascend within a row. */
export interface SparseMatrix {
  readonly kind: 'sparse';
  readonly rows: number;
  readonly columns: number;
  readonly rowStart: Uint32Array;
  readonly columnIndex: Uint32Array;
  readonly values: Float32Array;
}

export type Matrix = DenseMatrix | SparseMatrix;
