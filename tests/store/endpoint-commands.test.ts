/** `millrace endpoints show`, as a person types it, and the API's answer, over a store of real routes. */
import { beforeAll, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import type { ProductionPeriod } from '../../contracts/endpoint.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

let store: CommandFolder['store'];
beforeAll(async () => {
  ({ store } = await commandFolder());
  const served = (version: number) => ({ model: 'm', version, predictor: 'a'.repeat(64) });
  const route = { endpoint: 'late', champion: served(1), challenger: null, log: true };
  const challenger = { version: served(2), percent: 100, leaseUntil: '2026-01-01T00:00:00.000Z', mode: 'shadow' as const };
  await store.endpoints.setRoute({ route: { ...route, epoch: 1 }, expectedEpoch: 0, rolloutId: null, reason: 'run a1', by: 'run a1' });
  await store.endpoints.setRoute({ route: { ...route, epoch: 2, challenger }, expectedEpoch: 1, rolloutId: null, reason: 'mirrored', by: 'run a2' });
  await store.endpoints.setRoute({
    route: { ...route, epoch: 3, champion: served(2), standby: [served(1)] },
    expectedEpoch: 2,
    rolloutId: null,
    reason: 'ada: seen enough',
    by: 'ada',
  });
});

it('shows what served from when to when, what stood beside it, by whom and why', async () => {
  const { code, out } = await millrace('endpoints', 'show', 'late', '--history');
  expect(code).toBe(0);
  const [heading = '', ...lines] = out
    .trimEnd()
    .split('\n')
    .filter((line) => !/^[-─\s]+$/.test(line));
  expect(heading.trim().split(/\s{2,}/)).toEqual(['FROM', 'UNTIL', 'CHAMPION', 'BESIDE IT', 'BY', 'WHY']);
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatch(/now\s+m 2\s+m 1 \(loaded\)\s+ada\s+ada: seen enough/);
  expect(lines[1]).toMatch(/m 1\s+m 2 at 100 % \(mirrored\)\s+run a2\s+mirrored/);
  expect(lines[2]).toMatch(/m 1\s+run a1\s+run a1/);
});

it('gives the same as JSON and by the API, page by page', async () => {
  const shown = await millrace('endpoints', 'show', 'late', '--history', '--limit', '2', '--json');
  const { history } = JSON.parse(shown.out) as { readonly history: readonly ProductionPeriod[] };
  expect(history.map(({ epoch, until }) => [epoch, until === null])).toEqual([
    [3, true],
    [2, false],
  ]);
  const api = createApiServer({ store, version: '1.2.3' });
  const first = await api.inject('/api/v1/endpoints/late/history?limit=2');
  expect(first.json()).toMatchObject({ items: history });
  const { next } = first.json<{ readonly next: string }>();
  expect((await api.inject(`/api/v1/endpoints/late/history?limit=2&after=${next}`)).json()).toMatchObject({ items: [{ epoch: 1, by: 'run a1' }], next: null });
  expect((await api.inject('/api/v1/endpoints/nobody/history')).statusCode).toBe(404);
  await api.close();
});

it('tells of an endpoint that is not there which one may be meant', async () => {
  expect(await millrace('endpoints', 'show', 'latte', '--history')).toMatchObject({ code: 2, err: expect.stringContaining('Is late meant?') as string });
});
