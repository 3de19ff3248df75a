import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { type Migration, migrate, readMigrations } from '../../store/migrate.ts';
import * as schema from '../../store/schema.ts';
import { openStore } from '../../store/store.ts';
import { emptyDatabase, freshDatabase } from '../support/database.ts';

async function query<Row extends pg.QueryResultRow>(url: string, text: string): Promise<readonly Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

/** Everything that makes up the tables: columns with type, null and default; constraints; indexes. */
async function catalogue(url: string): Promise<readonly string[]> {
  const rows = await query<{ line: string }>(
    url,
    `select format('%s.%s %s null=%s default=%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), not a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) as line
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
     where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relname <> 'millrace_migrations'
     union all
     select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
     where connamespace = 'public'::regnamespace and conrelid <> 0 and conrelid::regclass::text <> 'millrace_migrations'
     union all
     select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'millrace_migrations'
     order by 1`,
  );
  return rows.map((row) => row.line);
}

/** A database made straight from a schema, without any migration. */
async function databaseOf(tables: Readonly<Record<string, unknown>>): Promise<string> {
  const url = await emptyDatabase();
  const statements = await generateMigration(generateDrizzleJson({}), generateDrizzleJson(tables, undefined, undefined, 'snake_case'));
  await query(url, statements.join('\n'));
  return url;
}

describe('the migrations', () => {
  it('make exactly the tables that the schema describes', async () => {
    expect(await catalogue(await freshDatabase())).toEqual(await catalogue(await databaseOf(schema)));
  });

  it('are seen to differ when the schema gets a table, or a column changes, without one', async () => {
    const migrated = await catalogue(await freshDatabase());
    const extra = pgTable('extra', { id: integer().primaryKey() });
    expect(await catalogue(await databaseOf({ ...schema, extra }))).not.toEqual(migrated);
    const servers = pgTable('servers', { id: text().primaryKey(), url: text() });
    const { serverRoutes: _, ...others } = schema;
    const changed = await catalogue(await databaseOf({ ...others, servers }));
    expect(changed).not.toContain(migrated.find((line) => line.startsWith('servers.url')));
  });

  it('are applied once, however many processes start at the same time', async () => {
    const url = await emptyDatabase();
    const applied = await Promise.all(Array.from({ length: 4 }, () => migrate(url)));
    expect(applied.flat()).toEqual(readMigrations().map((m) => m.tag));
    expect(await migrate(url)).toEqual([]);
  });

  it('leave nothing behind when one of them fails, and go on from there when it is corrected', async () => {
    const url = await emptyDatabase();
    const first = readMigrations()[0]!;
    const broken: Migration = { index: 1, tag: '0001_broken', hash: 'x', sql: 'create table half (id integer); select no_such_function();' };
    await expect(migrate(url, [first, broken])).rejects.toThrow();
    expect(await query(url, `select to_regclass('half') as half`)).toEqual([{ half: null }]);
    expect(await migrate(url, [first, { ...broken, sql: 'create table half (id integer);' }])).toEqual(['0001_broken']);
  });

  it('refuse a database that a newer Millrace made, and leave it alone', async () => {
    const url = await freshDatabase();
    await query(url, `insert into millrace_migrations (index, tag, hash) values (900, '0900_from_the_future', 'x')`);
    const before = await catalogue(url);
    const error: unknown = await migrate(url).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'SCHEMA_TOO_NEW', problems: [{ found: '0900_from_the_future' }] });
    expect(await catalogue(url)).toEqual(before);
    const store = openStore({ databaseUrl: url });
    expect(await store.health()).toMatchObject({ reachable: true, schemaCurrent: false });
    await store.close();
  });
});

describe('the store', () => {
  it('says of an empty database that its schema is missing, and that it is current after migrating', async () => {
    const store = openStore({ databaseUrl: await emptyDatabase() });
    expect(await store.health()).toMatchObject({ reachable: true, schemaCurrent: false });
    await expect(store.runs.list()).rejects.toMatchObject({ code: 'INTERNAL' });
    await store.migrate();
    expect(await store.health()).toEqual({ reachable: true, schemaCurrent: true, problem: '' });
    await store.close();
  });

  it('answers with DATABASE_UNAVAILABLE when nobody listens, and tells only its log what the driver said', async () => {
    const said: string[] = [];
    const store = openStore({ databaseUrl: 'postgres://user:secret-password@127.0.0.1:1/none', log: (operation) => said.push(operation) });
    const error: unknown = await store.runs.find('0'.repeat(32)).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'DATABASE_UNAVAILABLE', retryable: true });
    expect(error).not.toHaveProperty('cause');
    expect(JSON.stringify(error)).not.toContain('secret-password');
    expect(said).toEqual(['runs.find']);
    expect(await store.health()).toMatchObject({ reachable: false });
    await expect(store.migrate()).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await store.close();
  });

  it('goes on after Postgres has cut all of its connections', async () => {
    const url = await freshDatabase();
    const store = openStore({ databaseUrl: url, poolSize: 2 });
    await store.runs.list();
    await query(url, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millrace' and datname = current_database()`);
    const first = await store.runs.list().catch((error: unknown) => error);
    if (!Array.isArray(first)) expect(first).toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(await store.runs.list()).toEqual([]);
    await store.close();
  });

  it('names a broken rule of the database without its values', async () => {
    const store = openStore({ databaseUrl: await freshDatabase() });
    const error: unknown = await store.metrics.log({ runId: 'f'.repeat(32), points: [{ key: 'k', value: 1 }] }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'NOT_FOUND' });
    expect(String(error)).not.toContain('f'.repeat(32));
    const begin = (runId: string) => store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
    await expect(begin('not-hex')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await begin('a'.repeat(32));
    await expect(
      store.runs.begin({ runId: 'a'.repeat(32), workflowId: 'another', temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } }),
    ).rejects.toMatchObject({ code: 'CONFLICT' });
    await store.close();
  });
});
