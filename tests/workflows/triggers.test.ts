/** What asks for retrainings by itself: the real orchestrator as a process of its own, killed for real. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { parseReadyLine } from '../../config/ready.ts';
import type { RetrainRequest } from '../../contracts/retraining.ts';
import { findTemporalBinary } from '../../stack/temporal-binary.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { emptyDatabase, freshDatabase } from '../support/database.ts';
import { openEnvironment, PATIENCE_MS } from './test-project.ts';

const MAIN = fileURLToPath(new URL('../../workers/orchestrator.ts', import.meta.url));
/** Looks are as good as never taken by themselves. */
const NEVER_MS = 86_400_000;
const PIPELINE = `
import { definePipeline, ingest, newFiles, newLabels, newRows, newSnapshot, notification, schedule } from 'millrace';
import { z } from 'zod';

const params = z.object({});
const every = 300;
const orders = { format: 'postgres', query: 'select id, total from orders' } as const;
const nothing = (): Promise<void> => Promise.resolve();

export const loads = definePipeline({ params }, () => ingest({ source: { format: 'csv', path: 'data/orders.csv' }, name: 'orders' }, { cache: false }));
export const byFile = definePipeline({ params, retrainOn: [newFiles('incoming/*.csv', { name: 'files', reason: 'orders came', every })] }, nothing);
export const byRows = definePipeline({ params, retrainOn: [newRows(orders, { name: 'rows', column: 'id', atLeast: 2, every })] }, nothing);
export const byFileRows = definePipeline({ params, retrainOn: [newRows({ format: 'csv', path: 'data/orders.csv' }, { name: 'rows', column: 'id', every })] }, nothing);
export const whenTold = definePipeline({ params, retrainOn: [newRows(orders, { name: 'rows', column: 'id', every: ${String(NEVER_MS)}, channel: 'Orders loaded' })] }, nothing);
export const byNotice = definePipeline({ params, retrainOn: [notification('orders_loaded', { name: 'notice' })] }, nothing);
export const byLabels = definePipeline({ params, retrainOn: [newLabels({ endpoint: 'late', atLeast: 3, every, name: 'labels' })] }, nothing);
export const bySnapshot = definePipeline({ params, retrainOn: [newSnapshot('orders', { name: 'snapshot', every })] }, nothing);
export const byClock = definePipeline(
  {
    params,
    retrainOn: [
      schedule({ cron: '30 3 * * 1', timeZone: 'Europe/Berlin', jitter: '10 minutes', catchUp: '2 hours', reason: 'each week' }),
      schedule({ name: 'broken', cron: 'at breakfast' }),
    ],
  },
  nothing,
);
`;

let env: TestEnvironment & { readonly project: string };
let processEnv: NodeJS.ProcessEnv;
let database: pg.Client;
let source: pg.Client;
let orchestrator: ChildProcess | undefined;

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  afterAll(() => client.end());
  return client;
}

beforeAll(async () => {
  const project = await mkdtemp(join(tmpdir(), 'millrace-triggers-'));
  afterAll(() => rm(project, { recursive: true, force: true }));
  for (const folder of ['pipelines/watched', 'data', 'incoming', 'node_modules']) await mkdir(join(project, folder), { recursive: true });
  for (const name of ['@temporalio', 'zod']) await symlink(join(packageRoot, 'node_modules', name), join(project, 'node_modules', name));
  await writeFile(join(project, 'package.json'), '{ "name": "watched", "type": "module", "private": true }\n');
  await writeFile(join(project, 'pipelines', 'watched', 'pipeline.ts'), PIPELINE);
  await writeFile(join(project, 'data', 'orders.csv'), 'id,total\n1,10\n2,20\n');
  await writeFile(join(project, 'incoming', 'monday.csv'), 'id,total\n1,10\n');
  const databaseUrl = await freshDatabase();
  const sourceUrl = await emptyDatabase();
  database = await connect(databaseUrl);
  source = await connect(sourceUrl);
  await source.query('create table orders (id bigserial primary key, total double precision); insert into orders (total) values (10), (20)');
  env = await openEnvironment({ project, databaseUrl });
  processEnv = {
    ...process.env,
    DATABASE_URL: databaseUrl,
    SOURCE_DATABASE_URL: sourceUrl,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: env.deps.config.temporal.namespace,
    MILLRACE_PROJECT: project,
    MILLRACE_HOME: env.deps.config.home,
    MILLRACE_LOG_LEVEL: 'error',
  };
  await startOrchestrator();
}, 2 * PATIENCE_MS);
afterAll(() => kill());

