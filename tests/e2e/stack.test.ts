import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig, type MillraceConfig } from '../../config/config.ts';
import { databaseUrl, postgresFolder, postgresPasswordFile } from '../../config/service-addresses.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { startDetached } from '../../stack/detached.ts';
import { freePort } from '../../stack/ports.ts';
import { isRunning } from '../../stack/process-identity.ts';
import { type RunningStack, type StackEvent, startStack, stackStatus, stopStack } from '../../stack/stack.ts';
import { prepareNamespace } from '../../stack/temporal-namespace.ts';
import { SEARCH_ATTRIBUTES } from '../../contracts/queues.ts';

const PARTS = ['postgres', 'temporal'] as const;
const TIMEOUT_MS = 120_000;

let home: string;
let env: Record<string, string>;
let config: MillraceConfig;
const running: RunningStack[] = [];

async function up(events: StackEvent[] = []): Promise<RunningStack> {
  const stack = await startStack({ config, parts: PARTS, stopOnSignals: false, onEvent: (event) => events.push(event) });
  running.push(stack);
  return stack;
}

const names = (): string[] =>
  execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(clusterFolder()) || line.includes(home));
const clusterFolder = (): string => {
  const pointer = `${postgresFolder(home)}.location`;
  return existsSync(pointer) ? readFileSync(pointer, 'utf8').trim() : postgresFolder(home);
};
const pidOf = (stack: RunningStack, name: string): number => {
  const identity = stack.status().parts.find((part) => part.name === name)?.process;
  if (identity === undefined) throw new Error(`${name} does not run`);
  return identity.pid;
};

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function query(sql: string): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: databaseUrl(config) });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function withTemporal<T>(use: (client: Client, connection: Connection) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: config.temporal.address });
  try {
    return await use(new Client({ connection }), connection);
  } finally {
    await connection.close();
  }
}

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'millrace-stack-'));
  const ports = await Promise.all(Array.from({ length: 5 }, () => freePort()));
  env = {
    PATH: process.env['PATH'] ?? '',
    MILLRACE_PROJECT: home,
    MILLRACE_HOME: join(home, 'state'),
    ...Object.fromEntries(['TEMPORAL', 'TEMPORAL_UI', 'POSTGRES', 'API', 'SERVING'].map((name, i) => [`MILLRACE_${name}_PORT`, String(ports[i])])),
    ...(process.env['MILLRACE_CACHE'] === undefined ? {} : { MILLRACE_CACHE: process.env['MILLRACE_CACHE'] }),
    ...(process.env['HOME'] === undefined ? {} : { HOME: process.env['HOME'] }),
  };
  config = loadConfig({ env });
  home = config.home;
});

afterEach(async () => {
  for (const stack of running.splice(0)) await stack.stop();
  await stopStack(home);
  const cluster = clusterFolder();
  rmSync(config.projectFolder, { recursive: true, force: true });
  rmSync(cluster, { recursive: true, force: true });
});

