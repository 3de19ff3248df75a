import type { DATE_PARTS } from '../../contracts/features.ts';

/**
 * Features after fitting: plain JSON (its bytes depend on the data, the features, the trainer and the seed only), from
 * which both the training matrix and the ONNX graph are made.
 *
 * Invariants:
 * 1. Steps stand in the order of the matrix's columns: numeric, datetime, lookup, oneHot, text.
 * 2. Every number is a float32, and both sides compute in float32 in the same order, so they agree to rounding.
 * 3. The empty text is a missing value, and a text ends before its first `\u0000`: onnxruntime's Node binding hands
 *    strings on as C strings, so the null marker `\u0000` arrives as the empty text.
 */
export interface FittedFeatures {
  readonly format: 'millrace-features/1';
  /** Columns by the graph's input in which they are packed, in that order. */
  readonly graph: { readonly numbers: readonly string[]; readonly dates: readonly string[]; readonly strings: readonly string[] };
  readonly steps: readonly FittedStep[];
  /** One name a matrix column: `distance`, `date.hour`, `origin=JFK`, `body:viagra`. */
  readonly names: readonly string[];
  readonly matrix: 'dense' | 'sparse';
}

export type DatePart = (typeof DATE_PARTS)[number];
export type CategorySource = 'number' | 'string';

/** After filling: (value - mean) × factor, then cut to ± 1e6, so that no extreme value can make a model's sum infinite. */
export interface Scale {
  readonly mean: number;
  readonly factor: number;
}
export const SCALED_LIMIT = 1e6;

export interface NumericStep {
  readonly kind: 'numeric';
  readonly column: string;
  /** What a missing value becomes; null leaves it missing. */
  readonly fill: number | null;
  readonly log: boolean;
  readonly scale: Scale | null;
}

export interface DatetimeStep {
  readonly kind: 'datetime';
  readonly column: string;
  readonly parts: readonly { readonly part: DatePart; readonly fill: number | null; readonly scale: Scale | null }[];
}

/** Category → `width` numbers; used by ordinal, frequency and target encoding. A null number is a missing value. */
export interface LookupStep {
  readonly kind: 'lookup';
  readonly column: string;
  readonly source: CategorySource;
  readonly encode: 'ordinal' | 'frequency' | 'target';
  readonly keys: readonly (string | number)[];
  /** `values[k * width … ]` belong to `keys[k]`. */
  readonly values: readonly number[];
  readonly width: number;
  /** For rare and unknown categories. */
  readonly other: readonly number[];
  readonly missing: readonly (number | null)[];
}

/** Category → one of `width` columns that is 1: the keys in their order, then rare and unknown, then missing. */
export interface OneHotStep {
  readonly kind: 'oneHot';
  readonly column: string;
  readonly source: CategorySource;
  readonly keys: readonly (string | number)[];
  /** Column for rare and unknown categories, null when training had none: such a row is all zeros. */
  readonly other: number | null;
  readonly missing: number | null;
  readonly width: number;
}

export interface TextStep {
  readonly kind: 'text';
  readonly column: string;
  readonly ngrams: number;
  readonly weight: 'tfidf' | 'count' | 'binary';
  /** Terms sorted by length in words, then by code unit; a term's words are joined by one blank. */
  readonly terms: readonly string[];
  /** Inverse document frequency of each term for `tfidf`; empty otherwise. */
  readonly idf: readonly number[];
}

export type FittedStep = NumericStep | DatetimeStep | LookupStep | OneHotStep | TextStep;

/** Matrix columns that a step fills. */
export function stepWidth(step: FittedStep): number {
  switch (step.kind) {
    case 'numeric':
      return 1;
    case 'datetime':
      return step.parts.length;
    case 'lookup':
    case 'oneHot':
      return step.width;
    case 'text':
      return step.terms.length;
  }
}
