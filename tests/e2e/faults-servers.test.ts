import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENDPOINT, type FaultRun, type FaultStack, startFaultStack, until } from '../support/fault-stack.ts';

/** Some seconds of training. */
const TREES = 400;
const TRAINING = 'train-gbdt';
const BAKE_SECONDS = 4;

let stack: FaultStack;
/** The same training, left alone. */
let undisturbed: string;

beforeAll(async () => {
  stack = await startFaultStack();
  undisturbed = (await stack.run({ trees: TREES })).predictor;
});

afterAll(async () => {
  await stack.close();
});

const challenged = (): Promise<void> => until(async () => (await stack.store.endpoints.route(ENDPOINT))?.challenger != null);
const training = (run: FaultRun) => stack.stage(run, TRAINING, (stage) => stage.status === 'running');

describe('a server that is killed', () => {
  it('Postgres, in the middle of a training and of a canary: the run goes on with the records it had', async () => {
    const run = await stack.start({ anew: ['train'], trees: TREES, bakeSeconds: BAKE_SECONDS });
    await training(run);
    stack.kill('postgres');
    await stack.revived('postgres');
    await challenged();
    stack.kill('postgres');
    await stack.revived('postgres');
    expect((await stack.expectEndedWell(run)).predictor).toBe(undisturbed);
  });

  it('Temporal, in the middle of a training and of a canary: the run goes on from its history', async () => {
    const run = await stack.start({ anew: ['train'], trees: TREES, bakeSeconds: BAKE_SECONDS });
    await training(run);
    stack.kill('temporal');
    await stack.revived('temporal');
    await challenged();
    stack.kill('temporal');
    await stack.revived('temporal');
    expect((await stack.expectEndedWell(run)).predictor).toBe(undisturbed);
  });

  it('the prediction server, while it answers a canary: it comes back with both versions and the rollout ends', async () => {
    const run = await stack.start({ trees: TREES, bakeSeconds: BAKE_SECONDS });
    await challenged();
    await stack.answeringVersion();
    stack.kill('serving');
    await stack.revived('serving');
    expect(await stack.answeringVersion()).toBeGreaterThan(0);
    await stack.expectEndedWell(run);
  });

  it('leaves no process when the stack stops', async () => {
    expect(await stack.close()).toEqual([]);
  });
});
