import { WorkflowUpdateFailedError } from '@temporalio/client';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { EndpointState } from '../../contracts/endpoint.ts';
import { latencyBin } from '../../contracts/serving-bins.ts';
import type { TestEnvironment, TestRun } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

let env: TestEnvironment;
let predict: (endpoint: string, x: number) => Promise<number>;
beforeAll(async () => {
  env = await openEnvironment();
  ({ predict } = await serve(env));
});

const stopped: (() => void)[] = [];
afterEach(() => {
  for (const stop of stopped.splice(0)) stop();
});

const endpointOf = (name: string) => env.client.workflow.getHandle(`endpoint/${name}`);
const stateOf = (name: string): Promise<EndpointState> => endpointOf(name).query<EndpointState>('state');
const release = (name: string, more: object): Promise<TestRun> =>
  env.start('release', { path: 'models/triple.onnx', model: name, endpoint: name, rollout: 'canary', ...more });
const served = (name: string) => env.run('release', { model: name, endpoint: name, rollout: 'replace' });
const untilShare = (name: string, percent: number): Promise<boolean> =>
  vi.waitUntil(async () => (await env.deps.store.endpoints.route(name))?.challenger?.percent === percent, { timeout: PATIENCE_MS, interval: 100 });

/** Figures as prediction servers would send them, second after second, until the test ends. */
function reportFigures(
  endpoint: string,
  figures: Readonly<Record<number, { readonly requests: number; readonly errors: number; readonly latencyMs: number }>>,
): void {
  const timer = setInterval(() => {
    const from = new Date(Math.floor(Date.now() / 1000) * 1000).toISOString();
    const rows = Object.entries(figures).map(([version, { requests, errors, latencyMs }]) => ({
      server: 'another-server',
      endpoint,
      model: endpoint,
      version: Number(version),
      from,
      requests,
      errors,
      latencyMsSum: latencyMs * requests,
      latencyMsMax: latencyMs,
      latency: [latencyBin(latencyMs), requests],
    }));
    void env.deps.store.stats.add(rows);
  }, 200);
  stopped.push(() => {
    clearInterval(timer);
  });
}

describe('a rollout', () => {
  it('replaces at once where nothing served before, whatever strategy was asked for', async () => {
    await env.run('release', { model: 'fresh', endpoint: 'fresh', rollout: 'canary', percent: [5, 50], bakeMs: 600_000 });
    expect(await stateOf('fresh')).toMatchObject({
      route: { champion: { model: 'fresh', version: 1 }, challenger: null },
      stack: [],
      rollout: null,
      queued: [],
    });
    expect(await predict('fresh', 5)).toBe(10);
    const [rollout] = await env.deps.store.rollouts.list({ endpoint: 'fresh' });
    expect(rollout).toMatchObject({ status: 'completed', reason: 'fresh 1 answers all requests' });
  });

  it('raises the share step by step while the figures are good, then gives the new version all traffic', async () => {
    await served('steady');
    reportFigures('steady', { 1: { requests: 50, errors: 0, latencyMs: 4 }, 2: { requests: 30, errors: 0, latencyMs: 5 } });
    const run = await release('steady', { percent: [10, 50, 100], bakeMs: 1_500 });
    await run.result();
    const shares = (await env.deps.store.endpoints.routeHistory('steady')).map((c) =>
      c.challenger ? `${String(c.challenger.version.version)} at ${String(c.challenger.percent)}` : `champion ${String(c.champion?.version)}`,
    );
    expect(shares.reverse()).toEqual(['champion 1', '2 at 10', '2 at 50', 'champion 2']);
    const [rollout] = await env.deps.store.rollouts.list({ endpoint: 'steady' });
    expect(rollout?.steps.map((s) => s.name)).toEqual(['begins', '10 % of traffic: passed', '50 % of traffic: passed']);
    expect(Object.keys(rollout?.steps[1]?.figures ?? {}).length).toBeGreaterThan(0);
    expect((await stateOf('steady')).stack).toMatchObject([{ version: 1 }]);
    expect(await predict('steady', 5)).toBe(15);
  });

  it('goes a step further when all servers with a live lease have it, and waits for none whose lease has ended', async () => {
    await served('waited');
    const { servers, endpoints } = env.deps.store;
    const beat = (leaseSeconds: number, epoch: number): Promise<void> =>
      servers.heartbeat({ serverId: 'slow-server', url: 'http://127.0.0.1:1', leaseSeconds, holding: [{ endpoint: 'waited', epoch }] });
    const epochNow = async (): Promise<number> => (await endpoints.route('waited'))?.epoch ?? 0;
    const before = await epochNow();
    await beat(600, before);
    try {
      const run = await release('waited', { percent: [50], bakeMs: 1 });
      // the version is loaded before it has a share, and that is what the other server has not done
      await vi.waitUntil(async () => (await epochNow()) > before, { timeout: PATIENCE_MS, interval: 50 });
      const next = await epochNow();
      await vi.waitUntil(async () => (await servers.holders({ endpoint: 'waited', epoch: next })).holding === 1, { timeout: PATIENCE_MS, interval: 50 });
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      expect(await endpoints.route('waited')).toMatchObject({ epoch: next, champion: { version: 1 } });
      // it has the step now, and then says no more
      await beat(1, next);
      await run.result();
      expect(await endpoints.route('waited')).toMatchObject({ champion: { version: 2 }, challenger: null });
    } finally {
      await servers.leave('slow-server');
    }
  });

  it('is taken back when the challenger fails more requests than allowed; the run fails, and alias and version with it', async () => {
    await served('failing');
    reportFigures('failing', { 1: { requests: 50, errors: 0, latencyMs: 4 }, 2: { requests: 40, errors: 10, latencyMs: 4 } });
    const run = await release('failing', { percent: [50], bakeMs: 600_000 });
    expect(await failureOf(run)).toMatchObject({
      code: 'ROLLED_BACK',
      message: expect.stringMatching(/failing took version 2 back: 25\.0 % of its \d+ requests failed/) as string,
    });
    const { models, endpoints } = env.deps.store;
    expect(await endpoints.route('failing')).toMatchObject({ champion: { version: 1 }, challenger: null });
    expect(await models.version('failing', 2)).toMatchObject({ status: 'rolled_back' });
    expect(await models.champion('failing')).toMatchObject({ version: 1 });
    expect(await env.deps.store.rollouts.list({ endpoint: 'failing' })).toMatchObject([{ status: 'rolled_back' }, { status: 'completed' }]);
    expect(await predict('failing', 5)).toBe(10);
  });

  it('is taken back when the challenger is too slow beside the champion', async () => {
    await served('slow');
    reportFigures('slow', { 1: { requests: 50, errors: 0, latencyMs: 4 }, 2: { requests: 40, errors: 0, latencyMs: 40 } });
    expect(await failureOf(await release('slow', { percent: [50], bakeMs: 600_000 }))).toMatchObject({
      code: 'ROLLED_BACK',
      message: expect.stringMatching(/slow took version 2 back: .*95/) as string,
    });
  });
});

