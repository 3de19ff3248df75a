import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterAll, expect, test } from 'vitest';
import type { Column } from '../../../contracts/columns.ts';
import { type Expectations, ExpectationsSchema } from '../../../contracts/expectations.ts';
import * as builders from '../../../contracts/expectations.ts';
import { constantName, expectationsSource } from '../../../contracts/expectations-source.ts';
import { suggestExpectations } from '../../../contracts/suggest-expectations.ts';
import { toCount, withDuckDb } from '../../../data/duckdb.ts';
import { checkExpectations } from '../../../data/expectations.ts';
import { profileDataset } from '../../../data/profile.ts';
import { textLiteral } from '../../../data/sql-text.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-suggest-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
const root = fileURLToPath(new URL('../../../', import.meta.url));
const real = (name: string): string => join(root, 'node_modules/vega-datasets/data', name);

async function snapshot(name: string, select: string, columns: readonly Column[]) {
  const path = join(folder, `${name}.parquet`);
  const rows = await withDuckDb({}, async (db) => toCount((await db.row(`COPY (${select}) TO ${textLiteral(path)} (FORMAT parquet)`))['Count']));
  return { files: [{ path, rows }], columns };
}

/** The expectations that a module of TypeScript exports, after it was compiled against the builders under the project's strict rules. */
function compiled(source: string): Expectations {
  const file = join(root, 'tests/unit/data/suggested.ts');
  const local = source.replace("from 'millrace'", "from '../../../contracts/expectations.ts'");
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
  const host = ts.createCompilerHost({ ...options, noEmit: true });
  const disk = { ...host };
  host.getSourceFile = (name, languageVersion, ...rest) =>
    name === file ? ts.createSourceFile(name, local, languageVersion, true) : disk.getSourceFile(name, languageVersion, ...rest);
  host.fileExists = (name) => name === file || disk.fileExists(name);
  host.readFile = (name) => (name === file ? local : disk.readFile(name));
  const program = ts.createProgram([file], { ...options, noEmit: true, types: [] }, host);
  const own = program.getSourceFile(file);
  const problems = [...program.getSyntacticDiagnostics(own), ...program.getSemanticDiagnostics(own)];
  expect(problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))).toEqual([]);
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 } });
  const exported: Record<string, unknown> = {};
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the text is this project's own
  (new Function('exports', 'require', outputText) as (exports: object, require: () => object) => void)(exported, () => builders);
  return ExpectationsSchema.parse(Object.values(exported)[0]);
}

const WEATHER: readonly Column[] = [
  { name: 'date', type: 'timestamp' },
  { name: 'precipitation', type: 'number' },
  { name: 'temp_max', type: 'number' },
  { name: 'temp_min', type: 'number' },
  { name: 'wind', type: 'number' },
  { name: 'weather', type: 'string' },
];
const PENGUINS: readonly Column[] = [
  { name: 'Species', type: 'string' },
  { name: 'Flipper Length (mm)', type: 'integer' },
  { name: 'Beak Depth (mm)', type: 'number' },
  { name: 'it\'s "quoted"', type: 'string' },
  { name: 'nothing', type: 'integer' },
  { name: 'code', type: 'string' },
];
const SETS = [
  ['weather', `SELECT CAST(date AS TIMESTAMP) AS date, * EXCLUDE (date) FROM read_csv(${textLiteral(real('seattle-weather.csv'))})`, WEATHER],
  [
    'penguins',
    `SELECT Species, "Flipper Length (mm)", "Beak Depth (mm)", Sex AS "it's ""quoted""", CAST(NULL AS BIGINT) AS nothing, printf('p%04d', row_number() OVER ()) AS code FROM read_json(${textLiteral(real('penguins.json'))})`,
    PENGUINS,
  ],
  [
    'edges',
    `SELECT * FROM (VALUES (1e300, -5, 'a'), (-1e300, -5, ''), (0.1, -5, NULL)) AS t(wide, same, "table")`,
    [
      { name: 'wide', type: 'number' },
      { name: 'same', type: 'integer' },
      { name: 'table', type: 'string' },
    ],
  ],
] as const satisfies readonly (readonly [string, string, readonly Column[]])[];

