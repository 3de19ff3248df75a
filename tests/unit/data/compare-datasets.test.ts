/** Figures of comparisons, held against NumPy 2 and SciPy 1.17.1 (`np.interp` as distribution functions, `jensenshannon(p, q, base=2) ** 2`). */
import { describe, expect, it } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import type { ColumnProfile } from '../../../contracts/profile.ts';
import { type ColumnChange, type ComparedDataset, compareDatasets } from '../../../data/compare-datasets.ts';

const dataset = (rows: number, columns: readonly ColumnProfile[], more: Partial<ComparedDataset> = {}): ComparedDataset => ({
  columns: columns.map(({ name, type }): Column => ({ name, type })),
  rows,
  sizeBytes: rows * 10,
  profile: { format: 'millrace-profile/1', rows, columns: [...columns] },
  ...more,
});
const numbers = (edges: number[], counts: number[], nulls = 0): ColumnProfile => ({
  name: 'x',
  type: 'number',
  nulls,
  distinct: 50,
  values: { kind: 'number', min: edges[0] ?? null, max: edges.at(-1) ?? null, mean: 5, standardDeviation: 1, quantiles: [], histogram: { edges, counts } },
});
const texts = (counts: Readonly<Record<string, number>>, nulls = 0): ColumnProfile => ({
  name: 's',
  type: 'string',
  nulls,
  distinct: Object.keys(counts).length,
  values: { kind: 'string', lengthMin: 1, lengthMean: 1, lengthMax: 1, top: Object.entries(counts).map(([value, count]) => ({ value, count })) },
});
function changeOf(a: ComparedDataset, b: ComparedDataset): ColumnChange {
  const change = compareDatasets(a, b).columns?.[0];
  if (change === undefined) throw new Error('no column was compared');
  return change;
}

describe('a comparison', () => {
  it('of numbers has the KS statistic and the PSI of the two distribution functions', () => {
    const a = dataset(100, [numbers([0, 2, 4, 6, 8, 10], [40, 10, 20, 10, 20])]);
    const b = dataset(100, [numbers([1, 4, 7, 10, 13, 16], [5, 25, 50, 15, 5])]);
    const { ks, psi, moved, js } = changeOf(a, b);
    expect(ks).toBeCloseTo(0.4833333333333333, 9);
    expect(psi).toBeCloseTo(1.622047669374323, 9);
    expect([moved, js]).toEqual([ks, null]);
    expect(changeOf(a, a)).toMatchObject({ ks: 0, psi: 0, moved: 0 });
    // every value of one lies above every value of the other
    expect(changeOf(a, dataset(10, [numbers([20, 30], [10])])).ks).toBe(1);
  });

  it('of texts has the Jensen–Shannon divergence of their shares, and names what came and went', () => {
    const a = dataset(100, [texts({ a: 60, b: 30, c: 10 })]);
    const b = dataset(120, [texts({ b: 60, c: 40, d: 20 })]);
    const { js, ks, psi, appeared, vanished } = changeOf(a, b);
    expect(js).toBeCloseTo(0.449367267416729, 9);
    expect([ks, psi, appeared, vanished]).toEqual([null, null, ['d'], ['a']]);
    expect(changeOf(a, a).js).toBe(0);
    expect(changeOf(a, dataset(5, [texts({ z: 5 })])).js).toBeCloseTo(1, 9);
  });

  it('counts missing values apart, and sorts columns by what moved most', () => {
    const x = (nulls: number): ColumnProfile => numbers([0, 10], [100 - nulls], nulls);
    const difference = compareDatasets(dataset(100, [x(0), texts({ a: 100 })]), dataset(100, [x(25), texts({ b: 100 })]));
    expect(difference.columns?.map(({ column, moved }) => [column, moved])).toEqual([
      ['s', 1],
      ['x', 0.25],
    ]);
    expect(difference.columns?.[1]).toMatchObject({ nullShare: [0, 0.25], ks: 0 });
  });

  it('tells columns that were added, removed, retyped and moved, also where no figure may be seen', () => {
    const columns = (...list: readonly (readonly [string, Column['type']])[]): Column[] => list.map(([name, type]) => ({ name, type }));
    const a = dataset(10, [], { columns: columns(['id', 'integer'], ['x', 'number'], ['old', 'string']) });
    const b = dataset(20, [], { columns: columns(['x', 'string'], ['id', 'integer'], ['new', 'date']), profile: null });
    expect(compareDatasets(a, b)).toEqual({
      rows: [10, 20],
      sizeBytes: [100, 200],
      added: [{ name: 'new', type: 'date' }],
      removed: [{ name: 'old', type: 'string' }],
      retyped: [{ column: 'x', from: 'number', to: 'string' }],
      reordered: true,
      columns: null,
    });
  });
});
