import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectations, notNull } from '../../../contracts/expectations.ts';
import { type Profile, ProfileSchema, type TargetCorrelations } from '../../../contracts/profile.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { profileDataset, type ProfileOptions } from '../../../data/profile.ts';
import { validateDataset } from '../../../data/validate.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

const ROWS = 4000;
/** The same integers as those of the script that gave the reference figures. */
function rowOf(i: number): Record<string, string> {
  const x = ((i * 7919) % 1009) / 8;
  const b = (i * i) % 523;
  const c = 'abcdefg'[(i * i) % 7] ?? '';
  return {
    x: i % 13 === 0 ? '' : String(x),
    b: String(b),
    y: String(x * 2 - b + (i % 17) * 0.25),
    flag: String(i % 3 === 0),
    c: i % 11 === 0 ? '' : c,
    d: i % 5 < 3 ? `k${c}` : ('pqr'[i % 3] ?? ''),
    t: new Date(1_704_067_200_000 + ((i * 3571) % 4001) * 3_600_000).toISOString().slice(0, 19).replace('T', ' '),
    same: '7',
    id: `row ${String(i)}`,
    mail: ['ann@example.org', 'bob@example.com'][i % 2] ?? '',
  };
}

let artifacts: FileArtifacts;
let made: StoredDataset;
const csv = async (name: string, rows: readonly Record<string, string>[]): Promise<StoredDataset> => {
  const names = Object.keys(rows[0] ?? {});
  const lines = [names, ...rows.map((row) => names.map((column) => row[column] ?? ''))].map((cells) => `${cells.join(',')}\n`);
  await writeFile(join(artifacts.folder, name), lines.join(''));
  return ingestSource({ source: { format: 'csv', path: name }, name: 'made', artifacts, projectFolder: artifacts.folder });
};
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  made = await csv(
    'made.csv',
    Array.from({ length: ROWS }, (_, i) => rowOf(i)),
  );
});
afterAll(() => artifacts.remove());

const profiled = async (options: ProfileOptions, { manifest }: StoredDataset = made): Promise<Profile> =>
  profileDataset(await datasetFiles(artifacts, manifest), manifest.columns, options);
const correlated = async (options: ProfileOptions, dataset?: StoredDataset): Promise<TargetCorrelations> => {
  const { correlations } = await profiled(options, dataset);
  if (correlations === undefined) throw new Error('correlations were expected');
  return correlations;
};
const of = ({ columns }: TargetCorrelations, name: string) => columns.find(({ column }) => column === name);

