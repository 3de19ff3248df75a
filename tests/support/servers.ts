import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { freePort } from '../../stack/ports.ts';
import { startPostgres } from '../../stack/postgres.ts';
import { startTemporal } from '../../stack/temporal.ts';

/**
 * One Postgres and one Temporal server for all test files of a run, on free ports, gone when it ends. Vitest calls this
 * once for each of its projects that has tests to run: the first call starts the servers, the last teardown stops them.
 */
declare module 'vitest' {
  export interface ProvidedContext {
    /** A database of the shared Postgres in which nothing is kept; tests/support/database.ts makes others beside it. */
    databaseUrl: string;
    temporalAddress: string;
  }
}

interface Servers {
  readonly databaseUrl: string;
  readonly temporalAddress: string;
  readonly stop: () => Promise<void>;
}
interface Shared {
  users: number;
  servers: Promise<Servers> | undefined;
}

// Each project loads this module anew; what they share hangs on the process.
const KEY = Symbol.for('millrace.tests.servers');
const holder = globalThis as unknown as Record<symbol, Shared | undefined>;
const shared = (holder[KEY] ??= { users: 0, servers: undefined });

async function start(): Promise<Servers> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-tests-'));
  const [postgres, temporal] = await Promise.allSettled([
    freePort().then((port) => startPostgres({ dataFolder: join(folder, 'postgres'), port, logFile: join(folder, 'postgres.log'), throwAway: true })),
    freePort().then((port) => startTemporal({ inMemory: true, port, logFile: join(folder, 'temporal.log') })),
  ]);
  const stop = async (): Promise<void> => {
    await Promise.all([postgres, temporal].map(async (server) => (server.status === 'fulfilled' ? server.value.stop() : undefined)));
    rmSync(folder, { recursive: true, force: true });
  };
  if (postgres.status === 'rejected' || temporal.status === 'rejected') {
    await stop();
    throw postgres.status === 'rejected' ? postgres.reason : temporal.status === 'rejected' ? temporal.reason : undefined;
  }
  return { databaseUrl: postgres.value.url, temporalAddress: temporal.value.address, stop };
}

export async function setup(project: TestProject): Promise<void> {
  shared.users++;
  shared.servers ??= start();
  const servers = await shared.servers;
  project.provide('databaseUrl', servers.databaseUrl);
  project.provide('temporalAddress', servers.temporalAddress);
}

export async function teardown(): Promise<void> {
  shared.users--;
  if (shared.users > 0 || shared.servers === undefined) return;
  const { servers } = shared;
  shared.servers = undefined;
  await servers.then((running) => running.stop());
}
