import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, inject } from 'vitest';
import { MillraceError } from '../../contracts/errors.ts';
import { createDatabase } from '../../stack/postgres.ts';
import { migrate, readMigrations } from '../../store/migrate.ts';
import { openStore, type Store } from '../../store/store.ts';

/** Named by its schema: another checkout of the schema in the same run gets a template of its own. */
const template = (): string => `template_${readMigrations().at(-1)?.hash.slice(0, 12) ?? 'empty'}`;
const TEMPLATE_LOCK = 7_432_099;

async function withServer<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: inject('databaseUrl') });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** An empty database without any schema, dropped when the test file ends. */
export async function emptyDatabase(): Promise<string> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  const url = await createDatabase(inject('databaseUrl'), name);
  afterAll(() => dropDatabase(name));
  return url;
}

/** A database with the schema, copied from a template that the first caller migrates; dropped when the test file ends. */
export async function freshDatabase(): Promise<string> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  const url = await withServer(async (client) => {
    // One at a time: a template can be copied only while nobody else uses it.
    await client.query('select pg_advisory_lock($1)', [TEMPLATE_LOCK]);
    try {
      const made = await createDatabase(inject('databaseUrl'), template());
      await migrate(made);
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'CONFLICT')) throw error;
    }
    return createDatabase(inject('databaseUrl'), name, template());
  });
  afterAll(() => dropDatabase(name));
  return url;
}

/** A store on a database of its own; both go when the test file ends. */
export async function freshStore(options: { readonly poolSize?: number } = {}): Promise<Store & { readonly databaseUrl: string }> {
  const databaseUrl = await freshDatabase();
  const store = openStore({ databaseUrl, poolSize: options.poolSize ?? 4 });
  afterAll(() => store.close());
  return { ...store, databaseUrl };
}

async function dropDatabase(name: string): Promise<void> {
  await withServer((client) => client.query(`drop database if exists ${pg.escapeIdentifier(name)} with (force)`));
}
