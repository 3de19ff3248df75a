import { afterAll, beforeAll, expect, it } from 'vitest';
import { WORKFLOW_QUEUE } from '../../contracts/queues.ts';
import type { CandidateRef } from '../../contracts/references.ts';
import type { PartName } from '../../stack/parts.ts';
import type { StageRecord } from '../../store/stages.ts';
import { type FaultStack, startFaultStack, until } from '../support/fault-stack.ts';

/** Every trainer that runs inside Millrace, when all of its workers die at once. */
let stack: FaultStack;
beforeAll(async () => {
  stack = await startFaultStack('training-project');
  await stack.startWorker('cpu-worker');
});
afterAll(async () => {
  await stack.close();
});

const POOL = ['cpu-worker', 'cpu-worker-2'] as readonly PartName[];

it.each(['gbdt', 'linear', 'mlp'])(
  'kill -9 of the whole pool while %s trains: it goes on from its last checkpoint and ends with the same bytes',
  async (trainer) => {
    const start = (workflowId: string) => stack.client.workflow.start('longTraining', { workflowId, taskQueue: WORKFLOW_QUEUE, args: [{ trainer }] });
    const killed = await start(`killed-${trainer}`);
    const stage = async (): Promise<StageRecord | null> => {
      const run = await stack.store.runs.findByWorkflow(`killed-${trainer}`);
      return run === null ? null : stack.store.stages.find(run.id, 'long');
    };
    await until(async () => ((await stage())?.checkpointStep ?? null) !== null);
    for (const worker of POOL) stack.kill(worker);
    const step = (await stage())?.checkpointStep ?? 0;
    // waits for the pool too: both train at the same time
    const undisturbed = await start(`undisturbed-${trainer}`);
    await Promise.all(POOL.map((worker) => stack.revived(worker)));
    const { predictor } = (await killed.result()) as CandidateRef;
    const after = await stage();
    expect(after).toMatchObject({ status: 'completed', attempts: 2, cachedFrom: null });
    // it went on: its first checkpoint after that is a later one
    expect(after?.checkpointStep ?? 0).toBeGreaterThanOrEqual(step);
    expect(predictor).toBe(((await undisturbed.result()) as CandidateRef).predictor);
  },
);
