/** Recipes: what each rule does, what it remembers, and that a request is treated the same. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as c from '../../../contracts/clean-rules.ts';
import { call, col, keep, type RowTransform, RowTransformSchema, set } from '../../../contracts/row-transforms.ts';
import { type CleanedDatasets, cleanDataset } from '../../../data/clean.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { type SqlRow, withDuckDb } from '../../../data/duckdb.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { compileRowTransforms } from '../../../data/row-transforms.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

type Rule = c.CleanRule | RowTransform;
let artifacts: FileArtifacts;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
afterAll(() => artifacts.remove());

let files = 0;
async function dataset(
  rows: readonly object[],
  types: Readonly<Record<string, 'number' | 'integer' | 'boolean' | 'string' | 'timestamp' | 'date'>>,
): Promise<StoredDataset> {
  const name = `rows-${String(files++)}.jsonl`;
  await writeFile(join(artifacts.folder, name), rows.map((row) => JSON.stringify(row)).join('\n'));
  return ingestSource({ source: { format: 'jsonl', path: name, types }, name: 'rows', artifacts, projectFolder: artifacts.folder });
}
const clean = (data: StoredDataset, rules: readonly Rule[], more: Partial<Parameters<typeof cleanDataset>[0]> = {}): Promise<CleanedDatasets> =>
  cleanDataset({ manifest: data.manifest, id: data.ref.id, rules, artifacts, threads: 1, ...more });
async function rowsOf({ manifest }: StoredDataset, list = '*'): Promise<readonly SqlRow[]> {
  const paths = (await datasetFiles(artifacts, manifest)).map(({ path }) => `'${path}'`);
  return withDuckDb({ threads: 1 }, (db) => db.rows(`SELECT ${list} FROM read_parquet([${paths.join(', ')}])`));
}
const values = async (data: StoredDataset, column: string): Promise<unknown[]> =>
  (await rowsOf(data, `"${column}" AS v`)).map(({ v }) => (typeof v === 'bigint' ? Number(v) : v));
const ofTexts = async (texts: readonly (string | null)[], rules: readonly Rule[]): Promise<unknown[]> =>
  values(
    (
      await clean(
        await dataset(
          texts.map((s) => ({ s })),
          { s: 'string' },
        ),
        rules,
      )
    ).dataset,
    's',
  );

describe('rules for texts', () => {
  it('trim, change case, normalise and say what is missing', async () => {
    expect(await ofTexts([' A ', 'a\u0301', '?', null], [c.trim('text'), c.lowerCase(['s']), c.normalizeUnicode(['s']), c.nullIf('text', ['?'])])).toEqual([
      'a',
      'á',
      null,
      null,
    ]);
    expect(await ofTexts(['ß', 'x.'], [c.upperCase(['s']), c.replaceText(['s'], /(X)\.$/, '<\\1>')])).toEqual(['ẞ', '<X>']);
  });

  it('map values, to null too, and keep or empty the others', async () => {
    const map = { a: 'x', b: 'x', c: null, d: 'y' };
    expect(await ofTexts(['a', 'b', 'c', 'd', 'e', null], [c.mapValues(['s'], map)])).toEqual(['x', 'x', null, 'y', 'e', null]);
    expect(await ofTexts(['a', 'b', 'c', 'd', 'e', null], [c.mapValues(['s'], map, { others: 'null' })])).toEqual(['x', 'x', null, 'y', null, null]);
    expect(await ofTexts(['a'], [c.mapValues(['s'], { a: null }, { others: 'null' })])).toEqual([null]);
  });

  it('read numbers with units, percents, currencies and signs between thousands', async () => {
    const read = c.parseNumber(['s'], { units: { oz: 1, 'oz.': 1, kg: 1000, g: 1 } });
    expect(await ofTexts(['12.0 oz', '12 OZ.', '2 kg', '3g', '5 %', '$1,200.50', '-$3', '7 €', '1e3', 'N/A', ''], [read])).toEqual([
      12,
      12,
      2000,
      3,
      0.05,
      1200.5,
      -3,
      7,
      1000,
      null,
      null,
    ]);
    expect(await ofTexts(['0.05%', "1'000,5"], [c.parseNumber(['s'], { percent: 'number', thousands: "'", decimal: ',' })])).toEqual([null, 1000.5]);
    expect(await ofTexts(['0.05%'], [c.parseNumber(['s'], { percent: 'number' })])).toEqual([0.05]);
  });

  it('read dates in the formats that are named, in their order, and no others', async () => {
    const texts = [
      '3.2.2001',
      '31.02.2001',
      'Feb 3, 2001 7:05 p.m.',
      'february 3, 2001 12:30 am',
      'February 3, 2001 12:30 PM',
      '2001-02-03',
      'Feb 3, 2001 13:05 pm',
    ];
    const read = await clean(
      await dataset(
        texts.map((s) => ({ s })),
        { s: 'string' },
      ),
      [c.parseDate(['s'], ['%d.%m.%Y', '%b %d, %Y %I:%M %p', '%B %d, %Y %I:%M %p'])],
    );
    expect((await rowsOf(read.dataset, "strftime(s, '%Y-%m-%dT%H:%M') AS v")).map(({ v }) => v)).toEqual([
      '2001-02-03T00:00',
      null,
      '2001-02-03T19:05',
      '2001-02-03T00:30',
      '2001-02-03T12:30',
      null,
      null,
    ]);
    expect(read.dataset.manifest.columns).toEqual([{ name: 's', type: 'timestamp' }]);
    await expect(ofTexts(['x'], [c.parseDate(['s'], '%d.%m')])).rejects.toMatchObject({ code: 'INVALID_PARAMETERS' });
    await expect(ofTexts(['x'], [c.parseDate(['s'], '%Q')])).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      message: expect.stringContaining('%Q') as string,
    });
  });

  it('take a part of one column into another that misses it', async () => {
    const data = await dataset(
      [
        { city: 'San Diego CA', state: null },
        { city: 'Bend OR', state: 'OR' },
        { city: 'Rome', state: null },
      ],
      { city: 'string', state: 'string' },
    );
    const { dataset: made } = await clean(data, [c.extract({ from: 'city', pattern: / ([A-Z]{2})$/, into: 'state', remove: true })]);
    expect(await rowsOf(made)).toEqual([
      { city: 'San Diego', state: 'CA' },
      { city: 'Bend OR', state: 'OR' },
      { city: 'Rome', state: null },
    ]);
  });

  it('are refused for columns that are not there or of another type, with all of them', async () => {
    const data = await dataset([{ s: 'a', n: 1 }], { s: 'string', n: 'integer' });
    await expect(clean(data, [c.trim(['s', 'x', 'y'])])).rejects.toMatchObject({ code: 'COLUMN_MISSING', problems: [{ column: 'x' }, { column: 'y' }] });
    await expect(clean(data, [c.trim(['n'])])).rejects.toMatchObject({ code: 'COLUMN_TYPE', problems: [{ column: 'n' }] });
    await expect(clean(data, [c.clip(['s'], { by: 'range', max: 1 })])).rejects.toMatchObject({ code: 'COLUMN_TYPE' });
  });
});

describe('figures', () => {
  const rows = [1, 2, 2, 3, 4, 100, null].map((n, i) => ({ n, g: i % 2 === 0 ? 'a' : 'b', s: i < 2 ? 'x' : i < 5 ? 'y' : null }));
  const types = { n: 'integer', g: 'string', s: 'string' } as const;

  it('come from the rows that are named, and are refused where none are', async () => {
    const data = await dataset(rows, types);
    await expect(clean(data, [c.impute(['n'], 'mean'), c.clip(['n'], { by: 'iqr' })])).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      fix: expect.stringContaining('clean(parts, rules)') as string,
    });
    const training = await dataset(
      [
        { n: 10, g: 'a', s: 'q' },
        { n: 20, g: 'a', s: 'q' },
      ],
      types,
    );
    const made = await clean(data, [c.impute(['n'], 'mean')], { fitOn: { manifest: training.manifest, id: training.ref.id } });
    expect(await values(made.dataset, 'n')).toEqual([1, 2, 2, 3, 4, 100, 15]);
    expect(made.dataset.manifest.transforms).toEqual([{ kind: 'set', column: 'n', to: call('coalesce', col('n'), 15) }]);
  });

  it('impute the median, the most frequent value, one that is named, and by groups', async () => {
    const data = await dataset(rows, types);
    const own = { fitOn: { manifest: data.manifest, id: data.ref.id } };
    expect((await values((await clean(data, [c.impute(['n'], 'median')], own)).dataset, 'n')).at(-1)).toBe(2);
    expect(await values((await clean(data, [c.impute(['s'], 'mode')], own)).dataset, 's')).toEqual(['x', 'x', 'y', 'y', 'y', 'y', 'y']);
    expect((await values((await clean(data, [c.impute(['n'], { value: -1 })])).dataset, 'n')).at(-1)).toBe(-1);
    const { dataset: grouped, report } = await clean(data, [c.impute(['n'], 'median', { by: 'g' })], own);
    // of a: 1, 2, 4; of b: 2, 3, 100
    expect((await values(grouped, 'n')).at(-1)).toBe(2);
    expect(report.rules[0]?.columns[0]).toMatchObject({ changed: 1, filled: 1, fitted: { a: 2, b: 3, value: 2 } });
  });

  it('bound by quartiles and by deviations', async () => {
    const data = await dataset(rows, types);
    const own = { fitOn: { manifest: data.manifest, id: data.ref.id } };
    // quartiles 2 and 4: bounds −1 and 7
    expect(await values((await clean(data, [c.clip(['n'], { by: 'iqr' })], own)).dataset, 'n')).toEqual([1, 2, 2, 3, 4, 7, null]);
    const { dataset: kept, report } = await clean(data, [c.dropOutliers(['n'], { by: 'zScore', k: 2 })], own);
    expect(await values(kept, 'n')).toEqual([1, 2, 2, 3, 4, null]);
    expect(report.rules[0]).toMatchObject({ rowsBefore: 7, rowsAfter: 6 });
    // a request is never left out
    expect(kept.manifest.transforms).toEqual([]);
  });

  it('of the training part are applied to the others, whose rows all stay', async () => {
    const [train, test] = [
      await dataset(rows, types),
      await dataset(
        [
          { n: null, g: 'z', s: null },
          { n: 1000, g: 'a', s: 'x' },
        ],
        types,
      ),
    ];
    const made = await clean(
      train,
      [c.clip(['n'], { by: 'iqr' }), c.impute(['n'], 'mean'), c.dropOutliers(['n'], { by: 'range', max: 5 }), c.deduplicate({ by: ['g'] })],
      {
        fitOn: { manifest: train.manifest, id: train.ref.id },
        alongside: { test: { manifest: test.manifest, id: test.ref.id } },
      },
    );
    // clipped: 1, 2, 2, 3, 4, 7; their mean 19 ÷ 6
    expect(await values(made.alongside['test']!, 'n')).toEqual([expect.closeTo(19 / 6, 9), 7]);
    expect(await values(made.dataset, 'n')).toEqual([1, 2]);
    expect(made.alongside['test']!.manifest.transforms).toEqual(made.dataset.manifest.transforms);
    expect(made.alongside['test']!.manifest.parents).toEqual([test.ref.id]);
  });
});

describe('rules over many rows', () => {
  const rows = [
    { k: 'a', v: 'x', t: 1 },
    { k: 'a', v: 'x', t: 1 },
    { k: 'b', v: 'y', t: 5 },
    { k: 'a', v: 'z', t: 9 },
  ];
  const types = { k: 'string', v: 'string', t: 'integer' } as const;

  it('leave one of the rows that are alike, in order', async () => {
    const data = await dataset(rows, types);
    expect(await values((await clean(data, [c.deduplicate()])).dataset, 't')).toEqual([1, 5, 9]);
    expect(await values((await clean(data, [c.deduplicate({ by: ['k'] })])).dataset, 't')).toEqual([1, 5]);
    expect(await values((await clean(data, [c.deduplicate({ by: ['k'], keep: 'last' })])).dataset, 't')).toEqual([5, 9]);
    const { dataset: latest, report } = await clean(data, [c.deduplicate({ by: ['k'], keep: { latest: 't' } })]);
    expect(await values(latest, 'v')).toEqual(['y', 'z']);
    expect(report.rules).toMatchObject([{ rowsBefore: 4, rowsAfter: 2 }]);
    expect(latest.manifest.unserved).toEqual({});
  });

  it('give each group the value with most votes, and name the column as unserved', async () => {
    const data = await dataset([...rows, { k: 'b', v: null, t: 0 }], types);
    const { dataset: made, report } = await clean(data, [c.fillFromMajority(['v'], { by: ['k'] }), set('w', call('upper', col('v'))), set('u', col('k'))]);
    expect(await values(made, 'v')).toEqual(['x', 'x', 'y', 'x', 'y']);
    expect(report.rules[0]?.columns).toEqual([{ column: 'v', changed: 2, madeNull: 0, filled: 1 }]);
    // what is made from it is unserved with it, what is not is served
    expect(made.manifest.unserved).toEqual({ v: 'the rule fillFromMajority', w: 'the rule fillFromMajority' });
  });

  it('weigh sources by what they agree on, and by those that are trusted', async () => {
    // two sources copy a mistake from each other; a third, that is right, is trusted for some of the things it speaks of
    const claims = Array.from({ length: 12 }, (_, i) => i).flatMap((thing) => [
      { thing, who: 'wrong-1', v: `no-${String(thing)}` },
      { thing, who: 'wrong-2', v: `no-${String(thing)}` },
      { thing, who: 'right', v: `yes-${String(thing)}` },
      ...(thing < 6 ? [{ thing, who: 'official', v: `yes-${String(thing)}` }] : []),
    ]);
    const data = await dataset(claims, { thing: 'integer', who: 'string', v: 'string' });
    const shareRight = async (rule: c.CleanRule): Promise<number> => {
      const found = await values((await clean(data, [rule])).dataset, 'v');
      return found.filter((v) => String(v).startsWith('yes')).length / found.length;
    };
    expect(await shareRight(c.fillFromMajority(['v'], { by: ['thing'] }))).toBeLessThan(0.6);
    expect(await shareRight(c.fillFromMajority(['v'], { by: ['thing'], source: 'who', trusted: ['official'] }))).toBe(1);
    const bytes = async (threads: number): Promise<string> =>
      (await clean(data, [c.fillFromMajority(['v'], { by: ['thing'], source: 'who' })], { threads })).dataset.ref.id;
    expect(await bytes(1)).toBe(await bytes(2));
  });
});

describe('the report', () => {
  it('counts what each rule changed, filled and emptied', async () => {
    const data = await dataset([{ s: ' 1' }, { s: '2' }, { s: 'x' }, { s: null }], { s: 'string' });
    const { report } = await clean(data, [c.trim('text'), c.parseNumber(['s']), c.impute(['s'], { value: 0 }), keep(call('greater', col('s'), 0))]);
    expect(
      report.rules.map(({ rowsBefore, rowsAfter, columns }) => [
        rowsBefore,
        rowsAfter,
        ...columns.map(({ changed, madeNull, filled }) => [changed, madeNull, filled]),
      ]),
    ).toEqual([
      [4, 4, [1, 0, 0]],
      [4, 4, [3, 1, 0]],
      [4, 4, [2, 0, 2]],
      [4, 2],
    ]);
  });
});

describe('a request', () => {
  const rules: readonly Rule[] = [
    c.trim('text'),
    c.nullIf('text', ['?', '']),
    c.normalizeUnicode(['s']),
    c.replaceText(['s'], '[0-9]+', '#'),
    c.mapValues(['s'], { a: 'letter', '#': null, '-': 'dash' }),
    c.parseNumber(['n'], { units: { oz: 1, kg: 1000 } }),
    c.clip(['n'], { by: 'range', min: -10, max: 1500 }),
    c.impute(['n'], { value: 7 }),
    c.parseDate(['d'], ['%d.%m.%Y', '%b %d, %Y %I:%M %p']),
    c.extract({ from: 's', pattern: ' ([A-Z]{2})$', into: 'e', remove: true }),
    c.impute(['e'], { value: 'none' }),
  ];
  const text = (...common: string[]): fc.Arbitrary<string | null> =>
    fc.option(
      fc.oneof(
        fc.constantFrom(...common, '', ' ', '?'),
        fc.string({ maxLength: 8, unit: 'grapheme' }).filter((s) => !/[\0\u0001]/.test(s)),
      ),
      { nil: null },
    );
  const row = fc.record({
    s: text('a', '-', '12', 'x CA', 'Å', 'A\u030a'),
    n: text('12 oz', '3.5 KG', '$1,234', '5%', '-99', '1e9', '.5', '+7'),
    d: text('1.2.2003', '31.4.2001', '29.02.2000', 'Feb 3, 2001 7:05 p.m.', 'Dec 31, 1999 12:00 AM', '2001-01-01'),
    e: text('OR'),
  });

  it('is treated by a recipe as the training rows were, for any row', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 10 }), async (rows) => {
        const data = await dataset([...rows, { s: 'z', n: '1', d: '1.1.2001', e: 'x' }], { s: 'string', n: 'string', d: 'string', e: 'string' });
        const { dataset: made } = await clean(data, rules);
        const apply = compileRowTransforms(
          made.manifest.transforms.map((transform) => RowTransformSchema.parse(transform)),
          made.manifest.rawColumns,
        );
        const trained = await rowsOf(made, 's, n, epoch_ms(d)::DOUBLE AS d, e');
        expect(rows.map((one) => apply(one))).toEqual(trained.slice(0, -1));
      }),
      { numRuns: 20 },
    );
  });
});

const shared = fileURLToPath(new URL('../../../../shared/data/', import.meta.url));
const fixtures = fileURLToPath(new URL('../../fixtures/data/', import.meta.url));
const wholeSet = existsSync(shared);
/** The whole set where it lies beside the project, else the excerpt of it that the project has. */
const real = (name: string): string => (wholeSet ? join(shared, name) : join(fixtures, name.replaceAll('/', '-')));

