import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import * as build from '../../../contracts/expectations.ts';
import { type DuckDb, withDuckDb } from '../../../data/duckdb.ts';
import { checkExpectations } from '../../../data/expectations.ts';
import { textLiteral } from '../../../data/sql-text.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-properties-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Row {
  readonly n: number | null;
  readonly m: number | null;
  readonly t: string | null;
  readonly d: string | null;
}
const COLUMNS: readonly Column[] = [
  { name: 'n', type: 'number' },
  { name: 'm', type: 'number' },
  { name: 't', type: 'string' },
  { name: 'd', type: 'date' },
];
const number = fc.oneof(fc.integer({ min: -4, max: 4 }), fc.constantFrom(-0, 0.5, 1e-300, 1e300, -2.25));
const text = fc.oneof(
  fc.constantFrom('', 'a', 'A', 'ä', 'ab', '😀', '東京', "it's", '{"a":1}', '[1', '12', 'null', ' '),
  fc.string({ unit: 'grapheme', maxLength: 4 }),
);
const date = fc.constantFrom('1969-12-31', '1970-01-01', '2000-02-29', '2024-02-29', '2024-12-31');
const row: fc.Arbitrary<Row> = fc.record({
  n: fc.option(number),
  m: fc.option(number),
  t: fc.option(text.map((one) => one.replaceAll('\0', ''))),
  d: fc.option(date),
});

const sql = (value: string | number | null, type: string): string =>
  value === null ? `CAST(NULL AS ${type})` : `CAST(${textLiteral(Object.is(value, -0) ? '-0.0' : String(value))} AS ${type})`;
let files = 0;
async function store(db: DuckDb, rows: readonly Row[]): Promise<{ path: string; rows: number }> {
  const path = join(folder, `${files++}.parquet`);
  const values = rows.map(({ n, m, t, d }) => `(${sql(n, 'DOUBLE')}, ${sql(m, 'DOUBLE')}, ${sql(t, 'VARCHAR')}, ${sql(d, 'DATE')})`).join(', ');
  await db.run(`COPY (SELECT * FROM (VALUES ${values}) AS t(n, m, t, d)) TO ${textLiteral(path)} (FORMAT parquet)`);
  return { path, rows: rows.length };
}

/** What fails by plain JavaScript: the numbers of the rows that are looked at and of those that do not pass. */
type Model = (rows: readonly Row[]) => { readonly checked: number; readonly failing: number };
const eachOf =
  <Key extends keyof Row>(key: Key, passes: (value: NonNullable<Row[Key]>, rows: readonly Row[]) => boolean): Model =>
  (rows) => {
    const present = rows.map((one) => one[key]).filter((value) => value !== null);
    return { checked: present.length, failing: present.filter((value) => !passes(value, rows)).length };
  };
const stepsOf =
  (wrong: (value: number, before: number) => boolean): Model =>
  (rows) => {
    const present = rows.map(({ n }) => n).filter((value) => value !== null);
    return { checked: present.length, failing: present.filter((value, at) => at > 0 && wrong(value, present[at - 1] ?? value)).length };
  };
const both =
  (passes: (n: number, m: number) => boolean): Model =>
  (rows) => {
    const present = rows.flatMap(({ n, m }) => (n === null || m === null ? [] : [[n, m] as const]));
    return { checked: present.length, failing: present.filter(([n, m]) => !passes(n, m)).length };
  };
const isJson = (of: string): boolean => {
  try {
    JSON.parse(of);
    return true;
  } catch {
    return false;
  }
};

