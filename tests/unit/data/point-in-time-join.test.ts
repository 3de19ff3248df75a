import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Column, ColumnType } from '../../../contracts/columns.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import type { FeatureView, ViewFeature } from '../../../contracts/feature-views.ts';
import { call, col } from '../../../contracts/row-transforms.ts';
import { datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from '../../../data/dataset.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { joinTrainingSet } from '../../../data/feature-views.ts';
import { compareText } from '../../../data/row-text.ts';
import { identifier, parquetRelation, textLiteral } from '../../../data/sql-text.ts';
import { featureView, over } from '../../../workflows/feature-view.ts';
import { exactSumOf } from '../../support/exact-rational.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
});
afterAll(() => artifacts.remove());

/** Integers, instants (microseconds) and dates (days) are BigInts. */
type Value = number | bigint | string | boolean | null;
type Row = Readonly<Record<string, Value>>;

const DAY_US = 86_400_000_000n;

function literal(type: ColumnType, value: Value | undefined): string {
  if (value === null || value === undefined) return 'NULL';
  if (type === 'number') return `CAST('${Object.is(value, -0) ? '-0.0' : String(value)}' AS DOUBLE)`;
  if (type === 'integer') return `CAST('${String(value)}' AS BIGINT)`;
  if (type === 'string') return textLiteral(String(value));
  if (type === 'boolean') return String(value);
  return type === 'date' ? `(DATE '1970-01-01' + ${String(value)})` : `make_timestamp(${String(value)}::BIGINT)`;
}

/** A dataset of as many files as there are groups of rows, as a step of a user's own may leave it: with infinities and NaNs. */
async function store(columns: Column[], groups: readonly (readonly Row[])[]): Promise<StoredDataset> {
  return withDuckDb({ threads: 1 }, async (db) => {
    const files = [];
    for (const rows of groups) {
      const list = rows.map((row) => `(${columns.map(({ name, type }) => literal(type, row[name])).join(', ')})`);
      const empty = `(${columns.map(({ type }) => `CAST(NULL AS ${{ number: 'DOUBLE', integer: 'BIGINT', boolean: 'BOOLEAN', string: 'VARCHAR', timestamp: 'TIMESTAMP', date: 'DATE' }[type]})`).join(', ')}, 0)`;
      const values = [empty, ...list.map((one, at) => `${one.slice(0, -1)}, ${String(at + 1)})`)].join(', ');
      const sql = `SELECT * EXCLUDE (n) FROM (VALUES ${values}) AS t(${[...columns.map(({ name }) => identifier(name)), 'n'].join(', ')}) WHERE n > 0 ORDER BY n`;
      files.push(await writeSnapshot(db, artifacts, sql, { filtered: true, whenEmpty: () => new MillraceError('SOURCE_EMPTY', 'No rows.') }));
    }
    const rows = files.reduce((sum, file) => sum + file.rows, 0);
    return storeManifest(artifacts, {
      format: 'millrace-dataset/1',
      name: 'data',
      rows,
      columns,
      files,
      transforms: [],
      rawColumns: columns,
      profile: null,
      parents: [],
    });
  });
}

async function read({ manifest }: StoredDataset): Promise<readonly Row[]> {
  const paths = (await datasetFiles(artifacts, manifest)).map(({ path }) => path);
  const columns = manifest.columns.map(({ name, type }) => {
    const column = identifier(name);
    return `${type === 'timestamp' ? `epoch_us(${column})` : type === 'date' ? `epoch_us(CAST(${column} AS TIMESTAMP)) // ${String(DAY_US)}` : column} AS ${column}`;
  });
  const rows = await withDuckDb({ threads: 1 }, (db) => db.rows(`SELECT ${columns.join(', ')} FROM ${parquetRelation(paths)}`));
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]): [string, Value] => [name, plain(value as Value)])));
}

/** −0 and 0 are the same number. */
const plain = (value: Value): Value => (typeof value === 'number' ? value + 0 : value);

const isLess = (a: Value, b: Value): boolean => {
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b) < 0;
  return Number(a) === Number(b) && typeof a === 'bigint' && typeof b === 'bigint' ? a < b : Number(a) < Number(b) || (Number.isNaN(b) && !Number.isNaN(a));
};