async function asText(path: string, name: string): Promise<StoredDataset> {
  const header = (await ingestSource({ source: { format: 'csv', path }, name, artifacts, projectFolder: artifacts.folder, sampleRows: 1 })).manifest.columns;
  const types = Object.fromEntries(header.map((column) => [column.name, 'string' as const]));
  return ingestSource({ source: { format: 'csv', path, types, nullValues: [] }, name, artifacts, projectFolder: artifacts.folder });
}

interface Repair {
  readonly wrong: number;
  readonly repaired: number;
  readonly broken: number;
  readonly f1: number;
}
/** Cells of `made` against the truth, by position; missing and empty are the same, white space at the ends is none. */
async function repairOf(dirty: StoredDataset, made: StoredDataset, truth: StoredDataset): Promise<Repair> {
  const cell = (value: unknown): string => (typeof value === 'string' ? value.trim() : typeof value === 'number' ? value.toString() : '');
  const [before, after, right] = [await rowsOf(dirty), await rowsOf(made), await rowsOf(truth)];
  const count = { wrong: 0, repaired: 0, broken: 0, changed: 0 };
  before.forEach((row, at) => {
    const [were, are, should] = [Object.values(row), Object.values(after[at] ?? {}), Object.values(right[at] ?? {})].map((list) => list.map(cell)) as [
      string[],
      string[],
      string[],
    ];
    were.forEach((was, index) => {
      const [is, wanted] = [are[index], should[index]];
      if (was !== wanted) count.wrong++;
      if (was !== is) count.changed++;
      if (was !== wanted && is === wanted) count.repaired++;
      if (was === wanted && is !== wanted) count.broken++;
    });
  });
  const [precision, recall] = [count.repaired / Math.max(1, count.changed), count.repaired / Math.max(1, count.wrong)];
  return { wrong: count.wrong, repaired: count.repaired, broken: count.broken, f1: (2 * precision * recall) / Math.max(1e-9, precision + recall) };
}
const told = (what: string, { wrong, repaired, broken, f1 }: Repair): string =>
  `${what}: ${String(repaired)} of ${String(wrong)} wrong cells repaired, ${String(broken)} right ones broken, F1 ${f1.toFixed(3)}\n`;

