/**
 * What the prediction server asks of the rest of the house. Each port is as narrow as its use here, so that a test can
 * stand a folder and a route file behind them, and `main.ts` the store.
 */
import type { Column } from '../contracts/columns.ts';
import type { ErrorReport } from '../contracts/errors.ts';
import type { OnlineRow } from '../contracts/feature-lookup.ts';
import type { ChallengerBreak, Route, ServingStats } from '../contracts/routes.ts';

export interface RouteSource {
  /** All routes. A rejection means that nobody knows: the last known ones stay. */
  listRoutes(): Promise<readonly Route[]>;
  /** Calls `onChange` when a route may have changed, and keeps doing so by itself. The server polls besides, so a lost call costs at most a second. */
  listen?(onChange: () => void): { close(): Promise<void> };
}

/** A route that this server could not bring into service. */
export interface RouteFailure {
  readonly endpoint: string;
  readonly epoch: number;
  readonly error: ErrorReport;
}

export interface Heartbeat {
  readonly serverId: string;
  readonly url: string;
  /** Epochs whose versions are loaded, checked and warmed here. */
  readonly holding: readonly { readonly endpoint: string; readonly epoch: number }[];
  readonly failures: readonly RouteFailure[];
  /** How long the server counts as alive without another heartbeat. */
  readonly leaseSeconds: number;
}

export interface ServerRegistry {
  heartbeat(heartbeat: Heartbeat): Promise<void>;
  /** The server stops in an orderly way. */
  leave(serverId: string): Promise<void>;
}

export interface StatsSink {
  /** Records intervals; the same server, endpoint, version and `from` may be sent again, and then counts once. */
  add(stats: readonly ServingStats[]): Promise<void>;
  /** Notes that this server took a challenger's traffic back by itself; the same note may be sent again. */
  addBreak(broken: ChallengerBreak): Promise<void>;
}

export interface ArtifactBytes {
  /** The content, held against its name. @throws MillraceError ARTIFACT_MISSING, ARTIFACT_CORRUPT */
  getBytes(sha256: string): Promise<Buffer>;
}

/** The online store of features. */
export interface FeatureSource {
  /** `materialized`: whether there are values of this definition at all. Unknown entities are not in `rows`. */
  lookup(view: string, definition: string, keys: readonly string[]): Promise<{ readonly materialized: boolean; readonly rows: ReadonlyMap<string, OnlineRow> }>;
}

/** What became of feedback. A rejection means that nobody knows now. */
export interface FeedbackSource {
  summary(endpoint: string): Promise<object>;
  ofRequest(endpoint: string, requestId: string): Promise<readonly object[]>;
}

/** Predictions that were computed before, by key. */
export interface PrecomputedSource {
  /** `columns` are the key's; `answers` has the JSON of the keys that are there, by their hash. Null: nothing was precomputed for the endpoint. */
  answers(
    endpoint: string,
    keys: readonly string[],
  ): Promise<{
    readonly model: string;
    readonly version: number;
    readonly predictor: string;
    readonly columns: readonly Column[];
    readonly answers: ReadonlyMap<string, string>;
  } | null>;
}

export type ServingLog = (level: 'info' | 'warn' | 'error', message: string, details?: Readonly<Record<string, unknown>>) => void;
