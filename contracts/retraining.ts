import { z } from 'zod';

/** The argument of the signal `retrain` on `retraining/<pipeline>`. */
export const RetrainRequestSchema = z.object({
  reason: z.string().max(2000).default('asked by signal'),
  source: z.string().max(200).default('signal'),
  evidence: z.unknown().optional(),
});
export type RetrainRequest = z.infer<typeof RetrainRequestSchema>;

/** One line of the ledger: what became of a trigger. */
export interface RetrainingEntry {
  readonly at: string;
  readonly decision: 'started' | 'waiting' | 'merged' | 'refused' | 'ended';
  /** Why it was decided so. */
  readonly because: string;
  readonly requests: readonly RetrainRequest[];
  readonly workflowId?: string;
}

export interface RetrainingSettings {
  /** No retraining starts within this time after the last one began. */
  readonly coolDownMs: number;
  readonly paused: boolean;
}
