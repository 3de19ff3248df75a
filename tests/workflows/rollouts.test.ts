import { WorkflowUpdateFailedError } from '@temporalio/client';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { EndpointState, ProductionPeriod, Promoted } from '../../contracts/endpoint.ts';
import type { RolloutRecord } from '../../store/rollouts.ts';
import type { TestEnvironment, TestRun } from '../../testing/test-environment.ts';
import { decision, failureOf, openEnvironment, PATIENCE_MS, serve, untilGate } from './test-project.ts';

let env: TestEnvironment;
let url: string;
let predict: (endpoint: string, x: number) => Promise<number>;
beforeAll(async () => {
  env = await openEnvironment();
  ({ url, predict } = await serve(env));
});

const stopped: (() => void)[] = [];
afterEach(() => {
  for (const stop of stopped.splice(0)) stop();
});

const ADA = { by: 'ada', reason: 'seen enough' };
const endpointOf = (name: string) => env.client.workflow.getHandle(`endpoint/${name}`);
const stateOf = (name: string): Promise<EndpointState> => endpointOf(name).query<EndpointState>('state');
const routeOf = (name: string) => env.deps.store.endpoints.route(name);
/** Version 1 doubles, what comes after triples. */
const served = (name: string) => env.run('release', { model: name, endpoint: name, rollout: 'replace' });
const release = (name: string, more: object): Promise<TestRun> => env.start('release', { path: 'models/triple.onnx', model: name, endpoint: name, ...more });
const promote = (name: string, more: object = {}): Promise<Promoted> =>
  endpointOf(name).executeUpdate<Promoted, [object]>('promote', { args: [{ ...ADA, ...more }] });
const abort = (name: string): Promise<void> => endpointOf(name).executeUpdate('abort', { args: [{ by: 'ada', reason: 'wrong file' }] });
const rollback = (name: string, more: object = {}): Promise<unknown> =>
  endpointOf(name).executeUpdate('rollback', { args: [{ by: 'ada', reason: 'complaints', ...more }] });
const until = (condition: () => Promise<boolean>): Promise<boolean> => vi.waitUntil(condition, { timeout: PATIENCE_MS, interval: 100 });
const untilWaiting = (name: string): Promise<boolean> => until(async () => (await stateOf(name)).rollout?.waitingSince != null);
const untilShare = (name: string, percent: number): Promise<boolean> => until(async () => (await routeOf(name))?.challenger?.percent === percent);
const lastRollout = async (name: string): Promise<RolloutRecord | undefined> => (await env.deps.store.rollouts.list({ endpoint: name }))[0];
const alertsOf = async (name: string) =>
  (await env.deps.store.alerts.list({ status: 'all', limit: 1_000 })).filter(({ what }) => what.includes(` at ${name} `));

const shown = ({ champion, challenger, standby }: ProductionPeriod): string =>
  [
    String(champion?.version),
    ...(challenger ? [`${String(challenger.version.version)} ${challenger.mode} ${String(challenger.percent)}`] : []),
    ...standby.map((v) => `${String(v.version)} loaded`),
  ].join(', ');
/** What served, the first first. */
const historyOf = async (name: string): Promise<readonly string[]> => [...(await env.deps.store.endpoints.productionHistory(name))].reverse().map(shown);

/** Labels as they come in: `correct` of `n` predictions each second, of each version. */
function reportQuality(endpoint: string, correct: Readonly<Record<number, number>>, n = 100): void {
  let batch = 0;
  const timer = setInterval(() => {
    batch += 1;
    const from = `${new Date().toISOString().slice(0, 16)}:00.000Z`;
    void env.deps.store.stats.addOutcomes(
      Object.entries(correct).map(([version, share]) => ({
        endpoint,
        model: endpoint,
        version: Number(version),
        from,
        metric: 'correct',
        source: `test-${String(batch)}`,
        n,
        sum: share * n,
        sumSquares: share * n,
        min: 0,
        max: 1,
      })),
    );
  }, 200);
  stopped.push(() => {
    clearInterval(timer);
  });
}

