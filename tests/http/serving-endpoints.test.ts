import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PredictionRecord, Route, ServedVersion } from '../../contracts/routes.ts';
import { keyBucket } from '../../serving/request-id.ts';
import { expectedProbability, FLIGHT, flightModel, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

let bench: ServingBench;
beforeEach(async () => {
  bench = await openServingBench();
});
afterEach(async () => {
  await bench.close();
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

const post = (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });

interface Answer {
  readonly version: number;
  readonly predictions: readonly { readonly probabilities: Readonly<Record<string, number>> }[];
}

async function ask(url: string, endpoint: string, row: object = FLIGHT, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await post(`${url}/predict/${endpoint}`, { rows: [row] }, headers);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

const held = (endpoint: string): number | undefined => bench.store.heartbeats.at(-1)?.holding.find((entry) => entry.endpoint === endpoint)?.epoch;

async function publish(routes: readonly Route[]): Promise<void> {
  bench.store.routes = [...routes];
  bench.store.changed();
  await until(() => routes.every(({ endpoint, epoch }) => held(endpoint) === epoch));
}

const lease = (ms = 60_000): string => new Date(Date.now() + ms).toISOString();

test('three hundred endpoints share the memory of fifty models: each answers when it is asked, the one asked longest ago makes room, and a start knows them all', async () => {
  const versions: ServedVersion[] = [];
  for (let i = 0; i < 300; i += 1) versions.push(await publishVersion(bench.artifacts, 1, { model: `m-${i}`, bias: i / 100 }));
  bench.store.routes = versions.map((version, i) => bench.route(`e-${i}`, 1, version, { log: false }));
  const { server, url } = await bench.serve({ maxModels: 50 });
  await until(() => bench.store.heartbeats.at(-1)?.holding.length === 300);
  expect(await metric(url, 'millrace_models_loaded')).toBeLessThanOrEqual(50);

  const check = async (target: string, i: number): Promise<void> => {
    const { predictions } = await ask(target, `e-${i}`);
    expect(predictions[0]?.probabilities['late']).toBeCloseTo(expectedProbability(FLIGHT, i / 100), 5);
  };
  // Far apart, all at once, and the same one by many.
  await Promise.all(Array.from({ length: 300 }, (_, i) => check(url, (i * 7) % 300)));
  expect(await metric(url, 'millrace_models_loaded')).toBeLessThanOrEqual(50);
  await Promise.all(Array.from({ length: 40 }, () => check(url, 0)));
  expect((await fetch(`${url}/v2/models/e-3/ready`)).status).toBe(200);
  expect((await fetch(`${url}/v2/models/e-3`)).status).toBe(200);
  expect(bench.store.heartbeats.at(-1)?.holding).toHaveLength(300);

  await server.stop();
  bench.store.down = true;
  const again = await bench.serve({ maxModels: 50 });
  expect(await metric(again.url, 'millrace_models_loaded')).toBeLessThanOrEqual(50);
  for (const i of [0, 149, 299]) await check(again.url, i);
  expect((await post(`${again.url}/predict/e-300`, { rows: [FLIGHT] })).status).toBe(404);
});

test('a model that is over the bound of bytes by itself is served all the same', async () => {
  bench.store.routes = [bench.route('one', 1, await publishVersion(bench.artifacts, 1)), bench.route('two', 1, await publishVersion(bench.artifacts, 2))];
  const { url } = await bench.serve({ maxModelBytes: 10 });
  for (const [endpoint, version] of [
    ['one', 1],
    ['two', 2],
    ['one', 1],
  ] as const)
    expect((await ask(url, endpoint)).version).toBe(version);
  expect(await metric(url, 'millrace_models_loaded')).toBe(1);
});

test.each([
  ['a header', { kind: 'header' }],
  ['a column of the first row', { kind: 'column', column: 'seats' }],
] as const)('in a test that sticks by %s the same key gets the same version, in both protocols, whatever the request ids', async (_, stickyBy) => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  bench.store.routes = [bench.route('flights', 1, one, { challenger: { version: two, percent: 50, leaseUntil: lease(), stickyBy } })];
  const { url } = await bench.serve();
  const keys = Array.from({ length: 40 }, (_, i) => String(i));
  const byKey = async (): Promise<number[]> =>
    Promise.all(
      keys.map(async (key) =>
        stickyBy.kind === 'header'
          ? (await ask(url, 'flights', FLIGHT, { 'x-millrace-key': key })).version
          : (await ask(url, 'flights', { ...FLIGHT, seats: Number(key) })).version,
      ),
    );
  const versions = await byKey();
  expect(versions).toEqual(keys.map((key) => (keyBucket('flights', key) < 5_000 ? 2 : 1)));
  expect(new Set(versions).size).toBe(2);
  expect(await byKey()).toEqual(versions);
  const inferred = await Promise.all(
    keys.map(async (key) => {
      const row = { ...FLIGHT, seats: stickyBy.kind === 'header' ? 0.2 : Number(key) };
      const inputs = Object.entries(row).map(([name, value]) => ({
        name,
        datatype: typeof value === 'string' ? 'BYTES' : 'FP64',
        shape: [1],
        data: [value],
      }));
      return Number((await post(`${url}/v2/models/flights/infer`, { inputs }, { 'x-millrace-key': key })).headers.get('millrace-version'));
    }),
  );
  expect(inferred).toEqual(versions);
});

test('a shadow sees what the champion answered, is compared and logged as one, and never answers; a broken one fails nobody', async () => {
  const one = await publishVersion(bench.artifacts, 1, { bias: 0 });
  // Of the same opinion where the champion is sure, of another where it is not.
  const other = await publishVersion(bench.artifacts, 2, { bias: -2 });
  const route = (epoch: number, version: ServedVersion): Route =>
    bench.route('flights', epoch, one, { challenger: { version, percent: 100, leaseUntil: lease(), mode: 'shadow' } });
  bench.store.routes = [route(1, other)];
  const { url } = await bench.serve();
  const distances = [-5, 0.2, 5, 0.2];
  for (const distance of distances) expect((await ask(url, 'flights', { ...FLIGHT, distance })).version).toBe(1);
  const sum = (version: number, read: (stats: (typeof bench.store.stats)[number]) => number): number =>
    bench.store.stats.filter((stats) => stats.version === version).reduce((total, stats) => total + read(stats), 0);
  await until(() => sum(2, (stats) => stats.compared ?? 0) === 4);
  const same = distances.filter(
    (distance) => expectedProbability({ ...FLIGHT, distance }, 0) >= 0.5 === expectedProbability({ ...FLIGHT, distance }, -2) >= 0.5,
  ).length;
  expect(same).toBe(2);
  expect(sum(2, (stats) => stats.equal ?? 0)).toBe(same);
  expect(sum(2, (stats) => stats.requests)).toBe(4);
  const folder = join(bench.home, 'predictions', 'flights');
  await until(async () => {
    const texts = await Promise.all((await readdir(folder).catch(() => [])).map((name) => readFile(join(folder, name), 'utf8')));
    const lines = texts.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line) as PredictionRecord);
    return lines.length === 8 && lines.filter(({ shadow, version }) => shadow === true && version === 2).length === 4;
  });

  const needsMore = await publishVersion(bench.artifacts, 3, {
    signature: {
      columns: [...Object.entries({ distance: 'number', seats: 'number', origin: 'string', departed: 'timestamp', gate: 'string' } as const)].map(
        ([name, type]) => ({ name, type }),
      ),
    },
    sampleRows: [{ ...FLIGHT, gate: 'A1' }],
  });
  await publish([route(2, needsMore)]);
  expect((await ask(url, 'flights')).version).toBe(1);
  await until(() => sum(3, (stats) => stats.requests) === 1);
  expect(sum(3, (stats) => stats.compared ?? 0)).toBe(0);
});

