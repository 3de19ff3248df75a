import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { localDay, localInstant } from '../../../contracts/local-time.ts';
import {
  RetrainRequestSchema,
  type RetrainingOutcome,
  type RetrainingSettingsInput,
  RetrainingSettingsSchema,
  type TriggerEntry,
} from '../../../contracts/retraining.ts';
import {
  createRetrainingState,
  decideRetraining,
  type RetrainingDecision,
  type RetrainingEvent,
  type RetrainingState,
  retrainingStatus,
} from '../../../contracts/retraining-decision.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const T0 = Date.parse('2026-03-02T10:00:00Z');
const FINAL = new Set(['serving', 'completed', 'rejected', 'failed', 'cancelled', 'refused', 'merged']);

const begin = (settings: RetrainingSettingsInput = {}): RetrainingState => createRetrainingState('p-retrain', RetrainingSettingsSchema.parse(settings));
const trigger = (stated: object = {}): RetrainingEvent => ({
  kind: 'trigger',
  request: RetrainRequestSchema.parse({ reason: 'new data', source: 'a test', ...stated }),
});
const ended = (fate: RetrainingOutcome['fate'], beganMs: number, trainingMs = MINUTE_MS): RetrainingEvent => ({
  kind: 'ended',
  outcome: { fate, because: `it ${fate}`, runId: 'r', beganMs, endedMs: beganMs + trainingMs, gatesMs: 0, rolloutMs: 0 },
});
/** Applies events at times after T0, and gives the last decision. */
function play(state: RetrainingState, events: readonly (readonly [atMs: number, event: RetrainingEvent])[]): RetrainingDecision {
  let decision = decideRetraining(state, { kind: 'tick' }, T0);
  for (const [atMs, event] of events) decision = decideRetraining(decision.state, event, T0 + atMs);
  return decision;
}
const entriesOf = ({ ledger, inFlight, waiting }: RetrainingState): readonly TriggerEntry[] => [...ledger, ...(inFlight?.entries ?? []), ...waiting];

