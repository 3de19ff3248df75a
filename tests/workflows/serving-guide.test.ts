/** docs/serving.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { PublishedPredictions } from '../../contracts/batch-predictions.ts';
import type { EndpointState } from '../../contracts/endpoint.ts';
import type { LoadTestFigures } from '../../contracts/load-test.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import { findPredictions } from '../../data/find-predictions.ts';
import { predictionSegments } from '../../data/prediction-segments.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { flagReviews } from '../../workers/flag-reviews.ts';
import { joinFeedback, takeFeedback } from '../../workers/join-feedback.ts';
import { guideProject } from '../support/guide-project.ts';
import { failureOf, openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let url: string;
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/serving.md') });
  ({ url } = await serve(env));
}, 180_000);

const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Response> =>
  fetch(`${url}/${path}`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });

describe('Rollouts', () => {
  it('of each strategy, one version after the other', async () => {
    await env.run('rolledOut', {});
    const endpoint = env.client.workflow.getHandle('endpoint/rolled-out');
    const goOn = async (): Promise<void> => {
      const waits = async (): Promise<boolean> => (await endpoint.query<EndpointState>('state')).rollout?.waitingSince != null;
      await vi.waitUntil(waits, { timeout: PATIENCE_MS, interval: 100 });
      await endpoint.executeUpdate('promote', { args: [{ by: 'ada', reason: 'seen enough' }] });
    };
    const second = await env.start('rolledOut', { strategy: 'keptOld' });
    await goOn();
    await second.result();
    const third = await env.start('rolledOut', { strategy: 'steps', timeMs: 300 });
    await goOn();
    await third.result();
    expect((await endpoint.query<EndpointState>('state')).soak).toMatchObject({ version: { version: 3 }, before: { version: 2 } });
    await env.run('rolledOut', { strategy: 'mirrored', timeMs: 300 });
    const fifth = await env.start('rolledOut', { strategy: 'askedTest', timeMs: 300 });
    expect(await failureOf(fifth)).toMatchObject({ code: 'ROLLED_BACK', message: expect.stringContaining('the test kept the champion') as string });
    const periods = (await env.deps.store.endpoints.productionHistory('rolled-out')).toReversed();
    expect(
      periods.map(({ champion, challenger, standby }) => [
        champion?.version,
        challenger
          ? `${String(challenger.version.version)} ${challenger.mode} ${String(challenger.percent)}`
          : standby.map((v) => `${String(v.version)} loaded`).join(),
      ]),
    ).toEqual([
      [1, ''],
      [1, '2 loaded'],
      [2, '1 loaded'],
      [2, '3 share 5'],
      [2, '3 share 50'],
      [3, ''],
      [3, '4 shadow 100'],
      [4, ''],
      [4, '5 share 50'],
      [4, ''],
    ]);
    expect(periods.map(({ until }) => until === null)).toEqual([...Array.from({ length: 9 }, () => false), true]);
  });
});

describe('Guards', () => {
  it('take a rollout back whose requests fail, and the run is told why', async () => {
    const { store } = env.deps;
    await env.run('guarded', {});
    expect(await store.endpoints.route('guarded')).toMatchObject({ champion: { version: 1 }, challenger: null });
    const run = await env.start('guarded', { l2: 10 });
    await vi.waitUntil(async () => (await store.endpoints.route('guarded'))?.challenger?.percent === 5, { timeout: PATIENCE_MS, interval: 100 });
    // as another prediction server would tell: two of ten fail
    const timer = setInterval(() => {
      const from = new Date(Math.floor(Date.now() / 1000) * 1000).toISOString();
      const told = { server: 'another-server', endpoint: 'guarded', model: 'guarded', from, latencyMsSum: 100, latencyMsMax: 4 };
      void store.stats.add([
        { ...told, version: 1, requests: 95, errors: 0 },
        { ...told, version: 2, requests: 10, errors: 2 },
      ]);
    }, 200);
    try {
      expect(await failureOf(run)).toMatchObject({
        code: 'ROLLED_BACK',
        message: expect.stringMatching(/guarded took version 2 back: 20\.0 % of its \d+ requests failed, of the champion's \d+ 0\.0 %/) as string,
      });
    } finally {
      clearInterval(timer);
    }
    const changes = (await store.endpoints.routeHistory('guarded')).toReversed();
    expect(changes.map(({ champion, challenger }) => [champion?.version, challenger?.version.version, challenger?.percent])).toEqual([
      [1, undefined, undefined],
      [1, 2, 5],
      [1, undefined, undefined],
    ]);
    expect(await store.models.version('guarded', 2)).toMatchObject({ status: 'rolled_back' });
  });
});

describe('Decisions, the prediction log, labels and outcomes', () => {
  it('answer an action, join what comes back, and give all of it as a dataset', async () => {
    const { store, artifacts } = env.deps;
    await env.run('decided', {});
    const ask = async (distance: number, requestId: string): Promise<string | undefined> => {
      const response = await post('predict/decided', { rows: [{ distance, origin: 'SFO' }] }, { 'x-request-id': requestId });
      return ((await response.json()) as { predictions: readonly { action?: string }[] }).predictions[0]?.action;
    };
    const ids = Array.from({ length: 20 }, (_, n) => `guide-${n}`);
    const actions: (string | undefined)[] = [];
    for (const [n, id] of ids.entries()) actions.push(await ask(n < 10 ? 100 : 2_000, id));
    expect(new Set(actions.slice(0, 10)).size).toBeGreaterThan(0);
    for (const action of actions) expect(['train', 'warn', 'nothing']).toContain(action);
    // predictions are written off the hot path: what is not in the log yet would only be found by a later try
    const logged = async (): Promise<boolean> =>
      (await findPredictions(await predictionSegments(env.deps.config.home, 'decided', new Date(0).toISOString()), ids)).length === ids.length;
    await vi.waitUntil(logged, { timeout: PATIENCE_MS, interval: 100 });
    const outcome = { name: 'revenue', value: 12.5, at: '2001-07-01T09:00:00Z' };
    const told = await post('feedback/decided', {
      labels: [...ids, 'stranger'].map((requestId) => ({ requestId, row: 0, label: true })),
      outcomes: [{ requestId: ids[0], row: 0, ...outcome }],
    });
    expect(await told.json()).toMatchObject({ accepted: 22, duplicates: 0 });
    await takeFeedback(env.deps);
    expect(await joinFeedback(env.deps)).toBe(21);
    expect(await (await fetch(`${url}/feedback/decided`)).json()).toMatchObject({ joined: 21, waiting: 1, unknown: 0, duplicates: 0 });
    const figures = await store.stats.outcomes({ endpoint: 'decided', metrics: ['correct', 'revenue'], from: new Date(0).toISOString() });
    expect(figures.map(({ metric, version, n }) => [metric, version, n])).toEqual(expect.arrayContaining([['revenue', 1, 1]]));
    expect(figures.filter(({ metric }) => metric === 'correct').reduce((sum, { n }) => sum + n, 0)).toBe(20);

    const flagged = actions.filter((action, n) => action === 'warn' && n >= 10).length;
    expect(await flagReviews(env.deps)).toBeGreaterThanOrEqual(flagged > 0 ? 1 : 0);

    const { answered } = (await env.run('answered', {})) as unknown as { readonly answered: DatasetRef };
    expect(answered.rows).toBe(20);
    const names = (await loadManifest(artifacts, answered)).columns.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['distance', 'origin', 'label', 'action', 'propensity', 'explored', 'outcome_revenue', 'outcome_revenue_at']));
  });
});

describe('Batch predictions', () => {
  it('are written as a snapshot and a table, and served by key', async () => {
    const { scored, served } = (await env.run('scoredFlights')) as unknown as Readonly<Record<'scored' | 'served', PublishedPredictions>>;
    expect(scored).toMatchObject({ to: { kind: 'table', name: 'flights_scored' }, rows: 2_000, version: { model: 'scored-flights', version: 1 } });
    expect((await loadManifest(env.deps.artifacts, scored.predictions)).columns.map(({ name }) => name)).toEqual([
      'date',
      'origin',
      'prediction',
      'probability',
      'probability_false',
      'probability_true',
    ]);
    expect(await env.deps.store.predictionSets.current('table', 'flights_scored')).toMatchObject({ rows: 2_000, version: 1, status: 'published' });
    expect(served).toMatchObject({ to: { kind: 'endpoint', name: 'scored-flights', key: ['airport'] }, rows: 3 });
    // nobody was deployed: keys are answered all the same
    const response = await post('predict/scored-flights', { keys: ['ABQ', 'XXX'] });
    expect(await response.json()).toMatchObject({
      model: 'scored-flights',
      version: 1,
      precomputed: 1,
      predictions: [{ label: expect.stringMatching(/^(?:true|false)$/) as string, probabilities: { true: expect.any(Number) as number } }, null],
    });
  });
});

describe('Load test', () => {
  it('lets a version that bears the load pass, and no other', async () => {
    const { figures } = (await env.run('testedFlights')) as unknown as { readonly figures: LoadTestFigures };
    expect(figures).toMatchObject({ kind: 'loadTest', requests: 100, errorRate: 0 });
    expect(await failureOf(await env.start('testedFlights', { p99Ms: 0.001 }))).toMatchObject({ code: 'LOAD_TEST_FAILED' });
  });
});
