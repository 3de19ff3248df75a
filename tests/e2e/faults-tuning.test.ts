import { afterAll, beforeAll, expect, it } from 'vitest';
import { WORKFLOW_QUEUE } from '../../contracts/queues.ts';
import type { TuningHistory } from '../../contracts/tuning.ts';
import { type FaultStack, startFaultStack, until } from '../support/fault-stack.ts';

let stack: FaultStack;
beforeAll(async () => {
  stack = await startFaultStack('tuning-project');
});
afterAll(async () => {
  await stack.close();
});

/** What the search did in a run. */
async function trialsOf(workflowId: string): Promise<unknown> {
  const run = await stack.store.runs.findByWorkflow(workflowId);
  const record = await stack.store.stages.find(run?.id ?? '', 'tune');
  const { trials } = (record?.input as { readonly history: TuningHistory }).history;
  return trials.map(({ trial, state, values, value, rungs, predictor }) => ({ trial, state, values, value, rungs, predictor }));
}

it('a tuning whose workers and orchestrator are killed makes the same trials, stops the same ones and finds the same models', async () => {
  const start = (workflowId: string) => stack.client.workflow.start('searched', { workflowId, taskQueue: WORKFLOW_QUEUE, args: [{}] });
  await (await start('undisturbed')).result();
  const killed = await start('killed');
  const trialBegan = async (trial: number): Promise<boolean> => {
    const run = await stack.store.runs.findByWorkflow('killed');
    return run !== null && (await stack.store.stages.find(run.id, `tune-trial-${String(trial)}`)) !== null;
  };
  await until(() => trialBegan(2));
  stack.kill('cpu-worker');
  await until(() => trialBegan(4));
  stack.kill('orchestrator');
  await until(() => trialBegan(5));
  stack.kill('cpu-worker');
  await killed.result();
  const undisturbed = await trialsOf('undisturbed');
  expect(undisturbed).toHaveLength(6);
  expect(await trialsOf('killed')).toEqual(undisturbed);
});
