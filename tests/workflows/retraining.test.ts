import { readFile, rm, writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { RetrainingStatus, TriggerEntry } from '../../contracts/retraining.ts';
import type { RunProgress } from '../../contracts/run.ts';
import type { RunRecord } from '../../store/runs.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { decision, openEnvironment, PATIENCE_MS } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
});
const controller = (pipeline: string) => env.client.workflow.getHandle(`retraining/${pipeline}`);
const ledgerOf = (pipeline: string): Promise<readonly TriggerEntry[]> => controller(pipeline).query<readonly TriggerEntry[]>('ledger');
const statusOf = (pipeline: string): Promise<RetrainingStatus> => controller(pipeline).query<RetrainingStatus>('state');
const configure = (pipeline: string, settings: object): Promise<unknown> => controller(pipeline).executeUpdate('configure', { args: [settings] });
/** Waits until the triggers of the pipeline have these fates, in the order in which they came. */
const untilFates = (pipeline: string, expected: readonly string[]): Promise<readonly TriggerEntry[]> =>
  vi.waitFor(
    async () => {
      const ledger = await ledgerOf(pipeline);
      expect(ledger.map(({ fate }) => fate)).toEqual(expected);
      return ledger;
    },
    { timeout: PATIENCE_MS, interval: 150 },
  );
const runsOf = (pipeline: string): Promise<readonly RunRecord[]> => env.deps.store.runs.list({ pipeline });

/** Lets the newest run of the pipeline through its gate, and waits for its end. */
async function letThrough(workflowId: string): Promise<void> {
  const handle = env.client.workflow.getHandle(workflowId);
  // its controller says that it runs a moment before it does
  const progress = (): Promise<RunProgress | null> => handle.query<RunProgress>('progress').catch(() => null);
  await vi.waitUntil(async () => ((await progress())?.gates.length ?? 0) > 0, { timeout: PATIENCE_MS, interval: 150 });
  await handle.executeUpdate('approve', { args: [decision('ada')] });
  await handle.result();
}
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
    const [entry] = await untilFates('release', ['completed']);
    expect(entry).toMatchObject({ number: 1, reason: 'new flights came in', source: 'signal', because: 'its run completed, and brought nothing into service' });
    const run = await env.deps.store.runs.findByWorkflow(entry?.workflowId ?? '');
    expect(run).toMatchObject({
      id: entry?.runId,
      status: 'completed',
      params: {},
      trigger: { kind: 'retrain', reason: 'new flights came in', source: 'signal', requests: [{ reason: 'new flights came in', source: 'signal' }] },
    });
    const { totalMs = 0, waitingMs = 0, trainingMs = 0, gatesMs, rolloutMs } = entry?.timing ?? {};
    expect([gatesMs, rolloutMs]).toEqual([0, 0]);
    expect(totalMs).toBe(waitingMs + trainingMs);
  });
});

