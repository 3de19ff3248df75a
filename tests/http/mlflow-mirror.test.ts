/** The mirror to an outside MLflow server: runs of a real store, sent to MLflow's own server, killed and started again on both sides. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { moduleCommand } from '../../config/module-process.ts';
import { createMlflowClient } from '../../store/mlflow-client.ts';
import type { Store } from '../../store/store.ts';
import { mirrorRuns, outsideName } from '../../workers/mlflow-mirror.ts';
import { freshStore } from '../support/database.ts';
import { type MlflowServer, startMlflowServer } from '../support/mlflow-server.ts';
import { recordRun } from '../support/recorded-run.ts';

const PATIENCE = { timeout: 60_000, interval: 100 };
const START_MS = 15 * 60_000;
const CREDENTIALS = { MLFLOW_TRACKING_USERNAME: 'mill', MLFLOW_TRACKING_PASSWORD: 'race-of-water' };

interface Outside {
  readonly info: {
    readonly run_id: string;
    readonly run_name: string;
    readonly status: string;
    readonly start_time: number;
    readonly end_time?: number;
    readonly lifecycle_stage: string;
  };
  readonly data: { readonly params?: readonly { key: string; value: string }[]; readonly tags?: readonly { key: string; value: string }[] };
}
interface Point {
  readonly value: number | string;
  readonly step: number;
  readonly timestamp: number;
}

let server: MlflowServer | undefined;
let store: Store & { readonly databaseUrl: string };
let gate: { readonly url: string; readonly server: Server };
/** What the gate does with a request before, or instead of, the outside server. */
let onRequest: (path: string, request: IncomingMessage, body: Buffer, pass: () => Promise<Response>) => Promise<Response | null>;
let seenCredentials: Set<string | undefined>;
const said: string[] = [];

beforeAll(async () => {
  server = await startMlflowServer().catch((error: unknown) => {
    if (process.env['CI'] === 'true') throw error;
    return undefined;
  });
  return () => server?.stop();
}, START_MS);

/** A reverse proxy in front of the outside server, as it stands where a password is asked for. */
async function openGate(): Promise<{ readonly url: string; readonly server: Server }> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    const body = Buffer.concat(parts);
    const path = request.url ?? '';
    const pass = (): Promise<Response> =>
      fetch(`${server?.url ?? ''}${path}`, {
        method: request.method ?? 'GET',
        headers: { 'content-type': 'application/json' },
        ...(request.method === 'POST' ? { body } : {}),
      });
    seenCredentials.add(request.headers.authorization);
    const passed = await onRequest(path, request, body, pass).catch(() => null);
    if (passed === null) {
      response.destroy();
      return;
    }
    response.writeHead(passed.status, { 'content-type': 'application/json' }).end(await passed.text());
  };
  const opened = createServer((request, response) => void answer(request, response));
  opened.listen(0, '127.0.0.1');
  await once(opened, 'listening');
  return { url: `http://127.0.0.1:${String((opened.address() as AddressInfo).port)}`, server: opened };
}

beforeEach(async (context) => {
  if (server === undefined) context.skip('MLflow could not be installed here');
  store = await freshStore();
  onRequest = (_path, _request, _body, pass) => pass();
  seenCredentials = new Set();
  said.length = 0;
  gate = await openGate();
});
afterEach(() => {
  gate.server.closeAllConnections();
  gate.server.close();
});

const mirror = (more: { readonly settleMs?: number; readonly env?: Readonly<Record<string, string>> } = {}): Promise<number> =>
  mirrorRuns({
    store,
    client: createMlflowClient({ address: gate.url, env: more.env ?? CREDENTIALS }),
    log: (_level, message, details) => said.push(`${message} ${JSON.stringify(details)}`),
    ...(more.settleMs === undefined ? {} : { settleMs: more.settleMs }),
  });

