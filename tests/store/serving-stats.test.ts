import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGuardWatch } from '../../activities/rollout-guards.ts';
import { GuardsSchema } from '../../contracts/guards.ts';
import type { ServingOutcomes, ServingStats } from '../../contracts/routes.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
let database: pg.Client;
beforeAll(async () => {
  const fresh = await freshStore();
  store = fresh;
  database = new pg.Client({ connectionString: fresh.databaseUrl });
  await database.connect();
  afterAll(() => database.end());
});

const SINCE = Date.parse('2026-03-01T12:00:00.000Z');
const at = (second: number): string => new Date(SINCE + second * 1_000).toISOString();
const served = (version: number) => ({ model: 'm', version, predictor: 'a'.repeat(64) });
const interval = (endpoint: string, version: number, second: number, requests: number, more: Partial<ServingStats> = {}): ServingStats => ({
  server: 'one',
  endpoint,
  model: 'm',
  version,
  from: at(second),
  requests,
  errors: 0,
  latencyMsSum: requests,
  latencyMsMax: 1,
  ...more,
});
const outcome = (endpoint: string, version: number, minute: number, n: number, mean: number, more: Partial<ServingOutcomes> = {}): ServingOutcomes => ({
  endpoint,
  model: 'm',
  version,
  from: at(minute * 60),
  metric: 'correct',
  source: `segment ${String(minute)}`,
  n,
  sum: n * mean,
  sumSquares: n * mean,
  min: 0,
  max: 1,
  ...more,
});
const watchOf = (endpoint: string, guards: object = {}, epoch: number | null = 4) =>
  createGuardWatch(store.stats, { endpoint, champion: served(1), challenger: served(2), guards: GuardsSchema.parse(guards), since: at(0), epoch });

describe('figures of servers', () => {
  it('come back interval by interval, with their bins; sent again they count once', async () => {
    const first = interval('bins', 2, 1, 10, { errors: 1, latency: [40, 9, 77, 1], labels: [0, 4, 1, 6], outputs: [3, 10], compared: 5, equal: 4 });
    await store.stats.add([first, interval('bins', 1, 1, 30)]);
    await store.stats.add([{ ...first, errors: 2 }, interval('bins', 1, 0, 7)]);
    expect(await store.stats.intervals({ endpoint: 'bins', from: at(0) })).toEqual([
      { ...interval('bins', 1, 0, 7), latency: [], labels: [], outputs: [], compared: 0, equal: 0 },
      { ...interval('bins', 1, 1, 30), latency: [], labels: [], outputs: [], compared: 0, equal: 0 },
      { ...first, errors: 2 },
    ]);
    expect(await store.stats.intervals({ endpoint: 'bins', from: at(2) })).toEqual([]);
  });

  it('of seconds are added up to hours, bins and all, but not while a rollout may still read them; older ones are forgotten', async () => {
    const bins = { latency: [40, 9, 77, 1], labels: [0, 4], outputs: [3, 10], compared: 5, equal: 4 };
    await store.stats.add([
      interval('folded', 1, 0, 10, bins),
      interval('folded', 1, 5, 20, { errors: 2, latencyMsMax: 9, ...bins }),
      interval('folded', 1, 5, 7, { server: 'two' }),
      interval('folded', 2, 3_599, 1),
      interval('folded', 1, 3_600, 2),
      interval('folded', 1, 3_605, 3),
    ]);
    const whole = { latency: [], labels: [], outputs: [], compared: 0, equal: 0 };
    const hours = [
      { ...interval('folded', 1, 0, 30, { errors: 2, latencyMsMax: 9, latency: [40, 18, 77, 2], labels: [0, 8], outputs: [3, 20], compared: 10, equal: 8 }) },
      { ...interval('folded', 2, 0, 1), ...whole },
      { ...interval('folded', 1, 0, 7, { server: 'two' }), ...whole },
      { ...interval('folded', 1, 3_600, 2), ...whole },
      { ...interval('folded', 1, 3_605, 3), ...whole },
    ];
    // those of other tests' endpoints are among them
    expect(await store.stats.fold(at(3_600))).toBeGreaterThanOrEqual(1);
    expect(await store.stats.fold(at(3_600))).toBe(0);
    expect(await store.stats.intervals({ endpoint: 'folded', from: at(0) })).toEqual(hours);

    await store.rollouts.create({ id: 'folding', endpoint: 'folded', model: 'm', version: 2, strategy: { kind: 'replace', soakMs: 60_000 } });
    const rollout = async (times: string): Promise<number> => {
      await database.query(`update rollouts set created_at = $1, ${times} where id = 'folding'`, [at(3_700)]);
      return store.stats.fold(at(7_200));
    };
    expect(await rollout('ended_at = null')).toBe(0);
    expect(await rollout("status = 'completed', ended_at = now()")).toBe(0);
    expect(await rollout("ended_at = now() - interval '2 minutes'")).toBe(1);

    await store.stats.addOutcomes([outcome('folded', 1, 0, 4, 1), outcome('folded', 1, 60, 2, 1)]);
    await store.stats.forget(at(3_600));
    expect(await store.stats.intervals({ endpoint: 'folded', from: at(0) })).toMatchObject([{ from: at(3_600), requests: 5 }]);
    expect(await store.stats.outcomes({ endpoint: 'folded', metrics: ['correct'], from: at(0) })).toMatchObject([{ from: at(3_600), n: 2 }]);
  });

  it('may be thousands at once', async () => {
    await store.stats.add(Array.from({ length: 4_500 }, (_, second) => interval('many', 1, second, 1)));
    expect(await store.stats.read({ endpoint: 'many', model: 'm', version: 1, from: at(0) })).toMatchObject({ requests: 4_500 });
  });
});

