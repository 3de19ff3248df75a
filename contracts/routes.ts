import { z } from 'zod';
import { NameSchema, Sha256Schema } from './ids.ts';
import type { BinCounts } from './serving-bins.ts';

/** A version as it is served. */
export const ServedVersionSchema = z.object({
  model: NameSchema,
  version: z.number().int().positive(),
  predictor: Sha256Schema,
  /** Its rules of decision (artifact, `DecisionsSchema`); not there: predictions are answered without an action. */
  decisions: Sha256Schema.optional(),
});
export type ServedVersion = z.infer<typeof ServedVersionSchema>;

/** What makes a client's requests go to the same version: a raw column of the first row, or the header `x-millrace-key`. Without it, the request id. */
export const StickyKeySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('column'), column: z.string().min(1).max(200) }),
  z.object({ kind: z.literal('header') }),
]);
export type StickyKey = z.infer<typeof StickyKeySchema>;

/**
 * Who answers an endpoint's requests. One row an endpoint in Postgres; prediction servers obey it and keep the last
 * one they knew on disk.
 *
 * Invariants:
 * 1. A route changes only with an `epoch` greater than the stored one; a server ignores an older epoch.
 * 2. A challenger's share is a lease: past `challenger.leaseUntil` it counts as 0, all traffic is the champion's, and
 *    nothing is mirrored. Renewing moves `leaseUntil` forward at the same epoch, and nothing else: of two routes of one
 *    epoch the later lease counts, and no version has to be loaded for it.
 * 3. A server holds an epoch when champion, challenger and all of `standby` are loaded, checked and warm.
 * 4. What was added later is optional; a route without it means what it always meant.
 */
export const RouteSchema = z.object({
  endpoint: NameSchema,
  epoch: z.number().int().nonnegative(),
  champion: ServedVersionSchema,
  challenger: z
    .object({
      version: ServedVersionSchema,
      /** Share of requests that it answers (`share`) or that are mirrored to it (`shadow`), 0–100. */
      percent: z.number().min(0).max(100),
      /** UTC ISO. */
      leaseUntil: z.string(),
      /** `shadow`: it computes beside the champion, is compared and logged, and never answers. Left out: `share`. */
      mode: z.enum(['share', 'shadow']).optional(),
      /** Who stays with it. A request without the key goes by its id. */
      stickyBy: StickyKeySchema.optional(),
    })
    .nullable(),
  /** Whether predictions are logged for monitoring. */
  log: z.boolean(),
  /** Versions that are kept loaded and warm without traffic, for an instant switch; reachable by their version number alone. */
  standby: z.array(ServedVersionSchema).max(4).optional(),
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
  /** Requests by the bin of their latency (`latencyBin`). Default: not counted. */
  readonly latency?: BinCounts;
  /** Rows by predicted class. Default: none, as of regressions. */
  readonly labels?: BinCounts;
  /** Rows by what was answered: the positive class's probability (`probabilityBin`), of several classes the class, else the value (`valueBin`). */
  readonly outputs?: BinCounts;
  /** Rows that champion and challenger both answered (shadow). Default 0. */
  readonly compared?: number;
  /** Those of them with the same answer. Default 0. */
  readonly equal?: number;
}

/** What became known of predictions, added up a version, a minute of the predictions, and a metric; guards read it. */
export interface ServingOutcomes {
  readonly endpoint: string;
  readonly model: string;
  readonly version: number;
  /** UTC ISO: the minute in which the predictions were made, not when the outcome came. */
  readonly from: string;
  /** `correct` (0 or 1), `absoluteError`, `squaredError`, `logLoss` from labels; the outcome's name else. */
  readonly metric: string;
  /** What was added up together (a server and its batch, a segment): the same source sent again replaces what it said. */
  readonly source: string;
  readonly n: number;
  readonly sum: number;
  readonly sumSquares: number;
  readonly min: number;
  readonly max: number;
}

/** A prediction server took a challenger's traffic back by itself. */
export interface ChallengerBreak {
  readonly server: string;
  readonly endpoint: string;
  readonly model: string;
  readonly version: number;
  /** Of the route that it served under. */
  readonly epoch: number;
  /** UTC ISO. */
  readonly at: string;
  /** Why, in a sentence. */
  readonly reason: string;
  readonly figures: Readonly<Record<string, number>>;
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
  /** It was computed beside the champion, and answered nobody. */
  readonly shadow?: boolean;
  /** Raw columns as they came; of one that a transform hashes, the hash alone. */
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly output: readonly number[];
  /** What the rules of decision said. */
  readonly action?: string;
  /** Probability with which the row was to get this action, 0–1: what offline evaluation weighs by. */
  readonly propensity?: number;
  /** Whether the action was drawn at random. */
  readonly explored?: boolean;
  /** The label queue that a rule put the row into. */
  readonly review?: string;
  /** Keyed hash of the key by which a test of versions sticks. */
  readonly key?: string;
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

/** A line of the same files: what a prediction led to. */
export interface OutcomeRecord {
  readonly requestId: string;
  readonly row: number;
  /** `revenue`, `churned`. */
  readonly outcome: string;
  readonly value: number;
  /** UTC ISO, when it happened. */
  readonly happenedAt: string;
  /** UTC ISO, when it came. */
  readonly at: string;
}
