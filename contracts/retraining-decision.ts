import { addDays, localDay, type LocalDay, localInstant, weekdayOf } from './local-time.ts';
import {
  type Hold,
  type QuietHours,
  type RetrainingOutcome,
  type RetrainingPolicy,
  RetrainingPolicySchema,
  type RetrainingSettings,
  type RetrainingStatus,
  type RetrainRequest,
  type TriggerEntry,
  WEEKDAYS,
} from './retraining.ts';

/**
 * What the controller of a pipeline's retraining decides: a pure function of its state, what happens, and the clock. The
 * controller's workflow acts on it; the backtest replays policies with it.
 *
 * Invariants:
 * 1. One run in flight at most. What comes meanwhile waits together for the next.
 * 2. Every trigger has one entry, which reaches one final fate; a key that was seen is not another trigger.
 * 3. No run begins while paused, within the cool-down or the back-off, in quiet hours, or beyond the day's budget.
 * 4. Time never runs backwards: an event with an earlier clock is taken as of the latest one seen.
 * 5. The state is bounded, and is plain JSON.
 */
export interface RetrainingState {
  /** Workflow ids of runs are made of it and the run's number. */
  readonly runPrefix: string;
  readonly defined: RetrainingSettings;
  readonly configured: RetrainingSettings;
  readonly policy: RetrainingPolicy;
  readonly paused: boolean;
  readonly clockMs: number;
  /** Triggers and runs so far. */
  readonly triggers: number;
  readonly runs: number;
  readonly waiting: readonly TriggerEntry[];
  readonly inFlight: { readonly workflowId: string; readonly startedMs: number; readonly entries: readonly TriggerEntry[] } | null;
  /** Entries with a final fate, oldest first. */
  readonly ledger: readonly TriggerEntry[];
  readonly keys: readonly string[];
  readonly conditions: readonly { readonly source: string; readonly condition: string; readonly sinceMs: number }[];
  readonly lastRun: {
    readonly workflowId: string;
    readonly startedMs: number;
    readonly ranWell: boolean;
    readonly trigger: number;
    readonly runId: string | null;
  } | null;
  /** Runs of the last days, for the budget. */
  readonly spent: readonly { readonly startedMs: number; readonly trainingMs: number }[];
  readonly failures: number;
  readonly backOffUntilMs: number | null;
  readonly experimentRequested: boolean;
}

export type RetrainingEvent =
  /** A request; one with `recovered` says that a condition is over. */
  | { readonly kind: 'trigger'; readonly request: RetrainRequest }
  | { readonly kind: 'ended'; readonly outcome: RetrainingOutcome }
  | { readonly kind: 'defined'; readonly settings: RetrainingSettings }
  | { readonly kind: 'configured'; readonly settings: RetrainingSettings; readonly reset?: readonly (keyof RetrainingSettings)[] }
  | { readonly kind: 'paused' | 'resumed' }
  /** A person has closed the experiment request. */
  | { readonly kind: 'requestClosed' }
  /** Time has passed. */
  | { readonly kind: 'tick' };

export interface RetrainingDecision {
  readonly state: RetrainingState;
  /** Entries that are new or have changed. */
  readonly changed: readonly TriggerEntry[];
  /** The run to start now; `state` holds it in flight already. */
  readonly start: { readonly workflowId: string; readonly entries: readonly TriggerEntry[] } | null;
  /** A retraining that failed or was rejected: `state` backs off. */
  readonly setback: {
    readonly fate: 'failed' | 'rejected';
    readonly because: string;
    readonly workflowId: string;
    readonly failures: number;
    readonly untilMs: number;
  } | null;
  /** A retraining went well after setbacks. */
  readonly recovered: boolean;
  /** So many setbacks in a row that a person should look: opened by this event. */
  readonly requestExperiment: boolean;
  /** When to come again with a `tick`; null: not before something else happens. */
  readonly wakeAtMs: number | null;
}

/** Entries that wait, or go with one run; what comes beyond is merged into the first of them. */
const MOST_WAITING = 300;
const LEDGER_LENGTH = 100;
const MOST_KEYS = 1_000;
const MOST_CONDITIONS = 200;
const MOST_HOLDS = 8;
const REASON_LENGTH = 300;
const SPENT_FOR_MS = 3 * 86_400_000;

