import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

let env: TestEnvironment;
let url: string;
beforeAll(async () => {
  env = await openEnvironment();
  ({ url } = await serve(env));
}, 180_000);

async function actionFor(x: number): Promise<string | undefined> {
  const response = await fetch(`${url}/predict/deciding`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ rows: [{ x }] }),
  });
  return ((await response.json()) as { predictions: readonly { action?: string }[] }).predictions[0]?.action;
}

describe('rules of decision', () => {
  it('come with a deployment, also of the version that serves, and go back with a rollback', async () => {
    await env.run('deciding', {});
    expect([await actionFor(50), await actionFor(150)]).toEqual(['near', 'far']);
    await env.client.workflow.getHandle('endpoint/deciding').executeUpdate('rollback', { args: [{ by: 'ada', reason: 'the rules before were better' }] });
    await vi.waitUntil(async () => (await actionFor(50)) === 'high', { timeout: PATIENCE_MS, interval: 100 });
    expect([await actionFor(1), await actionFor(150)]).toEqual(['low', 'high']);
  });

  it('that do not fit the version fail the deployment, and what the run had deployed before goes back', async () => {
    const before = await actionFor(1);
    expect(await failureOf(await env.start('deciding', { column: 'distance' }))).toMatchObject({
      code: 'COLUMN_MISSING',
      problems: [{ path: expect.stringMatching(/^decide\.rules\[0\]\.when/) as string, found: 'distance' }],
    });
    await vi.waitUntil(async () => (await env.deps.store.endpoints.route('deciding'))?.champion.version === 1, { timeout: PATIENCE_MS, interval: 100 });
    await vi.waitUntil(async () => (await actionFor(1)) === before, { timeout: PATIENCE_MS, interval: 100 });
  });
});
