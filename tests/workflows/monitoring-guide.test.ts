/** docs/monitoring.md, run. One `describe` a section of the page. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { BuiltPipeline } from '../../activities/build-files.ts';
import { runCommandLine } from '../../cli/program.ts';
import { loadProjectConfig } from '../../config/load-project-config.ts';
import { packageRoot } from '../../config/package-root.ts';
import type { AlertChannel, AlertLine } from '../../contracts/alerts.ts';
import { WindowFiguresSchema } from '../../contracts/monitoring.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import type { RetrainingStatus } from '../../contracts/retraining.ts';
import { MEMO_TRIGGER } from '../../contracts/run.ts';
import type { SimulationResult } from '../../contracts/simulation.ts';
import { findPredictions } from '../../data/find-predictions.ts';
import { predictionSegments } from '../../data/prediction-segments.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { ChannelFailure, sendAlert } from '../../workers/alert-channels.ts';
import { joinFeedback, takeFeedback } from '../../workers/join-feedback.ts';
import { declareTriggers, watchTriggers } from '../../workers/watch-triggers.ts';
import { guideProject } from '../support/guide-project.ts';
import { readDataset } from '../support/read-dataset.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';
import { openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

const PAGE = 'docs/monitoring.md';
let project: string;
beforeAll(async () => {
  project = await guideProject(PAGE);
});

describe('Alerts', () => {
  it('are configured as the page shows', async () => {
    const page = await readFile(join(packageRoot, PAGE), 'utf8');
    const config = /^```ts\n(import \{ defineConfig[\s\S]*?)^```$/m.exec(page)?.[1] ?? '';
    await writeFile(join(project, 'millrace.config.ts'), config);
    const { alerts } = await loadProjectConfig({ cwd: project, env: {} });
    expect(alerts).toMatchObject({ groupWaitSeconds: 10, coolDownHours: 24, coolDownHoursOf: { quality: 6 } });
    expect(alerts.channels.map(({ name, only }) => [name, only])).toEqual([
      ['webhook', undefined],
      ['slack', { endpoints: ['late'], severity: 'warning' }],
      ['email', { kinds: ['approval', 'labels', 'rollout'] }],
    ]);
  });

  it("are taken by the page's receiver when they are signed with its secret, once each", async () => {
    const receiver = spawn(process.execPath, [join(project, 'receiver.mjs')], {
      env: { PATH: process.env['PATH'], ALERT_SECRET: 'sesame', RECEIVER_PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => end(receiver));
    const lines: string[] = [];
    const output = createInterface(receiver.stdout);
    output.on('line', (line) => lines.push(line));
    await once(output, 'line');
    const port = /\d+$/.exec(lines.shift() ?? '')?.[0] ?? '';
    const channel: AlertChannel = { kind: 'webhook', name: 'webhook', url: `http://127.0.0.1:${port}/`, secretVariable: 'ALERT_SECRET', timeoutMs: 10_000 };
    const common = {
      kind: 'drift',
      what: 'origin drifted',
      since: '2026-01-01T00:00:00.000Z',
      until: null,
      look: '/x',
      command: 'millrace alerts list',
    } as const;
    const line: AlertLine = {
      ...common,
      id: 1,
      state: 'firing',
      severity: 'warning',
      endpoint: 'late',
      pipeline: null,
      subject: 'column origin',
      ended: null,
      against: null,
      sure: null,
    };
    const alert = { key: 'alert/1/1', message: { ...common, alerts: [line] }, apiUrl: 'http://127.0.0.1:7400' };
    await sendAlert(channel, alert, { ALERT_SECRET: 'sesame' });
    await sendAlert(channel, alert, { ALERT_SECRET: 'sesame' });
    const refused = sendAlert(channel, { ...alert, key: 'alert/2/1' }, { ALERT_SECRET: 'open' });
    await expect(refused).rejects.toThrow(ChannelFailure);
    await expect(refused).rejects.toThrow('The receiver answered 401.');
    await end(receiver);
    expect(lines).toEqual(['origin drifted', 'firing: origin drifted (millrace alerts list)']);
  });
});

/** A project and an environment of their own: other sections leave files in theirs. */
let env: TestEnvironment & { readonly project: string };
describe('Triggers', () => {
  beforeAll(async () => {
    env = await openEnvironment({ project: await guideProject(PAGE) });
  }, 180_000);

  it('of the page: a file asks once, the schedule is as declared, and what cannot be looked at says so', async () => {
    const { store, config } = env.deps;
    const built = ((await store.builds.find(env.buildId))?.pipelines ?? []) as readonly BuiltPipeline[];
    await declareTriggers(
      env.deps,
      built.filter(({ name }) => name === 'onTrigger'),
    );
    const { spec } = await env.client.schedule.getHandle('retrain/onTrigger/schedule').describe();
    expect(spec).toMatchObject({ timezone: 'Europe/Berlin', jitter: 600_000 });
    const stop = new AbortController();
    const watching = watchTriggers(env.deps, stop.signal, () => undefined);
    onTestFinished(async () => {
      stop.abort();
      await watching;
    });
    const found = async (name: string) => (await store.retrainTriggers.list('onTrigger')).find((trigger) => trigger.name === name);
    await vi.waitUntil(async () => (await found('files incoming/*.csv'))?.state != null, { timeout: PATIENCE_MS });
    await writeFile(join(config.projectFolder, 'incoming', 'february.csv'), 'id,total\n3,30\n');
    const run = await vi.waitUntil(async () => (await store.runs.list({ pipeline: 'onTrigger' })).find(({ status }) => status === 'completed'), {
      timeout: PATIENCE_MS,
      interval: 200,
    });
    expect(run.trigger).toMatchObject({ kind: 'retrain', reason: '1 new file: incoming/february.csv' });
    expect(await found('files incoming/*.csv')).toMatchObject({ asked: 1 });
    await vi.waitUntil(async () => (await found('rows by id'))?.problem != null, { timeout: PATIENCE_MS });
    expect((await found('rows by id'))?.problem).toContain('SOURCE_DATABASE_URL');
    expect((await found('notification retrain_orders'))?.problem).toContain('SOURCE_DATABASE_URL');
  });
});

