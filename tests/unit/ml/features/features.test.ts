import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { categorical, DATE_PARTS, numeric, text } from '../../../../contracts/features.ts';
import { datePart } from '../../../../ml/features/date-parts.ts';
import { fitFeatures, TARGET_FOLDS, targetFold } from '../../../../ml/features/fit-features.ts';
import { tokenize } from '../../../../ml/features/tokenize.ts';
import { transformFeatures, transformTrainingFeatures } from '../../../../ml/features/transform-features.ts';
import type { Matrix } from '../../../../ml/matrix.ts';
import { rawTable } from '../raw-tables.ts';

const columnOf = (matrix: Matrix, column: number): number[] => {
  if (matrix.kind !== 'dense') throw new Error('the matrix is sparse');
  return [...matrix.data.subarray(column * matrix.rows, (column + 1) * matrix.rows)];
};

describe('date parts', () => {
  it("are those of JavaScript's Date in UTC, over its whole range", () => {
    const dayOfYear = (date: Date): number => {
      const newYear = new Date(0);
      newYear.setUTCFullYear(date.getUTCFullYear(), 0, 1);
      return Math.floor((date.getTime() - newYear.getTime()) / 86_400_000) + 1;
    };
    // The first year of the range has no 1 January in it.
    fc.assert(
      fc.property(fc.date({ min: new Date(-8.64e15 + 366 * 86_400_000), max: new Date(8.64e15), noInvalidDate: true }), (date) => {
        const found = DATE_PARTS.map((part) => datePart(date.getTime(), part));
        expect(found).toEqual([
          date.getUTCFullYear(),
          date.getUTCMonth() + 1,
          date.getUTCDate(),
          date.getUTCDay(),
          dayOfYear(date),
          date.getUTCHours(),
          date.getUTCMinutes(),
          Math.floor(date.getTime() / 86_400_000),
        ]);
      }),
      { numRuns: 2000, examples: [[new Date('2000-02-29')], [new Date('1900-03-01')], [new Date('2000-12-31')], [new Date('1999-12-31')], [new Date(-1)]] },
    );
  });

  it('are missing for a missing or impossible instant', () => {
    expect([Number.NaN, 1e16, -1e300].map((ms) => datePart(ms, 'year'))).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  });
});

describe('words', () => {
  it('are runs of two and more letters, digits and underscores, lower-cased in ASCII', () => {
    expect(tokenize("Don't WIN a PC in 2001, x_1!")).toEqual(['don', 'win', 'pc', 'in', '2001', 'x_1']);
  });

  it('keep letters of other alphabets, and take each ideogram and emoji for itself', () => {
    expect(tokenize('Café ÉCOLE 漢字abc 😀😀')).toEqual(['café', 'École', '漢', '字', 'abc', '😀', '😀']);
  });

  it('of an ASCII text are the same whatever stands behind it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii' }), (ascii) => {
        const clean = ascii.replaceAll('\0', ' ');
        expect(tokenize(clean)).toEqual(tokenize(`${clean} ÀÀ`).slice(0, -1));
      }),
    );
  });
});

describe('encodings', () => {
  const table = rawTable({ c: ['a', 'a', 'a', 'b', 'b', 'c', null, 'a'] });
  const y = Float64Array.of(1, 1, 1, 0, 0, 1, 0, 0);
  const target = { task: { kind: 'binary' }, y } as const;
  const encode = (encoding: 'oneHot' | 'ordinal' | 'frequency' | 'target', trainer: string) =>
    fitFeatures({ features: { c: categorical({ encode: encoding, minCount: 2 }) }, table, target, trainer, seed: 1 });

  it('one-hot gives rare and missing values a column each', () => {
    const fitted = encode('oneHot', 'linear');
    expect(fitted.names).toEqual(['c=a', 'c=b', 'c=(other)', 'c=(missing)']);
    const matrix = transformFeatures(fitted, rawTable({ c: ['b', 'never seen', null] }));
    expect([0, 1, 2, 3].map((column) => columnOf(matrix, column))).toEqual([
      [0, 0, 0],
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
  });

  it('ordinal orders categories by their mean target, unknown ones in between, and leaves missing to the trees', () => {
    const matrix = transformFeatures(encode('ordinal', 'gbdt'), rawTable({ c: ['a', 'b', 'never seen', null] }));
    expect(columnOf(matrix, 0)).toEqual([2, 1, 1.5, Number.NaN]);
  });

  it('frequency is the share of the training rows', () => {
    const matrix = transformFeatures(encode('frequency', 'linear'), rawTable({ c: ['a', 'b', 'c', null] }));
    expect(columnOf(matrix, 0)).toEqual([0.5, 0.25, 0.125, 0.125]);
  });

  it('target is the smoothed mean for new rows, and leaves a training row and its fold out of its own', () => {
    const fitted = encode('target', 'linear');
    const prior = 0.5;
    const smoothed = (sum: number, count: number, mean: number): number => Math.fround((sum + 20 * mean) / (count + 20));
    expect(columnOf(transformFeatures(fitted, rawTable({ c: ['a', 'b', 'zz'] })), 0)).toEqual([
      smoothed(3, 4, prior),
      smoothed(0, 2, prior),
      smoothed(1, 1, prior),
    ]);
    const training = columnOf(transformTrainingFeatures(fitted, table, target, 9), 0);
    const outside = [...y.keys()].filter((row) => targetFold(row, 9) !== targetFold(0, 9));
    const mean = outside.reduce((sum, row) => sum + (y[row] ?? 0), 0) / outside.length;
    const same = outside.filter((row) => [0, 1, 2, 7].includes(row));
    expect(training[0]).toBe(
      smoothed(
        same.reduce((sum, row) => sum + (y[row] ?? 0), 0),
        same.length,
        mean,
      ),
    );
    expect(TARGET_FOLDS).toBe(5);
  });

  it('depend on nothing but data, features, trainer and seed', () => {
    expect(JSON.stringify(encode('ordinal', 'gbdt'))).toBe(JSON.stringify(encode('ordinal', 'gbdt')));
  });
});

describe('numbers and texts', () => {
  it('are standardised to mean 0 and deviation 1 after filling', () => {
    const table = rawTable({ x: [1, 2, 3, null] });
    const matrix = transformFeatures(fitFeatures({ features: { x: numeric() }, table, trainer: 'linear', seed: 1 }), table);
    const root = Math.sqrt(2);
    columnOf(matrix, 0).forEach((value, row) => {
      expect(value).toBeCloseTo([-root, 0, root, 0][row] ?? Number.NaN, 6);
    });
  });

  it("have scikit-learn's TF-IDF", () => {
    // scikit-learn 1.7.2: TfidfVectorizer().fit_transform(['free money free', 'money lunch', 'lunch']), first row.
    const table = rawTable({ s: ['free money free', 'money lunch', 'lunch'] });
    const fitted = fitFeatures({ features: { s: text({ minDocuments: 1 }) }, table, trainer: 'gbdt', seed: 1 });
    expect(fitted.names).toEqual(['s:free', 's:lunch', 's:money']);
    const matrix = transformFeatures(fitted, table);
    expect(columnOf(matrix, 0)[0]).toBeCloseTo(0.9347019636214327, 6);
    expect(columnOf(matrix, 2)[0]).toBeCloseTo(0.35543246785041743, 6);
  });
});
