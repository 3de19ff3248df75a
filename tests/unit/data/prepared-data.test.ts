import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as e from '../../../contracts/expectations.ts';
import type { Profile } from '../../../contracts/profile.ts';
import { type SplitOptionsInput, SplitOptionsSchema } from '../../../contracts/split.ts';
import { datasetFiles, type StoredDataset } from '../../../data/dataset.ts';
import { measureDrift } from '../../../data/drift.ts';
import { expectedPsi } from '../../../ml/drift/two-samples.ts';
import { checkExpectations, expectationsFailed } from '../../../data/expectations.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { profileDataset } from '../../../data/profile.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { rankBound, rowRank } from '../../../data/row-rank.ts';
import { splitDataset } from '../../../data/split.ts';
import { validateDataset } from '../../../data/validate.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

const SAMPLE = 20_000;
let artifacts: FileArtifacts;
let flights: StoredDataset;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  flights = await ingestSource({
    source: { format: 'parquet', path: 'package:vega-datasets/data/flights-3m.parquet' },
    name: 'flights',
    artifacts,
    projectFolder: process.cwd(),
    sampleRows: SAMPLE,
    seed: 1,
  });
});
afterAll(() => artifacts.remove());

const paths = async ({ manifest }: StoredDataset): Promise<string[]> => (await datasetFiles(artifacts, manifest)).map(({ path }) => path);
const numbers = async (dataset: StoredDataset, column: string): Promise<Float64Array> => {
  const found = (await readColumns(await paths(dataset), [column])).columns.get(column)!;
  return found.kind === 'string' ? Float64Array.from(found.codes) : found.values;
};
const csv = async (name: string, content: string): Promise<StoredDataset> => {
  await writeFile(join(artifacts.folder, name), content);
  return ingestSource({ source: { format: 'csv', path: name }, name: 'small', artifacts, projectFolder: artifacts.folder });
};

describe('the rank of rows', () => {
  it('draws exactly as many rows as asked, and nobody twice, for any size and seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), fc.nat(), fc.double({ min: 0, max: 1, noNaN: true }), (rows, seed, share) => {
        const count = Math.round(rows * share);
        const bound = rankBound(rows, seed, count);
        const ranks = Array.from({ length: rows }, (_, row) => rowRank(row, seed));
        expect(ranks.filter((rank) => rank < bound)).toHaveLength(count);
        expect(new Set(ranks).size).toBe(rows);
      }),
      { numRuns: 100 },
    );
  });
});

describe('reading columns', () => {
  it('gives numbers with NaN for null, instants in milliseconds, and sorted dictionaries', async () => {
    const small = await csv('read.csv', 'n,t,s,b,d\n1.5,2001-01-01 00:00:00.123,b,true,2001-01-02\n,,,,\n2,1969-12-31 23:59:59.999,a,false,1970-01-01\n');
    const table = await readColumns(await paths(small), ['n', 't', 's', 'b', 'd']);
    expect(table.columns.get('n')).toEqual({ kind: 'number', values: Float64Array.of(1.5, NaN, 2) });
    expect(table.columns.get('t')).toEqual({ kind: 'timestamp', values: Float64Array.of(Date.UTC(2001, 0, 1, 0, 0, 0, 123), NaN, -1) });
    expect(table.columns.get('s')).toEqual({ kind: 'string', codes: Int32Array.of(1, -1, 0), dictionary: ['a', 'b'] });
    expect(table.columns.get('b')).toEqual({ kind: 'number', values: Float64Array.of(1, NaN, 0) });
    expect(table.columns.get('d')).toEqual({ kind: 'timestamp', values: Float64Array.of(Date.UTC(2001, 0, 2), NaN, 0) });
  });

  it('draws the same rows for the same seed, in row order, and others for another', async () => {
    const draw = async (seed: number): Promise<number[]> => {
      const table = await readColumns(await paths(flights), ['date'], { sampleRows: 500, seed });
      return [...(table.columns.get('date') as { values: Float64Array }).values];
    };
    const first = await draw(1);
    expect(first).toHaveLength(500);
    expect(await draw(1)).toEqual(first);
    expect(await draw(2)).not.toEqual(first);
    expect(first).toEqual([...first].sort((a, b) => a - b));
  });

  it('names every column that is missing and all there are', async () => {
    const error = await readColumns(await paths(flights), ['date', 'x', 'y']).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'COLUMN_MISSING', message: expect.stringMatching(/x, y.*date, delay, distance, origin, destination/) as string });
  });
});

