import { createHash } from 'node:crypto';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ErrorReport } from '../../contracts/errors.ts';
import type { FeedbackRecord, PredictionRecord } from '../../contracts/routes.ts';
import { call, col, hashed, keep, rename, set } from '../../contracts/row-transforms.ts';
import { trafficBucket } from '../../serving/request-id.ts';
import {
  expectedProbability,
  FLIGHT,
  FLIGHT_SIGNATURE,
  flightModel,
  openServingBench,
  publishVersion,
  type FlightRow,
  type ServingBench,
} from '../support/serving-fixture.ts';

interface Answer {
  readonly requestId: string;
  readonly model: string;
  readonly version: number;
  readonly predictions: readonly { readonly label: string; readonly probability: number; readonly probabilities: Readonly<Record<string, number>> }[];
}
type ErrorBody = ErrorReport & { readonly error: string; readonly requestId: string };

let bench: ServingBench;
beforeEach(async () => {
  bench = await openServingBench();
});
afterEach(async () => {
  await bench.close();
});

const post = (url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) });

async function predict(url: string, rows: readonly FlightRow[], headers: Record<string, string> = {}): Promise<Answer> {
  const response = await post(`${url}/predict/flights`, { rows }, headers);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function linesUnder<T>(folder: string, endpoint: string): Promise<T[]> {
  const names = await readdir(join(bench.home, folder, endpoint)).catch(() => []);
  const texts = await Promise.all(names.map((name) => readFile(join(bench.home, folder, endpoint, name), 'utf8')));
  return texts.flatMap((text) => text.split('\n').filter((line) => line !== '')).map((line) => JSON.parse(line) as T);
}

async function serveFlights(version = 1): Promise<string> {
  bench.store.routes = [bench.route('flights', version, await publishVersion(bench.artifacts, version))];
  return (await bench.serve()).url;
}

test('rows by column name are answered in order, with label and probabilities, by the version that the answer names', async () => {
  const url = await serveFlights();
  const rows = [FLIGHT, { ...FLIGHT, distance: -5 }, { ...FLIGHT, origin: 'SFO' }];
  const response = await post(`${url}/predict/flights`, { rows });
  const answer = (await response.json()) as Answer;
  expect(answer).toMatchObject({ model: 'flight-delay', version: 1 });
  expect(response.headers.get('x-request-id')).toBe(answer.requestId);
  expect(response.headers.get('millrace-version')).toBe('1');
  expect(answer.predictions.map((p) => p.label)).toEqual(['late', 'on time', 'late']);
  for (const [i, row] of rows.entries()) {
    const late = expectedProbability(row, 1);
    expect(answer.predictions[i]?.probabilities['late']).toBeCloseTo(late, 5);
    expect(answer.predictions[i]?.probabilities['on time']).toBeCloseTo(1 - late, 5);
    expect(answer.predictions[i]?.probability).toBeCloseTo(Math.max(late, 1 - late), 5);
  }
});

test('the label follows the threshold of the signature, not one half', async () => {
  const p = expectedProbability(FLIGHT, 1);
  const version = await publishVersion(bench.artifacts, 1, { signature: { threshold: p + 0.01 } });
  bench.store.routes = [bench.route('flights', 1, version)];
  const { url } = await bench.serve();
  const [prediction] = (await predict(url, [FLIGHT])).predictions;
  expect(prediction?.label).toBe('on time');
  expect(prediction?.probability).toBeCloseTo(1 - p, 5);
});

test('a bare model is answered with its output as it comes', async () => {
  bench.store.routes = [bench.route('value', 1, await publishVersion(bench.artifacts, 1, { signature: { task: { kind: 'raw' } } }))];
  const { url } = await bench.serve();
  const { predictions } = (await (await post(`${url}/predict/value`, { rows: [FLIGHT] })).json()) as { predictions: { output: number[] }[] };
  expect(predictions[0]?.output[1]).toBeCloseTo(expectedProbability(FLIGHT, 1), 5);
});

test('a request that does not fit is refused with every row and column that is wrong, and what was expected', async () => {
  const url = await serveFlights();
  const { origin: _, ...withoutOrigin } = FLIGHT;
  const response = await post(`${url}/predict/flights`, { rows: [FLIGHT, { ...FLIGHT, distance: 'far' }, { ...withoutOrigin, departed: 'soon' }, 7] });
  expect(response.status).toBe(400);
  const body = (await response.json()) as ErrorBody;
  expect(body.code).toBe('INVALID_REQUEST');
  expect(body.problems.map(({ row, column }) => [row, column])).toEqual(
    expect.arrayContaining([
      [1, 'distance'],
      [2, 'origin'],
      [2, 'departed'],
    ]),
  );
  expect(body.problems.some(({ row }) => row === 3)).toBe(true);
  expect(body.problems.some(({ row }) => row === 0)).toBe(false);
  expect(body.problems.find(({ column }) => column === 'distance')?.message).toMatch(/number/);
  expect(body.requestId).toBe(response.headers.get('x-request-id'));
  // The next request is not disturbed by what the refused one had packed already.
  expect((await predict(url, [FLIGHT])).predictions[0]?.probabilities['late']).toBeCloseTo(expectedProbability(FLIGHT, 1), 5);
});

test.each([
  ['not JSON', '{"rows": [', 400, 'INVALID_REQUEST'],
  ['no rows', '{}', 400, 'INVALID_REQUEST'],
  ['an empty list of rows', '{"rows": []}', 400, 'INVALID_REQUEST'],
  ['JSON null', 'null', 400, 'INVALID_REQUEST'],
  ['no body', '', 400, 'INVALID_REQUEST'],
  ['too many rows', JSON.stringify({ rows: Array.from({ length: 6 }, () => FLIGHT) }), 413, 'REQUEST_TOO_LARGE'],
  ['too many bytes', JSON.stringify({ rows: ['x'.repeat(3_000)] }), 413, 'REQUEST_TOO_LARGE'],
])('%s is refused with its code', async (_, body, status, code) => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { url } = await bench.serve({ limits: { maxRows: 5, maxBodyBytes: 2_000 } });
  const response = await post(`${url}/predict/flights`, body);
  expect(response.status).toBe(status);
  expect(await response.json()).toMatchObject({ code, requestId: response.headers.get('x-request-id') });
});