export function createRetrainingState(runPrefix: string, defined: RetrainingSettings = {}): RetrainingState {
  return {
    runPrefix,
    defined,
    configured: {},
    policy: RetrainingPolicySchema.parse(defined),
    paused: false,
    clockMs: 0,
    triggers: 0,
    runs: 0,
    waiting: [],
    inFlight: null,
    ledger: [],
    keys: [],
    conditions: [],
    lastRun: null,
    spent: [],
    failures: 0,
    backOffUntilMs: null,
    experimentRequested: false,
  };
}

/** The state after the event, and what is to be done about it. */
export function decideRetraining(before: RetrainingState, event: RetrainingEvent, clockMs: number): RetrainingDecision {
  const nowMs = Math.max(before.clockMs, clockMs);
  const state = { ...before, clockMs: nowMs };
  switch (event.kind) {
    case 'trigger':
      return event.request.recovered === true ? advance(recover(state, event.request.source, event.request.condition)) : takeTrigger(state, event.request);
    case 'ended':
      return takeEnd(state, event.outcome);
    case 'defined':
      return advance(withSettings({ ...state, defined: event.settings }));
    case 'configured': {
      const reset = new Set<string>(event.reset ?? []);
      const kept = Object.fromEntries(Object.entries(state.configured).filter(([field]) => !reset.has(field)));
      return advance(withSettings({ ...state, configured: { ...kept, ...event.settings } }));
    }
    case 'paused':
    case 'resumed':
      return advance({ ...state, paused: event.kind === 'paused' });
    case 'requestClosed':
      return advance({ ...state, experimentRequested: false, failures: 0 });
    case 'tick':
      return advance(state);
  }
}

/** What `decideRetraining` would tell a person now. */
export function retrainingStatus(state: RetrainingState, pipeline: string, clockMs: number): RetrainingStatus {
  const nowMs = Math.max(state.clockMs, clockMs);
  const hold = state.waiting.length === 0 ? null : heldBy({ ...state, clockMs: nowMs });
  const today = spentToday(state, nowMs);
  return {
    pipeline,
    paused: state.paused,
    policy: state.policy,
    inFlight:
      state.inFlight === null ? null : { workflowId: state.inFlight.workflowId, since: iso(state.inFlight.startedMs), triggers: state.inFlight.entries.length },
    waiting:
      state.waiting.length === 0 ? null : { triggers: state.waiting.length, heldBy: hold?.by ?? null, until: hold?.untilMs == null ? null : iso(hold.untilMs) },
    failures: state.failures,
    backOffUntil: state.backOffUntilMs !== null && state.backOffUntilMs > nowMs ? iso(state.backOffUntilMs) : null,
    today: { runs: today.runs, minutes: today.trainingMs / 60_000 },
    conditions: state.conditions.map(({ source, condition, sinceMs }) => ({ source, condition, since: iso(sinceMs) })),
    experimentRequested: state.experimentRequested,
  };
}

function takeTrigger(state: RetrainingState, request: RetrainRequest): RetrainingDecision {
  if (request.key !== undefined && state.keys.includes(request.key)) return again(state, request.key);
  const nowMs = state.clockMs;
  const arose = request.at === undefined ? nowMs : Math.min(Date.parse(request.at), nowMs);
  const entry: TriggerEntry = {
    number: state.triggers + 1,
    key: request.key ?? null,
    source: request.source,
    reason: request.reason.slice(0, REASON_LENGTH),
    condition: request.condition ?? null,
    at: iso(arose),
    receivedAt: iso(nowMs),
    times: 1,
    fate: 'waiting',
    because: '',
    heldBy: [],
    workflowId: null,
    runId: null,
    mergedInto: null,
    settledAt: null,
    timing: null,
  };
  const noted: RetrainingState = {
    ...state,
    triggers: entry.number,
    keys: request.key === undefined ? state.keys : [...state.keys, request.key].slice(-MOST_KEYS),
  };

  const { condition } = entry;
  if (condition !== null) {
    const fired = state.conditions.find((c) => c.source === entry.source && c.condition === condition);
    const againMs = fired === undefined ? null : fired.sinceMs + state.policy.refireAfterMs;
    if (fired !== undefined && againMs !== null && nowMs < againMs)
      return settled(noted, entry, {
        fate: 'refused',
        because: `it fired at ${iso(fired.sinceMs)} and has not recovered since; it counts again after that, or from ${iso(againMs)} on`,
      });
  }
  const raised =
    condition === null
      ? noted
      : {
          ...noted,
          conditions: [
            ...noted.conditions.filter((c) => c.source !== entry.source || c.condition !== condition),
            { source: entry.source, condition, sinceMs: nowMs },
          ].slice(-MOST_CONDITIONS),
        };

  const { inFlight, lastRun } = state;
  if (inFlight !== null && arose < inFlight.startedMs) {
    if (inFlight.entries.length >= MOST_WAITING) return mergedInto(raised, entry, inFlight.entries[0]);
    const joined: TriggerEntry = { ...entry, fate: 'running', because: 'its run began after it arose', workflowId: inFlight.workflowId };
    return advance({ ...raised, inFlight: { ...inFlight, entries: [...inFlight.entries, joined] } }, [joined]);
  }
  if (inFlight === null && lastRun?.ranWell === true && arose < lastRun.startedMs)
    return settled(raised, entry, {
      fate: 'merged',
      because: `${lastRun.workflowId}, which began after it arose, has answered it`,
      mergedInto: lastRun.trigger,
      workflowId: lastRun.workflowId,
      runId: lastRun.runId,
    });
  if (state.waiting.length >= MOST_WAITING) return mergedInto(raised, entry, state.waiting[0]);
  return advance({ ...raised, waiting: [...raised.waiting, entry] }, [entry]);
}

