/**
 * Whether recent rows and reference rows can be told apart by all columns together, such as two columns that move against each other while each by
 * itself stays as it was: a classifier learns which side a row is from, and is judged on rows that it has not seen (D. Lopez-Paz, M. Oquab,
 * "Revisiting Classifier Two-Sample Tests", 2017).
 */
import type { DomainDrift } from '../../contracts/drift.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { delong } from '../evaluation/delong.ts';
import { normalQuantile, normalTail } from '../evaluation/normal.ts';
import { gbdt } from '../gbdt/gbdt.ts';
import { GbdtParametersSchema } from '../gbdt/parameters.ts';
import { trainLinear } from '../linear/linear.ts';
import { LinearParametersSchema } from '../linear/parameters.ts';
import type { DenseMatrix } from '../matrix.ts';
import { shuffledIndices } from '../random.ts';

/** Rows of both sides in one matrix. */
export interface DomainRows {
  readonly x: DenseMatrix;
  /** 1 for a recent row, 0 for one of the reference. */
  readonly recent: Float64Array;
  /** Names of the matrix's columns. */
  readonly names: readonly string[];
  /** For each column the number of its codes 0 … n − 1 where it holds categories; 0 for numbers. NaN is a missing value. */
  readonly categories: readonly number[];
}

export interface DomainOptions {
  /** `gbdt` also sees what columns do together; `linear` sees numbers and missing values only, and is quicker. Default `gbdt`. */
  readonly classifier?: DomainDrift['classifier'];
  /** Default 5; fewer where a side has fewer rows. */
  readonly folds?: number;
  readonly seed: number;
  /** Of DeLong's interval. Default 0.95. */
  readonly confidence?: number;
  readonly signal?: AbortSignal;
}

/** Few and small trees: noise is to be learnt by none of them. */
const GBDT = GbdtParametersSchema.parse({ trees: 40, leaves: 8, learningRate: 0.1, minDataInLeaf: 40 });
const LINEAR = LinearParametersSchema.parse({ l2: 1 });
const LEAST_ROWS = 20;

/**
 * Trains and judges in folds, on this thread: thousands of rows take a second, so that a server's event loop is not the place. The same rows and
 * seed give the same result.
 * @throws MillraceError SPLIT_IMPOSSIBLE where a side has fewer than 20 rows; an abort's reason
 */
export async function classifyDomain({ x, recent, names, categories }: DomainRows, options: DomainOptions): Promise<DomainDrift> {
  const { classifier = 'gbdt', seed, confidence = 0.95 } = options;
  const sides = [0, 1].map((side) => Array.from(recent.keys()).filter((row) => recent[row] === side));
  const [reference = [], now = []] = sides;
  if (Math.min(reference.length, now.length) < LEAST_ROWS)
    throw new MillraceError(
      'SPLIT_IMPOSSIBLE',
      `Telling ${now.length} recent rows from ${reference.length} of the reference takes at least ${LEAST_ROWS} of each.`,
      {
        fix: 'Compare a longer window.',
      },
    );
  const folds = Math.max(2, Math.min(options.folds ?? 5, Math.floor(Math.min(reference.length, now.length) / 2)));
  // each side is dealt out by itself, so that both are in every fold
  const foldOf = new Uint8Array(x.rows);
  for (const [side, rows] of sides.entries())
    shuffledIndices(rows.length, seed + side).forEach((index, place) => (foldOf[rows[index] as number] = place % folds));
  const prepared = classifier === 'linear' ? standardised(x, categories) : { x, names: names.map((_, column) => column), categories };
  const scores = new Float64Array(x.rows);
  const shares = new Float64Array(names.length);
  for (let fold = 0; fold < folds; fold++) {
    options.signal?.throwIfAborted();
    const [train, test] = [rowsWhere(foldOf, (other) => other !== fold), rowsWhere(foldOf, (other) => other === fold)];
    const rows = { x: pick(prepared.x, train), y: Float64Array.from(train, (row) => recent[row] as number) };
    const context = { seed: seed + fold, threads: 1, ...(options.signal === undefined ? {} : { signal: options.signal }) };
    const trained =
      classifier === 'linear'
        ? await trainLinear({ kind: 'binary' }, LINEAR, rows, undefined, context)
        : await gbdt({ kind: 'binary' }, GBDT, { ...rows, categories: prepared.categories }, undefined, context);
    const answers = trained.predict(pick(prepared.x, test));
    test.forEach((row, index) => (scores[row] = answers[2 * index + 1] as number));
    trained.importance.forEach((share, column) => (shares[prepared.names[column] as number] = (shares[prepared.names[column] as number] as number) + share));
  }
  const { auc, covariance } = delong(recent, [scores]);
  const area = auc[0] as number;
  const sigma = Math.sqrt(Math.max(0, covariance[0]?.[0] ?? 0));
  const half = normalQuantile((1 + confidence) / 2) * sigma;
  const total = shares.reduce((sum, share) => sum + share, 0);
  return {
    rows: { training: reference.length, recent: now.length },
    auc: area,
    low: Math.max(0, area - half),
    high: Math.min(1, area + half),
    confidence,
    // sides that are told apart without a mistake have no variance
    pValue: sigma === 0 ? (area === 0.5 ? 1 : 0) : Math.min(1, 2 * normalTail(Math.abs(area - 0.5) / sigma)),
    classifier,
    columns: names
      .map((column, index) => ({ column, share: total > 0 ? (shares[index] as number) / total : 0 }))
      .sort((a, b) => b.share - a.share || (a.column < b.column ? -1 : 1)),
  };
}

const rowsWhere = (foldOf: Uint8Array, is: (fold: number) => boolean): Uint32Array =>
  Uint32Array.from([...foldOf.keys()].filter((row) => is(foldOf[row] as number)));

function pick({ data, rows: all, columns }: DenseMatrix, rows: Uint32Array): DenseMatrix {
  const picked = new Float32Array(rows.length * columns);
  for (let column = 0; column < columns; column++)
    for (let i = 0; i < rows.length; i++) picked[column * rows.length + i] = data[column * all + (rows[i] as number)] as number;
  return { kind: 'dense', rows: rows.length, columns, data: picked };
}

/** Numbers in standard deviations from their mean, missing ones at it and marked; codes of categories have no order and are left out. */
function standardised(
  x: DenseMatrix,
  categories: readonly number[],
): { readonly x: DenseMatrix; readonly names: readonly number[]; readonly categories: readonly number[] } {
  const numbers = Array.from({ length: x.columns }, (_, column) => column).filter((column) => (categories[column] ?? 0) === 0);
  const data = new Float32Array(x.rows * numbers.length * 2);
  numbers.forEach((column, place) => {
    const values = x.data.subarray(column * x.rows, (column + 1) * x.rows);
    const present = values.filter((value) => !Number.isNaN(value));
    const mean = present.reduce((sum, value) => sum + value, 0) / Math.max(1, present.length);
    const deviation = Math.sqrt(present.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, present.length));
    values.forEach((value, row) => {
      const missing = Number.isNaN(value);
      data[2 * place * x.rows + row] = missing || deviation === 0 ? 0 : (value - mean) / deviation;
      data[(2 * place + 1) * x.rows + row] = missing ? 1 : 0;
    });
  });
  return {
    x: { kind: 'dense', rows: x.rows, columns: numbers.length * 2, data },
    names: numbers.flatMap((column) => [column, column]),
    categories: [],
  };
}
