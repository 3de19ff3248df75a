/** docs/serving.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { PublishedPredictions } from '../../contracts/batch-predictions.ts';
import type { LoadTestFigures } from '../../contracts/load-test.ts';
import { loadManifest } from '../../data/dataset.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { guideProject } from '../support/guide-project.ts';
import { failureOf, openEnvironment, serve } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/serving.md') });
}, 180_000);

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
    const { url } = await serve(env);
    const response = await fetch(`${url}/predict/scored-flights`, { method: 'POST', body: '{"keys": ["ABQ", "XXX"]}' });
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