/** The same trigger once more: it counts once. */
function again(state: RetrainingState, key: string): RetrainingDecision {
  const changed: TriggerEntry[] = [];
  const count = (entries: readonly TriggerEntry[]): readonly TriggerEntry[] =>
    entries.map((entry) => {
      if (entry.key !== key) return entry;
      const counted = { ...entry, times: entry.times + 1 };
      changed.push(counted);
      return counted;
    });
  const { inFlight } = state;
  return advance(
    {
      ...state,
      waiting: count(state.waiting),
      ledger: count(state.ledger),
      inFlight: inFlight === null ? null : { ...inFlight, entries: count(inFlight.entries) },
    },
    changed,
  );
}

function mergedInto(state: RetrainingState, entry: TriggerEntry, first: TriggerEntry | undefined): RetrainingDecision {
  const into = first?.number ?? null;
  return settled(state, entry, {
    fate: 'merged',
    because: `${String(MOST_WAITING)} triggers go with one run already: its fate is that of trigger ${String(into)}`,
    mergedInto: into,
  });
}

function settled(
  state: RetrainingState,
  entry: TriggerEntry,
  end: Pick<TriggerEntry, 'fate' | 'because'> & Partial<Pick<TriggerEntry, 'mergedInto' | 'workflowId' | 'runId'>>,
): RetrainingDecision {
  const done: TriggerEntry = { ...entry, ...end, settledAt: iso(state.clockMs) };
  return advance({ ...state, ledger: [...state.ledger, done].slice(-LEDGER_LENGTH) }, [done]);
}

function recover(state: RetrainingState, source: string, condition?: string): RetrainingState {
  return { ...state, conditions: state.conditions.filter((c) => c.source !== source || (condition !== undefined && c.condition !== condition)) };
}

function withSettings(state: RetrainingState): RetrainingState {
  return { ...state, policy: RetrainingPolicySchema.parse({ ...state.defined, ...state.configured }) };
}

function takeEnd(state: RetrainingState, outcome: RetrainingOutcome): RetrainingDecision {
  const { inFlight, clockMs: nowMs, policy } = state;
  if (inFlight === null) return advance(state);
  const { fate, because, runId } = outcome;
  const done = inFlight.entries.map(
    (entry): TriggerEntry => ({ ...entry, fate, because, runId, settledAt: iso(nowMs), timing: timingOf(Date.parse(entry.at), outcome) }),
  );
  const ranWell = fate === 'serving' || fate === 'completed';
  const failures = ranWell ? 0 : fate === 'cancelled' ? state.failures : state.failures + 1;
  const setback = fate === 'failed' || fate === 'rejected' ? fate : null;
  const untilMs =
    setback === null ? null : nowMs + Math.min(policy.backOff.firstMs * policy.backOff.factor ** Math.min(failures - 1, 100), policy.backOff.mostMs);
  const requestExperiment = setback !== null && !state.experimentRequested && policy.experimentAfter !== null && failures >= policy.experimentAfter;
  // what a failed run was to mend is not mended: it may ask again; what people or guards refused is as they left it
  const conditions =
    fate === 'failed' || fate === 'cancelled'
      ? state.conditions.filter((c) => !inFlight.entries.some((entry) => entry.source === c.source && entry.condition === c.condition))
      : state.conditions;
  const next = advance(
    {
      ...state,
      inFlight: null,
      ledger: [...state.ledger, ...done].slice(-LEDGER_LENGTH),
      lastRun: { workflowId: inFlight.workflowId, startedMs: inFlight.startedMs, ranWell, trigger: inFlight.entries[0]?.number ?? 0, runId },
      spent: state.spent.map((run, i) => (i === state.spent.length - 1 ? { ...run, trainingMs: trainingMsOf(outcome) } : run)),
      failures,
      conditions,
      backOffUntilMs: ranWell ? null : (untilMs ?? state.backOffUntilMs),
      experimentRequested: !ranWell && (state.experimentRequested || requestExperiment),
    },
    done,
  );
  return {
    ...next,
    setback: setback === null || untilMs === null ? null : { fate: setback, because, workflowId: inFlight.workflowId, failures, untilMs },
    recovered: ranWell && state.failures > 0,
    requestExperiment,
  };
}

