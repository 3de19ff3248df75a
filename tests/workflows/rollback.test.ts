import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ScheduleNotFoundError, WorkflowFailedError } from '@temporalio/client';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { reconcile } from '../../workers/reconciler.ts';
import { requirePredictor } from '../../contracts/required-predictor.ts';
import { failureOf, openEnvironment, PATIENCE_MS, refusedWith, serve, stageOf, untilGate } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let predict: (endpoint: string, x: number) => Promise<number>;
beforeAll(async () => {
  env = await openEnvironment();
  ({ predict } = await serve(env));
});

/** A first release that serves, with its version as champion: what must be as before when a later run fails. */
async function served(name: string): Promise<void> {
  await env.run('release', { model: name, endpoint: name, rollout: 'replace' });
  expect(await predict(name, 21)).toBe(42);
}

/** Everything that a user would look at after a run that failed. */
async function published(name: string) {
  const { models, endpoints } = env.deps.store;
  const [champion, candidate, versions, route] = await Promise.all([
    models.champion(name),
    models.alias(name, 'candidate'),
    models.versions({ model: name }),
    endpoints.route(name),
  ]);
  return {
    champion: champion?.version ?? null,
    candidate: candidate?.version ?? null,
    versions: versions.map((v) => [v.version, v.status]),
    serves: route?.champion.version ?? null,
    challenger: route?.challenger ?? null,
  };
}

const AS_BEFORE = {
  champion: 1,
  candidate: 1,
  serves: 1,
  challenger: null,
  versions: [
    [2, 'rolled_back'],
    [1, 'approved'],
  ],
};

