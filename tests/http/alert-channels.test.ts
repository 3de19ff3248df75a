/** Messages to real receivers: HTTP servers that fail, hang and recover, and a mail server that refuses. */
import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import pg from 'pg';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { type AlertChannel, type AlertMessage, type AlertsSettings, AlertsSettingsSchema, type AlertToRaise } from '../../contracts/alerts.ts';
import type { MessageRecord } from '../../store/alerts.ts';
import type { Store } from '../../store/store.ts';
import { type DeliveryDeps, deliverDue, spreadAlerts } from '../../workers/alert-delivery.ts';
import { mailServer, webhookReceiver } from '../support/alert-receivers.ts';
import { freshStore } from '../support/database.ts';

const PATIENCE_MS = 60_000;

let store: Store & { readonly databaseUrl: string };
beforeAll(async () => {
  store = await freshStore();
});

const depsOf = (settings: AlertsSettings, env: Readonly<Record<string, string>> = {}): DeliveryDeps => ({
  store,
  alerts: AlertsSettingsSchema.parse({ groupWaitSeconds: 0, ...settings }),
  apiUrl: 'http://api.example',
  env,
  log: () => undefined,
});
const channelOf = ({ alerts }: DeliveryDeps, at = 0): AlertChannel => {
  const channel = alerts.channels[at];
  if (channel === undefined) throw new Error('there is no such channel');
  return channel;
};

async function waitAtGate(): Promise<string> {
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  for (const _ of ['first', 'again']) await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null });
  return runId;
}

const drift = (endpoint: string, column: string, more: Partial<AlertToRaise> = {}): AlertToRaise => ({
  kind: 'drift',
  endpoint,
  subject: `column ${column}`,
  what: `${column} drifted: PSI 0.41 over 0.2`,
  since: '2026-01-01T00:00:00.000Z',
  against: 'the training data of late 3',
  sure: 'p < 1e-9 over 12 tests; 3 windows in a row',
  look: `/api/v1/endpoints/${endpoint}`,
  command: `millrace endpoints show ${endpoint}`,
  ...more,
});

const lastMessage = async (): Promise<MessageRecord | undefined> => {
  const [alert] = await store.alerts.list({ status: 'all', limit: 1 });
  return alert && (await store.alerts.get(alert.id)).messages[0];
};

/** Delivers until so many attempts were made, over the waits between them. */
async function deliver(deps: DeliveryDeps, channel: AlertChannel, attempts: number): Promise<void> {
  let tried = 0;
  await vi.waitUntil(
    async () => {
      tried += await deliverDue(deps, channel);
      return tried >= attempts;
    },
    { timeout: PATIENCE_MS, interval: 100 },
  );
  expect(tried).toBe(attempts);
}

