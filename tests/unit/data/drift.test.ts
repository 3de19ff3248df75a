import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import { type ColumnDrift, type DriftReport, DriftReportSchema, DriftSettingsSchema, type PastWindow } from '../../../contracts/drift.ts';
import { MonitorOptionsSchema } from '../../../contracts/monitoring.ts';
import type { Profile } from '../../../contracts/profile.ts';
import { sampleDomain } from '../../../data/domain-sample.ts';
import { measureDrift } from '../../../data/drift.ts';
import { measureDriftByWindow, type WindowedDrift } from '../../../data/drift-windows.ts';
import { profileDataset } from '../../../data/profile.ts';
import { classifyDomain } from '../../../ml/drift/domain-classifier.ts';
import { decideDrift, quietWindow, withReport } from '../../../ml/drift/decide.ts';
import { chiSquareOfHomogeneity, smirnovPValue, valueDistances } from '../../../ml/drift/two-samples.ts';

const FLIGHTS = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', 'flights-3m.parquet');
const COLUMNS: readonly Column[] = [
  { name: 'date', type: 'timestamp' },
  { name: 'delay', type: 'integer' },
  { name: 'distance', type: 'integer' },
  { name: 'origin', type: 'string' },
  { name: 'destination', type: 'string' },
  { name: 'hour', type: 'integer' },
];
let folder: string;
const file = (name: string): string => join(folder, name);
const profiled = async (path: string, columns: readonly Column[]): Promise<Profile> => {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const [row] = (await connection.runAndReadAll(`SELECT count(*)::INTEGER AS n FROM '${path}'`)).getRowObjects();
  connection.closeSync();
  instance.closeSync();
  return profileDataset([{ path, rows: Number(row?.['n']) }], columns, { threads: 1 });
};
/** Writes a query's rows to a Parquet file of that name. */
const write = async (files: Readonly<Record<string, string>>): Promise<void> => {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' });
  const connection = await instance.connect();
  await connection.run(`CREATE VIEW flights AS SELECT *, hour(date) AS hour FROM '${FLIGHTS}'`);
  for (const [name, query] of Object.entries(files)) await connection.run(`COPY (${query}) TO '${file(name)}' (FORMAT parquet)`);
  connection.closeSync();
  instance.closeSync();
};
const parquet = (...names: string[]) => ({ kind: 'parquet', paths: names.map(file) }) as const;
const of = ({ columns }: DriftReport, name: string): ColumnDrift => {
  const found = columns.find(({ column }) => column === name);
  if (found === undefined) throw new Error(`no figures of ${name}`);
  return found;
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-drift-'));
  await write({
    'january.parquet': `SELECT * FROM flights WHERE date < '2001-02-01'`,
    'february.parquet': `SELECT * FROM flights WHERE date >= '2001-02-01' AND date < '2001-03-01'`,
    // an afternoon
    'hour.parquet': `SELECT * FROM flights WHERE date >= '2001-04-10 15:00' AND date < '2001-04-10 16:00'`,
    'kilometres.parquet': `SELECT * REPLACE (CAST(distance * 1.609344 AS BIGINT) AS distance) FROM flights WHERE date >= '2001-04-10 15:00' AND date < '2001-04-10 16:00'`,
    'nulls.parquet': `SELECT * REPLACE (CASE WHEN hash(distance, origin, destination, delay) % 10 > 2 THEN delay END AS delay) FROM flights WHERE date >= '2001-04-10 15:00' AND date < '2001-04-10 16:00'`,
    'categories.parquet': `SELECT * REPLACE (CASE WHEN origin IN ('ATL', 'ORD', 'DFW', 'LAX') THEN 'NEW' ELSE origin END AS origin) FROM flights WHERE date >= '2001-04-10 15:00' AND date < '2001-04-10 16:00'`,
  });
}, 120_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('drift against rows', () => {
  it('is nothing where both sides are the same rows', async () => {
    const report = await measureDrift(parquet('hour.parquet'), { kind: 'rows', rows: parquet('hour.parquet'), columns: COLUMNS });
    expect(DriftReportSchema.parse(report)).toEqual(report);
    expect(report.reasons).toEqual({ date: 'time' });
    for (const column of report.columns) {
      expect(column).toMatchObject({ psi: 0, jensenShannon: 0, exact: true, nulls: { z: 0, pValue: 1 } });
      expect(column.chiSquare?.statistic).toBeCloseTo(0, 9);
      if (column.kind === 'number') expect(column).toMatchObject({ wasserstein: 0, kolmogorovSmirnov: { statistic: 0, pValue: 1 } });
      else expect(column.categories).toMatchObject({ appeared: { values: 0, rows: 0, named: [] }, vanished: { values: 0, rows: 0, named: [] } });
    }
  });

  it('has the figures of the counted values, names new and vanished categories and counts the rest together', async () => {
    await write({
      'here.parquet': `SELECT CASE WHEN i % 7 > 0 THEN (i * 37) % 101 / 4 END AS x, CASE WHEN i % 10 = 0 THEN 'new' WHEN i % 50 = 1 THEN NULL ELSE 'c' || (i % 30) END AS c, i % 3 = 0 AS b FROM range(1000) t(i)`,
      'there.parquet': `SELECT (i * 11) % 97 / 4 AS x, CASE WHEN i % 20 = 0 THEN 'old' ELSE 'c' || (i % 30) END AS c, i % 2 = 0 AS b FROM range(4000) t(i)`,
    });
    const columns = [
      { name: 'x', type: 'number' },
      { name: 'c', type: 'string' },
      { name: 'b', type: 'boolean' },
    ] as const;
    const report = await measureDrift(parquet('here.parquet'), { kind: 'rows', rows: parquet('there.parquet'), columns });
    const count = (values: readonly number[]): Map<number, number> => values.reduce((map, v) => map.set(v, (map.get(v) ?? 0) + 1), new Map<number, number>());
    const indices = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
    const [here, there] = [
      count(
        indices(1000)
          .filter((i) => i % 7 > 0)
          .map((i) => ((i * 37) % 101) / 4),
      ),
      count(indices(4000).map((i) => ((i * 11) % 97) / 4)),
    ];
    const values = [...new Set([...here.keys(), ...there.keys()])].sort((a, b) => a - b);
    const counted = { values, here: values.map((v) => here.get(v) ?? 0), there: values.map((v) => there.get(v) ?? 0) };
    const { statistic, wasserstein } = valueDistances(counted);
    const x = of(report, 'x');
    expect(x.kolmogorovSmirnov).toEqual({ statistic, pValue: smirnovPValue(statistic, 857, 4000) });
    expect(x.wasserstein).toBeCloseTo(wasserstein, 12);
    expect(x).toMatchObject({ values: 857, nullFraction: { recent: 0.143, training: 0 }, rows: { recent: 1000, training: 4000 } });
    expect(x.bins).toHaveLength(11);
    for (const side of ['recent', 'training'] as const) expect(x.bins.reduce((sum, bin) => sum + bin[side], 0)).toBeCloseTo(1, 12);
    expect(x.chiSquare).toEqual(
      chiSquareOfHomogeneity(
        x.bins.map((bin) => Math.round(bin.recent * 1000)),
        x.bins.map((bin) => Math.round(bin.training * 4000)),
      ),
    );
    const c = of(report, 'c');
    expect(c.bins).toHaveLength(22);
    expect(c.bins.slice(-2).map(({ label }) => label)).toEqual(['others', 'missing']);
    expect(c.bins.at(-1)).toEqual({ label: 'missing', training: 0, recent: 0.02 });
    expect(c.categories).toEqual({
      appeared: { values: 1, rows: 100, named: [{ value: 'new', rows: 100 }] },
      vanished: { values: 1 + 3, rows: expect.any(Number) as number, named: expect.any(Array) as unknown[] },
    });
    expect(c.categories?.vanished.named[0]).toEqual({ value: 'old', rows: 200 });
    const b = of(report, 'b');
    expect(b.bins[0]?.recent).toBeCloseTo(0.666, 12);
    expect(b.wasserstein).toBeCloseTo(Math.abs(334 / 1000 - 0.5), 12);
  });

  it('compares what a log answered and texts by their words', async () => {
    const words = ['fine', 'good', 'slow', 'dear', 'kind', 'late'];
    const line = (row: number, text: string, output: number, at: string): string =>
      JSON.stringify({ requestId: `r${row}`, row: 0, at, model: 'm', version: 1, inputs: { text, n: row % 5 }, output: [output, 1 - output] });
    const before = Array.from({ length: 400 }, (_, i) => line(i, `the ${words[i % 3]} flight ${i} was ${words[i % 2]}`, (i % 10) / 10, '2001-01-01T10:00:00Z'));
    const after = Array.from({ length: 200 }, (_, i) => line(i, `a ${words[3 + (i % 3)]} refund ${i} please`, 0.5 + (i % 5) / 10, '2001-01-08T10:30:00Z'));
    const beside = Array.from({ length: 50 }, (_, i) => line(i, 'other', 0, '2001-01-01T11:30:00Z'));
    await writeFile(file('log.jsonl'), `${[...before, ...beside, ...after].join('\n')}\n`);
    const segments = [{ path: file('log.jsonl'), format: 'jsonl', identity: 'log' }] as const;
    const log = (from: string, to: string) => ({ kind: 'predictionLog', segments, model: 'm', version: 1, ranges: [{ from, to }] }) as const;
    const recent = log('2001-01-08T10:00:00Z', '2001-01-08T11:00:00Z');
    const columns = [
      { name: 'text', type: 'string' },
      { name: 'n', type: 'number' },
      { name: 'absent', type: 'number' },
    ] as const;
    // the same hour a week before
    const report = await measureDrift(recent, { kind: 'rows', rows: log('2001-01-01T10:00:00Z', '2001-01-01T11:00:00Z'), columns });
    expect(report).toMatchObject({ rows: 200, referenceRows: 400, skipped: ['absent'], reasons: { absent: 'missing' } });
    expect(of(report, 'output[0]')).toMatchObject({ of: 'output', kind: 'number', kolmogorovSmirnov: { statistic: expect.closeTo(0.5, 9) as number } });
    expect(of(report, 'output[1]').of).toBe('output');
    const text = of(report, 'text');
    expect(text.kind).toBe('text');
    expect(text.chiSquare?.pValue).toBeLessThan(1e-10);
    expect(text.text?.designEffect).toBeGreaterThanOrEqual(1);
    expect(text.text?.terms.map(({ term }) => term)).toContain('refund');
    expect(of(report, 'n').psi).toBeCloseTo(0, 9);

    const quiet = await measureDrift(log('2001-01-01T10:00:00Z', '2001-01-01T11:00:00Z'), {
      kind: 'rows',
      rows: log('2001-01-01T10:00:00Z', '2001-01-01T11:00:00Z'),
      columns,
    });
    expect(of(quiet, 'text').chiSquare?.pValue).toBeCloseTo(1, 6);
    // answers are not compared where nobody asks for it
    const profile: Profile = { format: 'millrace-profile/1', rows: 0, columns: [] };
    expect((await measureDrift(recent, { ...profile, rows: 5 }, {})).columns).toEqual([]);
    expect((await measureDrift(recent, { ...profile, rows: 5 }, { outputs: recent })).columns.map(({ column }) => column)).toEqual(['output[0]', 'output[1]']);
  });
});

