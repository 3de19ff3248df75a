import { rm } from 'node:fs/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { RetrainingEntry } from '../../contracts/retraining.ts';
import type { RunProgress } from '../../contracts/run.ts';
import type { RunRecord } from '../../store/runs.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { decision, openEnvironment, PATIENCE_MS } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
});
const controller = (pipeline: string) => env.client.workflow.getHandle(`retraining/${pipeline}`);
const ledgerOf = (pipeline: string): Promise<readonly RetrainingEntry[]> => controller(pipeline).query<readonly RetrainingEntry[]>('ledger');
const lines = async (pipeline: string): Promise<string[]> => (await ledgerOf(pipeline)).map((entry) => entry.decision);
const configure = (pipeline: string, settings: object): Promise<unknown> => controller(pipeline).executeUpdate('configure', { args: [settings] });
const untilLedger = (pipeline: string, expected: readonly string[]): Promise<void> =>
  vi.waitFor(async () => expect(await lines(pipeline)).toEqual(expected), { timeout: PATIENCE_MS, interval: 150 });
const runsOf = (pipeline: string): Promise<readonly RunRecord[]> => env.deps.store.runs.list({ pipeline });

/** Lets the newest run of the pipeline through its gate, and waits for its end. */
async function letThrough(workflowId: string): Promise<void> {
  const handle = env.client.workflow.getHandle(workflowId);
  await vi.waitUntil(async () => (await handle.query<RunProgress>('progress')).gates.length > 0, { timeout: PATIENCE_MS, interval: 150 });
  await handle.executeUpdate('approve', { args: [decision('ada')] });
  await handle.result();
}
const startedBy = async (pipeline: string, nth: number): Promise<string> =>
  (await ledgerOf(pipeline)).filter((entry) => entry.decision === 'started')[nth]?.workflowId ?? '';

describe('starts', () => {
  it('come from a schedule of the real server, which the record names', async () => {
    const handle = await env.client.schedule.create({
      scheduleId: 'nightly',
      spec: { intervals: [{ every: '24h' }] },
      action: { type: 'startWorkflow', workflowType: 'release', workflowId: 'release-nightly', taskQueue: 'millrace', args: [{ model: 'scheduled' }] },
    });
    await handle.trigger();
    const run = await vi.waitUntil(async () => (await runsOf('release')).find((r) => r.status === 'completed'), { timeout: PATIENCE_MS, interval: 200 });
    expect(run.trigger).toEqual({ kind: 'schedule', source: 'nightly' });
    expect(run.workflowId).toMatch(/^release-nightly-/);
    expect(await env.deps.store.models.versions({ model: 'scheduled' })).toHaveLength(1);
    await handle.delete();
  });

  it('come from the signal retrain, sent to the controller that is there from the start', async () => {
    await controller('release').signal('retrain', 'new flights came in');
    await untilLedger('release', ['started', 'ended']);
    const [started, ended] = await ledgerOf('release');
    expect(started).toMatchObject({ because: 'new flights came in', requests: [{ reason: 'new flights came in', source: 'signal' }] });
    expect(ended).toMatchObject({ because: 'completed', workflowId: started?.workflowId });
    expect(await env.deps.store.runs.findByWorkflow(started?.workflowId ?? '')).toMatchObject({
      status: 'completed',
      params: {},
      trigger: { kind: 'retrain', reason: 'new flights came in', source: 'signal' },
    });
  });
});

describe('the controller of retraining', () => {
  it('merges what comes while a run is in flight into the one that waits, and loses no trigger', async () => {
    await configure('waiting', { coolDownMs: 0 });
    const retrain = (reason: string): Promise<void> => controller('waiting').signal('retrain', { reason, source: 'a test' });
    await retrain('first');
    await untilLedger('waiting', ['started']);
    await Promise.all([retrain('second'), retrain('third'), retrain('fourth'), retrain('fifth')]);
    await untilLedger('waiting', ['started', 'waiting', 'merged', 'merged', 'merged']);

    await letThrough(await startedBy('waiting', 0));
    await untilLedger('waiting', ['started', 'waiting', 'merged', 'merged', 'merged', 'ended', 'started']);
    const second = (await ledgerOf('waiting')).at(-1);
    expect(second?.requests.map((request) => request.reason).sort()).toEqual(['fifth', 'fourth', 'second', 'third']);
    await letThrough(second?.workflowId ?? '');
    await untilLedger('waiting', ['started', 'waiting', 'merged', 'merged', 'merged', 'ended', 'started', 'ended']);
    expect(await runsOf('waiting')).toHaveLength(2);

    // every line of it is in Postgres, also such as came in the same instant
    const kept = await vi.waitUntil(
      async () => {
        const rows = await env.deps.store.retraining.list({ pipeline: 'waiting' });
        return rows.length === 8 ? rows : undefined;
      },
      { timeout: PATIENCE_MS },
    );
    expect(kept.map((row) => row.decision).reverse()).toEqual(await lines('waiting'));
    expect(kept.filter((row) => row.decision === 'merged').flatMap((row) => row.reasons)).toHaveLength(3);
  });

  it('starts nothing within the cool-down, and starts what waits when it is shortened', async () => {
    await configure('onGpu', { coolDownMs: 3_600_000 });
    await controller('onGpu').signal('retrain', 'one');
    await untilLedger('onGpu', ['started', 'ended']);
    await controller('onGpu').signal('retrain', 'two');
    await untilLedger('onGpu', ['started', 'ended', 'waiting']);
    expect((await ledgerOf('onGpu')).at(-1)?.because).toMatch(/^cool-down: 3\d{3} s to go$/);
    expect(await runsOf('onGpu')).toHaveLength(1);

    await configure('onGpu', { coolDownMs: 0 });
    await untilLedger('onGpu', ['started', 'ended', 'waiting', 'started', 'ended']);
    expect(await runsOf('onGpu')).toHaveLength(2);
  });

  it('starts nothing while it is paused, and ends its own run only when one fails', async () => {
    await configure('trained', { coolDownMs: 0 });
    await controller('trained').executeUpdate('pause');
    await controller('trained').signal('retrain', { reason: 'held', source: 'a test' });
    await untilLedger('trained', ['waiting']);
    expect((await ledgerOf('trained'))[0]?.because).toBe('retraining is paused');
    expect(await runsOf('trained')).toEqual([]);

    // the run that starts has no data to train on
    await rm(`${env.deps.config.projectFolder}/data/flights.csv`);
    await controller('trained').executeUpdate('resume');
    await untilLedger('trained', ['waiting', 'started', 'ended']);
    expect((await ledgerOf('trained')).at(-1)?.because).toBe('failed');
    expect((await controller('trained').describe()).status.name).toBe('RUNNING');
  });

  it('takes an argument that it does not understand for a request all the same', async () => {
    await controller('stepped').signal('retrain', { reason: 7 });
    await vi.waitFor(async () => expect(await lines('stepped')).toContain('started'), { timeout: PATIENCE_MS });
    expect((await ledgerOf('stepped'))[0]?.because).toBe('asked by a signal whose argument does not fit');
  });
});