function sumOf(values: readonly number[]): number {
  const special = values.filter((value) => !Number.isFinite(value));
  return special.length > 0 ? special.reduce((sum, value) => sum + value, 0) : exactSumOf(values);
}

function aggregate(feature: ViewFeature & { kind: 'aggregate' }, rows: readonly Row[], operand: string | null): Value {
  if (operand === null) return BigInt(rows.length);
  const values = rows.map((row) => row[operand] ?? null).filter((value) => value !== null);
  if (feature.fn === 'count') return BigInt(values.length);
  if (values.length === 0) return null;
  switch (feature.fn) {
    case 'sum':
      return sumOf(values.map(Number));
    case 'mean':
      return sumOf(values.map(Number)) / values.length;
    case 'last':
      return values.at(-1) ?? null;
    case 'min':
      return values.reduce((best, value) => (isLess(value, best) ? value : best));
    case 'max':
      return values.reduce((best, value) => (isLess(best, value) ? value : best));
  }
}

/** contracts/feature-views.ts, read aloud. `instant` gives a row's microseconds. */
function naive(view: FeatureView, rows: readonly Row[], instant: (row: Row) => bigint | null, label: Row): Row {
  const at = label['at'];
  const mine = rows
    .flatMap((row, index) => {
      const us = instant(row);
      return us !== null && typeof at === 'bigint' && us <= at && view.entity.every((name) => row[name] !== null && row[name] === label[name])
        ? [{ row, us, index }]
        : [];
    })
    .sort((a, b) => (a.us === b.us ? a.index - b.index : a.us < b.us ? -1 : 1));
  const asked = typeof at === 'bigint' && view.entity.every((name) => label[name] !== null);
  const last = mine.at(-1);
  const fresh = last !== undefined && typeof at === 'bigint' && (view.ttlMs === null || at - last.us <= BigInt(view.ttlMs) * 1000n);
  return Object.fromEntries(
    Object.entries(view.features).map(([name, feature]): [string, Value] => {
      if (!asked) return [name, null];
      if (feature.kind === 'value') {
        const value = fresh ? (last.row[feature.of.op === 'column' ? feature.of.name : 'amount'] ?? null) : null;
        if (feature.of.op === 'column' || value === null) return [name, plain(value)];
        return [name, Number.isFinite(Number(value) * 2) ? plain(Number(value) * 2) : null];
      }
      const since = at - BigInt(feature.windowMs) * 1000n;
      const operand = feature.of?.op === 'column' ? feature.of.name : null;
      const within = mine.filter(({ us }) => us > since).map(({ row }) => row);
      return [name, plain(aggregate(feature, within, operand))];
    }),
  );
}

const column = (name: string, type: ColumnType): Column => ({ name, type });
const OPERANDS = [
  column('amount', 'number'),
  column('big', 'integer'),
  column('word', 'string'),
  column('flag', 'boolean'),
  column('seen', 'timestamp'),
  column('day', 'date'),
];
const VISITS: Column[] = [column('shop', 'string'), column('unit', 'integer'), column('moment', 'timestamp'), ...OPERANDS];
const PRICES: Column[] = [column('unit', 'integer'), column('since', 'date'), column('amount', 'number')];
const LABELS: Column[] = [column('label', 'integer'), column('unit', 'integer'), column('at', 'timestamp'), column('shop', 'string')];

const typed = Object.fromEntries(
  OPERANDS.flatMap(({ name }): [string, string | ViewFeature][] => [
    [`now_${name}`, name],
    ...(['count', 'min', 'max', 'last'] as const).map((fn): [string, ViewFeature] => [`${fn}_${name}`, over('6 seconds', fn, name)]),
  ]),
);
const visits = featureView({
  name: 'visits',
  entity: ['shop', 'unit'],
  eventTime: 'moment',
  features: {
    ...typed,
    doubled: call('multiply', col('amount'), 2),
    rows: over('4 seconds', 'count'),
    sum_amount: over('6 seconds', 'sum', 'amount'),
    mean_amount: over('6 seconds', 'mean', 'amount'),
    short_sum: over('1 second', 'sum', 'amount'),
    sum_big: over('9 seconds', 'sum', 'big'),
    mean_big: over('9 seconds', 'mean', 'big'),
  },
  ttl: '5 seconds',
});
const prices = featureView({
  name: 'prices',
  entity: 'unit',
  eventTime: 'since',
  features: {
    price: 'amount',
    price_mean: over('2 days', 'mean', 'amount'),
    price_rows: over('3 hours', 'count'),
    price_top: over('36 hours', 'max', 'amount'),
  },
});

