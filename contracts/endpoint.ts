import type { Route, ServedVersion } from './routes.ts';
import type { RolloutStrategy } from './rollouts.ts';

/**
 * How long a challenger's share lasts without being renewed. It is renewed four times as often: with every worker dead
 * all traffic is the champion's within this time.
 */
export const LEASE_MS = 10_000;

/** The update `rollout` of an endpoint's workflow: accepted means queued. `rollout` is unique and makes it happen once. */
export interface RolloutRequest {
  readonly rollout: string;
  readonly version: ServedVersion;
  readonly strategy: RolloutStrategy;
  /** The run that waits for the outcome; null when a person asked. */
  readonly workflowId: string | null;
  readonly reason: string;
  /** Refused while another one is under way or waits. Default: it waits. */
  readonly whenBusy?: 'queue' | 'refuse';
  /** Where tokens are configured. */
  readonly voucher?: string;
}

/** The update `rollback`: to the version before, or to a stated one. With `rollout`: only undo that rollout. */
export interface RollbackRequest {
  readonly rollout?: string;
  readonly to?: number;
  /** The approval that is taken back by it: allowed while what it let through is watched, to those who may decide at the gate. */
  readonly revokes?: { readonly runId: string; readonly gate: string };
  readonly by: string;
  readonly reason: string;
  /** Where tokens are configured. */
  readonly voucher?: string;
}

/** The updates `promote` and `abort`. */
export interface EndpointChange {
  readonly by: string;
  readonly reason: string;
  /** Where tokens are configured. */
  readonly voucher?: string;
  /** Of `promote`, where the rollout waits for a person: all traffic now, and not the next step. */
  readonly all?: boolean;
}

/** What `promote` did: let a rollout that waited go on, or gave it all traffic. */
export interface Promoted {
  readonly did: 'resumed' | 'promoted';
}

/** The answer of the query `state`. */
export interface EndpointState {
  readonly endpoint: string;
  readonly route: Route | null;
  readonly stack: readonly ServedVersion[];
  readonly rollout: {
    readonly id: string;
    readonly version: ServedVersion;
    readonly step: string;
    /** UTC ISO, since when it waits for a person; null when it does not. */
    readonly waitingSince: string | null;
    /** UTC ISO, when the step's time is over; null where a person ends it. */
    readonly until: string | null;
  } | null;
  readonly queued: readonly string[];
  /** A finished rollout that late labels can still take back. */
  readonly soak: { readonly rollout: string; readonly version: ServedVersion; readonly before: ServedVersion; readonly until: string } | null;
  /** The version before, loaded for an instant switch back. */
  readonly kept: { readonly version: ServedVersion; readonly until: string } | null;
}

/** One stretch of an endpoint's production history: who answered what, from when to when, why, by whom. */
export interface ProductionPeriod {
  readonly epoch: number;
  /** UTC ISO. */
  readonly from: string;
  /** UTC ISO; null: it goes on. */
  readonly until: string | null;
  /** Null: nothing answered. */
  readonly champion: ServedVersion | null;
  /** The share is an upper bound: past its lease the challenger got nothing. */
  readonly challenger: { readonly version: ServedVersion; readonly percent: number; readonly mode: 'share' | 'shadow' } | null;
  /** Loaded without traffic. */
  readonly standby: readonly ServedVersion[];
  readonly reason: string | null;
  /** A run, a person, or `guard`; null of periods before this was recorded. */
  readonly by: string | null;
  readonly rolloutId: string | null;
}
