import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Features, categorical, cross, datetime, numeric, passthrough, text } from '../../../../contracts/features.ts';
import { fitFeatures } from '../../../../ml/features/fit-features.ts';
import { transformFeatures } from '../../../../ml/features/transform-features.ts';
import type { Matrix } from '../../../../ml/matrix.ts';
import { packRows } from '../../../../ml/pack-rows.ts';
import { buildPredictorGraph } from '../../../../ml/predictor.ts';
import { type Cell, rawTable, runModel } from '../raw-tables.ts';

type Columns = Record<string, (Cell | Date)[]>;
const TOLERANCE = 1e-5;

function valueAt(matrix: Matrix, row: number, column: number): number {
  if (matrix.kind === 'dense') return matrix.data[column * matrix.rows + row] ?? Number.NaN;
  for (let i = matrix.rowStart[row] ?? 0; i < (matrix.rowStart[row + 1] ?? 0); i++) if (matrix.columnIndex[i] === column) return matrix.values[i] ?? 0;
  return 0;
}

interface Setting {
  readonly trainer: string;
  readonly sparse: boolean;
}

/** Fits on the first rows, and holds matrix and graph against each other on all rows. */
async function expectParity(given: Features, trainingCells: Columns, rowCells: Columns, { trainer, sparse }: Setting): Promise<void> {
  // A text makes a linear model's matrix sparse.
  const features = sparse ? { ...given, sparse: text({ minDocuments: 1 }) } : given;
  const withText = (columns: Columns): Columns => (sparse ? { ...columns, sparse: (Object.values(columns)[0] ?? []).map(() => 'free money') } : columns);
  const [training, rows] = [withText(trainingCells), withText(rowCells)];
  const table = rawTable(training);
  const multiclass = { task: { kind: 'multiclass', classes: 3 } as const, y: Float64Array.from({ length: table.rows }, (_, row) => row % 3) };
  const fitted = fitFeatures({ features, table, trainer, seed: 1, target: multiclass });
  expect(JSON.parse(JSON.stringify(fitted))).toEqual(fitted);
  // The kinds of the columns come from training, so that a column of nulls keeps its kind.
  const merged = rawTable(Object.fromEntries(Object.entries(training).map(([name, cells]) => [name, [...cells, ...(rows[name] ?? [])]])));
  const matrix = transformFeatures(fitted, merged);
  if (sparse || trainer === 'gbdt') expect(matrix.kind).toBe(sparse ? 'sparse' : 'dense');
  const { onnx, graph } = buildPredictorGraph({
    fitted,
    toOnnx: (input) => ({ nodes: [], initializers: [], output: input, opset: { ai: 20 } }),
    outputs: fitted.names.length,
  });
  const output = await runModel(onnx, packRows(graph, merged));
  expect(output.dims).toEqual([merged.rows, fitted.names.length]);
  for (let row = 0; row < merged.rows; row++) {
    for (let c = 0; c < fitted.names.length; c++) {
      const ours = valueAt(matrix, row, c);
      const graphs = output.data[row * fitted.names.length + c] ?? 0;
      const same = Object.is(ours, graphs) || ours === graphs || Math.abs(ours - graphs) <= TOLERANCE * Math.max(1, Math.abs(ours));
      if (!same) throw new Error(`row ${row}, ${fitted.names[c] ?? ''}: matrix ${ours}, graph ${graphs}`);
    }
  }
}

