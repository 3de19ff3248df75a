import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { Feature, Features } from '../../contracts/features.ts';
import { hashIndex } from '../random.ts';
import type { LearningTask } from '../trainer.ts';
import { type CategoryCodes, categoryCodes, graphText } from './category.ts';
import { datePart } from './date-parts.ts';
import {
  type DatetimeStep,
  type FittedFeatures,
  type FittedStep,
  type LookupStep,
  type NumericStep,
  type OneHotStep,
  type Scale,
  stepWidth,
  type TextStep,
} from './fitted-features.ts';
import { forEachNgram, tokenize } from './tokenize.ts';

/** The target of the training rows, for encodings that look at it: a class index or a value a row. */
export interface FeatureTarget {
  readonly task: LearningTask;
  readonly y: Float64Array;
}

export interface FitFeaturesInput {
  readonly features: Features;
  /** Training rows; nothing else may be in it. */
  readonly table: RawTable;
  readonly target?: FeatureTarget;
  /** Name of the trainer: `gbdt` takes missing values and ordinal categories as they are, every other one does not. */
  readonly trainer: string;
  readonly seed: number;
}

const DEFAULT_CATEGORIES = 1_000;
const DEFAULT_ONE_HOT_CATEGORIES = 100;
/** From this many one-hot columns on, linear models get sparse rows. */
const SPARSE_FROM_ONE_HOT_COLUMNS = 32;
/** Rows of the prior that a category's mean is mixed with. */
const TARGET_SMOOTHING_ROWS = 20;
/** Below this spread a column counts as constant: one part in float32's smallest normal numbers cannot be scaled. */
const MIN_SCALE = 1e-30;
const FLOAT32_MAX = 3.4028234663852886e38;
export const TARGET_FOLDS = 5;

/**
 * Features fitted on the training rows: categories, statistics and vocabularies, as plain JSON. The same table,
 * features, target, trainer and seed give the same result.
 * @throws FEATURES_INVALID with every problem: a column that has no value, a kind that does not fit its column, target
 * encoding without a target; COLUMN_MISSING and COLUMN_TYPE when nothing else is wrong than that.
 */
