import { totalmem } from 'node:os';
import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { DenseMatrix, Matrix, SparseMatrix } from '../matrix.ts';
import { binOf } from './bins.ts';
import { type CategoryCodes, categoryCodes, crossCodes, graphText, hashOfKey, placesOf } from './category.ts';
import { datePart } from './date-parts.ts';
import { type FeatureTarget, smoothedMeans, TARGET_FOLDS, TARGET_SMOOTHING_ROWS, targetFold } from './fit-features.ts';
import {
  type FittedFeatures,
  type FittedStep,
  type HashStep,
  isNormalised,
  type LookupStep,
  type NumericStep,
  type OneHotStep,
  SCALED_LIMIT,
  type Scale,
  stepWidth,
  type TextStep,
  waveFactor,
} from './fitted-features.ts';
import { murmurHashOfText } from './murmur-hash.ts';
import { forEachNgram } from './tokenize.ts';

/** Most bytes of a dense matrix: 8 GiB, or half the machine's memory. */
const MOST_DENSE_BYTES = Math.min(8 * 2 ** 30, totalmem() / 2);

/**
 * The matrix of a table's rows, equal to what the ONNX graph of the same features computes: dense on a
 * SharedArrayBuffer, so that threads can share it, or sparse, as `fitted.matrix` says.
 * @throws COLUMN_MISSING, COLUMN_TYPE with every column that does not fit.
 */
export function transformFeatures(fitted: FittedFeatures, table: RawTable): Matrix {
  return fill(fitted, table, undefined);
}

/**
 * The matrix of the very rows that the features were fitted on: target encodings are taken out of fold, so that a row's
 * own target does not stand in its features. All else is as in `transformFeatures`.
 */
export function transformTrainingFeatures(fitted: FittedFeatures, table: RawTable, target: FeatureTarget, seed: number): Matrix {
  return fill(fitted, table, { target, seed });
}

interface OutOfFold {
  readonly target: FeatureTarget;
  readonly seed: number;
}

/** What one step gives for one row, column by column; `visit` is called with ascending columns. */
type RowEmitter = (row: number, visit: (column: number, value: number) => void) => void;

function fill(fitted: FittedFeatures, table: RawTable, outOfFold: OutOfFold | undefined): Matrix {
  checkColumns(fitted, table);
  const columns = fitted.names.length;
  return fitted.matrix === 'dense' ? fillDense(fitted, table, columns, outOfFold) : fillSparse(fitted, table, columns, outOfFold);
}

function checkColumns(fitted: FittedFeatures, table: RawTable): void {
  const missing: Problem[] = [];
  const wrong: Problem[] = [];
  for (const [kind, names] of [
    ['number', fitted.graph.numbers],
    ['timestamp', fitted.graph.dates],
    ['string', fitted.graph.strings],
  ] as const) {
    for (const name of names) {
      const column = table.columns.get(name);
      if (column === undefined) missing.push({ path: name, column: name, message: 'the column is not in the data' });
      else if (column.kind !== kind)
        wrong.push({ path: name, column: name, message: `the column must be a ${kind} column, as in training`, found: column.kind });
    }
  }
  const problems = [...missing, ...wrong];
  if (problems.length > 0) {
    throw new MillraceError(missing.length > 0 ? 'COLUMN_MISSING' : 'COLUMN_TYPE', 'The rows do not have the columns that the features were fitted on.', {
      problems,
    });
  }
}

function columnOf<Kind extends RawColumn['kind']>(table: RawTable, name: string, kind: Kind): Extract<RawColumn, { kind: Kind }> {
  const column = table.columns.get(name);
  if (column?.kind !== kind) throw new MillraceError('INTERNAL', `Column ${name} was not checked.`);
  return column as Extract<RawColumn, { kind: Kind }>;
}

function fillDense(fitted: FittedFeatures, table: RawTable, columns: number, outOfFold: OutOfFold | undefined): DenseMatrix {
  const { rows } = table;
  if (rows * columns * Float32Array.BYTES_PER_ELEMENT > MOST_DENSE_BYTES) throw tooWide(fitted, rows);
  const data = new Float32Array(new SharedArrayBuffer(rows * columns * Float32Array.BYTES_PER_ELEMENT));
  let offset = 0;
  for (const step of fitted.steps) {
    const width = stepWidth(step);
    const block = data.subarray(offset * rows, (offset + width) * rows);
    const emit = rowEmitter(step, table, outOfFold);
    for (let row = 0; row < rows; row++) {
      emit(row, (column, value) => {
        block[column * rows + row] = value;
      });
    }
    offset += width;
  }
  return { kind: 'dense', rows, columns, data };
}