describe('a profile', () => {
  it('agrees with the figures worked out in JavaScript over all values', async () => {
    const files = await datasetFiles(artifacts, flights.manifest);
    const profile = await profileDataset(files, flights.manifest.columns);
    const delays = (await numbers(flights, 'delay')).sort();
    const delay = profile.columns.find(({ name }) => name === 'delay')!;
    const mean = delays.reduce((sum, value) => sum + value, 0) / delays.length;
    const variance = delays.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (delays.length - 1);
    expect(delay.values).toMatchObject({ kind: 'number', min: delays[0], max: delays.at(-1) });
    if (delay.values.kind !== 'number') throw new Error('a number was expected');
    expect(delay.values.mean).toBeCloseTo(mean, 9);
    expect(delay.values.standardDeviation).toBeCloseTo(Math.sqrt(variance), 9);
    for (const { q, value } of delay.values.quantiles) expect(value).toBe(delays[Math.ceil(q * delays.length) - 1]);
    expect(delay.values.histogram.counts.reduce((sum, count) => sum + count, 0)).toBe(SAMPLE);
    expect(delay.distinct).toBe(new Set(delays).size);
  });

  it('is the same whatever the number of threads, also for doubles of many values', async () => {
    const doubles = await csv('doubles.csv', `x\n${Array.from({ length: 150_000 }, (_, row) => String(rowRank(row, 3) / 7)).join('\n')}\n`);
    const files = await datasetFiles(artifacts, doubles.manifest);
    const [one, two] = [
      await profileDataset(files, doubles.manifest.columns, { threads: 1 }),
      await profileDataset(files, doubles.manifest.columns, { threads: 4 }),
    ];
    expect(one).toEqual(two);
    const values = (await numbers(doubles, 'x')).sort();
    const [x] = one.columns;
    if (x?.values.kind !== 'number') throw new Error('a number was expected');
    expect(x.values.mean! / (values.reduce((sum, value) => sum + value, 0) / values.length)).toBeCloseTo(1, 11);
    expect(x.values.quantiles.find(({ q }) => q === 0.5)?.value).toBe(values[74_999]);
  });

  it('says of a column without values that there are none', async () => {
    const empty = await csv('nulls.csv', 'a,b\n1,\n2,\n');
    const profile = await profileDataset(await datasetFiles(artifacts, empty.manifest), empty.manifest.columns);
    expect(profile.columns[1]).toMatchObject({ nulls: 2, distinct: 0 });
  });
});

