/** Task queues and the names of long-lived workflows. Persisted: a rename needs a plan. */
export const WORKFLOW_QUEUE = 'millrace';
/** The engine's light work: routes, guards, ledgers, undos, cache look-ups. Served by every CPU worker, beside its pool. */
export const SERVICE_QUEUE = 'millrace-services';
/** What waits for long: rollouts that are watched. Served beside the engine's light work, which it must not keep from its slots. */
export const WATCH_QUEUE = 'millrace-watches';
export const poolQueue = (pool: string): string => `millrace-${pool}`;
export const endpointWorkflowId = (endpoint: string): string => `endpoint/${endpoint}`;
export const retrainingWorkflowId = (pipeline: string): string => `retraining/${pipeline}`;
export const retrainScheduleId = (pipeline: string, trigger: string): string => `retrain/${pipeline}/${trigger}`;
export const monitorScheduleId = (endpoint: string): string => `monitor/${endpoint}`;
export const tuningWorkflowId = (runId: string, stage: string): string => `tuning/${runId}/${stage}`;
export const undoWorkflowId = (runId: string): string => `undo/${runId}`;
export const SEARCH_ATTRIBUTES = ['MillracePipeline', 'MillraceModel', 'MillraceTrigger', 'MillraceStage'] as const;