describe('a retraining', () => {
  it('begins at once when nothing speaks against it, and carries every reason once', () => {
    expect(play(begin(), [[0, trigger()]]).start).toMatchObject({ workflowId: 'p-retrain-1', entries: [{ number: 1, fate: 'running', because: 'new data' }] });
    const { start } = play(begin({ coolDownMs: 0 }), [
      [0, trigger()],
      [1, trigger({ reason: 'drift' })],
      [2, trigger({ reason: 'drift', source: 'another' })],
      [3, trigger({ reason: 'nightly' })],
      [4, ended('serving', T0)],
    ]);
    expect(start?.entries.map(({ number }) => number)).toEqual([2, 3, 4]);
    expect(start?.entries[0]?.because).toBe('drift; nightly');
  });

  it('waits for the cool-down after the last one began, and says until when', () => {
    const held = play(begin({ coolDownMs: HOUR_MS }), [
      [0, trigger()],
      [MINUTE_MS, ended('completed', T0)],
      [2 * MINUTE_MS, trigger()],
    ]);
    expect(held.start).toBeNull();
    expect(held.wakeAtMs).toBe(T0 + HOUR_MS);
    expect(held.changed).toMatchObject([{ because: 'cool-down until 2026-03-02T11:00:00.000Z', heldBy: [{ by: 'cool-down' }] }]);
    expect(retrainingStatus(held.state, 'p', T0 + 3 * MINUTE_MS)).toMatchObject({ waiting: { heldBy: 'cool-down', until: '2026-03-02T11:00:00.000Z' } });
    expect(decideRetraining(held.state, { kind: 'tick' }, T0 + HOUR_MS - 1).start).toBeNull();
    expect(decideRetraining(held.state, { kind: 'tick' }, T0 + HOUR_MS).start).not.toBeNull();
  });

  it('is asked for again by a condition only after it has recovered, or after the stated time', () => {
    const drift = { source: 'monitor/e', condition: 'drift of x' };
    const settings = { coolDownMs: 0, refireAfterMs: 10 * HOUR_MS };
    const first = play(begin(settings), [
      [0, trigger(drift)],
      [1, ended('serving', T0)],
    ]);
    const again = decideRetraining(first.state, trigger(drift), T0 + HOUR_MS);
    expect(again.start).toBeNull();
    expect(again.changed).toMatchObject([{ fate: 'refused', because: expect.stringContaining('has not recovered since') as string }]);
    expect(decideRetraining(again.state, trigger({ ...drift, source: 'monitor/f' }), T0 + HOUR_MS).start).not.toBeNull();
    const recovered = decideRetraining(again.state, trigger({ ...drift, recovered: true }), T0 + 2 * HOUR_MS);
    expect(recovered.state.triggers).toBe(again.state.triggers);
    expect(decideRetraining(recovered.state, trigger(drift), T0 + 3 * HOUR_MS).start).not.toBeNull();
    expect(decideRetraining(again.state, trigger(drift), T0 + 10 * HOUR_MS).start).not.toBeNull();
  });

  it('answers what arose before it began: what a schedule makes up for does not flood', () => {
    const missed = Array.from(
      { length: 12 },
      (_, hour) => [hour, trigger({ key: `k${String(hour)}`, at: new Date(T0 - (12 - hour) * HOUR_MS).toISOString() })] as const,
    );
    const running = play(begin(), missed);
    expect(running.state.inFlight?.entries).toHaveLength(12);
    expect(running.state.waiting).toEqual([]);
    const late = decideRetraining(play(begin(), [...missed, [20, ended('serving', T0)]]).state, trigger({ at: new Date(T0 - HOUR_MS).toISOString() }), T0 + 30);
    expect(late.changed).toMatchObject([{ fate: 'merged', mergedInto: 1, workflowId: 'p-retrain-1' }]);
  });

  it('backs off after failures in a row, bounded, and asks for an experiment once', () => {
    let state = begin({ coolDownMs: 0, backOff: { firstMs: MINUTE_MS, factor: 3, mostMs: 5 * MINUTE_MS }, experimentAfter: 3 });
    let nowMs = T0;
    const rests: number[] = [];
    const asked: boolean[] = [];
    for (let n = 0; n < 4; n++) {
      ({ state } = decideRetraining(state, trigger(), nowMs));
      const end = decideRetraining(state, ended(n === 2 ? 'rejected' : 'failed', nowMs), nowMs);
      rests.push((end.setback?.untilMs ?? 0) - nowMs);
      asked.push(end.requestExperiment);
      ({ state } = end);
      expect(decideRetraining(state, trigger(), nowMs + 1).changed).toMatchObject([{ heldBy: [{ by: 'back-off' }] }]);
      nowMs += 6 * MINUTE_MS;
    }
    expect(rests).toEqual([MINUTE_MS, 3 * MINUTE_MS, 5 * MINUTE_MS, 5 * MINUTE_MS]);
    expect(asked).toEqual([false, false, true, false]);
    const well = decideRetraining(decideRetraining(state, trigger(), nowMs).state, ended('serving', nowMs), nowMs);
    expect(well).toMatchObject({ recovered: true, setback: null, state: { failures: 0, experimentRequested: false, backOffUntilMs: null } });
  });

  it('splits the time from each trigger to serving by what it was spent on', () => {
    const { state } = play(begin(), [
      [0, trigger({ at: new Date(T0 - HOUR_MS).toISOString() })],
      [1, { kind: 'ended', outcome: { fate: 'serving', because: '', runId: 'r', beganMs: T0 + 10, endedMs: T0 + 110, gatesMs: 30, rolloutMs: 20 } }],
    ]);
    expect(state.ledger[0]?.timing).toEqual({ totalMs: HOUR_MS + 110, waitingMs: HOUR_MS + 10, trainingMs: 50, gatesMs: 30, rolloutMs: 20 });
  });
});

describe('the budget of a day', () => {
  it('ends at midnight of its time zone', () => {
    // 10:00 UTC is 15:30 in Kolkata: its midnight is 18:30 UTC
    const held = play(begin({ coolDownMs: 0, budget: { runs: 1, timeZone: 'Asia/Kolkata' } }), [
      [0, trigger()],
      [1, ended('serving', T0)],
      [2, trigger()],
    ]);
    expect(new Date(held.wakeAtMs ?? 0).toISOString()).toBe('2026-03-02T18:30:00.000Z');
    expect(held.changed).toMatchObject([{ heldBy: [{ by: 'budget' }] }]);
  });

  it('of minutes lets no run begin that would exceed it, if it takes as long as the last one', () => {
    const twenty = (atMs: number): readonly (readonly [number, RetrainingEvent])[] => [
      [atMs, trigger()],
      [atMs + 20 * MINUTE_MS, ended('serving', T0 + atMs, 20 * MINUTE_MS)],
    ];
    const settings = { coolDownMs: 0, budget: { minutes: 50 } };
    expect(play(begin(settings), [...twenty(0), ...twenty(HOUR_MS), [2 * HOUR_MS, trigger()]]).start).toBeNull();
    expect(play(begin({ ...settings, budget: { minutes: 60 } }), [...twenty(0), ...twenty(HOUR_MS), [2 * HOUR_MS, trigger()]]).start).not.toBeNull();
  });
});

