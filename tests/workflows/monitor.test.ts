import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { MonitorWindowResult } from '../../activities/types.ts';
import { putMonitorSchedule } from '../../activities/monitor-schedule.ts';
import { type WindowFigures, WindowFiguresSchema } from '../../contracts/monitoring.ts';
import type { PredictionRecord } from '../../contracts/routes.ts';
import { MonitorInputSchema } from '../../contracts/stages.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { endpointReportPage } from '../../reports/endpoint-report.ts';
import { openEnvironment, PATIENCE_MS, serve } from './test-project.ts';

const ENDPOINT = 'late';
/** A window ends a second before it is looked at: requests younger than that belong to the next. */
const WINDOW_LAG_MS = 1_100;
let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
  await serve(env);
  await env.run('trained', { deploy: true });
});

/** One file of the prediction log, with requests of now whose distances go through `shape`. */
async function logRequests(name: string, rows: number, shape: (share: number) => number | null, atMs = Date.now()): Promise<void> {
  const folder = join(env.deps.config.home, 'predictions', ENDPOINT);
  await mkdir(folder, { recursive: true });
  const at = new Date(atMs).toISOString();
  const lines = Array.from(
    { length: rows },
    (_, row): PredictionRecord => ({
      requestId: `${name}-${String(row)}`,
      row: 0,
      at,
      model: 'late',
      version: 1,
      challenger: false,
      inputs: { distance: shape((row + 0.5) / rows), carrier: row % 2 === 0 ? 'A' : 'B' },
      output: [row / rows],
      latencyMs: 1,
    }),
  );
  await writeFile(join(folder, `${name}.jsonl`), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await sleep(WINDOW_LAG_MS);
}

/** Has the schedule look now, and gives what it saw. */
async function look(): Promise<MonitorWindowResult> {
  const schedule = env.client.schedule.getHandle(`monitor/${ENDPOINT}`);
  // of its last actions the server tells ten
  const before = (await schedule.describe()).info.numActionsTaken;
  await schedule.trigger();
  const action = await vi.waitUntil(
    async () => {
      const { numActionsTaken, recentActions } = (await schedule.describe()).info;
      return numActionsTaken > before ? recentActions.at(-1) : undefined;
    },
    { timeout: PATIENCE_MS, interval: 200 },
  );
  return (await env.client.workflow.getHandle(action.action.workflow.workflowId).result()) as MonitorWindowResult;
}

const watched = (options: object) => MonitorInputSchema.parse({ endpoint: ENDPOINT, everyMs: 3_600_000, leastRows: 50, ...options });
const windows = async () => (await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT })).map(({ figures }) => WindowFiguresSchema.parse(figures));

const ofQuality = (window: WindowFigures | undefined) => window?.findings?.filter(({ check }) => check === 'quality');

const asTrained = (share: number): number => share * 1_000;
const farOnly = (share: number): number => 750 + share * 250;

