import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createRandom } from '../../ml/random.ts';
import { freshStore } from '../support/database.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';
import { type ServingProcess, startServingProcess } from '../support/serving-process.ts';

const BODIES = 10_000;
const AT_ONCE = 32;
const ANSWER_WITHIN_MS = 20_000;

let bench: ServingBench;
let server: ServingProcess;
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });

beforeAll(async () => {
  bench = await openServingBench();
  const version = await publishVersion(bench.artifacts, 1);
  const { endpoints, databaseUrl } = await freshStore();
  await endpoints.setRoute({ route: bench.route('flights', 1, version), expectedEpoch: 0, rolloutId: null });
  server = await startServingProcess({ databaseUrl, home: bench.home });
});
afterAll(async () => {
  agent.destroy();
  await server.stop();
  await bench.close();
});

interface Malformed {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

const source = createRandom(20260614);
const chance = (): number => source.next();
const below = (n: number): number => Math.floor(chance() * n);
const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;
const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => below(256)));

const tensor = (name: string, datatype: string, data: unknown): Record<string, unknown> => ({ name, datatype, shape: [1], data: [data] });
const inferBody = (): Record<string, unknown> => ({
  inputs: [tensor('distance', 'FP64', 0.4), tensor('seats', 'FP32', 0.2), tensor('origin', 'BYTES', 'ATL'), tensor('departed', 'BYTES', FLIGHT.departed)],
});
const packedBody = (): Record<string, unknown> => ({
  inputs: [
    { name: 'numbers', datatype: 'FP32', shape: [1, 2], data: [0.4, 0.2] },
    { name: 'dates', datatype: 'INT64', shape: [1, 1], data: [978_393_600_000] },
    { name: 'strings', datatype: 'BYTES', shape: [1, 1], data: ['ATL'] },
  ],
});
const SOUND: readonly { readonly path: string; readonly body: () => unknown }[] = [
  { path: '/predict/flights', body: () => ({ rows: [{ ...FLIGHT }, { ...FLIGHT }] }) },
  { path: '/v2/models/flights/infer', body: inferBody },
  { path: '/v2/models/flights/versions/1/infer', body: packedBody },
  {
    path: '/feedback/flights',
    body: () => ({ labels: [{ requestId: 'r', row: 0, label: 'late' }], outcomes: [{ requestId: 'r', name: 'revenue', value: 1 }] }),
  },
];

const ODD: readonly (() => unknown)[] = [
  () => null,
  () => true,
  () => -1,
  () => 1.5,
  () => Number.MAX_SAFE_INTEGER + 2,
  () => 1e308,
  () => '',
  () => 'NaN',
  () => '\u0000',
  () => '\ud800',
  () => '💥'.repeat(below(200)),
  () => 'x'.repeat(below(20_000)),
  () => [],
  () => ({}),
  () => [[[[[[[[[[1]]]]]]]]]],
  () => ({ __proto__: null, constructor: { prototype: 1 }, toString: 1, valueOf: null, hasOwnProperty: 0 }),
  () => JSON.parse('{"__proto__":{"distance":1},"length":-1}') as unknown,
  () => Array.from({ length: below(300) }, () => pick([1, 'x', null])),
  () => ['BOOL', 'UINT8', 'UINT64', 'FP16', 'BF16', 'FP99', 'BYTES'][below(7)],
  () => [below(3) - 1, 4_294_967_296, 4_294_967_296],
];

function mutateList(list: readonly unknown[]): unknown {
  if (list.length === 0) return pick(ODD)();
  const at = below(list.length);
  const before = list.slice(0, at);
  const turn = chance();
  if (turn < 0.15) return [...before, ...list.slice(at + 1)];
  if (turn < 0.3) return [...before, list[at], ...list.slice(at)];
  return [...before, mutate(list[at]), ...list.slice(at + 1)];
}

/** One place of a value is changed, taken away, doubled or renamed. */
function mutate(value: unknown): unknown {
  if (chance() < 0.25 || typeof value !== 'object' || value === null) return pick(ODD)();
  if (Array.isArray(value)) return mutateList(value);
  const entries = Object.entries(value);
  const chosen: readonly [string, unknown] | undefined = entries[below(entries.length)];
  if (chosen === undefined) return pick(ODD)();
  const [key, inner] = chosen;
  const turn = chance();
  if (turn < 0.1) return Object.fromEntries(entries.filter(([name]) => name !== key));
  const renamed = turn < 0.2 ? pick(['__proto__', 'constructor', 'toString', '', 'rows', 'ROWS', 'output']) : key;
  return Object.fromEntries(entries.map(([name, old]) => (name === key ? [renamed, turn < 0.2 ? inner : mutate(inner)] : [name, old])));
}

const LITERALS = ['NaN', 'Infinity', '-Infinity', '1e400', '-1e400', '1e-400', '00', '.5', '0x1', 'undefined', '12345678901234567890123', "'a'", '\\u0000'];

