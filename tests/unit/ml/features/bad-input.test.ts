import { describe, expect, it } from 'vitest';
import { categorical, cross, datetime, type Features, numeric, passthrough, text } from '../../../../contracts/features.ts';
import { fitFeatures } from '../../../../ml/features/fit-features.ts';
import { murmurHashOfText } from '../../../../ml/features/murmur-hash.ts';
import { transformFeatures, transformTrainingFeatures } from '../../../../ml/features/transform-features.ts';
import { encodeTarget } from '../../../../ml/target.ts';
import { trainPredictor } from '../../../../ml/train-predictor.ts';
import { rawTable } from '../raw-tables.ts';

const fit = (features: Features, table: ReturnType<typeof rawTable>, trainer = 'linear') => fitFeatures({ features, table, trainer, seed: 1 });
const refusal = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was refused');
};

describe('bad input to features', () => {
  it('constant columns are 0 in every scale, and one bin that is reached', () => {
    const table = rawTable({ a: [7, 7, 7, 7] });
    for (const scale of ['standard', 'minmax', 'robust'] as const) {
      const matrix = transformFeatures(fit({ a: numeric({ scale }) }, table), table);
      expect(matrix.kind === 'dense' && [...matrix.data]).toEqual([0, 0, 0, 0]);
    }
    for (const by of ['quantile', 'uniform'] as const) expect(fit({ a: numeric({ bins: { by } }) }, table).names).toEqual(['a=[-inf,7)', 'a=[7,inf)']);
  });

  it('columns without a value are refused by name, whatever their kind', () => {
    const nulls = [null, null, null];
    const table = rawTable({ n: nulls, p: nulls, b: nulls, c: nulls, k: nulls, ok: [1, 2, 3] });
    const features = {
      n: numeric(),
      p: passthrough(),
      b: numeric({ bins: { count: 3 } }),
      c: categorical(),
      k: cross({ columns: ['k', 'ok'], minCount: 1 }),
    };
    expect(refusal(() => fit(features, table))).toMatchObject({
      code: 'FEATURES_INVALID',
      problems: Object.keys(features).map((name) => ({
        path: `features.${name}`,
        column: name,
        message: expect.stringContaining('every value is missing') as string,
      })),
    });
  });

  it('infinite values are cut to the ends, and clip keeps them out of the statistics', () => {
    const table = rawTable({ a: [1, 2, 3, 4, Number.POSITIVE_INFINITY, -1e300] });
    const step = fit({ a: numeric({ clip: { lower: 0, upper: 5 } }) }, table).steps[0];
    expect(step).toMatchObject({ clip: { low: 0, high: 5 }, fill: 2.5 });
    const scaled = transformFeatures(fit({ a: numeric({ scale: 'robust' }) }, table), table);
    if (scaled.kind !== 'dense') throw new Error('the matrix is sparse');
    expect([...scaled.data.slice(4)]).toEqual([1e6, -1e6]);
  });

  it('an infinite value that nothing cuts is named when the loss is not a number', async () => {
    const train = rawTable({ a: [1, 2, Number.POSITIVE_INFINITY, 4], y: ['no', 'yes', 'no', 'yes'] });
    const training = trainPredictor({ trainer: { name: 'linear' }, features: { a: passthrough() }, train, target: 'y', seed: 1, threads: 1 });
    await expect(training).rejects.toMatchObject({
      code: 'TRAINING_DIVERGED',
      message: expect.stringContaining(' a has a missing or infinite value') as string,
    });
  });

  it('100,000 categories are hashed, counted and encoded without a matrix of as many columns', () => {
    const rows = 100_000;
    const dictionary = Array.from({ length: rows }, (_, i) => `user-${i}`);
    const codes = Int32Array.from({ length: rows }, (_, i) => i);
    const table = { rows, columns: new Map([['u', { kind: 'string', codes, dictionary } as const]]) };
    const hashed = transformFeatures(fit({ u: categorical({ encode: 'hash', buckets: 1_024 }) }, table), table);
    if (hashed.kind !== 'sparse') throw new Error('the matrix is dense');
    expect(hashed.values).toHaveLength(rows);
    expect(hashed.columnIndex[7]).toBe(murmurHashOfText('user-7') % 1_024);
    const oneHot = fit({ u: categorical({ encode: 'oneHot', minCount: 1, maxCategories: 100_000 }) }, table);
    expect(oneHot.names).toHaveLength(100_000);
    expect(transformFeatures(oneHot, table)).toMatchObject({ kind: 'sparse', columns: 100_000 });
    expect(fit({ u: categorical({ encode: 'frequency', minCount: 1 }) }, table, 'gbdt').names).toEqual(['u']);
    expect(refusal(() => fit({ u: categorical() }, table))).toMatchObject({ problems: [{ message: 'none of its 100000 categories is seen 10 times' }] });
  });

  it('a matrix that would fill the memory is refused, with the widest features', () => {
    const rows = 100_000;
    const dictionary = Array.from({ length: rows }, (_, i) => `user-${i}`);
    const table = { rows, columns: new Map([['u', { kind: 'string', codes: Int32Array.from(dictionary.keys()), dictionary } as const]]) };
    const fitted = fit({ u: categorical({ encode: 'oneHot', minCount: 1, maxCategories: 100_000 }) }, table, 'gbdt');
    expect(refusal(() => transformFeatures(fitted, table))).toMatchObject({
      code: 'FEATURES_INVALID',
      problems: [{ path: 'features.u', message: 'gives 100000 columns' }],
    });
  });

  it('bins of texts, crosses of dates and unknown columns are refused together', () => {
    const table = rawTable({ s: ['a', 'b'], t: [new Date(0), new Date(1)], n: [1, 2] });
    const features = {
      one: cross({ columns: [{ column: 's', bins: { count: 2 } }, 'n'] }),
      two: cross({ columns: ['t', 'n'] }),
      three: numeric({ column: 'nowhere' }),
      four: datetime({ column: 'n' }),
    };
    expect(refusal(() => fit(features, table))).toMatchObject({
      problems: [
        { path: 'features.one', column: 's', message: 'only numbers fall into bins' },
        { path: 'features.two', column: 't' },
        { path: 'features.three', column: 'nowhere' },
        { path: 'features.four', column: 'n' },
      ],
    });
  });

  it('edges that do not ascend and bounds that cross are refused when they are written', () => {
    expect(() => numeric({ bins: { edges: [2, 1] } })).toThrow('ascend');
    expect(() => numeric({ clip: { lower: 2, upper: 1 } })).toThrow('lower');
    expect(() => text({ ngrams: [3, 2] })).toThrow('smaller');
  });
});

