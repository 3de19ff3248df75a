import { condition, continueAsNew, patched, proxyActivities, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow';
import type { RetrainingActivities } from '../activities/types.ts';
import { SERVICE_QUEUE } from '../contracts/queues.ts';
import { type RetrainingSettings, type RetrainRequest, RetrainRequestSchema } from '../contracts/retraining.ts';
import {
  configureUpdate,
  definedSignal,
  ledgerQuery,
  pauseRetrainingUpdate,
  resumeRetrainingUpdate,
  retrainSignal,
  stateQuery,
} from './retraining-messages.ts';

/**
 * The controller as it was before its ledger had one entry a trigger. One that runs on it replays here, and hands over to
 * today's code as soon as it wakes; nothing begins here any more.
 */
interface EarlierLine {
  readonly at: string;
  readonly decision: 'started' | 'waiting' | 'merged' | 'refused' | 'ended';
  readonly because: string;
  readonly requests: readonly RetrainRequest[];
  readonly workflowId?: string;
}

interface EarlierSettings {
  readonly coolDownMs: number;
  readonly paused: boolean;
}

export interface EarlierCarry {
  readonly settings: EarlierSettings;
  readonly waiting: readonly RetrainRequest[];
  readonly ledger: readonly EarlierLine[];
  readonly lastStartedMs: number;
  readonly count: number;
  readonly noted: number;
  readonly inFlight: string | null;
  /** What the pipeline's definition says: heard, for the code that goes on. */
  readonly defined?: RetrainingSettings;
}

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

export async function earlierRetraining(pipeline: string, carry?: EarlierCarry): Promise<void> {
  let settings: EarlierSettings = carry?.settings ?? { coolDownMs: 60_000, paused: false };
  const waiting: RetrainRequest[] = [...(carry?.waiting ?? [])];
  const ledger: EarlierLine[] = [...(carry?.ledger ?? [])];
  const unwritten: { readonly key: string; readonly entry: EarlierLine }[] = [];
  let noted = carry?.noted ?? 0;
  let lastStartedMs = carry?.lastStartedMs ?? 0;
  let count = carry?.count ?? 0;
  let inFlight = carry?.inFlight ?? null;
  let defined: RetrainingSettings | undefined;

  const note = (decision: EarlierLine['decision'], because: string, requests: readonly RetrainRequest[], workflowId?: string): void => {
    const entry: EarlierLine = { at: new Date(Date.now()).toISOString(), decision, because, requests, ...(workflowId === undefined ? {} : { workflowId }) };
    ledger.push(entry);
    ledger.splice(0, Math.max(0, ledger.length - LEDGER_LENGTH));
    noted += 1;
    unwritten.push({ key: `${workflowInfo().firstExecutionRunId}/${String(noted)}`, entry });
    setCurrentDetails(
      [`**${pipeline}**${settings.paused ? ' (paused)' : ''}`, '', ...ledger.slice(-10).map((e) => `- ${e.at} ${e.decision}: ${e.because}`)].join('\n'),
    );
  };

  setHandler(retrainSignal, (payload) => {
    const parsed = RetrainRequestSchema.safeParse(typeof payload === 'string' ? { reason: payload } : (payload ?? {}));
    const request = parsed.success ? parsed.data : RetrainRequestSchema.parse({ reason: 'asked by a signal whose argument does not fit' });
    if (waiting.length > 0) note('merged', 'a retraining is waiting already', [request]);
    else if (inFlight !== null) note('waiting', `${inFlight} is in flight`, [request], inFlight);
    else if (settings.paused) note('waiting', 'retraining is paused', [request]);
    waiting.push(request);
  });
  setHandler(definedSignal, (heard) => {
    defined = heard;
  });
  setHandler(configureUpdate, (change) => (settings = { ...settings, ...(change as Partial<EarlierSettings>) }));
  setHandler(pauseRetrainingUpdate, () => {
    settings = { ...settings, paused: true };
  });
  setHandler(resumeRetrainingUpdate, () => {
    settings = { ...settings, paused: false };
  });
  setHandler(ledgerQuery, () => []);
  setHandler(stateQuery, () => null);

  const writeLedger = async (): Promise<void> => {
    for (let next = unwritten.shift(); next; next = unwritten.shift()) await activities.noteRetraining({ pipeline, ...next });
  };
  /** True while it runs, never while it replays what was before. */
  const handsOver = (): boolean => patched('hands over to one entry a trigger');
  const handOver = (): Promise<never> =>
    continueAsNew<(pipeline: string, carry: EarlierCarry) => Promise<void>>(pipeline, {
      settings,
      waiting,
      ledger,
      lastStartedMs,
      count,
      noted,
      inFlight,
      ...(defined === undefined ? {} : { defined }),
    });

  for (;;) {
    if (inFlight === null) {
      if (handsOver()) await handOver();
      await condition(() => defined !== undefined || unwritten.length > 0 || (waiting.length > 0 && !settings.paused) || workflowInfo().continueAsNewSuggested);
      if (handsOver()) await handOver();
      await writeLedger();
      if (waiting.length > 0 && !settings.paused) {
        const before = settings;
        const restMs = lastStartedMs + settings.coolDownMs - Date.now();
        if (lastStartedMs > 0 && restMs > 0) {
          note('waiting', `cool-down: ${String(Math.ceil(restMs / 1000))} s to go`, [...waiting]);
          await writeLedger();
          await condition(() => defined !== undefined || settings !== before, restMs);
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
    if (workflowInfo().continueAsNewSuggested) await handOver();
  }
}
