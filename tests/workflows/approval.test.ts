import { WorkflowUpdateFailedError } from '@temporalio/client';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { decision, failureOf, openEnvironment, PATIENCE_MS, untilGate, untilProgress } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
});

const refusal = async (update: Promise<unknown>): Promise<string> => {
  const error = await update.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(WorkflowUpdateFailedError);
  return ((error as WorkflowUpdateFailedError).cause as Error).message;
};

describe('parameters', () => {
  it('ends a run at once with every parameter that does not fit, and begins no record of it', async () => {
    const run = await env.start('release', { approvers: 0, rollout: 'sideways', model: 7 });
    const report = await failureOf(run);
    expect(report.code).toBe('INVALID_PARAMETERS');
    expect(report.problems.map((p) => p.path).sort()).toEqual(['approvers', 'model', 'rollout']);
    expect(report.problems.find((p) => p.path === 'model')?.found).toBe('7');
    expect(await env.deps.store.runs.findByWorkflow(run.workflowId)).toBeNull();
  });

  it('takes {} and no argument at all for the defaults', async () => {
    const { runId, version } = await env.run('release', {});
    expect(version).toBeTypeOf('number');
    const record = await env.deps.store.runs.get(String(runId));
    expect(record).toMatchObject({ status: 'completed', pipeline: 'release', trigger: { kind: 'manual' } });
    const handle = await env.client.workflow.start('release', { workflowId: 'without-argument', taskQueue: 'millrace', args: [] });
    expect(await handle.result()).toMatchObject({ model: 'multiplier' });
  });
});

describe('approval', () => {
  it('waits for two different people, keeps what each said, and only then moves the champion', async () => {
    const { models, approvals } = env.deps.store;
    const run = await env.start('release', { gate: true, approvers: 2, model: 'two-people' });
    const { runId } = await untilGate(run, 'production');

    expect(await models.champion('two-people')).toBeNull();
    expect((await models.alias('two-people', 'candidate'))?.version).toBe(1);
    expect(await approvals.get(runId, 'production')).toMatchObject({
      status: 'pending',
      approversNeeded: 2,
      evidence: { version: { model: 'two-people', version: 1 }, purpose: { owner: 'the tests' } },
    });

    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    const still = await run.progress();
    expect(still.gates).toMatchObject([{ gate: 'production', approversNeeded: 2, approvals: [{ by: 'ada', reason: 'ada looked at it' }] }]);
    expect(await models.champion('two-people')).toBeNull();

    await run.handle.executeUpdate('approve', { args: [decision('grace', 'production')] });
    await run.result();
    expect(await models.champion('two-people')).toMatchObject({ version: 1, status: 'approved' });
    const record = await approvals.get(runId, 'production');
    expect(record.status).toBe('approved');
    expect(record.decisions.map((d) => [d.who, d.decision, d.reason])).toEqual([
      ['ada', 'approve', 'ada looked at it'],
      ['grace', 'approve', 'grace looked at it'],
    ]);
  });

  it('rolls the run back when one person rejects it, and says who and why', async () => {
    const { models, approvals } = env.deps.store;
    const run = await env.start('release', { gate: true, approvers: 2, model: 'rejected' });
    const { runId } = await untilGate(run, 'production');
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await run.handle.executeUpdate('reject', { args: [{ by: 'grace', reason: 'the data is from another airport' }] });
    expect(await failureOf(run)).toMatchObject({
      code: 'GATE_REJECTED',
      message: expect.stringContaining('grace rejected production: the data is from another airport') as string,
    });

    expect(await models.version('rejected', 1)).toMatchObject({ status: 'rolled_back' });
    expect((await models.alias('rejected', 'candidate'))?.version).toBeNull();
    expect(await models.champion('rejected')).toBeNull();
    expect((await approvals.get(runId, 'production')).status).toBe('rejected');
    expect(await env.deps.store.runs.get(runId)).toMatchObject({ status: 'failed', error: { code: 'GATE_REJECTED' } });
  });

  it('expires a gate on which nobody decided in time', async () => {
    const run = await env.start('release', { gate: true, expiresMs: 1_500, model: 'expired' });
    expect((await failureOf(run)).code).toBe('GATE_EXPIRED');
    const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
    expect((await env.deps.store.approvals.get(record?.id ?? '', 'production')).status).toBe('expired');
    expect(await env.deps.store.models.version('expired', 1)).toMatchObject({ status: 'rolled_back' });
  });

  it('refuses a decision on a gate that the run does not wait for, and one without a reason', async () => {
    const run = await env.start('release', { gate: true, model: 'refused' });
    const { runId } = await untilGate(run, 'production');
    expect(await refusal(run.handle.executeUpdate('approve', { args: [decision('ada', 'staging')] }))).toContain('it waits for production');
    expect(await refusal(run.handle.executeUpdate('approve', { args: [{ by: 'ada' }] }))).toContain('does not fit');
    expect((await env.deps.store.approvals.get(runId, 'production')).decisions).toEqual([]);
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await run.result();
  });

  it('refuses the person who decided otherwise before, and goes on waiting', async () => {
    const run = await env.start('release', { gate: true, approvers: 2, model: 'changed-mind' });
    await untilGate(run, 'production');
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await expect(run.handle.executeUpdate('reject', { args: [decision('ada')] })).rejects.toBeInstanceOf(WorkflowUpdateFailedError);
    expect((await run.progress()).gates).toMatchObject([{ gate: 'production', approvals: [{ by: 'ada' }] }]);
    await run.handle.executeUpdate('approve', { args: [decision('grace')] });
    await run.result();
    expect(await env.deps.store.models.champion('changed-mind')).toMatchObject({ version: 1 });
  });
});

