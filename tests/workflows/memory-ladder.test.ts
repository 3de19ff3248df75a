import { NativeConnection } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { createPoolWorker } from '../../workers/hosting.ts';
import { failureOf, openEnvironment, stageOf } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment({
    settings: {
      pools: { cpu: { heapMib: 64 }, 'cpu-large': { slots: 1, heapMib: 1024 } },
      rates: { currency: 'EUR', cpuHour: 3600, pools: { 'cpu-large': { cpuHour: 7200 } } },
    },
  });
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const worker = await createPoolWorker({ deps: env.deps, connection }, 'cpu-large', 1);
  const running = worker.run();
  afterAll(async () => {
    worker.shutdown();
    await running;
    await connection.close();
  });
});

describe('a stage that runs out of memory', () => {
  it('fails with that, and with what to do, where it has no ladder', async () => {
    expect(await failureOf(await env.start('climbing', { ladder: false }))).toMatchObject({
      code: 'OUT_OF_MEMORY',
      fix: expect.stringContaining('relationStep') as string,
    });
  });

  it('goes on in the next pool of its ladder, where the next run begins at once', async () => {
    const first = await env.run('climbing');
    expect(first['rows']).toBe(600);
    const climbed = await stageOf(env, String(first['runId']), 'hungry');
    expect(climbed).toMatchObject({ status: 'completed', pool: 'cpu-large' });

    const next = await env.start('climbing', { mib: 101 });
    const { runId } = await next.result();
    const direct = await stageOf(env, String(runId), 'hungry');
    expect(direct).toMatchObject({ status: 'completed', pool: 'cpu-large', attempts: 1 });
    // what the attempt without memory enough used is charged to the stage as well
    expect(climbed.cpuSeconds ?? 0).toBeGreaterThan(0);
    expect(direct.cpuSeconds ?? 0).toBeGreaterThan(0);
    // a core of this pool costs 2 a second
    expect(direct.cost).toBeCloseTo(2 * (direct.cpuSeconds ?? 0), 6);
    expect(climbed.cost ?? 0).toBeLessThan(2 * (climbed.cpuSeconds ?? 0));
    expect((await next.progress()).stages.find(({ name }) => name === 'hungry')?.pool).toBe('cpu-large');
  });
});
