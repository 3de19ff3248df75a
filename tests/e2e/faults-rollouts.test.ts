import type { WorkflowFailedError } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENDPOINT, type FaultRun, type FaultStack, MODEL, startFaultStack, until } from '../support/fault-stack.ts';

let stack: FaultStack;
let champion: number;

beforeAll(async () => {
  stack = await startFaultStack();
  champion = (await stack.run()).version;
});

afterAll(async () => {
  await stack.close();
});

const challengerOf = async () => (await stack.store.endpoints.route(ENDPOINT))?.challenger ?? null;
const leaseMs = async (): Promise<number> => Date.parse((await challengerOf())?.leaseUntil ?? '') - Date.now();
const epochs = async (): Promise<number> => (await stack.store.endpoints.routeHistory(ENDPOINT, 1_000)).length;

/** Half of the traffic is the new version's, for as long as the test needs. */
async function startCanary(): Promise<FaultRun> {
  const run = await stack.start({ anew: ['train'], bakeSeconds: 3_600 });
  await until(async () => (await challengerOf())?.percent === 50);
  return run;
}

describe('a canary', () => {
  let run: FaultRun;
  it('loses its share while the worker that watches it stands still, and has it again when that goes on', async () => {
    run = await startCanary();
    await until(async () => (await leaseMs()) > 0);
    const goOn = stack.freeze(await stack.stage(run, 'deploy', () => true));
    await until(async () => (await leaseMs()) < 0);
    const answered = new Set<number>();
    for (let i = 0; i < 20; i++) answered.add(await stack.answeringVersion());
    expect([...answered]).toEqual([champion]);
    goOn();
    await until(async () => (await leaseMs()) > 0);
    await until(async () => (await stack.answeringVersion()) !== champion);
  });

  it('goes on with another worker, and with another orchestrator, when both are killed: nothing is published anew', async () => {
    const before = await epochs();
    stack.kill('cpu-worker');
    stack.kill('orchestrator');
    const lease = (await challengerOf())?.leaseUntil ?? '';
    await stack.revived('cpu-worker');
    await stack.revived('orchestrator');
    await until(async () => ((await challengerOf())?.leaseUntil ?? '') > lease && (await leaseMs()) > 0);
    expect(await epochs()).toBe(before);
  });

  it('is taken back by a breach while the orchestrator is dead; the run hears of it later, and takes its alias back', async () => {
    stack.kill('orchestrator');
    const from = (): string => new Date(Math.floor(Date.now() / 1_000) * 1_000).toISOString();
    const version = (await challengerOf())?.version.version ?? 0;
    const told = { server: 'another-server', endpoint: ENDPOINT, model: MODEL, latencyMsSum: 400, latencyMsMax: 4 };
    await until(async () => {
      await stack.store.stats.add([
        { ...told, from: from(), version: champion, requests: 100, errors: 0 },
        { ...told, from: from(), version, requests: 100, errors: 50 },
      ]);
      return (await challengerOf()) === null;
    });
    expect(await stack.store.endpoints.productionHistory(ENDPOINT, { limit: 1 })).toMatchObject([
      { champion: { version: champion }, challenger: null, by: 'guard', reason: expect.stringContaining('of its') as string },
    ]);
    await stack.revived('orchestrator');
    const failed: unknown = await run.handle.result().catch((error: unknown) => error);
    expect((failed as WorkflowFailedError).cause).toMatchObject({ type: 'ROLLED_BACK' });
    expect(await stack.store.rollouts.list({ runId: run.runId })).toMatchObject([{ status: 'rolled_back' }]);
    expect(await stack.store.models.alias(MODEL, 'champion')).toMatchObject({ version: champion });
    expect(await stack.answeringVersion()).toBe(champion);
    await stack.nothingGoesOn();
  });

  it('leaves no process when the stack stops', async () => {
    expect(await stack.close()).toEqual([]);
  });
});
