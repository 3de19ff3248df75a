import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, col, drop, keep, set } from '../../../contracts/row-transforms.ts';
import type { SourceInput } from '../../../contracts/source.ts';
import { SourceSchema } from '../../../contracts/source.ts';
import { type FoldOptionsInput, FoldOptionsSchema, type SplitOptionsInput, SplitOptionsSchema } from '../../../contracts/split.ts';
import { cleanDataset } from '../../../data/clean.ts';
import { datasetFiles, type StoredDataset, storeManifest } from '../../../data/dataset.ts';
import { type SqlRow, toCount, withDuckDb } from '../../../data/duckdb.ts';
import { type IngestedDataset, ingestSource } from '../../../data/ingest.ts';
import { foldDataset, type FoldDatasets, splitDataset, type SplitDatasets } from '../../../data/split.ts';
import { parquetRelation } from '../../../data/sql-text.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

const REAL = fileURLToPath(new URL('../../../../shared/data/', import.meta.url));
const EXCERPTS = fileURLToPath(new URL('../../fixtures/data/', import.meta.url));

let artifacts: FileArtifacts;
let folder: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-splits-'));
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

type Ingest = Partial<Omit<Parameters<typeof ingestSource>[0], 'source' | 'artifacts'>>;
const ingest = (source: SourceInput, more: Ingest = {}): Promise<IngestedDataset> =>
  ingestSource({ source: SourceSchema.parse(source), name: 'data', artifacts, projectFolder: folder, ...more });
let files = 0;
async function table(text: string, more: Ingest = {}): Promise<IngestedDataset> {
  const path = `t${files++}.csv`;
  await writeFile(join(folder, path), text);
  return ingest({ format: 'csv', path }, more);
}
const split = ({ manifest, ref }: StoredDataset, options: SplitOptionsInput): Promise<SplitDatasets> =>
  splitDataset({ manifest, id: ref.id, options: SplitOptionsSchema.parse(options), artifacts });
const fold = ({ manifest, ref }: StoredDataset, options: FoldOptionsInput): Promise<FoldDatasets> =>
  foldDataset({ manifest, id: ref.id, options: FoldOptionsSchema.parse(options), artifacts });
async function relation(...datasets: readonly StoredDataset[]): Promise<string> {
  const all = await Promise.all(datasets.map(({ manifest }) => datasetFiles(artifacts, manifest)));
  return parquetRelation(all.flat().map(({ path }) => path));
}
const query = (sql: string): Promise<readonly SqlRow[]> => withDuckDb({}, (db) => db.rows(sql));
async function values(dataset: StoredDataset, expression: string): Promise<readonly unknown[]> {
  return (await query(`SELECT ${expression} AS v FROM ${await relation(dataset)}`)).map(({ v }) => (typeof v === 'bigint' ? Number(v) : v));
}
const parts = ({ train, validation, test }: SplitDatasets): readonly StoredDataset[] => [train, validation, test];

/** A table of `rows` rows: `id` of its own, `g` of `groups` groups, `t` instants with ties. */
const rowsOf = (rows: number, groups: number): string =>
  `id,g,t,x\n${Array.from({ length: rows }, (_, id) => `${id},g${(id * 7919) % groups},${Math.floor(id / 3)},${(id * 31) % 97}`).join('\n')}\n`;

