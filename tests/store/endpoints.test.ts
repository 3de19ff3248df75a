import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import type { Route, ServingStats } from '../../contracts/routes.ts';
import { listenRoutes } from '../../store/listen-routes.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store & { readonly databaseUrl: string };
beforeAll(async () => {
  store = await freshStore({ poolSize: 8 });
});

const newId = (): string => randomBytes(16).toString('hex');
const served = (version: number) => ({ model: 'm', version, predictor: 'a'.repeat(64) });
const route = (endpoint: string, epoch: number, version = 1, more: Partial<Route> = {}): Route => ({
  endpoint,
  epoch,
  champion: served(version),
  challenger: null,
  log: true,
  ...more,
});
const set = (next: Route, expectedEpoch: number, rolloutId: string | null = null) => store.endpoints.setRoute({ route: next, expectedEpoch, rolloutId });

it('changes a route only from the epoch that its writer saw, and keeps every change', async () => {
  await set(route('fenced', 1), 0);
  await set(route('fenced', 1), 0); // the same change again
  await expect(set(route('fenced', 1, 2), 0)).rejects.toMatchObject({ code: 'FENCED' });
  await expect(set(route('fenced', 1, 2), 1)).rejects.toMatchObject({ code: 'FENCED' });
  const challenger = { version: served(2), percent: 5, leaseUntil: '2026-01-01T00:00:00.000Z' };
  await set(route('fenced', 2, 1, { challenger }), 1);
  expect(await store.endpoints.route('fenced')).toEqual(route('fenced', 2, 1, { challenger }));
  expect((await store.endpoints.routeHistory('fenced')).map((h) => h.epoch)).toEqual([2, 1]);
  await expect(set(route('not-there', 6), 5)).rejects.toMatchObject({ code: 'FENCED' });
});

it('renews a lease at its epoch, forward alone, without a line in the history, and tells listeners', async () => {
  const at = (second: number): string => `2026-01-01T00:00:${String(second).padStart(2, '0')}.000Z`;
  const challenger = { version: served(2), percent: 5, leaseUntil: at(10) };
  await set(route('leased', 1, 1, { challenger }), 0);
  await store.endpoints.renewLease({ endpoint: 'leased', epoch: 1, leaseUntil: at(20) });
  await store.endpoints.renewLease({ endpoint: 'leased', epoch: 1, leaseUntil: at(15) });
  expect((await store.endpoints.route('leased'))?.challenger).toEqual({ ...challenger, leaseUntil: at(20) });
  expect(await store.endpoints.routeHistory('leased')).toHaveLength(1);
  // who published it does not know that it was renewed, and may repeat itself
  await set(route('leased', 1, 1, { challenger }), 0);
  expect((await store.endpoints.route('leased'))?.challenger?.leaseUntil).toBe(at(20));
  await set(route('leased', 2), 1);
  await expect(store.endpoints.renewLease({ endpoint: 'leased', epoch: 1, leaseUntil: at(30) })).rejects.toMatchObject({ code: 'FENCED' });
  await expect(store.endpoints.renewLease({ endpoint: 'leased', epoch: 2, leaseUntil: at(30) })).rejects.toMatchObject({ code: 'FENCED' });
  await expect(store.endpoints.renewLease({ endpoint: 'nobody', epoch: 1, leaseUntil: at(30) })).rejects.toMatchObject({ code: 'FENCED' });
});