test('an unknown endpoint, version or path is not found, and the answer says so', async () => {
  const url = await serveFlights();
  const unknown = await post(`${url}/predict/nobody`, { rows: [FLIGHT] });
  expect([unknown.status, ((await unknown.json()) as ErrorBody).code]).toEqual([404, 'ENDPOINT_NOT_FOUND']);
  expect((await fetch(`${url}/v2/models/flights/versions/9`)).status).toBe(404);
  expect((await fetch(`${url}/v2/models/flights/versions/x`)).status).toBe(404);
  expect((await fetch(`${url}/nothing`)).status).toBe(404);
  expect((await fetch(`${url}/predict/%zz`, { method: 'POST' })).status).toBe(400);
});

test('more requests at once than allowed are refused with 429 and Retry-After, and the others are answered', async () => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { server, url } = await bench.serve({ limits: { maxInFlight: 2 } });
  expect((await predict(url, [FLIGHT])).predictions).toHaveLength(1);
  // Injected in one turn of the loop, so that they are all under way together.
  const answers = await Promise.all(
    Array.from({ length: 8 }, () =>
      server.app.inject({
        method: 'POST',
        url: '/predict/flights',
        headers: { 'content-type': 'application/json' },
        payload: JSON.stringify({ rows: [FLIGHT] }),
      }),
    ),
  );
  const codes = answers.map((a) => a.statusCode);
  expect(codes.filter((code) => code === 200).length).toBeGreaterThanOrEqual(2);
  expect(codes.filter((code) => code === 429).length).toBeGreaterThan(0);
  expect(codes.every((code) => code === 200 || code === 429)).toBe(true);
  expect(answers.find((a) => a.statusCode === 429)?.headers['retry-after']).toBe('1');
});

test('requests that meet are run together, and each gets its own rows', async () => {
  const url = await serveFlights();
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const rows = Array.from({ length: 1 + (i % 5) }, (_row, r) => ({ ...FLIGHT, distance: i / 100 - r, origin: i % 2 === 0 ? 'ATL' : 'ORD' }));
      const { predictions } = await predict(url, rows);
      expect(predictions).toHaveLength(rows.length);
      for (const [r, row] of rows.entries()) expect(predictions[r]?.probabilities['late']).toBeCloseTo(expectedProbability(row, 1), 5);
    }),
  );
});