const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value, { freq: 8, nil: null });
const amount = maybe(
  fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: -50, max: 50 }).map((n) => n / 10) },
    { weight: 2, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e300, max: 1e300 }) },
    { weight: 1, arbitrary: fc.constantFrom(Infinity, -Infinity, Number.NaN, 1e300, -1e300, -0, 5e-324) },
  ),
);
const big = maybe(
  fc.oneof(fc.bigInt({ min: -9n, max: 9n }), fc.bigInt({ min: 2n ** 60n, max: 2n ** 60n + 3n }), fc.constantFrom(2n ** 63n - 1n, 1n - 2n ** 63n)),
);
/** Around 1970, half a millisecond apart at times, and now and then at the ends of the calendar. */
const instant = maybe(
  fc.oneof(
    {
      weight: 20,
      arbitrary: fc.tuple(fc.integer({ min: -12, max: 12 }), fc.constantFrom(0, 0, 0, 500, 1)).map(([second, us]) => BigInt(second) * 1_000_000n + BigInt(us)),
    },
    { weight: 1, arbitrary: fc.constantFrom(-62_135_596_800_000_000n, 253_402_300_799_999_999n) },
  ),
);
const shop = maybe(fc.constantFrom('a', 'b', ''));
const unit = maybe(fc.constantFrom(1n, 2n ** 62n));
const visit = fc.record({
  shop,
  unit,
  moment: instant,
  amount,
  big,
  word: maybe(fc.constantFrom('z', '\uff5e', '\u{1f600}', "o'", '')),
  flag: maybe(fc.boolean()),
  seen: instant,
  day: maybe(fc.bigInt({ min: -40_000n, max: 40_000n })),
});
const price = fc.record({ unit, since: maybe(fc.bigInt({ min: -2n, max: 2n })), amount });

