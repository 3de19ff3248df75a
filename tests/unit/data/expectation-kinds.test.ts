/** Kinds of expectations that look beyond one value, and row-wise ones against a model in plain JavaScript. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as e from '../../../contracts/expectations.ts';
import type { ExpectationResult, Expectations } from '../../../contracts/expectations.ts';
import { datasetFiles, loadManifest, type StoredDataset } from '../../../data/dataset.ts';
import { type CheckOptions, checkExpectations } from '../../../data/expectations.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { stabilityIndex } from '../../../data/reference-tests.ts';
import { validateDataset } from '../../../data/validate.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
afterAll(() => artifacts.remove());

let files = 0;
type Types = Readonly<Record<string, 'number' | 'integer' | 'boolean' | 'string' | 'timestamp' | 'date'>>;
/** Rows as JSON lines: nulls, empty texts and all characters stay what they are. */
async function dataset(rows: readonly Readonly<Record<string, unknown>>[], types: Types): Promise<StoredDataset> {
  const name = `rows-${String(files++)}.jsonl`;
  await writeFile(join(artifacts.folder, name), rows.map((row) => JSON.stringify(row)).join('\n'));
  return ingestSource({ source: { format: 'jsonl', path: name, types }, name: 'rows', artifacts, projectFolder: artifacts.folder });
}
const openDataset: NonNullable<CheckOptions['openDataset']> = async (ref) => {
  const manifest = await loadManifest(artifacts, ref);
  return { manifest, files: await datasetFiles(artifacts, manifest) };
};
async function check({ manifest }: StoredDataset, suite: Expectations, options: CheckOptions = {}): Promise<readonly ExpectationResult[]> {
  return (await checkExpectations(await datasetFiles(artifacts, manifest), manifest.columns, suite, { openDataset, threads: 1, ...options })).results;
}
const verdicts = (results: readonly ExpectationResult[]): boolean[] => results.map(({ success }) => success);

describe('a column as a whole', () => {
  it('is judged by its extremes, its different values and its most common one', async () => {
    const data = await dataset(
      ['a', 'b', 'b', 'c', null].map((s, i) => ({ s, n: i })),
      { s: 'string', n: 'integer' },
    );
    const suite = e.expectations({
      n: [e.minBetween(0, 0), e.maxBetween(null, 3), e.distinctFractionBetween(1, 1), e.zScoreAtMost(1)],
      s: [
        e.distinctFractionBetween(0.75, 0.75),
        e.distinctInclude(['a', 'c']),
        e.distinctInclude(['a', 'd']),
        e.mostCommonIn(['b']),
        e.mostCommonIn(['a', 'c']),
      ],
      table: [e.columnCount({ min: 2, max: 2 }), e.columnCount({ min: 3 })],
    });
    const results = await check(data, suite);
    expect(verdicts(results)).toEqual([true, false, true, false, true, false, true, true, false, true, false]);
    expect(results[5]).toMatchObject({
      failing: 2,
      checked: 5,
      sample: [
        { row: 0, value: '0' },
        { row: 4, value: '4' },
      ],
    });
    expect(results[8]?.message).toContain('never d');
  });

  it('is most often each of several values that occur as often', async () => {
    const data = await dataset([{ s: 'a' }, { s: 'b' }], { s: 'string' });
    expect(verdicts(await check(data, e.expectations({ s: [e.mostCommonIn(['a']), e.mostCommonIn(['a', 'b'])] })))).toEqual([false, true]);
  });

  it('falls from row to row, and rises', async () => {
    const data = await dataset(
      [5, 3, null, 3, 1].map((n) => ({ n })),
      { n: 'integer' },
    );
    const suite = e.expectations({ n: [e.decreasing(), e.decreasing({ strictly: true }), e.increasing()] });
    const results = await check(data, suite);
    expect(verdicts(results)).toEqual([true, false, false]);
    expect(results[1]).toMatchObject({ failing: 1, sample: [{ row: 3, value: '3' }] });
  });
});

