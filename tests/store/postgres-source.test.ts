import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sourceSettings } from '../../config/source-settings.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { type Source, SourceSchema } from '../../contracts/source.ts';
import { withDuckDb } from '../../data/duckdb.ts';
import { type IncrementRule, incrementSettings } from '../../data/increment.ts';
import { type IngestedDataset, ingestSource, type IngestOptions } from '../../data/ingest.ts';
import { parquetRelation } from '../../data/sql-text.ts';
import { openPostgresRows } from '../../store/postgres-rows.ts';
import { emptyDatabase } from '../support/database.ts';
import { createFileArtifacts, type FileArtifacts } from '../support/file-artifacts.ts';

let url: string;
let client: pg.Client;
let artifacts: FileArtifacts;
beforeAll(async () => {
  url = await emptyDatabase();
  client = new pg.Client({ connectionString: url });
  await client.connect();
  artifacts = await createFileArtifacts();
});
afterAll(async () => {
  await client.end();
  await artifacts.remove();
});

const source = (query: string, more: object = {}): Source => SourceSchema.parse({ format: 'postgres', query, ...more });
const settings = (): ReturnType<typeof sourceSettings> =>
  sourceSettings({ SOURCE_DATABASE_URL: url, SOURCE_NOWHERE: 'postgres://someone:Secret7@127.0.0.1:1/none' });
const ingest = (from: Source, more: Partial<IngestOptions> = {}): Promise<IngestedDataset> =>
  ingestSource({
    source: from,
    name: 'data',
    artifacts,
    projectFolder: '.',
    postgres: ({ query, connection }, options) =>
      openPostgresRows({ connectionString: settings().secret(connection), variable: connection, query, ...options }),
    ...more,
  });

async function rowsOf({ manifest }: IngestedDataset): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const files = await Promise.all(manifest.files.map(({ sha256 }) => artifacts.pathOf(sha256)));
  return withDuckDb({}, async (db) => (await db.connection.runAndReadAll(`SELECT * FROM ${parquetRelation(files)}`)).getRowObjectsJson());
}

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('an increment of a query', () => {
  const ingestFrom = (from: Source, rule: IncrementRule, last?: IngestedDataset): Promise<IngestedDataset> =>
    ingest(from, {
      increment: {
        rule,
        settings: incrementSettings({ source: from, pii: {}, transforms: [], golden: undefined, increment: rule }),
        ...(last === undefined ? {} : { base: { id: last.ref.id, manifest: last.manifest, golden: null } }),
      },
    });

  it.each([
    ['id', 'bigint', ['9007199254740993', '9007199254740994']],
    ['at', 'timestamptz', ['2026-01-01 01:00:00.000001+01', '2026-01-01 00:00:00.000002+00']],
    ['day', 'date', ['2026-01-01', '2026-01-02']],
    ['price', 'numeric', ['0.1', '0.2']],
  ])('asks for greater values of %s only, and adds them', async (column, type, [one, two]) => {
    const table = `grows_${column}`;
    await client.query(`CREATE TABLE ${table} (${column} ${type}, n int)`);
    await client.query(`INSERT INTO ${table} VALUES ($1, 1)`, [one]);
    const query = source(`SELECT * FROM ${table} -- all of it`);
    const rule = { by: 'watermark', column } as const;
    const first = await ingestFrom(query, rule);
    expect((await ingestFrom(query, rule, first)).ref).toEqual(first.ref);
    await client.query(`INSERT INTO ${table} VALUES ($1, 2)`, [two]);
    const second = await ingestFrom(query, rule, first);
    expect(second.added).toBe(1);
    expect((await rowsOf(second)).map(({ n }) => n)).toEqual(['1', '2']);
    expect((await ingestFrom(query, rule, second)).ref).toEqual(second.ref);
    // what was read is not asked for again: that it is gone is not seen
    await client.query(`DELETE FROM ${table} WHERE n = 1`);
    expect((await ingestFrom(query, rule, second)).ref).toEqual(second.ref);
    await client.query(`INSERT INTO ${table} VALUES (NULL, 3)`);
    expect(await refused(ingestFrom(query, rule, second))).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ column, found: '1 rows' }] });
  });

  it('names a column that the query does not give', async () => {
    await client.query('CREATE TABLE plain (n int); INSERT INTO plain VALUES (1)');
    expect(await refused(ingestFrom(source('SELECT n FROM plain'), { by: 'watermark', column: 'none' }))).toMatchObject({ code: 'COLUMN_MISSING' });
  });
});