describe('a grouped split', () => {
  it('puts each row into one part and each group into one part, near the fractions that were asked for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 3, maxLength: 60 }),
        fc.nat(),
        fc.double({ min: 0.05, max: 0.3, noNaN: true }),
        fc.double({ min: 0.05, max: 0.3, noNaN: true }),
        async (sizes, seed, testFraction, validationFraction) => {
          const rows = sizes.flatMap((size, group) => Array.from({ length: size }, () => group));
          const dataset = await table(`id,g\n${rows.map((group, id) => `${id},${group}`).join('\n')}\n`);
          const options: SplitOptionsInput = { by: 'group', column: 'g', seed, testFraction, validationFraction };
          const made = await split(dataset, options);
          const ids = await Promise.all(parts(made).map((part) => values(part, 'id')));
          expect(ids.flat().sort((a, b) => Number(a) - Number(b))).toEqual(rows.map((_, id) => id));
          const groups = await Promise.all(parts(made).map(async (part) => new Set(await values(part, 'g'))));
          expect(groups.reduce((sum, { size }) => sum + size, 0)).toBe(sizes.length);
          for (const part of ids) expect(part).toEqual([...part].sort((a, b) => Number(a) - Number(b)));
          const again = await split(dataset, options);
          expect(parts(again).map(({ ref }) => ref)).toEqual(parts(made).map(({ ref }) => ref));
          const largest = Math.max(...sizes);
          expect(Math.abs(made.test.ref.rows - rows.length * testFraction)).toBeLessThanOrEqual(Math.max(largest, rows.length * testFraction));
          expect(made.leaks?.report.findings.filter(({ kind }) => kind === 'groups')).toEqual([]);
        },
      ),
      { numRuns: 10 },
    );
  });

  it('meets the fractions where there are many groups, whose largest go to any part', async () => {
    const dataset = await table(`id,g\n${Array.from({ length: 40_000 }, (_, id) => `${id},${Math.floor(Math.sqrt(id) * 20)}`).join('\n')}\n`);
    const made = await split(dataset, { by: 'group', column: 'g', seed: 3 });
    expect(made.test.ref.rows / 40_000).toBeCloseTo(0.2, 2);
    expect(made.validation.ref.rows / 40_000).toBeCloseTo(0.1, 2);
    const sets = await Promise.all(parts(made).map(async (part) => new Set(await values(part, 'g'))));
    expect([...sets[0]!].some((group) => sets[1]!.has(group) || sets[2]!.has(group))).toBe(false);
    expect([...sets[1]!].some((group) => sets[2]!.has(group))).toBe(false);
  });

  it('keeps groups whole over several row groups of real flights, whatever the threads', async () => {
    const flights = await ingest(
      { format: 'parquet', path: 'package:vega-datasets/data/flights-3m.parquet' },
      { projectFolder: process.cwd(), sampleRows: 400_000, seed: 2 },
    );
    const ofSamePlan = async (options: SplitOptionsInput): Promise<SplitDatasets> => {
      const made = await split(flights, options);
      const alone = await splitDataset({ manifest: flights.manifest, id: flights.ref.id, options: SplitOptionsSchema.parse(options), artifacts, threads: 1 });
      expect(parts(alone).map(({ ref }) => ref)).toEqual(parts(made).map(({ ref }) => ref));
      return made;
    };
    const made = await ofSamePlan({ by: 'group', column: 'date', leaks: { severity: { groups: 'fail' } } });
    expect(made.leaks?.report.checked).toContain('groups');
    await ofSamePlan({ by: 'stratified', column: 'origin', leaks: 'off' });
  });

  it('leaves a group larger than the test part to training, and takes several columns', async () => {
    const dataset = await table(`id,g,h\n${Array.from({ length: 100 }, (_, id) => `${id},${id < 70 ? 'big' : `s${id % 10}`},${id % 2}`).join('\n')}\n`);
    const made = await split(dataset, { by: 'group', column: 'g', testFraction: 0.2, validationFraction: 0.1 });
    expect(await values(made.train, 'g')).toContain('big');
    const two = await split(dataset, { by: 'group', column: ['g', 'h'] });
    const seen = await Promise.all(parts(two).map(async (part) => new Set(await values(part, "g || '/' || h"))));
    expect(seen.reduce((sum, { size }) => sum + size, 0)).toBe(new Set(seen.flatMap((one) => [...one])).size);
  });

  it('is refused with fewer groups than parts', async () => {
    const dataset = await table('id,g\n1,a\n2,b\n3,a\n4,b\n');
    await expect(split(dataset, { by: 'group', column: 'g' })).rejects.toMatchObject({
      code: 'SPLIT_IMPOSSIBLE',
      message: expect.stringContaining('2 groups') as string,
    });
    await expect(split(dataset, { by: 'group', column: ['g', 'nobody'] })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
  });
});

