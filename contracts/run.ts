import { z } from 'zod';
import type { ErrorReport } from './errors.ts';
import type { RunId } from './ids.ts';
import { VoucherSchema } from './identity.ts';

/** Why a run was started. `reason` is a person's or a trigger's sentence. */
export const TriggerSchema = z.object({
  kind: z.enum(['manual', 'cli', 'schedule', 'retrain', 'retry', 'reproduce', 'api']),
  reason: z.string().max(2000).optional(),
  /** The person who started it, where one did. */
  by: z.string().max(200).optional(),
  /** Who or what: a user, a schedule's id, a monitor. */
  source: z.string().max(200).optional(),
  /** Of a retraining: what asked for it, with the evidence, in which `changePoint` (UTC ISO) says since when things are otherwise. */
  requests: z
    .array(z.object({ reason: z.string(), source: z.string(), evidence: z.unknown().optional() }))
    .max(20)
    .optional(),
});
export type Trigger = z.infer<typeof TriggerSchema>;

/** What the model is for: shown on cards and approvals. */
export interface Purpose {
  readonly task: string;
  /** The decision that is taken on a prediction. */
  readonly decision?: string;
  readonly outcome?: string;
  readonly businessMetric?: string;
  readonly owner?: string;
}

export type RunStatus = 'waiting' | 'running' | 'completed' | 'failed' | 'cancelled' | 'terminated';
export type StageStatus = 'waiting' | 'running' | 'completed' | 'cached' | 'failed' | 'cancelled';

/** Memo keys by which a starter tells the run things that are not parameters. */
export const MEMO_TRIGGER = 'millraceTrigger';
export const MEMO_RETRY_OF = 'millraceRetryOf';

export interface StageView {
  readonly name: string;
  readonly kind: string;
  readonly pool: string;
  readonly status: StageStatus;
  /** One line for people: rows, metrics, why it waits. */
  readonly summary?: string;
  /** UTC ISO. */
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly error?: ErrorReport;
}

export interface GateView {
  readonly gate: string;
  readonly approversNeeded: number;
  readonly approvals: readonly { readonly by: string; readonly reason: string; readonly at: string }[];
  /** UTC ISO. */
  readonly expiresAt: string | null;
}

/** The answer of the query `progress`. */
export interface RunProgress {
  readonly runId: RunId;
  readonly pipeline: string;
  readonly status: RunStatus | 'rolling back';
  readonly paused: boolean;
  readonly stages: readonly StageView[];
  readonly gates: readonly GateView[];
  readonly error?: ErrorReport;
  /** What could not be taken back, if anything. */
  readonly undoProblems: readonly string[];
}

/** A person's decision, as the updates `approve` and `reject` carry it. */
export const DecisionSchema = z.object({
  /** The gate's name; may be left out while one gate alone waits. */
  gate: z.string().max(100).optional(),
  by: z.string().min(1).max(200),
  reason: z.string().min(1).max(2000),
  /** Where tokens are configured. */
  voucher: VoucherSchema.optional(),
});
export type Decision = z.infer<typeof DecisionSchema>;