describe('texts', () => {
  it('are dates of a format, JSON, and hold no pattern', async () => {
    const data = await dataset(
      [
        { d: '31.12.2001', j: '{"a": 1}' },
        { d: '2001-12-31', j: '{a}' },
        { d: null, j: null },
      ],
      { d: 'string', j: 'string' },
    );
    const suite = e.expectations({
      d: [e.dateFormat('%d.%m.%Y'), e.dateFormat(['%d.%m.%Y', '%Y-%m-%d']), e.dateFormat('%Q'), e.notMatches(/^31/)],
      j: [e.isJson(), e.isJson({ mostly: 0.5 })],
    });
    const results = await check(data, suite);
    expect(verdicts(results)).toEqual([false, true, false, false, false, true]);
    expect(results[0]).toMatchObject({ failing: 1, checked: 2, sample: [{ row: 1, value: '2001-12-31' }] });
    expect(results[2]?.message).toContain('strptime');
  });
});

describe('columns together', () => {
  it('add up to another, within what is allowed', async () => {
    const data = await dataset(
      [
        { a: 1, b: 2, c: 3 },
        { a: 0.1, b: 0.2, c: 0.3 },
        { a: 1, b: 1, c: 2.5 },
        { a: null, b: 1, c: 9 },
      ],
      { a: 'number', b: 'number', c: 'number' },
    );
    const suite = e.expectations({ table: [e.sumEquals(['a', 'b'], 'c'), e.sumEquals(['a', 'b'], 'c', { within: 1 })] });
    const [strict, loose] = await check(data, suite);
    expect(strict).toMatchObject({ success: false, failing: 1, checked: 3, sample: [{ row: 2, value: '2.0 and not 2.5' }] });
    expect(loose?.success).toBe(true);
  });
});

describe('another dataset', () => {
  it('holds the keys that are referred to', async () => {
    const airports = await dataset([{ code: 'ORD' }, { code: 'ATL' }, { code: null }], { code: 'string' });
    const flights = await dataset([{ origin: 'ORD' }, { origin: 'XXX' }, { origin: null }], { origin: 'string' });
    const suite = e.expectations({
      origin: [
        e.foreignKey({ dataset: airports.ref, column: 'code' }),
        e.foreignKey({ dataset: airports.ref, column: 'nowhere' }),
        e.foreignKey({ dataset: airports.ref, column: 'code' }, { mostly: 0.5 }),
      ],
    });
    const results = await check(flights, suite);
    expect(verdicts(results)).toEqual([false, false, true]);
    expect(results[0]).toMatchObject({ failing: 1, checked: 2, sample: [{ row: 1, value: 'XXX' }] });
    expect(results[1]?.message).toContain('code');
  });

  it('is compared with by Kolmogorov and Smirnov as SciPy 1.17.1 does', async () => {
    const [here, there] = [
      await dataset(
        [1, 2, 2, 3, 4, 5, 7, 9].map((n) => ({ n })),
        { n: 'integer' },
      ),
      await dataset(
        [2, 3, 3, 5, 6, 8, 8, 10, 11].map((n) => ({ n })),
        { n: 'integer' },
      ),
    ];
    const suite = e.expectations({ n: [e.kolmogorovSmirnov(there.ref, { statisticAtMost: 0.32 }), e.kolmogorovSmirnov(there.ref, { pValueAtLeast: 0.9 })] });
    const [statistic, pValue] = await check(here, suite);
    expect(statistic?.success).toBe(true);
    expect(statistic?.observed).toBeCloseTo(0.3194444444444444, 12);
    expect(pValue?.success).toBe(false);
  });

  it('is compared with by chi-square as SciPy 1.17.1 does', async () => {
    const rows = (counts: readonly number[]): { s: string }[] =>
      counts.flatMap((count, index) => Array.from({ length: count }, () => ({ s: 'abc'.charAt(index) })));
    const [here, there] = [await dataset(rows([10, 20, 30]), { s: 'string' }), await dataset(rows([15, 15, 40]), { s: 'string' })];
    const [result] = await check(here, e.expectations({ s: [e.chiSquare(there.ref, 0.05)] }));
    expect(result?.success).toBe(true);
    expect(result?.observed).toBeCloseTo(0.30304391468510006, 11);
  });

  it('is compared with by the stability index of its bins', async () => {
    const numbers = (shift: number): { n: number | null }[] => Array.from({ length: 1_000 }, (_, i) => ({ n: i % 50 === 0 ? null : (i % 100) + shift }));
    const [same, moved, there] = [
      await dataset(numbers(0), { n: 'integer' }),
      await dataset(numbers(50), { n: 'integer' }),
      await dataset(numbers(0), { n: 'integer' }),
    ];
    const suite = e.expectations({ n: [e.psiAtMost(there.ref, 0.1)] });
    const [[alike], [apart]] = [await check(same, suite), await check(moved, suite)];
    expect(alike).toMatchObject({ success: true, observed: 0 });
    expect(apart?.success).toBe(false);
    // (0.6 − 0.5) ln(0.6 ÷ 0.5) + (0.4 − 0.5) ln(0.4 ÷ 0.5), by hand
    expect(
      stabilityIndex(
        [
          { here: 60, there: 5 },
          { here: 40, there: 5 },
        ],
        100,
        10,
      ),
    ).toBeCloseTo(0.04054651081, 10);
  });

  it('is compared with by its texts, where rare ones share a bin', async () => {
    const texts = (letters: string): { s: string }[] => Array.from({ length: 400 }, (_, i) => ({ s: letters.charAt(i % letters.length) }));
    const there = await dataset(texts('aabc'), { s: 'string' });
    const [[same], [other]] = [
      await check(await dataset(texts('abca'), { s: 'string' }), e.expectations({ s: [e.psiAtMost(there.ref)] })),
      await check(await dataset(texts('xxyz'), { s: 'string' }), e.expectations({ s: [e.psiAtMost(there.ref)] })),
    ];
    expect(same).toMatchObject({ success: true, observed: 0 });
    expect(other?.success).toBe(false);
  });
});