it('tells what served from when to when, at what share, why and by whom, in pages', async () => {
  const challenger = { version: served(2), percent: 5, leaseUntil: '2026-01-01T00:00:00.000Z', mode: 'shadow' as const };
  const told = (next: Route, expectedEpoch: number, reason: string, by: string) =>
    store.endpoints.setRoute({ route: next, expectedEpoch, rolloutId: null, reason, by });
  await told(route('told', 1), 0, 'the first', 'run 1');
  await told(route('told', 2, 1, { challenger }), 1, '5 %', 'run 2');
  await told(route('told', 3, 2, { standby: [served(1)] }), 2, 'all', 'ada');
  await store.endpoints.removeRoute({ endpoint: 'told', expectedEpoch: 3, rolloutId: null, reason: 'no more', by: 'ada' });
  const periods = await store.endpoints.productionHistory('told');
  expect(periods).toMatchObject([
    { epoch: 4, until: null, champion: null, challenger: null, standby: [], reason: 'no more', by: 'ada' },
    { epoch: 3, champion: { version: 2 }, challenger: null, standby: [{ version: 1 }], reason: 'all' },
    { epoch: 2, champion: { version: 1 }, challenger: { version: { version: 2 }, percent: 5, mode: 'shadow' }, by: 'run 2' },
    { epoch: 1, champion: { version: 1 }, challenger: null, by: 'run 1' },
  ]);
  // each begins when the one before ends
  expect(periods.slice(1).map(({ until }) => until)).toEqual(periods.slice(0, -1).map(({ from }) => from));
  const page = await store.endpoints.productionHistory('told', { limit: 2, before: 3 });
  expect(page).toEqual(periods.slice(2));
  expect(await store.endpoints.productionHistory('not-there')).toEqual([]);
});

it('lets one of many writers through when all saw the same epoch', async () => {
  const results = await Promise.allSettled([1, 2, 3, 4, 5].map((version) => set(route('race', 1, version), 0)));
  expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
});

it('takes a route away without forgetting its epoch', async () => {
  await set(route('gone', 1), 0);
  await store.endpoints.removeRoute({ endpoint: 'gone', expectedEpoch: 1, rolloutId: null });
  expect(await store.endpoints.route('gone')).toBeNull();
  expect((await store.endpoints.listRoutes()).map((r) => r.endpoint)).not.toContain('gone');
  expect(await store.endpoints.routeEpoch('gone')).toBe(2);
  await expect(set(route('gone', 1), 0)).rejects.toMatchObject({ code: 'FENCED' });
  await set(route('gone', 3), 2);
});

it('tells listeners of each change, also after their connection was cut', async () => {
  const heard: (string | null)[] = [];
  let wake = (): void => undefined;
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
  };
  const listener = listenRoutes({
    databaseUrl: store.databaseUrl,
    onChange: (endpoint) => {
      heard.push(endpoint);
      wake();
    },
  });
  await until(() => heard.includes(null));
  await set(route('heard', 1), 0);
  await until(() => heard.includes('heard'));

  const client = new pg.Client({ connectionString: store.databaseUrl });
  await client.connect();
  heard.length = 0;
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millrace routes' and datname = current_database()`);
  await client.end();
  await until(() => heard.includes(null));
  await set(route('heard', 2), 1);
  await until(() => heard.includes('heard'));
  await listener.close();
});

