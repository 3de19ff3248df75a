import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import { importGreatExpectations } from '../../../contracts/great-expectations.ts';
import { toCount, withDuckDb } from '../../../data/duckdb.ts';
import { checkExpectations } from '../../../data/expectations.ts';
import { textLiteral } from '../../../data/sql-text.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-great-expectations-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const fixture = (name: string): string => fileURLToPath(new URL(`../../fixtures/great-expectations/${name}`, import.meta.url));
const real = (name: string): string => fileURLToPath(new URL(`../../../node_modules/vega-datasets/data/${name}`, import.meta.url));
const json = (name: string): unknown => JSON.parse(readFileSync(fixture(name), 'utf8'));

interface Verdicts {
  readonly great_expectations: string;
  readonly verdicts: readonly {
    readonly type: string;
    readonly index: number | null;
    readonly success: boolean;
    readonly raised: boolean;
    readonly unexpected: number | null;
  }[];
}

const PENGUINS: readonly Column[] = [
  { name: 'Species', type: 'string' },
  { name: 'Island', type: 'string' },
  { name: 'Beak Length (mm)', type: 'number' },
  { name: 'Beak Depth (mm)', type: 'number' },
  { name: 'Flipper Length (mm)', type: 'integer' },
  { name: 'Body Mass (g)', type: 'integer' },
  { name: 'Sex', type: 'string' },
];
const WEATHER: readonly Column[] = [
  { name: 'date', type: 'timestamp' },
  { name: 'precipitation', type: 'number' },
  { name: 'temp_max', type: 'number' },
  { name: 'temp_min', type: 'number' },
  { name: 'wind', type: 'number' },
  { name: 'weather', type: 'string' },
];
const SQL_TYPES = { string: 'VARCHAR', number: 'DOUBLE', integer: 'BIGINT', timestamp: 'TIMESTAMP', date: 'DATE', boolean: 'BOOLEAN' };

async function snapshot(source: string, columns: readonly Column[]): Promise<{ path: string; rows: number }> {
  const path = join(folder, `${String(Math.random()).slice(2)}.parquet`);
  const list = columns.map(({ name, type }) => `CAST("${name}" AS ${SQL_TYPES[type]}) AS "${name}"`).join(', ');
  return withDuckDb({}, async (db) => ({
    path,
    rows: toCount((await db.row(`COPY (SELECT ${list} FROM ${source}) TO ${textLiteral(path)} (FORMAT parquet)`))['Count']),
  }));
}

/** What each expectation of the suite found here and there, by its place. */
async function compared(name: string, source: string, columns: readonly Column[]) {
  const [suite, there] = [json(`${name}.suite.json`) as { expectations: unknown[] }, json(`${name}.verdicts.json`) as Verdicts];
  const imported = importGreatExpectations(suite);
  const file = await snapshot(source, columns);
  const { results } = await checkExpectations([file], columns, imported.expectations);
  const verdictAt = (index: number): Verdicts['verdicts'][number] | undefined => there.verdicts.find((verdict, place) => (verdict.index ?? place) === index);
  const pairs = [...new Set(imported.from)].map((index) => {
    const ours = results.filter((_, place) => imported.from[place] === index);
    const [first] = ours;
    return {
      index,
      type: verdictAt(index)?.type,
      ours: ours.every(({ success }) => success),
      failing: first?.checked === null || ours.length > 1 ? null : (first?.failing ?? null),
      message: first?.message,
      theirs: verdictAt(index),
    };
  });
  return { imported, pairs, suite };
}

test.each([
  ['penguins', `read_json(${textLiteral(real('penguins.json'))})`, PENGUINS, 54],
  ['seattle-weather', `read_csv(${textLiteral(real('seattle-weather.csv'))})`, WEATHER, 9],
  ['penguins-0.18', `read_json(${textLiteral(real('penguins.json'))})`, PENGUINS, 34],
] as const)('the suite %s that Great Expectations wrote has the verdicts and counts here that it had there', async (name, source, columns, atLeast) => {
  const { pairs, imported } = await compared(name, source, columns);
  expect(imported.from.length).toBeGreaterThanOrEqual(atLeast);
  const different = pairs.filter(({ ours, theirs }) => ours !== theirs?.success);
  expect(different).toEqual([]);
  const miscounted = pairs.filter(({ failing, theirs }) => failing !== null && typeof theirs?.unexpected === 'number' && failing !== theirs.unexpected);
  expect(miscounted).toEqual([]);
  expect(pairs.filter(({ failing, theirs }) => failing !== null && typeof theirs?.unexpected === 'number').length).toBeGreaterThan(3);
});

test('what cannot be taken over is named with its place and reason, and severities are kept', () => {
  const { notImported, remarks, expectations } = importGreatExpectations(json('penguins.suite.json'));
  expect(notImported.map(({ type }) => type)).toEqual(['expect_column_values_to_be_dateutil_parseable', 'expect_column_values_to_be_between']);
  expect(notImported.map(({ reason }) => reason)).toEqual([expect.stringContaining('dateutil guesses'), expect.stringContaining('row_condition')]);
  expect(remarks.map(({ type }) => type)).toContain('expect_column_median_to_be_between');
  expect(expectations.expectations.filter(({ severity }) => severity === 'warn').length).toBeGreaterThan(5);
});

test('bounds of instants, patterns that RE2 cannot read, parameters and unknown kinds', () => {
  const one = (type: string, kwargs: Record<string, unknown>) => importGreatExpectations({ expectations: [{ type, kwargs }] });
  const reasonOf = (type: string, kwargs: Record<string, unknown>): string | undefined => one(type, kwargs).notImported[0]?.reason;
  expect(
    one('expect_column_values_to_be_between', { column: 'at', min_value: '2020-01-01T00:00:00', strict_min: true }).expectations.expectations,
  ).toMatchObject([{ kind: 'customSql', sql: `"at" > TIMESTAMP '2020-01-01T00:00:00'` }]);
  expect(one('expect_column_values_to_match_like_pattern', { column: 'a', like_pattern: '10%_.' }).expectations.expectations).toMatchObject([
    { kind: 'matches', pattern: String.raw`^(?s:10.*.\.)$` },
  ]);
  expect(reasonOf('expect_column_values_to_match_regex', { column: 'a', regex: '(?<=x)y' })).toContain('looks ahead or behind');
  expect(reasonOf('expect_column_values_to_match_regex', { column: 'a', regex: String.raw`(a)\1` })).toContain('refers back');
  expect(reasonOf('expect_column_mean_to_be_between', { column: 'a', min_value: { $PARAMETER: 'lower' } })).toContain('$PARAMETER');
  expect(reasonOf('expect_column_mean_to_be_between', { column: 'a', min_value: 1, strict_min: true })).toContain('strictly');
  expect(reasonOf('expect_the_moon', {})).toBe('This expectation is not known here.');
  expect(reasonOf('constructor', {})).toBe('This expectation is not known here.');
  expect(reasonOf('expect_column_values_to_be_between', { min_value: 1 })).toBe('It does not say its column.');
  expect(() => importGreatExpectations({ rules: [] })).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
});
