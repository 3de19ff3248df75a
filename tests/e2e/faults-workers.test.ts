import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENDPOINT, type FaultRun, type FaultStack, startFaultStack, until } from '../support/fault-stack.ts';

/** Long enough that a checkpoint is committed (every 3 s) well before the training's end. */
const LONG = 1_400;
const TRAINING = 'train-gbdt';

let stack: FaultStack;
/** The same training, left alone. */
let undisturbed: string;

beforeAll(async () => {
  stack = await startFaultStack();
  undisturbed = (await stack.run({ trees: LONG })).predictor;
});

afterAll(async () => {
  await stack.close();
});

/** Kills the worker that trains once a checkpoint is there, and checks that the next attempt begins behind it. */
async function killWhileTraining(run: FaultRun, worker: 'cpu-worker' | 'gpu-worker'): Promise<void> {
  await stack.stage(run, TRAINING, (stage) => stage.checkpointStep !== null);
  stack.kill(worker);
  await stack.revived(worker);
  const { checkpointStep } = await stack.stage(run, TRAINING, () => true);
  expect(checkpointStep).toBeLessThan(LONG);
  expect(await stack.firstStepOf(run, 2)).toBeGreaterThan(checkpointStep ?? LONG);
  const { predictor } = await stack.expectEndedWell(run);
  expect(await stack.stage(run, TRAINING, () => true)).toMatchObject({ attempts: 2, cachedFrom: null });
  expect(predictor).toBe(undisturbed);
}

describe('a worker that is killed', () => {
  it('while it ingests: another attempt ingests the same rows, and the run ends well', async () => {
    const run = await stack.start({ anew: ['ingest'], trees: LONG });
    await stack.stage(run, 'ingest', (stage) => stage.status === 'running');
    stack.kill('cpu-worker');
    const { predictor } = await stack.expectEndedWell(run);
    expect(await stack.stage(run, 'ingest', () => true)).toMatchObject({ attempts: 2, cachedFrom: null });
    expect(predictor).toBe(undisturbed);
  });

  it('while it trains: the training goes on from its last checkpoint and ends with the same bytes', async () => {
    await killWhileTraining(await stack.start({ anew: ['train'], trees: LONG }), 'cpu-worker');
  });

  it('while it trains on the GPU pool: the training goes on from its last checkpoint and ends with the same bytes', async () => {
    await stack.startWorker('gpu-worker');
    const run = await stack.start({ anew: ['train'], trees: LONG, pool: 'gpu' });
    await killWhileTraining(run, 'gpu-worker');
    expect((await stack.stage(run, TRAINING, () => true)).pool).toBe('gpu');
  });

  it('as it registers, again at the gate, and again as it deploys: one version, one champion, one rollout', async () => {
    const run = await stack.start({ gates: ['release'], trees: LONG });
    await until(async () => (await stack.store.models.versionsOfRun(run.runId)).length > 0);
    stack.kill('cpu-worker');
    await stack.revived('cpu-worker');
    await stack.gate(run, 'release');
    stack.kill('cpu-worker');
    await stack.approve(run, 'release');
    await until(async () => (await stack.store.rollouts.list({ runId: run.runId })).length > 0);
    stack.kill('cpu-worker');
    await stack.expectEndedWell(run);
  });

  it('and it is the one that hosts the workflows, while a stage runs and while a canary is watched: the run ends well', async () => {
    const run = await stack.start({ anew: ['ingest'], trees: LONG, bakeSeconds: 3 });
    await stack.stage(run, 'ingest', (stage) => stage.status === 'running');
    stack.kill('orchestrator');
    await stack.revived('orchestrator');
    await until(async () => (await stack.store.endpoints.route(ENDPOINT))?.challenger != null);
    stack.kill('orchestrator');
    await stack.expectEndedWell(run);
  });

  it('only seems dead and comes back while another has its stage: its attempt writes nothing any more', async () => {
    await stack.startWorker('cpu-worker');
    const run = await stack.start({ anew: ['train'], trees: LONG });
    const first = await stack.stage(run, TRAINING, (stage) => stage.checkpointStep !== null);
    const goOn = stack.freeze(first);
    const second = await stack.stage(run, TRAINING, (stage) => stage.token > first.token);
    goOn();
    expect(second.worker).not.toBe(first.worker);
    const { predictor } = await stack.expectEndedWell(run);
    expect(await stack.stage(run, TRAINING, () => true)).toMatchObject({ attempts: 2, token: second.token, worker: second.worker, status: 'completed' });
    expect(predictor).toBe(undisturbed);
  });

  it('leaves no process when the stack stops', async () => {
    expect(await stack.close()).toEqual([]);
  });
});
