import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PredictionRecord } from '../../contracts/routes.ts';
import { freePort } from '../../stack/ports.ts';
import { freshStore } from '../support/database.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';
import { type ServingProcess, startServingProcess } from '../support/serving-process.ts';

let bench: ServingBench;
let store: Awaited<ReturnType<typeof freshStore>>;
const started: ServingProcess[] = [];

async function startProcess(databaseUrl: string): Promise<ServingProcess> {
  const server = await startServingProcess({ databaseUrl, home: bench.home });
  started.push(server);
  return server;
}

beforeAll(async () => {
  bench = await openServingBench();
  store = await freshStore();
});
afterAll(async () => {
  for (const { child } of started) child.kill('SIGKILL');
  await bench.close();
});

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

  expect(await first.stop()).toBe(0);
  expect((await store.servers.holders({ endpoint: 'flights', epoch: 2 })).live).toBe(0);
  const folder = join(bench.home, 'predictions', 'flights');
  const texts = await Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), 'utf8')));
  const lines = texts.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line) as PredictionRecord);
  expect(lines.map((line) => line.version).sort()).toEqual([1, 2]);

  const nobody = `postgres://nobody:nothing@127.0.0.1:${await freePort()}/none`;
  const second = await startProcess(nobody);
  expect(await predictedVersion(second.url)).toBe(2);
  expect(await second.stop()).toBe(0);
});