describe('any split', () => {
  const plans = fc.oneof(
    fc.record({ by: fc.constant('random' as const), seed: fc.nat() }),
    fc.record({ by: fc.constant('stratified' as const), column: fc.constant('g'), seed: fc.nat() }),
    fc.record({ by: fc.constant('group' as const), column: fc.constant('g'), seed: fc.nat() }),
    fc.record({ by: fc.constant('time' as const), column: fc.constant('t') }),
  );

  it('has each row in exactly one part, in the order of the rows, and the same parts for the same seed', async () => {
    await fc.assert(
      fc.asyncProperty(plans, fc.integer({ min: 200, max: 800 }), fc.integer({ min: 3, max: 9 }), async (plan, rows, groups) => {
        const dataset = await table(rowsOf(rows, groups));
        const made = await split(dataset, plan);
        const ids = await Promise.all(parts(made).map((part) => values(part, 'id')));
        expect(ids.flat().sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: rows }, (_, id) => id));
        for (const part of ids) expect(part).toEqual([...part].sort((a, b) => Number(a) - Number(b)));
        expect(parts(await split(dataset, plan)).map(({ ref }) => ref)).toEqual(parts(made).map(({ ref }) => ref));
        if (plan.by === 'time') {
          const [[last], [first, until], [test]] = await Promise.all([
            values(made.train, 'max(t)'),
            Promise.all([values(made.validation, 'min(t)'), values(made.validation, 'max(t)')]).then((found) => found.flat()),
            values(made.test, 'min(t)'),
          ]);
          expect(Number(last)).toBeLessThan(Number(first));
          expect(Number(until)).toBeLessThan(Number(test));
        }
        if (plan.by === 'random')
          expect([made.test.ref.rows, made.validation.ref.rows]).toEqual([Math.round(rows * 0.2), Math.round(rows * 0.3) - Math.round(rows * 0.2)]);
      }),
      { numRuns: 15 },
    );
  });
});

