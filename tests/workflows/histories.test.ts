import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { tuningWorkflowId } from '../../contracts/queues.ts';
import type { TriggerEntry } from '../../contracts/retraining.ts';
import type { TuningState } from '../../contracts/tuning.ts';
import { historyToJson } from '../../testing/history-json.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { decision, openEnvironment, PATIENCE_MS, serve, untilGate, untilProgress } from './test-project.ts';

/**
 * Runs one of each kind of workflow, and replays its history on the code that made it. With RECORD_HISTORIES=1
 * the histories are written to tests/replay/histories, where every later version of the code is held against them.
 */
const RECORD = process.env['RECORD_HISTORIES'] === '1';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
  await serve(env);
});

/** The history as JSON, without what tells of the machine that made it. */
async function replayable(workflowId: string, name: string): Promise<number> {
  const history = await env.client.workflow.getHandle(workflowId).fetchHistory();
  const json = JSON.parse(JSON.stringify(historyToJson(history)), (key, value: unknown) =>
    key === 'identity' || key === 'binaryChecksum' ? 'millrace' : value,
  ) as { events: unknown[] };
  const file = RECORD ? fileURLToPath(new URL(`../replay/histories/${name}.json`, import.meta.url)) : join(env.deps.config.home, `${name}.json`);
  await writeFile(file, `${JSON.stringify(json)}\n`);
  await env.replay(file);
  return json.events.length;
}

describe('a history replays on the code that made it', () => {
  it('of a pipeline that was approved, deployed and watched', async () => {
    const run = await env.start('release', { model: 'recorded', endpoint: 'recorded', gate: true, approvers: 2, rollout: 'replace', watch: true });
    await untilGate(run, 'production');
    await run.handle.executeUpdate('approve', { args: [decision('ada')] });
    await run.handle.executeUpdate('approve', { args: [decision('grace')] });
    await run.result();
    expect(await replayable(run.workflowId, 'pipeline-approved')).toBeGreaterThan(40);
  });

  it('of a pipeline that failed and was rolled back', async () => {
    const run = await env.start('release', { path: 'models/triple.onnx', model: 'recorded', endpoint: 'recorded', rollout: 'replace', failAfter: 'deploy' });
    await expect(run.result()).rejects.toThrow();
    expect(await replayable(run.workflowId, 'pipeline-rolled-back')).toBeGreaterThan(40);
  });

  it('of an endpoint with a canary, a promotion and a rollback', async () => {
    await env.run('release', { model: 'canaried', endpoint: 'canaried', rollout: 'replace' });
    await env.run('release', { path: 'models/triple.onnx', model: 'canaried', endpoint: 'canaried', rollout: 'canary', percent: [10, 50], bakeMs: 300 });
    const run = await env.start('release', { model: 'canaried', endpoint: 'canaried', rollout: 'canary', percent: [5], bakeMs: 600_000 });
    const endpoint = env.client.workflow.getHandle('endpoint/canaried');
    await vi.waitUntil(async () => (await env.deps.store.endpoints.route('canaried'))?.challenger?.percent === 5, { timeout: PATIENCE_MS });
    await endpoint.executeUpdate('promote', { args: [{ by: 'ada', reason: 'good enough' }] });
    await run.result();
    await endpoint.executeUpdate('rollback', { args: [{ by: 'ada', reason: 'complaints' }] });
    expect(await replayable('endpoint/canaried', 'endpoint-canary')).toBeGreaterThan(80);
  });

  it('of a controller of retraining with merged triggers and a cool-down', async () => {
    const controller = env.client.workflow.getHandle('retraining/release');
    const untilLast = (wanted: string): Promise<void> =>
      vi.waitFor(async () => expect((await controller.query<readonly TriggerEntry[]>('ledger')).at(-1)?.fate).toBe(wanted), {
        timeout: PATIENCE_MS,
        interval: 150,
      });
    await controller.executeUpdate('configure', { args: [{ coolDownMs: 3_600_000 }] });
    await controller.signal('retrain', 'first');
    await untilLast('completed');
    await controller.signal('retrain', 'second');
    await untilLast('waiting');
    // written, so that its timer runs
    await vi.waitUntil(async () => (await env.deps.store.retraining.list({ pipeline: 'release' })).length === 2, { timeout: PATIENCE_MS });
    await controller.signal('retrain', 'third');
    await vi.waitUntil(async () => (await env.deps.store.retraining.list({ pipeline: 'release' })).length === 3, { timeout: PATIENCE_MS });
    await controller.executeUpdate('configure', { args: [{ coolDownMs: 0 }] });
    await untilLast('completed');
    expect(await replayable('retraining/release', 'retraining')).toBeGreaterThan(40);
  });

  it('of a tuning that was steered and stopped trials early', async () => {
    const run = await env.start('tunedTrees', { trials: 200, parallel: 2, scheduler: 'asha' });
    const child = (): ReturnType<TestEnvironment['client']['workflow']['getHandle']> => env.client.workflow.getHandle(tuningWorkflowId(runId, 'tune'));
    const { runId } = await untilProgress(run, ({ stages }) => stages.some(({ name, status }) => name === 'tune' && status === 'running'));
    await vi.waitFor(async () => expect((await child().query<TuningState>('state')).ended).toBeGreaterThan(0), { timeout: PATIENCE_MS, interval: 150 });
    await child().executeUpdate('steer', { args: [{ trials: 8, stopRule: { rule: 'median', startupTrials: 2 } }] });
    await run.result();
    expect(await replayable(tuningWorkflowId(runId, 'tune'), 'tuning')).toBeGreaterThan(40);
  });
});
