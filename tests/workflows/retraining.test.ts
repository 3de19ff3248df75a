import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NativeConnection, Worker, type WorkflowBundle } from '@temporalio/worker';
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { putMonitorSchedule } from '../../activities/monitor-schedule.ts';
import { runCommandLine } from '../../cli/program.ts';
import type { RetrainingStatus, TriggerEntry } from '../../contracts/retraining.ts';
import type { RunProgress } from '../../contracts/run.ts';
import { MonitorInputSchema } from '../../contracts/stages.ts';
import type { ExperimentRequestRecord, RetrainingRecord } from '../../store/retraining.ts';
import type { RunRecord } from '../../store/runs.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { closeAbandonedAlerts } from '../../workers/abandoned-alerts.ts';
import { setCurrentBuild } from '../../workers/deployment.ts';
import { buildProject } from '../../workers/project-build.ts';
import { bundleWorkflows } from '../replay/bundle-workflows.ts';
import { freshDatabase } from '../support/database.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';
import { decision, hostBuild, openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let databaseUrl: string;
beforeAll(async () => {
  databaseUrl = await freshDatabase();
  env = await openEnvironment({ databaseUrl });
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

async function untilGateOf(workflowId: string): Promise<void> {
  // its controller says that it runs a moment before it does
  const progress = (): Promise<RunProgress | null> =>
    env.client.workflow
      .getHandle(workflowId)
      .query<RunProgress>('progress')
      .catch(() => null);
  await vi.waitUntil(async () => ((await progress())?.gates.length ?? 0) > 0, { timeout: PATIENCE_MS, interval: 150 });
}

/** Lets the newest run of the pipeline through its gate, and waits for its end. */
async function letThrough(workflowId: string): Promise<void> {
  await untilGateOf(workflowId);
  const handle = env.client.workflow.getHandle(workflowId);
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

  it('tells what came to serve by it and what the way there took; of one that people refuse the model in service stays, and an alert says so', async () => {
    await serve(env);
    const champion = async () => (await env.deps.store.endpoints.route('gated'))?.champion.version;
    await controller('gated').signal('retrain', 'to begin with');
    const [first] = await untilFates('gated', ['running']);
    await letThrough(first?.workflowId ?? '');
    const [served] = await untilFates('gated', ['serving']);
    expect(served).toMatchObject({ because: 'gated 1 serves at gated', timing: { gatesMs: expect.any(Number) as number } });
    const { totalMs = 0, waitingMs = 0, trainingMs = 0, gatesMs = 0, rolloutMs = 0 } = served?.timing ?? {};
    expect([gatesMs > 0, rolloutMs > 0]).toEqual([true, true]);
    expect(totalMs).toBe(waitingMs + trainingMs + gatesMs + rolloutMs);
    expect(await champion()).toBe(1);

    await controller('gated').signal('retrain', { reason: 'distance drifted', source: 'monitor/gated', condition: 'drift of distance' });
    const [, second] = await untilFates('gated', ['serving', 'running']);
    await untilGateOf(second?.workflowId ?? '');
    await env.client.workflow.getHandle(second?.workflowId ?? '').executeUpdate('reject', { args: [decision('ada')] });
    const [, refused] = await untilFates('gated', ['serving', 'rejected']);
    expect(refused?.because).toMatch(/^GATE_REJECTED: ada rejected go/);
    expect(await champion()).toBe(1);
    expect(await statusOf('gated')).toMatchObject({ failures: 1, conditions: [{ condition: 'drift of distance' }] });
    const [told] = await vi.waitUntil(
      async () => {
        const found = await env.deps.store.alerts.list({ pipeline: 'gated', kind: 'retraining' });
        return found.length > 0 ? found : undefined;
      },
      { timeout: PATIENCE_MS, interval: 150 },
    );
    expect(told?.what).toMatch(/^Retraining gated was rejected \(GATE_REJECTED: .*\); the model in service stays\. None begins before 20/);
    // what people refused is as they left it
    await controller('gated').signal('retrain', { reason: 'distance drifted', source: 'monitor/gated', condition: 'drift of distance' });
    const [, , again] = await untilFates('gated', ['serving', 'rejected', 'refused']);
    expect(again?.because).toContain('has not recovered since');
  });

  it('takes an argument that it does not understand for a request all the same', async () => {
    await controller('stepped').signal('retrain', { reason: 7 });
    await vi.waitFor(async () => expect(await ledgerOf('stepped')).toHaveLength(1), { timeout: PATIENCE_MS });
    expect((await ledgerOf('stepped'))[0]?.reason).toBe('asked by a signal whose argument does not fit');
  });
});

describe('the command line', () => {
  beforeEach(() => {
    vi.stubEnv('MILLRACE_PROJECT', env.project);
    vi.stubEnv('MILLRACE_HOME', env.deps.config.home);
    vi.stubEnv('DATABASE_URL', databaseUrl);
    vi.stubEnv('TEMPORAL_ADDRESS', inject('temporalAddress'));
    vi.stubEnv('TEMPORAL_NAMESPACE', env.deps.config.temporal.namespace);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });
  const millrace = async (...args: readonly string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
    const terminal = recordedTerminal({ columns: 240 });
    const code = await runCommandLine(args, terminal);
    return { code, out: terminal.out(), err: terminal.err() };
  };
  const asJson = async <Answer>(...args: readonly string[]): Promise<Answer> => {
    const { code, out, err } = await millrace(...args, '--json');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    return JSON.parse(out) as Answer;
  };
  const text = async (...args: readonly string[]): Promise<string> => {
    const { code, out, err } = await millrace(...args);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    return out;
  };

  it('answers why the model was retrained, and why it was not, for each trigger', async () => {
    const listed = await asJson<readonly RetrainingRecord[]>('retrainings', 'list', 'trained');
    expect(listed.map(({ number, reason, fate }) => [number, reason, fate])).toEqual([
      [4, 'the data is back', 'completed'],
      [3, 'once more', 'failed'],
      [2, 'held', 'failed'],
      [1, 'as it should be', 'completed'],
    ]);
    expect(await asJson('retrainings', 'list', 'trained', '--limit', '1')).toMatchObject([{ number: 4 }]);
    const lines = (await text('retrainings', 'list', 'trained')).split('\n').map((line) => line.trim());
    expect(lines[0]).toMatch(/^number +at +source +reason +fate +why +to serving +run$/i);
    expect(lines.slice(1, 5)).toEqual([
      expect.stringMatching(/^4 .* the data is back +completed +its run completed, and brought nothing into service +[0-9a-f]{12}$/) as string,
      expect.stringMatching(/^3 .* once more +failed +SOURCE_NOT_FOUND: /) as string,
      expect.stringMatching(/^2 .* a test +held +failed +SOURCE_NOT_FOUND: /) as string,
      expect.stringMatching(/^1 .* as it should be +completed /) as string,
    ]);

    const held = await asJson<RetrainingRecord>('retrainings', 'show', 'trained', '2');
    expect(held).toMatchObject({ fate: 'failed', evidence: { column: 'distance' }, heldBy: [{ by: 'paused' }] });
    const { waitingMs = 0, trainingMs = 0, totalMs } = held.timing ?? {};
    expect(totalMs).toBe(waitingMs + trainingMs);
    const shown = await text('retrainings', 'show', 'trained', '2');
    for (const line of [
      /^trigger +2 of trained$/m,
      /^held up +paused, since 20/m,
      /^trigger to the end of its run +.*: waiting .*, training .* s, gates 0\.0 s, rollout 0\.0 s$/m,
      /^evidence +\{"column":"distance"\}$/m,
    ])
      expect(shown).toMatch(line);
    expect(await millrace('retrainings', 'show', 'trained', '99')).toMatchObject({ code: 2, err: expect.stringContaining('has no trigger 99') as string });
    expect(await millrace('retrainings', 'list', 'traned')).toMatchObject({ code: 2, err: expect.stringContaining('trained') as string });
  });

  it('sets when a pipeline may be retrained, and says what holds', async () => {
    const set = ['--cool-down', '2h', '--runs-a-day', '5', '--quiet', '22:00-06:00@sat,sun', '--time-zone', 'Europe/Berlin', '--back-off', '5m-1d'];
    const { policy } = await asJson<RetrainingStatus>('retrainings', 'configure', 'trained', ...set);
    expect(policy).toMatchObject({
      coolDownMs: 7_200_000,
      budget: { runs: 5, minutes: null, timeZone: 'Europe/Berlin' },
      quietHours: [{ from: '22:00', to: '06:00', days: ['sun', 'sat'], timeZone: 'Europe/Berlin' }],
      backOff: { firstMs: 300_000, factor: 2, mostMs: 86_400_000 },
    });
    expect(await text('retrainings', 'pause', 'trained')).toBe('Retraining trained is paused.\n');
    const shown = await text('retrainings', 'show', 'trained');
    for (const line of [
      /^now +paused$/m,
      /^waiting +nothing$/m,
      /^cool-down +2 h 0 min$/m,
      /^budget a day +5 runs, any number of minutes, Europe\/Berlin$/m,
      /^quiet hours +22:00-06:00 sun,sat Europe\/Berlin$/m,
      /^back-off +5 min × 2 each time, at most 24 h 0 min$/m,
    ])
      expect(shown).toMatch(line);
    expect(await asJson('retrainings', 'show', 'trained')).toMatchObject({ pipeline: 'trained', paused: true, policy, experiment: null });
    expect(await asJson('retrainings', 'resume', 'trained')).toEqual({ pipeline: 'trained', resumed: true });
    const reset = await text('retrainings', 'configure', 'trained', '--reset', 'coolDownMs', '--reset', 'budget', '--reset', 'quietHours');
    expect(reset).toMatch(/^cool-down +1 min$/m);
    expect(reset).toMatch(/^quiet hours +none$/m);
    const wrong = await millrace('retrainings', 'configure', 'trained', '--runs-a-day', '1', '--time-zone', 'Mars/Olympus', '--back-off', '2d-1d');
    expect(wrong.code).toBe(2);
    expect(wrong.err).toMatch(/budget\.timeZone[\s\S]*backOff\.mostMs/);
  });

  it('gives a search that is ready when retraining alone does not help, which runs as it is written', async () => {
    const data = join(env.project, 'data', 'flights.csv');
    const rows = await readFile(data);
    await rm(data);
    await asJson('retrainings', 'configure', 'trained', '--cool-down', '0', '--back-off', '1s-1s', '--experiment-after', '1');
    expect(await asJson('retrain', 'trained', '--reason', 'new prices')).toMatchObject({ pipeline: 'trained', workflowId: 'retraining/trained' });
    const request = await vi.waitUntil(() => asJson<ExperimentRequestRecord | null>('retrainings', 'experiment', 'trained'), {
      timeout: PATIENCE_MS,
      interval: 300,
    });
    await writeFile(data, rows);
    expect(request).toMatchObject({
      because: expect.stringMatching(/^1 retrainings in a row did not end well/) as string,
      tune: { pipeline: 'trainedExperiment' },
    });
    expect(await text('retrainings', 'show', 'trained')).toMatch(/^experiment +asked for at 20.*: millrace retrainings experiment trained$/m);
    expect(await text('retrainings', 'experiment', 'trained')).toContain(
      'millrace retrainings experiment trained --code > pipelines/trained-experiment/pipeline.ts\n  millrace run trainedExperiment\n',
    );

    const file = join(env.project, request.tune?.file ?? '');
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, await text('retrainings', 'experiment', 'trained', '--code'));
    const built = await buildProject(env.deps);
    await hostBuild(env, built.id);
    await setCurrentBuild(env.client, env.deps.config.temporal.namespace, built.id);
    const run = await env.run('trainedExperiment', { trials: 2 });
    expect(run).toMatchObject({ best: { kind: 'candidate', trainer: 'linear' } });
    const stage = await env.deps.store.stages.find(String(run['runId']), 'tune');
    expect(stage).toMatchObject({ status: 'completed' });

    expect(await text('retrainings', 'experiment', 'trained', '--close', 'trained on two more years')).toBe('Closed.\n');
    await vi.waitUntil(async () => (await asJson<object | null>('retrainings', 'experiment', 'trained')) === null, { timeout: PATIENCE_MS, interval: 200 });
    expect((await env.deps.store.retraining.experiments({ pipeline: 'trained' }))[0]).toMatchObject({ comment: 'trained on two more years' });
  });
});

describe('a controller of before its ledger had one entry a trigger', () => {
  it('is taken up by the code of today while its run is in flight: what waits goes on waiting, and settings stay', async () => {
    const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
    onTestFinished(() => connection.close());
    const { namespace } = env.deps.config.temporal;
    const taskQueue = 'controllers-of-before';
    /** A worker of this build, which is the current one from then on. */
    const host = async (buildId: string, workflowBundle: WorkflowBundle): Promise<() => Promise<void>> => {
      const worker = await Worker.create({
        connection,
        namespace,
        taskQueue,
        workflowBundle,
        maxCachedWorkflows: 0,
        workerDeploymentOptions: { version: { deploymentName: taskQueue, buildId }, useWorkerVersioning: true, defaultVersioningBehavior: 'PINNED' },
      });
      const running = worker.run();
      const stop = async (): Promise<void> => {
        if (worker.getState() === 'RUNNING') worker.shutdown();
        await running;
      };
      onTestFinished(stop);
      const version = { deploymentName: taskQueue, version: `${taskQueue}.${buildId}`, buildId };
      const isCurrent = (): Promise<boolean> =>
        env.client.workflowService
          .setWorkerDeploymentCurrentVersion({ namespace, ...version, ignoreMissingTaskQueues: true, identity: 'a test' })
          .then(() => true)
          // the server has not heard of its worker yet
          .catch(() => false);
      await vi.waitUntil(isCurrent, { timeout: PATIENCE_MS, interval: 200 });
      return stop;
    };
    // as it was: no mark of today's code in its history
    const stopBefore = await host(
      'before',
      await bundleWorkflows([
        { file: 'workflows/retraining.ts', from: "if (!patched('one entry a trigger'))", to: "if (pipeline !== '')" },
        { file: 'workflows/earlier-retraining.ts', from: "patched('hands over to one entry a trigger')", to: 'false' },
      ]),
    );
    const started = await env.client.workflow.start('retraining', { workflowId: 'controller-of-before', taskQueue, args: ['waiting'] });
    const handle = env.client.workflow.getHandle('controller-of-before');
    const runOf = (n: number): string => `waiting-retrain-${started.firstExecutionRunId.slice(0, 8)}-${String(n)}`;
    await handle.executeUpdate('configure', { args: [{ coolDownMs: 1 }] });
    await handle.signal('retrain', 'from before');
    await vi.waitUntil(async () => (await env.deps.store.runs.findByWorkflow(runOf(1))) !== null, { timeout: PATIENCE_MS, interval: 150 });
    await handle.signal('retrain', { reason: 'meanwhile', source: 'the shop' });
    await host('today', await bundleWorkflows());
    await stopBefore();
    await letThrough(runOf(1));
    await letThrough(runOf(2));
    await vi.waitFor(
      async () =>
        expect(await handle.query<readonly TriggerEntry[]>('ledger')).toMatchObject([
          {
            number: 1,
            reason: 'meanwhile',
            source: 'the shop',
            fate: 'completed',
            because: 'its run completed, and brought nothing into service',
            workflowId: runOf(2),
          },
        ]),
      { timeout: PATIENCE_MS, interval: 200 },
    );
    expect(await handle.query<RetrainingStatus>('state')).toMatchObject({ policy: { coolDownMs: 1 }, paused: false, inFlight: null });
    await vi.waitFor(
      async () => expect(await env.deps.store.retraining.list({ workflowId: runOf(2) })).toMatchObject([{ reason: 'meanwhile', fate: 'completed' }]),
      { timeout: PATIENCE_MS, interval: 150 },
    );
    await handle.terminate();
  });
});

describe('alerts of what is gone', () => {
  it('are closed with the reason: an endpoint that nothing answers, or nothing watches, and a pipeline that the project has no more', async () => {
    const { alerts, endpoints } = env.deps.store;
    const raise = (place: { readonly endpoint: string } | { readonly pipeline: string }) =>
      alerts.raise({
        kind: 'endpoint' in place ? 'drift' : 'retraining',
        ...place,
        subject: 'x',
        what: 'x is the matter',
        since: '2026-01-01T00:00:00.000Z',
        against: null,
        sure: null,
        look: '/api/v1/alerts',
        command: 'millrace alerts list',
      });
    const champion = { model: 'm', version: 1, predictor: 'a'.repeat(64) };
    for (const endpoint of ['watched', 'unwatched'])
      await endpoints.setRoute({ route: { endpoint, epoch: 1, champion, challenger: null, log: true }, expectedEpoch: 0, rolloutId: null });
    await putMonitorSchedule(env.deps, 'release', MonitorInputSchema.parse({ endpoint: 'watched', everyMs: 86_400_000 }));
    const ids = new Map<string, number>();
    for (const endpoint of ['watched', 'unwatched', 'gone']) ids.set(endpoint, await raise({ endpoint }));
    for (const pipeline of ['release', 'removed']) ids.set(pipeline, await raise({ pipeline }));
    const closed = await closeAbandonedAlerts(env.deps, env.pipelines);
    expect(closed.toSorted((a, b) => a - b)).toEqual([ids.get('unwatched'), ids.get('gone'), ids.get('removed')]);
    expect(await closeAbandonedAlerts(env.deps, env.pipelines)).toEqual([]);
    const because = async (name: string) => (await alerts.get(ids.get(name) ?? 0)).resolvedBecause;
    expect(await Promise.all(['watched', 'unwatched', 'gone', 'release', 'removed'].map(because))).toEqual([
      null,
      'nothing watches unwatched any more',
      'nothing answers at gone any more',
      null,
      'the project has no pipeline removed any more',
    ]);
  });
});