describe('what a person does with a rollout', () => {
  it('promotes it before its time is over', async () => {
    await served('promoted');
    const run = await release('promoted', { percent: [5, 10, 20], bakeMs: 600_000 });
    await untilShare('promoted', 5);
    await endpointOf('promoted').executeUpdate('promote', { args: [{ by: 'ada', reason: 'looks right' }] });
    await run.result();
    expect(await env.deps.store.endpoints.route('promoted')).toMatchObject({ champion: { version: 2 }, challenger: null });
  });

  it('aborts it: the run fails, and all is as before', async () => {
    await served('aborted');
    const run = await release('aborted', { percent: [5], bakeMs: 600_000 });
    await untilShare('aborted', 5);
    await endpointOf('aborted').executeUpdate('abort', { args: [{ by: 'ada', reason: 'wrong file' }] });
    expect(await failureOf(run)).toMatchObject({ code: 'ROLLED_BACK', message: expect.stringContaining('ada: wrong file') as string });
    expect(await env.deps.store.endpoints.route('aborted')).toMatchObject({ champion: { version: 1 }, challenger: null });
    await expect(endpointOf('aborted').executeUpdate('abort', { args: [{ by: 'ada', reason: 'again' }] })).rejects.toBeInstanceOf(WorkflowUpdateFailedError);
  });

  it('rolls back to the version before, then to one that is named, and is refused where there is none', async () => {
    for (let i = 0; i < 3; i++)
      await env.run('release', { path: i === 0 ? 'models/double.onnx' : 'models/triple.onnx', model: 'back', endpoint: 'back', rollout: 'replace' });
    const back = (request: object): Promise<unknown> =>
      endpointOf('back').executeUpdate('rollback', { args: [{ by: 'ada', reason: 'complaints', ...request }] });
    await back({});
    expect(await stateOf('back')).toMatchObject({ route: { champion: { version: 2 } }, stack: [{ version: 1 }] });
    await back({ to: 1 });
    expect(await stateOf('back')).toMatchObject({ route: { champion: { version: 1 } }, stack: [] });
    await vi.waitFor(async () => expect(await predict('back', 5)).toBe(10), { timeout: PATIENCE_MS });
    const error: unknown = await back({ to: 9 }).catch((caught: unknown) => caught);
    expect((error as WorkflowUpdateFailedError).cause?.message).toContain('has not served version 9 lately');
  });

  it('waits in the queue behind the one under way, and follows it', async () => {
    await served('queue');
    const first = await release('queue', { percent: [5], bakeMs: 600_000 });
    await untilShare('queue', 5);
    const second = await env.start('release', { path: 'models/double.onnx', model: 'queue', endpoint: 'queue', rollout: 'replace' });
    await vi.waitUntil(async () => (await stateOf('queue')).queued.length === 1, { timeout: PATIENCE_MS });
    expect(await env.deps.store.endpoints.route('queue')).toMatchObject({ champion: { version: 1 }, challenger: { version: { version: 2 } } });
    await endpointOf('queue').executeUpdate('promote', { args: [{ by: 'ada', reason: 'go' }] });
    await Promise.all([first.result(), second.result()]);
    expect(await stateOf('queue')).toMatchObject({ route: { champion: { version: 3 } }, stack: [{ version: 1 }, { version: 2 }], queued: [] });
    expect(await predict('queue', 5)).toBe(10);
  });

  it('is known again to an endpoint whose workflow was lost', async () => {
    await served('lost');
    await env.run('release', { path: 'models/triple.onnx', model: 'lost', endpoint: 'lost', rollout: 'replace' });
    await endpointOf('lost').terminate('by a test');
    await env.run('release', { path: 'models/double.onnx', model: 'lost', endpoint: 'lost', rollout: 'replace' });
    expect(await stateOf('lost')).toMatchObject({ route: { champion: { version: 3 }, epoch: 3 }, stack: [{ version: 1 }, { version: 2 }] });
  });
});
