import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  setWorkflowOptions,
  workflowInfo,
} from '@temporalio/workflow';
import type { RetrainingActivities } from '../activities/types.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { type RetrainingEntry, type PlainRetrainingSettings, type RetrainRequest, RetrainRequestSchema } from '../contracts/retraining.ts';

/**
 * The one controller of a pipeline's retraining.
 *
 * Invariants:
 * 1. One run in flight and at most one waiting; triggers that meet are merged into the waiting one, with all their
 *    reasons. No trigger is lost: each stands in the ledger with what became of it.
 * 2. No run starts within the cool-down after the last one began, nor while paused.
 * 3. A retraining that fails ends its own run only; the champion serves on.
 */
export const retrainSignal = defineSignal<[unknown]>('retrain');
export const configureUpdate = defineUpdate<PlainRetrainingSettings, [Partial<PlainRetrainingSettings>]>('configure');
export const pauseRetrainingUpdate = defineUpdate<void>('pause');
export const resumeRetrainingUpdate = defineUpdate<void>('resume');
export const ledgerQuery = defineQuery<readonly RetrainingEntry[]>('ledger');

export interface RetrainingCarry {
  readonly settings: PlainRetrainingSettings;
  readonly waiting: readonly RetrainRequest[];
  readonly ledger: readonly RetrainingEntry[];
  readonly lastStartedMs: number;
  readonly count: number;
  /** Lines of the ledger so far. */
  readonly noted: number;
  readonly inFlight: string | null;
}

/** Entries that are kept at hand; all of them are in Postgres. */
const LEDGER_LENGTH = 100;

const activities = proxyActivities<RetrainingActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '500ms', maximumInterval: '30s' },
});
const watch = proxyActivities<RetrainingActivities>({
  taskQueue: SERVICE_QUEUE,
  startToCloseTimeout: '30 days',
  heartbeatTimeout: '30s',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
});

export async function retraining(pipeline: string, carry?: RetrainingCarry): Promise<void> {
  let settings: PlainRetrainingSettings = carry?.settings ?? { coolDownMs: 60_000, paused: false };
  const waiting: RetrainRequest[] = [...(carry?.waiting ?? [])];
  const ledger: RetrainingEntry[] = [...(carry?.ledger ?? [])];
  const unwritten: { readonly key: string; readonly entry: RetrainingEntry }[] = [];
  let noted = carry?.noted ?? 0;
  let lastStartedMs = carry?.lastStartedMs ?? 0;
  let count = carry?.count ?? 0;
  let inFlight = carry?.inFlight ?? null;

  const note = (decision: RetrainingEntry['decision'], because: string, requests: readonly RetrainRequest[], workflowId?: string): void => {
    const entry: RetrainingEntry = { at: new Date(Date.now()).toISOString(), decision, because, requests, ...(workflowId === undefined ? {} : { workflowId }) };
    ledger.push(entry);
    ledger.splice(0, Math.max(0, ledger.length - LEDGER_LENGTH));
    // many may be made in one instant, alike in everything but their number
    noted += 1;
    unwritten.push({ key: `${workflowInfo().firstExecutionRunId}/${String(noted)}`, entry });
    setCurrentDetails(
      [`**${pipeline}**${settings.paused ? ' (paused)' : ''}`, '', ...ledger.slice(-10).map((e) => `- ${e.at} ${e.decision}: ${e.because}`)].join('\n'),
    );
  };

  setHandler(retrainSignal, (payload) => {
    // whatever a program or a person sends is a request: a signal cannot be refused
    const parsed = RetrainRequestSchema.safeParse(typeof payload === 'string' ? { reason: payload } : (payload ?? {}));
    const request = parsed.success ? parsed.data : RetrainRequestSchema.parse({ reason: 'asked by a signal whose argument does not fit' });
    if (waiting.length > 0) note('merged', 'a retraining is waiting already', [request]);
    else if (inFlight !== null) note('waiting', `${inFlight} is in flight`, [request], inFlight);
    else if (settings.paused) note('waiting', 'retraining is paused', [request]);
    waiting.push(request);
  });
  setHandler(configureUpdate, (change) => (settings = { ...settings, ...change }));
  setHandler(pauseRetrainingUpdate, () => {
    settings = { ...settings, paused: true };
  });
  setHandler(resumeRetrainingUpdate, () => {
    settings = { ...settings, paused: false };
  });
  setHandler(ledgerQuery, () => ledger);

  const writeLedger = async (): Promise<void> => {
    for (let next = unwritten.shift(); next; next = unwritten.shift()) await activities.noteRetraining({ pipeline, ...next });
  };

  for (;;) {
    if (inFlight === null) {
      await condition(() => unwritten.length > 0 || (waiting.length > 0 && !settings.paused) || workflowInfo().continueAsNewSuggested);
      await writeLedger();
      if (waiting.length > 0 && !settings.paused) {
        const before = settings;
        const restMs = lastStartedMs + settings.coolDownMs - Date.now();
        if (lastStartedMs > 0 && restMs > 0) {
          note('waiting', `cool-down: ${String(Math.ceil(restMs / 1000))} s to go`, [...waiting]);
          await writeLedger();
          await condition(() => settings !== before, restMs);
          continue;
        }
        const requests = waiting.splice(0);
        count += 1;
        lastStartedMs = Date.now();
        inFlight = `${pipeline}-retrain-${workflowInfo().firstExecutionRunId.slice(0, 8)}-${String(count)}`;
        await activities.startRetraining({ pipeline, workflowId: inFlight, reasons: requests });
        note('started', requests.map((r) => r.reason).join('; '), requests, inFlight);
      }
    }
    if (inFlight !== null) {
      await writeLedger();
      const { status } = await watch.awaitRetraining({ workflowId: inFlight });
      note('ended', status, [], inFlight);
      inFlight = null;
      await writeLedger();
    }
    if (workflowInfo().continueAsNewSuggested) {
      await condition(allHandlersFinished);
      await writeLedger();
      await continueAsNew<typeof retraining>(pipeline, { settings, waiting, ledger, lastStartedMs, count, noted, inFlight });
    }
  }
}
setWorkflowOptions({ versioningBehavior: 'AUTO_UPGRADE' }, retraining);
