import {
  allHandlersFinished,
  condition,
  continueAsNew,
  isCancellation,
  log,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { RetrainingActivities } from '../activities/types.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { ConfigureRetrainingSchema, type LedgerWrite, type RetrainRequest, RetrainRequestSchema, type TriggerEntry } from '../contracts/retraining.ts';
import {
  createRetrainingState,
  decideRetraining,
  type RetrainingDecision,
  type RetrainingEvent,
  type RetrainingState,
  retrainingStatus,
} from '../contracts/retraining-decision.ts';
import { createAuthorize } from './authorize.ts';
import { type EarlierCarry, earlierRetraining } from './earlier-retraining.ts';
import { reportOf, toWorkflowFailure } from './failure.ts';
import {
  closeExperimentUpdate,
  configureUpdate,
  definedSignal,
  ledgerQuery,
  pauseRetrainingUpdate,
  resumeRetrainingUpdate,
  retrainSignal,
  stateQuery,
} from './retraining-messages.ts';

/**
 * The one controller of a pipeline's retraining: hears triggers, acts on what `decideRetraining` decides, keeps the ledger.
 *
 * Invariants:
 * 1. What is decided is decided at once, in the order in which it was heard; what follows from it is done one after the other.
 * 2. The ledger in Postgres comes to hold every entry as it is here; a run starts after its triggers are written.
 * 3. A retraining that fails ends its own run only: the champion serves on, and the controller lives.
 * 4. It continues as new long before its history is long, and carries its whole state.
 */
export interface RetrainingCarry {
  readonly state: RetrainingState;
  readonly revision: number;
}

/** Far from where Temporal ends a history, and from its limit of updates. */
const LONG_HISTORY = 4_000;
const SHOWN = 10;

const activities = proxyActivities<RetrainingActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '500ms', maximumInterval: '30s' },
});
const watch = proxyActivities<RetrainingActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '366 days',
  heartbeatTimeout: '10s',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
});

type Errand =
  | { readonly kind: 'start'; readonly start: NonNullable<RetrainingDecision['start']> }
  | { readonly kind: 'setback'; readonly setback: NonNullable<RetrainingDecision['setback']>; readonly requestExperiment: boolean }
  | { readonly kind: 'recovery'; readonly by: string | null; readonly comment: string };