describe('Retraining', () => {
  it('begins only when the pipeline of the page lets it', async () => {
    const state = () => env.client.workflow.getHandle('retraining/careful').query<RetrainingStatus>('state');
    const { policy } = await vi.waitUntil(
      async () => {
        const status = await state();
        return status.policy.budget.runs === 2 ? status : undefined;
      },
      { timeout: PATIENCE_MS, interval: 200 },
    );
    expect(policy).toEqual({
      coolDownMs: 21_600_000,
      refireAfterMs: 86_400_000,
      budget: { runs: 2, minutes: null, timeZone: 'Europe/Berlin' },
      quietHours: [{ from: '22:00', to: '06:00', days: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'], timeZone: 'Europe/Berlin' }],
      backOff: { firstMs: 600_000, factor: 2, mostMs: 86_400_000 },
      experimentAfter: 3,
    });
  });
});

describe('What a retraining trains on', () => {
  const rowsOf = async (ref: DatasetRef) => readDataset(env.deps.artifacts, ref);

  it('is chosen by the rule, and the challenger is compared with the champion on the newest labelled predictions', async () => {
    const { url } = await serve(env);
    const first = (await env.run('freshest')) as unknown as { readonly train: DatasetRef; readonly on: DatasetRef };
    expect(first.on.name).toBe('freshest-flights-test');
    const weighted = await rowsOf(first.train);
    const newest = Math.max(...weighted.map(({ date }) => instantOf(date)));
    for (const { date, weight } of weighted) expect(weight).toBeCloseTo(2 ** (-(newest - instantOf(date)) / (20 * 86_400_000)), 9);

    const rows = weighted.slice(-40).map(({ distance, origin }) => ({ distance: Number(distance), origin }));
    const post = async (path: string, body: unknown): Promise<number> =>
      (
        await fetch(`${url}/${path}/freshest`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-request-id': 'newest' },
          body: JSON.stringify(body),
        })
      ).status;
    expect(await post('predict', { rows })).toBe(200);
    const segments = () => predictionSegments(env.deps.config.home, 'freshest', new Date(0).toISOString());
    await vi.waitUntil(async () => (await findPredictions(await segments(), ['newest'])).length === rows.length, { timeout: PATIENCE_MS });
    const labels = weighted.slice(-rows.length).map(({ late }, row) => ({ requestId: 'newest', row, label: Boolean(late) }));
    expect(await post('feedback', { labels })).toBe(200);
    let joined = 0;
    await vi.waitUntil(
      async () => {
        await takeFeedback(env.deps);
        return (joined += await joinFeedback(env.deps)) === labels.length;
      },
      { timeout: PATIENCE_MS },
    );

    const changePoint = '2001-02-10T00:00:00.000Z';
    const requests = [{ reason: 'origin drifted', source: 'monitor/freshest', evidence: { changePoint } }];
    const run = await env.start('freshest', { rule: 'sinceChange' }, { memo: { [MEMO_TRIGGER]: { kind: 'retrain', reason: 'origin drifted', requests } } });
    const second = (await run.result()) as unknown as { readonly train: DatasetRef; readonly on: DatasetRef };
    const since = await rowsOf(second.train);
    expect(since.map(({ date }) => instantOf(date)).every((at) => at >= Date.parse(changePoint))).toBe(true);
    expect(since).toHaveLength(weighted.filter(({ date }) => instantOf(date) >= Date.parse(changePoint)).length);
    expect(second.on).toMatchObject({ name: 'freshest-labelled-window', rows: 40 });
    expect((await rowsOf(second.on)).map(({ late }) => late)).toEqual(labels.map(({ label }) => label));
    expect(await env.deps.store.datasets.get(second.train.id)).toMatchObject({
      kind: 'trainingWindow',
      source: { rule: { rule: 'sinceChange', changePoint } },
    });
  });
});

/** Milliseconds of an instant as DuckDB gives it. */
const instantOf = (value: unknown): number => Number((value as { readonly micros: bigint }).micros / 1_000n);

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill();
  await closed;
}