async function startOrchestrator(): Promise<void> {
  orchestrator = spawn(process.execPath, ['--import', 'tsx', MAIN], { env: processEnv, stdio: ['ignore', 'pipe', 'ignore'] });
  if (orchestrator.stdout === null) throw new Error('the process has no output');
  for await (const line of createInterface({ input: orchestrator.stdout })) if (parseReadyLine(line) !== undefined) return;
  throw new Error('the process ended before it was ready');
}

async function kill(): Promise<void> {
  const running = orchestrator;
  orchestrator = undefined;
  if (running === undefined) return;
  const ended = once(running, 'exit');
  running.kill('SIGKILL');
  await ended;
}

const soon = { timeout: PATIENCE_MS, interval: 100 };
const triggerOf = async (pipeline: string) => (await env.deps.store.retrainTriggers.list(pipeline))[0];
/** Until so many looks were taken from now on, at a trigger that is looked at all the time. */
async function looks(pipeline: string, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const before = (await triggerOf(pipeline))?.lookedAt;
    await vi.waitUntil(async () => (await triggerOf(pipeline))?.lookedAt !== before, soon);
  }
}
/** What the controller was really sent, each with its key. */
async function sent(pipeline: string): Promise<RetrainRequest[]> {
  const { events } = await env.client.workflow.getHandle(`retraining/${pipeline}`).fetchHistory();
  return (events ?? []).flatMap(({ workflowExecutionSignaledEventAttributes: signal }) =>
    signal?.signalName === 'retrain' ? [JSON.parse(Buffer.from(signal.input?.payloads?.[0]?.data ?? []).toString()) as RetrainRequest] : [],
  );
}
async function untilSent(pipeline: string, count: number): Promise<RetrainRequest[]> {
  await vi.waitUntil(async () => (await sent(pipeline)).length >= count, soon);
  return sent(pipeline);
}

async function label(requestId: string): Promise<void> {
  await database.query(
    `insert into feedback (endpoint, request_id, row, name, value, received_at, status) values ('late', $1, 0, '', 'true', now(), 'joined')`,
    [requestId],
  );
}

