import type { Column } from '../contracts/columns.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { Signature } from '../contracts/signature.ts';
import type { RankedFile } from '../data/row-rank.ts';

/** Scoring a dataset of any size into files. */
export interface PredictJob {
  readonly kind: 'predict';
  readonly files: readonly RankedFile[];
  /** The dataset's columns. */
  readonly columns: readonly Column[];
  /** Still to be done to its rows before the graph takes them. */
  readonly transforms: readonly RowTransform[];
  readonly hashKey: string;
  /** Path of the ONNX file. */
  readonly onnx: string;
  readonly signature: Signature;
  /** Columns that stand beside the predictions. */
  readonly kept: readonly string[];
  readonly prefix: string;
  readonly fileRows: number;
  readonly threads: number;
  /** Number of the GPU, as this process sees them, to run on where onnxruntime can; null: the CPU. */
  readonly gpu: number | null;
  readonly artifactsFolder: string;
  /** What an earlier attempt committed. */
  readonly resume: Uint8Array | null;
}

export interface PredictedDataset {
  readonly files: readonly { readonly sha256: string; readonly rows: number; readonly sizeBytes: number }[];
  /** Values of the graph's output for a row. */
  readonly width: number;
  readonly device: 'cpu' | 'gpu';
  /** Rows that an earlier attempt had done. */
  readonly resumedRows: number;
}