// Reference figures: SciPy 1.17.1 (pearsonr, pointbiserialr, chi2_contingency without Yates' correction) and NumPy 2.4.6,
// over the same rows; η from sums of squares, and once from f_oneway's F: η² = F(k−1) / (F(k−1) + n − k).
describe('correlations with the target', () => {
  it("of numbers, instants and booleans with a number are SciPy's pearsonr, over the rows in which both are there", async () => {
    const found = await correlated({ target: 'y' });
    expect(of(found, 'x')).toMatchObject({ measure: 'pearson', rows: 3692 });
    expect(of(found, 'x')?.value).toBeCloseTo(0.435423937788215, 9);
    expect(of(found, 'b')?.value).toBeCloseTo(-0.9005119172526215, 9);
    expect(of(found, 't')?.value).toBeCloseTo(-0.009056583044011014, 9);
    expect(of(found, 'flag')?.value).toBeCloseTo(-0.0013454070227048838, 9);
  });

  it('of texts with a number are the correlation ratio', async () => {
    const found = await correlated({ target: 'y' });
    expect(of(found, 'c')).toMatchObject({ measure: 'correlationRatio', rows: 3636 });
    expect(of(found, 'c')?.value).toBeCloseTo(0.0034335829509767953, 9);
    expect(of(found, 'd')?.value).toBeCloseTo(0.02580711196505428, 9);
  });

  it('with a text are the correlation ratio of numbers, and Cramér’s V, corrected, of categories', async () => {
    const found = await correlated({ target: 'd' });
    expect(of(found, 'y')).toMatchObject({ measure: 'correlationRatio', rows: ROWS });
    expect(of(found, 'y')?.value).toBeCloseTo(0.025807111965054256, 9);
    expect(of(found, 'x')).toMatchObject({ rows: 3692 });
    expect(of(found, 'x')?.value).toBeCloseTo(0.03216173690774623, 9);
    expect(of(found, 't')?.value).toBeCloseTo(0.004319947400837864, 9);
    expect(of(found, 'c')).toMatchObject({ measure: 'cramersV', rows: 3636 });
    expect(of(found, 'c')?.value).toBeCloseTo(0.7737657931320754, 9);
    expect(of(found, 'flag')?.value).toBeCloseTo(0.6314669422372282, 9);
  });

  it('of a text with a boolean are the same whichever of them is the target', async () => {
    expect(of(await correlated({ target: 'flag' }), 'd')).toEqual({ ...of(await correlated({ target: 'd' }), 'flag'), column: 'd' });
  });

  it('are 1 of a column that says the target, and −1 of its opposite, also far from zero', async () => {
    const rows = Array.from({ length: 200 }, (_, i) => ({
      y: String(1e9 + i),
      same: String(1e-9 * i),
      opposite: String(-5e12 - i),
      c: i % 2 === 0 ? 'a' : 'b',
    }));
    const found = await correlated({ target: 'y' }, await csv('lines.csv', rows));
    expect(found.columns.slice(0, 2)).toEqual([
      { column: 'same', measure: 'pearson', value: 1, rows: 200 },
      { column: 'opposite', measure: 'pearson', value: -1, rows: 200 },
    ]);
  });

  it('are not made of constants, of texts with too many values, and of personal columns, which are named', async () => {
    const found = await correlated({ target: 'y', masked: new Set(['mail']) });
    expect(found.skipped).toEqual([
      { column: 'same', reason: 'constant' },
      { column: 'id', reason: 'manyValues' },
      { column: 'mail', reason: 'personal' },
    ]);
    expect(await correlated({ target: 'id' })).toEqual({ target: 'id', columns: [], skipped: [{ column: 'id', reason: 'manyValues' }] });
  });

  it('are the same whatever the number of threads', async () => {
    const rows = Array.from({ length: 300_000 }, (_, i) => ({
      y: String(Math.sin(i) * 1e3),
      x: String(Math.sin(i * 1.1) / 7),
      c: 'abcdefg'[(i * i) % 7] ?? '',
    }));
    const large = await csv('large.csv', rows);
    for (const target of ['y', 'c']) expect(await correlated({ target, threads: 1 }, large)).toEqual(await correlated({ target, threads: 4 }, large));
  });

  it('of a hundred columns are those of each alone', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `c${String(index)}`);
    const rows = Array.from({ length: 400 }, (_, i) => ({
      y: String((i * 37) % 101),
      ...Object.fromEntries(names.map((name, index) => [name, `v${String(((i * (index + 3)) % 103) % 5)}`])),
    }));
    const wide = await csv('wide.csv', rows);
    const all = await correlated({ target: 'y' }, wide);
    expect(all.columns).toHaveLength(100);
    const files = await datasetFiles(artifacts, wide.manifest);
    for (const name of ['c0', 'c31', 'c32', 'c99']) {
      const two = wide.manifest.columns.filter((column) => column.name === name || column.name === 'y');
      expect((await profileDataset(files, two, { target: 'y' })).correlations?.columns).toEqual([of(all, name)]);
    }
  });

  it('come with a validation that is told the target; one that is not there is refused before anything is read', async () => {
    const options = { manifest: made.manifest, id: made.ref.id, artifacts, expectations: expectations({ y: [notNull()] }) };
    const { profile, manifest } = await validateDataset({ ...options, target: 'y' });
    expect(profile.correlations).toMatchObject({ target: 'y', skipped: [{ column: 'same' }, { column: 'id' }, { column: 'mail', reason: 'personal' }] });
    expect(ProfileSchema.parse(await artifacts.getJson(manifest.profile ?? ''))).toEqual(profile);
    expect((await validateDataset(options)).profile.correlations).toBeUndefined();
    await expect(validateDataset({ ...options, target: 'z' })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
  });
});