describe('what a pipeline says that it is retrained on', () => {
  it('is on the list once it was looked at, and what was there before asks for nothing', async () => {
    const watched = ['byFile', 'byRows', 'byFileRows', 'whenTold', 'byNotice', 'byLabels', 'bySnapshot'];
    await vi.waitUntil(async () => {
      const triggers = await env.deps.store.retrainTriggers.list();
      return watched.every((pipeline) => triggers.find((trigger) => trigger.pipeline === pipeline)?.lookedAt != null);
    }, soon);
    await looks('byFile', 2);
    expect((await env.deps.store.retrainTriggers.list()).map(({ asked }) => asked)).toEqual(Array.from({ length: 9 }, () => 0));
  });

  it('files: one that appears asks once, also when it is touched or grows while it is looked at', async () => {
    const path = join(env.project, 'incoming', 'tuesday.csv');
    await writeFile(path, 'id,total\n');
    await appendFile(path, '3,30\n');
    expect(await untilSent('byFile', 1)).toMatchObject([
      { reason: 'orders came: 1 new file: incoming/tuesday.csv', source: 'files', evidence: { files: ['incoming/tuesday.csv'], count: 1 } },
    ]);
    await utimes(path, new Date(), new Date());
    await looks('byFile', 3);
    expect(await sent('byFile')).toHaveLength(1);
    await appendFile(path, '4,40\n');
    expect(await untilSent('byFile', 2)).toHaveLength(2);
  });

  it('rows: so many above the watermark of a query ask once, and those of a file', async () => {
    await source.query('insert into orders (total) values (30)');
    await looks('byRows', 2);
    expect(await sent('byRows')).toEqual([]);
    await source.query('insert into orders (total) values (40)');
    expect(await untilSent('byRows', 1)).toMatchObject([
      { reason: '2 new rows by id, after 2', source: 'rows', evidence: { column: 'id', after: '2', upTo: '4', rows: 2 } },
    ]);
    await appendFile(join(env.project, 'data', 'orders.csv'), '3,30\n');
    expect(await untilSent('byFileRows', 1)).toMatchObject([{ reason: '1 new row by id, after 2' }]);
    await looks('byRows', 2);
    await looks('byFileRows', 2);
    expect(await sent('byRows')).toHaveLength(1);
    expect(await sent('byFileRows')).toHaveLength(1);
  });

  it('a channel: a notification asks with its payload, or has the rows looked at; a lost connection loses no rows', async () => {
    await source.query(`notify orders_loaded, 'batch 7'; notify "Orders loaded"`);
    expect(await untilSent('byNotice', 1)).toMatchObject([
      { reason: 'a notification on orders_loaded: batch 7', evidence: { notifications: 1, payloads: ['batch 7'] } },
    ]);
    expect(await untilSent('whenTold', 1)).toMatchObject([{ reason: '2 new rows by id, after 2' }]);
    await source.query('insert into orders (total) values (50)');
    await source.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millrace triggers' and datname = current_database()`);
    expect((await untilSent('whenTold', 2))[1]).toMatchObject({ reason: '1 new row by id, after 4' });
    await vi.waitUntil(async () => {
      await source.query(`notify orders_loaded, 'batch 8'`);
      return (await sent('byNotice')).length > 1;
    }, soon);
  });

  it('labels: so many since the last training ask', async () => {
    await label('a');
    await label('b');
    await looks('byLabels', 2);
    expect(await sent('byLabels')).toEqual([]);
    await label('c');
    expect(await untilSent('byLabels', 1)).toMatchObject([{ reason: expect.stringMatching(/^3 new labels of late since 2/) as string }]);
    await looks('byLabels', 3);
    expect(await sent('byLabels')).toHaveLength(1);
  });

  it('a snapshot: one by a completed run of another pipeline asks once, the same content again does not', async () => {
    await env.run('loads');
    const [request] = await untilSent('bySnapshot', 1);
    expect(request).toMatchObject({ reason: 'a new snapshot of orders by the pipeline loads: 3 rows', evidence: { pipeline: 'loads' } });
    await env.run('loads');
    await looks('bySnapshot', 3);
    expect(await sent('bySnapshot')).toHaveLength(1);
  });

  it('what came while the process was dead is found by its next look, and asked once', async () => {
    await untilSent('byFile', 2);
    await kill();
    await writeFile(join(env.project, 'incoming', 'wednesday.csv'), 'id,total\n9,90\n');
    await source.query('insert into orders (total) values (60), (70)');
    for (const id of ['d', 'e', 'f']) await label(id);
    await appendFile(join(env.project, 'data', 'orders.csv'), '4,40\n');
    await env.run('loads');
    // told, but the process died before it could note so
    await database.query(
      `update retrain_asks set told_at = null where pipeline = 'byFile' and seq = (select min(seq) from retrain_asks where pipeline = 'byFile')`,
    );
    await startOrchestrator();
    const files = await untilSent('byFile', 4);
    expect(files.map(({ reason }) => reason)).toContain('orders came: 1 new file: incoming/wednesday.csv');
    expect(new Set(files.map(({ key }) => key)).size).toBe(3);
    expect((await untilSent('byRows', 2))[1]).toMatchObject({ evidence: { after: '4', upTo: '7', rows: 3 } });
    expect((await untilSent('whenTold', 3))[2]).toMatchObject({ evidence: { after: '5', upTo: '7', rows: 2 } });
    expect((await untilSent('byFileRows', 2))[1]).toMatchObject({ evidence: { after: '3', upTo: '4', rows: 1 } });
    expect(await untilSent('byLabels', 2)).toHaveLength(2);
    expect((await untilSent('bySnapshot', 2))[1]).toMatchObject({ reason: 'a new snapshot of orders by the pipeline loads: 4 rows' });
    await looks('byFile', 3);
    expect(await Promise.all(['byFile', 'byRows', 'whenTold', 'byFileRows', 'byLabels', 'bySnapshot'].map(async (p) => (await sent(p)).length))).toEqual([
      4, 2, 3, 2, 2, 2,
    ]);
    await vi.waitUntil(async () => (await env.deps.store.runs.list({ pipeline: 'bySnapshot' })).some(({ trigger }) => trigger.kind === 'retrain'), soon);
  });

  it('a schedule of Temporal: zone, jitter and catch-up as declared; each time asks once, also when it is backfilled twice', async () => {
    const handle = env.client.schedule.getHandle('retrain/byClock/schedule');
    const { spec, policies } = await handle.describe();
    expect(spec).toMatchObject({ timezone: 'Europe/Berlin', jitter: 600_000 });
    expect(policies).toMatchObject({ catchupWindow: 7_200_000 });
    const backfill = (): Promise<void> =>
      handle.backfill({ start: new Date('2026-01-05T00:00:00Z'), end: new Date('2026-01-13T00:00:00Z'), overlap: 'BUFFER_ALL' });
    await backfill();
    const requests = await untilSent('byClock', 2);
    expect(requests[0]).toMatchObject({ reason: expect.stringMatching(/^each week \(2026-01-05T0[23]:/) as string, source: 'retrain/byClock/schedule' });
    await backfill();
    const again = await untilSent('byClock', 4);
    expect(new Set(again.map(({ key }) => key)).size).toBe(2);
    expect(await env.deps.store.retrainTriggers.find('byClock', 'broken')).toMatchObject({
      problem: expect.stringContaining('does not take this schedule') as string,
    });
  });

  it('and anybody by `temporal workflow signal`', async () => {
    const { path } = await findTemporalBinary({ cacheFolder: env.deps.config.cacheFolder, fetch: false });
    const input = JSON.stringify({ reason: 'a new market', source: 'a shell' });
    await promisify(execFile)(path, [
      'workflow',
      'signal',
      '--address',
      inject('temporalAddress'),
      '--namespace',
      env.deps.config.temporal.namespace,
      '--workflow-id',
      'retraining/loads',
      '--name',
      'retrain',
      '--input',
      input,
    ]);
    expect(await untilSent('loads', 1)).toMatchObject([{ reason: 'a new market', source: 'a shell' }]);
    await vi.waitUntil(async () => (await env.deps.store.runs.list({ pipeline: 'loads' })).some(({ trigger }) => trigger.reason === 'a new market'), soon);
  });

  it('a trigger that is taken out of the pipeline is watched no more, and its schedule is gone', async () => {
    await kill();
    await writeFile(
      join(env.project, 'pipelines', 'watched', 'pipeline.ts'),
      PIPELINE.replace(/schedule\(\{ cron[^\n]*\n/, '').replace(`reason: 'orders came', `, ''),
    );
    await startOrchestrator();
    await vi.waitUntil(async () => (await env.deps.store.retrainTriggers.list('byClock')).length === 1, soon);
    await expect(env.client.schedule.getHandle('retrain/byClock/schedule').describe()).rejects.toThrow(/not found/i);
    // declared otherwise: it begins anew, with what is there now
    await vi.waitUntil(async () => (await env.deps.store.retrainTriggers.find('byFile', 'files'))?.lookedAt != null, soon);
    await looks('byFile', 2);
    expect(await sent('byFile')).toHaveLength(4);
  });
});