describe('quiet hours', () => {
  const berlin = { timeZone: 'Europe/Berlin' };
  const wake = (settings: RetrainingSettingsInput, at: string): string | null => {
    const { start, wakeAtMs } = decideRetraining(begin(settings), trigger(), Date.parse(at));
    return start === null ? new Date(wakeAtMs ?? 0).toISOString() : null;
  };

  it('go across midnight, on the days on which they begin', () => {
    const quietHours = [{ from: '22:00', to: '06:00', days: ['fri' as const], ...berlin }];
    expect(wake({ quietHours }, '2026-01-16T20:59:59Z')).toBeNull();
    expect(wake({ quietHours }, '2026-01-16T21:00:00Z')).toBe('2026-01-17T05:00:00.000Z');
    expect(wake({ quietHours }, '2026-01-17T04:59:59Z')).toBe('2026-01-17T05:00:00.000Z');
    expect(wake({ quietHours }, '2026-01-17T21:00:00Z')).toBeNull();
  });

  it('are as long as clocks make them when those are changed', () => {
    const night = [{ from: '22:00', to: '06:00', ...berlin }];
    expect(wake({ quietHours: night }, '2026-03-28T21:30:00Z')).toBe('2026-03-29T04:00:00.000Z');
    expect(wake({ quietHours: night }, '2026-10-24T20:30:00Z')).toBe('2026-10-25T05:00:00.000Z');
    // 02:30 does not come on the 29th of March, and comes twice on the 25th of October
    const short = [{ from: '02:30', to: '03:30', ...berlin }];
    expect(wake({ quietHours: short }, '2026-10-25T00:30:00Z')).toBe('2026-10-25T02:30:00.000Z');
    expect(wake({ quietHours: short }, '2026-03-29T01:00:00Z')).toBeNull();
  });

  it('that meet the end of another limit put the run off until they too are over', () => {
    const settings = {
      coolDownMs: HOUR_MS,
      quietHours: [
        { from: '10:30', to: '12:00' },
        { from: '12:00', to: '12:15' },
      ],
    };
    const held = play(begin(settings), [
      [0, trigger()],
      [1, ended('serving', T0)],
      [2, trigger()],
    ]);
    expect(held.changed).toMatchObject([{ heldBy: [{ by: 'cool-down' }] }]);
    expect(new Date(held.wakeAtMs ?? 0).toISOString()).toBe('2026-03-02T12:15:00.000Z');
  });
});

describe('settings', () => {
  it('that are configured win over those of the definition, until they are reset', () => {
    const configured = decideRetraining(begin({ coolDownMs: HOUR_MS }), { kind: 'configured', settings: { coolDownMs: 1 } }, T0).state;
    expect(configured.policy.coolDownMs).toBe(1);
    const defined = decideRetraining(configured, { kind: 'defined', settings: { coolDownMs: 2, refireAfterMs: 3 } }, T0).state;
    expect(defined.policy).toMatchObject({ coolDownMs: 1, refireAfterMs: 3 });
    expect(decideRetraining(defined, { kind: 'configured', settings: {}, reset: ['coolDownMs'] }, T0).state.policy.coolDownMs).toBe(2);
  });
});