describe('what became known', () => {
  it('is added up over its sources by the minute of the prediction; the same source again replaces what it said', async () => {
    await store.stats.addOutcomes([outcome('known', 1, 0, 10, 0.5), outcome('known', 1, 0, 4, 1, { source: 'late', min: 1 }), outcome('known', 2, 1, 3, 0)]);
    await store.stats.addOutcomes([outcome('known', 1, 0, 12, 0.5), outcome('known', 1, 0, 2, 20, { metric: 'revenue', max: 30 })]);
    expect(await store.stats.outcomes({ endpoint: 'known', metrics: ['correct'], from: at(0) })).toEqual([
      { model: 'm', version: 1, from: at(0), metric: 'correct', n: 16, sum: 10, sumSquares: 10, min: 0, max: 1 },
      { model: 'm', version: 2, from: at(60), metric: 'correct', n: 3, sum: 0, sumSquares: 0, min: 0, max: 1 },
    ]);
    expect(await store.stats.outcomes({ endpoint: 'known', metrics: [], from: at(0) })).toEqual([]);
  });
});

describe('a watch', () => {
  it('finds a failing challenger, look by look, and another watch finds the same from the begin', async () => {
    const watch = watchOf('failing');
    let seconds = 0;
    let verdict = await watch.look();
    expect(verdict).toMatchObject({ breach: null, figures: { requests: 0 } });
    while (verdict.breach === null && seconds < 60) {
      seconds += 1;
      await store.stats.add([interval('failing', 1, seconds, 75), interval('failing', 2, seconds, 25, { errors: 3 })]);
      verdict = await watch.look();
    }
    expect(verdict.breach?.guard).toBe('errorRate');
    expect(verdict.breach?.sentence).toMatch(/^12\.0 % of its \d+ requests failed, of the champion's \d+ 0\.0 %$/);
    expect(await watchOf('failing').look()).toEqual(verdict);
  });

  it('counts each interval once, also one that comes some seconds late, and none from before', async () => {
    const watch = watchOf('late');
    await store.stats.add([interval('late', 1, -5, 500), interval('late', 2, -5, 500, { errors: 500 })]);
    await store.stats.add([interval('late', 1, 3, 30), interval('late', 2, 3, 10)]);
    expect((await watch.look()).figures).toMatchObject({ requests: 10, championRequests: 30 });
    await store.stats.add([interval('late', 1, 2, 30, { server: 'two' }), interval('late', 2, 2, 10, { server: 'two' })]);
    expect((await watch.look()).figures).toMatchObject({ requests: 20, championRequests: 60 });
    expect((await watch.look()).figures).toMatchObject({ requests: 20, championRequests: 60 });
  });

  it('finds a model whose labels say that it is worse, also when they come an hour after its predictions', async () => {
    const guards = { quality: { metric: 'correct', notWorse: 0.05 } };
    const watch = watchOf('labelled', guards, null);
    const minutes = Array.from({ length: 40 }, (_, minute) => minute);
    await store.stats.addOutcomes(minutes.flatMap((minute) => [outcome('labelled', 1, minute, 30, 0.9), outcome('labelled', 2, minute, 10, 0.9)]));
    expect(await watch.look()).toMatchObject({ breach: null, figures: { 'p.quality.correct': 1 } });
    await store.stats.addOutcomes(minutes.map((minute) => outcome('labelled', 2, minute, 20, 0.6, { source: `late ${String(minute)}` })));
    expect((await watch.look()).breach).toMatchObject({
      guard: 'quality.correct',
      sentence: "its mean correct is 0.700 over 1200 rows, the champion's 0.900 over 1200 (higher is better); 0.05 worse is allowed",
    });
  });

  it('hears of a server that took the traffic back by itself, under this route or a newer one', async () => {
    const broken = { server: 'one', endpoint: 'broken', model: 'm', version: 2, at: at(9), figures: { errors: 10 } };
    await store.stats.addBreak({ ...broken, epoch: 3, reason: 'an earlier rollout' });
    expect((await watchOf('broken').look()).breach).toBeNull();
    await store.stats.addBreak({ ...broken, epoch: 4, reason: '10 of its requests failed one after the other' });
    await store.stats.addBreak({ ...broken, epoch: 4, reason: 'told again' });
    expect((await watchOf('broken').look()).breach).toMatchObject({ guard: 'server', sentence: '10 of its requests failed one after the other' });
    expect((await watchOf('broken', {}, null).look()).breach).toBeNull();
  });
});
