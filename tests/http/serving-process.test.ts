import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseReadyLine } from '../../config/ready.ts';
import type { PredictionRecord } from '../../contracts/routes.ts';
import { freePort } from '../../stack/ports.ts';
import { freshStore } from '../support/database.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

const MAIN = fileURLToPath(new URL('../../serving/main.ts', import.meta.url));
let bench: ServingBench;
let store: Awaited<ReturnType<typeof freshStore>>;
const children: ChildProcess[] = [];

beforeAll(async () => {
  bench = await openServingBench();
  store = await freshStore();
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await bench.close();
});

async function startProcess(databaseUrl: string): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    env: { ...process.env, DATABASE_URL: databaseUrl, MILLRACE_HOME: bench.home, MILLRACE_SERVING_PORT: String(await freePort()), MILLRACE_LOG_LEVEL: 'error' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = parseReadyLine(line);
    if (ready !== undefined) return { child, url: String(ready['url']) };
  }
  throw new Error('the process ended before it was ready');
}

async function stopProcess(child: ChildProcess): Promise<number | null> {
  const closed = once(child, 'exit') as Promise<[number | null]>;
  child.kill('SIGTERM');
  return (await closed)[0];
}

async function predictedVersion(url: string): Promise<number> {
  const response = await fetch(`${url}/predict/flights`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ rows: [FLIGHT] }),
  });
  expect(response.status).toBe(200);
  return ((await response.json()) as { version: number }).version;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('the process obeys the routes in Postgres, reports what it holds and its figures, writes its log on SIGTERM, and starts again without Postgres', async () => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  await store.endpoints.setRoute({ route: bench.route('flights', 1, one), expectedEpoch: 0, rolloutId: null });
  const first = await startProcess(store.databaseUrl);
  expect(await predictedVersion(first.url)).toBe(1);

  await store.endpoints.setRoute({ route: bench.route('flights', 2, two), expectedEpoch: 1, rolloutId: null });
  await until(async () => (await store.servers.holders({ endpoint: 'flights', epoch: 2 })).holding === 1);
  expect(await predictedVersion(first.url)).toBe(2);
  const stats = (version: number): Promise<{ readonly requests: number }> =>
    store.stats.read({ endpoint: 'flights', model: 'flight-delay', version, from: new Date(0).toISOString() });
  await until(async () => (await stats(2)).requests === 1);
  expect((await stats(1)).requests).toBe(1);

  expect(await stopProcess(first.child)).toBe(0);
  expect((await store.servers.holders({ endpoint: 'flights', epoch: 2 })).live).toBe(0);
  const folder = join(bench.home, 'predictions', 'flights');
  const texts = await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')));
  const lines = texts.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line) as PredictionRecord);
  expect(lines.map((line) => line.version).sort()).toEqual([1, 2]);

  const nobody = `postgres://nobody:nothing@127.0.0.1:${await freePort()}/none`;
  const second = await startProcess(nobody);
  expect(await predictedVersion(second.url)).toBe(2);
  expect(await stopProcess(second.child)).toBe(0);
});
