import { readFileSync } from 'node:fs';
import onnxProto from 'onnx-proto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Route, ServedVersion } from '../../contracts/routes.ts';
import { floatTensor, int64Tensor, intAttribute, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { freshStore } from '../support/database.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';
import { childrenOf, type ServingProcess, startServingProcess } from '../support/serving-process.ts';

let bench: ServingBench;
let store: Awaited<ReturnType<typeof freshStore>>;
const started: ServingProcess[] = [];

beforeAll(async () => {
  bench = await openServingBench();
  store = await freshStore();
});
afterAll(async () => {
  for (const server of started) {
    const children = childrenOf(server.child.pid ?? 0);
    await server.stop();
    expect(children.filter((pid) => childrenOf(process.pid).includes(pid))).toEqual([]);
  }
  await bench.close();
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

const epochs = new Map<string, number>();
async function publish(endpoint: string, champion: ServedVersion, more: Partial<Route> = {}): Promise<number> {
  const expectedEpoch = epochs.get(endpoint) ?? 0;
  const epoch = expectedEpoch + 1;
  epochs.set(endpoint, epoch);
  await store.endpoints.setRoute({ route: bench.route(endpoint, epoch, champion, more), expectedEpoch, rolloutId: null });
  return epoch;
}

const ask = (url: string, endpoint: string, row: object = FLIGHT, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/predict/${endpoint}`, {
    method: 'POST',
    // A connection of its own each: the parent hands connections, not requests, to the processes in turn.
    headers: { 'content-type': 'application/json', connection: 'close', ...headers },
    body: JSON.stringify({ rows: [row] }),
  });

async function askedVersion(url: string, endpoint: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await ask(url, endpoint, FLIGHT, headers);
  expect(response.status).toBe(200);
  return ((await response.json()) as { version: number }).version;
}

/**
 * A model of the test's signature that computes for hours on a row with `distance` above 1,000, and at once on any other.
 * A large one is run on a thread of its own.
 */
function hangingModel({ large = false } = {}): Uint8Array {
  const { onnx } = onnxProto;
  const node = (opType: string, input: string[], output: string[], attribute: object[] = []): object => ({
    opType,
    input,
    output,
    attribute,
    domain: '',
    name: output[0],
  });
  const scalar = (name: string, elemType: number): object => ({ name, type: { tensorType: { elemType, shape: { dim: [] } } } });
  const vector = (name: string, elemType: number): object => ({ name, type: { tensorType: { elemType, shape: { dim: [{ dimValue: 1 }] } } } });
  const BOOL = 9;
  const body = {
    name: 'body',
    input: [scalar('i', ONNX_TYPE.int64), scalar('goOn', BOOL), vector('sum', ONNX_TYPE.float)],
    output: [scalar('goOnOut', BOOL), vector('sumOut', ONNX_TYPE.float)],
    node: [node('Identity', ['goOn'], ['goOnOut']), node('Add', ['sum', 'sum'], ['sumOut'])],
  };
  const model = onnx.ModelProto.create({
    irVersion: 8,
    opsetImport: [{ domain: '', version: 17 }],
    graph: {
      name: 'hanging',
      input: [valueInfo('numbers', ONNX_TYPE.float, 2), valueInfo('dates', ONNX_TYPE.int64, 1), valueInfo('strings', ONNX_TYPE.string, 1)],
      output: [valueInfo('output', ONNX_TYPE.float, 2)],
      initializer: [
        floatTensor('limit', [1], [1000]),
        floatTensor('many', [1], [1e9]),
        floatTensor('zero', [1], [0]),
        floatTensor('half', [1, 1], [0.5]),
        int64Tensor('none', [0], []),
        int64Tensor('columns', [2], [1, 2]),
        ...(large ? [{ name: 'ballast', dataType: ONNX_TYPE.float, dims: [2_500_000], rawData: new Uint8Array(10_000_000) }] : []),
      ],
      node: [
        node('ReduceMax', ['numbers'], ['most'], [intAttribute('keepdims', 0)]),
        node('Sub', ['most', 'limit'], ['above']),
        node('Relu', ['above'], ['rest']),
        node('Mul', ['rest', 'many'], ['turns']),
        node('Reshape', ['turns', 'none'], ['turn']),
        node('Cast', ['turn'], ['trips'], [intAttribute('to', ONNX_TYPE.int64)]),
        node('Loop', ['trips', '', 'zero'], ['summed'], [{ name: 'body', type: 5, g: body }]),
        node('Shape', ['dates'], ['rows']),
        node('Expand', ['half', 'rows'], ['halves']),
        node('Tile', ['halves', 'columns'], ['pairs']),
        node('Add', ['pairs', 'summed'], ['output']),
      ],
    },
  });
  return onnx.ModelProto.encode(model).finish();
}
const HANGS = { ...FLIGHT, distance: 2_000 };

test('a process that crashes costs its own requests at most; its port stays open, another takes its place and holds the routes', async () => {
  const epoch = await publish('flights', await publishVersion(bench.artifacts, 1));
  const server = await startServingProcess({ databaseUrl: store.databaseUrl, home: bench.home, env: { MILLRACE_SERVING_PROCESSES: '2' } });
  started.push(server);
  await until(async () => (await store.servers.holders({ endpoint: 'flights', epoch })).holding === 2);
  const first = childrenOf(server.child.pid ?? 0);
  expect(first).toHaveLength(2);

  for (let i = 0; i < 20; i += 1) expect(await askedVersion(server.url, 'flights')).toBe(1);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toContain('millrace_predictions_total{endpoint="flights",model="flight-delay",version="1",code="200"} 20\n');
  expect(metrics.match(/# TYPE millrace_predictions_total/g)).toHaveLength(1);

  const load = { on: true, failed: 0, answered: 0 };
  const clients = Array.from({ length: 4 }, async () => {
    while (load.on) {
      const status = await ask(server.url, 'flights').then(
        async (response) => {
          await response.arrayBuffer();
          return response.status;
        },
        () => 0,
      );
      if (status === 200) load.answered += 1;
      else load.failed += 1;
    }
  });
  process.kill(first[0] ?? 0, 'SIGSEGV');
  await until(() => {
    const now = childrenOf(server.child.pid ?? 0);
    return now.length === 2 && !now.includes(first[0] ?? 0);
  });
  const answered = load.answered;
  await until(() => load.answered > answered + 20);
  load.on = false;
  await Promise.all(clients);
  // Four clients had one request each under way at most.
  expect(load.failed).toBeLessThanOrEqual(4);
  await until(async () => {
    const { live, holding } = await store.servers.holders({ endpoint: 'flights', epoch });
    return live === 2 && holding === 2;
  });
  expect(await server.stop()).toBe(0);
  await until(async () => (await store.servers.holders({ endpoint: 'flights', epoch })).live === 0);
});

test.each([
  ['a challenger', false],
  ['a large challenger, on a thread of its own,', true],
])('%s that hangs is killed with its process, gets no more traffic, and the store is told; the champion and other endpoints answer on', async (_, large) => {
  const [one, two] = [
    await publishVersion(bench.artifacts, 1),
    await publishVersion(bench.artifacts, 2, { bytes: hangingModel({ large }), sampleOutput: [[0.5, 0.5]] }),
  ];
  const [risky, others] = [`risky-${String(large)}`, `others-${String(large)}`];
  await publish(others, one);
  const epoch = await publish(risky, one, { challenger: { version: two, percent: 50, leaseUntil: new Date(Date.now() + 600_000).toISOString() } });
  const server = await startServingProcess({
    databaseUrl: store.databaseUrl,
    home: bench.home,
    env: { MILLRACE_SERVING_PROCESSES: '2', MILLRACE_SERVING_HANG_SECONDS: '1' },
  });
  started.push(server);
  await until(async () => (await store.servers.holders({ endpoint: risky, epoch })).holding === 2);
  const challenged = async (): Promise<number[]> =>
    [...new Set(await Promise.all(Array.from({ length: 40 }, (_, i) => askedVersion(server.url, risky, { 'x-request-id': `r-${i}` }))))].sort();
  expect(await challenged()).toEqual([1, 2]);

  const hanging = fetch(`${server.url}/v2/models/${risky}/versions/2/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: Object.entries(HANGS).map(([name, value]) => ({ name, datatype: typeof value === 'string' ? 'BYTES' : 'FP64', shape: [1], data: [value] })),
    }),
  }).then(
    (response) => response.status,
    () => 'cut off',
  );
  expect(await hanging).toBe('cut off');
  await until(async () => (await store.stats.breaks({ endpoint: risky, model: two.model, version: 2, fromEpoch: epoch })).length > 0);
  expect(await challenged()).toEqual([1]);
  expect(await askedVersion(server.url, others)).toBe(1);
  const { problems } = await store.servers.holders({ endpoint: risky, epoch });
  expect(problems.join()).toContain('hung for 1 s while it ran this model');
  expect(await server.stop()).toBe(0);
});

