import { createHmac, randomBytes } from 'node:crypto';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type AlertChannel, AlertsSettingsSchema } from '../../contracts/alerts.ts';
import type { Store } from '../../store/store.ts';
import { deliverDue, spreadAlerts } from '../../workers/alert-delivery.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

const channelsOf = (...channels: readonly unknown[]): readonly AlertChannel[] => AlertsSettingsSchema.parse({ channels }).channels;
const depsOf = (channels: readonly AlertChannel[], env: Readonly<Record<string, string>> = {}) => ({
  store,
  channels,
  apiUrl: 'http://api.example',
  env,
  log: () => undefined,
});

async function waitAtGate(): Promise<string> {
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
  for (const _ of ['first', 'again']) await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null });
  return runId;
}

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers by what `answers` says: a status, or never. */
async function receiver(answers: (number | 'hang')[]): Promise<{ readonly url: string; readonly received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
      const answer = answers.shift() ?? 200;
      if (answer !== 'hang') response.writeHead(answer).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/hook`, received };
}

/** Speaks enough SMTP to take a message; `refuse` answers the first so many recipients with 451. */
async function mailServer(refuse: number): Promise<{ readonly url: string; readonly messages: string[] }> {
  const messages: string[] = [];
  const sockets = new Set<Socket>();
  let refused = 0;
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined); // a client that leaves early
    socket.setEncoding('utf8');
    let pending = '';
    let message: string[] | undefined;
    socket.write('220 test\r\n');
    socket.on('data', (text: string) => {
      pending += text;
      for (let end = pending.indexOf('\r\n'); end !== -1; end = pending.indexOf('\r\n')) {
        const line = pending.slice(0, end);
        pending = pending.slice(end + 2);
        if (message !== undefined) {
          if (line !== '.') message.push(line);
          else {
            messages.push(message.join('\n'));
            message = undefined;
            socket.write('250 taken\r\n');
          }
        } else if (/^rcpt/i.test(line) && refused++ < refuse) socket.write('451 later\r\n');
        else if (/^data/i.test(line)) {
          message = [];
          socket.write('354 go on\r\n');
        } else if (/^quit/i.test(line)) socket.end('221 bye\r\n');
        else socket.write('250 ok\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `smtp://127.0.0.1:${String((server.address() as AddressInfo).port)}`, messages };
}

/** Delivers until nothing is due any more, over the waits between attempts. */
async function deliverAll(deps: ReturnType<typeof depsOf>, channel: AlertChannel | undefined, attempts: number): Promise<void> {
  if (channel === undefined) throw new Error('there is no such channel');
  for (let tried = 0; tried < attempts; ) {
    const now = await deliverDue(deps, channel);
    tried += now;
    if (now === 0) await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

describe('alert channels', () => {
  it('bring a waiting gate to a webhook that fails twice, hangs, then takes it; signed, under one key', async () => {
    const { url, received } = await receiver([500, 503, 'hang', 200]);
    const channels = channelsOf({ kind: 'webhook', name: 'flaky', url, secretVariable: 'ALERT_SECRET', timeoutMs: 300 });
    const deps = depsOf(channels, { ALERT_SECRET: 'secret' });
    const runId = await waitAtGate();
    await spreadAlerts(deps);
    await spreadAlerts(deps);
    await deliverAll(deps, channels[0], 4);
    expect(await deliverDue(deps, channels[0] as AlertChannel)).toBe(0);
    expect(new Set(received.map(({ headers }) => headers['idempotency-key']))).toEqual(new Set([`approval/${runId}/production`]));
    expect(received).toHaveLength(4);
    for (const { headers, body } of received) {
      const expected = createHmac('sha256', 'secret')
        .update(`${String(headers['x-millrace-timestamp'])}.${body}`)
        .digest('hex');
      expect(headers['x-millrace-signature']).toBe(`v1=${expected}`);
    }
    expect(JSON.parse(received[3]?.body ?? '')).toMatchObject({
      key: `approval/${runId}/production`,
      kind: 'approval',
      what: `Run ${runId.slice(0, 8)} waits for an approval at the gate production.`,
      look: `http://api.example/api/v1/runs/${runId}`,
      command: `millrace approve ${runId} production --reason TEXT`,
    });
    const [alert] = await store.alerts.list({ limit: 1 });
    expect(alert?.deliveries).toMatchObject([{ channel: 'flaky', attempts: 4, deliveredAt: expect.any(String) as string, lastError: null }]);
  });

  it('do not wait for one another: one that hangs leaves the others their messages', async () => {
    const hanging = await receiver(['hang']);
    const quick = await receiver([]);
    const channels = channelsOf(
      { kind: 'webhook', name: 'hanging', url: hanging.url, timeoutMs: 2_000 },
      { kind: 'slack', name: 'quick', urlVariable: 'SLACK_URL' },
    );
    const deps = depsOf(channels, { SLACK_URL: quick.url });
    const runId = await waitAtGate();
    await spreadAlerts(deps);
    const slow = deliverAll(deps, channels[0], 1);
    await deliverAll(deps, channels[1], 1);
    const { deliveries } = (await store.alerts.list({ limit: 1 }))[0] ?? { deliveries: [] };
    expect(deliveries.map(({ channel, deliveredAt }) => [channel, deliveredAt !== null]).sort()).toEqual([
      ['hanging', false],
      ['quick', true],
    ]);
    expect(JSON.parse(quick.received[0]?.body ?? '')).toEqual({
      text: expect.stringContaining(`Answer: millrace approve ${runId} production --reason TEXT`) as string,
    });
    await slow;
    expect((await store.alerts.list({ limit: 1 }))[0]?.deliveries.find(({ channel }) => channel === 'hanging')?.lastError).toBe('No answer within 2000 ms.');
  });

  it('send mail, again where the server says later', async () => {
    const { url, messages } = await mailServer(1);
    const channels = channelsOf({ kind: 'email', smtp: url, from: 'millrace@example.com', to: ['team@example.com'] });
    const deps = depsOf(channels);
    const runId = await waitAtGate();
    await spreadAlerts(deps);
    await deliverAll(deps, channels[0], 2);
    expect(messages).toHaveLength(1);
    expect(messages[0]).toContain('To: team@example.com');
    expect(messages[0]?.replaceAll('=\n', '')).toContain(`millrace approve ${runId} production`);
  });

  it('say which variable is missing, and tell no secret', async () => {
    const channels = channelsOf({ kind: 'slack', name: 'unset', urlVariable: 'SLACK_URL' });
    const deps = depsOf(channels);
    await waitAtGate();
    await spreadAlerts(deps);
    await deliverAll(deps, channels[0], 1);
    expect((await store.alerts.list({ limit: 1 }))[0]?.deliveries[0]?.lastError).toBe('The variable SLACK_URL is not set where the orchestrator runs.');
  });

  it('are refused with every problem where their settings do not fit', () => {
    const { error } = AlertsSettingsSchema.safeParse({
      channels: [{ kind: 'webhook', url: 'ftp://x' }, { kind: 'email', smtp: 'smtp://x', from: 'no', to: [] }, { kind: 'pager' }],
    });
    expect(error?.issues.map(({ path }) => path.join('.')).sort()).toEqual(['channels.0.url', 'channels.1.from', 'channels.1.to', 'channels.2.kind']);
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