describe('lengths of texts', () => {
  const lengthsOf = async (texts: readonly string[]) => {
    const [column] = (
      await profiled(
        {},
        await csv(
          'texts.csv',
          texts.map((text) => ({ text, n: '1' })),
        ),
      )
    ).columns;
    if (column?.values.kind !== 'string' || column.values.lengths === undefined) throw new Error('lengths were expected');
    return column.values;
  };

  it('are counted in characters, in bins of whole lengths', async () => {
    const texts = Array.from({ length: 1000 }, (_, i) => '𝄞'.repeat(1 + (i % 10)));
    expect(await lengthsOf(texts)).toMatchObject({
      lengthMin: 1,
      lengthMean: 5.5,
      lengthMax: 10,
      lengths: {
        quantiles: [
          { q: 0.05, value: 1 },
          { q: 0.25, value: 3 },
          { q: 0.5, value: 5 },
          { q: 0.75, value: 8 },
          { q: 0.95, value: 10 },
        ],
        histogram: { edges: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], counts: new Array<number>(10).fill(100), below: 0, above: 0 },
      },
    });
  });

  it('of long texts, and of texts that are all different, are those worked out in JavaScript; what lies far out is counted beside the bins', async () => {
    const lengths = Array.from({ length: 3000 }, (_, i) => (i === 17 ? 60_000 : 100 + ((i * 7919) % 300)));
    const { lengths: found } = await lengthsOf(lengths.map((length, i) => `${String(i)}-`.padEnd(length, 'x')));
    const sorted = lengths.toSorted((a, b) => a - b);
    expect(found?.quantiles.map(({ value }) => value)).toEqual([0.05, 0.25, 0.5, 0.75, 0.95].map((q) => sorted[Math.ceil(q * 3000) - 1]));
    const { edges = [], counts = [], above } = found?.histogram ?? {};
    expect(above).toBe(1);
    expect(counts).toEqual(counts.map((_, index) => lengths.filter((length) => length >= (edges[index] ?? 0) && length < (edges[index + 1] ?? 0)).length));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2999);
  });
});

describe('bins to look at', () => {
  it('leave single far values aside and say how many they are', async () => {
    const rows = Array.from({ length: 2000 }, (_, i) => ({ v: i === 3 ? '1000000' : i === 4 ? '-70000' : String(20 + ((i * 7919) % 71)) }));
    const [column] = (await profiled({}, await csv('far.csv', rows))).columns;
    if (column?.values.kind !== 'number') throw new Error('a number was expected');
    const { edges = [], counts = [], below, above } = column.values.display ?? {};
    expect([below, above]).toEqual([1, 1]);
    expect([edges[0], edges.at(-1)]).toEqual([10, 100]);
    expect(counts).toEqual(counts.map((_, index) => rows.filter(({ v }) => Number(v) >= (edges[index] ?? 0) && Number(v) < (edges[index + 1] ?? 0)).length));
  });

  it('of doubles with many values hold the same rows as those counted in JavaScript', async () => {
    const values = Array.from({ length: 80_000 }, (_, i) => Math.sqrt(i) / 3);
    const [column] = (
      await profiled(
        {},
        await csv(
          'roots.csv',
          values.map((value) => ({ v: String(value) })),
        ),
      )
    ).columns;
    if (column?.values.kind !== 'number') throw new Error('a number was expected');
    const { edges = [], counts = [] } = column.values.display ?? {};
    expect(edges.slice(0, 3)).toEqual([0, 5, 10]);
    expect(counts).toEqual(counts.map((_, index) => values.filter((v) => v >= (edges[index] ?? 0) && v < (edges[index + 1] ?? 0)).length));
  });
});

describe('the number of different values', () => {
  it('is exact up to 65,536, also of instants; of more it is told with its error, which is kept', async () => {
    const rows = Array.from({ length: 200_000 }, (_, i) => ({
      hour: new Date(Date.UTC(2020, 0, 1) + (i % 50_000) * 3_600_000).toISOString(),
      minute: new Date(Date.UTC(2020, 0, 1) + (i % 123_456) * 60_000).toISOString(),
      key: `k${String(i)}`,
      part: String(((i * 7919) % 150_001) / 4),
      few: 'abc'[i % 3] ?? '',
    }));
    const { columns } = await profiled({}, await csv('many.csv', rows));
    const found = Object.fromEntries(columns.map(({ name, distinct, distinctError }) => [name, { distinct, distinctError }]));
    expect(found['hour']).toEqual({ distinct: 50_000, distinctError: undefined });
    expect(found['few']).toEqual({ distinct: 3, distinctError: undefined });
    for (const [name, truth] of [
      ['minute', 123_456],
      ['key', 200_000],
      ['part', 150_001],
    ] as const) {
      const { distinct = 0, distinctError = 0 } = found[name] ?? {};
      expect(distinctError).toBeGreaterThan(0);
      expect(distinctError).toBeLessThan(0.006);
      expect(Math.abs(distinct / truth - 1)).toBeLessThan(3 * distinctError);
    }
  });
});

describe('profiles of older versions', () => {
  it('are read without what they do not have', () => {
    const old = {
      format: 'millrace-profile/1',
      rows: 2,
      columns: [{ name: 'a', type: 'string', nulls: 0, distinct: 2, values: { kind: 'string', lengthMin: 1, lengthMean: 1, lengthMax: 1, top: [] } }],
    };
    expect(ProfileSchema.parse(old)).toEqual(old);
  });
});