describe('drift against a profile', () => {
  it('has the bins of the rows themselves, a bound of D and an estimate of the distance', async () => {
    const report = await measureDrift(parquet('hour.parquet'), await profiled(file('january.parquet'), COLUMNS));
    const exact = await measureDrift(parquet('hour.parquet'), { kind: 'rows', rows: parquet('january.parquet'), columns: COLUMNS });
    for (const name of ['delay', 'distance', 'hour']) {
      const [found, wanted] = [of(report, name), of(exact, name)];
      expect(found.exact).toBe(false);
      expect(found.psi).toBeCloseTo(wanted.psi, 6);
      expect(found.chiSquare?.statistic).toBeCloseTo(wanted.chiSquare?.statistic ?? 0, 3);
      expect(found.kolmogorovSmirnov?.statistic).toBeLessThanOrEqual((wanted.kolmogorovSmirnov?.statistic ?? 0) + 1e-9);
      expect(found.kolmogorovSmirnov?.statistic).toBeGreaterThan(0.8 * (wanted.kolmogorovSmirnov?.statistic ?? 1));
      expect((found.wasserstein ?? 0) / (wanted.wasserstein ?? 1)).toBeGreaterThan(0.75);
      expect((found.wasserstein ?? 0) / (wanted.wasserstein ?? 1)).toBeLessThan(1.25);
    }
    for (const name of ['origin', 'destination']) {
      expect(of(report, name).psi).toBeCloseTo(of(exact, name).psi, 9);
      // more airports than a profile lists
      expect(of(report, name).categories).toBeNull();
    }
  });

  it('names new and vanished categories where the profile lists all', async () => {
    await write({
      'few.parquet': `SELECT CASE i % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' ELSE 'c' END AS kind FROM range(300) t(i)`,
      'others.parquet': `SELECT CASE i % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' ELSE 'd' END AS kind FROM range(90) t(i)`,
    });
    const report = await measureDrift(parquet('others.parquet'), await profiled(file('few.parquet'), [{ name: 'kind', type: 'string' }]));
    expect(of(report, 'kind').categories).toEqual({
      appeared: { values: 1, rows: 30, named: [{ value: 'd', rows: 30 }] },
      vanished: { values: 1, rows: 100, named: [{ value: 'c', rows: 100 }] },
    });
  });

  it('bears a constant, a column that is missing, all null or of another type, and no rows', async () => {
    await write({
      'odd.parquet': `SELECT 5 AS constant, i AS n, 'a' AS word, NULL::INTEGER AS empty, 1.5 AS gone FROM range(100) t(i)`,
      'bad.parquet': `SELECT 5 AS constant, 'abc' AS n, 17 AS word, 3 AS empty FROM range(50) t(i)`,
      'null.parquet': `SELECT NULL::INTEGER AS constant, NULL::INTEGER AS n, NULL::VARCHAR AS word, NULL::INTEGER AS empty, NULL::DOUBLE AS gone FROM range(50) t(i)`,
      'none.parquet': `SELECT 5 AS constant, 1 AS n, 'a' AS word FROM range(0) t(i)`,
    });
    const columns: readonly Column[] = [
      { name: 'constant', type: 'integer' },
      { name: 'n', type: 'integer' },
      { name: 'word', type: 'string' },
      { name: 'empty', type: 'integer' },
      { name: 'gone', type: 'number' },
    ];
    const profile = await profiled(file('odd.parquet'), columns);
    for (const reference of [profile, { kind: 'rows', rows: parquet('odd.parquet'), columns } as const]) {
      const bad = await measureDrift(parquet('bad.parquet'), reference);
      expect(bad.reasons).toEqual({ empty: 'nothing in the reference', gone: 'missing' });
      expect(of(bad, 'constant')).toMatchObject({ psi: 0, chiSquare: { pValue: 1 }, wasserstein: 0 });
      // what is no number counts as missing; a number where texts were is a new text
      expect(of(bad, 'n')).toMatchObject({ values: 0, nullFraction: { recent: 1, training: 0 } });
      expect(of(bad, 'n').kolmogorovSmirnov).toBeUndefined();
      expect(of(bad, 'word').categories).toMatchObject({ appeared: { values: 1, rows: 50, named: [{ value: '17', rows: 50 }] } });
      const missing = await measureDrift(parquet('null.parquet'), reference);
      expect(missing.columns.map(({ column, nullFraction }) => [column, nullFraction.recent])).toEqual(
        expect.arrayContaining([
          ['n', 1],
          ['word', 1],
          ['gone', 1],
        ]),
      );
      for (const report of [bad, missing]) for (const value of JSON.stringify(report).matchAll(/NaN|Infinity/g)) expect(value).toBeUndefined();
      expect(await measureDrift(parquet('none.parquet'), reference)).toMatchObject({ rows: 0, columns: [] });
      expect(await measureDrift(parquet(), reference)).toMatchObject({ rows: 0, columns: [], skipped: columns.map(({ name }) => name) });
      const settings = DriftSettingsSchema.parse({ leastRows: 50 });
      const decided = decideDrift({ from: '2001-01-01T00:00:00Z', report: missing, past: [], settings });
      expect(
        decided.columns
          .filter(({ drifted }) => drifted)
          .map(({ column }) => column)
          .sort(),
      ).toEqual(['constant', 'gone', 'n', 'word']);
    }
  });
});