describe('expectations', () => {
  const check = async (dataset: StoredDataset, suite: e.Expectations): Promise<e.ValidationResult> =>
    checkExpectations(await datasetFiles(artifacts, dataset.manifest), dataset.manifest.columns, suite, { now: new Date('2001-07-02T00:00:00Z') });

  it('hold on the real flights, twenty-two kinds of them', async () => {
    const suite = e.expectations({
      delay: [
        e.notNull(),
        e.between(-1500, 3000),
        e.hasType(['integer', 'number']),
        e.meanBetween(0, 20),
        e.quantileBetween(0.5, -10, 10),
        e.standardDeviationBetween(1, 100),
        e.nullFractionAtMost(0),
        e.sumBetween(1, null),
      ],
      origin: [e.matches(/^[A-Z]{3}$/), e.lengthBetween(3, 3), e.distinctBetween(50, 400), e.notInSet(['XXX'])],
      date: [e.dateBetween('2001-01-01', '2001-07-01T00:00:00Z'), e.increasing(), e.freshness({ hours: 48 })],
      destination: [e.inSet(['ATL', 'ORD', 'DFW'], { mostly: 0.05 })],
      table: [
        e.rowCount({ min: SAMPLE, max: SAMPLE }),
        e.columnsExist(['date', 'delay']),
        e.exactColumns(['date', 'delay', 'distance', 'origin', 'destination']),
        e.compareColumns('origin', '<>', 'destination', { mostly: 0.99 }),
        e.customSql('distance is known', 'distance > 0'),
        e.uniqueTogether(['date', 'origin', 'destination', 'distance', 'delay'], { mostly: 0.99 }),
      ],
    });
    const { results, success, rows } = await check(flights, suite);
    expect(results.filter((result) => !result.success).map(({ message }) => message)).toEqual([]);
    expect([success, rows, results.length]).toEqual([true, SAMPLE, 22]);
    expect(e.ExpectationsSchema.parse(JSON.parse(JSON.stringify(suite)))).toEqual(suite);
  });

  it('report all that fail, with counts, shares and the first failing rows', async () => {
    const small = await csv('failing.csv', 'id,age,mail,from,to\n1,30,a@b,1,2\n1,-5,nothing,3,2\n3,,c@d,1,1\n4,200,,1,2\n');
    const { results, success } = await check(
      small,
      e.expectations({
        id: [e.unique(), e.increasing({ strictly: true })],
        age: [e.notNull(), e.between(0, 120), e.between(0, 120, { mostly: 0.3 }), e.meanBetween(0, 10, { severity: 'warn' })],
        mail: [e.matches('@'), e.matches('(')],
        gone: [e.notNull()],
        table: [
          e.compareColumns('from', '<', 'to'),
          e.customSql('broken', 'no_such_column > 1'),
          e.customSql('failing', 'CAST(mail AS INTEGER) > 1'),
          e.rowCount({ min: 10 }),
          e.exactColumns(['id']),
        ],
      }),
    );
    const said = Object.fromEntries(results.map(({ column, expectation, ...rest }, index) => [`${column ?? 'table'}.${expectation.kind}.${index}`, rest]));
    expect(success).toBe(false);
    expect(
      Object.fromEntries(
        Object.entries(said)
          .map(([key, value]) => [key.replace(/\.\d+$/, ''), value.success])
          .filter(([, ok]) => ok === true),
      ),
    ).toEqual({ 'age.between': true });
    expect(results.find(({ column, expectation }) => column === 'age' && expectation.kind === 'between')).toMatchObject({
      checked: 3,
      failing: 2,
      fraction: 2 / 3,
      sample: [
        { row: 1, value: '-5' },
        { row: 3, value: '200' },
      ],
    });
    expect(results.find(({ expectation }) => expectation.kind === 'unique')).toMatchObject({ failing: 2, checked: 4 });
    const error = expectationsFailed({ format: 'millrace-validation/1', rows: 4, success, results }, 'small');
    expect(error.code).toBe('EXPECTATIONS_FAILED');
    expect(error.problems).toHaveLength(results.filter((result) => !result.success && result.severity === 'fail').length);
  });

  it('agree with counting in JavaScript for any bounds and tolerance', async () => {
    const delays = [...(await numbers(flights, 'delay'))];
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: -60, max: 60 }),
        fc.integer({ min: 0, max: 100 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (min, width, mostly) => {
          const failing = delays.filter((delay) => delay < min || delay > min + width).length;
          const { results } = await check(flights, e.expectations({ delay: [e.between(min, min + width, { mostly })] }));
          expect(results[0]).toMatchObject({ failing, success: failing <= Math.floor((1 - mostly) * delays.length + 1e-9) });
        },
      ),
      { numRuns: 8 },
    );
  });

  it('are checked and profiled together, and the profile is that of the dataset', async () => {
    const validated = await validateDataset({
      manifest: flights.manifest,
      id: flights.ref.id,
      expectations: e.expectations({ delay: [e.notNull()] }),
      artifacts,
    });
    expect(validated.manifest.files).toEqual(flights.manifest.files);
    expect(validated.manifest.parents).toEqual([flights.ref.id]);
    expect(await artifacts.getJson(validated.manifest.profile!)).toEqual(validated.profile);
  });
});