async function ask(path: string, body?: unknown): Promise<unknown> {
  const answer = await fetch(`${server?.url ?? ''}/api/2.0/mlflow/${path}`, {
    ...(body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  return answer.json();
}
/** The runs of an experiment outside, deleted ones too. */
async function outsideRuns(experiment: string): Promise<readonly Outside[]> {
  const found = (await ask(`experiments/get-by-name?experiment_name=${encodeURIComponent(experiment)}`)) as { experiment?: { experiment_id: string } };
  if (found.experiment === undefined) return [];
  const { runs = [] } = (await ask('runs/search', { experiment_ids: [found.experiment.experiment_id], run_view_type: 'ALL' })) as { runs?: Outside[] };
  return runs;
}
const tagsOf = ({ data }: Outside): Readonly<Record<string, string>> => Object.fromEntries((data.tags ?? []).map(({ key, value }) => [key, value]));
const paramsOf = ({ data }: Outside): Readonly<Record<string, string>> => Object.fromEntries((data.params ?? []).map(({ key, value }) => [key, value]));
async function oneOutside(experiment: string, runId: string): Promise<Outside> {
  const found = (await outsideRuns(experiment)).filter((run) => tagsOf(run)['millrace.run_id'] === runId);
  expect(found).toHaveLength(1);
  const [run] = found;
  if (run === undefined) throw new Error('it is not there');
  return run;
}
async function historyOf(run: Outside, name: string): Promise<readonly Point[]> {
  const points: Point[] = [];
  let token: string | undefined = '';
  while (token !== undefined) {
    const page = (await ask(
      `metrics/get-history?run_id=${run.info.run_id}&metric_key=${encodeURIComponent(name)}&max_results=25000${token === '' ? '' : `&page_token=${token}`}`,
    )) as { metrics?: Point[]; next_page_token?: string };
    points.push(...(page.metrics ?? []));
    token = page.next_page_token;
  }
  return points;
}

const idOf = (name: string): string => createHash('md5').update(name).digest('hex');
/** A run that a client of MLflow has made, in an experiment of its own. */
async function clientRun(name: string, tags: Readonly<Record<string, string>> = {}): Promise<{ readonly runId: string; readonly experiment: string }> {
  const experiment = `by hand ${name}`;
  const experimentId = await store.experiments.create({ name: experiment, tags: {} });
  await store.trackedRuns.create({
    id: idOf(name),
    experimentId,
    name,
    userId: 'ann',
    startedAtMs: 1_767_225_600_123,
    tags: { 'mlflow.runName': name, ...tags },
  });
  return { runId: idOf(name), experiment };
}
const pointsOf = (key: string, count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({ key, value: (from + i) / 8, step: from + i, atMs: 1_767_225_600_000 + from + i }));

describe('a run', () => {
  it('of a pipeline stands outside whole: experiment, name, parameters, metrics of its stages with steps, tags, end', async () => {
    const { runId } = await recordRun(
      store,
      { name: 'nightly', pipeline: 'mirrored flights', params: { source: 'a.csv', split: { fraction: 0.2 } }, end: 'failed' },
      [
        { name: 'train', input: { trainer: { trees: 200 } }, output: {}, metrics: [1, 2, 3].map((step) => ({ key: 'loss', value: 1 / step, step })) },
        { name: 'evaluate', input: { metric: 'auc' }, output: {}, metrics: [{ key: 'auc', value: 0.75 }] },
      ],
    );
    expect(await mirror()).toBe(1);
    const run = await oneOutside('mirrored flights', runId);
    const kept = await store.runs.get(runId);
    expect(run.info).toMatchObject({
      run_name: 'nightly',
      status: 'FAILED',
      start_time: kept.startedAt === null ? 0 : Date.parse(kept.startedAt),
      end_time: kept.endedAt === null ? 0 : Date.parse(kept.endedAt),
      lifecycle_stage: 'active',
    });
    expect(paramsOf(run)).toEqual({ source: 'a.csv', 'split.fraction': '0.2', 'train/trainer.trees': '200', 'evaluate/metric': 'auc' });
    expect(tagsOf(run)).toMatchObject({ 'millrace.run_id': runId, 'millrace.workflowId': 'nightly', 'mlflow.source.git.commit': 'c0ffee' });
    expect((await historyOf(run, 'train/loss')).map(({ value, step }) => [step, value])).toEqual([
      [1, 1],
      [2, 1 / 2],
      [3, 1 / 3],
    ]);
    expect(await historyOf(run, 'evaluate/auc')).toMatchObject([{ value: 0.75, step: 0 }]);
    expect(await mirror()).toBe(0);
    expect(await store.mlflowMirror.standing()).toMatchObject({ waitingRuns: 0, oldest: null, failingSince: null, refusedRuns: 0, lastError: '' });
    expect([...seenCredentials]).toEqual([`Basic ${Buffer.from('mill:race-of-water').toString('base64')}`]);
  });

  it('of a client is followed: points that come later and late, other tags, its end, that it is deleted and brought back', async () => {
    await mirror();
    const { runId, experiment } = await clientRun('followed', { team: 'flights', gone: 'soon' });
    await store.trackedRuns.log({
      runId,
      metrics: [
        ...pointsOf('loss', 2_500),
        { key: 'odd', value: Number.NaN, step: 0, atMs: 5 },
        { key: 'odd', value: Number.POSITIVE_INFINITY, step: 1, atMs: 5 },
      ],
      params: [{ key: 'depth', value: '6' }],
      tags: [],
    });
    await mirror();
    const first = await oneOutside(experiment, runId);
    expect(first.info).toMatchObject({ run_name: 'followed', status: 'RUNNING', start_time: 1_767_225_600_123 });
    const sent = await historyOf(first, 'loss');
    expect(sent).toHaveLength(2_500);
    expect(sent.at(-1)).toMatchObject({ value: 2_499 / 8, step: 2_499, timestamp: 1_767_225_602_499 });
    expect((await historyOf(first, 'odd')).map(({ value }) => (typeof value === 'number' && value > 1e308 ? 'Infinity' : value))).toEqual(['NaN', 'Infinity']);

    await store.trackedRuns.log({
      runId,
      metrics: [...pointsOf('loss', 1_200, 2_500), { key: 'loss', value: -1, step: 7, atMs: 7 }],
      params: [],
      tags: [{ key: 'team', value: 'trains' }],
    });
    await store.trackedRuns.removeTag(runId, 'gone');
    await store.trackedRuns.update({ runId, status: 'FINISHED', endedAtMs: 1_767_225_700_000, name: 'followed to the end' });
    await mirror();
    const ended = await oneOutside(experiment, runId);
    expect(ended.info).toMatchObject({ run_id: first.info.run_id, run_name: 'followed to the end', status: 'FINISHED', end_time: 1_767_225_700_000 });
    expect(tagsOf(ended)).toMatchObject({ team: 'trains' });
    expect(tagsOf(ended)).not.toHaveProperty('gone');
    const points = await historyOf(ended, 'loss');
    expect(points).toHaveLength(3_701);
    expect(points.filter(({ value }) => value === -1)).toMatchObject([{ step: 7, timestamp: 7 }]);

    await store.trackedRuns.remove(runId);
    await mirror();
    expect((await oneOutside(experiment, runId)).info.lifecycle_stage).toBe('deleted');
    await store.trackedRuns.restore(runId);
    await mirror();
    expect((await oneOutside(experiment, runId)).info.lifecycle_stage).toBe('active');
  });

  it('names its parent by the id that it has outside, and what the server would not take as a name is renamed and said', async () => {
    const parent = await clientRun('parent');
    const child = await clientRun('child', { 'mlflow.parentRunId': parent.runId });
    const { runId } = await recordRun(store, { name: 'odd names', pipeline: 'mirrored oddities', params: { 'a#b': 1, 'ä b': 2, '..': 3 } }, []);
    await mirror();
    const outside = await oneOutside(parent.experiment, parent.runId);
    expect(tagsOf(await oneOutside(child.experiment, child.runId))['mlflow.parentRunId']).toBe(outside.info.run_id);
    const odd = await oneOutside('mirrored oddities', runId);
    expect(paramsOf(odd)).toEqual({ [outsideName('a#b')]: '1', 'ä b': '2', [outsideName('..')]: '3' });
    expect(outsideName('a#b')).toMatch(/^a_b\.[0-9a-f]{8}$/);
    expect(JSON.parse(tagsOf(odd)['millrace.renamed'] ?? '')).toEqual({ [outsideName('a#b')]: 'a#b', [outsideName('..')]: '..' });
  });

  it('keeps outside the first value of a parameter that changes here, and says so', async () => {
    const begin = (trees: number) =>
      store.stages.begin({ runId, name: 'train', kind: 'train', ordinal: 1, attempt: trees, fingerprint: null, input: { trees }, useCache: false });
    const { runId } = await recordRun(store, { name: 'changing', pipeline: 'mirrored changes' }, []);
    await begin(1);
    await mirror();
    await begin(2);
    await mirror();
    const run = await oneOutside('mirrored changes', runId);
    expect(paramsOf(run)).toEqual({ 'train/trees': '1' });
    expect(tagsOf(run)['millrace.changed_params']).toBe('train/trees');
  });

  it('that waits in the queue is not there before it begins, and then with its true start', async () => {
    const begin = (name: string) =>
      store.runs.begin({
        runId: idOf(name),
        workflowId: name,
        temporalRunId: 'r',
        pipeline: 'mirrored queue',
        params: {},
        trigger: { kind: 'cli' },
        maxConcurrent: 1,
      });
    await begin('runs at once');
    expect((await begin('waits')).status).toBe('waiting');
    await mirror();
    expect(await outsideRuns('mirrored queue')).toHaveLength(1);
    await store.runs.end({ runId: idOf('runs at once'), status: 'completed' });
    expect((await begin('waits')).status).toBe('running');
    await mirror();
    const { startedAt } = await store.runs.get(idOf('waits'));
    expect((await oneOutside('mirrored queue', idOf('waits'))).info).toMatchObject({
      status: 'RUNNING',
      start_time: startedAt === null ? 0 : Date.parse(startedAt),
    });
  });

  it('that somebody deleted outside comes back when it changes here; one that is not there any more is made again', async () => {
    const { runId, experiment } = await clientRun('deleted there');
    await mirror();
    await ask('runs/delete', { run_id: (await oneOutside(experiment, runId)).info.run_id });
    await store.trackedRuns.log({ runId, metrics: pointsOf('loss', 3), params: [], tags: [] });
    await mirror();
    const back = await oneOutside(experiment, runId);
    expect(back.info.lifecycle_stage).toBe('active');
    expect(await historyOf(back, 'loss')).toHaveLength(3);

    await store.mlflowMirror.isThere(runId, idOf('a run that was purged'));
    await ask('runs/set-tag', { run_id: back.info.run_id, key: 'millrace.run_id', value: 'another' });
    await mirror();
    await vi.waitUntil(mirror, PATIENCE);
    expect(await historyOf(await oneOutside(experiment, runId), 'loss')).toHaveLength(3);
    expect(await outsideRuns(experiment)).toHaveLength(2);
  });
});

describe('an outside server that is away', () => {
  it('blocks nothing and loses nothing: what was logged meanwhile is there when it is back', async () => {
    const { runId, experiment } = await clientRun('outage');
    await store.trackedRuns.log({ runId, metrics: pointsOf('loss', 10), params: [], tags: [] });
    await mirror();
    await server?.kill();
    onTestFinished(async () => {
      if ((await fetch(`${server?.url ?? ''}/health`).catch(() => null)) === null) await server?.start();
    });
    await store.trackedRuns.log({ runId, metrics: pointsOf('loss', 1_500, 10), params: [{ key: 'rate', value: '0.1' }], tags: [] });
    await store.trackedRuns.update({ runId, status: 'FINISHED', endedAtMs: 1_767_225_700_000 });
    expect(await mirror()).toBe(0);
    // it is given time: another look asks nothing of it
    const asked = said.length;
    expect(await mirror()).toBe(0);
    expect(said).toHaveLength(asked);
    const standing = await store.mlflowMirror.standing();
    expect(standing).toMatchObject({ target: gate.url, waitingRuns: 1, refusedRuns: 0 });
    expect(standing?.oldest).not.toBeNull();
    expect(standing?.failingSince).not.toBeNull();
    expect(standing?.lastError).toContain('could not be reached');
    expect(JSON.stringify([standing, said])).not.toMatch(/race-of-water|bWlsbDpyYWNl/);

    await server?.start();
    await vi.waitUntil(mirror, PATIENCE);
    const run = await oneOutside(experiment, runId);
    expect(run.info.status).toBe('FINISHED');
    expect(paramsOf(run)).toEqual({ rate: '0.1' });
    expect(await historyOf(run, 'loss')).toHaveLength(1_510);
    expect(await store.mlflowMirror.standing()).toMatchObject({ waitingRuns: 0, oldest: null, failingSince: null, lastError: '' });
  });

  it('is not one that refuses a run: the others go on, and it is said which', async () => {
    const refused = await clientRun('refused');
    await store.trackedRuns.log({ runId: refused.runId, metrics: pointsOf('loss', 2), params: [], tags: [] });
    const taken = await clientRun('taken');
    onRequest = (path, _request, body, pass) =>
      path.endsWith('log-batch') && body.includes('"loss"')
        ? Promise.resolve(new Response(JSON.stringify({ error_code: 'INVALID_PARAMETER_VALUE', message: 'No such metrics here.' }), { status: 400 }))
        : pass();
    await mirror();
    expect((await oneOutside(taken.experiment, taken.runId)).info.run_name).toBe('taken');
    const standing = await store.mlflowMirror.standing();
    expect(standing).toMatchObject({ refusedRuns: 1, failingSince: null, waitingRuns: 1 });
    expect(standing?.lastError).toContain('No such metrics here.');
    onRequest = (_path, _request, _body, pass) => pass();
    await vi.waitUntil(mirror, PATIENCE);
    expect(await historyOf(await oneOutside(refused.experiment, refused.runId), 'loss')).toHaveLength(2);
    expect(await store.mlflowMirror.standing()).toMatchObject({ refusedRuns: 0, waitingRuns: 0 });
  });

  it('that asks for a password is told from one that is away, and the password is not in what is said', async () => {
    await clientRun('password');
    onRequest = (_path, request, _body, pass) =>
      request.headers.authorization === 'Bearer right'
        ? pass()
        : Promise.resolve(new Response('{"error_code":"UNAUTHENTICATED","message":"Who are you?"}', { status: 401 }));
    await mirror({ env: { MLFLOW_TRACKING_TOKEN: 'wrong-secret' } });
    expect((await store.mlflowMirror.standing())?.lastError).toContain('wants to know who asks');
    expect(said.join()).not.toContain('wrong-secret');
    await vi.waitUntil(() => mirror({ env: { MLFLOW_TRACKING_TOKEN: 'right' } }), PATIENCE);
  });
});

/** A process that mirrors; killed at the end if it was not before. */
async function mirrorProcess(settleMs = 1_500): Promise<ChildProcess> {
  const child = spawn(process.execPath, [...moduleCommand('../support/mirror-worker', import.meta.url)], {
    env: { ...process.env, ...CREDENTIALS, DATABASE_URL: store.databaseUrl, MILLRACE_MLFLOW_MIRROR: gate.url, SETTLE_MS: String(settleMs) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}
async function killed(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

describe('the process that mirrors, killed with -9', () => {
  it('after a run was made outside and before that was noted: the run is found, not made twice', async () => {
    const { runId, experiment } = await clientRun('killed after');
    let made = false;
    onRequest = async (path, _request, _body, pass) => {
      const passed = await pass();
      if (!path.endsWith('runs/create')) return passed;
      made = true;
      return new Promise(() => undefined);
    };
    const child = await mirrorProcess();
    await vi.waitUntil(() => made, PATIENCE);
    await killed(child);
    expect(await outsideRuns(experiment)).toHaveLength(1);
    onRequest = (_path, _request, _body, pass) => pass();
    await vi.waitUntil(mirror, PATIENCE);
    expect(await outsideRuns(experiment)).toHaveLength(1);
    expect((await oneOutside(experiment, runId)).info.run_name).toBe('killed after');
  });

  it('while the request to make a run is still on its way: it is waited for before it is made again', async () => {
    const { runId, experiment } = await clientRun('killed before');
    let releaseCreate = (): void => undefined;
    let isHeld = false;
    let creates = 0;
    onRequest = async (path, _request, _body, pass) => {
      if (path.endsWith('runs/create') && creates++ === 0) {
        isHeld = true;
        await new Promise<void>((resolve) => (releaseCreate = resolve));
      }
      return pass();
    };
    const child = await mirrorProcess();
    await vi.waitUntil(() => isHeld, PATIENCE);
    await killed(child);
    // the next one looks at once: it is not there, and may still come
    expect(await mirror({ settleMs: 3_000 })).toBe(0);
    expect(creates).toBe(1);
    releaseCreate();
    await vi.waitUntil(async () => (await outsideRuns(experiment)).length > 0, PATIENCE);
    await vi.waitUntil(() => mirror({ settleMs: 3_000 }), PATIENCE);
    expect(creates).toBe(1);
    expect(await outsideRuns(experiment)).toHaveLength(1);
    expect((await oneOutside(experiment, runId)).info.run_name).toBe('killed before');
  });

  it('in the middle of 8,000 points: all of them are there once, in one run', async () => {
    const { runId, experiment } = await clientRun('killed amid');
    for (let from = 0; from < 8_000; from += 4_000) await store.trackedRuns.log({ runId, metrics: pointsOf('loss', 4_000, from), params: [], tags: [] });
    let batches = 0;
    onRequest = async (path, _request, _body, pass) => {
      const passed = await pass();
      // the third and the sixth were taken, which nobody heard of
      if (!path.endsWith('log-batch') || ![3, 6].includes(++batches)) return passed;
      return new Promise(() => undefined);
    };
    for (const at of [3, 6]) {
      const child = await mirrorProcess();
      await vi.waitUntil(() => batches >= at, PATIENCE);
      await store.trackedRuns.log({ runId, metrics: pointsOf('late', 10, at), params: [], tags: [] });
      await killed(child);
    }
    await vi.waitUntil(mirror, PATIENCE);
    await vi.waitFor(async () => expect(await store.mlflowMirror.standing()).toMatchObject({ waitingRuns: 0 }), PATIENCE);
    const run = await oneOutside(experiment, runId);
    expect((await historyOf(run, 'loss')).map(({ step }) => step).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 8_000 }, (_, i) => i));
    expect(await historyOf(run, 'late')).toHaveLength(13);
  });
});

describe('the mirror', () => {
  it('is one at a time: a second process does nothing until the first is gone, and then at once', async () => {
    await clientRun('alone');
    let held = false;
    onRequest = (path, _request, _body, pass) => {
      if (!path.endsWith('runs/search') || held) return pass();
      held = true;
      return new Promise(() => undefined);
    };
    const child = await mirrorProcess();
    await vi.waitUntil(() => held, PATIENCE);
    expect(await mirror()).toBe(0);
    expect(await outsideRuns('by hand alone')).toHaveLength(0);
    await killed(child);
    await vi.waitUntil(mirror, PATIENCE);
    expect(await outsideRuns('by hand alone')).toHaveLength(1);
  });

  it('that is turned off notes nothing; turned on again it sends what came meanwhile, and doubles nothing', async () => {
    const { runId, experiment } = await clientRun('off and on');
    await mirror();
    expect(await store.mlflowMirror.turnOff()).toBe(true);
    expect(await store.mlflowMirror.turnOff()).toBe(false);
    await store.trackedRuns.log({ runId, metrics: pointsOf('loss', 4), params: [], tags: [] });
    expect(await store.mlflowMirror.standing()).toBeNull();
    expect(await store.mlflowMirror.next('news')).toBeNull();
    await mirror();
    expect(await historyOf(await oneOutside(experiment, runId), 'loss')).toHaveLength(4);
  });
});