describe('a query', () => {
  it('gives its rows in its order, each column in the type that Millrace has for it', async () => {
    await client.query(
      `CREATE TABLE kinds (id bigint, small int2, price numeric(10,2), ratio float8, ok boolean, name text, born date, seen timestamp, at timestamptz, tags text[], doc jsonb, code uuid)`,
    );
    await client.query(`INSERT INTO kinds VALUES
      (9007199254740993, 1, 12.50, 0.1, true, 'Zürich "x", y', '2020-02-29', '2020-01-01 00:00:00.123456', '2020-01-01 02:00:00+02', '{a,b}', '{"k": 1}', '00000000-0000-0000-0000-000000000001'),
      (2, NULL, 'NaN', 'Infinity', false, '', 'infinity', '-infinity', NULL, NULL, NULL, NULL)`);
    const data = await ingest(source('SELECT * FROM kinds ORDER BY id DESC; '));
    expect(Object.fromEntries(data.manifest.columns.map(({ name, type }) => [name, type]))).toEqual({
      id: 'integer',
      small: 'integer',
      price: 'number',
      ratio: 'number',
      ok: 'boolean',
      name: 'string',
      born: 'date',
      seen: 'timestamp',
      at: 'timestamp',
      tags: 'string',
      doc: 'string',
      code: 'string',
    });
    expect(await rowsOf(data)).toEqual([
      {
        id: '9007199254740993',
        small: '1',
        price: 12.5,
        ratio: 0.1,
        ok: true,
        name: 'Zürich "x", y',
        born: '2020-02-29',
        seen: '2020-01-01 00:00:00.123456',
        at: '2020-01-01 00:00:00',
        tags: '{a,b}',
        doc: '{"k": 1}',
        code: '00000000-0000-0000-0000-000000000001',
      },
      { id: '2', small: null, price: null, ratio: null, ok: false, name: '', born: null, seen: null, at: null, tags: null, doc: null, code: null },
    ]);
  });

  it('of many rows comes in batches: 300,000 of them, none twice and none missing', async () => {
    const { manifest } = await ingest(source(`SELECT n, repeat('x', (n % 50)::int) AS text FROM generate_series(1, 300000) AS n`));
    const file = await artifacts.pathOf(manifest.files[0]!.sha256);
    await withDuckDb({}, async (db) => {
      expect(await db.row(`SELECT count(*) AS n, count(DISTINCT n) AS d, sum(n) AS s, sum(length(text)) AS t FROM ${parquetRelation([file])}`)).toEqual({
        n: 300_000n,
        d: 300_000n,
        s: 45_000_150_000n,
        t: 7_350_000n,
      });
    });
  });

  it('sees one moment, and writes nothing', async () => {
    await client.query('CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)');
    expect(await refused(ingest(source('DELETE FROM kept RETURNING n')))).toMatchObject({ code: 'SOURCE_MALFORMED' });
    expect(await refused(ingest(source('SELECT 1 AS n; COMMIT; DROP TABLE kept')))).toMatchObject({ code: 'SOURCE_MALFORMED' });
    await client.query(`CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO kept VALUES (2); RETURN 1; END $$`);
    expect(await refused(ingest(source('SELECT writes() AS n')))).toMatchObject({
      code: 'SOURCE_MALFORMED',
      message: expect.stringContaining('may only read') as string,
    });
    expect((await client.query('SELECT n FROM kept')).rows).toEqual([{ n: 1 }]);
  });

  it.each([
    ['SELECT 1 AS n,\n  nothing FROM kinds', 'SOURCE_MALFORMED', /nothing" does not exist \(line 2, character 3\)/],
    ['SELECT * FROM no_such_table', 'SOURCE_NOT_FOUND', /no_such_table/],
    ["SELECT 'Secret7'::int AS n", 'SOURCE_MALFORMED', /SQLSTATE 22P02/],
    ["SELECT '\\x00'::bytea AS raw", 'COLUMN_TYPE', /cannot be used/],
    ['SELECT 1', 'SOURCE_MALFORMED', /without a name/],
    ['SELECT 1 AS n, 2 AS "N"', 'SOURCE_MALFORMED', /twice: N/],
    ['SELECT 1 AS n WHERE false', 'SOURCE_EMPTY', /no rows/],
  ])('is refused with its place, and without values: %s', async (query, code, says) => {
    const error = await refused(ingest(source(query)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(says);
    expect(JSON.stringify(error.report())).not.toContain('Secret7');
  });

  it('needs a server that is there and a variable that is set; neither error holds the address', async () => {
    const gone = await refused(ingest(source('SELECT 1 AS n', { connection: 'SOURCE_NOWHERE' })));
    expect(gone).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true });
    const unset = await refused(ingest(source('SELECT 1 AS n', { connection: 'SOURCE_OTHER' })));
    expect(unset).toMatchObject({ code: 'SOURCE_NOT_FOUND', message: expect.stringContaining('SOURCE_OTHER') as string });
    const login = new URL(url);
    login.username = 'nobody';
    const nobody = await refused(openPostgresRows({ connectionString: login.href, variable: 'SOURCE_X', query: 'SELECT 1 AS n' }));
    expect(nobody).toMatchObject({ code: 'SOURCE_NOT_FOUND' });
    for (const error of [gone, unset, nobody]) expect(JSON.stringify(error.report())).not.toMatch(/Secret7|postgres:\/\//);
  });

  it('that is aborted is cancelled on the server', async () => {
    const stop = new AbortController();
    const work = ingest(source('SELECT n, pg_sleep(0.01)::text AS pause FROM generate_series(1, 100000) AS n'), { signal: stop.signal }).catch(
      (error: unknown) => error,
    );
    const running = async (): Promise<number> =>
      (await client.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'millrace' AND query LIKE 'FETCH%'")).rowCount ?? 0;
    while ((await running()) === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    stop.abort(new Error('stopped'));
    expect(await work).toMatchObject({ message: 'stopped' });
    while ((await running()) > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  });
});