describe('samples for a domain classifier', () => {
  it('are of both sides, categories coded alike, and tell which column was changed', async () => {
    const sample = await sampleDomain(parquet('kilometres.parquet'), parquet('hour.parquet', 'february.parquet'), {
      columns: COLUMNS.filter(({ name }) => name !== 'hour'),
      rows: 1_500,
    });
    expect(sample.names).toEqual(['delay', 'distance', 'origin', 'destination']);
    expect(sample.categories).toEqual([0, 0, 64, 64]);
    const recent = sample.recent.reduce((sum, side) => sum + side, 0);
    expect(recent).toBe(1040);
    expect(sample.x).toMatchObject({ columns: 4, rows: sample.recent.length });
    expect(sample.x.rows - recent).toBeGreaterThan(1_400);
    expect(sample.x.rows - recent).toBeLessThanOrEqual(1_500);
    const found = await classifyDomain(sample, { seed: 1 });
    expect(found.low).toBeGreaterThan(0.65);
    expect(found.columns[0]?.column).toBe('distance');
  });

  it('lack rows and columns that a side lacks', async () => {
    expect(await sampleDomain(parquet(), parquet('hour.parquet'), { columns: COLUMNS, rows: 100 })).toMatchObject({ names: [], x: { columns: 0 } });
    expect(
      (await sampleDomain(parquet('hour.parquet'), parquet('hour.parquet'), { columns: [...COLUMNS, { name: 'gone', type: 'number' }], rows: 100 })).names,
    ).not.toContain('gone');
  });
});