test('a request of more rows than a batch is answered whole', async () => {
  const url = await serveFlights();
  const rows = Array.from({ length: 3_000 }, (_, i) => ({ ...FLIGHT, distance: i / 1_000 }));
  const { predictions } = await predict(url, rows);
  expect(predictions).toHaveLength(3_000);
  expect(predictions[2_999]?.probabilities['late']).toBeCloseTo(expectedProbability({ ...FLIGHT, distance: 2.999 }, 1), 5);
});

test('what training did to a row is done to a request by the same transforms', async () => {
  const version = await publishVersion(bench.artifacts, 1, {
    transforms: [
      set('origin', call('upper', call('trim', col('airport')))),
      set('distance', call('divide', col('miles'), 1_000)),
      keep(call('greater', col('miles'), 0)),
    ],
    signature: {
      columns: [
        { name: 'miles', type: 'number' },
        { name: 'seats', type: 'number' },
        { name: 'airport', type: 'string' },
        { name: 'departed', type: 'timestamp' },
      ],
    },
    sampleRows: [{ miles: 400, seats: 0.2, airport: 'atl', departed: FLIGHT.departed }],
  });
  bench.store.routes = [bench.route('flights', 1, version)];
  const { url } = await bench.serve();
  const response = await post(`${url}/predict/flights`, { rows: [{ miles: -700, seats: 0.1, airport: '  ord ', departed: FLIGHT.departed }] });
  const { predictions } = (await response.json()) as Answer;
  expect(predictions[0]?.probabilities['late']).toBeCloseTo(expectedProbability({ ...FLIGHT, distance: -0.7, seats: 0.1, origin: 'ORD' }, 1), 5);
});

test('a stop writes the log before it ends, and the lines are those of the answers', async () => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { server, url } = await bench.serve();
  const odd = { ...FLIGHT, origin: 'Zürich "\u2028"\n\ud800', seats: null };
  const answer = await predict(url, [FLIGHT, odd]);
  const single = await predict(url, [FLIGHT], { 'x-request-id': 'mine-1' });
  await server.stop();
  const lines = await linesUnder<PredictionRecord>('predictions', 'flights');
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatchObject({ requestId: answer.requestId, row: 0, model: 'flight-delay', version: 1, challenger: false, inputs: FLIGHT });
  expect(lines[1]).toMatchObject({ requestId: answer.requestId, row: 1, inputs: { ...odd, origin: 'Zürich "\u2028"\n\ufffd' } });
  expect(lines[2]).toMatchObject({ requestId: 'mine-1', row: 0, inputs: FLIGHT });
  expect(lines[2]?.output[1]).toBe(single.predictions[0]?.probabilities['late']);
  expect(Number.isNaN(Date.parse(lines[0]?.at ?? ''))).toBe(false);
  expect(lines[0]?.latencyMs).toBeGreaterThan(0);
});

test('a route that does not log leaves no line', async () => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1), { log: false })];
  const { server, url } = await bench.serve();
  await predict(url, [FLIGHT]);
  await server.stop();
  expect(await linesUnder('predictions', 'flights')).toEqual([]);
});

