import type { ColumnType } from '../contracts/columns.ts';
import type { EnsembleHow } from '../contracts/ensemble.ts';
import type { Predictor, Signature } from '../contracts/signature.ts';

/** Rows that no member has learnt from, with the members that answer them. */
export interface EnsembleFitRows {
  readonly files: readonly string[];
  readonly members: readonly EnsembleMember[];
}

export interface EnsembleMember {
  /** Path of the ONNX file. */
  readonly onnx: string;
  readonly graph: Signature['graph'];
  readonly sample: Predictor['sample']['rows'];
  readonly trainer: string;
}

/** Fits weights or a meta model, joins the members' graphs, and holds the result against them. */
export interface EnsembleJob {
  readonly kind: 'ensemble';
  readonly how: EnsembleHow;
  readonly members: readonly EnsembleMember[];
  readonly fit: readonly EnsembleFitRows[];
  /** Of all members together. */
  readonly signature: Signature;
  readonly targetType: ColumnType | null;
  readonly hashKey: string;
}

export interface BuiltEnsemble {
  readonly onnx: Uint8Array;
  /** One a member; sums to 1. */
  readonly shares: readonly number[];
  /** Of stacking, with every default filled in. */
  readonly metaParameters?: unknown;
  readonly sample: Predictor['sample'];
  readonly fitRows: readonly number[];
  /** Rows on which the joined graph was held against the members. */
  readonly checkedRows: number;
}
