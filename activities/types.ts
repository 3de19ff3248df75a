import type { LabelValue } from '../contracts/labels.ts';
import type { ErrorReport } from '../contracts/errors.ts';
import type { Guards } from '../contracts/guards.ts';
import type { Role, SpendVoucherInput } from '../contracts/identity.ts';
import type { ReproduceParameters, ReproductionPlan } from '../contracts/reproduction.ts';
import type { Purpose, Trigger } from '../contracts/run.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { LedgerWrite, RetrainingOutcome, RetrainRequest } from '../contracts/retraining.ts';
import type { RetrainingDecision } from '../contracts/retraining-decision.ts';
import type { MonitorInput, RolloutOutcome, StageCall, StageResult, TrainerSpec } from '../contracts/stages.ts';
import type { Observation } from '../ml/search/parameters.ts';

/** What workflows may call. Names are persisted in histories: a rename needs a plan. */
export interface RunActivities {
  /** Keyed by workflow and Temporal run id: a second call returns the same run. */
  beginRun(input: {
    readonly workflowId: string;
    readonly temporalRunId: string;
    readonly pipeline: string;
    readonly buildId: string;
    readonly params: unknown;
    readonly trigger: Trigger;
    readonly retryOf?: string;
    readonly purpose?: Purpose;
    readonly maxConcurrentRuns?: number;
  }): Promise<{ readonly runId: string; readonly status: 'waiting' | 'running' }>;
  endRun(input: {
    readonly runId: string;
    readonly status: 'completed' | 'failed' | 'cancelled';
    readonly error?: ErrorReport;
    readonly undoProblems?: readonly string[];
  }): Promise<void>;
  requestApproval(input: {
    readonly runId: string;
    readonly gate: string;
    readonly approversNeeded: number;
    readonly expiresAt: string | null;
    readonly evidence: unknown;
    readonly roles?: readonly Role[];
    readonly notAuthor?: boolean;
  }): Promise<void>;
  recordDecision(input: {
    readonly runId: string;
    readonly gate: string;
    readonly by: string;
    readonly reason: string;
    readonly approved: boolean;
    readonly at: string;
    /** Of the token; left out where none was looked at. */
    readonly roles?: readonly Role[];
  }): Promise<{ /** Those that stand. */ readonly approvals: readonly { readonly by: string; readonly reason: string; readonly at: string }[] } | undefined>;
  closeApproval(input: { readonly runId: string; readonly gate: string; readonly status: 'approved' | 'rejected' | 'expired' }): Promise<void>;
  /** Whether a worker of the pool has polled in the last minute. */
  hasPollers(input: { readonly pool: string }): Promise<boolean>;
  /** The step of a ladder on which the pipeline's stage of this name last had memory enough; 0 where that is not known. */
  memoryStep(input: {
    readonly pipeline: string;
    readonly stage: string;
    readonly steps: readonly { readonly pool?: string; readonly batch: number }[];
  }): Promise<{ readonly step: number }>;
  /** Before a tuning begins: checks its trainers' parameters, and finds the trials that it starts from. */
  planTuning(input: {
    readonly pipeline: string;
    readonly stage: string;
    readonly metric: string;
    /** Of trials that between them have each end of the space. */
    readonly trainers: readonly TrainerSpec[];
    readonly warmStart?: 'last' | { readonly run: string };
  }): Promise<{ readonly warm: readonly Observation[] }>;
  /** What of a run can be done again. */
  planReproduction(input: ReproduceParameters): Promise<ReproductionPlan>;
  /** The input of a stage of an earlier run. */
  recordedInput(input: { readonly run: string; readonly stage: string }): Promise<{ readonly input: unknown }>;
  /** Puts questions into a label queue, once for a stage of a run. */
  requestLabels(input: {
    readonly runId: string;
    readonly stage: string;
    readonly workflowId: string;
    readonly queue: string;
    readonly question?: string;
    readonly classes: readonly LabelValue[];
    readonly labellers: number;
    readonly breakTies: boolean;
    /** Artifact with what is asked. */
    readonly items: string;
    readonly expiresAt: string | null;
  }): Promise<{ readonly id: string; readonly open: number }>;
  /** How many of the questions wait for answers. */
  labelsOpen(input: { readonly request: string }): Promise<number>;
  /** Ends the request and keeps the answers as an artifact; not `closed` when it was to end as answered and is not. */
  closeLabels(input: {
    readonly request: string;
    readonly status: 'answered' | 'expired' | 'cancelled';
  }): Promise<{ readonly closed: boolean; readonly answers: string; readonly asked: number; readonly open: number }>;
  /** How the rollout ended, or null while it goes on. */
  rolloutOutcome(input: { readonly rollout: string }): Promise<RolloutOutcome | null>;
}