describe('the embedded stack', { timeout: TIMEOUT_MS }, () => {
  it('comes up with servers that answer, its search attributes and a retention of 30 days', async () => {
    const stack = await up();
    expect(await query('select current_database() as name, current_setting($$fsync$$) as fsync')).toEqual([{ name: 'millrace', fsync: 'on' }]);
    await withTemporal(async (_, connection) => {
      const { config: settings } = await connection.workflowService.describeNamespace({ namespace: 'default' });
      expect(settings?.workflowExecutionRetentionTtl?.seconds?.toNumber()).toBe(30 * 86_400);
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'default' });
      expect(Object.keys(customAttributes)).toEqual(expect.arrayContaining([...SEARCH_ATTRIBUTES]));
    });
    expect(stack.status().phase).toBe('ready');
    expect(stackStatus(home)).toEqual(stack.status());
    expect(await fetch(stack.urls.temporalUi ?? '').then((response) => response.status)).toBe(200);
  });

  it('keeps its password to its owner and takes nobody without it', async () => {
    await up();
    expect(statSync(postgresPasswordFile(home)).mode & 0o777).toBe(0o600);
    const client = new pg.Client({ connectionString: databaseUrl(config).replace(/:[^:@/]+@/, ':wrong@') });
    await expect(client.connect()).rejects.toMatchObject({ code: '28P01' });
  });

  it('refuses a second up in the same state folder and says who runs it', async () => {
    await up();
    await expect(startStack({ config, parts: PARTS, stopOnSignals: false })).rejects.toMatchObject({
      code: 'ALREADY_RUNNING',
      message: expect.stringContaining(String(process.pid)) as string,
    });
    expect(await query('select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('starts Postgres and Temporal again when they are killed, with all that they had', async () => {
    const events: StackEvent[] = [];
    const stack = await up(events);
    await query('create table kept (n int)');
    await query('insert into kept values (7)');
    await withTemporal((client) => client.workflow.start('waiting', { taskQueue: 'nobody', workflowId: 'kept' }));
    const before = { postgres: pidOf(stack, 'postgres'), temporal: pidOf(stack, 'temporal') };
    process.kill(before.postgres, 'SIGKILL');
    process.kill(before.temporal, 'SIGKILL');
    await until(() => events.filter((event) => event.type === 'ready' && event.restarts > 0).length === 2);
    expect(pidOf(stack, 'postgres')).not.toBe(before.postgres);
    expect(pidOf(stack, 'temporal')).not.toBe(before.temporal);
    expect(await query('select n from kept')).toEqual([{ n: 7 }]);
    expect(await withTemporal(async (client) => (await client.workflow.getHandle('kept').describe()).status.name)).toBe('RUNNING');
    expect(stack.status().parts.map((part) => part.restarts)).toEqual([1, 1]);
  });

  it('keeps its state over down and up, and down leaves no process', async () => {
    const first = await up();
    await query('create table kept as select 42 as n');
    await withTemporal((client) => client.workflow.start('waiting', { taskQueue: 'nobody', workflowId: 'kept' }));
    expect(names()).not.toEqual([]);
    await first.stop();
    expect(names()).toEqual([]);
    expect(stackStatus(home)).toBeUndefined();
    await up();
    expect(await query('select n from kept')).toEqual([{ n: 42 }]);
    expect(await withTemporal(async (client) => (await client.workflow.getHandle('kept').describe()).status.name)).toBe('RUNNING');
  });

  it('runs detached, is stopped from another process, and leaves none', async () => {
    const events: StackEvent[] = [];
    const state = await startDetached({ config, env, parts: PARTS, onEvent: (event) => events.push(event) });
    expect(state.parts.map((part) => part.state)).toEqual(['ready', 'ready']);
    expect(events.map((event) => event.type)).toContain('ready');
    expect(await query('select 1 as one')).toEqual([{ one: 1 }]);
    await expect(startDetached({ config, env, parts: PARTS })).rejects.toMatchObject({ code: 'ALREADY_RUNNING' });
    expect(await stopStack(home)).toBe(true);
    expect(names()).toEqual([]);
    expect(await stopStack(home)).toBe(false);
  });

  it('leaves no process when its supervisor is killed, and comes up again at once with its state', async () => {
    const state = await startDetached({ config, env, parts: PARTS });
    await query('create table kept as select 1 as n');
    process.kill(state.supervisor.pid, 'SIGKILL');
    await until(() => !isRunning(state.supervisor));
    const children = state.parts.flatMap((part) => part.process ?? []);
    expect(children).toHaveLength(2);
    await up();
    expect(children.filter(isRunning)).toEqual([]);
    expect(await query('select n from kept')).toEqual([{ n: 1 }]);
    await running[0]?.stop();
    expect(names()).toEqual([]);
  });

  it('stops what it has started when it is told to stop while starting', async () => {
    const starting = startDetached({
      config,
      env,
      parts: PARTS,
      onEvent: (event) => {
        const pid = stackStatus(home)?.supervisor.pid;
        if (event.type === 'starting' && pid !== undefined) process.kill(pid, 'SIGTERM');
      },
    });
    await expect(starting).rejects.toMatchObject({ code: 'NOT_RUNNING' });
    await until(() => names().length === 0);
    expect(stackStatus(home)).toBeUndefined();
  });

  it('names every port that is taken with the variable that moves it', async () => {
    const server = createServer().listen(config.ports.postgres, '127.0.0.1');
    const other = createServer().listen(config.ports.temporalUi, '127.0.0.1');
    try {
      const failure = await startStack({ config, parts: PARTS, stopOnSignals: false }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(MillraceError);
      expect(failure).toMatchObject({ code: 'PORT_IN_USE', message: expect.stringContaining(String(config.ports.postgres)) as string });
      expect((failure as MillraceError).problems.map((problem) => problem.path)).toEqual(['MILLRACE_POSTGRES_PORT', 'MILLRACE_TEMPORAL_UI_PORT']);
      expect(names()).toEqual([]);
    } finally {
      server.close();
      other.close();
    }
  });

  it('uses the servers that the environment names and neither starts nor stops them', async () => {
    const stack = await up();
    const theirs = loadConfig({
      env: {
        ...env,
        MILLRACE_HOME: join(config.projectFolder, 'other'),
        DATABASE_URL: stack.databaseUrl,
        TEMPORAL_ADDRESS: config.temporal.address,
        TEMPORAL_NAMESPACE: 'elsewhere',
      },
    });
    const second = await startStack({ config: theirs, parts: PARTS, stopOnSignals: false });
    expect(second.databaseUrl).toBe(stack.databaseUrl);
    expect(second.status().parts).toEqual([
      { name: 'postgres', state: 'external' },
      { name: 'temporal', state: 'external' },
    ]);
    await second.stop();
    expect(await query('select 1 as one')).toEqual([{ one: 1 }]);
    await withTemporal(async (_, connection) => {
      await prepareNamespace(connection, 'elsewhere');
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'elsewhere' });
      expect(Object.keys(customAttributes)).toEqual(expect.arrayContaining([...SEARCH_ATTRIBUTES]));
    });
  });

  it('says that a named database does not answer', async () => {
    const missing = loadConfig({ env: { ...env, DATABASE_URL: `postgres://nobody:secret@127.0.0.1:${await freePort()}/none` } });
    const failure: unknown = await startStack({ config: missing, parts: ['postgres'], stopOnSignals: false }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(JSON.stringify((failure as MillraceError).report())).not.toContain('secret');
  });
});