const number = fc.oneof(
  fc.double({ noDefaultInfinity: true, noNaN: true }),
  fc.double({ min: -1000, max: 1000, noNaN: true }),
  fc.constantFrom(0, -0, 1e30, -1e30, 1e-30, -1e-40, 5e-324, 1e300, -1e300, Infinity, -Infinity, 3.4e38, 16_777_217),
  fc.constant(null),
);
const instant = fc.oneof(
  fc.date({ min: new Date(-8.64e15), max: new Date(8.64e15), noInvalidDate: true }),
  fc.date({ min: new Date('1890-01-01'), max: new Date('2110-01-01'), noInvalidDate: true }),
  fc.constantFrom(new Date(-1), new Date(0), new Date('1969-12-31T23:59:59.999Z'), new Date('2000-02-29'), new Date('1900-03-01'), new Date('0000-02-29')),
  fc.constant(null),
);
const word = fc.oneof(
  fc.constantFrom(
    'free',
    'FREE',
    'money',
    'Ünïcode',
    'ÜBER',
    'über',
    "don't",
    'a',
    '漢字',
    '😀',
    'x_1',
    'ЖУК',
    'жук',
    '\u0000',
    '\u0001',
    '\ud800',
    '’',
    '٣٣',
    '\u2028',
    'İI',
    'e\u0301',
    '\u0085 \u00a0\n',
  ),
  fc.string({ unit: 'binary', maxLength: 6 }),
  fc.string({ unit: 'grapheme', maxLength: 6 }),
);
const phrase = fc.oneof(
  fc.array(word, { maxLength: 8 }).map((words) => words.join(' ')),
  fc.constant(null),
);
const category = fc.oneof(fc.constantFrom('JFK', 'LAX', 'Zürich', '', 'a\u0000b', '\u0000'), fc.string({ unit: 'binary', maxLength: 3 }), fc.constant(null));
const many = <T>(cell: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(cell, { minLength: 16, maxLength: 16 });
const RUNS = { numRuns: 6 };

describe.each([
  { trainer: 'gbdt', sparse: false },
  { trainer: 'linear', sparse: false },
  { trainer: 'linear', sparse: true },
])('matrix and ONNX graph agree for $trainer, sparse: $sparse', (setting) => {
  const impute = setting.trainer === 'gbdt' ? 'none' : 'median';
  const native = setting.trainer === 'gbdt' ? (['native'] as const) : [];

  it('on numbers with nulls, extremes and tiny values', async () => {
    await fc.assert(
      fc.asyncProperty(many(number), many(number), async (train, rows) => {
        await expectParity(
          {
            a: numeric(),
            b: numeric({ impute: 'median', scale: 'standard' }),
            c: numeric({ impute: 'zero', log: true }),
            d: numeric({ impute, scale: 'none', log: true }),
          },
          { a: [1, ...train], b: [2, ...train], c: [3, ...train], d: [4, ...train] },
          { a: rows, b: rows, c: rows, d: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on dates before 1970, leap days and the ends of the calendar', async () => {
    const parts = ['minute', 'year', 'month', 'day', 'dayOfWeek', 'dayOfYear', 'hour', 'epochDays'] as const;
    await fc.assert(
      fc.asyncProperty(many(instant), many(instant), async (train, rows) => {
        await expectParity(
          { t: datetime({ parts: [...parts] }), u: datetime({ parts: ['hour', 'year'] }) },
          { t: [new Date(0), ...train], u: [new Date(1), ...train] },
          { t: rows, u: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it.each([...native, 'oneHot', 'ordinal', 'frequency', 'target'] as const)('on %s categories, texts and numbers, unknown and missing', async (encode) => {
    await fc.assert(
      fc.asyncProperty(many(category), many(category), many(number), many(number), async (train, rows, trainNumbers, numbers) => {
        await expectParity(
          { s: categorical({ encode, minCount: 2 }), n: categorical({ encode, minCount: 1, maxCategories: 4 }), x: numeric() },
          { s: ['JFK', 'JFK', ...train], n: [1, 0, ...trainNumbers], x: [1, 2, ...trainNumbers] },
          { s: rows, n: numbers, x: numbers },
          setting,
        );
      }),
      RUNS,
    );
  });

  it.each(['tfidf', 'count', 'binary'] as const)('on %s texts in any script', async (weight) => {
    await fc.assert(
      fc.asyncProperty(many(phrase), many(phrase), fc.integer({ min: 1, max: 3 }), async (train, rows, ngrams) => {
        await expectParity(
          { s: text({ weight, ngrams, minDocuments: 1 }), c: categorical({ minCount: 1 }) },
          { s: ['free money', ...train], c: ['free', ...train] },
          { s: rows, c: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on clipped, robustly and min-max scaled, passed and marked numbers', async () => {
    await fc.assert(
      fc.asyncProperty(many(number), many(number), async (train, rows) => {
        await expectParity(
          {
            a: numeric({ impute: 'mean', clip: { quantiles: [0.05, 0.9] }, scale: 'robust', indicator: true }),
            b: numeric({ impute: -1, clip: { lower: -10 }, scale: 'minmax' }),
            c: passthrough(),
            d: numeric({ impute: 'median', clip: { upper: 3, lower: 0 }, log: true, column: 'a', scale: 'standard' }),
          },
          { a: [1, ...train], b: [2, ...train], c: [3, ...train] },
          { a: rows, b: rows, c: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on bins by quantiles, widths and edges', async () => {
    await fc.assert(
      fc.asyncProperty(many(number), many(number), async (train, rows) => {
        await expectParity(
          {
            a: numeric({ bins: { by: 'quantile', count: 4 } }),
            b: numeric({ bins: { by: 'uniform', count: 5 }, binsAs: 'oneHot', column: 'a', impute: 'median' }),
            c: numeric({ bins: { edges: [-1e30, 0, 1e-30, 10] }, binsAs: 'ordinal', column: 'a' }),
            d: numeric({ bins: { by: 'uniform', count: 3 }, log: true, clip: { quantiles: [0, 0.9] }, binsAs: 'oneHot', column: 'a' }),
          },
          { a: [1, ...train] },
          { a: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on hours and months that come round', async () => {
    await fc.assert(
      fc.asyncProperty(many(instant), many(instant), async (train, rows) => {
        const parts = ['hour', 'year', 'month', 'dayOfYear', 'dayOfWeek', 'minute', 'day'] as const;
        await expectParity(
          { u: datetime({ parts: ['hour'] }), t: datetime({ parts: [...parts], cyclic: true, column: 'u' }) },
          { u: [new Date(1), ...train] },
          { u: rows },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on hashed texts and numbers, unknown and missing', async () => {
    await fc.assert(
      fc.asyncProperty(many(category), many(category), many(number), many(number), async (train, rows, trainNumbers, numbers) => {
        await expectParity(
          { s: categorical({ encode: 'hash', buckets: 7 }), n: categorical({ encode: 'hash', buckets: 40 }) },
          { s: ['JFK', ...train], n: [1, ...trainNumbers] },
          { s: rows, n: numbers },
          setting,
        );
      }),
      RUNS,
    );
  });

  it.each([...native, 'oneHot', 'ordinal', 'frequency', 'target', 'hash'] as const)('on %s crosses of texts, numbers and bins', async (encode) => {
    await fc.assert(
      fc.asyncProperty(many(category), many(category), many(number), many(number), async (train, rows, trainNumbers, numbers) => {
        await expectParity(
          {
            x: cross({ columns: ['s', 'n'], encode, minCount: 1, buckets: 33 }),
            y: cross({ columns: [{ column: 'n', bins: { count: 3 } }, 's', { column: 'n', bins: { edges: [0] } }], encode, minCount: 1, buckets: 9 }),
            z: cross({
              columns: [
                { column: 'n', bins: { by: 'uniform' } },
                { column: 'n', bins: { edges: [0] } },
              ],
              encode,
              minCount: 1,
              buckets: 5,
            }),
          },
          { s: ['JFK', 'JFK', ...train], n: [1, 0, ...trainNumbers] },
          { s: rows, n: numbers },
          setting,
        );
      }),
      RUNS,
    );
  });

  it('on n-grams of characters, vocabularies and hashes, sublinear and of length one', async () => {
    await fc.assert(
      fc.asyncProperty(many(phrase), many(phrase), fc.boolean(), async (train, rows, sublinear) => {
        await expectParity(
          {
            a: text({ analyzer: 'char', ngrams: [2, 3], minDocuments: 1, sublinear, norm: 'none', maxFeatures: 300, column: 's' }),
            b: text({ analyzer: 'char', ngrams: [1, 3], buckets: 64, sublinear, column: 's' }),
            c: text({ ngrams: [1, 2], buckets: 50, weight: 'count', norm: 'l2', column: 's' }),
            d: text({ ngrams: [2, 3], buckets: 1 << 10, weight: 'binary', column: 's' }),
            e: text({ minDocuments: 1, sublinear: true, weight: 'count', column: 's', maxShare: 0.9 }),
            f: text({ ngrams: 2, minDocuments: 1, sublinear: true, column: 's' }),
          },
          { s: ['free money', 'more', ...train] },
          { s: rows },
          setting,
        );
      }),
      RUNS,
    );
  });
});