const trainingMsOf = ({ beganMs, endedMs, gatesMs, rolloutMs }: RetrainingOutcome): number => Math.max(0, endedMs - beganMs - gatesMs - rolloutMs);

function timingOf(aroseMs: number, outcome: RetrainingOutcome): TriggerEntry['timing'] {
  const { beganMs, gatesMs, rolloutMs } = outcome;
  // of one that arose while its run was on its way, by its own clock, nothing was waited for
  const waitingMs = Math.max(0, beganMs - aroseMs);
  const trainingMs = trainingMsOf(outcome);
  return { totalMs: waitingMs + trainingMs + gatesMs + rolloutMs, waitingMs, trainingMs, gatesMs, rolloutMs };
}

/** Starts what waits, where it may; else notes what holds it up, and when to look again. */
function advance(state: RetrainingState, changed: readonly TriggerEntry[] = []): RetrainingDecision {
  const nothing = { start: null, setback: null, recovered: false, requestExperiment: false, wakeAtMs: null } as const;
  if (state.waiting.length === 0) return { ...nothing, state, changed };
  const hold = heldBy(state);
  if (hold !== null) {
    const waiting = state.waiting.map((entry) => held(entry, hold, state.clockMs));
    const news = new Map([...changed, ...waiting.filter((entry, i) => entry !== state.waiting[i])].map((entry) => [entry.number, entry]));
    return { ...nothing, state: { ...state, waiting }, changed: [...news.values()], wakeAtMs: hold.untilMs };
  }
  const runs = state.runs + 1;
  const workflowId = `${state.runPrefix}-${String(runs)}`;
  const because = reasonsOf(state.waiting);
  const entries = state.waiting.map((entry): TriggerEntry => ({ ...entry, fate: 'running', because, workflowId }));
  const news = new Map([...changed, ...entries].map((entry) => [entry.number, entry]));
  return {
    ...nothing,
    state: {
      ...state,
      runs,
      waiting: [],
      inFlight: { workflowId, startedMs: state.clockMs, entries },
      spent: [...state.spent.filter(({ startedMs }) => startedMs > state.clockMs - SPENT_FOR_MS), { startedMs: state.clockMs, trainingMs: 0 }],
    },
    changed: [...news.values()],
    start: { workflowId, entries },
  };
}

/** The reasons of a run, each said once: `distance drifted; nightly`. At most 2,000 characters. */
export function reasonsOf(entries: readonly TriggerEntry[]): string {
  const reasons = [...new Set(entries.map(({ reason }) => reason))];
  const shown = reasons.slice(0, 6);
  return `${shown.join('; ')}${reasons.length > shown.length ? `; and ${String(reasons.length - shown.length)} more reasons` : ''}`.slice(0, 2_000);
}

interface Held {
  readonly by: Hold;
  readonly because: string;
  /** When a run may begin, as things are; null: not before something else happens. */
  readonly untilMs: number | null;
}

function held(entry: TriggerEntry, { by, because }: Held, nowMs: number): TriggerEntry {
  const isNew = entry.heldBy.at(-1)?.by !== by;
  if (!isNew && entry.because === because) return entry;
  return { ...entry, because, heldBy: isNew ? [...entry.heldBy, { by, since: iso(nowMs) }].slice(-MOST_HOLDS) : entry.heldBy };
}

