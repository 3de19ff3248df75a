import { randomBytes } from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AlertMessage, type AlertsConfig, type AlertsSettings, AlertsSettingsSchema, type AlertToRaise } from '../../contracts/alerts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

const PATIENCE_MS = 60_000;
let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

let n = 0;
let endpoint: string;
beforeEach(() => {
  n += 1;
  endpoint = `e${String(n)}`;
});

const settings = (more: AlertsSettings = {}): AlertsConfig => AlertsSettingsSchema.parse({ groupWaitSeconds: 0, ...more });
const alert = (subject: string, more: Partial<AlertToRaise> = {}): AlertToRaise => ({
  kind: 'drift',
  endpoint,
  subject,
  what: `${subject} drifted`,
  since: '2026-01-01T00:00:00.000Z',
  against: 'the training data',
  sure: 'p < 1e-9',
  look: `/api/v1/endpoints/${endpoint}`,
  command: `millrace endpoints show ${endpoint}`,
  ...more,
});
/** What has been told of this test's endpoint, the first first: each message as its lines. */
async function told(): Promise<readonly (readonly string[])[]> {
  const alerts = await store.alerts.list({ status: 'all', endpoint, limit: 1_000 });
  const messages = new Map<number, AlertMessage>();
  for (const { id } of alerts) for (const { seq, message } of (await store.alerts.get(id)).messages) messages.set(seq, message);
  return [...messages].sort(([a], [b]) => a - b).map(([, message]) => (message.alerts ?? []).map(({ state, subject }) => `${state} ${subject}`).sort());
}

