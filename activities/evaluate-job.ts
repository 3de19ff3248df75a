import type { BehaviourTest } from '../contracts/behaviour-tests.ts';
import type { ColumnType } from '../contracts/columns.ts';
import type { EvaluationReport } from '../contracts/evaluation.ts';
import type { Signature } from '../contracts/signature.ts';

/** A predictor as a computing thread loads it. */
export interface ScoredModel {
  /** Path of the ONNX file. */
  readonly onnx: string;
  readonly signature: Signature;
}

/** Judging a candidate on rows that no training has seen: all that an evaluation tells, but for its verdict. */
export interface EvaluateJob {
  readonly kind: 'evaluate';
  readonly files: readonly string[];
  readonly columns: readonly string[];
  readonly candidate: ScoredModel;
  readonly champion: ScoredModel | null;
  readonly targetType: ColumnType | null;
  readonly metric: string;
  /** Metrics that slices are held against beside the main one. */
  readonly sliceMetrics: readonly string[];
  readonly slices: readonly (readonly string[])[];
  readonly leastSliceRows: number;
  readonly intervals: { readonly confidence: number; readonly replicates: number; readonly seed: number } | null;
  /** Of the comparison with the champion. */
  readonly confidence: number;
  readonly group: string | null;
  readonly business: readonly BusinessCall[];
  readonly tests: readonly BehaviourTest[];
  readonly importance: { readonly repeats: number; readonly rows: number; readonly seed: number } | null;
  readonly explain: { readonly rows: number; readonly permutations: number; readonly seed: number } | null;
  readonly runId: string;
  readonly pipeline: string;
  /** The project's key for hashed columns: rows of `mustPass` may need it. */
  readonly hashKey: string;
}

export interface BusinessCall {
  /** Path of the module that exports the step. */
  readonly module: string;
  readonly step: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly columns: readonly string[];
}

type Told = 'rows' | 'task' | 'classes' | 'threshold' | 'metrics' | 'intervals' | 'slices' | 'curves' | 'business' | 'tests' | 'importance' | 'explanations';

/** Parts of the report. Figures that have no value on the rows are left out. */
export interface EvaluatedRows extends Pick<EvaluationReport, Told> {
  readonly champion: Pick<NonNullable<EvaluationReport['champion']>, 'metrics' | 'comparison'> | null;
}
