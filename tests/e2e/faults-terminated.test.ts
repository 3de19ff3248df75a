import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MillraceError } from '../../contracts/errors.ts';
import { ENDPOINT, type FaultRun, type FaultStack, MODEL, startFaultStack, until } from '../support/fault-stack.ts';

/** By then the records of a terminated run are closed and what it had published is taken back. */
const WITHIN_MS = 60_000;

let stack: FaultStack;

beforeAll(async () => {
  stack = await startFaultStack();
});

afterAll(async () => {
  await stack.close();
});

interface Published {
  readonly champion: number | null;
  readonly candidate: number | null;
  readonly served: number | null;
}

const published = async (): Promise<Published> => ({
  champion: (await stack.store.models.alias(MODEL, 'champion'))?.version ?? null,
  candidate: (await stack.store.models.alias(MODEL, 'candidate'))?.version ?? null,
  served: (await stack.store.endpoints.route(ENDPOINT))?.champion.version ?? null,
});

const registeredBy = async (run: FaultRun): Promise<number> => (await stack.store.models.versionsOfRun(run.runId))[0]?.version ?? 0;

/** Checks that nothing of the run is left but its records, which say what happened. */
async function expectTakenBack(run: FaultRun, before: Published, status: 'terminated' | 'cancelled'): Promise<void> {
  const { store } = stack;
  const deadlineMs = Date.now() + WITHIN_MS;
  await until(async () => {
    if (Date.now() > deadlineMs)
      throw new Error(
        `not closed and undone in ${String(WITHIN_MS / 1_000)} s: ${JSON.stringify([await store.runs.get(run.runId), await store.undos.list(run.runId)])}`,
      );
    return (await store.runs.get(run.runId)).status === status && (await store.undos.pending(run.runId)).length === 0;
  });
  expect((await store.undos.list(run.runId)).map((undo) => undo.status)).not.toContain('failed');
  expect((await store.stages.list(run.runId)).filter((stage) => stage.status === 'running')).toEqual([]);
  expect((await store.models.versionsOfRun(run.runId)).map((version) => version.status)).toEqual(['rolled_back']);
  expect((await store.rollouts.list({ runId: run.runId })).filter((rollout) => rollout.status !== 'rolled_back')).toEqual([]);
  expect(await published()).toEqual(before);
  expect((await store.endpoints.route(ENDPOINT))?.challenger ?? null).toBeNull();
  if (before.served === null)
    await until(async () => (await stack.answeringVersion().catch((error: unknown) => (error as MillraceError).code)) === 'ENDPOINT_NOT_FOUND');
  else expect(await stack.answeringVersion()).toBe(before.served);
  await stack.nothingGoesOn();
}

const terminate = (run: FaultRun) => run.handle.terminate('a test of terminated runs');

describe('a run that is terminated', () => {
  it('after it brought the first version of all into service: the endpoint serves nothing again', async () => {
    const before = await published();
    expect(before).toEqual({ champion: null, candidate: null, served: null });
    const run = await stack.start({ gates: ['closing'] });
    await stack.gate(run, 'closing');
    expect(await stack.answeringVersion()).toBe(await registeredBy(run));
    await terminate(run);
    await expectTakenBack(run, before, 'terminated');
    expect((await stack.store.runs.get(run.runId)).error?.message).toContain('terminated');
  });

  it('after register: its version is marked rolled back and the champion answers as before', async () => {
    await stack.run();
    const before = await published();
    const run = await stack.start({ gates: ['release'] });
    await stack.gate(run, 'release');
    expect(await published()).toEqual({ ...before, candidate: await registeredBy(run) });
    await terminate(run);
    await expectTakenBack(run, before, 'terminated');
  });

  it('after approval: the alias goes back to the champion before', async () => {
    const before = await published();
    const run = await stack.start({ gates: ['traffic'] });
    await stack.gate(run, 'traffic');
    expect(await published()).toMatchObject({ champion: await registeredBy(run), served: before.served });
    await terminate(run);
    await expectTakenBack(run, before, 'terminated');
  });

  it('while its version has half of the traffic: all of it goes back to the version before', async () => {
    const before = await published();
    const run = await stack.start({ bakeSeconds: 600 });
    await until(async () => (await stack.store.endpoints.route(ENDPOINT))?.challenger != null);
    await terminate(run);
    await expectTakenBack(run, before, 'terminated');
  });

  it('after deploy: the endpoint goes back to the version before', async () => {
    const before = await published();
    const run = await stack.start({ gates: ['closing'] });
    await stack.gate(run, 'closing');
    const version = await registeredBy(run);
    expect(await published()).toEqual({ champion: version, candidate: version, served: version });
    expect(await stack.answeringVersion()).toBe(version);
    await terminate(run);
    await expectTakenBack(run, before, 'terminated');
  });
});

describe('a run that is cancelled', () => {
  it('after deploy: it takes back what it published before it ends', async () => {
    const before = await published();
    const run = await stack.start({ gates: ['closing'] });
    await stack.gate(run, 'closing');
    await run.handle.cancel();
    await expect(run.handle.result()).rejects.toMatchObject({ name: 'WorkflowFailedError' });
    await expectTakenBack(run, before, 'cancelled');
  });
});

describe('the stack after all of this', () => {
  it('runs the pipeline to its end, and leaves no process when it stops', async () => {
    await stack.run();
    expect(await stack.close()).toEqual([]);
  });
});