describe("a person's function", () => {
  it('is asked once for each different value, and its verdicts count rows', async () => {
    const data = await dataset(
      [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, null].map((n) => ({ n })),
      { n: 'integer' },
    );
    const asked: unknown[] = [];
    const checkValues: CheckOptions['checkValues'] = (step, values, parameters) => {
      asked.push(step, values, parameters);
      return Promise.resolve(values.map((value) => Number(value) % 2 === 0));
    };
    const [result] = await check(data, e.expectations({ n: [e.customFunction('isEven', { parameters: { k: 1 } })] }), { checkValues });
    expect(asked).toEqual(['isEven', [1, 2, 3, 4, 5, 6, 9], { k: 1 }]);
    expect(result).toMatchObject({ success: false, checked: 10, failing: 7 });
    const [short] = await check(data, e.expectations({ n: [e.customFunction('isEven')] }), { checkValues: () => Promise.resolve([true]) });
    expect(short?.message).toContain('7 values and gave 1');
  });
});

describe('columns that no result may show', () => {
  it('are masked in samples and messages', async () => {
    const data = await dataset(
      [
        { s: 'secret-1', t: 'x' },
        { s: 'secret-1', t: 'y' },
      ],
      { s: 'string', t: 'string' },
    );
    const suite = e.expectations({
      s: [e.matches(/^public/), e.unique(), e.mostCommonIn(['nothing']), e.increasing({ strictly: true })],
      table: [e.compareColumns('s', '=', 't'), e.uniqueTogether(['s', 's'])],
    });
    const results = await check(data, suite, { masked: new Set(['s']) });
    expect(verdicts(results)).toEqual([false, false, false, false, false, false]);
    expect(JSON.stringify(results)).not.toContain('secret');
    expect(results.flatMap(({ sample }) => sample.map(({ value }) => value))).toContain('(masked)');
  });
});

