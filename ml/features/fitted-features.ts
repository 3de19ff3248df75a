import type { DATE_PARTS } from '../../contracts/features.ts';

/**
 * Features after fitting: plain JSON (its bytes depend on the data, the features, the trainer and the seed only), from
 * which both the training matrix and the ONNX graph are made.
 *
 * Invariants:
 * 1. Steps stand in the order of the matrix's columns: numeric, datetime, bins, indicator, lookup, oneHot, hash, text.
 * 2. Every number is a float32, and both sides compute in float32 in the same order, so they agree to rounding.
 * 3. The empty text is a missing value, and a text ends before its first `\u0000`: onnxruntime's Node binding hands
 *    strings on as C strings, so the null marker `\u0000` arrives as the empty text.
 * 4. What older files lack is optional, and its absence means what it meant then.
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

interface Step {
  /** The feature's name, where it is not the column's. */
  readonly name?: string;
  readonly column: string;
}

export interface NumericStep extends Step {
  readonly kind: 'numeric';
  /** Where values are cut off before all else; null: there is no bound on that side. */
  readonly clip?: { readonly low: number | null; readonly high: number | null };
  /** What a missing value becomes; null leaves it missing. */
  readonly fill: number | null;
  readonly log: boolean;
  readonly scale: Scale | null;
}

export interface DatetimeStep extends Step {
  readonly kind: 'datetime';
  readonly parts: readonly {
    readonly part: DatePart;
    /** The sine or cosine of 2π · part ÷ its period in place of the part. */
    readonly wave?: 'sin' | 'cos';
    readonly fill: number | null;
    readonly scale: Scale | null;
  }[];
}

/** After how much a part comes round; parts that never do are left out. */
export const PART_PERIODS: Readonly<Partial<Record<DatePart, number>>> = { month: 12, day: 31, dayOfWeek: 7, dayOfYear: 366, hour: 24, minute: 60 };
/** 2π ÷ period as the graph multiplies by it. */
export const waveFactor = (part: DatePart): number => Math.fround((2 * Math.PI) / (PART_PERIODS[part] ?? 1));

/** How many of the ascending edges a number reaches: as a number, or as one of `width` columns. */
export interface BinsStep extends Step {
  readonly kind: 'bins';
  readonly edges: readonly number[];
  readonly encode: 'oneHot' | 'ordinal';
  /** Bin, or column, of a missing value; null: NaN for ordinal, all zeros for oneHot. */
  readonly missing: number | null;
  readonly width: number;
  readonly scale: Scale | null;
}

/** 1 where a number is missing, else 0. */
export interface IndicatorStep extends Step {
  readonly kind: 'indicator';
}

/** One column of a cross as a whole number: a category's place, or a bin; then unknown, then missing ones. */
export type CrossPart =
  | { readonly column: string; readonly source: CategorySource; readonly keys: readonly (string | number)[] }
  | { readonly column: string; readonly source: 'number'; readonly edges: readonly number[] }
  /** The MurmurHash3 of the value, for hashed crosses alone. */
  | { readonly column: string; readonly source: CategorySource };

/** What is encoded: a column's values, or several columns' taken together as one whole number. */
interface Encoded extends Step {
  readonly source: CategorySource | 'cross';
  /** Of a cross; `column` then is the feature's name. */
  readonly parts?: readonly CrossPart[];
}

/** Category → `width` numbers; used by ordinal, frequency and target encoding. A null number is a missing value. */
export interface LookupStep extends Encoded {
  readonly kind: 'lookup';
  /** `native`: codes without an order, which the trainer splits by sets. */
  readonly encode: 'native' | 'ordinal' | 'frequency' | 'target';
  readonly keys: readonly (string | number)[];
  /** `values[k * width … ]` belong to `keys[k]`. */
  readonly values: readonly number[];
  readonly width: number;
  /** For rare and unknown categories. */
  readonly other: readonly number[];
  readonly missing: readonly (number | null)[];
  /** Rows of the prior in target encoding, when not 20. */
  readonly smoothing?: number;
}

/** Category → one of `width` columns that is 1: the keys in their order, then rare and unknown, then missing. */
export interface OneHotStep extends Encoded {
  readonly kind: 'oneHot';
  readonly keys: readonly (string | number)[];
  /** Column for rare and unknown categories, null when training had none: such a row is all zeros. */
  readonly other: number | null;
  readonly missing: number | null;
  readonly width: number;
}

/** MurmurHash3 (x86, 32 bits, seed 0) modulo `width` → the one of `width` columns that is 1; a missing value is none. */
export interface HashStep extends Encoded {
  readonly kind: 'hash';
  readonly width: number;
}

export interface TextStep extends Step {
  readonly kind: 'text';
  readonly analyzer?: 'word' | 'char';
  /** Most words or characters of a term. */
  readonly ngrams: number;
  /** Least words or characters of a term, when not 1. */
  readonly leastNgrams?: number;
  readonly weight: 'tfidf' | 'count' | 'binary';
  readonly sublinear?: boolean;
  /** Default l2 for tfidf, else none. */
  readonly norm?: 'l2' | 'none';
  /** Terms sorted by length in words (characters), then by code unit; a term's words are joined by one blank. */
  readonly terms: readonly string[];
  /** In place of terms: columns that hashed terms fall into. */
  readonly buckets?: number;
  /** Inverse document frequency of each column for `tfidf`; empty otherwise. */
  readonly idf: readonly number[];
}

export type FittedStep = NumericStep | DatetimeStep | BinsStep | IndicatorStep | LookupStep | OneHotStep | HashStep | TextStep;

/** The columns that a step reads, with the graph's input that each lies in. */
export function stepColumns(step: FittedStep): readonly { readonly column: string; readonly input: 'numbers' | 'dates' | 'strings' }[] {
  switch (step.kind) {
    case 'numeric':
    case 'bins':
    case 'indicator':
      return [{ column: step.column, input: 'numbers' }];
    case 'datetime':
      return [{ column: step.column, input: 'dates' }];
    case 'text':
      return [{ column: step.column, input: 'strings' }];
    case 'lookup':
    case 'oneHot':
    case 'hash':
      return (step.source === 'cross' ? (step.parts ?? []) : [{ column: step.column, source: step.source }]).map(({ column, source }) => ({
        column,
        input: source === 'number' ? 'numbers' : 'strings',
      }));
  }
}

/** Matrix columns that a step fills. */
export function stepWidth(step: FittedStep): number {
  switch (step.kind) {
    case 'numeric':
    case 'indicator':
      return 1;
    case 'datetime':
      return step.parts.length;
    case 'bins':
    case 'lookup':
    case 'oneHot':
    case 'hash':
      return step.width;
    case 'text':
      return step.buckets ?? step.terms.length;
  }
}

/** Whether a text step's vectors are made one long. */
export const isNormalised = (step: TextStep): boolean => (step.norm ?? (step.weight === 'tfidf' ? 'l2' : 'none')) === 'l2';

/** For each matrix column the number of its codes where they have no order, else 0. Undefined where there is none. */
export function categoriesOf(steps: readonly FittedStep[]): readonly number[] | undefined {
  const codes = steps.flatMap((step) =>
    step.kind === 'lookup' && step.encode === 'native' ? [step.keys.length + 1] : Array.from({ length: stepWidth(step) }, () => 0),
  );
  return codes.some((count) => count > 0) ? codes : undefined;
}