function malformed(): Malformed {
  const { path, body } = pick(SOUND);
  const sound = body();
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  const kind = below(10);
  const text = JSON.stringify(sound);
  if (kind <= 3) {
    let value = sound;
    for (let i = 0; i <= below(3); i += 1) value = mutate(value);
    return { path, headers, body: Buffer.from(JSON.stringify(value)) };
  }
  if (kind === 4) return { path, headers, body: Buffer.from(text.slice(0, below(text.length))) };
  if (kind === 5) {
    const flipped = Buffer.from(text);
    for (let i = 0; i <= below(6); i += 1) flipped[below(flipped.length)] = below(256);
    return { path, headers, body: flipped };
  }
  if (kind === 6) {
    const depth = pick([10, 1_000, 20_000]);
    const inner = pick(['1', '"x"', '{}']);
    const nested = chance() < 0.5 ? `${'['.repeat(depth)}${inner}${']'.repeat(depth)}` : `${'{"a":'.repeat(depth)}${inner}${'}'.repeat(depth)}`;
    const field = pick(['rows', 'inputs', 'labels', 'keys', 'a']);
    return {
      path,
      headers,
      body: Buffer.from(pick([nested, `{"${field}":${nested}}`, `{"${field}":[${nested}]}`, `{"${field}":[{"distance":${nested},"data":${nested}}]}`])),
    };
  }
  if (kind === 7)
    return {
      path,
      headers: { 'content-type': pick(['application/json', 'application/octet-stream', 'text/plain', 'a/b; c=;;', 'multipart/form-data']) },
      body: bytes(below(600)),
    };
  if (kind === 8) return { path, headers, body: Buffer.from(text.replace(/-?\d+(?:\.\d+)?/, () => pick(LITERALS))) };
  // Binary tensors whose sizes, shapes and bytes do not agree.
  const datatype = pick(['FP64', 'INT8', 'BYTES', 'FP16', 'UINT64', 'BOOL', 'BF16']);
  const tail = bytes(below(64));
  const head = JSON.stringify({
    inputs: [
      {
        name: pick(['distance', 'numbers', 'nobody']),
        datatype,
        shape: pick([[1], [2], [0], [1, 2], [1_000_000_000], [4_294_967_296, 4_294_967_296]]),
        parameters: { binary_data_size: pick([tail.length, 0, 8, 1_000_000_000, 1]) },
      },
    ],
  });
  const length = pick([String(head.length), String(head.length + tail.length + 1), '-1', 'NaN', '0', '1e9', '']);
  return {
    path: '/v2/models/flights/infer',
    headers: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': length,
      ...(chance() < 0.1 ? { 'content-encoding': 'gzip' } : {}),
    },
    body: Buffer.concat([Buffer.from(head), tail]),
  };
}

function send({ path, headers, body }: Malformed): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      `${server.url}${path}`,
      { method: 'POST', agent, headers: { ...headers, 'content-length': body.length }, timeout: ANSWER_WITHIN_MS },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, text });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
    asked.on('error', reject);
    asked.end(body);
  });
}

async function stillAnswers(): Promise<void> {
  const { status, text } = await send({
    path: '/predict/flights',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ rows: [FLIGHT] })),
  });
  expect(status).toBe(200);
  expect(JSON.parse(text)).toMatchObject({ version: 1, predictions: [{ label: 'late' }] });
}

test('ten thousand malformed bodies get no crash, no hang and no 5xx, and the server answers on', async () => {
  const statuses = new Map<number, number>();
  const wrong: string[] = [];
  let left = BODIES;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left > 0) {
        left -= 1;
        const sent = malformed();
        const { status, text } = await send(sent).catch((error: unknown) => ({ status: 0, text: String(error) }));
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        if ((status !== 200 && (status < 400 || status >= 500)) || !text.startsWith('{'))
          wrong.push(`${sent.path} ${sent.body.toString('latin1').slice(0, 300)} → ${status} ${text.slice(0, 300)}`);
      }
    }),
  );
  expect(wrong.slice(0, 5)).toEqual([]);
  // Most were refused; what a change of a byte left sound was answered.
  expect(statuses.get(400) ?? 0).toBeGreaterThan(BODIES / 2);
  expect([...statuses.values()].reduce((sum, n) => sum + n, 0)).toBe(BODIES);
  expect(server.child.exitCode).toBeNull();
  await stillAnswers();
}, 300_000);

test('connections that do not speak HTTP, or stop in the middle, cost nobody else anything', async () => {
  const { hostname, port } = new URL(server.url);
  const starts = [
    'POST /predict/flights HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{"ro',
    'POST /predict/flights HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n',
    'POST /predict/flights HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef',
    'POST /predict/flights HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n',
    `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
    `GET /metrics HTTP/1.1\r\nhost: a\r\n${'x: y\r\n'.repeat(5_000)}\r\n`,
    '\u0016\u0003\u0001\u0002',
  ];
  await Promise.all(
    Array.from({ length: 70 }, async (_, i) => {
      const socket = connect({ host: hostname, port: Number(port) });
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.write(starts[i % starts.length] ?? '');
      setTimeout(() => socket.destroy(), 50 + (i % 10) * 10);
      await closed;
    }),
  );
  expect(server.child.exitCode).toBeNull();
  await stillAnswers();
});
