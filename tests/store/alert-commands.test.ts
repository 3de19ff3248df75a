/** `millrace alerts …`, as a person types it, and the API, over a store of real alerts and a real receiver. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { loadCliConfig } from '../../cli/clients.ts';
import { AlertsSettingsSchema, type AlertToRaise } from '../../contracts/alerts.ts';
import type { ShownAlert, SilenceRecord } from '../../store/alerts.ts';
import { deliverDue, spreadAlerts } from '../../workers/alert-delivery.ts';
import { every } from '../../workers/every.ts';
import { webhookReceiver } from '../support/alert-receivers.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

let folder: string;
let store: CommandFolder['store'];
beforeAll(async () => {
  ({ folder, store } = await commandFolder());
});
const alert = (endpoint: string, subject: string, more: Partial<AlertToRaise> = {}): AlertToRaise => ({
  kind: 'drift',
  endpoint,
  subject,
  what: `${subject} drifted: PSI 0.41 over 0.2`,
  since: '2026-01-01T00:00:00.000Z',
  against: 'the training data of late 3',
  sure: 'p < 1e-9 over 12 tests',
  look: `/api/v1/endpoints/${endpoint}`,
  command: `millrace endpoints show ${endpoint}`,
  ...more,
});
const settings = AlertsSettingsSchema.parse({ groupWaitSeconds: 0 });

it('lists what is the matter, shows one with all that is known, and acknowledges it', async () => {
  expect(await millrace('alerts', 'list')).toMatchObject({ code: 0, out: 'Nothing is the matter.\n' });
  const id = await store.alerts.raise(alert('late', 'origin'));
  await store.alerts.raise(alert('late', 'auc', { kind: 'quality', severity: 'critical' }));
  await store.alerts.raise(alert('other', 'origin'));
  await store.alerts.gather(settings);
  const { out } = await millrace('alerts', 'list', '--endpoint', 'late');
  const lines = out.trimEnd().split('\n');
  expect(lines[0]?.trim().split(/\s{2,}/)).toEqual(['ALERT', 'SEVERITY', 'KIND', 'OF', 'WHAT', 'SINCE', 'STATE']);
  expect(out).toMatch(/critical\s+quality\s+late\s+auc drifted.*open\n.*warning\s+drift\s+late\s+origin drifted.*open/s);
  expect(JSON.parse((await millrace('alerts', 'list', '--kind', 'quality', '--json')).out)).toMatchObject([{ subject: 'auc', status: 'open' }]);

  const shown = await millrace('alerts', 'show', String(id));
  for (const text of [
    'origin drifted: PSI 0.41',
    'the training data of late 3',
    'p < 1e-9 over 12 tests',
    'millrace endpoints show late',
    'no channel takes it',
  ])
    expect(shown.out).toContain(text);
  expect(await millrace('alerts', 'ack', String(id), '--comment', 'on it', '--by', 'ada')).toMatchObject({
    code: 0,
    out: 'Acknowledged by ada: quiet until it has recovered.\n',
  });
  expect((await millrace('alerts', 'list')).out).toContain('acknowledged by ada');
  expect(JSON.parse((await millrace('alerts', 'show', String(id), '--json')).out)).toMatchObject({ acknowledgedBy: 'ada', comment: 'on it' });
  await store.alerts.resolve(alert('late', 'origin'));
  expect((await millrace('alerts', 'list')).out).not.toContain('acknowledged');
  expect((await millrace('alerts', 'list', '--all')).out).toContain('resolved');
});

it('silences for a time, lists silences, and ends one', async () => {
  await store.alerts.raise(alert('quiet', 'column a'));
  const made = await millrace(
    'alerts',
    'silence',
    '--endpoint',
    'quiet',
    '--subject',
    'column *',
    '--for',
    '2h',
    '--reason',
    'moving',
    '--by',
    'ada',
    '--json',
  );
  const { id, from, until } = JSON.parse(made.out) as SilenceRecord;
  expect(Date.parse(until) - Date.parse(from)).toBeGreaterThanOrEqual(7_199_000);
  expect((await millrace('alerts', 'list', '--endpoint', 'quiet')).out).toContain(`silenced until ${until}`);
  expect((await millrace('alerts', 'silences')).out).toMatch(/endpoint quiet, subject column \*.*ada\s+moving/);
  expect(await millrace('alerts', 'unsilence', String(id), '--by', 'bob')).toMatchObject({ code: 0, out: `Silence ${String(id)} has ended.\n` });
  expect((await millrace('alerts', 'silences')).out).toBe('Nothing is silenced.\n');
  expect((await millrace('alerts', 'silences', '--all')).out).toContain('ended by bob');
  expect((await millrace('alerts', 'list', '--endpoint', 'quiet')).out).toContain('open');
});

it('refuses what does not fit with what to write, and says of one that is resolved that it is', async () => {
  expect(await millrace('alerts', 'show', 'x')).toMatchObject({ code: 2 });
  expect(await millrace('alerts', 'show', '999999')).toMatchObject({ code: 2, err: expect.stringContaining('no alert 999999') as string });
  expect(await millrace('alerts', 'list', '--kind', 'drifts')).toMatchObject({ code: 2, err: expect.stringContaining('Is drift meant?') as string });
  expect(await millrace('alerts', 'silence', '--kind', 'drift', '--reason', 'r')).toMatchObject({ code: 2, err: expect.stringContaining('--for') as string });
  expect(await millrace('alerts', 'silence', '--for', '1h', '--reason', 'r')).toMatchObject({
    code: 2,
    err: expect.stringContaining('nothing says what to silence') as string,
  });
  const id = await store.alerts.raise(alert('late', 'gone'));
  await store.alerts.resolve(alert('late', 'gone'));
  expect(await millrace('alerts', 'ack', String(id))).toMatchObject({ code: 1, err: expect.stringContaining('resolved') as string });
  expect(await millrace('alerts', 'test', 'nowhere')).toMatchObject({ code: 2, err: expect.stringContaining('no alert channel nowhere') as string });
});

it('tries a channel of the config, and says what the receiver answered', async () => {
  const good = await webhookReceiver([]);
  const bad = await webhookReceiver([500, 500]);
  const only = { endpoints: ['nowhere'] };
  const channels = [
    { kind: 'webhook', name: 'good', url: good.url, only },
    { kind: 'webhook', name: 'bad', url: bad.url, only },
  ];
  await writeFile(join(folder, 'millrace.config.ts'), `export default ${JSON.stringify({ alerts: { channels } })};\n`);
  const { alerts } = await loadCliConfig();
  const deps = { store, alerts, apiUrl: 'http://api.example', env: {}, log: () => undefined };
  // what the orchestrator does each second
  const stop = new AbortController();
  const delivering = every(
    50,
    stop.signal,
    () => undefined,
    async () => {
      await spreadAlerts(deps);
      for (const channel of alerts.channels) await deliverDue(deps, channel);
    },
  );
  try {
    expect(await millrace('alerts', 'test', 'good')).toMatchObject({ code: 0, out: 'good has taken the test message.\n' });
    expect(await millrace('alerts', 'test', 'bad', '--json')).toMatchObject({
      code: 1,
      out: `${JSON.stringify({ channel: 'bad', taken: false, error: 'The receiver answered 500.' })}\n`,
    });
  } finally {
    stop.abort();
    await delivering;
  }
  expect(good.received.map(({ body }) => JSON.parse(body) as object)).toMatchObject([
    { kind: 'test', what: expect.stringContaining('nothing is the matter') as string },
  ]);
  expect(bad.received).toHaveLength(1);
  await rm(join(folder, 'millrace.config.ts'));
});

it('is the same by the API: lists in pages, one, acknowledging, silences', async () => {
  const ids = [await store.alerts.raise(alert('paged', 'a')), await store.alerts.raise(alert('paged', 'b'))] as const;
  const app = createApiServer({ store, version: '1.2.3' });
  const get = async (url: string): Promise<{ readonly items: readonly ShownAlert[]; readonly next: string | null }> =>
    (await app.inject(`/api/v1${url}`)).json();
  const post = (url: string, payload: object) => app.inject({ method: 'POST', url: `/api/v1${url}`, payload });
  const first = await get('/alerts?endpoint=paged&limit=1');
  expect(first.items.map(({ id }) => id)).toEqual([ids[1]]);
  expect((await get(`/alerts?endpoint=paged&limit=1&after=${String(first.next)}`)).items).toMatchObject([
    { id: ids[0], kind: 'drift', sure: 'p < 1e-9 over 12 tests' },
  ]);
  expect((await app.inject(`/api/v1/alerts/${String(ids[0])}`)).json()).toMatchObject({ subject: 'a', messages: [] });

  const ack = await post(`/alerts/${String(ids[0])}/ack`, { by: 'ada', comment: 'on it' });
  expect([ack.statusCode, ack.json()]).toMatchObject([200, { status: 'acknowledged', comment: 'on it' }]);
  expect((await post(`/alerts/${String(ids[0])}/ack`, { by: 'bob' })).statusCode).toBe(409);
  expect((await post('/alerts/999999/ack', { by: 'bob' })).statusCode).toBe(404);
  expect((await post(`/alerts/${String(ids[0])}/ack`, {})).statusCode).toBe(400);
  expect((await get('/alerts?endpoint=paged&status=acknowledged')).items.map(({ id }) => id)).toEqual([ids[0]]);

  const until = new Date(Date.now() + 3_600_000).toISOString();
  const silence = await post('/silences', { endpoint: 'paged', until, by: 'ada', reason: 'night' });
  expect([silence.statusCode, silence.json()]).toMatchObject([200, { endpoint: 'paged', until, endedAt: null }]);
  expect((await post('/silences', { until, by: 'ada', reason: 'all' })).json()).toMatchObject({ code: 'INVALID_REQUEST' });
  const { id } = silence.json<{ readonly id: number }>();
  expect((await get('/silences')).items.map((s) => s.id)).toEqual([id]);
  expect((await post(`/silences/${String(id)}/end`, { by: 'bob' })).json()).toMatchObject({ endedBy: 'bob' });
  expect((await get('/silences')).items).toEqual([]);
  expect((await get('/silences?all=true')).items.length).toBeGreaterThan(0);
  await app.close();
});