describe('hourly windows of a month of flights', () => {
  const settings = DriftSettingsSchema.parse({});
  const past: PastWindow[] = [];
  let profile: Profile;
  let windows: Awaited<ReturnType<typeof measureDriftByWindow>>;
  beforeAll(async () => {
    profile = await profiled(file('january.parquet'), COLUMNS);
    windows = await measureDriftByWindow([file('february.parquet')], profile, { time: 'date', everyMs: 3_600_000 });
  }, 120_000);

  it('alarm at most once in twenty by the defaults, from the first one on, where a fixed index fires on most', () => {
    let [decided, alarms, fixed] = [0, 0, 0];
    const byColumn = new Map<string, number>();
    for (const { from, report } of windows) {
      const decision = decideDrift({ from, report, past, settings });
      if (decision.verdict === 'too few rows') continue;
      decided++;
      if (decision.verdict === 'drifted') alarms++;
      if (report.columns.some(({ column, psi }) => column !== 'hour' && psi > 0.2)) fixed++;
      for (const { column, exceeded } of decision.columns) if (exceeded) byColumn.set(column, (byColumn.get(column) ?? 0) + 1);
      past.unshift(decision);
    }
    expect(decided).toBeGreaterThan(500);
    expect(fixed / decided).toBeGreaterThan(0.3);
    // the hour of the day is another one in every window
    expect(windows.every(({ report }) => of(report, 'hour').psi > 0.2)).toBe(true);
    expect(alarms / decided, JSON.stringify([...byColumn])).toBeLessThanOrEqual(1 / 20);
  });

  it.each([
    ['hour.parquet', []],
    ['kilometres.parquet', ['distance']],
    ['nulls.parquet', ['delay']],
    ['categories.parquet', ['origin']],
  ])('find in one window what was done to %s, and name the column', async (name, wanted) => {
    const report = await measureDrift(parquet(name), profile);
    for (const history of [past, past.slice(0, 150)]) {
      const decision = decideDrift({ from: '2001-04-10T15:00:00Z', report, past: history, settings });
      expect(decision.columns.filter(({ drifted }) => drifted).map(({ column }) => column)).toEqual(wanted);
      expect(decision.verdict).toBe(wanted.length === 0 ? 'steady' : 'drifted');
      const [first] = decision.columns;
      if (wanted.length > 0) expect(first?.message).toContain(wanted[0]);
      expect(first?.tests.every(({ calibration, historyWindows }) => calibration === 'history' && historyWindows >= 40)).toBe(true);
    }
  });
});

