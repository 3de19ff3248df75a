import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ErrorReport } from '../../contracts/errors.ts';
import type { FeatureLookup } from '../../contracts/feature-lookup.ts';
import type { PredictionRecord } from '../../contracts/routes.ts';
import { call, col, set } from '../../contracts/row-transforms.ts';
import { entityKey } from '../../data/row-entity.ts';
import type { FeatureSource } from '../../serving/ports.ts';
import { openStore } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';
import { expectedProbability, FLIGHT, type FlightRow, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

const DEFINITION = 'd'.repeat(64);
const DEPARTED = FLIGHT.departed;
const LAST_ROW_MS = Date.UTC(2001, 0, 1);

let store: Awaited<ReturnType<typeof freshStore>>;
let bench: ServingBench;
beforeAll(async () => {
  store = await freshStore();
});
beforeEach(async () => {
  bench = await openServingBench();
});
afterEach(() => bench.close());

/** Distance is the value of an airport's last row, seats a count over a window. */
const lookup = (more: Partial<FeatureLookup> = {}): FeatureLookup => ({
  view: 'airports',
  definition: DEFINITION,
  eventTime: 'at',
  entity: [{ name: 'airport', type: 'string' }],
  features: { distance: { missing: null, ttlMs: null }, seats: { missing: 0, ttlMs: null } },
  key: { columns: [{ name: 'airport', type: 'string' }], transforms: [] },
  ...more,
});

type Values = Readonly<Record<string, { readonly distance: number | null; readonly seats: number | null }>>;

/** Puts values into service as a pipeline's stage does. */
async function materialize(values: Values, view = 'airports'): Promise<void> {
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const { token } = await store.stages.begin({ runId, name: 'm', kind: 'materialize', ordinal: 1, attempt: 1, fingerprint: null, useCache: false });
  const version = await store.featureViews.declare({
    view: { name: view, entity: ['airport'], eventTime: 'at', features: {}, ttlMs: null },
    definition: DEFINITION,
  });
  const by = { runId, stage: 'm', token };
  const begun = await store.featureViews.begin({ view, version, snapshot: randomBytes(32).toString('hex'), asOf: new Date(LAST_ROW_MS).toISOString(), ...by });
  if (begun.state !== 'writing') throw new Error('the values were not taken');
  const rows = Object.entries(values).map(([airport, row]) => ({ key: entityKey([airport]), atMs: LAST_ROW_MS, values: JSON.stringify(row) }));
  await store.featureViews.write(begun.set, rows);
  await store.featureViews.publish({ set: begun.set, entities: rows.length, ...by });
  await store.runs.end({ runId, status: 'completed' });
}

const VALUES: Values = { ATL: { distance: 0.4, seats: 0.2 }, ORD: { distance: -1, seats: 0.5 }, 'Zürich "8"': { distance: null, seats: 3 } };

async function serve(lookups: readonly FeatureLookup[], features: FeatureSource = store.featureViews): Promise<string> {
  bench.store.routes = [bench.route('flights', 1, await publishVersion(bench.artifacts, 1, { lookups }))];
  return (await bench.serve({ features })).url;
}

const post = (url: string, body: unknown): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

async function probabilities(url: string, rows: readonly unknown[]): Promise<readonly (number | undefined)[]> {
  const response = await post(`${url}/predict/flights`, { rows });
  expect(await response.clone().text()).not.toContain('"error"');
  const { predictions } = (await response.json()) as { predictions: { probabilities: Readonly<Record<string, number>> }[] };
  return predictions.map((p) => p.probabilities['late']);
}
const asked = (airport: unknown, more: object = {}): object => ({ airport, origin: 'ATL', departed: DEPARTED, ...more });
const flight = (more: Partial<FlightRow>): number => expectedProbability({ ...FLIGHT, ...more }, 1);

async function refused(url: string, rows: readonly unknown[]): Promise<ErrorReport & { readonly status: number; readonly retryAfter: string | null }> {
  const response = await post(`${url}/predict/flights`, { rows });
  return { ...((await response.json()) as ErrorReport), status: response.status, retryAfter: response.headers.get('retry-after') };
}

test('a request that names the entity gets its columns from the online store', async () => {
  await materialize(VALUES);
  const url = await serve([lookup()]);
  const [late] = await probabilities(url, [asked('ORD')]);
  expect(late).toBeCloseTo(flight({ distance: -1, seats: 0.5 }), 5);
});

test('what a request brings is used as it is, a null too, and what an entity that is not known has is what training rows had', async () => {
  await materialize(VALUES);
  const url = await serve([lookup()]);
  const [given, nothing, unknown, nobody, nullFeature] = await probabilities(url, [
    asked('ORD', { distance: 7 }),
    asked('ORD', { distance: null }),
    asked('XXX', { distance: 1 }),
    asked(null, { seats: 0 }),
    asked('Zürich "8"'),
  ]);
  expect(given).toBeCloseTo(flight({ distance: 7, seats: 0.5 }), 5);
  // NaN comes out of the model as no number, here and where the distance is not known
  expect(nothing).toBeNull();
  expect(unknown).toBeCloseTo(flight({ distance: 1, seats: 0 }), 5);
  expect(nobody).toBeNull();
  expect(nullFeature).toBeNull();
});

test('a request that brings all columns needs neither the store nor the entity', async () => {
  const asleep: FeatureSource = { lookup: () => new Promise(() => undefined) };
  const url = await serve([lookup()], asleep);
  const [late] = await probabilities(url, [FLIGHT]);
  expect(late).toBeCloseTo(flight({}), 5);
});

test('rows and requests that meet are read together, and what was read is not read again at once', async () => {
  await materialize(VALUES);
  const reads: number[] = [];
  const url = await serve([lookup()], {
    lookup: (view, definition, keys) => {
      reads.push(keys.length);
      return store.featureViews.lookup(view, definition, keys);
    },
  });
  const airports = Object.keys(VALUES).slice(0, 2);
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      probabilities(url, [asked(airports[n % 2]), asked(airports[(n + 1) % 2]), asked(`X${String(n % 3)}`, { distance: 0 })]),
    ),
  );
  for (const [n, [first, second]] of answers.entries()) {
    expect(first).toBeCloseTo(flight(VALUES[airports[n % 2] ?? ''] ?? {}), 5);
    expect(second).toBeCloseTo(flight(VALUES[airports[(n + 1) % 2] ?? ''] ?? {}), 5);
  }
  expect(reads.reduce((sum, keys) => sum + keys, 0)).toBeLessThan(60);
  expect(reads.length).toBeLessThan(10);
});