describe('row-wise expectations', () => {
  type Row = { readonly s: string | null; readonly n: number | null; readonly d: string | null };
  const rowArbitrary: fc.Arbitrary<Row> = fc.record({
    s: fc.option(
      fc.oneof(
        fc.constantFrom('', 'a', 'ab', 'Straße', '🙂🙂', "it's", '{"a":1}'),
        fc.string({ maxLength: 6, unit: 'grapheme' }).filter((s) => !s.includes('\0')),
      ),
      { nil: null },
    ),
    n: fc.option(fc.oneof(fc.integer({ min: -5, max: 5 }), fc.constantFrom(-0, 0.5, 1e15, -1e-9)), { nil: null }),
    d: fc.option(
      fc.date({ min: new Date('1960-01-01'), max: new Date('2040-01-01'), noInvalidDate: true }).map((date) => date.toISOString().slice(0, 10)),
      { nil: null },
    ),
  });
  interface Model {
    readonly of: keyof Row;
    readonly expectation: e.ColumnExpectation;
    readonly passes: (value: never) => boolean;
  }
  const models: readonly Model[] = [
    { of: 's', expectation: e.inSet(['a', "it's", '']), passes: (v: string) => ['a', "it's", ''].includes(v) },
    { of: 's', expectation: e.notInSet(['ab', ...Array.from({ length: 20 }, (_, i) => `v${String(i)}`)]), passes: (v: string) => v !== 'ab' },
    { of: 's', expectation: e.lengthBetween(1, 2), passes: (v: string) => [...v].length >= 1 && [...v].length <= 2 },
    { of: 's', expectation: e.matches('^[a-z]+$'), passes: (v: string) => /^[a-z]+$/.test(v) },
    { of: 's', expectation: e.notMatches('a'), passes: (v: string) => !v.includes('a') },
    { of: 'n', expectation: e.between(-1, 2), passes: (v: number) => v >= -1 && v <= 2 },
    { of: 'n', expectation: e.between(null, 0), passes: (v: number) => v <= 0 },
    { of: 'n', expectation: e.inSet([0, 0.5]), passes: (v: number) => v === 0 || v === 0.5 },
    { of: 'd', expectation: e.dateBetween('1970-01-01', '2001-09-09'), passes: (v: string) => v >= '1970-01-01' && v <= '2001-09-09' },
    { of: 'd', expectation: e.notInSet(['1970-01-01']), passes: (v: string) => v !== '1970-01-01' },
  ];

  it('find the rows that a model in JavaScript finds, for any rows', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(rowArbitrary, { minLength: 1, maxLength: 12 }), async (rows) => {
        const data = await dataset([...rows, { s: 'end', n: 0, d: '2000-01-01' }], { s: 'string', n: 'number', d: 'date' });
        const all: readonly Row[] = [...rows, { s: 'end', n: 0, d: '2000-01-01' }];
        const suite = e.expectations({
          s: models.filter(({ of }) => of === 's').map(({ expectation }) => expectation),
          n: models.filter(({ of }) => of === 'n').map(({ expectation }) => expectation),
          d: models.filter(({ of }) => of === 'd').map(({ expectation }) => expectation),
        });
        const results = await check(data, suite);
        const ordered = ['s', 'n', 'd'].flatMap((of) => models.filter((model) => model.of === of));
        ordered.forEach(({ of, passes }, index) => {
          const present = all.flatMap((row, at) => (row[of] === null ? [] : [{ at, value: row[of] }]));
          const failing = present.filter(({ value }) => !passes(value as never));
          expect(results[index]).toMatchObject({ checked: present.length, failing: failing.length });
          expect(results[index]?.sample.map(({ row }) => row)).toEqual(failing.slice(0, 5).map(({ at }) => at));
        });
      }),
      { numRuns: 40 },
    );
  });

  it('hold when the failing share is within the tolerance, and not when one more row fails', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 40 }), async (good, bad) => {
        const data = await dataset([...Array.from({ length: good }, () => ({ n: 0 })), ...Array.from({ length: bad }, () => ({ n: 1 }))], { n: 'integer' });
        const mostly = good / (good + bad);
        const stricter = Math.min(1, (good + 1) / (good + bad));
        const results = await check(data, e.expectations({ n: [e.between(0, 0, { mostly }), e.between(0, 0, { mostly: stricter })] }));
        expect(verdicts(results)).toEqual([true, bad === 0]);
      }),
      { numRuns: 25 },
    );
  });
});

