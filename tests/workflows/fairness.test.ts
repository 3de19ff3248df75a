import { NativeConnection } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { createPoolWorker } from '../../workers/hosting.ts';
import { openEnvironment, untilProgress } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment({ settings: { pools: { narrow: { slots: 1 } } } });
});

describe('a pool that many want', () => {
  it('lets pipelines take turns, and those of a higher priority first', async () => {
    // all of them wait before the pool's one slot is there
    const crowd = await env.start('crowd', { stages: 20 });
    await untilProgress(crowd, (p) => p.stages.filter(({ status }) => status === 'running').length === 20);
    const guest = await env.start('guest', { stages: 2 });
    const urgent = await env.start('urgent', { stages: 2 });
    for (const run of [guest, urgent]) await untilProgress(run, (p) => p.stages.filter(({ status }) => status === 'running').length === 2);
    const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
    const worker = await createPoolWorker({ deps: env.deps, connection }, 'narrow', 1);
    const running = worker.run();
    afterAll(async () => {
      worker.shutdown();
      await running;
      await connection.close();
    });
    const ends = async (run: typeof crowd): Promise<readonly number[]> => (await run.result())['endedMs'] as readonly number[];
    const [ofCrowd, ofGuest, ofUrgent] = [await ends(crowd), await ends(guest), await ends(urgent)];
    const before = (ends: readonly number[], at: number): number => ends.filter((end) => end < at).length;
    // those of a higher priority wait for nobody but what was handed out already
    expect(before(ofCrowd, Math.max(...ofUrgent))).toBeLessThanOrEqual(4);
    expect(before(ofGuest, Math.max(...ofUrgent))).toBeLessThanOrEqual(1);
    // two of one pipeline are done when about as many of the other are, not all twenty
    expect(before(ofCrowd, Math.max(...ofGuest))).toBeLessThanOrEqual(8);
  });
});