test('a standby version is held and warm, gets no traffic but by its number, and takes over at once', async () => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  bench.store.routes = [bench.route('flights', 1, one, { standby: [two] })];
  const loads: string[] = [];
  const { url } = await bench.serve({
    artifacts: {
      getBytes(sha256) {
        loads.push(sha256);
        return bench.artifacts.getBytes(sha256);
      },
    },
  });
  await until(() => held('flights') === 1);
  const before = loads.length;
  for (let i = 0; i < 20; i += 1) expect((await ask(url, 'flights')).version).toBe(1);
  expect((await fetch(`${url}/v2/models/flights/versions/2/ready`)).status).toBe(200);
  await publish([bench.route('flights', 2, two, { standby: [one] })]);
  expect((await ask(url, 'flights')).version).toBe(2);
  expect(loads).toHaveLength(before);
});

test('a lease that is renewed at the same epoch keeps the challenger, and loads nothing; an older lease changes nothing', async () => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  const until1 = lease(400);
  const route = (leaseUntil: string): Route => bench.route('flights', 1, one, { challenger: { version: two, percent: 100, leaseUntil } });
  bench.store.routes = [route(until1)];
  const { url } = await bench.serve();
  expect((await ask(url, 'flights')).version).toBe(2);
  bench.store.routes = [route(lease())];
  bench.store.changed();
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect((await ask(url, 'flights')).version).toBe(2);
  bench.store.routes = [route(until1)];
  bench.store.changed();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect((await ask(url, 'flights')).version).toBe(2);
});