describe('bad targets', () => {
  const column = (cells: readonly (string | null)[]) => {
    const found = rawTable({ y: cells }).columns.get('y');
    if (found === undefined) throw new Error('no column');
    return found;
  };

  it('of texts and numbers are refused with examples, unless they are said to be classes', () => {
    const mixed = column(['1', '2.5', 'n/a', '3', 'unknown']);
    expect(refusal(() => encodeTarget(mixed, { name: 'y' }))).toMatchObject({
      code: 'TARGET_INVALID',
      problems: [{ column: 'y', found: '2 of 5 rows are no numbers: n/a, unknown' }],
    });
    expect(encodeTarget(mixed, { name: 'y', kind: 'multiclass' }).classes).toHaveLength(5);
  });

  it('of one class are refused', () => {
    expect(refusal(() => encodeTarget(column(['yes', 'yes']), { name: 'y' }))).toMatchObject({ code: 'TARGET_ONE_CLASS' });
  });
});

describe('fitting', () => {
  it('looks at the training rows alone: other validation rows leave the model as it is', async () => {
    const train = rawTable({
      n: Array.from({ length: 40 }, (_, i) => i),
      s: Array.from({ length: 40 }, (_, i) => (i % 3 === 0 ? 'free money' : 'dear friend')),
      y: Array.from({ length: 40 }, (_, i) => (i % 3 === 0 || i > 35 ? 'yes' : 'no')),
    });
    const features = {
      n: numeric({ clip: { quantiles: [0.1, 0.9] }, scale: 'robust' }),
      bins: numeric({ column: 'n', bins: { count: 4 } }),
      s: text({ buckets: 32 }),
      t: categorical({ column: 's', encode: 'target' }),
      x: cross({ columns: ['s', { column: 'n', bins: { by: 'uniform', count: 3 } }], minCount: 1 }),
    };
    const trained = (validation: ReturnType<typeof rawTable>) =>
      trainPredictor({ trainer: { name: 'linear' }, features, train, validation, target: 'y', seed: 1, threads: 1 });
    const one = await trained(rawTable({ n: [1, 2], s: ['free money', 'x'], y: ['yes', 'no'] }));
    const other = await trained(rawTable({ n: [1e9, -1e9, 5], s: ['quite other', 'words', 'here'], y: ['no', 'no', 'yes'] }));
    expect(Buffer.from(one.onnx).equals(Buffer.from(other.onnx))).toBe(true);
  });

  it("keeps a row's own target out of its crossed target encoding, and mixes in as many rows of the mean as asked", () => {
    const table = rawTable({ a: ['p', 'q', 'p', 'q'], b: ['1x', '2x', '1x', '2x'] });
    const features = { k: cross({ columns: ['a', 'b'], encode: 'target', minCount: 1, smoothing: 0 }) };
    const target = (first: number) => ({ task: { kind: 'binary' } as const, y: Float64Array.of(first, 0, 1, 0) });
    const fitted = fitFeatures({ features, table, target: target(1), trainer: 'linear', seed: 1 });
    const all = transformFeatures(fitted, table);
    expect(all.kind === 'dense' && [...all.data]).toEqual([1, 0, 1, 0]);
    const own = [0, 1].map((first) => {
      const matrix = transformTrainingFeatures(fitted, table, target(first), 1);
      return matrix.kind === 'dense' ? matrix.data[0] : undefined;
    });
    expect(own[0]).toBe(own[1]);
  });
});