describe('rollback', () => {
  it('leaves traffic and aliases as they were when a run fails after register, and marks the version', async () => {
    await served('after-register');
    const run = await env.start('release', {
      path: 'models/triple.onnx',
      model: 'after-register',
      endpoint: 'after-register',
      rollout: 'replace',
      failAfter: 'register',
    });
    const report = await failureOf(run);
    expect(report).toMatchObject({ code: 'USER_CODE_FAILED', message: expect.stringContaining('broken after register') as string });
    expect(await published('after-register')).toEqual(AS_BEFORE);
    expect(await env.deps.store.runs.findByWorkflow(run.workflowId)).toMatchObject({ status: 'failed', error: { code: 'USER_CODE_FAILED' } });
    expect(await predict('after-register', 21)).toBe(42);
  });

  it('takes a rollout that had completed out of service again when the run fails after it', async () => {
    await served('after-deploy');
    const run = await env.start('release', {
      path: 'models/triple.onnx',
      model: 'after-deploy',
      endpoint: 'after-deploy',
      rollout: 'replace',
      failAfter: 'deploy',
    });
    expect((await failureOf(run)).code).toBe('USER_CODE_FAILED');
    expect(await published('after-deploy')).toEqual(AS_BEFORE);
    await vi.waitFor(async () => expect(await predict('after-deploy', 21)).toBe(42), { timeout: PATIENCE_MS });
    const epochs = (await env.deps.store.endpoints.routeHistory('after-deploy')).map((change) => change.champion?.version);
    expect(epochs).toEqual([1, 2, 1]);
  });

  it('serves nothing again when the first version of an endpoint is taken back, and ends its watch', async () => {
    const run = await env.start('release', { model: 'first', endpoint: 'first', rollout: 'replace', watch: true, failAfter: 'monitor' });
    expect((await failureOf(run)).code).toBe('USER_CODE_FAILED');
    expect(await published('first')).toEqual({ champion: null, candidate: null, serves: null, challenger: null, versions: [[1, 'rolled_back']] });
    await expect(env.client.schedule.getHandle('monitor/first').describe()).rejects.toBeInstanceOf(ScheduleNotFoundError);
  });

  it('undoes the newest first, with the undos of the pipeline between those of its stages', async () => {
    const notes = join(env.project, 'notes.txt');
    const run = await env.start('release', { model: 'order', endpoint: 'order', rollout: 'replace', notes, failAfter: 'deploy' });
    await failureOf(run);
    expect(await readFile(notes, 'utf8')).toBe('after deploy\nbetween register and deploy\nbefore register\n');

    const { id } = (await env.deps.store.runs.findByWorkflow(run.workflowId)) ?? { id: '' };
    const undos = await env.deps.store.undos.list(id);
    expect(undos.map((u) => [u.stage, u.kind, u.status])).toEqual([
      ['register', 'version', 'done'],
      ['register', 'alias', 'done'],
      ['champion-order', 'alias', 'done'],
      ['deploy', 'route', 'done'],
    ]);
    const undone = (stage: string): number => Math.max(...undos.filter((u) => u.stage === stage).map((u) => Date.parse(u.doneAt ?? '')));
    const noted = async (name: string): Promise<number> => Date.parse((await stageOf(env, id, name)).endedAt ?? '');
    const order = [await noted('note'), undone('deploy'), undone('champion-order'), await noted('note-2'), undone('register'), await noted('note-3')];
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  it('goes on after an undo that fails, and shows it', async () => {
    const run = await env.start('release', { model: 'broken-undo', undoThrows: true, failAfter: 'register' });
    expect((await failureOf(run)).message).toContain('broken after register');
    expect((await run.progress()).undoProblems).toEqual([expect.stringContaining('this undo is broken')]);
    const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
    expect((await env.deps.store.runs.tags(record?.id ?? ''))['millrace.undoProblems']).toContain('this undo is broken');
    expect(await published('broken-undo')).toMatchObject({ versions: [[1, 'rolled_back']], candidate: null });
  });

  it('takes everything back when the run is cancelled while it waits, and says that it was cancelled', async () => {
    await served('cancelled');
    const run = await env.start('release', { path: 'models/triple.onnx', model: 'cancelled', endpoint: 'cancelled', gate: true, rollout: 'replace' });
    const { runId } = await untilGate(run, 'production');
    expect((await env.deps.store.models.alias('cancelled', 'candidate'))?.version).toBe(2);
    await run.handle.cancel();
    await expect(run.result()).rejects.toBeInstanceOf(WorkflowFailedError);
    expect((await run.handle.describe()).status.name).toBe('CANCELLED');
    expect(await published('cancelled')).toEqual(AS_BEFORE);
    expect(await env.deps.store.runs.get(runId)).toMatchObject({ status: 'cancelled' });
    // nobody is asked any more
    expect((await run.progress()).gates).toEqual([]);
    expect((await env.deps.store.approvals.get(runId, 'production')).status).toBe('expired');
  });

  it('takes a rollout back that is under way when the run is cancelled', async () => {
    await served('mid-rollout');
    const run = await env.start('release', {
      path: 'models/triple.onnx',
      model: 'mid-rollout',
      endpoint: 'mid-rollout',
      rollout: 'canary',
      percent: [50],
      bakeMs: 600_000,
    });
    await vi.waitUntil(async () => (await env.deps.store.endpoints.route('mid-rollout'))?.challenger?.percent === 50, { timeout: PATIENCE_MS });
    await run.handle.cancel();
    await expect(run.result()).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(await published('mid-rollout')).toEqual(AS_BEFORE);
    expect((await env.deps.store.rollouts.list({ endpoint: 'mid-rollout' })).map((r) => r.status)).toEqual(['rolled_back', 'completed']);
  });

  it('closes the records of a run that was terminated, and takes back what it had published', async () => {
    await served('terminated');
    const run = await env.start('release', {
      path: 'models/triple.onnx',
      model: 'terminated',
      endpoint: 'terminated',
      rollout: 'replace',
      waitAfterDeploy: true,
    });
    const { runId } = await untilGate(run, 'afterwards');
    expect(await published('terminated')).toMatchObject({ champion: 2, serves: 2 });
    await run.handle.terminate('by a test');
    const { closed, undone } = await reconcile(env.deps);
    expect(closed).toContain(runId);
    expect(undone).toContain(runId);
    await env.client.workflow.getHandle(`undo/${runId}`).result();
    expect(await published('terminated')).toEqual(AS_BEFORE);
    expect(await env.deps.store.runs.get(runId)).toMatchObject({ status: 'terminated', error: { code: 'CONFLICT' } });
    expect(await reconcile(env.deps)).toEqual({ closed: [], undone: [] });
  });
});

describe('an old attempt that comes back', () => {
  it('can publish nothing: neither a version, nor an alias, nor a rollout, nor a result', async () => {
    const { store } = env.deps;
    const run = await env.start('release', { model: 'revived', gate: true });
    const { runId } = await untilGate(run, 'production');
    const predictor = requirePredictor(await store.models.version('revived', 1));
    const begin = (attempt: number) => store.stages.begin({ runId, name: 'again', kind: 'register', ordinal: 9, attempt, fingerprint: null, useCache: false });
    const old = await begin(1);
    const revived = await begin(2);
    expect(revived.token).toBeGreaterThan(old.token);
    const by = { runId, stage: 'again', token: old.token };
    const fenced = async (work: Promise<unknown>): Promise<void> => expect(await refusedWith(work)).toBe('FENCED');
    await fenced(store.models.register({ model: 'revived', predictor, metrics: {}, evaluation: null, by }));
    await fenced(store.models.moveAlias({ model: 'revived', alias: 'champion', version: 1, ...by }));
    await fenced(store.rollouts.create({ id: 'f'.repeat(32), endpoint: 'revived', model: 'revived', version: 1, strategy: {}, by }));
    await fenced(store.stages.complete({ ...by, name: 'again', output: {} }));
    expect(await published('revived')).toMatchObject({ versions: [[1, 'candidate']], champion: null });

    const { version } = await store.models.register({ model: 'revived', predictor, metrics: {}, evaluation: null, by: { ...by, token: revived.token } });
    expect(version).toBe(2);
    await run.handle.cancel();
    await expect(run.result()).rejects.toBeInstanceOf(WorkflowFailedError);
    // after the end of its run not even the newest attempt may publish
    await fenced(store.models.moveAlias({ model: 'revived', alias: 'champion', version: 1, ...by, token: revived.token }));
  });

  it('cannot publish a route from an epoch that has passed', async () => {
    await served('epochs');
    const route = await env.deps.store.endpoints.route('epochs');
    if (!route) throw new Error('no route');
    await expect(
      env.deps.store.endpoints.setRoute({ route: { ...route, epoch: route.epoch }, expectedEpoch: route.epoch - 1, rolloutId: null }),
    ).rejects.toMatchObject({ code: 'FENCED' });
  });
});