export interface StageActivities {
  runStage(call: StageCall): Promise<StageResult>;
  /** The result of an earlier run with the same fingerprint, or null. */
  lookupStage(call: StageCall): Promise<StageResult | null>;
  /** Takes back what the stage has published; the problems name what could not be. */
  undoStage(input: { readonly runId: string; readonly stage: string }): Promise<{ readonly problems: readonly string[] }>;
  /** Takes back everything that the run has published, newest first. */
  undoRun(input: { readonly runId: string }): Promise<{ readonly problems: readonly string[] }>;
}

export interface StoredEndpoint {
  readonly route: Route | null;
  /** The last epoch published, also when nothing is served now. */
  readonly epoch: number;
  /** The rollout that brought the present champion. */
  readonly rollout: string | null;
  /** Earlier champions, the latest last. */
  readonly stack: readonly ServedVersion[];
  /** Who changed the route last, and why. */
  readonly lastBy: string | null;
  readonly lastReason: string | null;
}

/** What updates of workflows are looked at with. */
export interface IdentityActivities {
  /**
   * Spends the voucher of an update and writes the log. Again for the same update: the same answer.
   * @returns In whose name it is done. Fails with TOKEN_NEEDED, VOUCHER_REFUSED, NOT_ALLOWED, which are not tried again.
   */
  authorizeUpdate(input: SpendVoucherInput): Promise<{ readonly who: string; readonly roles: readonly Role[] }>;
}

export interface EndpointActivities {
  /** Voids an approval of the run whose rollout is watched. Fails with CONFLICT when it is not that rollout's, NOT_ALLOWED. */
  revokeApproval(input: {
    readonly runId: string;
    readonly gate: string;
    readonly who: string;
    readonly roles?: readonly Role[];
    readonly reason: string;
    readonly rollout?: string;
  }): Promise<void>;
  loadEndpoint(input: { readonly endpoint: string }): Promise<StoredEndpoint>;
  /** Fenced: refused unless `route.epoch` is greater than the stored one. */
  publishRoute(input: { readonly route: Route; readonly rollout: string | null; readonly reason: string; readonly by: string }): Promise<void>;
  /** Takes the endpoint out of service (an undone first deployment). Fenced alike. */
  removeRoute(input: { readonly endpoint: string; readonly epoch: number; readonly reason: string; readonly by: string }): Promise<void>;
  /** Waits until every live prediction server holds the epoch; false when none did in time, with what they said. */
  awaitHolders(input: {
    readonly endpoint: string;
    readonly epoch: number;
    readonly timeoutMs: number;
  }): Promise<{ readonly holding: number; readonly live: number; readonly problems: readonly string[] }>;
  noteRollout(input: {
    readonly rollout: string;
    readonly status: 'running' | 'completed' | 'rolled_back' | 'failed';
    readonly note: string;
    /** UTC ISO: the same note of the same time is written once. */
    readonly at: string;
    readonly figures?: Readonly<Record<string, number>>;
    /** Whom it concerns is told over the channels of alerts: that it waits for a person, that a guard took it back. */
    readonly tell?: { readonly endpoint: string; readonly kind: 'waits' | 'taken back' };
  }): Promise<void>;
  /** Who is better, by a metric of labels or outcomes of the predictions made since `since`; null when neither is shown to be. */
  judgeTest(input: {
    readonly endpoint: string;
    readonly champion: ServedVersion;
    readonly challenger: ServedVersion;
    readonly since: string;
    readonly metric: string;
    readonly better?: 'higher' | 'lower';
    readonly alpha: number;
  }): Promise<{ readonly winner: 'champion' | 'challenger' | null; readonly sentence: string; readonly figures: Readonly<Record<string, number>> }>;
  /** The alias `champion` of the version that was taken out of service names the one that came back; when it names another one, it stays. */
  followChampion(input: { readonly from: ServedVersion; readonly to: ServedVersion; readonly reason: string }): Promise<void>;
  /** Tells the run that waits; a run that has ended is no error. */
  tellRun(input: { readonly workflowId: string; readonly outcome: RolloutOutcome }): Promise<void>;
}