function tooWide(fitted: FittedFeatures, rows: number): MillraceError {
  const widest = fitted.steps.toSorted((a, b) => stepWidth(b) - stepWidth(a)).slice(0, 5);
  const sizeGib = (rows * fitted.names.length * Float32Array.BYTES_PER_ELEMENT) / 2 ** 30;
  return new MillraceError(
    'FEATURES_INVALID',
    `${rows} rows of ${fitted.names.length} columns would take ${sizeGib.toFixed(1)} GiB, more than the ${(MOST_DENSE_BYTES / 2 ** 30).toFixed(1)} GiB that one matrix may take here.`,
    {
      problems: widest.map((step) => ({
        path: `features.${step.name ?? step.column}`,
        column: step.column,
        message: `gives ${stepWidth(step)} columns`,
        fix: 'encode it as ordinal, frequency or target, hash it into fewer buckets, or keep fewer categories or terms',
      })),
    },
  );
}

function fillSparse(fitted: FittedFeatures, table: RawTable, columns: number, outOfFold: OutOfFold | undefined): SparseMatrix {
  const { rows } = table;
  let offset = 0;
  const emitters = fitted.steps.map((step) => {
    const emitter = { emit: rowEmitter(step, table, outOfFold), offset };
    offset += stepWidth(step);
    return emitter;
  });
  const rowStart = new Uint32Array(rows + 1);
  let columnIndex = new Uint32Array(rows * 16 + 16);
  let values = new Float32Array(columnIndex.length);
  let used = 0;
  for (let row = 0; row < rows; row++) {
    for (const { emit, offset: first } of emitters) {
      emit(row, (column, value) => {
        if (value === 0) return;
        if (used === values.length) {
          columnIndex = grown(columnIndex, new Uint32Array(used * 2));
          values = grown(values, new Float32Array(used * 2));
        }
        columnIndex[used] = first + column;
        values[used] = value;
        used++;
      });
    }
    rowStart[row + 1] = used;
  }
  return { kind: 'sparse', rows, columns, rowStart, columnIndex: columnIndex.slice(0, used), values: values.slice(0, used) };
}

function grown<T extends Float32Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}

function rowEmitter(step: FittedStep, table: RawTable, outOfFold: OutOfFold | undefined): RowEmitter {
  switch (step.kind) {
    case 'numeric': {
      const { values } = columnOf(table, step.column, 'number');
      return (row, visit) => {
        visit(0, numericValue(step, values[row] ?? Number.NaN));
      };
    }
    case 'datetime': {
      const { values } = columnOf(table, step.column, 'timestamp');
      return (row, visit) => {
        step.parts.forEach(({ part, wave, fill, scale }, column) => {
          let value = Math.fround(datePart(values[row] ?? Number.NaN, part));
          if (wave !== undefined) value = Math.fround(Math[wave](Math.fround(value * waveFactor(part))));
          visit(column, scaled(Number.isNaN(value) ? (fill ?? Number.NaN) : value, scale));
        });
      };
    }
    case 'bins': {
      const { values } = columnOf(table, step.column, 'number');
      const { edges, encode, missing, scale } = step;
      return (row, visit) => {
        const bin = binOf(edges, Math.fround(values[row] ?? Number.NaN));
        if (encode === 'ordinal') visit(0, scaled(bin < 0 ? (missing ?? Number.NaN) : bin, scale));
        else if (bin >= 0) visit(bin, 1);
        else if (missing !== null) visit(missing, 1);
      };
    }
    case 'indicator': {
      const { values } = columnOf(table, step.column, 'number');
      return (row, visit) => {
        visit(0, Number.isNaN(values[row] ?? Number.NaN) ? 1 : 0);
      };
    }
    case 'lookup':
      return lookupEmitter(step, categoriesOf(step, table), outOfFold);
    case 'oneHot': {
      const coded = categoriesOf(step, table);
      const placeOf = placesOf(coded, step.keys, step.other ?? -1);
      return (row, visit) => {
        const code = coded.codes[row] ?? -1;
        // A missing value that training never saw is one of the unknown.
        const place = code < 0 ? (step.missing ?? step.other ?? -1) : (placeOf[code] ?? -1);
        if (place >= 0) visit(place, 1);
      };
    }
    case 'hash': {
      const coded = categoriesOf(step, table);
      const placeOf = Int32Array.from(coded.keys, (key) => (step.source === 'cross' ? Number(key) : hashOfKey(key)) % step.width);
      return (row, visit) => {
        const place = placeOf[coded.codes[row] ?? -1];
        if (place !== undefined) visit(place, 1);
      };
    }
    case 'text':
      return textEmitter(step, columnOf(table, step.column, 'string'));
  }
}