describe('Windows', () => {
  it('are looked at by a schedule: requests like the training data, answered as training would and labelled, are nothing to tell of', async () => {
    const { url } = await serve(env);
    await env.run('watched');
    const flights = JSON.parse(await readFile(join(packageRoot, 'node_modules/vega-datasets/data/flights-2k.json'), 'utf8')) as {
      readonly delay: number;
      readonly distance: number;
      readonly origin: string;
    }[];
    const sent = flights.filter((_, row) => row % 8 === 0);
    const post = async (path: string, body: unknown): Promise<number> =>
      (
        await fetch(`${url}/${path}/watched`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-request-id': 'watch' },
          body: JSON.stringify(body),
        })
      ).status;
    expect(await post('predict', { rows: sent.map(({ distance, origin }) => ({ distance, origin })) })).toBe(200);
    const labels = sent.map(({ delay }, row) => ({ requestId: 'watch', row, label: delay > 15 }));
    expect(await post('feedback', { labels })).toBeLessThan(300);
    const segments = () => predictionSegments(env.deps.config.home, 'watched', new Date(0).toISOString());
    await vi.waitUntil(async () => (await findPredictions(await segments(), ['watch'])).length === sent.length, { timeout: PATIENCE_MS });
    const schedule = env.client.schedule.getHandle('monitor/watched');
    expect((await schedule.describe()).spec.intervals).toMatchObject([{ every: 3_600_000 }]);
    const look = async (): Promise<void> => {
      const before = (await schedule.describe()).info.numActionsTaken;
      await schedule.trigger();
      const action = await vi.waitUntil(
        async () => {
          const { numActionsTaken, recentActions } = (await schedule.describe()).info;
          return numActionsTaken > before ? recentActions.at(-1) : undefined;
        },
        { timeout: PATIENCE_MS, interval: 200 },
      );
      await env.client.workflow.getHandle(action.action.workflow.workflowId).result();
    };
    // what was logged within the last second belongs to the next look
    let windows = await env.deps.store.monitoring.listWindows({ endpoint: 'watched' });
    for (let looks = 0; looks < 5 && windows.length === 0; looks++) {
      await look();
      windows = await env.deps.store.monitoring.listWindows({ endpoint: 'watched' });
    }
    const [window] = windows.map(({ figures }) => WindowFiguresSchema.parse(figures));
    expect(window).toMatchObject({ rows: sent.length, verdict: 'steady', reference: { kind: 'training' }, findings: [] });
    expect(window?.skew).toMatchObject({ rows: 200, differing: 0, why: null });
    expect(window?.data?.results.map(({ expectation, success }) => [expectation.kind, success])).toEqual([
      ['notNull', true],
      ['between', true],
    ]);
    expect(await env.deps.store.alerts.list({ endpoint: 'watched' })).toEqual([]);
  });
});

describe('Which policy would have been best', () => {
  it("is answered by the page's policies over real prices: one that asks for quality does more with as few retrainings", async () => {
    const prices = join(packageRoot, 'tests', 'fixtures', 'data', 'elec2-twelfth.csv');
    const terminal = recordedTerminal();
    const policies = join(project, 'policies.json');
    expect(await runCommandLine(['simulate', 'prices', '--policy', policies, '--compare', '--data', prices, '--target', 'class', '--json'], terminal)).toBe(0);
    const found = JSON.parse(terminal.out()) as SimulationResult;
    const of = (name: string) => found.policies.find((policy) => policy.name === name);
    expect(of('every fourth')).toMatchObject({ retrainings: 4, quality: of('every 4 blocks')?.quality });
    expect(of('on quality')?.quality).toBeGreaterThan(of('every 2 blocks')?.quality ?? 1);
    expect(of('on quality')?.retrainings).toBeLessThanOrEqual(8);
    expect(of('on quality')?.blocked.length).toBeGreaterThan(0);
    expect(
      of('on drift')
        ?.versions.slice(1)
        .every(({ reasons }) => reasons.every((reason) => reason.includes('adwin: the error changed at row'))),
    ).toBe(true);
    expect(found.hindsight).toHaveLength(18);
  });
});