/** Processor time of a process so far, in ticks of its kernel. */
function ticksOf(pid: number): number {
  const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return user + system;
}

test('a champion whose run ends its process gives way to the champion before, the third time; other endpoints answer on all the while', async () => {
  const [one, two] = [
    await publishVersion(bench.artifacts, 1),
    await publishVersion(bench.artifacts, 2, { bytes: hangingModel(), sampleOutput: [[0.5, 0.5]] }),
  ];
  await publish('steady', one);
  await publish('crashing', one);
  const server = await startServingProcess({
    databaseUrl: store.databaseUrl,
    home: bench.home,
    env: { MILLRACE_SERVING_PROCESSES: '2', MILLRACE_SERVING_HANG_SECONDS: '600' },
  });
  started.push(server);
  const parent = server.child.pid ?? 0;
  const heldBy = async (processes: number, epoch: number): Promise<boolean> =>
    (await store.servers.holders({ endpoint: 'crashing', epoch })).holding >= processes;
  await until(() => heldBy(2, 1));
  const epoch = await publish('crashing', two);
  await until(() => heldBy(2, epoch));
  expect(await askedVersion(server.url, 'crashing')).toBe(2);

  const ticks = (): Map<number, number> => new Map(childrenOf(parent).map((pid) => [pid, ticksOf(pid)]));
  const grown = (before: ReadonlyMap<number, number>): { readonly pid: number; readonly ticks: number }[] =>
    [...before].map(([pid, then]) => ({ pid, ticks: ticksOf(pid) - then })).sort((a, b) => b.ticks - a.ticks);
  // one that has just started computes too
  const idle = async (): Promise<boolean> => {
    const before = ticks();
    await new Promise((resolve) => setTimeout(resolve, 300));
    return before.size === 2 && grown(before).every((one) => one.ticks <= 3);
  };

  const load = { on: true, answered: 0, lost: 0 };
  for (let crash = 1; crash <= 3; crash += 1) {
    await until(idle);
    const before = ticks();
    const cut = ask(server.url, 'crashing', HANGS).then(
      ({ status }) => status,
      () => 'cut off',
    );
    // the process that computes since then is the one in the middle of that request's run
    let busy: number | undefined;
    await until(() => {
      const [most] = grown(before);
      busy = most?.pid;
      return (most?.ticks ?? 0) > 50;
    });
    load.on = true;
    const clients = Array.from({ length: 2 }, async () => {
      while (load.on) {
        const status = await ask(server.url, 'steady').then(
          async (response) => {
            await response.arrayBuffer();
            return response.status;
          },
          () => 0,
        );
        if (status === 200) load.answered += 1;
        else load.lost += 1;
      }
    });
    process.kill(busy ?? 0, 'SIGABRT');
    expect(await cut).toBe('cut off');
    const answered = load.answered;
    await until(() => childrenOf(parent).length === 2 && !childrenOf(parent).includes(busy ?? 0) && load.answered > answered + 5);
    load.on = false;
    await Promise.all(clients);
    await until(async () => (await store.servers.holders({ endpoint: 'steady', epoch: 1 })).holding === 2);
    if (crash < 3) expect(await askedVersion(server.url, 'crashing')).toBe(2);
  }
  // two clients, one request each under way at most when a process ended
  expect(load.lost).toBeLessThanOrEqual(6);
  await until(async () => (await askedVersion(server.url, 'crashing')) === 1);
  const { problems } = await store.servers.holders({ endpoint: 'crashing', epoch });
  expect(problems.join()).toContain('SIGABRT');
  expect(await server.stop()).toBe(0);
});
