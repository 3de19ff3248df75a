/** `millrace endpoints report`, its API and its page, over records as servers, monitors, alerts and rollouts write them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import type { EndpointReport } from '../../contracts/endpoint-report.ts';
import type { Finding, WindowFigures } from '../../contracts/monitoring.ts';
import { latencyBin } from '../../contracts/serving-bins.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

const START = Date.parse('2026-03-02T00:00:00.000Z');
const HOUR_MS = 3_600_000;
const at = (hour: number): string => new Date(START + hour * HOUR_MS).toISOString();
const END = at(48);
const served = (version: number) => ({ model: 'm', version, predictor: 'a'.repeat(64) });

let folder: string;
let store: CommandFolder['store'];

const finding = (hour: number, since: number): Finding => ({
  check: 'drift',
  kind: 'drift',
  subject: 'distance',
  what: `distance drifted: PSI 0.9 <hour ${String(hour)}>`,
  value: 0.9,
  limit: 0.1,
  against: 'the training data of m 1',
  since: at(since),
  sure: 'p < 1e-9 after Holm',
  firing: true,
  windowsInARow: hour - since + 1,
  retrain: hour === since,
});

function figures(hour: number): WindowFigures {
  const isMoved = (hour >= 20 && hour < 24) || hour >= 46;
  const test = (effect: number, exceeded: boolean) => ({
    kind: 'distribution' as const,
    effect,
    threshold: 0.1,
    pValue: exceeded ? 1e-10 : 0.4,
    adjustedPValue: exceeded ? 1e-9 : 1,
    calibration: 'theory' as const,
    historyWindows: 0,
    exceeded,
  });
  return {
    rows: 400,
    version: served(1),
    verdict: isMoved ? 'drifted' : 'steady',
    decision: {
      from: at(hour),
      rows: 400,
      verdict: isMoved ? 'drifted' : 'steady',
      columns: [
        { column: 'distance', exceeded: isMoved, drifted: isMoved, streak: isMoved ? 1 : 0, tests: [test(isMoved ? 0.45 : 0.02, isMoved)], message: '' },
        { column: 'origin', exceeded: false, drifted: false, streak: 0, tests: [test(0.06, false)], message: '' },
      ],
    },
    quality: {
      state: hour < 40 ? 'judged' : 'noLabels',
      rows: 400,
      labelled: hour < 40 ? 300 : 0,
      unknownLabels: 0,
      unusableAnswers: 0,
      metrics: hour < 40 ? { auc: hour < 20 ? 0.7 : 0.6 } : {},
      intervals: hour < 40 ? { auc: { low: 0.55, high: 0.75, method: 'delong' } } : {},
      confidence: 0.95,
      withoutValue: [],
      slices: [],
    },
    estimated: {
      state: 'estimated',
      rows: 400,
      unusableAnswers: 0,
      beyond: 0,
      confidence: 0.95,
      confusion: null,
      metrics: { auc: { value: 0.69, low: 0.65, high: 0.73, samplingDeviation: 0.02, calibrationDeviation: 0.01 } },
    },
    data: {
      format: 'millrace-validation/1',
      rows: 400,
      success: !isMoved,
      results: [
        {
          expectation: { kind: 'notNull', column: 'distance' } as never,
          column: 'distance',
          success: !isMoved,
          severity: 'fail',
          message: '',
          checked: 400,
          failing: isMoved ? 20 : 0,
          fraction: isMoved ? 0.05 : 0,
          observed: null,
          sample: [],
        },
      ],
    },
    findings: hour >= 20 && hour < 24 ? [finding(hour, 20)] : hour >= 46 ? [finding(hour, 46)] : [],
  };
}

beforeAll(async () => {
  ({ folder, store } = await commandFolder());
  const route = { endpoint: 'late', champion: served(1), challenger: null, log: true };
  await store.endpoints.setRoute({ route: { ...route, epoch: 1 }, expectedEpoch: 0, rolloutId: null, reason: 'first', by: 'run a1' });
  await store.endpoints.setRoute({ route: { ...route, endpoint: 'silent', epoch: 1 }, expectedEpoch: 0, rolloutId: null });
  await store.monitoring.putMonitor({ endpoint: 'late', config: {} });
  for (let hour = 0; hour < 48; hour += 1)
    await store.monitoring.putWindow({ endpoint: 'late', from: at(hour), to: at(hour + 1), figures: figures(hour), drifted: hour >= 20 && hour < 24 });
  await store.stats.add(
    Array.from({ length: 48 }, (_, hour) => ({
      server: 's1',
      endpoint: 'late',
      model: 'm',
      version: hour < 30 ? 1 : 2,
      from: at(hour),
      requests: 100,
      errors: hour === 5 ? 7 : 0,
      latencyMsSum: 300,
      latencyMsMax: 50,
      latency: [latencyBin(2), 95, latencyBin(40), 5],
    })),
  );
  await store.alerts.raise({
    kind: 'drift',
    endpoint: 'late',
    subject: 'distance',
    what: 'distance drifted',
    since: at(20),
    against: null,
    sure: null,
    look: '/api/v1/endpoints/late',
    command: 'millrace endpoints report late',
  });
});
const read = (endpoint = 'late', from = at(0), to = END): Promise<EndpointReport> => store.endpointReports.read({ endpoint, from, to });
const pageOf = async (...args: string[]): Promise<string> => {
  const path = join(folder, 'page.html');
  const { code, err } = await millrace('endpoints', 'report', ...args, '--out', path);
  expect(err).toBe('');
  expect(code).toBe(0);
  return readFile(path, 'utf8');
};

describe('what a report holds', () => {
  it('gives each window its drift as a multiple of the limit, the most drifted column first', async () => {
    const { monitoring } = await read();
    expect(monitoring).toMatchObject({ windows: 48, windowsAStep: 1, drift: ['distance', 'origin'], driftLeftOut: 0 });
    expect(monitoring.steps.map(({ drift: [distance] }) => distance)).toEqual(
      Array.from({ length: 48 }, (_, hour) => expect.closeTo((hour >= 20 && hour < 24) || hour >= 46 ? 4.5 : 0.2, 9) as number),
    );
    expect(monitoring.dataQuality).toEqual(['distance: notNull']);
    expect(monitoring.steps[20]?.failing).toEqual([0.05]);
  });

  it('keeps quality by labels and estimated quality apart, each with its interval', async () => {
    const { metrics, steps } = (await read()).monitoring;
    expect(metrics).toEqual([{ name: 'auc', better: 'higher', reference: null }]);
    expect(steps[0]?.labelledQuality).toEqual([{ value: 0.7, low: 0.55, high: 0.75, rows: 300 }]);
    expect(steps[45]).toMatchObject({ labelled: 0, labelledQuality: [null], estimatedQuality: [{ value: 0.69, rows: 400 }] });
  });

  it('makes one finding of a trouble over windows that follow each other, open while the newest window has it', async () => {
    const { findings } = await read();
    expect(findings.map(({ subject, since, until, windows, state }) => [subject, since, until, windows, state])).toEqual([
      ['distance', at(46), at(48), 2, 'open'],
      ['distance', at(20), at(24), 4, 'over'],
    ]);
  });

  it('adds requests of all servers up, by version, with percentiles from their bins', async () => {
    const { traffic } = await read();
    expect(traffic.stepMs).toBe(15 * 60_000);
    expect(traffic.steps).toHaveLength(48);
    expect(traffic.steps[5]).toMatchObject({ from: at(5), versions: [{ model: 'm', version: 1, requests: 100, errors: 7 }] });
    expect(traffic.steps[40]?.versions).toEqual([{ model: 'm', version: 2, requests: 100, errors: 0 }]);
    const { p50, p95, p99 } = traffic.steps[0]?.latencyMs ?? { p50: 0, p95: 0, p99: 0 };
    // a bin is at most 4.9 % wide to either side
    expect(Math.abs(p50 / 2 - 1)).toBeLessThan(0.05);
    expect(Math.abs(p95 / 2 - 1)).toBeLessThan(0.05);
    expect(Math.abs(p99 / 40 - 1)).toBeLessThan(0.05);
  });

  it('begins when the endpoint was first heard of, where no beginning is given', async () => {
    expect((await store.endpointReports.read({ endpoint: 'late', to: END })).from).toBe(at(0));
    await expect(store.endpointReports.read({ endpoint: 'late', from: END, to: END })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await expect(store.endpointReports.read({ endpoint: 'nobody' })).rejects.toMatchObject({ code: 'ENDPOINT_NOT_FOUND' });
  });

  it('draws ten thousand windows in 240 steps, with the worst drift and the mean quality of each', async () => {
    await store.endpoints.ensure('long');
    const minute = (n: number): string => new Date(START + n * 60_000).toISOString();
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    await client.query(
      `insert into monitor_windows ("endpoint", "from", "to", figures, drifted)
       select 'long', $1::timestamptz + make_interval(mins => n), $1::timestamptz + make_interval(mins => n + 1), case n when 5000 then $3::jsonb else $2::jsonb end, false
       from generate_series(0, 9999) n`,
      [minute(0), JSON.stringify({ ...figures(0), findings: [] }), JSON.stringify({ ...figures(20), findings: [] })],
    );
    await client.end();
    const { monitoring } = await read('long', minute(0), minute(10_000));
    expect(monitoring).toMatchObject({ windows: 10_000, windowsAStep: 42 });
    expect(monitoring.steps).toHaveLength(239);
    expect(monitoring.steps.filter(({ drift: [distance] }) => (distance ?? 0) > 1)).toHaveLength(1);
    const step = monitoring.steps[Math.floor(5_000 / 42)];
    expect(step?.labelledQuality[0]?.value).toBeCloseTo((41 * 0.7 + 0.6) / 42, 9);
    expect(step).toMatchObject({ windows: 42, rows: 42 * 400 });
    const page = await pageOf('long', '--from', minute(0), '--to', minute(10_000));
    expect(page).toContain('10,000 windows are drawn in 239 steps of up to 42');
    expect(page.length).toBeLessThan(1_500_000);
  });
});

describe('the page', () => {
  it('is whole in itself: no script, no address, and what was stored is text', async () => {
    const page = await pageOf('late', '--from', at(0), '--to', END);
    expect(page).toContain("default-src 'none'");
    expect(page).not.toMatch(/<script|https?:|url\(|@import|<img/);
    expect(page).not.toContain('<hour 47>');
    expect(page).toContain('&#60;hour 47&#62;');
    expect(page).toContain(`millrace endpoints report late --from ${at(46)} --to ${at(48)}`);
  });

  it('draws every plot of a width over the same time, from the same left edge', async () => {
    const page = await pageOf('late', '--from', at(0), '--to', END);
    const plots = [...page.matchAll(/<div class="desk"><svg viewBox="([^"]*)"[^>]*>(.*?)<\/svg><\/div>/gs)];
    expect(plots.length).toBeGreaterThanOrEqual(7);
    const widths = new Set(plots.map(([, box = '']) => box.split(' ')[2]));
    expect(widths).toEqual(new Set(['1080']));
    // the first group moves everything to where the plot begins: 148 from the left
    const lefts = new Set(plots.map(([, , svg = '']) => /translate\((\d+)/.exec(svg)?.[1]));
    expect(lefts).toEqual(new Set(['148']));
    const ticks = new Set(plots.map(([, , svg = '']) => [...svg.matchAll(/>(\d\d Mar(?: \d\d:\d\d)?)</g)].map(([, tick]) => tick).join()));
    expect(ticks.size).toBe(1);
  });

  it('says what there is nothing of', async () => {
    const page = await pageOf('silent', '--from', at(0), '--to', END);
    for (const said of ['This endpoint has no monitor', 'No request was answered in this time.', 'No window was looked at.']) expect(page).toContain(said);
    const later = await pageOf('late', '--from', at(40), '--to', at(46));
    expect(later).toContain('No labels came yet');
    const before = await pageOf('late', '--from', '2025-01-01', '--to', '2025-02-01');
    expect(before).toContain('the newest one of all ends at 2026-03-04');
  });
});

it('gives the same facts as JSON and by the API', async () => {
  const shown = await millrace('endpoints', 'report', 'late', '--from', at(0), '--to', END, '--json');
  const { path, report } = JSON.parse(shown.out) as { readonly path: null; readonly report: EndpointReport };
  expect(path).toBeNull();
  expect(report).toEqual(await read());
  expect(report.events).toMatchObject([{ kind: 'alert', at: at(20), what: 'distance drifted', state: 'open' }]);
  const api = createApiServer({ store, version: '1.2.3' });
  expect((await api.inject(`/api/v1/endpoints/late/report?from=${at(0)}&to=${END}`)).json()).toEqual(report);
  expect((await api.inject('/api/v1/endpoints/nobody/report')).statusCode).toBe(404);
  expect((await api.inject('/api/v1/endpoints/late/report?from=soon')).statusCode).toBe(400);
  await api.close();
  expect(await millrace('endpoints', 'report', 'latte')).toMatchObject({ code: 2, err: expect.stringContaining('Is late meant?') as string });
});