test.each(SETS)('what is suggested for %s compiles, reads back as it was and passes on the data that it came from', async (name, select, columns) => {
  const data = await snapshot(name, select, columns);
  const suggested = suggestExpectations(await profileDataset(data.files, data.columns));
  const source = expectationsSource(suggested, {
    name: constantName(name),
    comment: ['Suggested.'],
    columns: Object.fromEntries(columns.map((column) => [column.name, column.type])),
  });
  const read = compiled(source);
  expect(read.expectations).toEqual(expect.arrayContaining(suggested.expectations));
  const { results } = await checkExpectations(data.files, data.columns, read);
  expect(results.filter(({ success }) => !success)).toEqual([]);
  expect(results.length).toBeGreaterThan(columns.length);
});

test('few values are a set, dates begin where the data begins, ranges keep a margin, and sensitive columns show no value', async () => {
  const [, select, columns] = SETS[0];
  const data = await snapshot('again', select, columns);
  const profile = await profileDataset(data.files, columns);
  const { expectations } = suggestExpectations(profile);
  const of = (column: string, kind: string) => expectations.find((one) => one.kind === kind && 'column' in one && one.column === column);
  expect(of('weather', 'inSet')).toMatchObject({ values: ['drizzle', 'fog', 'rain', 'snow', 'sun'] });
  expect(of('date', 'dateBetween')).toMatchObject({ from: '2012-01-01', to: null });
  expect(of('temp_max', 'between')).toMatchObject({ min: -6, max: 40 });
  expect(of('precipitation', 'between')).toMatchObject({ min: 0 });
  expect(expectations[0]).toMatchObject({ kind: 'rowCount', min: 730 });
  const hidden = suggestExpectations(profile, { sensitive: new Set(['weather', 'temp_max']) }).expectations;
  expect(hidden.filter((one) => 'column' in one && one.column === 'weather').map(({ kind }) => kind)).toEqual(['notNull', 'lengthBetween']);
  expect(hidden.filter((one) => 'column' in one && one.column === 'temp_max').map(({ kind }) => kind)).toEqual(['notNull']);
});

test('every kind is written as a call that gives the same expectation again', () => {
  const dataset = { kind: 'dataset', id: 'a'.repeat(64), name: 'airports', rows: 3 } as const;
  const all = builders.expectations({
    table: [
      builders.columnsExist(['a', 'b'], { severity: 'warn' }),
      builders.exactColumns(['a', 'b']),
      builders.rowCount({ min: 1 }),
      builders.columnCount({ min: 1, max: 4 }),
      builders.sumEquals(['a', 'b'], 'c', { within: 0.5, mostly: 0.9 }),
      builders.uniqueTogether(['a', 'b']),
      builders.compareColumns('a', '<=', 'b', { mostly: 0.5 }),
      builders.customSql("it's so", 'a > 1\nOR b < 2'),
    ],
    a: [
      builders.notNull({ mostly: 0.9, severity: 'warn' }),
      builders.isNull(),
      builders.unique(),
      builders.inSet(['x', "y'", 'z\u2028\\']),
      builders.notInSet([1, -2.5]),
      builders.between(null, 4),
      builders.dateBetween('2020-01-01', null),
      builders.lengthBetween(1, 2),
      builders.matches(/^\d+\/x$/),
      builders.notMatches('\\s'),
      builders.dateFormat(['%Y', '%d.%m.%Y']),
      builders.isJson(),
      builders.zScoreAtMost(3),
      builders.increasing({ strictly: true }),
      builders.decreasing(),
      builders.foreignKey({ dataset, column: 'code' }),
      builders.customFunction('even', { parameters: { by: 2, 'of it': [1] } }),
      builders.hasType('integer'),
      builders.hasType(['integer', 'number']),
      builders.nullFractionAtMost(0.1),
      builders.minBetween(1, 2),
      builders.maxBetween(1, null),
      builders.meanBetween(1, 2),
      builders.sumBetween(1, 2),
      builders.standardDeviationBetween(1, 2),
      builders.quantileBetween(0.5, 1, 2),
      builders.distinctBetween(1, null),
      builders.distinctFractionBetween(0.5, 1),
      builders.distinctInclude([true]),
      builders.mostCommonIn(['x']),
      builders.psiAtMost(dataset, 0.3),
      builders.kolmogorovSmirnov(dataset, { statisticAtMost: 0.1 }),
      builders.chiSquare(dataset, 0.05),
      builders.freshness({ hours: 3 }),
    ],
  });
  const source = expectationsSource(all, { name: constantName('all kinds'), comment: ['All kinds', 'and\nmore'] });
  expect(source.startsWith('// All kinds\n// and more\nimport {')).toBe(true);
  expect(compiled(source)).toEqual(all);
  expect(new Set(all.expectations.map(({ kind }) => kind)).size).toBe(41);
});
