import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { LoadTestFigures } from '../../contracts/load-test.ts';
import type { PredictionRecord } from '../../contracts/routes.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment, stageOf } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let predictor: string;
beforeAll(async () => {
  env = await openEnvironment();
  ({ predictor } = (await env.run('trained')) as unknown as { readonly predictor: string });
}, 180_000);

async function record(
  endpoint: string,
  records: readonly { readonly requestId: string; readonly row: number; readonly inputs: Readonly<Record<string, unknown>> }[],
): Promise<void> {
  const folder = join(env.deps.config.home, 'predictions', endpoint);
  await mkdir(folder, { recursive: true });
  const lines = records.map(
    (line): PredictionRecord => ({ ...line, at: '2026-01-01T00:00:00.000Z', model: 'late', version: 1, challenger: false, output: [0.5, 0.5], latencyMs: 1 }),
  );
  await writeFile(join(folder, '2026-01-01T00-a.jsonl'), `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
}

describe('loadTest', () => {
  it('sends recorded requests at the rate to a server of its own, and gives its figures', async () => {
    await record('late', [
      { requestId: 'r1', row: 1, inputs: { distance: 20, carrier: 'B' } },
      { requestId: 'r1', row: 0, inputs: { distance: 10, carrier: 'A' } },
      { requestId: 'r2', row: 0, inputs: { distance: 900 } },
    ]);
    const run = await env.start('loaded', { predictor });
    const figures = (await run.result()) as unknown as LoadTestFigures & { readonly runId: string };
    expect(figures).toMatchObject({ kind: 'loadTest', requests: 40, requestsPerSecond: 40, errorRate: 0 });
    expect(figures.p50Ms).toBeLessThanOrEqual(figures.p95Ms);
    expect(figures.p95Ms).toBeLessThanOrEqual(figures.p99Ms);
    expect(figures.p99Ms).toBeLessThanOrEqual(figures.maxMs);
    const stage = await stageOf(env, figures.runId, 'load-test');
    expect((stage.output as { readonly summary: string }).summary).toMatch(
      /^p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms, 0\.00 % errors, \d+ of 40 requests\/s$/,
    );
  });

  it('fails the run where a figure is missed, and says by how much', async () => {
    const slow = await failureOf(await env.start('loaded', { predictor, path: 'data/flights.csv', p99Ms: 0.001 }));
    expect(slow).toMatchObject({ code: 'LOAD_TEST_FAILED', problems: expect.arrayContaining([expect.objectContaining({ path: 'p99Ms' })]) as unknown });
    expect(slow.problems.find(({ path }) => path === 'p99Ms')?.message).toMatch(
      /^The 99th percentile is [\d.e+]+ ms, [\d.e+]+ ms \([\d.e+]+ %\) above 0\.00100 ms\.$/,
    );
    await record('wrong', [{ requestId: 'r1', row: 0, inputs: { distance: 'far', carrier: 'A' } }]);
    const refused = await failureOf(await env.start('loaded', { predictor, from: 'wrong' }));
    expect(refused).toMatchObject({ code: 'LOAD_TEST_FAILED', problems: [{ path: 'maxErrorRate', found: '100 %' }] });
    expect(refused.problems[0]?.message).toContain('40 × 400');
    expect(await failureOf(await env.start('loaded', { predictor, from: 'nobody' }))).toMatchObject({ code: 'SOURCE_EMPTY' });
  });
});