function numericValue(step: NumericStep, raw: number): number {
  let value = Math.fround(raw);
  if (step.clip !== undefined) {
    const { low, high } = step.clip;
    if (high !== null && value > high) value = high;
    if (low !== null && value < low) value = low;
  }
  if (Number.isNaN(value)) {
    if (step.fill === null) return Number.NaN;
    value = step.fill;
  }
  if (step.log) value = Math.fround(Math.log(Math.fround(1 + (value < 0 ? 0 : value))));
  return scaled(value, step.scale);
}

function scaled(value: number, scale: Scale | null): number {
  if (scale === null) return value;
  const moved = Math.fround(Math.fround(value - scale.mean) * scale.factor);
  return moved > SCALED_LIMIT ? SCALED_LIMIT : moved < -SCALED_LIMIT ? -SCALED_LIMIT : moved;
}

function categoriesOf(step: LookupStep | OneHotStep | HashStep, table: RawTable): CategoryCodes {
  return step.source === 'cross' ? crossCodes(step.parts ?? [], table) : categoryCodes(columnOf(table, step.column, step.source));
}

function lookupEmitter(step: LookupStep, coded: CategoryCodes, outOfFold: OutOfFold | undefined): RowEmitter {
  const { width, keys } = step;
  const groups = keys.length;
  const [otherGroup, missingGroup] = [groups, groups + 1];
  const placeOf = placesOf(coded, keys, otherGroup);
  const table = Float32Array.from([...step.values, ...step.other, ...step.missing], (value: number | null) => value ?? Number.NaN);
  const groupOf = (row: number): number => {
    const code = coded.codes[row] ?? -1;
    return code < 0 ? missingGroup : (placeOf[code] ?? otherGroup);
  };
  if (step.encode !== 'target' || outOfFold === undefined) {
    return (row, visit) => {
      const first = groupOf(row) * width;
      for (let k = 0; k < width; k++) visit(k, table[first + k] ?? 0);
    };
  }
  const { target, seed } = outOfFold;
  const tables = Array.from({ length: TARGET_FOLDS }, (_, fold) => {
    const sums = new Float64Array((groups + 2) * width);
    const counts = new Float64Array(groups + 2);
    target.y.forEach((value, row) => {
      if (targetFold(row, seed) === fold) return;
      const group = groupOf(row);
      counts[group] = (counts[group] ?? 0) + 1;
      const cell = target.task.kind === 'multiclass' ? group * width + value : group;
      sums[cell] = (sums[cell] ?? 0) + (target.task.kind === 'multiclass' ? 1 : value);
    });
    const means = smoothedMeans(sums, counts, width, groups, step.smoothing ?? TARGET_SMOOTHING_ROWS);
    return Float32Array.from([...means.values, ...means.other, ...means.missing]);
  });
  return (row, visit) => {
    const first = groupOf(row) * width;
    for (let k = 0; k < width; k++) visit(k, tables[targetFold(row, seed)]?.[first + k] ?? 0);
  };
}

function textEmitter(step: TextStep, column: Extract<RawColumn, { kind: 'string' }>): RowEmitter {
  const placeOf = new Map(step.terms.map((term, place) => [term, place]));
  const known = new Map<number, { readonly places: Uint32Array; readonly values: Float32Array }>();
  return (row, visit) => {
    const code = column.codes[row] ?? -1;
    if (code < 0) return;
    let vector = known.get(code);
    if (vector === undefined) {
      vector = textVector(step, placeOf, column.dictionary[code] ?? '');
      known.set(code, vector);
    }
    for (let i = 0; i < vector.places.length; i++) visit(vector.places[i] ?? 0, vector.values[i] ?? 0);
  };
}

function textVector(step: TextStep, placeOf: ReadonlyMap<string, number>, text: string): { places: Uint32Array; values: Float32Array } {
  const counts = new Map<number, number>();
  const { buckets } = step;
  forEachNgram(graphText(text), step, (term) => {
    const place = buckets === undefined ? placeOf.get(term) : murmurHashOfText(term) % buckets;
    if (place !== undefined) counts.set(place, (counts.get(place) ?? 0) + 1);
  });
  const places = Uint32Array.from(counts.keys()).sort();
  const values = Float32Array.from(places, (place) => {
    if (step.weight === 'binary') return 1;
    const count = counts.get(place) ?? 0;
    const weight = step.sublinear === true ? 1 + Math.log(count) : count;
    return step.weight === 'tfidf' ? weight * (step.idf[place] ?? 0) : weight;
  });
  if (isNormalised(step) && places.length > 0) {
    let squares = 0;
    for (const value of values) squares += value * value;
    const norm = Math.sqrt(squares);
    for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) / norm;
  }
  return { places, values };
}