test('columns that the signature does not name, and those that are hashed, never reach the log as they came', async () => {
  const version = await publishVersion(bench.artifacts, 1, {
    transforms: [rename('airport', 'place'), set('origin', hashed(col('place')))],
    signature: {
      columns: [
        { name: 'distance', type: 'number' },
        { name: 'seats', type: 'number' },
        { name: 'airport', type: 'string' },
        { name: 'departed', type: 'timestamp' },
      ],
    },
    sampleRows: [],
    sampleOutput: [],
  });
  bench.store.routes = [bench.route('flights', 1, version)];
  const { server, url } = await bench.serve({ hashKey: 'a key for tests' });
  const row = { distance: 0.1, seats: 0.2, airport: 'SECRET-PLACE', departed: FLIGHT.departed };
  expect((await post(`${url}/predict/flights`, { rows: [row] })).status).toBe(200);
  expect((await post(`${url}/predict/flights`, { rows: [{ ...row, passenger: 'SECRET-NAME' }] })).status).toBeOneOf([200, 400]);
  await server.stop();
  const lines = await linesUnder<PredictionRecord>('predictions', 'flights');
  expect(JSON.stringify(lines)).not.toContain('SECRET');
  expect(lines[0]?.inputs).toEqual({ distance: 0.1, seats: 0.2, departed: FLIGHT.departed, origin: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
});

test('labels are appended by request id, and a label that cannot be one is refused', async () => {
  const url = await serveFlights();
  const { requestId } = await predict(url, [FLIGHT]);
  const accepted = await post(`${url}/feedback/flights`, {
    labels: [
      { requestId, label: 'late' },
      { requestId, row: 3, label: 1 },
    ],
  });
  expect([accepted.status, ((await accepted.json()) as { accepted: number }).accepted]).toEqual([200, 2]);
  expect(await linesUnder<FeedbackRecord>('feedback', 'flights')).toMatchObject([
    { requestId, row: 0, label: 'late' },
    { requestId, row: 3, label: 1 },
  ]);
  const refused = await post(`${url}/feedback/flights`, { labels: [{ requestId: 'a b', label: 1 }, { requestId }] });
  expect(refused.status).toBe(400);
  expect(((await refused.json()) as ErrorBody).problems.map((p) => p.path)).toEqual(['labels.0.requestId', 'labels.1.label']);
  expect((await post(`${url}/feedback/nobody`, { labels: [] })).status).toBe(404);
  expect((await post(`${url}/feedback/flights`, { labels: [{ requestId, label: 1 }] }, { 'content-type': 'text/plain' })).status).toBe(400);
});

test('twenty swaps under load fail no request, and each answer is the output of the version that it names', async () => {
  const versions = await Promise.all(Array.from({ length: 21 }, (_, i) => publishVersion(bench.artifacts, i + 1, { bias: (i - 10) / 5 })));
  bench.store.routes = versions.slice(0, 1).map((version) => bench.route('flights', 1, version));
  const { url } = await bench.serve();
  const load = { on: true };
  const seen = new Map<number, number>();
  const clients = Array.from({ length: 8 }, async (_, client) => {
    let last = 0;
    for (let i = 0; load.on; i += 1) {
      const row = { ...FLIGHT, distance: ((client * 31 + i) % 100) / 100 };
      const answer = await predict(url, [row]);
      expect(answer.predictions[0]?.probabilities['late']).toBeCloseTo(expectedProbability(row, (answer.version - 11) / 5), 5);
      expect(answer.version).toBeGreaterThanOrEqual(last);
      last = answer.version;
      seen.set(answer.version, (seen.get(answer.version) ?? 0) + 1);
    }
  });
  for (const [i, version] of versions.entries()) {
    if (i === 0) continue;
    bench.store.routes = [bench.route('flights', i + 1, version)];
    bench.store.changed();
    await until(() => bench.store.heartbeats.at(-1)?.holding.some((held) => held.epoch === i + 1) ?? false);
    expect((await predict(url, [FLIGHT])).version).toBe(i + 1);
  }
  load.on = false;
  await Promise.all(clients);
  expect([...seen.keys()].every((version) => version >= 1 && version <= 21)).toBe(true);
});

test('a route with an older epoch changes nothing', async () => {
  const [one, two] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  bench.store.routes = [bench.route('flights', 5, two)];
  const { url } = await bench.serve();
  bench.store.routes = [bench.route('flights', 4, one)];
  bench.store.changed();
  const heartbeats = bench.store.heartbeats.length;
  await until(() => bench.store.heartbeats.length > heartbeats + 3);
  expect((await predict(url, [FLIGHT])).version).toBe(2);
  expect(bench.store.heartbeats.at(-1)?.holding).toEqual([{ endpoint: 'flights', epoch: 5 }]);
});

test.each([
  ['its stored sample gives another output', { sampleOutput: [[0.4, 0.6]] }, 'MODEL_INVALID'],
  ['its file is no model', { bytes: Buffer.from('no model') }, 'MODEL_INVALID'],
  ['its signature names other columns', { signature: { graph: { numbers: ['distance', 'seats', 'origin'], dates: ['departed'], strings: [] } } }, undefined],
])('a version is not served when %s: the old one answers, and the epoch is not held', async (_, options, code) => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { url } = await bench.serve();
  bench.store.routes = [bench.route('flights', 2, await publishVersion(bench.artifacts, 2, options))];
  bench.store.changed();
  await until(() => (bench.store.heartbeats.at(-1)?.failures.length ?? 0) > 0);
  const heartbeat = bench.store.heartbeats.at(-1);
  expect(heartbeat?.holding).toEqual([{ endpoint: 'flights', epoch: 1 }]);
  expect(heartbeat?.failures).toMatchObject([{ endpoint: 'flights', epoch: 2, ...(code === undefined ? {} : { error: { code } }) }]);
  expect((await predict(url, [FLIGHT])).version).toBe(1);
  // A rollback is a newer route, and clears the failure.
  bench.store.routes = [bench.route('flights', 3, await publishVersion(bench.artifacts, 1))];
  bench.store.changed();
  await until(() => bench.store.heartbeats.at(-1)?.holding[0]?.epoch === 3);
  expect(bench.store.heartbeats.at(-1)?.failures).toEqual([]);
});

test('a version whose artifact was changed on disk is not served', async () => {
  const version = await publishVersion(bench.artifacts, 1);
  const path = await bench.artifacts.pathOf(version.predictor);
  await chmod(path, 0o644);
  await writeFile(path, '{}');
  bench.store.routes = [bench.route('flights', 1, version)];
  const { url } = await bench.serve();
  const response = await post(`${url}/predict/flights`, { rows: [FLIGHT] });
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('1');
  expect(((await response.json()) as ErrorBody).code).toBe('ENDPOINT_NOT_READY');
  expect((await fetch(`${url}/v2/models/flights/ready`)).status).toBe(503);
  await until(() => bench.store.heartbeats.at(-1)?.failures[0]?.error.code === 'ARTIFACT_CORRUPT');
});

test('a challenger answers its share, the same requests each time, and nothing once its lease has ended', async () => {
  const [champion, challenger] = [await publishVersion(bench.artifacts, 1), await publishVersion(bench.artifacts, 2)];
  const route = (epoch: number, leaseMs: number): void => {
    bench.store.routes = [
      bench.route('flights', epoch, champion, { challenger: { version: challenger, percent: 30, leaseUntil: new Date(Date.now() + leaseMs).toISOString() } }),
    ];
    bench.store.changed();
  };
  route(1, 60_000);
  const { url } = await bench.serve();
  const ids = Array.from({ length: 400 }, (_, i) => `request-${i}`);
  const byId = async (): Promise<number[]> => Promise.all(ids.map(async (id) => (await predict(url, [FLIGHT], { 'x-request-id': id })).version));
  const versions = await byId();
  expect(versions).toEqual(ids.map((id) => (trafficBucket(id) < 3_000 ? 2 : 1)));
  // 30 % of 400, within four standard deviations of a binomial.
  const share = versions.filter((v) => v === 2).length;
  expect(Math.abs(share - 120)).toBeLessThan(4 * Math.sqrt(400 * 0.3 * 0.7));
  expect(await byId()).toEqual(versions);
  expect((await post(`${url}/v2/models/flights/versions/2/infer`, inferBody())).headers.get('millrace-version')).toBe('2');
  route(2, -1);
  await until(() => bench.store.heartbeats.at(-1)?.holding[0]?.epoch === 2);
  expect(new Set(await byId())).toEqual(new Set([1]));
});

test('predictions go on when the store is down, and a start without it serves what was known', async () => {
  const first = await serveFlights(3);
  bench.store.down = true;
  await until(() => bench.logLines.some((line) => line.message.includes('does not answer')));
  expect((await predict(first, [FLIGHT])).version).toBe(3);
  const { url } = await bench.serve();
  expect((await predict(url, [FLIGHT])).version).toBe(3);
  expect((await fetch(`${url}/v2/health/ready`)).status).toBe(200);
  bench.store.down = false;
  bench.store.routes = [bench.route('flights', 4, await publishVersion(bench.artifacts, 4))];
  await until(async () => (await predict(url, [FLIGHT])).version === 4);
});

test('a file of kept routes that is damaged does not keep the server from starting', async () => {
  await serveFlights(1);
  await until(async () => (await readFile(join(bench.home, 'serving', 'routes.json'), 'utf8').catch(() => '')) !== '');
  await writeFile(join(bench.home, 'serving', 'routes.json'), '{"format":');
  const { url } = await bench.serve();
  expect((await predict(url, [FLIGHT])).version).toBe(1);
});

test('an endpoint that is taken away is not found any more', async () => {
  const url = await serveFlights();
  bench.store.routes = [];
  bench.store.changed();
  await until(async () => (await post(`${url}/predict/flights`, { rows: [FLIGHT] })).status === 404);
  await until(() => bench.store.heartbeats.at(-1)?.holding.length === 0);
});

test('figures of each interval reach the store once, also those that could not be sent at first', async () => {
  const url = await serveFlights();
  bench.store.down = true;
  for (let i = 0; i < 5; i += 1) await predict(url, [FLIGHT]);
  await post(`${url}/predict/flights`, { rows: [{}] });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(bench.store.stats).toEqual([]);
  bench.store.down = false;
  const total = (): number => [...new Map(bench.store.stats.map((s) => [s.from, s.requests])).values()].reduce((sum, requests) => sum + requests, 0);
  await until(() => total() >= 6);
  expect(total()).toBe(6);
  expect(bench.store.stats[0]).toMatchObject({ endpoint: 'flights', model: 'flight-delay', version: 1, errors: 0 });
  expect(bench.store.stats.every((s) => /:\d\d\.000Z$/.test(s.from))).toBe(true);
});

test('metrics count requests by version and code, and put each latency into one bucket', async () => {
  const url = await serveFlights();
  for (let i = 0; i < 3; i += 1) await predict(url, [FLIGHT, FLIGHT]);
  await post(`${url}/predict/flights`, { rows: [{}] });
  const text = await (await fetch(`${url}/metrics`)).text();
  const labels = 'endpoint="flights",model="flight-delay",version="1"';
  expect(text).toContain(`millrace_predictions_total{${labels},code="200"} 3`);
  expect(text).toContain(`millrace_predictions_total{${labels},code="400"} 1`);
  expect(text).toContain(`millrace_predicted_rows_total{${labels}} 7`);
  expect(text).toContain(`millrace_prediction_duration_seconds_bucket{${labels},le="+Inf"} 4`);
  expect(text).toContain(`millrace_prediction_duration_seconds_count{${labels}} 4`);
  expect(text).toContain('millrace_endpoint_epoch{endpoint="flights"} 1');
});

const inferBody = (rows: readonly FlightRow[] = [FLIGHT]): Record<string, unknown> => ({
  id: 'infer-1',
  inputs: [
    { name: 'distance', datatype: 'FP64', shape: [rows.length], data: rows.map((r) => r.distance) },
    { name: 'seats', datatype: 'FP32', shape: [rows.length, 1], data: rows.map((r) => [r.seats]) },
    { name: 'origin', datatype: 'BYTES', shape: [rows.length], data: rows.map((r) => r.origin) },
    { name: 'departed', datatype: 'BYTES', shape: [rows.length], data: rows.map((r) => r.departed) },
  ],
});

interface InferAnswer {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly outputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
    readonly data: readonly (number | string)[];
  }[];
}

