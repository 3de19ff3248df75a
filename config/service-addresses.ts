import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { MillraceConfig } from './config.ts';

/** Where the embedded Postgres keeps its cluster, under the state folder (a `.location` file beside it may say otherwise). */
export function postgresFolder(home: string): string {
  return join(home, 'postgres');
}

/** The file with the embedded Postgres's generated password, readable by its owner only. */
export function postgresPasswordFile(home: string): string {
  return `${postgresFolder(home)}.password`;
}

/**
 * The address of the database: `DATABASE_URL`, or the embedded Postgres of this state folder.
 *
 * @throws MillraceError NOT_RUNNING when no stack was ever started in the state folder.
 */
export function databaseUrl(config: Pick<MillraceConfig, 'home' | 'database'>): string {
  if (config.database.kind === 'external') return config.database.url;
  const file = postgresPasswordFile(config.home);
  if (!existsSync(file)) throw new MillraceError('NOT_RUNNING');
  return embeddedDatabaseUrl(config.database.port, readFileSync(file, 'utf8').trim());
}

/** The address of database `millrace` on the embedded Postgres. */
export function embeddedDatabaseUrl(port: number, password: string): string {
  return `postgres://millrace:${encodeURIComponent(password)}@127.0.0.1:${port}/millrace`;
}

/** Where other processes reach the API, without a slash at the end. */
export function apiUrl(config: Pick<MillraceConfig, 'urls'>): string {
  return config.urls.api;
}

/** Where other processes reach the prediction server, without a slash at the end. */
export function servingUrl(config: Pick<MillraceConfig, 'urls'>): string {
  return config.urls.serving;
}