describe('real dirty data', () => {
  it('beers: a recipe of a few lines repairs at least 98 % of the wrong cells and breaks none', async () => {
    const [dirty, truth] = [await asText(real('beers/dirty.csv'), 'beers'), await asText(real('beers/clean.csv'), 'beers-truth')];
    const { dataset: made } = await clean(dirty, [
      c.nullIf('text', ['', 'N/A']),
      c.replaceText(['ounces'], / [A-Za-z].*$/, ''),
      c.parseNumber(['ounces', 'abv'], { percent: 'number' }),
      set('abv', call('round', col('abv'), 6)),
      c.extract({ from: 'city', pattern: / ([A-Z]{2})$/, into: 'state', remove: true }),
    ]);
    const repair = await repairOf(dirty, made, truth);
    process.stdout.write(told('beers', repair));
    expect(repair.repaired / repair.wrong).toBeGreaterThanOrEqual(0.98);
    expect(repair.broken).toBe(0);
    if (wholeSet) expect(repair.wrong).toBe(4362);
  });

  it('flights: votes weighted by sources repair as much as a plain majority and break fewer', async () => {
    const [dirty, truth] = [await asText(real('flights/dirty.csv'), 'flights'), await asText(real('flights/clean.csv'), 'flights-truth')];
    const times = ['sched_dep_time', 'act_dep_time', 'sched_arr_time', 'act_arr_time'];
    const by = (options: { readonly source?: string; readonly trusted?: readonly string[] }) => [
      c.nullIf('text', ['']),
      c.fillFromMajority(times, { by: ['flight'], ...options } as never),
    ];
    const plain = await repairOf(dirty, (await clean(dirty, by({}))).dataset, truth);
    const learnt = await repairOf(dirty, (await clean(dirty, by({ source: 'src' }))).dataset, truth);
    // the airlines' own sites are the ones to believe of their own flights
    const weighted = await repairOf(dirty, (await clean(dirty, by({ source: 'src', trusted: ['aa', 'CO', 'ua'] }))).dataset, truth);
    const ceiling = await repairOf(dirty, await ceilingOf(dirty, truth, times), truth);
    process.stdout.write(
      told('flights, plain majority', plain) +
        told('flights, sources weighted by agreement alone', learnt) +
        told("flights, sources weighted, airlines' own sites trusted", weighted) +
        told('flights, ceiling: weights from the truth', ceiling),
    );
    expect(weighted.repaired).toBeGreaterThanOrEqual(plain.repaired);
    expect(weighted.broken).toBeLessThan(plain.broken);
    if (wholeSet) expect(plain.wrong).toBe(4920);
  });

  /** Votes weighted by each source's accuracy for the column as the truth tells it: what no rule can know. */
  async function ceilingOf(dirty: StoredDataset, truth: StoredDataset, columns: readonly string[]): Promise<StoredDataset> {
    const paths = await Promise.all([dirty, truth].map(async ({ manifest }) => (await datasetFiles(artifacts, manifest))[0]?.path ?? ''));
    const rows = await withDuckDb({ threads: 1 }, async (db) => {
      await db.run(
        `CREATE TEMPORARY TABLE d AS SELECT * REPLACE (${columns.map((name) => `nullif(trim(${name}), '') AS ${name}`).join(', ')}), row_number() OVER () AS n FROM read_parquet('${paths[0] ?? ''}')`,
      );
      await db.run(`CREATE TEMPORARY TABLE t AS SELECT *, row_number() OVER () AS n FROM read_parquet('${paths[1] ?? ''}')`);
      let from = 'd';
      for (const name of columns) {
        const accuracy = `SELECT d.src, (count(*) FILTER (WHERE d.${name} = trim(t.${name})) + 0.5) / (count(*) + 1) AS a FROM d JOIN t USING (n) WHERE d.${name} IS NOT NULL GROUP BY d.src`;
        const scored = `SELECT flight, ${name} AS v, sum(ln(least(greatest(a, 0.001), 0.999) / (1 - least(greatest(a, 0.001), 0.999)))) AS score FROM d JOIN (${accuracy}) USING (src) WHERE ${name} IS NOT NULL GROUP BY ALL`;
        await db.run(
          `CREATE TEMPORARY TABLE best_${name} AS SELECT flight, v FROM (SELECT *, row_number() OVER (PARTITION BY flight ORDER BY round(score, 9) DESC, v) AS place FROM (${scored})) WHERE place = 1`,
        );
        from += ` LEFT JOIN best_${name} ON best_${name}.flight = d.flight`;
      }
      return db.rows(
        `SELECT d.* EXCLUDE (n) REPLACE (${columns.map((name) => `coalesce(best_${name}.v, d.${name}) AS ${name}`).join(', ')}) FROM ${from} ORDER BY d.n`,
      );
    });
    return dataset(rows, Object.fromEntries(Object.keys(rows[0] ?? {}).map((name) => [name, 'string' as const])));
  }

  it('adult: reads as it is, with a recipe of a few lines', async () => {
    const names =
      'age workclass fnlwgt education education_num marital_status occupation relationship race sex capital_gain capital_loss hours_per_week native_country income'.split(
        ' ',
      );
    const read = (file: string) =>
      ingestSource({
        source: { format: 'csv', path: file === '' ? join(fixtures, 'adult.csv') : real(`adult/${file}`), header: names },
        name: 'adult',
        artifacts,
        projectFolder: artifacts.folder,
      });
    const recipe = [c.trim('text'), c.nullIf('text', ['?']), c.replaceText(['income'], /\.$/, '')];
    const parts = wholeSet ? [await read('adult-train.csv'), await read('adult-test.csv')] : [await read('')];
    const made = await Promise.all(parts.map(async (part) => (await clean(part, recipe)).dataset));
    const rows = (await Promise.all(made.map((part) => rowsOf(part, 'income, workclass, age')))).flat();
    expect(new Set(rows.map(({ income }) => income))).toEqual(new Set(['<=50K', '>50K']));
    expect(rows.some(({ workclass }) => workclass === null)).toBe(true);
    expect(rows.every(({ workclass }) => workclass !== '?' && (workclass === null || (typeof workclass === 'string' && workclass === workclass.trim())))).toBe(
      true,
    );
    if (wholeSet) expect(rows).toHaveLength(48_842);
  });
});