describe('a split', () => {
  const split = (dataset: StoredDataset, options: SplitOptionsInput): ReturnType<typeof splitDataset> =>
    splitDataset({ manifest: dataset.manifest, id: dataset.ref.id, options: SplitOptionsSchema.parse(options), artifacts });

  it('at random puts every row into one part, the same for the same seed, by any number of threads', async () => {
    const options = { by: 'random' as const, seed: 5, validationFraction: 0.1, testFraction: 0.2 };
    const parts = await split(flights, options);
    expect([parts.train.ref.rows, parts.validation.ref.rows, parts.test.ref.rows]).toEqual([14_000, 2_000, 4_000]);
    const again = await splitDataset({ manifest: flights.manifest, id: flights.ref.id, options: SplitOptionsSchema.parse(options), artifacts, threads: 1 });
    expect(again.test.ref).toEqual(parts.test.ref);
    expect((await split(flights, { ...options, seed: 6 })).test.ref.id).not.toBe(parts.test.ref.id);
    const key = async (dataset: StoredDataset): Promise<number> => (await numbers(dataset, 'delay')).reduce((sum, value) => sum + value, 0);
    expect((await key(parts.train)) + (await key(parts.validation)) + (await key(parts.test))).toBe(await key(flights));
    expect(parts.train.manifest.profile).not.toBeNull();
    expect([parts.validation.manifest.profile, parts.test.manifest.profile]).toEqual([null, null]);
  });

  it('by time makes every part strictly later than the one before it', async () => {
    const parts = await split(flights, { by: 'time', column: 'date' });
    const [train, validation, test] = [await numbers(parts.train, 'date'), await numbers(parts.validation, 'date'), await numbers(parts.test, 'date')];
    expect(train.at(-1)!).toBeLessThan(validation[0]!);
    expect(validation.at(-1)!).toBeLessThan(test[0]!);
    expect(Math.abs(test.length / SAMPLE - 0.2)).toBeLessThan(0.01);
    expect(train.length + validation.length + test.length).toBe(SAMPLE);
  });

  it('by time holds for any ties, wherever three instants are there', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 3, maxLength: 40 }), async (days) => {
        const dataset = await csv('ties.csv', `t\n${days.map((day) => `2001-01-0${day + 1}`).join('\n')}\n`);
        const work = split(dataset, { by: 'time', column: 't' });
        if (new Set(days).size < 3) {
          await expect(work).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
          return;
        }
        const { train, validation, test } = await work;
        const [a, b, c] = [await numbers(train, 't'), await numbers(validation, 't'), await numbers(test, 't')];
        expect(Math.max(...a) < Math.min(...b) && Math.max(...b) < Math.min(...c)).toBe(true);
        expect(a.length + b.length + c.length).toBe(days.length);
      }),
      { numRuns: 12 },
    );
  });

  it('by strata keeps each value’s share alike in all parts', async () => {
    const parts = await split(flights, { by: 'stratified', column: 'origin', seed: 1 });
    const share = async (dataset: StoredDataset): Promise<number> => {
      const column = (await readColumns(await paths(dataset), ['origin'])).columns.get('origin')!;
      if (column.kind !== 'string') throw new Error('a text was expected');
      return column.codes.filter((code) => column.dictionary[code] === 'ORD').length / dataset.ref.rows;
    };
    expect(parts.train.ref.rows + parts.validation.ref.rows + parts.test.ref.rows).toBe(SAMPLE);
    expect(Math.abs((await share(parts.test)) - (await share(parts.train)))).toBeLessThan(0.001);
  });

  it('that cannot be made says why', async () => {
    const tiny = await csv('tiny.csv', 'a\n1\n2\n');
    await expect(split(tiny, { by: 'random' })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
    await expect(split(flights, { by: 'time', column: 'when' })).rejects.toMatchObject({ code: 'COLUMN_MISSING' });
    await expect(split(flights, { by: 'time', column: 'origin' })).rejects.toMatchObject({ code: 'COLUMN_TYPE' });
    expect(SplitOptionsSchema.safeParse({ by: 'random', validationFraction: 0.5, testFraction: 0.6 }).success).toBe(false);
  });
});

describe('drift', () => {
  const trainingProfile = async (): Promise<Profile> => profileDataset(await datasetFiles(artifacts, flights.manifest), flights.manifest.columns);

  it('is nothing on the training rows themselves', async () => {
    const { columns, skipped } = await measureDrift({ kind: 'parquet', paths: await paths(flights) }, await trainingProfile());
    expect(columns.map(({ column }) => column).sort()).toEqual(['delay', 'destination', 'distance', 'origin']);
    for (const { psi } of columns) expect(psi).toBeLessThan(1e-9);
    expect(skipped).toEqual(['date']);
  });

  it('is found in a prediction log where one column has moved, and has the value of the formula', async () => {
    const log = join(artifacts.folder, 'log.jsonl');
    const delays = await numbers(flights, 'delay');
    const lines = [...delays.slice(0, 2000)].map((delay, row) =>
      JSON.stringify({ requestId: 'r', row, at: '2001-01-01T00:00:00Z', model: 'm', version: 1, inputs: { delay: delay + 60, distance: 500, night: null } }),
    );
    await writeFile(log, `${lines.join('\n')}\n{"requestId": "half`);
    const { rows, columns } = await measureDrift(
      { kind: 'predictionLog', segments: [{ path: log, format: 'jsonl', identity: 'log' }], model: 'm', version: 1 },
      await trainingProfile(),
    );
    expect(rows).toBe(2000);
    const delay = columns.find(({ column }) => column === 'delay')!;
    const floor = (share: number, total: number): number => Math.max(share, 0.5 / total);
    const psi = delay.bins
      .filter(({ training, recent }) => training > 0 || recent > 0)
      .reduce(
        (sum, { training, recent }) => sum + (floor(recent, 2000) - floor(training, SAMPLE)) * Math.log(floor(recent, 2000) / floor(training, SAMPLE)),
        0,
      );
    expect(delay.psi).toBeCloseTo(psi, 10);
    expect(delay.psi).toBeGreaterThan(1);
    expect(expectedPsi(11, 2000, SAMPLE)).toBeCloseTo(10 * (1 / 2000 + 1 / SAMPLE), 12);
  });

  it('says nothing where there are no rows', async () => {
    expect(await measureDrift({ kind: 'parquet', paths: [] }, await trainingProfile())).toMatchObject({ rows: 0, columns: [] });
  });
});