describe('the controller of retraining', () => {
  it('merges what comes while a run is in flight into the one that waits, and loses no trigger', async () => {
    await configure('waiting', { coolDownMs: 0 });
    const retrain = (reason: string, key?: string): Promise<void> =>
      controller('waiting').signal('retrain', { reason, source: 'a test', evidence: { of: reason }, ...(key === undefined ? {} : { key }) });
    await retrain('first');
    const [first] = await untilFates('waiting', ['running']);
    await Promise.all([retrain('second'), retrain('third'), retrain('fourth', 'window 7'), retrain('fourth', 'window 7'), retrain('fifth')]);
    const together = await untilFates('waiting', ['running', 'waiting', 'waiting', 'waiting', 'waiting']);
    expect(together.find(({ key }) => key === 'window 7')).toMatchObject({
      times: 2,
      because: `${first?.workflowId ?? ''} is in flight`,
      heldBy: [{ by: 'in flight' }],
    });

    await letThrough(first?.workflowId ?? '');
    const [, second] = await untilFates('waiting', ['completed', 'running', 'running', 'running', 'running']);
    await letThrough(second?.workflowId ?? '');
    const done = await untilFates('waiting', ['completed', 'completed', 'completed', 'completed', 'completed']);
    const runs = await runsOf('waiting');
    expect(runs).toHaveLength(2);
    expect(runs[0]?.trigger.requests?.map(({ reason, evidence }) => [reason, evidence])).toEqual(
      expect.arrayContaining(['second', 'third', 'fourth', 'fifth'].map((reason) => [reason, { of: reason }])),
    );
    // what people took to decide is told apart from training
    expect(done[1]?.timing?.gatesMs).toBeGreaterThan(0);

    // all of it comes to be in Postgres, with the evidence
    const kept = await vi.waitUntil(
      async () => {
        const rows = await env.deps.store.retraining.list({ pipeline: 'waiting' });
        return rows.every(({ fate }) => fate === 'completed') ? rows : undefined;
      },
      { timeout: PATIENCE_MS },
    );
    expect(kept.map(({ number }) => number)).toEqual([5, 4, 3, 2, 1]);
    expect(kept.find(({ triggerKey }) => triggerKey === 'window 7')).toMatchObject({ times: 2, evidence: { of: 'fourth' } });
  });

  it('starts nothing within the cool-down, and starts what waits when it is shortened', async () => {
    await configure('onGpu', { coolDownMs: 3_600_000 });
    await controller('onGpu').signal('retrain', 'one');
    await untilFates('onGpu', ['completed']);
    await controller('onGpu').signal('retrain', 'two');
    const [, second] = await untilFates('onGpu', ['completed', 'waiting']);
    expect(second?.because).toMatch(/^cool-down until /);
    expect(second?.heldBy).toMatchObject([{ by: 'cool-down' }]);
    expect(await statusOf('onGpu')).toMatchObject({ waiting: { triggers: 1, heldBy: 'cool-down' }, policy: { coolDownMs: 3_600_000 }, today: { runs: 1 } });
    expect(await runsOf('onGpu')).toHaveLength(1);

    await configure('onGpu', { coolDownMs: 0 });
    await untilFates('onGpu', ['completed', 'completed']);
    expect(await runsOf('onGpu')).toHaveLength(2);
  });

  it('counts what arose before a run began as answered by it: what a schedule makes up for does not flood', async () => {
    await configure('valued', { coolDownMs: 0 });
    const missed = (hour: number): Promise<void> =>
      controller('valued').signal('retrain', {
        reason: 'hourly',
        source: 'a schedule',
        key: `hourly/${String(hour)}`,
        at: `2026-01-01T0${String(hour)}:00:00Z`,
      });
    for (let hour = 0; hour < 9; hour++) await missed(hour);
    await vi.waitFor(async () => expect((await ledgerOf('valued')).map(({ fate }) => fate)).not.toContain('running'), {
      timeout: PATIENCE_MS,
      interval: 150,
    });
    const ledger = await ledgerOf('valued');
    expect(ledger).toHaveLength(9);
    expect(new Set(ledger.map(({ workflowId }) => workflowId)).size).toBe(1);
    expect(await runsOf('valued')).toHaveLength(1);
  });

  it('takes settings only when all of them fit, and says everything that does not', async () => {
    const refused = configure('release', { coolDownMs: -1, budget: { timeZone: 'Europe/Nowhere' }, quietHours: [{ from: '25:00', to: '06:00' }], speed: 1 });
    const problems = await refused.then(
      () => [],
      (error: unknown) => ((error as { cause?: { details?: [{ problems: { path: string }[] }] } }).cause?.details?.[0].problems ?? []).map(({ path }) => path),
    );
    expect(problems.sort()).toEqual(['(settings)', 'budget.timeZone', 'coolDownMs', 'quietHours.0.from']);
    await configure('release', { budget: { runs: 2, timeZone: 'Europe/Berlin' } });
    await configure('release', { reset: ['budget'] });
    expect((await statusOf('release')).policy.budget).toEqual({ runs: null, minutes: null, timeZone: 'UTC' });
  });

  it('starts nothing while it is paused; what fails backs off, and after a number in a row asks for an experiment', async () => {
    // one that goes well first: its training is where a search can begin
    await configure('trained', { coolDownMs: 0, backOff: { firstMs: 0, factor: 1, mostMs: 0 }, experimentAfter: 2 });
    await controller('trained').signal('retrain', 'as it should be');
    await untilFates('trained', ['completed']);
    await controller('trained').executeUpdate('pause');
    await controller('trained').signal('retrain', { reason: 'held', source: 'a test', evidence: { column: 'distance' } });
    const [, held] = await untilFates('trained', ['completed', 'waiting']);
    expect(held?.because).toBe('retraining is paused');
    expect(await runsOf('trained')).toHaveLength(1);

    // the runs that start have no data to train on
    const data = `${env.deps.config.projectFolder}/data/flights.csv`;
    const rows = await readFile(data);
    await rm(data);
    await controller('trained').executeUpdate('resume');
    const [, failed] = await untilFates('trained', ['completed', 'failed']);
    expect(failed?.because).toMatch(/^SOURCE_NOT_FOUND: /);
    const alerts = (): Promise<readonly string[]> =>
      env.deps.store.alerts.list().then((list) => list.filter((a) => a.pipeline === 'trained' && a.status === 'open').map((a) => a.kind));
    await vi.waitFor(async () => expect(await alerts()).toEqual(['retraining']), { timeout: PATIENCE_MS, interval: 150 });
    await controller('trained').signal('retrain', 'once more');
    await untilFates('trained', ['completed', 'failed', 'failed']);
    const request = await vi.waitUntil(async () => (await env.deps.store.retraining.experiments({ pipeline: 'trained', open: true }))[0], {
      timeout: PATIENCE_MS,
    });
    expect(request.because).toMatch(/^2 retrainings in a row did not end well/);
    expect(request.evidence.findings).toMatchObject([{ evidence: { column: 'distance' } }]);
    await vi.waitFor(async () => expect([...(await alerts())].sort()).toEqual(['experiment', 'retraining']), { timeout: PATIENCE_MS, interval: 150 });
    expect(await statusOf('trained')).toMatchObject({ failures: 2, experimentRequested: true });

    // a later success closes it
    await writeFile(data, rows);
    await controller('trained').signal('retrain', 'the data is back');
    await untilFates('trained', ['completed', 'failed', 'failed', 'completed']);
    await vi.waitFor(async () => expect(await alerts()).toEqual([]), { timeout: PATIENCE_MS, interval: 150 });
    expect(await env.deps.store.retraining.experiments({ pipeline: 'trained' })).toMatchObject([{ closedBy: null, comment: 'a retraining went well' }]);
    expect((await controller('trained').describe()).status.name).toBe('RUNNING');
  });

  it('takes an argument that it does not understand for a request all the same', async () => {
    await controller('stepped').signal('retrain', { reason: 7 });
    await vi.waitFor(async () => expect(await ledgerOf('stepped')).toHaveLength(1), { timeout: PATIENCE_MS });
    expect((await ledgerOf('stepped'))[0]?.reason).toBe('asked by a signal whose argument does not fit');
  });
});