export interface WatchInput {
  readonly endpoint: string;
  readonly rollout: string;
  /** Of the route whose challenger is watched, and whose lease is renewed; null of a soak, where nothing is shared. */
  readonly epoch: number | null;
  /** Of the rollout's first share: what servers noted by themselves counts from here on; null of a soak. */
  readonly fromEpoch: number | null;
  readonly champion: ServedVersion;
  readonly challenger: ServedVersion;
  readonly guards: Guards;
  /** UTC ISO, when the rollout's first share began: figures count from here on. */
  readonly since: string;
  /** UTC ISO, when the watch is over. */
  readonly until: string;
}

/** `fenced`: somebody else changed the route. A breach has taken the traffic back, at `epoch`; null of a soak. */
export type WatchResult = { readonly figures: Readonly<Record<string, number>> } & (
  | { readonly kind: 'passed' | 'fenced' }
  | { readonly kind: 'breach'; readonly reason: string; readonly epoch: number | null }
);

export interface EndpointWatches {
  /** Looks at the guards every second, until one breaks or the time is over; renews the challenger's lease meanwhile. */
  watchRollout(input: WatchInput): Promise<WatchResult>;
}

export interface RetrainingActivities {
  /** Writes entries of the ledger; a late write with a lower revision changes nothing. */
  noteTriggers(input: LedgerWrite): Promise<void>;
  /** Starts a run of the pipeline, once per `workflowId`. `evidence` names the triggers whose evidence the run is told. */
  startRetraining(input: {
    readonly pipeline: string;
    readonly workflowId: string;
    readonly reasons: readonly Pick<RetrainRequest, 'reason' | 'source'>[];
    readonly evidence?: { readonly controller: string; readonly numbers: readonly number[] };
  }): Promise<void>;
  /** Heartbeats until the run has ended, in whatever way, and tells what it brought. */
  followRetraining(input: { readonly workflowId: string }): Promise<RetrainingOutcome>;
  /** Tells people of a retraining that failed or was rejected; with `requestExperiment`, asks for an experiment. */
  noteSetback(input: {
    readonly pipeline: string;
    readonly setback: NonNullable<RetrainingDecision['setback']>;
    readonly requestExperiment: boolean;
  }): Promise<void>;
  /** Nothing is the matter any more: `by` null when a retraining went well, else who closed the request. */
  noteRecovery(input: { readonly pipeline: string; readonly by: string | null; readonly comment: string }): Promise<void>;
  /** As controllers of before the ledger had one entry a trigger call it: only until their run has ended. */
  awaitRetraining(input: { readonly workflowId: string }): Promise<{ readonly status: string }>;
  /** As those call it; nobody reads its lines any more. */
  noteRetraining(input: unknown): Promise<void>;
}

export interface TriggerActivities {
  /** Asks the controller of the pipeline's retraining; the same key asks once. */
  askRetraining(input: { readonly pipeline: string; readonly request: RetrainRequest }): Promise<void>;
}

export interface MonitorActivities {
  /** Compares recent requests with the training profile; records the window; asks for retraining when its rule says so. */
  checkWindow(input: MonitorWindowInput): Promise<MonitorWindowResult>;
}

/** The monitor's options, as the schedule carries them: checked again where they are used. */
export type MonitorWindowInput = MonitorInput & { readonly pipeline: string };

export interface MonitorWindowResult {
  readonly verdict: 'drifted' | 'steady' | 'too few rows' | 'no endpoint';
  readonly rows: number;
  readonly worst: { readonly column: string; readonly psi: number } | null;
  readonly retrainingAsked: boolean;
}