test('without the store what was read a moment ago still answers, and other requests are told to come again', async () => {
  await materialize(VALUES);
  const own = openStore({ databaseUrl: store.databaseUrl });
  const url = await serve([lookup()], own.featureViews);
  const [before] = await probabilities(url, [asked('ATL')]);
  await own.close();
  expect(await probabilities(url, [asked('ATL')])).toEqual([before]);
  const report = await refused(url, [asked('ATL'), asked('ORD')]);
  expect(report).toMatchObject({ status: 503, code: 'DATABASE_UNAVAILABLE', retryAfter: '1', message: expect.stringContaining('airports') as string });
  // it does not stand in the way of those that need no store
  expect((await probabilities(url, [FLIGHT]))[0]).toBeCloseTo(flight({}), 5);
});

test('a view without online values of the definition that the model was trained with is named, with what to do', async () => {
  await materialize(VALUES);
  const url = await serve([lookup({ definition: 'e'.repeat(64) })]);
  expect(await refused(url, [asked('ATL')])).toMatchObject({
    status: 409,
    code: 'NOT_MATERIALIZED',
    message: expect.stringContaining('airports') as string,
    fix: expect.stringContaining('materialize(airports') as string,
  });
});

test('a row that names no entity is refused with the column that is missing, and one that does not fit with its row', async () => {
  await materialize(VALUES);
  const url = await serve([lookup()]);
  expect(await refused(url, [asked('ATL'), { origin: 'ATL', departed: DEPARTED }, asked(5), 'x'])).toMatchObject({
    status: 400,
    code: 'INVALID_REQUEST',
    problems: [
      { path: 'rows[1].airport', row: 1, column: 'airport' },
      { path: 'rows[2].airport', row: 2, column: 'airport', found: 'number' },
    ],
  });
  expect(await refused(url, ['x'])).toMatchObject({ status: 400, problems: [{ path: 'rows[0]' }] });
  expect(await refused(url, [])).toMatchObject({ status: 400, problems: [{ path: 'rows' }] });
});

