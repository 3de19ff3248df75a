import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { columnsOfFeature, type Feature, type Features } from '../../contracts/features.ts';
import { hashIndex } from '../random.ts';
import type { LearningTask } from '../trainer.ts';
import { binOf, binText, fitEdges, quantileOf } from './bins.ts';
import { type CategoryCodes, categoryCodes, crossCodes, crossText, graphText } from './category.ts';
import { datePart } from './date-parts.ts';
import {
  type BinsStep,
  type CrossPart,
  type DatetimeStep,
  type FittedFeatures,
  type FittedStep,
  type HashStep,
  type LookupStep,
  type NumericStep,
  type OneHotStep,
  PART_PERIODS,
  type Scale,
  stepColumns,
  stepWidth,
  type TextStep,
} from './fitted-features.ts';
import { murmurHashOfText } from './murmur-hash.ts';
import { forEachNgram, unitsOf } from './tokenize.ts';

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
/** gbdt numbers bins in a byte; rare and unknown categories take one. */
const MOST_NATIVE_CATEGORIES = 254;
const DEFAULT_ONE_HOT_CATEGORIES = 100;
const DEFAULT_BUCKETS = 256;
/** Most categories of one column of a cross, so that every combination is a whole number below 2⁵³. */
const MOST_CROSSED_CATEGORIES = 4_096;
/** From so many cells on, networks get sparse rows, which they make dense batch by batch. */
const SPARSE_FROM_CELLS = 2e8;
/** From this many one-hot columns on, linear models get sparse rows. */
const SPARSE_FROM_ONE_HOT_COLUMNS = 32;
/** Rows of the prior that a category's mean is mixed with. */
export const TARGET_SMOOTHING_ROWS = 20;
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
  const fittedSteps: FittedStep[] = [];
  for (const [name, feature] of Object.entries(features)) {
    const path = `features.${name}`;
    const before = problems.length;
    for (const columnName of columnsOfFeature(name, feature)) {
      const column = table.columns.get(columnName);
      const unfit = column === undefined ? undefined : kindProblem(feature, columnName, column);
      if (column === undefined) {
        problems.push({
          kind: 'missing',
          problem: { path, column: columnName, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` },
        });
      } else if (unfit !== undefined) problems.push({ kind: 'type', problem: { path, column: columnName, found: column.kind, ...unfit } });
    }
    if (problems.length > before) continue;
    const steps = fitSteps(name, feature, input, treesTakeMissing);
    if ('message' in steps) problems.push({ kind: 'other', problem: { path, column: columnsOfFeature(name, feature)[0] ?? name, ...steps } });
    else fittedSteps.push(...steps);
  }
  if (problems.length > 0) {
    const kinds = new Set(problems.map(({ kind }) => kind));
    const code = kinds.size > 1 || kinds.has('other') ? 'FEATURES_INVALID' : kinds.has('missing') ? 'COLUMN_MISSING' : 'COLUMN_TYPE';
    throw new MillraceError(code, `${problems.length === 1 ? 'A feature does' : `${problems.length} features do`} not fit the data.`, {
      problems: problems.map(({ problem }) => problem),
    });
  }

  const steps = STEP_ORDER.flatMap((kind) => fittedSteps.filter((step) => step.kind === kind));
  const of = (wanted: 'numbers' | 'dates' | 'strings'): string[] => [
    ...new Set(steps.flatMap((step) => stepColumns(step).filter(({ input: place }) => place === wanted)).map(({ column }) => column)),
  ];
  const wide = steps.filter((step) => step.kind === 'oneHot' || step.kind === 'hash' || (step.kind === 'bins' && step.encode === 'oneHot'));
  const hasText = steps.some((step) => step.kind === 'text');
  const cells = table.rows * steps.reduce((sum, step) => sum + stepWidth(step), 0);
  const sparse =
    trainer === 'linear'
      ? hasText || wide.reduce((sum, step) => sum + stepWidth(step), 0) >= SPARSE_FROM_ONE_HOT_COLUMNS
      : !treesTakeMissing && (hasText || cells >= SPARSE_FROM_CELLS);
  return {
    format: 'millrace-features/1',
    graph: { numbers: of('numbers'), dates: of('dates'), strings: of('strings') },
    steps,
    names: steps.flatMap(stepNames),
    matrix: sparse ? 'sparse' : 'dense',
  };
}

const STEP_ORDER: readonly FittedStep['kind'][] = ['numeric', 'datetime', 'bins', 'indicator', 'lookup', 'oneHot', 'hash', 'text'];

type Unfit = { readonly message: string; readonly fix: string };

function kindProblem(feature: Feature, columnName: string, column: RawColumn): Unfit | undefined {
  switch (feature.kind) {
    case 'numeric':
    case 'passthrough':
      if (column.kind === 'number') return undefined;
      return column.kind === 'string'
        ? { message: `a ${feature.kind} feature needs numbers`, fix: 'convert the column with the row transform toNumber, or make it categorical' }
        : { message: `a ${feature.kind} feature needs numbers`, fix: 'make it a datetime feature' };
    case 'categorical':
      return column.kind === 'timestamp' ? { message: 'a timestamp has no categories', fix: 'make it a datetime feature' } : undefined;
    case 'cross': {
      if (column.kind === 'timestamp') return { message: 'a timestamp has no categories', fix: 'make a part of it a column with a row transform' };
      const binned = feature.columns.some((part) => typeof part !== 'string' && part.column === columnName);
      return binned && column.kind !== 'number' ? { message: 'only numbers fall into bins', fix: 'name the column alone, without bins' } : undefined;
    }
    case 'datetime':
      return column.kind === 'timestamp'
        ? undefined
        : { message: 'a datetime feature needs a timestamp or date', fix: 'convert the column with the row transform toTimestamp' };
    case 'text':
      return column.kind === 'string' ? undefined : { message: 'a text feature needs texts', fix: 'convert the column with the row transform toText' };
  }
}

/** What a step is called, and what it reads. */
interface Source {
  readonly name?: string;
  readonly column: string;
}

function fitSteps(name: string, feature: Feature, input: FitFeaturesInput, treesTakeMissing: boolean): readonly FittedStep[] | Unfit {
  if (feature.kind === 'cross') return one(fitCross(name, feature, input, treesTakeMissing));
  const columnName = feature.column ?? name;
  const source: Source = columnName === name ? { column: name } : { name, column: columnName };
  const column = input.table.columns.get(columnName);
  if (column?.kind === 'number' && feature.kind === 'passthrough') {
    return one(fitNumeric(source, { kind: 'numeric', impute: 'auto', scale: 'none', log: false }, column.values, treesTakeMissing));
  }
  if (column?.kind === 'number' && feature.kind === 'numeric') {
    const { bins } = feature;
    const step =
      bins === undefined
        ? fitNumeric(source, feature, column.values, treesTakeMissing)
        : fitBins(source, { ...feature, bins }, column.values, treesTakeMissing);
    if ('message' in step) return step;
    return feature.indicator === true ? [step, { ...source, kind: 'indicator' }] : [step];
  }
  if (column?.kind === 'timestamp' && feature.kind === 'datetime') return one(fitDatetime(source, feature, column.values, treesTakeMissing));
  if (column !== undefined && column.kind !== 'timestamp' && feature.kind === 'categorical') {
    const coded = categoryCodes(column);
    if (coded.keys.length === 0) return NO_VALUES;
    return one(fitCategorical({ ...source, source: coded.source }, feature, coded, input, treesTakeMissing));
  }
  if (column?.kind === 'string' && feature.kind === 'text') return one(fitText(source, feature, column));
  throw new MillraceError('INTERNAL', `The feature ${name} was not checked against its column.`);
}

const one = (step: FittedStep | Unfit): readonly FittedStep[] | Unfit => ('message' in step ? step : [step]);

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

type NumericFeature = Extract<Feature, { kind: 'numeric' }>;

/** Values that are there, cut to float32's range. */
const presentValues = (values: Float64Array): Float64Array => values.filter((value) => !Number.isNaN(value)).map(clampToFloat32);

/** The bounds of a clip, by the training rows' values. */
function clipBounds(clip: NonNullable<NumericFeature['clip']>, present: Float64Array): { readonly low: number | null; readonly high: number | null } {
  if ('quantiles' in clip) {
    const sorted = present.toSorted();
    const [low, high] = clip.quantiles.map((share) => Math.fround(quantileOf(sorted, share)) + 0);
    return { low: low ?? null, high: high ?? null };
  }
  const bound = (value: number | undefined): number | null => (value === undefined ? null : clampToFloat32(value) + 0);
  return { low: bound(clip.lower), high: bound(clip.upper) };
}

function fitNumeric(source: Source, feature: NumericFeature, values: Float64Array, treesTakeMissing: boolean): NumericStep | Unfit {
  const whole = presentValues(values);
  if (whole.length === 0) return NO_VALUES;
  const clip = feature.clip === undefined ? undefined : clipBounds(feature.clip, whole);
  const cut = (value: number): number => Math.min(clip?.high ?? Number.POSITIVE_INFINITY, Math.max(clip?.low ?? Number.NEGATIVE_INFINITY, value));
  const present = clip === undefined ? whole : whole.map(cut);
  const impute = feature.impute === 'auto' ? (treesTakeMissing ? 'none' : 'mean') : feature.impute;
  const scaling = feature.scale === 'auto' ? (treesTakeMissing ? 'none' : 'standard') : feature.scale;
  if (impute === 'none' && !treesTakeMissing) {
    return { message: 'only trees take missing values', fix: 'let impute be mean, median, zero or a number' };
  }
  const fill = impute === 'none' ? null : clampToFloat32(fillValue(impute, present)) + 0; // + 0: JSON has no -0
  const logOf = (value: number): number => (feature.log ? Math.log1p(Math.max(0, value)) : value);
  const scale = fitScale(scaling, present.map(logOf), (visit) => {
    for (const value of values) {
      if (!Number.isNaN(value)) visit(logOf(cut(clampToFloat32(value))));
      else if (fill !== null) visit(logOf(fill));
    }
  });
  return { kind: 'numeric', ...source, ...(clip === undefined ? {} : { clip }), fill, log: feature.log, scale };
}

/** `present` for what looks at ranks, `all` for means: with what missing values become. */
function fitScale(scaling: Exclude<NumericFeature['scale'], 'auto'>, present: Float64Array, all: (visit: (value: number) => void) => void): Scale | null {
  if (scaling === 'none') return null;
  if (scaling === 'standard') return standardScale(all);
  const sorted = present.toSorted();
  const [center, low, high] = scaling === 'minmax' ? [0, 0, 1] : [0.5, 0.25, 0.75];
  const spread = quantileOf(sorted, high) - quantileOf(sorted, low);
  return { mean: Math.fround(quantileOf(sorted, center)) + 0, factor: spread > MIN_SCALE ? Math.fround(1 / spread) : 1 };
}

function fitBins(
  source: Source,
  feature: NumericFeature & { readonly bins: NonNullable<NumericFeature['bins']> },
  values: Float64Array,
  treesTakeMissing: boolean,
): BinsStep | Unfit {
  const whole = presentValues(values);
  if (whole.length === 0) return NO_VALUES;
  if (!['auto', 'none'].includes(feature.scale)) return { message: 'bins are not scaled', fix: 'leave out scale, or bins' };
  const clip = feature.clip === undefined ? undefined : clipBounds(feature.clip, whole);
  const present = whole.map((value) => Math.min(clip?.high ?? value, Math.max(clip?.low ?? value, value)));
  const edges = fitEdges(feature.bins, present.toSorted(), feature.log);
  const encode = feature.binsAs ?? (treesTakeMissing ? 'ordinal' : 'oneHot');
  const anyMissing = whole.length < values.length;
  const stated = feature.impute === 'auto' || feature.impute === 'none' ? undefined : binOf(edges, Math.fround(fillValue(feature.impute, present)));
  if (encode === 'oneHot') {
    const bins = edges.length + 1;
    const own = stated === undefined && anyMissing;
    return { kind: 'bins', ...source, edges, encode, missing: own ? bins : (stated ?? null), width: bins + (own ? 1 : 0), scale: null };
  }
  const missing = stated ?? (treesTakeMissing ? null : binOf(edges, Math.fround(fillValue('median', present))));
  const scale =
    feature.scale === 'none' || treesTakeMissing
      ? null
      : standardScale((visit) => {
          for (const value of values) visit(Number.isNaN(value) ? (missing ?? 0) : binOf(edges, Math.fround(value)));
        });
  return { kind: 'bins', ...source, edges, encode, missing, width: 1, scale };
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

function fitDatetime(source: Source, feature: Extract<Feature, { kind: 'datetime' }>, instants: Float64Array, treesTakeMissing: boolean): DatetimeStep | Unfit {
  if (instants.every((instant) => Number.isNaN(datePart(instant, 'epochDays')))) return NO_VALUES;
  const parts = [...new Set(feature.parts)].flatMap((part): DatetimeStep['parts'] => {
    if (feature.cyclic === true && PART_PERIODS[part] !== undefined) {
      // A missing instant is at the circle's middle: no hour is nearer to it than another. Waves are between -1 and 1 already.
      const fill = treesTakeMissing ? null : 0;
      return [
        { part, wave: 'sin', fill, scale: null },
        { part, wave: 'cos', fill, scale: null },
      ];
    }
    if (treesTakeMissing) return [{ part, fill: null, scale: null }];
    const scale = standardScale((visit) => {
      for (const instant of instants) {
        const value = datePart(instant, part);
        if (!Number.isNaN(value)) visit(value);
      }
    });
    return [{ part, fill: scale.mean, scale }];
  });
  return { kind: 'datetime', ...source, parts };
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

type EncodedSource = Source & Pick<LookupStep, 'source' | 'parts'>;

/** One column of a cross, fitted. */
function fitPart(part: Extract<Feature, { kind: 'cross' }>['columns'][number], hashed: boolean, minCount: number, table: RawTable): CrossPart | Unfit {
  const name = typeof part === 'string' ? part : part.column;
  const column = table.columns.get(name);
  if (column === undefined || column.kind === 'timestamp') throw new MillraceError('INTERNAL', `The crossed column ${name} was not checked.`);
  if (typeof part !== 'string' && column.kind === 'number') {
    const present = presentValues(column.values);
    return present.length === 0 ? NO_VALUES : { column: name, source: 'number', edges: fitEdges(part.bins, present.toSorted()) };
  }
  const coded = categoryCodes(column);
  if (coded.keys.length === 0) return NO_VALUES;
  const source = column.kind;
  if (hashed) return { column: name, source };
  const { kept } = countCategories(coded, minCount, MOST_CROSSED_CATEGORIES);
  return { column: name, source, keys: kept.map((code) => coded.keys[code] ?? '') };
}

function fitCross(name: string, feature: Extract<Feature, { kind: 'cross' }>, input: FitFeaturesInput, treesTakeMissing: boolean): FittedStep | Unfit {
  const parts: CrossPart[] = [];
  for (const part of feature.columns) {
    const fitted = fitPart(part, feature.encode === 'hash', feature.minCount, input.table);
    if ('message' in fitted) return { ...fitted, message: `${typeof part === 'string' ? part : part.column}: ${fitted.message}` };
    parts.push(fitted);
  }
  const coded = crossCodes(parts, input.table);
  return fitCategorical({ column: name, source: 'cross', parts }, feature, coded, input, treesTakeMissing);
}

function fitCategorical(
  source: EncodedSource,
  feature: Pick<Extract<Feature, { kind: 'categorical' }>, 'encode' | 'minCount' | 'maxCategories' | 'buckets' | 'smoothing'>,
  coded: CategoryCodes,
  input: FitFeaturesInput,
  treesTakeMissing: boolean,
): LookupStep | OneHotStep | HashStep | Unfit {
  const encode = feature.encode === 'auto' ? (treesTakeMissing ? 'trees' : 'oneHot') : feature.encode;
  if (encode === 'hash') return { kind: 'hash', ...source, width: feature.buckets ?? DEFAULT_BUCKETS };
  if (encode === 'native' && !treesTakeMissing) return { message: 'only gbdt splits by sets of categories', fix: 'let encode be auto' };
  const most = encode === 'oneHot' ? DEFAULT_ONE_HOT_CATEGORIES : encode === 'native' ? MOST_NATIVE_CATEGORIES : DEFAULT_CATEGORIES;
  if (encode === 'native' && (feature.maxCategories ?? 0) > MOST_NATIVE_CATEGORIES)
    return { message: `gbdt tells at most ${MOST_NATIVE_CATEGORIES} categories apart`, fix: "lower maxCategories, or let encode be 'ordinal' or 'target'" };
  const categories = countCategories(coded, feature.minCount, feature.maxCategories ?? most);
  if (categories.kept.length === 0) {
    return {
      message: `none of its ${coded.keys.length} categories is seen ${feature.minCount} times`,
      fix: 'lower minCount, hash it, make it a text feature, or leave it out',
    };
  }
  const keys = categories.kept.map((code) => coded.keys[code] ?? '');
  if (encode === 'oneHot') {
    let width = keys.length;
    const other = categories.rareRows > 0 ? width++ : null;
    const missing = categories.missingRows > 0 ? width++ : null;
    return { kind: 'oneHot', ...source, keys, other, missing, width };
  }
  const rows = coded.codes.length;
  if (encode === 'frequency') {
    const share = (count: number): number => Math.fround(count / rows);
    const base = { kind: 'lookup', ...source, encode, keys, width: 1 } as const;
    return { ...base, values: categories.rowsOf.map(share), other: [share(categories.rareRows)], missing: [share(categories.missingRows)] };
  }
  if (encode === 'target') {
    if (input.target === undefined) return { message: 'target encoding needs a target', fix: 'choose another encoding' };
    const { smoothing } = feature;
    const means = targetMeans(categories, input.target, smoothing);
    const base = { kind: 'lookup', ...source, encode, keys, width: means.width } as const;
    return { ...base, values: means.values, other: means.other, missing: means.missing, ...(smoothing === undefined ? {} : { smoothing }) };
  }
  if (encode === 'native' || (encode === 'trees' && keys.length <= MOST_NATIVE_CATEGORIES)) {
    return { kind: 'lookup', ...source, encode: 'native', keys, values: [...keys.keys()], width: 1, other: [keys.length], missing: [null] };
  }
  return ordinalStep(source, categories, keys, input.target, treesTakeMissing);
}

/** Smoothed target means of all rows, or of the rows outside a fold. */
interface TargetMeans {
  readonly width: number;
  readonly values: number[];
  readonly other: number[];
  readonly missing: number[];
}

function targetMeans(categories: Categories, target: FeatureTarget, smoothing = TARGET_SMOOTHING_ROWS): TargetMeans {
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
  return smoothedMeans(sums, counts, width, groups, smoothing);
}

/** (sum + m × prior) ÷ (count + m) for each group; the last two groups are other and missing. */
export function smoothedMeans(sums: Float64Array, counts: Float64Array, width: number, groups: number, smoothing: number): TargetMeans {
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const priors = Array.from({ length: width }, (_, k) => {
    let sum = 0;
    for (let group = 0; group < groups + 2; group++) sum += sums[group * width + k] ?? 0;
    return rows === 0 ? 0 : sum / rows;
  });
  const meansOf = (group: number): number[] =>
    priors.map((prior, k) => {
      const weight = (counts[group] ?? 0) + smoothing;
      return Math.fround(weight === 0 ? prior : ((sums[group * width + k] ?? 0) + smoothing * prior) / weight);
    });
  return { width, values: Array.from({ length: groups }, (_, group) => meansOf(group)).flat(), other: meansOf(groups), missing: meansOf(groups + 1) };
}

/**
 * Codes 1, 2, … in the order of the smoothed target mean, so that one split of a tree can part the categories as well as
 * any grouping (Breiman et al. 1984, theorem 4.5); in the order of the keys without a target, or with many classes.
 */
function ordinalStep(
  source: EncodedSource,
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
  return { kind: 'lookup', ...source, encode: 'ordinal', keys, values, width: 1, other: [other], missing: [missing] };
}

function fitText(source: Source, feature: Extract<Feature, { kind: 'text' }>, column: Extract<RawColumn, { kind: 'string' }>): TextStep | Unfit {
  const [leastNgrams, ngrams] = typeof feature.ngrams === 'number' ? [1, feature.ngrams] : feature.ngrams;
  const { analyzer, weight, buckets } = feature;
  const range = { ...(analyzer === undefined ? {} : { analyzer }), ngrams, ...(leastNgrams === 1 ? {} : { leastNgrams }) };
  const total = column.codes.length;
  // scikit-learn's smooth_idf: ln((1 + n) / (1 + df)) + 1.
  const idfOf = (rows: number): number => Math.fround(Math.log((1 + total) / (1 + rows)) + 1);
  const base = {
    kind: 'text',
    ...source,
    ...range,
    weight,
    ...(feature.sublinear === true ? { sublinear: true } : {}),
    ...(feature.norm === undefined ? {} : { norm: feature.norm }),
  } as const;
  if (buckets !== undefined) {
    const rowsOf = weight === 'tfidf' ? documentCounts(column, range, (term) => murmurHashOfText(term) % buckets) : new Map<number, { rows: number }>();
    return { ...base, terms: [], buckets, idf: weight === 'tfidf' ? Array.from({ length: buckets }, (_, place) => idfOf(rowsOf.get(place)?.rows ?? 0)) : [] };
  }
  const documents = documentCounts(column, range, (term) => term);
  const mostRows = (feature.maxShare ?? 1) * total;
  const size = (term: string): number => unitsOf(analyzer, term).length;
  const chosen = [...documents]
    .filter(([, { rows }]) => rows >= feature.minDocuments && rows <= mostRows)
    .sort(([a, inA], [b, inB]) => inB.rows - inA.rows || compareKeys(a, b))
    .slice(0, feature.maxFeatures)
    .map(([term]) => ({ term, size: size(term) }))
    .sort((a, b) => a.size - b.size || compareKeys(a.term, b.term))
    .map(({ term }) => term);
  if (chosen.length === 0) {
    const what = analyzer === 'char' ? 'run of characters' : 'word';
    return { message: `no ${what} is in ${feature.minDocuments} training texts`, fix: 'lower minDocuments, or leave the column out' };
  }
  return { ...base, terms: chosen, idf: weight === 'tfidf' ? chosen.map((term) => idfOf(documents.get(term)?.rows ?? 0)) : [] };
}

/** In how many rows each key of a text's n-grams is. */
function documentCounts<Key extends string | number>(
  column: Extract<RawColumn, { kind: 'string' }>,
  range: Pick<TextStep, 'analyzer' | 'ngrams' | 'leastNgrams'>,
  keyOf: (term: string) => Key,
): Map<Key, { rows: number; last: number }> {
  const rowsOfEntry = new Float64Array(column.dictionary.length);
  for (const code of column.codes) if (code >= 0) rowsOfEntry[code] = (rowsOfEntry[code] ?? 0) + 1;
  // A term counts once a text: it remembers the last text that it was seen in.
  const documents = new Map<Key, { rows: number; last: number }>();
  column.dictionary.forEach((entry, code) => {
    const rows = rowsOfEntry[code] ?? 0;
    if (rows === 0) return;
    forEachNgram(graphText(entry), range, (term) => {
      const key = keyOf(term);
      const known = documents.get(key);
      if (known === undefined) documents.set(key, { rows, last: code });
      else if (known.last !== code) {
        known.rows += rows;
        known.last = code;
      }
    });
  });
  return documents;
}

function stepNames(step: FittedStep): string[] {
  const name = step.name ?? step.column;
  switch (step.kind) {
    case 'numeric':
      return [name];
    case 'indicator':
      return [`${name}.missing`];
    case 'datetime':
      return step.parts.map(({ part, wave }) => [name, part, ...(wave === undefined ? [] : [wave])].join('.'));
    case 'bins':
      if (step.encode === 'ordinal') return [name];
      return Array.from({ length: step.width }, (_, bin) => `${name}=${bin > step.edges.length ? '(missing)' : binText(step.edges, bin)}`);
    case 'lookup':
      return step.width === 1 ? [name] : Array.from({ length: step.width }, (_, k) => `${name}.${k}`);
    case 'oneHot':
      return [
        ...step.keys.map((key) => `${name}=${step.source === 'cross' ? crossText(step.parts ?? [], Number(key)) : key}`),
        ...(step.other === null ? [] : [`${name}=(other)`]),
        ...(step.missing === null ? [] : [`${name}=(missing)`]),
      ];
    case 'hash':
      return Array.from({ length: step.width }, (_, bucket) => `${name}#${bucket}`);
    case 'text':
      return step.buckets === undefined
        ? step.terms.map((term) => `${name}:${term}`)
        : Array.from({ length: step.buckets }, (_, bucket) => `${name}#${bucket}`);
  }
}

/** The fold that a training row's target encoding leaves out. */
export const targetFold = (row: number, seed: number): number => hashIndex(row, seed) % TARGET_FOLDS;