const CASES: readonly { readonly of: 'n' | 't' | 'd' | 'table'; readonly rule: { readonly rule: Readonly<Record<string, unknown>> }; readonly model: Model }[] =
  [
    { of: 't', rule: build.notNull(), model: (rows) => ({ checked: rows.length, failing: rows.filter(({ t }) => t === null).length }) },
    { of: 't', rule: build.isNull(), model: (rows) => ({ checked: rows.length, failing: rows.filter(({ t }) => t !== null).length }) },
    { of: 'n', rule: build.unique(), model: eachOf('n', (value, rows) => rows.filter(({ n }) => n === value).length === 1) },
    { of: 't', rule: build.unique(), model: eachOf('t', (value, rows) => rows.filter(({ t }) => t === value).length === 1) },
    { of: 'n', rule: build.inSet([0, 1, 0.5]), model: eachOf('n', (value) => [0, 1, 0.5].some((wanted) => wanted === value)) },
    { of: 't', rule: build.inSet(['', 'ä', '😀', "it's"]), model: eachOf('t', (value) => ['', 'ä', '😀', "it's"].includes(value)) },
    {
      of: 't',
      rule: build.inSet(['', 'a', 'A', 'ä', 'ab', '😀', '東京', "it's", '12', 'null']),
      model: eachOf('t', (value) => ['', 'a', 'A', 'ä', 'ab', '😀', '東京', "it's", '12', 'null'].includes(value)),
    },
    { of: 't', rule: build.notInSet(['a', '東京']), model: eachOf('t', (value) => !['a', '東京'].includes(value)) },
    { of: 'd', rule: build.inSet(['1970-01-01', '2000-02-29']), model: eachOf('d', (value) => ['1970-01-01', '2000-02-29'].includes(value)) },
    { of: 'n', rule: build.between(-1, 2.5), model: eachOf('n', (value) => value >= -1 && value <= 2.5) },
    { of: 'n', rule: build.between(0, null), model: eachOf('n', (value) => value >= 0) },
    { of: 'd', rule: build.dateBetween('1970-01-01', '2024-02-29'), model: eachOf('d', (value) => value >= '1970-01-01' && value <= '2024-02-29') },
    { of: 't', rule: build.lengthBetween(1, 2), model: eachOf('t', (value) => [...value].length >= 1 && [...value].length <= 2) },
    { of: 't', rule: build.matches(/^[a-z]/), model: eachOf('t', (value) => /^[a-z]/.test(value)) },
    { of: 't', rule: build.notMatches('[0-9]'), model: eachOf('t', (value) => !/[0-9]/.test(value)) },
    { of: 't', rule: build.isJson(), model: eachOf('t', isJson) },
    { of: 'n', rule: build.increasing(), model: stepsOf((value, before) => value < before) },
    { of: 'n', rule: build.increasing({ strictly: true }), model: stepsOf((value, before) => value <= before) },
    { of: 'n', rule: build.decreasing(), model: stepsOf((value, before) => value > before) },
    { of: 'n', rule: build.decreasing({ strictly: true }), model: stepsOf((value, before) => value >= before) },
    { of: 'table', rule: build.compareColumns('n', '<=', 'm'), model: both((n, m) => n <= m) },
    { of: 'table', rule: build.compareColumns('n', '<>', 'm'), model: both((n, m) => n !== m) },
    { of: 'table', rule: build.sumEquals(['n'], 'm'), model: both((n, m) => Math.abs(n - m) <= 1e-9) },
    { of: 'table', rule: build.customSql('positive', 'n > 0'), model: eachOf('n', (value) => value > 0) },
    {
      of: 'table',
      rule: build.uniqueTogether(['n', 't']),
      model: (rows) => {
        const present = rows.filter(({ n, t }) => n !== null && t !== null);
        return { checked: present.length, failing: present.filter((one) => present.filter(({ n, t }) => n === one.n && t === one.t).length > 1).length };
      },
    },
  ];

test('each expectation about rows finds what plain JavaScript finds: rows looked at, rows that fail, the verdict within its tolerance', async () => {
  await withDuckDb({}, async (db) => {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 12 }), fc.constantFrom(1, 0.9, 0.5, 0), async (rows, mostly) => {
        const expectations = build.ExpectationsSchema.parse({
          format: 'millrace-expectations/1',
          expectations: CASES.map(({ of, rule }) => ({ ...rule.rule, mostly, ...(of === 'table' ? {} : { column: of }) })),
        });
        const { results, success } = await checkExpectations([await store(db, rows)], COLUMNS, expectations);
        const found = results.map(({ expectation, checked, failing, success: passed }) => ({ kind: expectation.kind, checked, failing, passed }));
        const wanted = CASES.map(({ rule, model }) => {
          const { checked, failing } = model(rows);
          return { kind: rule.rule['kind'], checked, failing, passed: failing <= Math.floor((1 - mostly) * checked + 1e-9) };
        });
        expect(found).toEqual(wanted);
        expect(success).toBe(wanted.every(({ passed }) => passed));
      }),
      { numRuns: 40, seed: 20_010_101 },
    );
  });
}, 60_000);