describe('alert channels', () => {
  it('bring a waiting gate to a webhook that fails twice, hangs, then takes it; signed, under one key', async () => {
    const { url, received } = await webhookReceiver([500, 503, 'hang', 200]);
    const deps = depsOf({ channels: [{ kind: 'webhook', name: 'flaky', url, secretVariable: 'ALERT_SECRET', timeoutMs: 300 }] }, { ALERT_SECRET: 'secret' });
    const runId = await waitAtGate();
    await spreadAlerts(deps);
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 4);
    expect(await deliverDue(deps, channelOf(deps))).toBe(0);
    expect(received).toHaveLength(4);
    expect(new Set(received.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    for (const { headers, body } of received) {
      const expected = createHmac('sha256', 'secret')
        .update(`${String(headers['x-millrace-timestamp'])}.${body}`)
        .digest('hex');
      expect(headers['x-millrace-signature']).toBe(`v1=${expected}`);
      expect(body).not.toContain('secret');
    }
    expect(JSON.parse(received[3]?.body ?? '')).toMatchObject({
      key: received[0]?.headers['idempotency-key'],
      kind: 'approval',
      what: `Run ${runId.slice(0, 8)} waits for an approval at the gate production.`,
      look: `http://api.example/api/v1/runs/${runId}`,
      command: `millrace approve ${runId} production --reason TEXT`,
      alerts: [{ state: 'firing', severity: 'info', pipeline: 'p', look: `http://api.example/api/v1/runs/${runId}` }],
    });
    expect((await lastMessage())?.deliveries).toMatchObject([
      { channel: 'flaky', attempts: 4, deliveredAt: expect.any(String) as string, gaveUpAt: null, lastError: null },
    ]);
  });

  it('do not wait for one another: one that hangs leaves the others their messages', async () => {
    const hanging = await webhookReceiver(['hang']);
    const quick = await webhookReceiver([]);
    const deps = depsOf(
      {
        channels: [
          { kind: 'webhook', name: 'hanging', url: hanging.url, timeoutMs: 2_000 },
          { kind: 'slack', name: 'quick', urlVariable: 'SLACK_URL' },
        ],
      },
      { SLACK_URL: quick.url },
    );
    const runId = await waitAtGate();
    await spreadAlerts(deps);
    const slow = deliver(deps, channelOf(deps, 0), 1);
    await deliver(deps, channelOf(deps, 1), 1);
    expect((await lastMessage())?.deliveries.map(({ channel, deliveredAt }) => [channel, deliveredAt !== null])).toEqual([
      ['hanging', false],
      ['quick', true],
    ]);
    expect(JSON.parse(quick.received[0]?.body ?? '')).toEqual({
      text: expect.stringContaining(`Answer: millrace approve ${runId} production --reason TEXT`) as string,
    });
    await slow;
    expect((await lastMessage())?.deliveries.find(({ channel }) => channel === 'hanging')?.lastError).toBe('No answer within 2000 ms.');
  });

  it('send mail, again where the server says later, and tell what, since when, against what, how sure and what to type', async () => {
    const { url, messages } = await mailServer(1);
    const deps = depsOf({ channels: [{ kind: 'email', smtp: url, from: 'millrace@example.com', to: ['team@example.com'] }] });
    const id = await store.alerts.raise(drift('mailed', 'origin'));
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 2);
    expect(messages).toHaveLength(1);
    const [text = ''] = messages.map((message) => message.replaceAll('=\n', '').replaceAll('=3D', '='));
    expect(text).toContain('To: team@example.com');
    expect(text).toContain('Subject: Millrace: origin drifted: PSI 0.41 over 0.2');
    for (const line of [
      '[warning] drift at mailed: origin drifted: PSI 0.41 over 0.2',
      'Since 2026-01-01T00:00:00.000Z.',
      'Against: the training data of late 3',
      'How sure: p < 1e-9 over 12 tests; 3 windows in a row',
      'Look: http://api.example/api/v1/endpoints/mailed',
      'Closer: millrace endpoints show mailed',
      `Quiet: millrace alerts ack ${String(id)} --comment TEXT`,
    ])
      expect(text).toContain(line);
  });

  it('say which variable is missing, and tell no secret', async () => {
    const deps = depsOf({ channels: [{ kind: 'slack', name: 'unset', urlVariable: 'SLACK_URL' }] });
    await waitAtGate();
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 1);
    expect((await lastMessage())?.deliveries[0]?.lastError).toBe('The variable SLACK_URL is not set where the orchestrator runs.');
  });

  it('keep the address that is a secret out of logs and records where it cannot be reached', async () => {
    const told: unknown[] = [];
    const secret = 'http://127.0.0.1:1/services/T000/B000/sesame';
    const deps = {
      ...depsOf({ channels: [{ kind: 'slack', name: 'closed', urlVariable: 'SLACK_URL' }] }, { SLACK_URL: secret }),
      log: (...line: unknown[]) => {
        told.push(line);
      },
    };
    await waitAtGate();
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 1);
    expect(told).toHaveLength(1);
    expect(JSON.stringify([told, await lastMessage()])).not.toContain('sesame');
    expect((await lastMessage())?.deliveries[0]?.lastError).toBe('The receiver could not be reached.');
  });

  it('get one message for the alerts of one group, and each channel only what it takes', async () => {
    const all = await webhookReceiver([]);
    const critical = await webhookReceiver([]);
    const elsewhere = await webhookReceiver([]);
    const deps = depsOf({
      channels: [
        { kind: 'webhook', name: 'all', url: all.url },
        { kind: 'webhook', name: 'critical', url: critical.url, only: { severity: 'critical' } },
        { kind: 'webhook', name: 'elsewhere', url: elsewhere.url, only: { endpoints: ['other'], kinds: ['drift', 'data'] } },
      ],
    });
    await store.alerts.settle({
      kinds: ['drift', 'data'],
      endpoint: 'grouped',
      firing: [
        drift('grouped', 'origin'),
        drift('grouped', 'distance'),
        drift('grouped', 'delay', { kind: 'data', subject: 'delay', what: 'delay is null in 80 % of the rows', severity: 'critical' }),
      ],
    });
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps, 0), 1);
    await deliver(deps, channelOf(deps, 1), 1);
    expect(await deliverDue(deps, channelOf(deps, 2))).toBe(0);
    const [one, two] = [all, critical].map(({ received }) => JSON.parse(received[0]?.body ?? '') as AlertMessage);
    expect(one?.what).toBe('3 alerts at grouped: delay is null in 80 % of the rows');
    expect(one?.alerts?.map(({ subject }) => subject).sort()).toEqual(['column distance', 'column origin', 'delay']);
    expect(two?.what).toBe('delay is null in 80 % of the rows');
    expect(two?.alerts?.map(({ subject }) => subject)).toEqual(['delay']);
    expect(elsewhere.received).toHaveLength(0);
  });

  it('tell of a recovery after the alert, also where the alert has to be sent again', async () => {
    const { url, received } = await webhookReceiver([500]);
    const deps = depsOf({ channels: [{ kind: 'webhook', name: 'ordered', url }] });
    await store.alerts.raise(drift('ordered', 'origin'));
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 1);
    await store.alerts.resolve(drift('ordered', 'origin'));
    await spreadAlerts(deps);
    // of the two messages the second is not tried before the first was taken
    await deliver(deps, channelOf(deps), 2);
    expect(received.map(({ body }) => (JSON.parse(body) as AlertMessage).alerts?.[0]?.state)).toEqual(['firing', 'firing', 'recovered']);
    expect((JSON.parse(received[2]?.body ?? '') as AlertMessage).what).toBe('Recovered: origin drifted: PSI 0.41 over 0.2');
  });

  it('are sent by the next orchestrator what one held that was killed while it sent', async () => {
    const { url, received } = await webhookReceiver(['hang']);
    const channel = { kind: 'webhook', name: 'inherited', url, timeoutMs: 1_000 } as const;
    const deps = depsOf({ channels: [channel] });
    await store.alerts.raise(drift('inherited', 'origin'));
    await spreadAlerts(deps);
    const program = `
      import { openStore } from './store/store.ts';
      import { deliverDue } from './workers/alert-delivery.ts';
      const { store: databaseUrl, ...deps } = JSON.parse(process.env.DELIVERY);
      await deliverDue({ ...deps, store: openStore({ databaseUrl }), log() {} }, deps.alerts.channels[0]);`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      cwd: packageRoot,
      // the channel's own time would end the attempt before the test can: what is tested is a death in the middle
      env: {
        ...process.env,
        DELIVERY: JSON.stringify({ ...deps, store: store.databaseUrl, alerts: { ...deps.alerts, channels: [{ ...channel, timeoutMs: 60_000 }] } }),
      },
      stdio: 'inherit',
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    await vi.waitUntil(() => received.length === 1, { timeout: PATIENCE_MS, interval: 50 });
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(await deliverDue(deps, channelOf(deps))).toBe(0);
    // its lease ends by itself a minute later
    const client = new pg.Client({ connectionString: store.databaseUrl });
    await client.connect();
    await client.query("update alert_deliveries set next_at = next_at - interval '65 seconds' where channel = 'inherited'");
    await client.end();
    await deliver(deps, channelOf(deps), 1);
    expect(received).toHaveLength(2);
    expect(new Set(received.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    expect((await lastMessage())?.deliveries).toMatchObject([{ attempts: 2, deliveredAt: expect.any(String) as string }]);
  });

  it('cut what is too long for one message, and say how much is left out', async () => {
    const { url, received } = await webhookReceiver([]);
    const deps = depsOf({ channels: [{ kind: 'slack', name: 'cut', urlVariable: 'SLACK_URL' }] }, { SLACK_URL: url });
    const firing = Array.from({ length: 300 }, (_, n) => drift('wide', `c${String(n)}`, { what: `c${String(n)} drifted <${'x'.repeat(4_000)}>` }));
    await store.alerts.settle({ kinds: ['drift'], endpoint: 'wide', firing });
    await spreadAlerts(deps);
    await deliver(deps, channelOf(deps), 1);
    const { text } = JSON.parse(received[0]?.body ?? '') as { readonly text: string };
    expect(text.length).toBeLessThan(40_000);
    expect(text).toMatch(/^300 alerts at wide: /);
    expect(text).not.toContain('<');
    expect((await lastMessage())?.message).toMatchObject({ more: 280 });
  });

  it('are refused with every problem where their settings do not fit', () => {
    const { error } = AlertsSettingsSchema.safeParse({
      channels: [
        { kind: 'webhook', url: 'ftp://x' },
        { kind: 'webhook', name: 'b', url: 'https://ada:secret@example.com/' },
        { kind: 'email', smtp: 'smtp://x', from: 'no', to: [] },
        { kind: 'email', name: 'c', smtp: 'smtp://ada:secret@example.com', from: 'a@example.com', to: ['b@example.com'], only: { kinds: ['weather'] } },
        { kind: 'pager' },
      ],
      groupWaitSeconds: -1,
      coolDownHoursOf: { weather: 1 },
    });
    expect(error?.issues.map(({ path }) => path.join('.')).sort()).toEqual([
      'channels.0.url',
      'channels.1.url',
      'channels.2.from',
      'channels.2.to',
      'channels.3.only.kinds.0',
      'channels.3.smtp',
      'channels.4.kind',
      'coolDownHoursOf',
      'groupWaitSeconds',
    ]);
    expect(JSON.stringify(error?.issues)).not.toContain('secret@');
    expect(
      AlertsSettingsSchema.safeParse({
        channels: [
          { kind: 'slack', urlVariable: 'A' },
          { kind: 'slack', urlVariable: 'B' },
        ],
      }).success,
    ).toBe(false);
  });
});
