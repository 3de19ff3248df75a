import type { Store } from '../../store/store.ts';

/**
 * Where the program of a stage finds the protocol: `MLFLOW_TRACKING_URI` of a trainer names its run and stage, so that
 * what it logs to its run lands in its stage. Everything else there is as it is without.
 */
export const STAGE_PREFIX = '/stages/:in_run/:in_stage/api/2.0';

/** The store as a request sees it: for one below the prefix of a stage, what is logged to its run is the stage's. */
export function storeOf(store: Store, params: unknown): Store {
  const { in_run: runId, in_stage: stage } = params as { readonly in_run?: string; readonly in_stage?: string };
  if (runId === undefined || stage === undefined) return store;
  const { trackedRuns } = store;
  return { ...store, trackedRuns: { ...trackedRuns, log: (batch) => trackedRuns.log(batch.runId === runId ? { ...batch, stage } : batch) } };
}