describe('the monitor of an endpoint', () => {
  it('is a schedule that looks at each window, and carries what the pipeline said', async () => {
    const { spec, action, policies } = await env.client.schedule.getHandle(`monitor/${ENDPOINT}`).describe();
    expect(spec.intervals).toMatchObject([{ every: 3_600_000 }]);
    expect(action).toMatchObject({
      workflowType: 'monitor',
      args: [{ endpoint: ENDPOINT, pipeline: 'trained', leastRows: 50, retrainOn: { psi: 0.25, windows: 2 } }],
    });
    expect(policies).toMatchObject({ overlap: 'SKIP', catchupWindow: 3_600_000 });
    expect(await env.deps.store.monitoring.findMonitor(ENDPOINT)).toMatchObject({ config: { everyMs: 3_600_000 } });
  });

  it('gives no verdict without enough requests', async () => {
    expect(await look()).toEqual({ verdict: 'too few rows', rows: 0, worst: null, retrainingAsked: false });
    await logRequests('a-few', 20, asTrained);
    expect(await look()).toMatchObject({ verdict: 'too few rows', rows: 20 });
    expect(await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT })).toEqual([]);
  });

  it('finds requests like the training data steady, and asks for nothing', async () => {
    await logRequests('steady', 600, asTrained);
    expect(await look()).toMatchObject({ verdict: 'steady', rows: 620, retrainingAsked: false });
    expect(await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT })).toMatchObject([{ drifted: false }]);
  });

  it('asks for a retraining after so many drifted windows in a row as the pipeline said, with its evidence', async () => {
    await logRequests('drifted', 600, farOnly);
    const first = await look();
    expect(first).toMatchObject({ verdict: 'drifted', rows: 600, worst: { column: 'distance' }, retrainingAsked: false });
    expect(first.worst?.psi).toBeGreaterThan(0.25);
    const controller = env.client.workflow.getHandle('retraining/trained');
    expect(await controller.query('ledger')).toEqual([]);

    await logRequests('drifted-again', 600, farOnly);
    expect(await look()).toMatchObject({ verdict: 'drifted', rows: 600, retrainingAsked: true });
    await vi.waitFor(
      async () => expect(await controller.query('ledger')).toMatchObject([{ source: `monitor/${ENDPOINT}`, condition: 'drift', fate: 'completed' }]),
      {
        timeout: PATIENCE_MS,
        interval: 300,
      },
    );
    const [run] = await env.deps.store.runs.list({ pipeline: 'trained' });
    expect(run?.trigger).toMatchObject({
      kind: 'retrain',
      reason: expect.stringMatching(/^distance drifted: PSI \d+\.\d+ over 0\.25 in 2 windows in a row$/) as string,
    });
    // each window begins where the one before it ended
    const [newest, before] = await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT });
    expect(newest?.from).toBe(before?.to);
  });

  it('puts the predictions that it is least sure of before people, the least sure first, and not twice', async () => {
    await env.run('reviewed', { endpoint: ENDPOINT, queue: 'late-review' });
    await logRequests('unsure', 100, asTrained);
    await look();
    await look();
    expect(await env.deps.store.labels.list()).toMatchObject([{ name: 'late-review', classes: ['false', 'true'], open: 5 }]);
    const item = await env.deps.store.labels.next('late-review', 'ada');
    // the row in the middle of the log has the score 0.5
    expect(item?.shown).toMatchObject({ distance: 505, carrier: 'A' });
  });

  it('judges a window again when its labels come later, alerts, and asks for a retraining once', async () => {
    await putMonitorSchedule(env.deps, 'trained', watched({ retrainOn: { auc: { below: 0.7, windows: 2 } }, quality: { leastRows: 50 } }));
    await look();
    await logRequests('unlabelled', 120, asTrained);
    await look();
    await logRequests('unlabelled-too', 120, asTrained);
    await look();
    const [second, first] = await windows();
    expect([first?.quality?.state, second?.quality?.state]).toEqual(['noLabels', 'noLabels']);
    expect(second?.notes).toContain('no label has come yet');
    // turned round: the highest scores were not late
    const labelled = ['unlabelled', 'unlabelled-too'].flatMap((name) =>
      Array.from({ length: 120 }, (_, row) => ({ requestId: `${name}-${String(row)}`, row: 0, label: row < 60, at: new Date().toISOString() })),
    );
    const folder = join(env.deps.config.home, 'feedback', ENDPOINT);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'labels.jsonl'), [...labelled, { ...labelled[0], requestId: 'foreign' }].map((line) => `${JSON.stringify(line)}\n`).join(''));
    await sleep(WINDOW_LAG_MS);
    expect(await look()).toMatchObject({ verdict: 'too few rows', rows: 0, retrainingAsked: true });
    const [judged, before] = await windows();
    expect(ofQuality(before)).toMatchObject([{ check: 'quality', subject: 'auc', value: 0, limit: 0.7, firing: false, windowsInARow: 1 }]);
    expect(ofQuality(judged)).toMatchObject([
      { check: 'quality', subject: 'auc', firing: true, retrain: true, windowsInARow: 2, since: before?.decision?.from },
    ]);
    expect(judged?.quality).toMatchObject({ labelled: 120, unknownLabels: 0 });
    expect(await env.deps.store.alerts.list({ endpoint: ENDPOINT, kind: 'quality' })).toMatchObject([
      { subject: 'auc', what: 'auc is 0.000, below 0.7, in 2 windows in a row.', command: `millrace endpoints windows ${ENDPOINT}` },
    ]);
    expect((await look()).retrainingAsked).toBe(false);
  });

  it("finds what the training data's expectations forbid in live requests, and outputs that the training path does not give", async () => {
    await putMonitorSchedule(env.deps, 'trained', watched({}));
    await logRequests('null-burst', 120, () => null);
    await look();
    const [newest] = await windows();
    expect(newest?.findings).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ check: 'data', subject: 'distance.notNull', firing: true }),
        // outputs of this test's log were never computed by the model
        expect.objectContaining({ check: 'skew', firing: true }),
      ]),
    );
    expect(newest?.skew).toMatchObject({ rows: 120, differing: expect.any(Number) as number });
    expect((await env.deps.store.alerts.list({ endpoint: ENDPOINT, kind: 'data' })).map(({ subject }) => subject)).toContain('distance.notNull');
  });

  it('forgets windows of a clock that was ahead, and loses no request', async () => {
    const ahead = new Date(Date.now() + 3_600_000).toISOString();
    const [last] = await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT, limit: 1 });
    await env.deps.store.monitoring.putWindow({
      endpoint: ENDPOINT,
      from: last?.to ?? '',
      to: ahead,
      figures: { rows: 1, version: { model: 'late', version: 1 } },
      drifted: true,
    });
    await logRequests('after-the-jump', 90, asTrained);
    expect(await look()).toMatchObject({ rows: 90 });
    const [newest, before] = await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT, limit: 2 });
    expect([newest?.from, before?.to]).toEqual([last?.to, last?.to]);
    expect((await windows())[0]?.notes?.[0]).toMatch(/^the clock went back: 1 windows/);
  });

  it('cuts windows of so many requests where they are asked for, and keeps the rest for the next', async () => {
    await putMonitorSchedule(env.deps, 'trained', watched({ rows: 100 }));
    for (const part of ['one', 'two', 'three']) await logRequests(`count-${part}`, 80, asTrained);
    await look();
    const [newest] = await windows();
    // requests of one instant stay together
    expect(newest?.rows).toBeGreaterThanOrEqual(100);
    const rows = (await windows()).map((window) => window.rows);
    await look();
    expect((await windows()).map((window) => window.rows)).toEqual(rows);
  });

  it('compares with the windows before or with the same time of days before where it is asked to, and has a classifier look at all columns', async () => {
    await putMonitorSchedule(env.deps, 'trained', watched({ against: { windows: 2 }, drift: { domain: true } }));
    await logRequests('against-windows', 90, farOnly);
    await look();
    const [against] = await windows();
    expect(against?.reference).toMatchObject({ kind: 'windows', label: 'the 2 windows before' });
    expect(against?.drift?.referenceRows).toBeGreaterThanOrEqual(160);
    // answers are compared with those of the same rows
    expect(against?.drift?.columns.map(({ column }) => column).sort()).toEqual(['carrier', 'distance', 'output[0]']);
    expect(against?.domain?.columns[0]).toMatchObject({ column: 'distance' });
    expect(against?.domain?.auc).toBeGreaterThan(0.5);

    await putMonitorSchedule(env.deps, 'trained', watched({ against: { season: 'day', cycles: 1 } }));
    await logRequests('yesterday', 70, asTrained, Date.now() - 86_400_000);
    await logRequests('today', 80, asTrained);
    await look();
    const [season] = await windows();
    expect(season).toMatchObject({ rows: 80, reference: { kind: 'season', rows: 70, label: 'the same time of the 1 days before' } });
  });

  it('looks at the last hour each time where windows have a length: they overlap', async () => {
    await putMonitorSchedule(env.deps, 'trained', watched({ lengthMs: 3_600_000 }));
    await look();
    const [first] = await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT, limit: 1 });
    await look();
    const [second] = await env.deps.store.monitoring.listWindows({ endpoint: ENDPOINT, limit: 1 });
    for (const window of [first, second]) expect(Date.parse(window?.to ?? '') - Date.parse(window?.from ?? '')).toBe(3_600_000);
    expect((second?.to ?? '') > (first?.to ?? '')).toBe(true);
    expect(second?.figures).toMatchObject({ rows: (first?.figures as WindowFigures).rows });
  });
});