test('a value whose time to live has run out is none, and an entity is found through the transforms of the training rows', async () => {
  await materialize(VALUES);
  const day = 86_400_000;
  const old = lookup({ features: { distance: { missing: null, ttlMs: day }, seats: { missing: 0, ttlMs: null } } });
  expect(await probabilities(await serve([old]), [asked('ORD')])).toEqual([null]);
  await bench.close();
  bench = await openServingBench();
  const tidy = lookup({
    features: { distance: { missing: null, ttlMs: Date.now() }, seats: { missing: 0, ttlMs: null } },
    key: { columns: [{ name: 'from', type: 'string' }], transforms: [set('airport', call('upper', call('trim', col('from'))))] },
  });
  const [late] = await probabilities(await serve([tidy]), [{ from: ' ord ', origin: 'ATL', departed: DEPARTED }]);
  expect(late).toBeCloseTo(flight({ distance: -1, seats: 0.5 }), 5);
});

test('the Open Inference Protocol looks up what its tensors leave out', async () => {
  await materialize(VALUES);
  const url = await serve([lookup()]);
  const bytes = (name: string, data: readonly string[]) => ({ name, shape: [data.length], datatype: 'BYTES', data });
  const response = await post(`${url}/v2/models/flights/infer`, {
    inputs: [bytes('airport', ['ORD', 'ATL']), bytes('origin', ['ATL', 'ATL']), bytes('departed', [DEPARTED, DEPARTED])],
  });
  const { outputs } = (await response.json()) as { outputs: readonly { name: string; data: readonly number[] }[] };
  const output = outputs.find(({ name }) => name === 'output')?.data ?? [];
  expect(output[1]).toBeCloseTo(flight({ distance: -1, seats: 0.5 }), 5);
  expect(output[3]).toBeCloseTo(flight({ distance: 0.4, seats: 0.2 }), 5);
  const model = (await (await fetch(`${url}/v2/models/flights`)).json()) as { parameters: object };
  expect(model.parameters).toMatchObject({ lookups: [{ view: 'airports', by: ['airport'], columns: ['distance', 'seats'] }] });
});

test('a version that is replaced while a request of it is looked up answers that request', async () => {
  await materialize(VALUES);
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let entered: () => void = () => undefined;
  const reading = new Promise<void>((resolve) => {
    entered = resolve;
  });
  const url = await serve([lookup()], {
    lookup: async (view, definition, keys) => {
      entered();
      await gate;
      return store.featureViews.lookup(view, definition, keys);
    },
  });
  const answer = post(`${url}/predict/flights`, { rows: [asked('ORD')] });
  await reading;
  bench.store.routes = [bench.route('flights', 2, await publishVersion(bench.artifacts, 2))];
  bench.store.changed();
  const full = async (): Promise<number> => ((await (await post(`${url}/predict/flights`, { rows: [FLIGHT] })).json()) as { version: number }).version;
  while ((await full()) !== 2) await new Promise((resolve) => setTimeout(resolve, 10));
  release();
  const { version, predictions } = (await (await answer).json()) as { version: number; predictions: { probabilities: Record<string, number> }[] };
  expect(version).toBe(1);
  expect(predictions[0]?.probabilities['late']).toBeCloseTo(flight({ distance: -1, seats: 0.5 }), 5);
});

test('what was looked up stands in the prediction log as if it had come with the request', async () => {
  await materialize(VALUES);
  const url = await serve([lookup()]);
  await probabilities(url, [asked('ORD')]);
  const folder = join(bench.home, 'predictions', 'flights');
  const records = async (): Promise<PredictionRecord[]> => {
    const names = await readdir(folder).catch(() => []);
    const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
    return texts.flatMap((text) => text.split('\n').filter((line) => line !== '')).map((line) => JSON.parse(line) as PredictionRecord);
  };
  while ((await records()).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  expect((await records()).map(({ inputs }) => inputs)).toEqual([{ distance: -1, seats: 0.5, origin: 'ATL', departed: DEPARTED }]);
});