describe('blue/green', () => {
  it('loads the new version beside the old one, waits for a person, switches, and switches back to what is still loaded', async () => {
    await served('colours');
    const run = await release('colours', { rollout: 'blueGreen', hold: true, bakeMs: 3_600_000 });
    await untilWaiting('colours');
    expect(await routeOf('colours')).toMatchObject({ champion: { version: 1 }, challenger: null, standby: [{ version: 2 }] });
    expect(await predict('colours', 5)).toBe(10);
    // only who names the version gets it
    const named = await fetch(`${url}/v2/models/colours/versions/2/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'x', shape: [1], datatype: 'FP32', data: [5] }] }),
    });
    expect(await named.json()).toMatchObject({ outputs: [{ data: [15] }] });
    expect(await alertsOf('colours')).toMatchObject([
      { kind: 'rollout', what: expect.stringContaining('waits for a person') as string, command: 'millrace endpoints promote colours --reason TEXT' },
    ]);

    expect(await promote('colours')).toEqual({ did: 'resumed' });
    await run.result();
    expect(await predict('colours', 5)).toBe(15);
    expect(await stateOf('colours')).toMatchObject({ kept: { version: { version: 1 } }, route: { standby: [{ version: 1 }] } });
    await rollback('colours');
    expect(await predict('colours', 5)).toBe(10);
    expect(await historyOf('colours')).toEqual(['1', '1, 2 loaded', '2, 1 loaded', '1']);
    expect(await env.deps.store.endpoints.productionHistory('colours')).toMatchObject([
      { by: 'ada', reason: 'ada: complaints', until: null },
      { by: expect.stringMatching(/^run /) as string },
      { by: expect.stringMatching(/^run /) as string, reason: 'loaded without traffic' },
      { by: expect.stringMatching(/^run /) as string },
    ]);
  });

  it('lets the version before go when its time is over', async () => {
    await served('short');
    await env.run('release', { path: 'models/triple.onnx', model: 'short', endpoint: 'short', rollout: 'blueGreen', bakeMs: 1_000 });
    await until(async () => (await routeOf('short'))?.standby === undefined);
    expect(await stateOf('short')).toMatchObject({ kept: null, route: { champion: { version: 2 } }, stack: [{ version: 1 }] });
  });
});

describe('a canary that waits for a person', () => {
  it('keeps its share meanwhile, goes on when it is promoted, and takes all traffic when that is said', async () => {
    await served('held');
    const run = await release('held', { rollout: 'canary', percent: [5, 'hold', 50, 'hold', 80], bakeMs: 300 });
    await untilWaiting('held');
    expect((await stateOf('held')).rollout).toMatchObject({ step: '5 % of traffic', until: null });
    expect(await promote('held')).toEqual({ did: 'resumed' });
    await untilShare('held', 50);
    await untilWaiting('held');
    const { leaseUntil } = (await routeOf('held'))?.challenger ?? { leaseUntil: '' };
    await until(async () => ((await routeOf('held'))?.challenger?.leaseUntil ?? '') > leaseUntil);
    expect(await promote('held', { all: true })).toEqual({ did: 'promoted' });
    await run.result();
    expect(await historyOf('held')).toEqual(['1', '1, 2 share 5', '1, 2 share 50', '2']);
    expect((await lastRollout('held'))?.steps.map((s) => s.name)).toEqual([
      'begins',
      '5 % of traffic: passed',
      'waits at: 5 % of traffic',
      '50 % of traffic: passed',
      'waits at: 50 % of traffic',
    ]);
    expect(await alertsOf('held')).toHaveLength(2);
  });

  it('goes on in a new history where it stood', async () => {
    await served('renewed');
    const run = await release('renewed', { rollout: 'canary', percent: [10, 'hold', 60], bakeMs: 300 });
    await untilWaiting('renewed');
    const before = await endpointOf('renewed').describe();
    const { route, rollout } = await stateOf('renewed');
    await endpointOf('renewed').signal('renew');
    await until(async () => (await endpointOf('renewed').describe()).runId !== before.runId);
    await until(async () => (await stateOf('renewed')).route !== null);
    expect(await stateOf('renewed')).toMatchObject({ route: { epoch: route?.epoch }, rollout: { ...rollout } });
    const { leaseUntil } = (await routeOf('renewed'))?.challenger ?? { leaseUntil: '' };
    await until(async () => ((await routeOf('renewed'))?.challenger?.leaseUntil ?? '') > leaseUntil);
    expect(await promote('renewed')).toEqual({ did: 'resumed' });
    await run.result();
    expect(await historyOf('renewed')).toEqual(['1', '1, 2 share 10', '1, 2 share 60', '2']);
    expect(await alertsOf('renewed')).toHaveLength(1);
  });

  it('writes nothing into its history while it is watched', async () => {
    await served('quiet');
    const run = await release('quiet', { rollout: 'canary', percent: [20], bakeMs: 600_000 });
    await untilShare('quiet', 20);
    const first = (await routeOf('quiet'))?.challenger?.leaseUntil ?? '';
    await until(async () => ((await routeOf('quiet'))?.challenger?.leaseUntil ?? '') > first);
    const events = async (): Promise<number> => (await endpointOf('quiet').describe()).historyLength;
    const [length, lease] = [await events(), (await routeOf('quiet'))?.challenger?.leaseUntil ?? ''];
    await until(async () => ((await routeOf('quiet'))?.challenger?.leaseUntil ?? '') > lease);
    expect(await events()).toBe(length);
    expect(await historyOf('quiet')).toEqual(['1', '1, 2 share 20']);
    await abort('quiet');
    expect(await failureOf(run)).toMatchObject({ code: 'ROLLED_BACK' });
  });

  it('is taken back by a rollback, which answers with who serves', async () => {
    await served('undone');
    const run = await release('undone', { rollout: 'canary', percent: [5], bakeMs: 600_000 });
    await untilShare('undone', 5);
    expect(await rollback('undone')).toMatchObject({ champion: { version: 1 } });
    expect(await failureOf(run)).toMatchObject({ code: 'ROLLED_BACK', message: expect.stringContaining('ada: complaints') as string });
    expect(await historyOf('undone')).toEqual(['1', '1, 2 share 5', '1']);
  });
});

describe('a shadow', () => {
  it('is mirrored, answers nobody, and goes on as stated', async () => {
    await served('mirrored');
    const run = await release('mirrored', { rollout: 'shadow', hold: true, bakeMs: 500 });
    await untilWaiting('mirrored');
    expect((await stateOf('mirrored')).rollout?.step).toBe('100 % of requests are mirrored');
    for (let i = 0; i < 20; i++) expect(await predict('mirrored', 5)).toBe(10);
    await promote('mirrored');
    await run.result();
    expect(await historyOf('mirrored')).toEqual(['1', '1, 2 shadow 100', '2']);
  });

  it('ends with the champion as it was when nothing is to follow; the run has not failed', async () => {
    await served('looked');
    await env.run('release', { path: 'models/triple.onnx', model: 'looked', endpoint: 'looked', rollout: 'shadowOnly', bakeMs: 500 });
    expect(await historyOf('looked')).toEqual(['1', '1, 2 shadow 100', '1']);
    expect(await lastRollout('looked')).toMatchObject({ status: 'completed', reason: 'looked 2 was mirrored; looked 1 goes on' });
  });
});

describe('a test of two versions', () => {
  it('sticks by a key, and its end gives all traffic to the version whose labels are better', async () => {
    await served('better');
    const run = await release('better', { rollout: 'abTest', bakeMs: 3_000, metric: 'correct' });
    await untilShare('better', 50);
    expect((await routeOf('better'))?.challenger?.stickyBy).toEqual({ kind: 'header' });
    reportQuality('better', { 1: 0.6, 2: 0.8 });
    await run.result();
    expect(await routeOf('better')).toMatchObject({ champion: { version: 2 }, challenger: null });
    expect((await lastRollout('better'))?.steps.at(-1)?.name).toMatch(
      /^correct: challenger 0\.8\d* of \d+, champion 0\.6\d* of \d+; the challenger is better \(p = /,
    );
  });

  it('keeps the champion when nothing shows that the other one is better, and the run is told', async () => {
    await served('same');
    const run = await release('same', { rollout: 'abTest', bakeMs: 1_000, metric: 'correct' });
    expect(await failureOf(run)).toMatchObject({ code: 'ROLLED_BACK', message: expect.stringContaining('the test kept the champion') as string });
    expect(await historyOf('same')).toEqual(['1', '1, 2 share 50', '1']);
  });

  it('waits at its end for a person who decides', async () => {
    await served('asked');
    const run = await release('asked', { rollout: 'abTest', bakeMs: 300 });
    await untilWaiting('asked');
    expect(await promote('asked')).toEqual({ did: 'resumed' });
    await run.result();
    expect(await historyOf('asked')).toEqual(['1', '1, 2 share 50', '2']);
  });
});

describe('two rollouts at once', () => {
  it('are refused where the second was not to wait: its run fails, and nothing of it is left', async () => {
    await served('busy');
    const first = await release('busy', { rollout: 'canary', percent: [5], bakeMs: 600_000 });
    await untilShare('busy', 5);
    const second = await release('busy', { rollout: 'replace', whenBusy: 'refuse' });
    expect(await failureOf(second)).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('Another rollout is under way on busy (busy 2)') as string,
    });
    expect(await lastRollout('busy')).toMatchObject({ version: 3, status: 'failed' });
    expect(await stateOf('busy')).toMatchObject({ queued: [], rollout: { version: { version: 2 } } });
    await promote('busy');
    await first.result();
    expect(await historyOf('busy')).toEqual(['1', '1, 2 share 5', '2']);
  });
});

describe('a rollout that has ended', () => {
  it('is taken back by late labels while its soak window is open; people are told', async () => {
    await served('soaked');
    const run = await release('soaked', { rollout: 'canary', percent: [50], bakeMs: 500, soakMs: 600_000, metric: 'correct' });
    await run.result();
    expect(await stateOf('soaked')).toMatchObject({ soak: { version: { version: 2 }, before: { version: 1 } }, route: { champion: { version: 2 } } });
    reportQuality('soaked', { 1: 0.9, 2: 0.4 });
    await until(async () => (await routeOf('soaked'))?.champion.version === 1);
    await until(async () => (await lastRollout('soaked'))?.status === 'rolled_back');
    expect(await stateOf('soaked')).toMatchObject({ soak: null, stack: [] });
    expect(await env.deps.store.endpoints.productionHistory('soaked', { limit: 1 })).toMatchObject([
      { by: 'guard', reason: expect.stringContaining('late labels') as string },
    ]);
    expect(await alertsOf('soaked')).toMatchObject([{ kind: 'rollout', what: expect.stringContaining('was taken back') as string }]);
    expect(await predict('soaked', 5)).toBe(10);
  });

  it('is soaked until the next one begins, also in a new history', async () => {
    await served('followed');
    await env.run('release', { path: 'models/triple.onnx', model: 'followed', endpoint: 'followed', rollout: 'replace', soakMs: 600_000 });
    const { runId } = await endpointOf('followed').describe();
    await endpointOf('followed').signal('renew');
    await until(async () => (await endpointOf('followed').describe()).runId !== runId);
    await until(async () => (await stateOf('followed')).soak?.version.version === 2);
    await served('followed');
    expect((await stateOf('followed')).soak).toBeNull();
  });

  it('is rolled back by a person: the alias champion follows what serves, unless it names another version', async () => {
    const approved = async (): Promise<void> => {
      const run = await release('alias', { gate: true, rollout: 'replace' });
      await untilGate(run, 'production');
      await run.handle.executeUpdate('approve', { args: [decision('ada')] });
      await run.result();
    };
    await approved();
    await approved();
    await approved();
    const { models } = env.deps.store;
    expect(await models.champion('alias')).toMatchObject({ version: 3 });
    await rollback('alias');
    expect(await models.champion('alias')).toMatchObject({ version: 2 });
    expect((await models.aliasHistory('alias', 'champion'))[0]).toMatchObject({ version: 2, reason: 'alias: ada: complaints' });
    await models.moveAlias({ model: 'alias', alias: 'champion', version: 3, reason: 'by hand' });
    await rollback('alias');
    expect(await routeOf('alias')).toMatchObject({ champion: { version: 1 } });
    expect(await models.champion('alias')).toMatchObject({ version: 3 });
  });
});

it('as a stage of its own ends with its rollout', async () => {
  await served('alone');
  const { predictor } = await env.deps.store.models.version('alone', 1);
  const input = {
    version: { kind: 'version', model: 'alone', version: 1, predictor },
    endpoint: 'alone',
    rollout: { kind: 'canary', percent: [5], bakeMs: 600_000 },
  };
  const run = await env.start('stage', { kind: 'deploy', input });
  await untilShare('alone', 5);
  await abort('alone');
  expect(await failureOf(run)).toMatchObject({ code: 'ROLLED_BACK', message: expect.stringContaining('wrong file') as string });
});

it('refuses shares that do not rise, with every problem', async () => {
  const run = await release('wrong', { rollout: 'canary', percent: [50, 5, 100, 'hold'], bakeMs: 1 });
  const failure = await failureOf(run);
  expect(failure.problems.map(({ message }) => message)).toEqual(
    expect.arrayContaining([expect.stringContaining('the shares must rise'), expect.stringContaining('100 can only be the last step')]),
  );
});

it('promote and abort are refused where no rollout is under way', async () => {
  await served('idle');
  await expect(promote('idle')).rejects.toBeInstanceOf(WorkflowUpdateFailedError);
  await expect(abort('idle')).rejects.toBeInstanceOf(WorkflowUpdateFailedError);
});
