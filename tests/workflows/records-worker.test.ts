/** The process that looks after what prediction servers write: a real CPU worker, killed for real. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdir, readdir, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest';
import { parseReadyLine } from '../../config/ready.ts';
import type { FeedbackRecord, PredictionRecord } from '../../contracts/routes.ts';
import { prepareNamespace } from '../../stack/temporal-namespace.ts';
import { freshStore } from '../support/database.ts';
import { openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';
import { PATIENCE_MS } from './test-project.ts';

const MAIN = fileURLToPath(new URL('../../workers/cpu.ts', import.meta.url));
const ENDPOINT = 'flights';
const ROWS = 4_000;
let bench: ServingBench;
let store: Awaited<ReturnType<typeof freshStore>>;
let child: ChildProcess | undefined;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  bench = await openServingBench();
  store = await freshStore();
  const namespace = `records-${randomBytes(6).toString('hex')}`;
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  await prepareNamespace(connection, namespace);
  await connection.close();
  env = {
    ...process.env,
    DATABASE_URL: store.databaseUrl,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: namespace,
    MILLRACE_PROJECT: bench.home,
    MILLRACE_HOME: bench.home,
    MILLRACE_CPU_SLOTS: '1',
    MILLRACE_LOG_LEVEL: 'error',
  };
  const { predictor } = await publishVersion(bench.artifacts, 1);
  await store.models.register({ model: 'flight-delay', predictor, metrics: {}, evaluation: null });
}, PATIENCE_MS);
afterAll(async () => {
  child?.kill('SIGKILL');
  await bench.close();
});

async function startWorker(): Promise<void> {
  child = spawn(process.execPath, ['--import', 'tsx', MAIN], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('the process has no output');
  for await (const line of createInterface({ input: child.stdout })) if (parseReadyLine(line) !== undefined) return;
  throw new Error('the process ended before it was ready');
}

async function endWorker(signal: 'SIGKILL' | 'SIGTERM'): Promise<unknown> {
  const ended = child === undefined ? [] : once(child, 'exit');
  child?.kill(signal);
  return ((await ended) as unknown[])[0];
}

async function log(kind: 'predictions' | 'feedback', name: string, lines: readonly object[]): Promise<string> {
  const path = join(bench.home, kind, ENDPOINT, `${name}.jsonl`);
  await mkdir(dirname(path), { recursive: true });
  await appendFile(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return path;
}
const at = '2026-01-01T08:30:00.000Z';
const predictions = (from: number, to: number): readonly PredictionRecord[] =>
  Array.from({ length: to - from }, (_, n) => ({
    requestId: `r${from + n}`,
    row: 0,
    at,
    model: 'flight-delay',
    version: 1,
    challenger: false,
    inputs: {},
    output: [0.25, 0.75],
    latencyMs: 1,
  }));
const labels = (from: number, to: number): readonly FeedbackRecord[] =>
  Array.from({ length: to - from }, (_, n) => ({ requestId: `r${from + n}`, row: 0, label: 'late', at: new Date().toISOString() }));

it('joins each label once, and makes Parquet of what is over, however often it is killed', async () => {
  const old = await log('predictions', '2026-01-01T08-a', predictions(0, ROWS));
  await utimes(old, new Date(), new Date(Date.now() - 3_600_000));
  await log('feedback', '2026-01-01T09-a', labels(0, ROWS / 2));
  for (let kills = 0; kills < 2; kills += 1) {
    await startWorker();
    // each time somewhere else in its work
    await vi.waitUntil(async () => (await store.feedback.summary(ENDPOINT)).joined >= (kills * ROWS) / 4, { timeout: PATIENCE_MS, interval: 10 });
    await endWorker('SIGKILL');
    if (kills === 0) await log('feedback', '2026-01-01T09-b', labels(ROWS / 2, ROWS));
  }
  await startWorker();
  await vi.waitUntil(async () => (await store.feedback.summary(ENDPOINT)).joined === ROWS, { timeout: PATIENCE_MS, interval: 100 });
  await vi.waitUntil(async () => (await readdir(dirname(old))).some((name) => name.endsWith('.parquet')), { timeout: PATIENCE_MS, interval: 100 });
  expect(await endWorker('SIGTERM')).toBe(0);
  const figures = await store.stats.outcomes({ endpoint: ENDPOINT, metrics: ['correct'], from: new Date(0).toISOString() });
  expect(figures).toMatchObject([{ model: 'flight-delay', version: 1, n: ROWS, sum: ROWS }]);
  expect(await store.feedback.summary(ENDPOINT)).toMatchObject({ waiting: 0, unknown: 0, duplicates: 0 });
}, 300_000);
