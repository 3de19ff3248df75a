import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { packageRoot } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';

/**
 * Brings a database to this Millrace's schema.
 *
 * Invariants:
 * 1. One at a time: a session lock is held from the first look to the last change; other callers wait, then find nothing to do.
 * 2. A migration is applied whole, with its line in `millrace_migrations`, or not at all.
 * 3. A database that holds a migration this Millrace does not know is left alone.
 */
export interface Migration {
  readonly index: number;
  readonly tag: string;
  readonly sql: string;
  readonly hash: string;
}

/** Any fixed number that nobody else locks in this database. */
const MIGRATION_LOCK = 7_432_001;

/** The migrations of this Millrace in order, as Drizzle's journal lists them. */
export function readMigrations(folder: string = join(packageRoot, 'store/migrations')): readonly Migration[] {
  const journal = JSON.parse(readFileSync(join(folder, 'meta/_journal.json'), 'utf8')) as { entries: { idx: number; tag: string }[] };
  return journal.entries.map(({ idx, tag }) => {
    const sql = readFileSync(join(folder, `${tag}.sql`), 'utf8');
    return { index: idx, tag, sql, hash: createHash('sha256').update(sql).digest('hex') };
  });
}

async function appliedTags(client: pg.ClientBase | pg.Pool): Promise<readonly string[]> {
  const there = await client.query<{ found: boolean }>(`select to_regclass('millrace_migrations') is not null as found`);
  if (there.rows[0]?.found !== true) return [];
  return (await client.query<{ tag: string }>('select tag from millrace_migrations order by index')).rows.map((row) => row.tag);
}

function refuseNewer(applied: readonly string[], known: readonly Migration[]): void {
  const unknown = applied.filter((tag) => !known.some((m) => m.tag === tag));
  if (unknown.length > 0)
    throw new MillraceError('SCHEMA_TOO_NEW', undefined, {
      problems: unknown.map((tag) => ({ path: 'DATABASE_URL', message: 'The database holds a migration that this Millrace does not know.', found: tag })),
    });
}

/** Applies what is missing and answers with the tags it applied. @throws SCHEMA_TOO_NEW with each unknown migration. */
export async function migrate(databaseUrl: string, migrations: readonly Migration[] = readMigrations()): Promise<readonly string[]> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace migrate', connectionTimeoutMillis: 5_000 });
  // A connection that breaks outside of a statement is reported by the next statement.
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    const applied = await appliedTags(client);
    refuseNewer(applied, migrations);
    await client.query(
      'create table if not exists millrace_migrations (index integer primary key, tag text not null unique, hash text not null, applied_at timestamptz(3) not null default now())',
    );
    const missing = migrations.filter((m) => !applied.includes(m.tag));
    for (const migration of missing) {
      await client.query('begin');
      try {
        await client.query(migration.sql);
        await client.query('insert into millrace_migrations (index, tag, hash) values ($1, $2, $3)', [migration.index, migration.tag, migration.hash]);
        await client.query('commit');
      } catch (error) {
        await client.query('rollback');
        throw error;
      }
    }
    return missing.map((m) => m.tag);
  } finally {
    // Ends the session, and with it the lock.
    await client.end().catch(() => undefined);
  }
}

/** Whether the database has exactly this Millrace's schema. @throws SCHEMA_TOO_NEW when it has more. */
export async function isSchemaCurrent(pool: pg.Pool, migrations: readonly Migration[] = readMigrations()): Promise<boolean> {
  const applied = await appliedTags(pool);
  refuseNewer(applied, migrations);
  return applied.length === migrations.length;
}