export function fitFeatures(input: FitFeaturesInput): FittedFeatures {
  const { features, table, trainer } = input;
  const treesTakeMissing = trainer === 'gbdt';
  const problems: { readonly kind: 'missing' | 'type' | 'other'; readonly problem: Problem }[] = [];
  const byKind = {
    numeric: [] as FittedStep[],
    datetime: [] as FittedStep[],
    lookup: [] as FittedStep[],
    oneHot: [] as FittedStep[],
    text: [] as FittedStep[],
  };

  for (const [name, feature] of Object.entries(features)) {
    const column = table.columns.get(name);
    const path = `features.${name}`;
    if (column === undefined) {
      problems.push({
        kind: 'missing',
        problem: { path, column: name, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` },
      });
      continue;
    }
    const unfit = kindProblem(feature, column);
    if (unfit !== undefined) {
      problems.push({ kind: 'type', problem: { path, column: name, found: column.kind, ...unfit } });
      continue;
    }
    const steps = fitStep(name, feature, column, input, treesTakeMissing);
    if ('message' in steps) problems.push({ kind: 'other', problem: { path, column: name, ...steps } });
    else byKind[steps.kind].push(steps);
  }
  if (problems.length > 0) {
    const kinds = new Set(problems.map(({ kind }) => kind));
    const code = kinds.size > 1 || kinds.has('other') ? 'FEATURES_INVALID' : kinds.has('missing') ? 'COLUMN_MISSING' : 'COLUMN_TYPE';
    throw new MillraceError(code, `${problems.length === 1 ? 'A feature does' : `${problems.length} features do`} not fit the data.`, {
      problems: problems.map(({ problem }) => problem),
    });
  }

  const steps = [...byKind.numeric, ...byKind.datetime, ...byKind.lookup, ...byKind.oneHot, ...byKind.text];
  const of = (wanted: (step: FittedStep) => boolean): string[] => steps.filter(wanted).map((step) => step.column);
  const oneHotColumns = byKind.oneHot.reduce((sum, step) => sum + stepWidth(step), 0);
  const hasText = byKind.text.length > 0;
  const sparse = trainer === 'linear' ? hasText || oneHotColumns >= SPARSE_FROM_ONE_HOT_COLUMNS : trainer !== 'gbdt' && hasText;
  return {
    format: 'millrace-features/1',
    graph: {
      numbers: of((step) => step.kind === 'numeric' || ('source' in step && step.source === 'number')),
      dates: of((step) => step.kind === 'datetime'),
      strings: of((step) => step.kind === 'text' || ('source' in step && step.source === 'string')),
    },
    steps,
    names: steps.flatMap(stepNames),
    matrix: sparse ? 'sparse' : 'dense',
  };
}

type Unfit = { readonly message: string; readonly fix: string };

function kindProblem(feature: Feature, column: RawColumn): Unfit | undefined {
  switch (feature.kind) {
    case 'numeric':
      if (column.kind === 'number') return undefined;
      return column.kind === 'string'
        ? { message: 'a numeric feature needs numbers', fix: 'convert the column with the row transform toNumber, or make it categorical' }
        : { message: 'a numeric feature needs numbers', fix: 'make it a datetime feature' };
    case 'categorical':
      return column.kind === 'timestamp' ? { message: 'a timestamp has no categories', fix: 'make it a datetime feature' } : undefined;
    case 'datetime':
      return column.kind === 'timestamp'
        ? undefined
        : { message: 'a datetime feature needs a timestamp or date', fix: 'convert the column with the row transform toTimestamp' };
    case 'text':
      return column.kind === 'string' ? undefined : { message: 'a text feature needs texts', fix: 'convert the column with the row transform toText' };
  }
}

function fitStep(name: string, feature: Feature, column: RawColumn, input: FitFeaturesInput, treesTakeMissing: boolean): FittedStep | Unfit {
  if (feature.kind === 'numeric' && column.kind === 'number') return fitNumeric(name, feature, column.values, treesTakeMissing);
  if (feature.kind === 'datetime' && column.kind === 'timestamp') return fitDatetime(name, feature, column.values, treesTakeMissing);
  if (feature.kind === 'categorical' && column.kind !== 'timestamp') return fitCategorical(name, feature, column, input, treesTakeMissing);
  if (feature.kind === 'text' && column.kind === 'string') return fitText(name, feature, column);
  throw new MillraceError('INTERNAL', `The feature ${name} was not checked against its column.`);
}

const NO_VALUES: Unfit = { message: 'every value is missing in the training rows', fix: 'leave the column out, or correct the source or the split' };

function clampToFloat32(value: number): number {
  return Math.max(-FLOAT32_MAX, Math.min(FLOAT32_MAX, Math.fround(value)));
}

function standardScale(values: (visit: (value: number) => void) => void): Scale {
  let count = 0;
  let mean = 0;
  let squares = 0;
  values((value) => {
    // Welford's update: numbers far from 0 keep their digits.
    count++;
    const delta = value - mean;
    mean += delta / count;
    squares += delta * (value - mean);
  });
  const deviation = count === 0 ? 0 : Math.sqrt(squares / count);
  return { mean: Math.fround(mean) + 0, factor: deviation > MIN_SCALE ? Math.fround(1 / deviation) : 1 };
}

function fitNumeric(name: string, feature: Extract<Feature, { kind: 'numeric' }>, values: Float64Array, treesTakeMissing: boolean): NumericStep | Unfit {
  const present: number[] | Float64Array = values.filter((value) => !Number.isNaN(value)).map(clampToFloat32);
  if (present.length === 0) return NO_VALUES;
  const impute = feature.impute === 'auto' ? (treesTakeMissing ? 'none' : 'mean') : feature.impute;
  const scaled = feature.scale === 'standard' || (feature.scale === 'auto' && !treesTakeMissing);
  if (impute === 'none' && !treesTakeMissing) {
    return { message: 'only trees take missing values', fix: 'let impute be mean, median, zero or a number' };
  }
  const fill = impute === 'none' ? null : clampToFloat32(fillValue(impute, present)) + 0; // + 0: JSON has no -0
  const logOf = (value: number): number => (feature.log ? Math.log1p(Math.max(0, value)) : value);
  const scale = scaled
    ? standardScale((visit) => {
        for (const value of values) {
          if (!Number.isNaN(value)) visit(logOf(clampToFloat32(value)));
          else if (fill !== null) visit(logOf(fill));
        }
      })
    : null;
  return { kind: 'numeric', column: name, fill, log: feature.log, scale };
}

function fillValue(impute: 'mean' | 'median' | 'zero' | number, present: Float64Array): number {
  if (typeof impute === 'number') return impute;
  if (impute === 'zero') return 0;
  if (impute === 'mean') {
    let mean = 0;
    present.forEach((value, i) => {
      mean += (value - mean) / (i + 1);
    });
    return mean;
  }
  const sorted = present.toSorted();
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

function fitDatetime(name: string, feature: Extract<Feature, { kind: 'datetime' }>, instants: Float64Array, treesTakeMissing: boolean): DatetimeStep | Unfit {
  if (instants.every((instant) => Number.isNaN(datePart(instant, 'epochDays')))) return NO_VALUES;
  const parts = [...new Set(feature.parts)].map((part) => {
    if (treesTakeMissing) return { part, fill: null, scale: null };
    const scale = standardScale((visit) => {
      for (const instant of instants) {
        const value = datePart(instant, part);
        if (!Number.isNaN(value)) visit(value);
      }
    });
    return { part, fill: scale.mean, scale };
  });
  return { kind: 'datetime', column: name, parts };
}

interface Categories {
  readonly coded: CategoryCodes;
  /** Codes of the kept categories, the most frequent first. */
  readonly kept: readonly number[];
  /** Kept category's place, or -1 for rare ones, by code. */
  readonly placeOf: Int32Array;
  readonly rowsOf: readonly number[];
  readonly rareRows: number;
  readonly missingRows: number;
}

const compareKeys = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0);

function countCategories(coded: CategoryCodes, minCount: number, maxCategories: number): Categories {
  const counts = new Array<number>(coded.keys.length).fill(0);
  let missingRows = 0;
  for (const code of coded.codes) {
    if (code < 0) missingRows++;
    else counts[code] = (counts[code] ?? 0) + 1;
  }
  const key = (code: number): string | number => coded.keys[code] ?? '';
  const count = (code: number): number => counts[code] ?? 0;
  const kept = [...coded.keys.keys()]
    // JSON has no infinity, and a category of it means nothing: it falls together with the unknown ones.
    .filter((code) => count(code) >= minCount && key(code) !== Number.POSITIVE_INFINITY && key(code) !== Number.NEGATIVE_INFINITY)
    .sort((a, b) => count(b) - count(a) || compareKeys(key(a), key(b)))
    .slice(0, maxCategories);
  const placeOf = new Int32Array(coded.keys.length).fill(-1);
  kept.forEach((code, place) => {
    placeOf[code] = place;
  });
  const rowsOf = kept.map(count);
  const rareRows = coded.codes.length - missingRows - rowsOf.reduce((sum, rows) => sum + rows, 0);
  return { coded, kept, placeOf, rowsOf, rareRows, missingRows };
}

function fitCategorical(
  name: string,
  feature: Extract<Feature, { kind: 'categorical' }>,
  column: Exclude<RawColumn, { kind: 'timestamp' }>,
  input: FitFeaturesInput,
  treesTakeMissing: boolean,
): LookupStep | OneHotStep | Unfit {
  const encode = feature.encode === 'auto' ? (treesTakeMissing ? 'ordinal' : 'oneHot') : feature.encode;
  const coded = categoryCodes(column);
  const categories = countCategories(coded, feature.minCount, feature.maxCategories ?? (encode === 'oneHot' ? DEFAULT_ONE_HOT_CATEGORIES : DEFAULT_CATEGORIES));
  if (coded.keys.length === 0) return NO_VALUES;
  if (categories.kept.length === 0) {
    return {
      message: `none of its ${coded.keys.length} categories is seen ${feature.minCount} times`,
      fix: 'lower minCount, make it a text feature, or leave it out',
    };
  }
  const keys = categories.kept.map((code) => coded.keys[code] ?? '');
  if (encode === 'oneHot') {
    let width = keys.length;
    const other = categories.rareRows > 0 ? width++ : null;
    const missing = categories.missingRows > 0 ? width++ : null;
    return { kind: 'oneHot', column: name, source: coded.source, keys, other, missing, width };
  }
  const rows = coded.codes.length;
  if (encode === 'frequency') {
    const share = (count: number): number => Math.fround(count / rows);
    const base = { kind: 'lookup', column: name, source: coded.source, encode, keys, width: 1 } as const;
    return { ...base, values: categories.rowsOf.map(share), other: [share(categories.rareRows)], missing: [share(categories.missingRows)] };
  }
  if (encode === 'target') {
    if (input.target === undefined) return { message: 'target encoding needs a target', fix: 'choose another encoding' };
    const means = targetMeans(categories, input.target);
    const base = { kind: 'lookup', column: name, source: coded.source, encode, keys, width: means.width } as const;
    return { ...base, values: means.values, other: means.other, missing: means.missing };
  }
  return ordinalStep(name, categories, keys, input.target, treesTakeMissing);
}

/** Smoothed target means of all rows, or of the rows outside a fold. */
interface TargetMeans {
  readonly width: number;
  readonly values: number[];
  readonly other: number[];
  readonly missing: number[];
}

function targetMeans(categories: Categories, target: FeatureTarget): TargetMeans {
  const { task, y } = target;
  const width = task.kind === 'multiclass' ? task.classes : 1;
  const groups = categories.kept.length;
  const [otherGroup, missingGroup] = [groups, groups + 1];
  const sums = new Float64Array((groups + 2) * width);
  const counts = new Float64Array(groups + 2);
  for (let row = 0; row < y.length; row++) {
    const code = categories.coded.codes[row] ?? -1;
    const place = code < 0 ? missingGroup : (categories.placeOf[code] ?? -1);
    const group = place < 0 ? otherGroup : place;
    const value = y[row] ?? 0;
    counts[group] = (counts[group] ?? 0) + 1;
    if (task.kind === 'multiclass') {
      const cell = group * width + value;
      sums[cell] = (sums[cell] ?? 0) + 1;
    } else sums[group] = (sums[group] ?? 0) + value;
  }
  return smoothedMeans(sums, counts, width, groups);
}

/** (sum + m × prior) ÷ (count + m) for each group; the last two groups are other and missing. */
export function smoothedMeans(sums: Float64Array, counts: Float64Array, width: number, groups: number): TargetMeans {
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const priors = Array.from({ length: width }, (_, k) => {
    let sum = 0;
    for (let group = 0; group < groups + 2; group++) sum += sums[group * width + k] ?? 0;
    return rows === 0 ? 0 : sum / rows;
  });
  const meansOf = (group: number): number[] =>
    priors.map((prior, k) => Math.fround(((sums[group * width + k] ?? 0) + TARGET_SMOOTHING_ROWS * prior) / ((counts[group] ?? 0) + TARGET_SMOOTHING_ROWS)));
  return { width, values: Array.from({ length: groups }, (_, group) => meansOf(group)).flat(), other: meansOf(groups), missing: meansOf(groups + 1) };
}

/**
 * Codes 1, 2, … in the order of the smoothed target mean, so that one split of a tree can part the categories as well as
 * any grouping (Breiman et al. 1984, theorem 4.5); in the order of the keys without a target, or with many classes.
 */
function ordinalStep(
  name: string,
  categories: Categories,
  keys: readonly (string | number)[],
  target: FeatureTarget | undefined,
  treesTakeMissing: boolean,
): LookupStep {
  const places = keys.map((_, place) => place);
  const ordered = target !== undefined && target.task.kind !== 'multiclass' ? targetMeans(categories, target) : undefined;
  const key = (place: number): string | number => keys[place] ?? '';
  if (ordered === undefined) places.sort((a, b) => compareKeys(key(a), key(b)));
  else places.sort((a, b) => (ordered.values[a] ?? 0) - (ordered.values[b] ?? 0) || compareKeys(key(a), key(b)));
  const values = new Array<number>(keys.length).fill(0);
  places.forEach((place, rank) => {
    values[place] = rank + 1;
  });
  // Half-way between its neighbours; without a target, rare and unknown ones stand before all others.
  const rankOf = (mean: number | undefined): number =>
    ordered === undefined || mean === undefined ? 0 : ordered.values.filter((value) => value < mean).length + 0.5;
  const other = rankOf(ordered?.other[0]);
  const missing = treesTakeMissing ? null : rankOf(ordered?.missing[0]);
  return { kind: 'lookup', column: name, source: categories.coded.source, encode: 'ordinal', keys, values, width: 1, other: [other], missing: [missing] };
}

function fitText(name: string, feature: Extract<Feature, { kind: 'text' }>, column: Extract<RawColumn, { kind: 'string' }>): TextStep | Unfit {
  const rowsOfEntry = new Float64Array(column.dictionary.length);
  for (const code of column.codes) if (code >= 0) rowsOfEntry[code] = (rowsOfEntry[code] ?? 0) + 1;
  // A term counts once a text: it remembers the last text that it was seen in.
  const documents = new Map<string, { rows: number; last: number }>();
  column.dictionary.forEach((entry, code) => {
    const rows = rowsOfEntry[code] ?? 0;
    if (rows === 0) return;
    forEachNgram(tokenize(graphText(entry)), feature.ngrams, (term) => {
      const known = documents.get(term);
      if (known === undefined) documents.set(term, { rows, last: code });
      else if (known.last !== code) {
        known.rows += rows;
        known.last = code;
      }
    });
  });
  const words = (term: string): number => term.split(' ').length;
  const chosen = [...documents]
    .filter(([, { rows }]) => rows >= feature.minDocuments)
    .sort(([a, inA], [b, inB]) => inB.rows - inA.rows || compareKeys(a, b))
    .slice(0, feature.maxFeatures)
    .map(([term]) => term)
    .sort((a, b) => words(a) - words(b) || compareKeys(a, b));
  if (chosen.length === 0) {
    return { message: `no word is in ${feature.minDocuments} training texts`, fix: 'lower minDocuments, or leave the column out' };
  }
  const total = column.codes.length;
  // scikit-learn's smooth_idf: ln((1 + n) / (1 + df)) + 1.
  const idf = feature.weight === 'tfidf' ? chosen.map((term) => Math.fround(Math.log((1 + total) / (1 + (documents.get(term)?.rows ?? 0))) + 1)) : [];
  return { kind: 'text', column: name, ngrams: feature.ngrams, weight: feature.weight, terms: chosen, idf };
}

function stepNames(step: FittedStep): string[] {
  switch (step.kind) {
    case 'numeric':
      return [step.column];
    case 'datetime':
      return step.parts.map(({ part }) => `${step.column}.${part}`);
    case 'lookup':
      return step.width === 1 ? [step.column] : Array.from({ length: step.width }, (_, k) => `${step.column}.${k}`);
    case 'oneHot':
      return [
        ...step.keys.map((key) => `${step.column}=${key}`),
        ...(step.other === null ? [] : [`${step.column}=(other)`]),
        ...(step.missing === null ? [] : [`${step.column}=(missing)`]),
      ];
    case 'text':
      return step.terms.map((term) => `${step.column}:${term}`);
  }
}

/** The fold that a training row's target encoding leaves out. */
export const targetFold = (row: number, seed: number): number => hashIndex(row, seed) % TARGET_FOLDS;