describe('an alert', () => {
  it('is told once while it goes on, and its recovery once', async () => {
    for (const _ of [1, 2, 3]) {
      await store.alerts.settle({ kinds: ['drift'], endpoint, firing: [alert('a')] });
      await store.alerts.gather(settings());
    }
    expect(await told()).toEqual([['firing a']]);
    for (const _ of [1, 2]) {
      await store.alerts.settle({ kinds: ['drift'], endpoint, firing: [], at: '2026-01-02T00:00:00.000Z' });
      await store.alerts.gather(settings());
    }
    expect(await told()).toEqual([['firing a'], ['recovered a']]);
    const [one, ...others] = await store.alerts.list({ status: 'all', endpoint });
    expect(others).toEqual([]);
    expect(one).toMatchObject({ status: 'resolved', since: '2026-01-01T00:00:00.000Z', resolvedAt: '2026-01-02T00:00:00.000Z', tellings: 2 });
    await store.alerts.raise(alert('a', { since: '2026-02-01T00:00:00.000Z' }));
    await store.alerts.gather(settings());
    expect(await told()).toHaveLength(3);
    expect(await store.alerts.list({ endpoint })).toMatchObject([{ status: 'open', since: '2026-02-01T00:00:00.000Z' }]);
  });

  it('that is gone before it was told of is told of by nobody', async () => {
    await store.alerts.raise(alert('short'));
    await store.alerts.resolve(alert('short'));
    await store.alerts.gather(settings());
    expect(await told()).toEqual([]);
    expect(await store.alerts.list({ status: 'all', endpoint })).toMatchObject([{ status: 'resolved', tellings: 0 }]);
  });

  it('that comes back before its recovery was told of has not recovered', async () => {
    await store.alerts.raise(alert('a'));
    await store.alerts.gather(settings());
    await store.alerts.resolve(alert('a'));
    await store.alerts.raise(alert('a'));
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing a']]);
    expect(await store.alerts.list({ status: 'all', endpoint })).toMatchObject([{ status: 'open', resolvedAt: null }]);
  });

  it('is told again when the cool-down has passed and it goes on, or at once when it is more pressing', async () => {
    const short = settings({ coolDownHoursOf: { drift: 0.3 / 3_600 } });
    await store.alerts.raise(alert('a'));
    await store.alerts.gather(short);
    await store.alerts.gather(short);
    expect(await told()).toHaveLength(1);
    await vi.waitFor(
      async () => {
        await store.alerts.raise(alert('a'));
        await store.alerts.gather(short);
        expect(await told()).toHaveLength(2);
      },
      { timeout: PATIENCE_MS, interval: 100 },
    );
    await store.alerts.raise(alert('a', { severity: 'critical' }));
    await store.alerts.gather(settings());
    expect(await told()).toHaveLength(3);
    await store.alerts.raise(alert('a', { severity: 'critical' }));
    await store.alerts.gather(settings());
    expect(await told()).toHaveLength(3);
  });

  it('waits for the others of its group, which become one message', async () => {
    await store.alerts.raise(alert('a'));
    expect(await store.alerts.gather(settings({ groupWaitSeconds: 3_600 }))).toBe(0);
    await store.alerts.raise(alert('b'));
    await store.alerts.raise(alert('c', { group: 'z' }));
    await store.alerts.gather(settings({ groupWaitSeconds: 3_600 }));
    expect(await told()).toEqual([]);
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing a', 'firing b'], ['firing c']]);
    await store.alerts.settle({ kinds: ['drift'], endpoint, firing: [alert('b'), alert('d')] });
    await store.alerts.gather(settings());
    expect((await told()).slice(2)).toEqual([['firing d', 'recovered a'], ['recovered c']]);
  });

  it('of another kind, endpoint or pipeline stays when a window is settled', async () => {
    await store.alerts.raise(alert('a'));
    await store.alerts.raise(alert('a', { kind: 'quality' }));
    await store.alerts.raise(alert('a', { pipeline: 'p' }));
    const { raised, resolved } = await store.alerts.settle({ kinds: ['drift', 'data'], endpoint, firing: [alert('b', { kind: 'data' })] });
    expect([raised.length, resolved.length]).toEqual([1, 1]);
    expect((await store.alerts.list({ endpoint })).map(({ kind, pipeline, subject }) => [kind, pipeline, subject])).toEqual([
      ['data', null, 'b'],
      ['drift', 'p', 'a'],
      ['quality', null, 'a'],
    ]);
  });

  it('is one, raised by many at a time', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => store.alerts.raise(alert('a'))));
    expect(new Set(ids).size).toBe(1);
    await Promise.all(Array.from({ length: 8 }, () => store.alerts.gather(settings())));
    expect(await told()).toEqual([['firing a']]);
  });

  it('is told of once while windows of the same columns are settled and gathered at the same time', async () => {
    const columns = Array.from({ length: 20 }, (_, column) => alert(`c${String(column)}`));
    const settle = (firing: readonly AlertToRaise[]) => store.alerts.settle({ kinds: ['drift'], endpoint, firing });
    await Promise.all(
      Array.from({ length: 24 }, (_, at) => (at % 3 === 0 ? store.alerts.gather(settings()) : settle(at % 2 === 0 ? columns : columns.toReversed()))),
    );
    await store.alerts.gather(settings());
    expect((await told()).flat().sort()).toEqual(columns.map(({ subject }) => `firing ${subject}`).sort());
  });

  it('of something that is over is told once, without a recovery', async () => {
    const id = await store.alerts.raise(alert('failed', { event: true }));
    await store.alerts.gather(settings());
    await store.alerts.settle({ kinds: ['drift'], endpoint, firing: [] });
    expect(await store.alerts.get(id)).toMatchObject({ status: 'open' });
    expect(await store.alerts.acknowledge({ id, by: 'ada' })).toMatchObject({ status: 'resolved', acknowledgedBy: 'ada' });
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing failed']]);
  });

  it('keeps texts of any kind', async () => {
    const odd = 'nul \u0000, half \uD800, quote \' " \\ % _ *';
    const id = await store.alerts.raise(alert(odd));
    expect(await store.alerts.raise(alert(odd))).toBe(id);
    expect(await store.alerts.resolve(alert(odd))).toBe(true);
  });
});