test('the Open Inference Protocol describes a model by its raw columns and infers on tensors of them', async () => {
  const url = await serveFlights();
  expect(await (await fetch(`${url}/v2`)).json()).toMatchObject({ name: 'millrace', extensions: ['binary_tensor_data'] });
  expect((await fetch(`${url}/v2/health/live`)).status).toBe(200);
  expect(await (await fetch(`${url}/v2/models/flights/ready`)).json()).toEqual({ name: 'flights', ready: true });
  expect(await (await fetch(`${url}/v2/models/flights/versions/1`)).json()).toMatchObject({
    name: 'flights',
    versions: ['1'],
    inputs: [
      { name: 'distance', datatype: 'FP64', shape: [-1] },
      { name: 'seats', datatype: 'FP64', shape: [-1] },
      { name: 'origin', datatype: 'BYTES', shape: [-1] },
      { name: 'departed', datatype: 'BYTES', shape: [-1] },
    ],
    outputs: [
      { name: 'output', datatype: 'FP32', shape: [-1, 2] },
      { name: 'label', datatype: 'BYTES', shape: [-1] },
    ],
  });
  const rows = [FLIGHT, { ...FLIGHT, distance: -4, origin: 'ORD' }];
  const response = await post(`${url}/v2/models/flights/infer`, inferBody(rows));
  const answer = (await response.json()) as InferAnswer;
  expect(answer).toMatchObject({ model_name: 'flights', model_version: '1', id: 'infer-1' });
  expect(response.headers.get('x-request-id')).toBe('infer-1');
  const [output, label] = answer.outputs;
  expect(output).toMatchObject({ name: 'output', datatype: 'FP32', shape: [2, 2] });
  expect(output?.data[1]).toBeCloseTo(expectedProbability(rows[0] ?? FLIGHT, 1), 5);
  expect(output?.data[3]).toBeCloseTo(expectedProbability(rows[1] ?? FLIGHT, 1), 5);
  expect(label?.data).toEqual(['late', 'on time']);
});