it('records a rollout once, whoever asks for it again, and refuses its id for another one', async () => {
  const runId = newId();
  await store.runs.begin({ runId, workflowId: `w-${runId}`, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  const input = { id: newId(), endpoint: 'once', model: 'm', version: 1, strategy: { kind: 'replace' }, by: { runId, stage: 'deploy' } };
  const made = await Promise.all(Array.from({ length: 4 }, () => store.rollouts.create(input)));
  expect(made.filter((m) => m.created)).toHaveLength(1);
  expect(await store.rollouts.list({ endpoint: 'once' })).toMatchObject([{ id: input.id, status: 'queued', runId }]);
  expect(await store.undos.pending(runId)).toMatchObject([{ kind: 'route', payload: { endpoint: 'once', rolloutId: input.id } }]);
  await expect(store.rollouts.create({ ...input, version: 2 })).rejects.toMatchObject({ code: 'CONFLICT' });
  await store.runs.end({ runId, status: 'cancelled' });
  await expect(store.rollouts.create(input)).rejects.toMatchObject({ code: 'FENCED' });
});

it('keeps the steps of a rollout, and its end', async () => {
  const id = newId();
  await store.rollouts.create({ id, endpoint: 'steps', model: 'm', version: 1, strategy: {} });
  const step = { at: '2026-01-01T00:00:00.000Z', name: 'canary 5 %', percent: 5 };
  await store.rollouts.advance({ id, step });
  await store.rollouts.advance({ id, step });
  await set(route('steps', 1), 0, id);
  expect(await store.rollouts.get(id)).toMatchObject({ status: 'running', steps: [step], epoch: 1 });
  await store.rollouts.finish({ id, status: 'completed' });
  await store.rollouts.finish({ id, status: 'completed' });
  await expect(store.rollouts.advance({ id, step: { ...step, name: 'more' } })).rejects.toMatchObject({ code: 'CONFLICT' });
  await expect(store.rollouts.finish({ id, status: 'failed' })).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await store.rollouts.finish({ id, status: 'rolled_back', reason: 'its run was cancelled' })).toMatchObject({ status: 'rolled_back' });
});

const failure = (message: string) => ({ code: 'ARTIFACT_CORRUPT' as const, message, fix: '', problems: [] });

it('knows which live servers obey a route', async () => {
  await store.servers.heartbeat({ serverId: 's1', url: 'http://one', holding: [{ endpoint: 'h', epoch: 3 }], leaseSeconds: 30 });
  await store.servers.heartbeat({ serverId: 's2', url: 'http://two', holding: [{ endpoint: 'h', epoch: 2 }], leaseSeconds: 30 });
  await store.servers.heartbeat({ serverId: 's3', url: 'http://three', holding: [{ endpoint: 'h', epoch: 3 }], leaseSeconds: -1 });
  expect(await store.servers.holders({ endpoint: 'h', epoch: 3 })).toEqual({ live: 2, holding: 1, problems: [] });
  expect(await store.servers.holders({ endpoint: 'h', epoch: 2 })).toEqual({ live: 2, holding: 2, problems: [] });
  const failures = [
    { endpoint: 'h', epoch: 2, error: failure('the file is not whole') },
    { endpoint: 'h', epoch: 1, error: failure('long past') },
  ];
  await store.servers.heartbeat({ serverId: 's1', url: 'http://one', holding: [], failures, leaseSeconds: 30 });
  expect(await store.servers.holders({ endpoint: 'h', epoch: 2 })).toEqual({ live: 2, holding: 1, problems: ['s1: the file is not whole'] });
  await store.servers.leave('s2');
  expect((await store.servers.live()).map((s) => s.id)).toEqual(['s1']);
});

it('adds up what servers measured, and counts an interval once that is sent twice', async () => {
  const stats = (server: string, from: string, requests: number): ServingStats => ({
    server,
    endpoint: 'e',
    model: 'm',
    version: 1,
    from,
    requests,
    errors: 1,
    latencyMsSum: requests * 2,
    latencyMsMax: requests,
  });
  const [early, late] = ['2026-01-01T00:00:00.000Z', '2026-01-01T00:00:10.000Z'];
  await store.stats.add([stats('a', early, 10), stats('b', early, 20)]);
  await store.stats.add([stats('a', early, 10), stats('a', late, 5)]);
  const at = { endpoint: 'e', model: 'm', version: 1 };
  expect(await store.stats.read({ ...at, from: early })).toEqual({ requests: 35, errors: 3, latencyMsSum: 70, latencyMsMean: 2, latencyMsMax: 20 });
  expect(await store.stats.read({ ...at, from: late })).toMatchObject({ requests: 5 });
  expect(await store.stats.read({ ...at, from: early, to: late })).toMatchObject({ requests: 30 });
  expect(await store.stats.read({ ...at, version: 2, from: early })).toEqual({ requests: 0, errors: 0, latencyMsSum: 0, latencyMsMean: 0, latencyMsMax: 0 });
});