describe('an acknowledged alert', () => {
  it('is quiet until it recovers, which is told', async () => {
    const id = await store.alerts.raise(alert('a'));
    await store.alerts.gather(settings());
    expect(await store.alerts.acknowledge({ id, by: 'ada', comment: 'on it' })).toMatchObject({
      status: 'acknowledged',
      acknowledgedBy: 'ada',
      comment: 'on it',
      acknowledgedAt: expect.any(String) as string,
    });
    const again = settings({ coolDownHours: 0 });
    await store.alerts.raise(alert('a', { severity: 'critical' }));
    await store.alerts.gather(again);
    expect(await told()).toEqual([['firing a']]);
    await store.alerts.resolve(alert('a'));
    await store.alerts.gather(again);
    await store.alerts.raise(alert('a'));
    await store.alerts.gather(again);
    expect(await told()).toEqual([['firing a'], ['recovered a'], ['firing a']]);
  });

  it('is acknowledged by one person, once; a resolved one by nobody', async () => {
    const id = await store.alerts.raise(alert('a'));
    const first = await store.alerts.acknowledge({ id, by: 'ada' });
    expect(await store.alerts.acknowledge({ id, by: 'ada', comment: 'seen' })).toEqual({ ...first, comment: 'seen' });
    await expect(store.alerts.acknowledge({ id, by: 'bob' })).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('ada') as string });
    const other = await store.alerts.raise(alert('b'));
    await store.alerts.resolve(alert('b'));
    await expect(store.alerts.acknowledge({ id: other, by: 'ada' })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(store.alerts.acknowledge({ id: 999_999, by: 'ada' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a silence', () => {
  const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

  it('keeps what fits quiet until it ends; what still goes on is told then', async () => {
    const silence = await store.alerts.silence({ endpoint, subject: 'column *', until: inAnHour(), by: 'ada', reason: 'moving house' });
    await store.alerts.raise(alert('column a'));
    await store.alerts.raise(alert('column b'));
    await store.alerts.raise(alert('other'));
    await store.alerts.gather(settings());
    await store.alerts.resolve(alert('column b'));
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing other']]);
    expect((await store.alerts.list({ endpoint })).map(({ subject, silencedUntil }) => [subject, silencedUntil])).toEqual([
      ['other', null],
      ['column a', silence.until],
    ]);
    await store.alerts.endSilence({ id: silence.id, by: 'bob' });
    expect(await store.alerts.endSilence({ id: silence.id, by: 'eve' })).toMatchObject({ endedBy: 'bob' });
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing other'], ['firing column a']]);
  });

  it('ends by itself', async () => {
    await store.alerts.silence({ endpoint, until: new Date(Date.now() + 500).toISOString(), by: 'ada', reason: 'short' });
    await store.alerts.raise(alert('a'));
    await vi.waitFor(
      async () => {
        await store.alerts.gather(settings());
        expect(await told()).toEqual([['firing a']]);
      },
      { timeout: PATIENCE_MS, interval: 100 },
    );
    expect(await store.alerts.list({ endpoint })).toMatchObject([{ silencedUntil: null }]);
    expect((await store.alerts.silences()).filter((silence) => silence.endpoint === endpoint)).toEqual([]);
    expect((await store.alerts.silences({ all: true })).filter((silence) => silence.endpoint === endpoint)).toHaveLength(1);
  });

  it('that has not begun keeps nothing quiet, and recoveries are kept quiet too', async () => {
    await store.alerts.silence({ endpoint, from: inAnHour(), until: new Date(Date.now() + 7_200_000).toISOString(), by: 'ada', reason: 'later' });
    await store.alerts.raise(alert('a'));
    await store.alerts.gather(settings());
    await store.alerts.silence({ kind: 'drift', endpoint, until: inAnHour(), by: 'ada', reason: 'now' });
    await store.alerts.resolve(alert('a'));
    await store.alerts.raise(alert('gone', { event: true }));
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing a']]);
    expect(await store.alerts.list({ endpoint })).toEqual([]);
  });

  it('takes a text as it is but for *: % and _ stand for themselves', async () => {
    await store.alerts.silence({ endpoint, subject: 'a_b%*\\', until: inAnHour(), by: 'ada', reason: 'odd' });
    await store.alerts.raise(alert('axbyz\\'));
    await store.alerts.raise(alert('a_b%z\\'));
    await store.alerts.gather(settings());
    expect(await told()).toEqual([['firing axbyz\\']]);
  });

  it('asked for twice is one; without a matcher or an end in the future it is refused, with each problem', async () => {
    const input = { endpoint, until: inAnHour(), by: 'ada', reason: 'twice' };
    expect((await store.alerts.silence(input)).id).toBe((await store.alerts.silence(input)).id);
    await expect(store.alerts.silence({ until: '2020-01-01T00:00:00.000Z', by: 'ada', reason: 'no' })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      problems: [{ path: 'kind' }, { path: 'until' }],
    });
    await expect(store.alerts.endSilence({ id: 999_999, by: 'ada' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('what waits for a person', () => {
  const beginRun = async (): Promise<string> => {
    const runId = randomBytes(16).toString('hex');
    await store.runs.begin({ runId, workflowId: runId, temporalRunId: 't', pipeline: 'p', params: {}, trigger: { kind: 'cli' } });
    return runId;
  };
  const open = async (): Promise<readonly string[]> => (await store.alerts.list({ limit: 1_000 })).map(({ subject }) => subject);

  it('is an alert without a wait: a gate until it is decided, or expires', async () => {
    const runs = [await beginRun(), await beginRun(), await beginRun()] as const;
    for (const runId of runs) await store.approvals.request({ runId, gate: 'g', evidence: {}, expiresAt: null });
    const subjects = runs.map((runId) => `run ${runId} gate g`);
    expect(await open()).toEqual(expect.arrayContaining(subjects));
    expect(await store.alerts.gather(settings({ groupWaitSeconds: 3_600 }))).toBeGreaterThanOrEqual(3);
    await store.approvals.decide({ runId: runs[0], gate: 'g', who: 'ada', decision: 'approve', reason: 'fine' });
    await store.approvals.expire(runs[1], 'g');
    await store.runs.end({ runId: runs[2], status: 'terminated' });
    await store.approvals.closeEnded();
    expect(await open()).not.toEqual(expect.arrayContaining([expect.stringMatching(/ gate g$/)]));
    // an answer is no recovery
    expect(await store.alerts.gather(settings())).toBe(0);
  });

  it('is an alert until labels are given, or nobody waits for them', async () => {
    const runId = await beginRun();
    const request = { runId, stage: 's', workflowId: 'w', expiresAt: null, name: `q${String(n)}`, classes: ['yes', 'no'] };
    const items = [{ key: 'k', shown: {}, priority: 0 }];
    const { id } = await store.labels.request({ ...request, items });
    expect(await open()).toContain(`queue ${request.name} request ${id}`);
    await store.labels.close(id, 'cancelled');
    expect(await open()).not.toContain(`queue ${request.name} request ${id}`);

    await store.labels.enqueue(
      request.name,
      [0, 1].map((row) => ({ endpoint, requestId: 'r', row, shown: {} })),
    );
    expect(await open()).toContain(`queue ${request.name}`);
    for (const _ of [1, 2]) {
      expect(await open()).toContain(`queue ${request.name}`);
      const item = (await store.labels.next(request.name, 'ada'))?.id ?? '';
      await store.labels.answer(request.name, { item, by: 'ada', label: 'yes' });
    }
    expect(await open()).not.toContain(`queue ${request.name}`);
  });
});

describe('what nobody looks at any more', () => {
  const drifted = ['drift', 'quality'] as const;

  it('is closed with the reason, of which those are told who were told of it', async () => {
    const [first, second] = [await store.alerts.raise(alert('a')), await store.alerts.raise(alert('b', { kind: 'quality' }))];
    const other = await store.alerts.raise(alert('c', { kind: 'data' }));
    await store.alerts.gather(settings());
    await store.alerts.acknowledge({ id: second, by: 'ada' });
    const abandoned = await store.alerts.abandon({ kinds: drifted, endpoint }, 'nothing watches it any more');
    expect(abandoned.toSorted((a, b) => a - b)).toEqual([first, second]);
    expect(await store.alerts.abandon({ kinds: drifted, endpoint }, 'nothing watches it any more')).toEqual([]);
    await store.alerts.gather(settings());
    const closed = await store.alerts.get(first);
    expect(closed).toMatchObject({ status: 'resolved', resolvedBecause: 'nothing watches it any more' });
    expect(closed.messages[0]?.message).toMatchObject({
      what: `2 recovered at ${endpoint}: Closed: a drifted`,
      alerts: [
        { state: 'recovered', subject: 'a', because: 'nothing watches it any more' },
        { state: 'recovered', subject: 'b' },
      ],
    });
    expect(await store.alerts.get(other)).toMatchObject({ status: 'open', resolvedBecause: null });
    // raised again it is another one
    expect(await store.alerts.raise(alert('a'))).not.toBe(first);
  });

  it('and is raised before that was told stands as if it had never been closed', async () => {
    const id = await store.alerts.raise(alert('a'));
    await store.alerts.gather(settings());
    await store.alerts.abandon({ kinds: drifted, endpoint }, 'nothing watches it any more');
    expect(await store.alerts.raise(alert('a'))).toBe(id);
    expect(await store.alerts.get(id)).toMatchObject({ status: 'open', resolvedBecause: null });
  });
});

describe('what is over', () => {
  const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

  it('is forgotten with its messages and silences after the time it is kept; what goes on, or waits for a channel, is not', async () => {
    const channel = { name: `only ${endpoint}`, takes: ({ alerts }: AlertMessage) => (alerts ?? []).some((line) => line.endpoint === endpoint) };
    const tell = async (): Promise<void> => {
      await store.alerts.gather(settings());
      await store.alerts.spread([channel]);
    };
    const deliver = async (): Promise<void> => {
      for (
        let due = await store.alerts.claim(channel.name, { leaseSeconds: 60 });
        due !== null;
        due = await store.alerts.claim(channel.name, { leaseSeconds: 60 })
      )
        await store.alerts.delivered(due);
    };
    const [over, open] = [await store.alerts.raise(alert('over')), await store.alerts.raise(alert('open'))];
    await tell();
    await store.alerts.resolve(alert('over'));
    const ended = await store.alerts.silence({ endpoint, until: inAnHour(), by: 'ada', reason: 'moving' });
    await store.alerts.endSilence({ id: ended.id, by: 'ada' });
    const inForce = await store.alerts.silence({ subject: `nothing of ${endpoint}`, until: inAnHour(), by: 'ada', reason: 'later' });
    const silences = async () => (await store.alerts.silences({ all: true, limit: 1_000 })).map(({ id }) => id);

    // before that, and while a channel has yet to be told, all of it stays
    expect(await store.alerts.forget('2020-01-01T00:00:00.000Z')).toEqual({ alerts: 0, messages: 0, silences: 0 });
    await store.alerts.forget(inAnHour());
    expect((await store.alerts.get(over)).messages).toHaveLength(1);
    expect(await silences()).not.toContain(ended.id);
    expect(await silences()).toContain(inForce.id);

    await deliver();
    await tell();
    await store.alerts.forget(inAnHour());
    await expect(store.alerts.get(over)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const kept = await store.alerts.get(open);
    expect(kept).toMatchObject({ status: 'open' });
    // of the recovery one channel has not been told yet
    expect(kept.messages).toEqual([]);
    expect(await store.alerts.claim(channel.name, { leaseSeconds: 60 })).toMatchObject({ message: { alerts: [{ state: 'recovered', subject: 'over' }] } });
    await store.alerts.gather(settings());
    expect(await store.alerts.list({ endpoint })).toMatchObject([{ id: open, tellings: 1 }]);
  });
});