test('the graph’s own packed inputs are taken as they are', async () => {
  const url = await serveFlights();
  const response = await post(`${url}/v2/models/flights/infer`, {
    inputs: [
      { name: 'numbers', datatype: 'FP32', shape: [1, 2], data: [[FLIGHT.distance, FLIGHT.seats]] },
      { name: 'dates', datatype: 'INT64', shape: [1, 1], data: [Date.parse(FLIGHT.departed)] },
      { name: 'strings', datatype: 'BYTES', shape: [1, 1], data: [FLIGHT.origin] },
    ],
    outputs: [{ name: 'output' }],
  });
  const { outputs } = (await response.json()) as InferAnswer;
  expect(outputs).toHaveLength(1);
  expect(outputs[0]?.data[1]).toBeCloseTo(expectedProbability(FLIGHT, 1), 5);
});

test('tensors that do not fit are refused, each by its name', async () => {
  const url = await serveFlights();
  const body = inferBody() as { inputs: Record<string, unknown>[] };
  body.inputs[0] = { name: 'distance', datatype: 'FP64', shape: [2], data: [1] };
  const response = await post(`${url}/v2/models/flights/infer`, body);
  expect(response.status).toBe(400);
  const error = (await response.json()) as ErrorBody;
  expect(error.problems.map((p) => p.path)).toEqual(['inputs.distance']);
  expect(error.error).toContain('inputs.distance');
  const unknownOutput = await post(`${url}/v2/models/flights/infer`, { ...inferBody(), outputs: [{ name: 'logits' }] });
  expect(((await unknownOutput.json()) as ErrorBody).problems[0]?.path).toBe('outputs.logits');
});