describe('expectations that say their columns', () => {
  it('expect each to be there with its type', async () => {
    const suite = e.typedExpectations({ n: 'integer', s: 'string' })({
      n: [e.between(0, 9)],
      s: [e.lengthBetween(1, 3)],
      table: [e.compareColumns('n', '=', 'n')],
    });
    expect(suite.expectations.map(({ kind }) => kind)).toEqual(['columnsExist', 'compareColumns', 'type', 'between', 'type', 'lengthBetween']);
    const data = await dataset([{ n: 1.5, s: 'a' }], { n: 'number', s: 'string' });
    expect(verdicts(await check(data, suite))).toEqual([true, true, false, true, true, true]);
  });

  it('are refused by the compiler where they do not fit', () => {
    const suite = e.typedExpectations({ n: 'integer', s: 'string' });
    // @ts-expect-error a range is for numbers
    suite({ s: [e.between(0, 1)] });
    // @ts-expect-error there is no such column
    suite({ m: [e.notNull()] });
    // @ts-expect-error there is no such column
    suite({ table: [e.uniqueTogether(['n', 'm'])] });
    expect(suite({ n: [e.zScoreAtMost(3)] }).expectations).toHaveLength(4);
  });
});

describe('quarantine', () => {
  const suite = e.expectations({
    n: [e.between(0, 5), e.notNull({ mostly: 0.5 }), e.lengthBetween(0, 1, { severity: 'warn' })],
    s: [e.matches('^[a-z]$')],
    table: [e.customSql('n is not 3', 'n <> 3')],
  });
  const rows = [
    { n: 1, s: 'a' },
    { n: 9, s: 'b' },
    { n: null, s: 'c' },
    { n: 3, s: 'DD' },
    { n: 4, s: 'e' },
  ];
  const run = async (quarantineAtMost: number, expectations = suite) => {
    const { ref, manifest } = await dataset(rows, { n: 'integer', s: 'string' });
    return validateDataset({ manifest, id: ref.id, expectations, artifacts, quarantineAtMost, threads: 1 });
  };

  it('puts the rows aside that fail, says why, and goes on with the others in order', async () => {
    const { ref, validation, quarantined, profile } = await run(0.4);
    expect(ref.rows).toBe(3);
    expect(validation.success).toBe(true);
    expect(profile.rows).toBe(3);
    expect(quarantined?.ref).toMatchObject({ name: 'rows-quarantine', rows: 2 });
    expect(validation.quarantine).toMatchObject({ dataset: quarantined?.ref.id, rows: 2 });
    const aside = await check(
      quarantined!,
      e.expectations({
        failed_expectations: [e.inSet(['n.between', 's.matches, customSql.n is not 3', 'customSql.n is not 3, s.matches'])],
        table: [e.rowCount({ min: 2, max: 2 })],
      }),
    );
    expect(verdicts(aside)).toEqual([true, true]);
    expect(quarantined?.manifest.unserved).toEqual({ failed_expectations: 'the quarantine' });
    // the same again, byte for byte
    expect((await run(0.4)).ref.id).toBe(ref.id);
  });

  it('fails where more would go than may', async () => {
    await expect(run(0.3)).rejects.toMatchObject({ code: 'EXPECTATIONS_FAILED', message: expect.stringContaining('2 of 5 rows') as string });
  });

  it('does not help a table that is wrong as a whole', async () => {
    const { validation } = await run(1, e.expectations({ n: [e.between(0, 5)], table: [e.rowCount({ min: 100 })] }));
    expect(validation.success).toBe(false);
    expect(validation.results.map(({ success }) => success)).toEqual([false, true]);
  });

  it('puts nothing aside where all rows pass', async () => {
    const { quarantined, validation } = await run(0.1, e.expectations({ n: [e.between(0, 9)] }));
    expect([quarantined, validation.quarantine, validation.success]).toEqual([null, undefined, true]);
  });
});
