import type { Route, ServedVersion } from './routes.ts';
import type { RolloutStrategy } from './stages.ts';

/** The update `rollout` of an endpoint's workflow: accepted means queued. `rollout` is unique and makes it happen once. */
export interface RolloutRequest {
  readonly rollout: string;
  readonly version: ServedVersion;
  readonly strategy: RolloutStrategy;
  /** The run that waits for the outcome; null when a person asked. */
  readonly workflowId: string | null;
  readonly reason: string;
}

/** The update `rollback`: to the version before, or to a stated one. With `rollout`: only undo that rollout. */
export interface RollbackRequest {
  readonly rollout?: string;
  readonly to?: number;
  readonly by: string;
  readonly reason: string;
}

export interface EndpointChange {
  readonly by: string;
  readonly reason: string;
}

/** The answer of the query `state`. */
export interface EndpointState {
  readonly endpoint: string;
  readonly route: Route | null;
  readonly stack: readonly ServedVersion[];
  readonly rollout: { readonly id: string; readonly version: ServedVersion; readonly step: string } | null;
  readonly queued: readonly string[];
}