describe('whatever happens', () => {
  const step = fc.record({
    afterMs: fc.oneof(fc.nat({ max: 5 * MINUTE_MS }), fc.nat({ max: 12 * HOUR_MS }), fc.constant(-HOUR_MS)),
    what: fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('trigger'),
          key: fc.option(fc.nat({ max: 20 })),
          condition: fc.option(fc.nat({ max: 2 })),
          recovered: fc.boolean(),
          agoMs: fc.option(fc.nat({ max: 3 * HOUR_MS })),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('ended'),
          fate: fc.constantFrom<RetrainingOutcome['fate']>('serving', 'completed', 'failed', 'rejected', 'cancelled'),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('paused', 'resumed', 'tick', 'requestClosed') }) },
    ),
  });

  it('there are never two in flight, no trigger is lost, and no limit is broken', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 120 }),
        fc.record({
          coolDownMs: fc.nat({ max: 2 * HOUR_MS }),
          runs: fc.integer({ min: 1, max: 4 }),
          zone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York'),
        }),
        (steps, { coolDownMs, runs, zone }) => {
          const quiet = { from: '23:00', to: '05:00', timeZone: zone };
          let state = begin({ coolDownMs, budget: { runs, timeZone: zone }, quietHours: [quiet] });
          let nowMs = T0;
          let seenMs = 0;
          const alarm: { atMs: number | null } = { atMs: null };
          const starts: number[] = [];
          const fates = new Map<number, TriggerEntry>();
          const apply = (event: RetrainingEvent, atMs: number): void => {
            const before = state;
            const decision = decideRetraining(state, event, atMs);
            seenMs = Math.max(seenMs, atMs);
            ({ state } = decision);
            alarm.atMs = decision.wakeAtMs;
            if (decision.start !== null) {
              expect(before.inFlight === null || event.kind === 'ended').toBe(true);
              expect(state.inFlight?.workflowId).toBe(decision.start.workflowId);
              expect(state.paused).toBe(false);
              expect(seenMs - (starts.at(-1) ?? -Infinity)).toBeGreaterThanOrEqual(coolDownMs);
              starts.push(seenMs);
              const day = (ms: number): string => JSON.stringify(localDay(ms, zone));
              expect(starts.filter((at) => day(at) === day(seenMs)).length).toBeLessThanOrEqual(runs);
              const midnight = localInstant(localDay(seenMs, zone), 0, zone);
              expect(seenMs >= localInstant(localDay(seenMs, zone), 5 * 60, zone) && seenMs < localInstant(localDay(midnight, zone), 23 * 60, zone)).toBe(true);
            }
            for (const entry of decision.changed) {
              const known = fates.get(entry.number);
              if (known !== undefined && FINAL.has(known.fate)) expect(entry.fate).toBe(known.fate);
              fates.set(entry.number, entry);
            }
          };
          for (const { afterMs, what } of steps) {
            const next = nowMs + afterMs;
            if (alarm.atMs !== null && alarm.atMs <= next) apply({ kind: 'tick' }, alarm.atMs);
            nowMs = next;
            if (what.kind === 'ended' && 'fate' in what) apply(ended(what.fate, nowMs), nowMs);
            else if (what.kind === 'trigger' && 'agoMs' in what)
              apply(
                trigger({
                  ...(what.key === null ? {} : { key: String(what.key) }),
                  ...(what.condition === null ? {} : { condition: `c${String(what.condition)}`, recovered: what.recovered }),
                  ...(what.agoMs === null ? {} : { at: new Date(nowMs - what.agoMs).toISOString() }),
                }),
                nowMs,
              );
            else apply({ kind: what.kind as 'tick' }, nowMs);
          }
          // what is left comes to its end
          apply({ kind: 'resumed' }, seenMs);
          for (let round = 0; round < 20 && (state.inFlight !== null || state.waiting.length > 0); round++) {
            if (state.inFlight !== null) apply(ended('serving', seenMs), seenMs);
            else apply({ kind: 'tick' }, alarm.atMs ?? seenMs);
          }
          expect(entriesOf(state).every(({ fate }) => FINAL.has(fate))).toBe(true);
          expect([...fates.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: state.triggers }, (_, i) => i + 1));
          expect([...fates.values()].filter(({ fate }) => !FINAL.has(fate))).toEqual([]);
        },
      ),
      { numRuns: 150, seed: 7 },
    );
  });

  it('a flood stays small, and its last trigger names the one whose fate it shares', () => {
    let state = decideRetraining(begin(), { kind: 'paused' }, T0).state;
    for (let i = 0; i < 1_500; i++) ({ state } = decideRetraining(state, trigger({ key: `k${String(i)}` }), T0 + i));
    expect(state.waiting).toHaveLength(300);
    expect(state.ledger.at(-1)).toMatchObject({ number: 1_500, fate: 'merged', mergedInto: 1 });
    expect(JSON.stringify(state).length).toBeLessThan(500_000);
  });
});