describe('folds', () => {
  const plans = fc.oneof(
    fc.record({ by: fc.constant('random' as const), seed: fc.nat() }),
    fc.record({ by: fc.constant('stratified' as const), column: fc.constant('g'), seed: fc.nat() }),
    fc.record({ by: fc.constant('group' as const), column: fc.constant('g'), seed: fc.nat() }),
  );

  it('judge each row once, by training parts that hold all the others, and take the room of the data once', async () => {
    await fc.assert(
      fc.asyncProperty(plans, fc.integer({ min: 2, max: 6 }), fc.boolean(), async (plan, k, tested) => {
        const dataset = await table(rowsOf(900, 30));
        const made = await fold(dataset, { ...plan, k, ...(tested ? { test: 0.2 } : {}) });
        const all = Array.from({ length: 900 }, (_, id) => id);
        const test = made.test === null ? [] : await values(made.test, 'id');
        expect(test.length > 0).toBe(tested);
        const judged: unknown[] = [];
        for (const { train, validation } of made.folds) {
          const [held, learnt] = await Promise.all([values(validation, 'id'), values(train, 'id')]);
          judged.push(...held);
          expect([...held, ...learnt, ...test].sort((a, b) => Number(a) - Number(b))).toEqual(all);
          expect(train.manifest.profile).not.toBeNull();
          expect(validation.manifest.profile).toBeNull();
        }
        expect(made.folds).toHaveLength(k);
        expect([...judged, ...test].sort((a, b) => Number(a) - Number(b))).toEqual(all);
        expect(new Set(made.folds.flatMap(({ train }) => train.manifest.files.map(({ sha256 }) => sha256))).size).toBe(k);
        const again = await fold(dataset, { ...plan, k, ...(tested ? { test: 0.2 } : {}) });
        expect(again.folds.map(({ train }) => train.ref)).toEqual(made.folds.map(({ train }) => train.ref));
      }),
      { numRuns: 6 },
    );
  });

  it('go forward in time: each is judged after all that it learnt from', async () => {
    const dataset = await table(rowsOf(600, 5));
    const made = await fold(dataset, { by: 'time', column: 't', k: 4, test: 0.1 });
    let before = 0;
    for (const { train, validation } of made.folds) {
      const [[last], [first]] = await Promise.all([values(train, 'max(t)'), values(validation, 'min(t)')]);
      expect(Number(last)).toBeLessThan(Number(first));
      expect(train.ref.rows).toBeGreaterThan(before);
      before = train.ref.rows;
    }
    expect(made.leaks?.report).toEqual({ format: 'millrace-leaks/1', checked: ['rows', 'time'], findings: [] });
  });

  it('are refused with fewer rows, groups or instants than folds', async () => {
    const tiny = await table('id,g,t,x\n1,a,1,1\n2,b,2,2\n3,c,3,3\n');
    for (const options of [{ by: 'random' as const }, { by: 'group' as const, column: 'g' }, { by: 'time' as const, column: 't' }])
      await expect(fold(tiny, { ...options, k: 4 })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
    await expect(fold(tiny, { by: 'random', k: 2, test: 'golden' })).rejects.toMatchObject({
      code: 'SPLIT_IMPOSSIBLE',
      message: expect.stringContaining('no golden set') as string,
    });
  });
});

describe('a golden set', () => {
  it('is drawn by the key alone: a row keeps its lot while data grows, is sorted anew, or changes its columns', async () => {
    const line = (id: number): string => `${id},${(id * 31) % 97}`;
    const ids = Array.from({ length: 2000 }, (_, id) => id);
    const golden = { fraction: 0.2, by: ['id'], seed: 4 };
    const first = await table(`id,x\n${ids.slice(0, 1000).map(line).join('\n')}\n`, { golden });
    const grown = await table(
      `id,x,y\n${[...ids]
        .reverse()
        .map((id) => `${line(id)},new`)
        .join('\n')}\n`,
      { golden },
    );
    const early = new Set(await values(first.golden!, 'id'));
    const late = new Set(await values(grown.golden!, 'id'));
    expect(ids.slice(0, 1000).filter((id) => early.has(id) !== late.has(id))).toEqual([]);
    expect(late.size / 2000).toBeGreaterThan(0.16);
    expect(late.size / 2000).toBeLessThan(0.24);
    const rest = await values(grown, 'id');
    expect(rest.some((id) => late.has(id))).toBe(false);
    expect(rest.length + late.size).toBe(2000);
    expect(grown.manifest.golden).toBe(grown.golden!.ref.id);
    expect(grown.golden!.manifest).toMatchObject({ name: 'data-golden', profile: null });
    const other = await table(`id,x\n${ids.slice(0, 1000).map(line).join('\n')}\n`, { golden: { ...golden, seed: 5 } });
    expect(new Set(await values(other.golden!, 'id'))).not.toEqual(early);
  });

  it('keeps rows of one key together, also where the reader gives the key another type', async () => {
    const golden = { fraction: 0.5, by: ['k'], seed: 0 };
    const whole = await table(`k,v\n${Array.from({ length: 200 }, (_, at) => `${at % 20},${at}`).join('\n')}\n`, { golden });
    const broken = await table(`k,v\n${Array.from({ length: 200 }, (_, at) => `${at % 20},${at}`).join('\n')}\n20.5,1\n`, { golden });
    const lots = new Set(await values(whole.golden!, 'k'));
    expect(lots.size * 10).toBe(whole.golden!.ref.rows);
    expect([...new Set(await values(broken.golden!, 'k'))].filter((key) => key !== 20.5)).toEqual([...lots]);
  });

  it('is the test part of a fixed split, with what the dataset went through since, and stays through its descendants', async () => {
    const dataset = await table(rowsOf(1000, 20), { golden: { fraction: 0.2, by: ['id'], seed: 0 } });
    const { dataset: cleaned } = await cleanDataset({
      manifest: dataset.manifest,
      id: dataset.ref.id,
      rules: [set('double', call('multiply', col('x'), 2)), drop('t'), keep(call('greater', col('x'), 3))],
      artifacts,
    });
    const made = await split(cleaned, { by: 'fixed', group: 'g' });
    expect(made.test.manifest.columns).toEqual(cleaned.manifest.columns);
    expect(made.test.manifest.transforms).toEqual(cleaned.manifest.transforms);
    const wanted = new Set(await values(dataset.golden!, 'CASE WHEN x > 3 THEN id END').then((found) => found.filter((id) => id !== null)));
    expect(new Set(await values(made.test, 'id'))).toEqual(wanted);
    expect((await values(made.test, 'double = 2 * x')).every(Boolean)).toBe(true);
    expect(made.train.manifest.golden).toBe(dataset.golden!.ref.id);
    expect(made.train.ref.rows + made.validation.ref.rows).toBe(cleaned.ref.rows);
    const plain = await split(dataset, { by: 'fixed' });
    expect(plain.test.manifest.files).toEqual(dataset.golden!.manifest.files);
    const folded = await fold(dataset, { by: 'random', k: 3, test: 'golden' });
    expect(folded.test?.manifest.files).toEqual(dataset.golden!.manifest.files);
  });

  it('is refused as a test where the dataset has what its rows cannot be given', async () => {
    const dataset = await table(rowsOf(300, 20), { golden: { fraction: 0.2, seed: 0 } });
    const filled = await storeManifest(artifacts, { ...dataset.manifest, unserved: { x: 'impute' } });
    await expect(split(filled, { by: 'fixed' })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE', problems: [{ column: 'x' }] });
    const stepped = await storeManifest(artifacts, { ...dataset.manifest, columns: dataset.manifest.columns.slice(1) });
    await expect(split(stepped, { by: 'fixed' })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
    await expect(split(await table(rowsOf(30, 3)), { by: 'fixed' })).rejects.toMatchObject({
      code: 'SPLIT_IMPOSSIBLE',
      fix: expect.stringContaining('golden') as string,
    });
  });

  it('is refused where no row falls to it, or its key is no column', async () => {
    await expect(table('a\n1\n', { golden: { fraction: 0.0001, seed: 0 } })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
    await expect(table('a\n1\n', { golden: { fraction: 0.1, by: ['b'], seed: 0 } })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
  });

  it('may be another dataset, of the same columns', async () => {
    const [learnt, test, other] = [await table(rowsOf(300, 20)), await table(rowsOf(60, 20)), await table('a\n1\n2\n3\n')];
    const made = await split(learnt, { by: 'fixed', test: test.ref });
    expect(made.test.ref).toEqual(test.ref);
    expect(made.leaks?.report.findings[0]).toMatchObject({ kind: 'rows', rows: 60 });
    await expect(split(learnt, { by: 'fixed', test: other.ref })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
  });
});

describe('leaks', () => {
  it('are told with their counts: rows, groups, instants and columns that say the target', async () => {
    const lines = Array.from(
      { length: 3000 },
      (_, id) => `${id % 1500},p${id % 300},${id},${((id % 1500) * 37) % 11},${id % 2 === 0 ? 'yes' : 'no'},${id % 2 === 0 ? 'A' : 'B'}`,
    );
    const dataset = await table(`a,patient,at,noise,label,tell\n${lines.join('\n')}\n`);
    const made = await split(dataset, { by: 'random', seed: 1, leaks: { target: 'label', groups: 'patient', time: 'at', ignore: ['at'] } });
    const report = made.leaks!.report;
    expect(report.checked).toEqual(['rows', 'groups', 'time', 'target']);
    const [train, validation, test] = await Promise.all(parts(made).map(async (part) => values(part, 'a')));
    const before = new Set([...train!, ...validation!]);
    const rows = report.findings.filter(({ kind }) => kind === 'rows');
    expect(rows.map((found) => found.rows)).toEqual([validation!.filter((a) => new Set(train).has(a)).length, test!.filter((a) => before.has(a)).length]);
    expect(report.findings.filter(({ kind }) => kind === 'groups').at(-1)?.message).toContain('groups by patient');
    expect(report.findings.filter(({ kind }) => kind === 'time').map((found) => found.column)).toEqual(['at', 'at']);
    // a % 2 and patient say it too: both are even where the row is
    const target = report.findings.filter(({ kind }) => kind === 'target');
    expect(target.map(({ column }) => column)).toContain('tell');
    expect(target.map(({ column }) => column)).not.toContain('noise');
    expect(target.find(({ column }) => column === 'tell')).toMatchObject({ message: 'the column tell alone says label (AUC 1.000)', score: 1 });
    expect(JSON.stringify(report)).not.toContain('p17');
  });

  it('end the split where they may not be, with every one of them', async () => {
    const dataset = await table(`a,g,label\n${Array.from({ length: 600 }, (_, id) => `${id % 50},${id % 40},${id % 2}`).join('\n')}\n`);
    const error: unknown = await split(dataset, {
      by: 'random',
      leaks: { target: 'label', groups: 'g', severity: { rows: 'fail', groups: 'fail', target: 'off' } },
    }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'SPLIT_LEAKS',
      problems: [{ path: 'split.rows' }, { path: 'split.rows' }, { path: 'split.groups' }, { path: 'split.groups' }],
    });
    const off = await split(dataset, { by: 'random', leaks: 'off' });
    expect(off.leaks).toBeNull();
    await expect(split(dataset, { by: 'random', leaks: { target: 'nobody' } })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
  });

  it('see through numbers, classes, amounts and missing values, and take ids and noise for what they are', async () => {
    const lines = Array.from({ length: 4000 }, (_, id) => {
      const noise = (id * 7919) % 1009;
      const price = ((id * 104729) % 10007) / 7;
      const kind = ['red', 'green', 'blue'][(id * 31) % 3] ?? '';
      return `u${id},${noise},${price},${price * 1.19 + 3},${Math.exp(price / 300)},${kind},${kind === 'red' ? 1 : kind === 'green' ? 2 : 3},${price > 1000 ? id : ''}`;
    });
    const dataset = await table(`user,noise,price,gross,grown,kind,code,refund\n${lines.join('\n')}\n`);
    const say = async (target: string, ignore: string[] = []): Promise<unknown> =>
      (await split(dataset, { by: 'random', leaks: { target, ignore } }))
        .leaks!.report.findings.filter(({ kind }) => kind === 'target')
        .map(({ column }) => column);
    expect(new Set((await say('price')) as string[])).toEqual(new Set(['gross', 'grown']));
    expect(await say('kind')).toEqual(['code']);
    expect(await say('code')).toEqual(['kind']);
    const { dataset: late } = await cleanDataset({
      manifest: dataset.manifest,
      id: dataset.ref.id,
      rules: [set('dear', call('greater', col('price'), 1000)), drop('price', 'gross', 'grown')],
      artifacts,
    });
    const found = (await split(late, { by: 'random', leaks: { target: 'dear' } })).leaks!.report.findings;
    expect(found.map(({ column }) => column)).toEqual(['refund']);
  });

  const CARDS = existsSync(`${REAL}creditcard`) ? `${REAL}creditcard/creditcard_trunc40pct.parquet` : `${EXCERPTS}creditcard.parquet`;
  it('of real card payments: the duplicates that a random split puts on both sides', async () => {
    const raw = await ingest({ format: 'parquet', path: CARDS });
    const index = raw.manifest.columns.map(({ name }) => name).filter((name) => name.startsWith('Unnamed'));
    const features = raw.manifest.columns.map(({ name }) => name).filter((name) => !index.includes(name) && name !== 'label');
    const made = await split(raw, { by: 'random', seed: 0, leaks: { target: 'label', ignore: index } });
    const list = features.map((name) => `"${name}"`).join(', ');
    const [whole] = await query(`SELECT count(*) - count(DISTINCT (${list})) AS n FROM ${await relation(raw)}`);
    if (CARDS.startsWith(REAL)) expect(toCount(whole!['n'])).toBe(22_933);
    const [straddling] = await query(
      `SELECT count(*) AS n FROM ${await relation(made.test)} WHERE (${list}) IN (SELECT (${list}) FROM ${await relation(made.train, made.validation)})`,
    );
    const found = made.leaks!.report.findings.filter(({ kind }) => kind === 'rows').at(-1);
    expect(found?.rows).toBe(toCount(straddling!['n']));
    expect(found?.rows).toBeGreaterThan(0);
    // No column of these says a fraud by itself.
    expect(made.leaks!.report.findings.filter(({ kind }) => kind === 'target')).toEqual([]);
    const apart = await split(raw, { by: 'group', column: features.slice(0, 20), leaks: { target: 'label', ignore: index } });
    expect(apart.leaks!.report.findings.filter(({ kind }) => kind === 'rows')).toEqual([]);
  }, 60_000);

  const ADULT = existsSync(`${REAL}adult`) ? `${REAL}adult/adult-*.csv` : `${EXCERPTS}adult.csv`;
  it('of the real census: a few people are there twice, and no column says the income', async () => {
    const raw = await ingest({ format: 'csv', path: ADULT, header: ADULT_COLUMNS });
    const made = await split(raw, { by: 'random', seed: 0, leaks: { target: 'income' } });
    const rows = made.leaks!.report.findings.filter(({ kind }) => kind === 'rows');
    const list = ADULT_COLUMNS.slice(0, -1)
      .map((name) => `"${name}"`)
      .join(', ');
    const [straddling] = await query(
      `SELECT count(*) AS n FROM ${await relation(made.test)} WHERE (${list}) IN (SELECT (${list}) FROM ${await relation(made.train, made.validation)})`,
    );
    expect(rows.at(-1)?.rows).toBe(toCount(straddling!['n']));
    expect(made.leaks!.report.findings.filter(({ kind }) => kind === 'target')).toEqual([]);
  }, 60_000);
});

const ADULT_COLUMNS = [
  'age',
  'workclass',
  'fnlwgt',
  'education',
  'education_num',
  'marital_status',
  'occupation',
  'relationship',
  'race',
  'sex',
  'capital_gain',
  'capital_loss',
  'hours_per_week',
  'native_country',
  'income',
];