export async function retraining(pipeline: string, carry?: RetrainingCarry | EarlierCarry): Promise<void> {
  // controllers live for months: one of before replays on what it ran on, and then hands over
  if (!patched('one entry a trigger')) {
    await earlierRetraining(pipeline, carry as EarlierCarry | undefined);
    return;
  }
  const controller = workflowInfo().firstExecutionRunId;
  let state = createRetrainingState(`${pipeline}-retrain-${controller.slice(0, 8)}`);
  let revision = 0;
  let decisions = 0;
  const alarm: { atMs: number | null } = { atMs: null };
  const unwritten = new Map<number, TriggerEntry>();
  const evidence = new Map<number, unknown>();
  const errands: Errand[] = [];

  const show = (): void => {
    const { waiting, inFlight, ledger, paused } = state;
    const lines = [...ledger, ...(inFlight?.entries ?? []), ...waiting]
      .slice(-SHOWN)
      .map((e) => `- ${String(e.number)} ${e.at} ${e.fate}: ${e.reason}. ${e.because}`);
    setCurrentDetails([`**${pipeline}**${paused ? ' (paused)' : ''}`, '', ...lines].join('\n'));
  };
  const decide = (event: RetrainingEvent): void => {
    const decision = decideRetraining(state, event, Date.now());
    ({ state } = decision);
    alarm.atMs = decision.wakeAtMs;
    decisions += 1;
    for (const entry of decision.changed) unwritten.set(entry.number, entry);
    if (decision.setback !== null) errands.push({ kind: 'setback', setback: decision.setback, requestExperiment: decision.requestExperiment });
    if (decision.recovered) errands.push({ kind: 'recovery', by: null, comment: 'a retraining went well' });
    if (decision.start !== null) errands.push({ kind: 'start', start: decision.start });
    show();
  };
  const hear = (request: RetrainRequest): void => {
    const before = state.triggers;
    decide({ kind: 'trigger', request });
    if (state.triggers > before && request.evidence !== undefined) evidence.set(state.triggers, request.evidence);
  };

  if (carry !== undefined && 'state' in carry) ({ state, revision } = carry);
  else if (carry !== undefined) {
    state = ofEarlier(state, carry);
    for (const request of carry.waiting) hear(request);
  }

  const authorize = createAuthorize();
  setHandler(retrainSignal, (payload) => {
    // whatever a program or a person sends is a request: a signal cannot be refused
    const parsed = RetrainRequestSchema.safeParse(typeof payload === 'string' ? { reason: payload.slice(0, 2_000) } : (payload ?? {}));
    hear(parsed.success ? parsed.data : RetrainRequestSchema.parse({ reason: 'asked by a signal whose argument does not fit' }));
  });
  setHandler(definedSignal, (settings) => {
    decide({ kind: 'defined', settings });
  });
  setHandler(
    configureUpdate,
    async (change) => {
      const { reset, by, voucher, ...settings } = ConfigureRetrainingSchema.parse(change);
      await authorize('configureRetraining', pipeline, { ...settings, ...(reset === undefined ? {} : { reset }), by, voucher });
      decide({ kind: 'configured', settings, ...(reset === undefined ? {} : { reset }) });
      return retrainingStatus(state, pipeline, Date.now());
    },
    { validator: checkSettings },
  );
  setHandler(pauseRetrainingUpdate, async (message) => {
    await authorize('pauseRetraining', pipeline, message);
    decide({ kind: 'paused' });
  });
  setHandler(resumeRetrainingUpdate, async (message) => {
    await authorize('resumeRetraining', pipeline, message);
    decide({ kind: 'resumed' });
  });
  setHandler(closeExperimentUpdate, async (message) => {
    const { who: by } = await authorize('closeExperiment', pipeline, message);
    const { comment } = message;
    decide({ kind: 'requestClosed' });
    errands.push({ kind: 'recovery', by, comment });
  });
  setHandler(ledgerQuery, () => [...state.ledger, ...(state.inFlight?.entries ?? []), ...state.waiting].sort((a, b) => a.number - b.number));
  setHandler(stateQuery, () => retrainingStatus(state, pipeline, Date.now()));

  const write = async (): Promise<void> => {
    while (unwritten.size > 0) {
      const entries = [...unwritten.values()].map((entry): LedgerWrite['entries'][number] => ({
        entry,
        ...(evidence.has(entry.number) ? { evidence: evidence.get(entry.number) } : {}),
      }));
      unwritten.clear();
      evidence.clear();
      revision += 1;
      await surviving('the ledger', () => activities.noteTriggers({ pipeline, controller, revision, entries }));
    }
  };
  const follow = async (workflowId: string): Promise<void> => {
    try {
      decide({ kind: 'ended', outcome: await watch.followRetraining({ workflowId }) });
    } catch (error) {
      if (isCancellation(error)) return;
      const nowMs = Date.now();
      const because = reportOf(error).message;
      decide({ kind: 'ended', outcome: { fate: 'failed', because, runId: null, beganMs: nowMs, endedMs: nowMs, gatesMs: 0, rolloutMs: 0 } });
    }
  };
  const run = async (errand: Errand): Promise<void> => {
    switch (errand.kind) {
      case 'start': {
        const { workflowId, entries } = errand.start;
        const reasons = entries.map(({ reason, source }) => ({ reason, source }));
        const numbers = entries.map(({ number }) => number);
        try {
          await activities.startRetraining({ pipeline, workflowId, reasons, evidence: { controller, numbers } });
        } catch (error) {
          if (isCancellation(error)) throw error;
          log.warn('a retraining could not be started', { workflowId, error: reportOf(error).message });
        }
        void follow(workflowId);
        return;
      }
      case 'setback':
        await surviving('a setback', () => activities.noteSetback({ pipeline, setback: errand.setback, requestExperiment: errand.requestExperiment }));
        return;
      case 'recovery':
        await surviving('a recovery', () => activities.noteRecovery({ pipeline, by: errand.by, comment: errand.comment }));
    }
  };

  // what a controller of before had waiting may begin at once: it is followed when it has been started
  const wasInFlight = carry !== undefined && 'state' in carry;
  if (state.inFlight !== null && (wasInFlight || !patched('a run is followed once it was started'))) void follow(state.inFlight.workflowId);
  decide({ kind: 'tick' });
  for (;;) {
    await write();
    const errand = errands.shift();
    if (errand !== undefined) {
      await run(errand);
      continue;
    }
    if (isLong()) {
      await condition(allHandlersFinished);
      if (unwritten.size > 0 || errands.length > 0) continue;
      await continueAsNew<typeof retraining>(pipeline, { state, revision });
    }
    const seen = decisions;
    const news = (): boolean => decisions !== seen || errands.length > 0 || isLong();
    if (alarm.atMs === null) await condition(news);
    else if (!(await condition(news, Math.max(1, alarm.atMs - Date.now())))) decide({ kind: 'tick' });
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, retraining);

const isLong = (): boolean => workflowInfo().continueAsNewSuggested || workflowInfo().historyLength > LONG_HISTORY;

/** Work without which the controller lives on; what it was is told. */
async function surviving(what: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.error(`${what} could not be recorded`, { error: reportOf(error).message });
  }
}

/** What a controller of before knew; its waiting requests come as triggers. */
function ofEarlier(fresh: RetrainingState, { settings, count, lastStartedMs, defined }: EarlierCarry): RetrainingState {
  const known = decideRetraining(
    { ...fresh, paused: settings.paused, runs: count },
    { kind: 'configured', settings: { coolDownMs: settings.coolDownMs } },
    0,
  ).state;
  const lastRun =
    lastStartedMs > 0 ? { workflowId: `${fresh.runPrefix}-${String(count)}`, startedMs: lastStartedMs, ranWell: false, trigger: 0, runId: null } : null;
  return decideRetraining({ ...known, lastRun }, { kind: 'defined', settings: defined ?? {} }, 0).state;
}

/** @throws ApplicationFailure of type INVALID_PARAMETERS with every problem */
function checkSettings(change: unknown): void {
  const parsed = ConfigureRetrainingSchema.safeParse(change);
  if (parsed.success) return;
  const problems = parsed.error.issues.map(({ path, message }): Problem => ({ path: path.map(String).join('.') || '(settings)', message }));
  throw toWorkflowFailure(new MillraceError('INVALID_PARAMETERS', 'The settings of retraining do not fit.', { problems }));
}