test('with a token nothing but health is answered without it', async () => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { url } = await bench.serve({ token: 'a-secret-token' });
  expect((await post(`${url}/predict/flights`, { rows: [FLIGHT] })).status).toBe(401);
  expect((await fetch(`${url}/metrics`)).status).toBe(401);
  expect((await post(`${url}/predict/flights`, { rows: [FLIGHT] }, { authorization: 'Bearer a-secret-tokem' })).status).toBe(401);
  expect((await fetch(`${url}/v2/health/ready`)).status).toBe(200);
  expect((await post(`${url}/predict/flights`, { rows: [FLIGHT] }, { authorization: 'Bearer a-secret-token' })).status).toBe(200);
});

test('a stop answers what is under way, tells the store that it leaves, and takes nothing new', async () => {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1))];
  const { url } = await bench.serve({ drainMs: 300 });
  const under = Promise.all(Array.from({ length: 50 }, () => predict(url, [FLIGHT])));
  await until(async () => (await (await fetch(`${url}/metrics`)).text()).includes('code="200"'));
  await bench.close();
  expect(await under).toHaveLength(50);
  expect(bench.store.left).toEqual(['test-1']);
  await expect(fetch(`${url}/v2/health/live`)).rejects.toThrow();
});

test('the test model is the same file each time', () => {
  const hash = (bias: number): string => createHash('sha256').update(flightModel(bias)).digest('hex');
  expect(hash(1)).toBe(hash(1));
  expect(hash(1)).not.toBe(hash(2));
  expect(FLIGHT_SIGNATURE.columns.map((c) => c.name)).toEqual(Object.keys(FLIGHT));
});
