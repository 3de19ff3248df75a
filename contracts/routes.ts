import { z } from 'zod';
import { NameSchema, Sha256Schema } from './ids.ts';

/** A version as it is served. */
export const ServedVersionSchema = z.object({ model: NameSchema, version: z.number().int().positive(), predictor: Sha256Schema });
export type ServedVersion = z.infer<typeof ServedVersionSchema>;

/**
 * Who answers an endpoint's requests. One row an endpoint in Postgres; prediction servers obey it and keep the last
 * one they knew on disk.
 *
 * Invariants:
 * 1. A route changes only with an `epoch` greater than the stored one; a server ignores an older epoch.
 * 2. A challenger's share is a lease: past `challenger.leaseUntil` it counts as 0, all traffic is the champion's.
 */
export const RouteSchema = z.object({
  endpoint: NameSchema,
  epoch: z.number().int().nonnegative(),
  champion: ServedVersionSchema,
  challenger: z
    .object({
      version: ServedVersionSchema,
      /** Share of requests that it answers, 0–100. */
      percent: z.number().min(0).max(100),
      /** UTC ISO. */
      leaseUntil: z.string(),
    })
    .nullable(),
  /** Whether predictions are logged for monitoring. */
  log: z.boolean(),
});
export type Route = z.infer<typeof RouteSchema>;

/** Figures of one server for one endpoint and version over one interval, added up in Postgres; guards read them. */
export interface ServingStats {
  readonly server: string;
  readonly endpoint: string;
  readonly model: string;
  readonly version: number;
  /** UTC ISO, start of the interval (whole seconds). */
  readonly from: string;
  readonly requests: number;
  /** Requests that ended in a server-side failure (5xx). */
  readonly errors: number;
  readonly latencyMsSum: number;
  readonly latencyMsMax: number;
}

/** One line of the prediction log (JSON lines under `<home>/predictions/<endpoint>/`). */
export interface PredictionRecord {
  readonly requestId: string;
  readonly row: number;
  /** UTC ISO. */
  readonly at: string;
  readonly model: string;
  readonly version: number;
  readonly challenger: boolean;
  /** Raw columns as they came; of one that a transform hashes, the hash alone. */
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly output: readonly number[];
  readonly latencyMs: number;
}

/** One line of the labels that came for predictions (JSON lines under `<home>/feedback/<endpoint>/`). */
export interface FeedbackRecord {
  readonly requestId: string;
  /** Row of the request that the label is for. */
  readonly row: number;
  readonly label: string | number | boolean;
  /** UTC ISO, when it came. */
  readonly at: string;
}