describe('messages of a run', () => {
  it('stops before the next stage while paused, and goes on when resumed', async () => {
    const run = await env.start('release', { gate: true, rollout: 'none', model: 'paused', waitAfterDeploy: true });
    await untilGate(run, 'production');
    await run.handle.executeUpdate('pause');
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    const paused = await untilProgress(run, (p) => p.gates.length === 0);
    expect(paused.paused).toBe(true);
    // the approval is in; the stage that makes it champion waits
    expect(paused.stages.find((s) => s.name === 'champion-paused')?.status).toBe('waiting');
    expect(await env.deps.store.models.champion('paused')).toBeNull();

    await run.handle.executeUpdate('resume');
    await untilGate(run, 'afterwards');
    expect(await env.deps.store.models.champion('paused')).toMatchObject({ version: 1 });
    await run.handle.executeUpdate('approve', { args: [decision('ada', 'afterwards')] });
    await run.result();
  });

  it('answers the query progress with every stage, and shows the same in the details of the execution', async () => {
    const run = await env.start('release', { gate: true, model: 'shown' });
    await untilGate(run, 'production');
    const progress = await run.progress();
    expect(progress).toMatchObject({ pipeline: 'release', status: 'running', paused: false });
    expect(progress.stages.map((s) => [s.name, s.kind, s.pool, s.status])).toEqual([
      ['import-model', 'importModel', 'cpu', 'completed'],
      ['register', 'register', 'cpu', 'completed'],
      ['approval-production', 'approval', 'people', 'running'],
    ]);
    const { currentDetails } = await run.handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata');
    expect(currentDetails).toContain('Waits for approval **production**: 0 of 1');
    expect(currentDetails).toContain('| ✓ | register | cpu | shown 1, as candidate |');
    expect(currentDetails).toContain('Multiply a number. Decision: Nothing. Owner: the tests.');

    // the stage's attribute may come a moment after the stage
    await vi.waitFor(
      async () => {
        const { typedSearchAttributes } = await run.handle.describe();
        const shown = Object.fromEntries([...typedSearchAttributes.getAll()].map(({ key, value }) => [key.name, value]));
        expect(shown).toMatchObject({ MillracePipeline: 'release', MillraceTrigger: 'manual', MillraceStage: 'approval-production' });
      },
      { timeout: PATIENCE_MS, interval: 200 },
    );
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await run.result();
  });
});