describe.each([
  ['hourly', 3_600_000, 17],
  ['daily', 86_400_000, 3],
])('%s windows after those of the training rows, by the defaults of a monitor', (_every, everyMs, step) => {
  const { leastRows, drift } = MonitorOptionsSchema.parse({ endpoint: 'flights', everyMs });
  const settings = DriftSettingsSchema.parse({ season: drift.season });
  const columns = ['distance', 'origin', 'destination'];
  const faults = {
    distance: '* REPLACE (CAST(round(distance * 1.609344) AS BIGINT) AS distance)',
    origin: '* REPLACE (CASE WHEN hash(date, destination, distance) % 10 < 3 THEN NULL ELSE origin END AS origin)',
    destination: "* REPLACE (CASE WHEN hash(date, origin, distance) % 10 < 3 THEN 'ATL' ELSE destination END AS destination)",
  };
  let windows: readonly WindowedDrift[];
  let faulty: Readonly<Record<string, ReadonlyMap<string, DriftReport>>>;
  let past: readonly PastWindow[];
  beforeAll(async () => {
    const profile = await profiled(file('january.parquet'), COLUMNS);
    const measured = (name: string) => measureDriftByWindow([file(name)], profile, { columns, time: 'date', everyMs, leastRows });
    await write(
      Object.fromEntries(Object.entries(faults).map(([column, sql]) => [`${column}-fault.parquet`, `SELECT ${sql} FROM '${file('february.parquet')}'`])),
    );
    past = (await measured('january.parquet')).map(({ from, report }) => quietWindow(from, report)).reverse();
    windows = await measured('february.parquet');
    const found = [];
    for (const column of columns) found.push([column, new Map((await measured(`${column}-fault.parquet`)).map(({ from, report }) => [from, report]))] as const);
    faulty = Object.fromEntries(found);
  }, 120_000);

  it('find a unit change, a burst of missing values and a category shift at once by their column; a quiet month alarms at most once in twenty', () => {
    let [alarms, tried] = [0, 0];
    const missed: string[] = [];
    // of hours those of ten days
    windows.slice(0, 200).forEach(({ from, report }, index) => {
      const decision = decideDrift({ from, report, past, settings });
      if (decision.verdict === 'drifted') alarms++;
      for (const column of index % step === 0 ? columns : []) {
        const bad = faulty[column]?.get(from);
        if (bad === undefined) continue;
        tried++;
        const [first] = decideDrift({ from, report: bad, past, settings }).columns;
        if (first?.column !== column || !first.drifted) missed.push(`${column} ${from}`);
      }
      past = [withReport(decision, report), ...past];
    });
    expect(tried).toBeGreaterThanOrEqual(27);
    expect(missed).toEqual([]);
    expect(alarms / Math.min(200, windows.length)).toBeLessThanOrEqual(1 / 20);
  }, 120_000);
});