/** What keeps a run from beginning now; null when it may. */
function heldBy(state: RetrainingState): Held | null {
  if (state.inFlight !== null) return { by: 'in flight', because: `${state.inFlight.workflowId} is in flight`, untilMs: null };
  if (state.paused) return { by: 'paused', because: 'retraining is paused', untilMs: null };
  const first = limitAt(state, state.clockMs);
  if (first === null) return null;
  let at: number | null = first.untilMs;
  // each limit that ends may meet the next: a cool-down that ends in quiet hours
  for (let step = 0; at !== null && step < 1_000; step++) {
    const next = limitAt(state, at);
    if (next === null) return { ...first, untilMs: at };
    at = next.untilMs;
  }
  return { ...first, untilMs: null };
}

function limitAt({ policy, backOffUntilMs, inFlight, lastRun, failures, spent }: RetrainingState, atMs: number): Held | null {
  if (backOffUntilMs !== null && atMs < backOffUntilMs)
    return {
      by: 'back-off',
      because: `back-off until ${iso(backOffUntilMs)}, after ${String(failures)} in a row that did not end well`,
      untilMs: backOffUntilMs,
    };
  const lastStartedMs = inFlight?.startedMs ?? lastRun?.startedMs;
  const coolMs = lastStartedMs === undefined ? 0 : lastStartedMs + policy.coolDownMs;
  if (atMs < coolMs) return { by: 'cool-down', because: `cool-down until ${iso(coolMs)}`, untilMs: coolMs };
  const { budget } = policy;
  const today = spentToday({ policy, spent }, atMs);
  const expectedMs = spent.at(-1)?.trainingMs ?? 0;
  const isOver =
    (budget.runs !== null && today.runs >= budget.runs) ||
    (budget.minutes !== null && (budget.minutes === 0 || (today.runs > 0 && today.trainingMs + expectedMs > budget.minutes * 60_000)));
  if (isOver) {
    const untilMs = localInstant(addDays(localDay(atMs, budget.timeZone), 1), 0, budget.timeZone);
    const limits = [budget.runs === null ? [] : [`${String(budget.runs)} runs`], budget.minutes === null ? [] : [`${String(budget.minutes)} minutes`]].flat();
    const never = budget.runs === 0 || budget.minutes === 0;
    return {
      by: 'budget',
      because: `the day's budget of ${limits.join(' and ')} is spent${never ? '' : `, until ${iso(untilMs)}`}`,
      untilMs: never ? null : untilMs,
    };
  }
  const quietUntilMs = policy.quietHours.reduce<number | null>((latest, quiet) => later(latest, endOfQuiet(quiet, atMs)), null);
  return quietUntilMs === null ? null : { by: 'quiet hours', because: `quiet hours until ${iso(quietUntilMs)}`, untilMs: quietUntilMs };
}

const later = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.max(a, b));

function spentToday({ policy, spent }: Pick<RetrainingState, 'policy' | 'spent'>, atMs: number): { readonly runs: number; readonly trainingMs: number } {
  const { timeZone } = policy.budget;
  const today = localDay(atMs, timeZone);
  const of = spent.filter(({ startedMs }) => sameDay(localDay(startedMs, timeZone), today));
  return { runs: of.length, trainingMs: of.reduce((sum, run) => sum + run.trainingMs, 0) };
}

const sameDay = (a: LocalDay, b: LocalDay): boolean => a.year === b.year && a.month === b.month && a.day === b.day;

/** When the quiet hours that hold at this instant end; null when none do. */
function endOfQuiet({ from, to, days, timeZone }: QuietHours, atMs: number): number | null {
  const today = localDay(atMs, timeZone);
  const [begin, end] = [minutesOf(from), minutesOf(to)];
  let untilMs: number | null = null;
  for (const back of [1, 0]) {
    const day = addDays(today, -back);
    if (!days.includes(WEEKDAYS[weekdayOf(day)] ?? 'sun')) continue;
    const startMs = localInstant(day, begin, timeZone, 'first');
    const endMs = localInstant(addDays(day, end <= begin ? 1 : 0), end, timeZone, 'second');
    if (startMs <= atMs && atMs < endMs) untilMs = later(untilMs, endMs);
  }
  return untilMs;
}

const minutesOf = (time: string): number => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));
const iso = (ms: number): string => new Date(ms).toISOString();