describe("the endpoint's report of what the monitor wrote", () => {
  it('has its drift, quality, data quality, findings, alerts and the retrainings that it asked for, and is drawn', async () => {
    const report = await env.deps.store.endpointReports.read({ endpoint: ENDPOINT });
    const { monitoring, events, findings, served } = report;
    expect(report).toMatchObject({ isMonitored: true, pipelines: expect.arrayContaining(['trained']) as string[] });
    expect(monitoring.windows).toBe((await windows()).length);
    expect(monitoring.drift).toContain('distance');
    expect(monitoring.metrics.map(({ name }) => name)).toContain('auc');
    expect(monitoring.steps.some(({ labelled }) => labelled === 120)).toBe(true);
    expect(monitoring.dataQuality.join()).toContain('distance');
    expect(served[0]).toMatchObject({ champion: { model: 'late', version: 1 } });
    expect(findings.map(({ check }) => check)).toEqual(expect.arrayContaining(['drift', 'quality', 'data', 'skew']));
    expect(new Set(events.map(({ kind }) => kind))).toEqual(new Set(['rollout', 'retraining', 'alert']));
    const page = await endpointReportPage(report);
    const said = ['Drift of distance', 'auc by window', 'distance drifted: PSI', 'auc is 0.000, below 0.7', 'distance: notNull'];
    expect(said.filter((text) => !page.includes(text))).toEqual([]);
    expect(page.match(/<svg/g)?.length).toBeGreaterThan(8);
    expect(/undefined|NaN|\[object/.exec(page)).toBeNull();
  });
});