describe('features looked up for labels', () => {
  it('are what reading each history row by row gives, of all types, with ties, before 1970, for several views and keys, over all files', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(visit, { minLength: 1, maxLength: 25 }), { minLength: 1, maxLength: 3 }),
        fc.array(price, { minLength: 1, maxLength: 12 }),
        fc.array(fc.record({ unit, at: instant, shop }), { minLength: 1, maxLength: 15 }),
        fc.integer({ min: 1, max: 3 }),
        async (visited, priced, questions, threads) => {
          const asked = questions.map((question, at) => ({ ...question, label: BigInt(at) }));
          const [labels, from, list] = [await store(LABELS, [asked]), await store(VISITS, visited), await store(PRICES, [priced])];
          const joined = await joinTrainingSet({
            labels: labels.manifest,
            labelsId: labels.ref.id,
            eventTime: 'at',
            views: [
              { view: visits, manifest: from.manifest, id: from.ref.id },
              { view: prices, manifest: list.manifest, id: list.ref.id },
            ],
            artifacts,
            threads,
          });
          const expected = asked.map((label) => ({
            ...label,
            ...naive(visits, visited.flat(), (row) => (row['moment'] ?? null) as bigint | null, label),
            ...naive(prices, priced, ({ since }) => (typeof since === 'bigint' ? since * DAY_US : null), label),
          }));
          expect(await read(joined)).toEqual(expected);
        },
      ),
      { numRuns: 20 },
    );
  }, 240_000);

  it('do not depend on the other labels, to the last bit', async () => {
    const row = (n: number): Row => ({ unit: BigInt(n % 3), since: BigInt((n * 7) % 40), amount: ((n * 31) % 97) / 7 + (n % 11 === 0 ? 1e16 : 0) });
    const history = await store(PRICES, [Array.from({ length: 400 }, (_, n) => row(n))]);
    const all = Array.from({ length: 120 }, (_, n): Row => ({ label: BigInt(n), unit: BigInt(n % 3), at: BigInt(n % 43) * DAY_US + 5n, shop: 'a' }));
    const some = all.filter((_, n) => n % 7 === 3);
    const view = featureView({
      name: 'p',
      entity: 'unit',
      eventTime: 'since',
      features: { s: over('9 days', 'sum', 'amount'), m: over('9 days', 'mean', 'amount') },
    });
    const join = async (rows: readonly Row[]): Promise<readonly Row[]> => {
      const labels = await store(LABELS, [rows]);
      const views = [{ view, manifest: history.manifest, id: history.ref.id }];
      return read(await joinTrainingSet({ labels: labels.manifest, labelsId: labels.ref.id, eventTime: 'at', views, artifacts }));
    };
    const [every, few] = [await join(all), await join(some)];
    expect(few).toEqual(every.filter((_, n) => n % 7 === 3));
    expect(new Set(few.map(({ s }) => s)).size).toBeGreaterThan(10);
  });

  it('can be of more columns than one word has bits, each with nulls of its own', async () => {
    const many = Array.from({ length: 65 }, (_, n) => column(`c${String(n)}`, 'integer'));
    const rows = Array.from(
      { length: 4 },
      (_, at): Row => ({
        unit: 1n,
        since: BigInt(at),
        ...Object.fromEntries(many.map(({ name }, n) => [name, (n * 7 + at * 3) % 5 === 0 ? null : BigInt(n + at)])),
      }),
    );
    const history = await store([column('unit', 'integer'), column('since', 'date'), ...many], [rows]);
    const labels = await store(LABELS, [[{ label: 0n, unit: 1n, at: 3n * DAY_US, shop: 'a' }]]);
    const view = featureView({
      name: 'many',
      entity: 'unit',
      eventTime: 'since',
      features: Object.fromEntries(many.map(({ name }) => [`n_${name}`, over('30 days', 'count', name)])),
    });
    const views = [{ view, manifest: history.manifest, id: history.ref.id }];
    const [found] = await read(await joinTrainingSet({ labels: labels.manifest, labelsId: labels.ref.id, eventTime: 'at', views, artifacts }));
    expect(found).toMatchObject(Object.fromEntries(many.map(({ name }) => [`n_${name}`, BigInt(rows.filter((row) => row[name] !== null).length)])));
  });

  it('are stored as the same bytes by one thread and by four, over several row groups', async () => {
    const made = async (sql: string, columns: Column[]): Promise<StoredDataset> =>
      withDuckDb({}, async (db) => {
        const file = await writeSnapshot(db, artifacts, sql, { filtered: true, whenEmpty: () => new MillraceError('SOURCE_EMPTY', 'No rows.') });
        return storeManifest(artifacts, {
          format: 'millrace-dataset/1',
          name: 'data',
          rows: file.rows,
          columns,
          files: [file],
          transforms: [],
          rawColumns: columns,
          profile: null,
          parents: [],
        });
      });
    const spread = (n: number): string => `CAST(hash(i * 4 + ${String(n)}) % 1000003 AS BIGINT)`;
    const labels = await made(
      `SELECT i AS label, ${spread(0)} % 500 AS unit, make_timestamp(${spread(1)} * 1000000) AS at, 'a' AS shop FROM range(300000) r(i)`,
      LABELS,
    );
    const from = await made(
      `SELECT ${spread(2)} % 600 AS unit, CAST(make_timestamp(${spread(3)} * 1000000) AS DATE) AS since, (${spread(1)} % 997) / 7.0::DOUBLE AS amount FROM range(200000) r(i)`,
      PRICES,
    );
    const join = (threads: number): Promise<StoredDataset> =>
      joinTrainingSet({
        labels: labels.manifest,
        labelsId: labels.ref.id,
        eventTime: 'at',
        views: [{ view: prices, manifest: from.manifest, id: from.ref.id }],
        artifacts,
        threads,
      });
    const [one, four] = [await join(1), await join(4)];
    expect(four.ref).toEqual(one.ref);
    expect(one.ref.rows).toBe(300_000);
  }, 60_000);
});