test('a challenger whose requests fail loses its share here before anybody is asked, and the store is told once', async () => {
  const [one, two] = [
    await publishVersion(bench.artifacts, 1),
    await publishVersion(bench.artifacts, 2, { bytes: flightModel(0, { failing: true }), sampleRows: [], sampleOutput: [] }),
  ];
  bench.store.routes = [bench.route('flights', 4, one, { challenger: { version: two, percent: 50, leaseUntil: lease() } })];
  const { url } = await bench.serve();
  const statuses: number[] = [];
  for (let i = 0; i < 100; i += 1) statuses.push((await post(`${url}/predict/flights`, { rows: [FLIGHT] })).status);
  const failed = statuses.filter((status) => status !== 200).length;
  expect(failed).toBeGreaterThan(0);
  expect(failed).toBeLessThanOrEqual(10);
  expect(statuses.slice(-40).every((status) => status === 200)).toBe(true);
  await until(() => bench.store.breaks.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(bench.store.breaks).toMatchObject([{ endpoint: 'flights', version: 2, epoch: 4, server: 'test-1' }]);
});

test('a champion that ended its process for the third time gives way to the one before, and comes back when its rest is over', async () => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  bench.store.routes = [bench.route('flights', 1, one)];
  const { server, url } = await bench.serve();
  await publish([bench.route('flights', 2, two)]);
  const reason = { code: 'MODEL_CRASHED', message: 'It ended its process.', retryable: true, problems: [], fix: '' } as const;
  server.blame({ predictor: two.predictor, times: 2, untilMs: Date.now() + 600, reason });
  expect((await ask(url, 'flights')).version).toBe(2);
  server.blame({ predictor: two.predictor, times: 3, untilMs: Date.now() + 600, reason });
  await until(() => bench.store.heartbeats.at(-1)?.failures[0]?.error.code === 'MODEL_CRASHED');
  expect((await ask(url, 'flights')).version).toBe(1);
  expect(held('flights')).toBeUndefined();
  await until(async () => (await ask(url, 'flights')).version === 2);
  await until(() => held('flights') === 2);
});

test('a request that takes longer than its time is answered with 504 and its code, and one endpoint’s crowd leaves room for another', async () => {
  bench.store.routes = [bench.route('slow', 1, await publishVersion(bench.artifacts, 1)), bench.route('quick', 1, await publishVersion(bench.artifacts, 2))];
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = { file: '' };
  const { url } = await bench.serve({
    maxModels: 1,
    limits: { timeoutMs: 300, maxInFlightOfEndpoint: 3 },
    artifacts: {
      async getBytes(sha256) {
        if (sha256 === slow.file) await gate;
        return bench.artifacts.getBytes(sha256);
      },
    },
  });
  await until(() => held('slow') === 1 && held('quick') === 1);
  expect((await ask(url, 'quick')).version).toBe(2);
  // Reading the other one's file takes longer than a request may.
  slow.file = bench.store.routes[0]?.champion.predictor ?? '';
  const answers = await Promise.all(Array.from({ length: 5 }, () => post(`${url}/predict/slow`, { rows: [FLIGHT] })));
  expect(answers.map(({ status }) => status).sort()).toEqual([429, 429, 504, 504, 504]);
  expect(((await answers.find(({ status }) => status === 504)?.json()) as { code: string }).code).toBe('TIMED_OUT');
  expect(answers.find(({ status }) => status === 429)?.headers.get('retry-after')).toBe('1');
  expect((await ask(url, 'quick')).version).toBe(2);
  release();
  await until(async () => (await post(`${url}/predict/slow`, { rows: [FLIGHT] })).status === 200);
});
