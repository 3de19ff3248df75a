import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { ConfigureRetraining, RetrainingSettings, RetrainingStatus, TriggerEntry } from '../contracts/retraining.ts';
import type { Signed } from './authorize.ts';

/** Messages of a pipeline's controller of retraining. Names are persisted: programs and people send them. */
export const retrainSignal = defineSignal<[unknown]>('retrain');
/** What the pipeline's definition says of it; sent at each build. */
export const definedSignal = defineSignal<[RetrainingSettings]>('defined');
export const configureUpdate = defineUpdate<unknown, [ConfigureRetraining]>('configure');
export const pauseRetrainingUpdate = defineUpdate<void, [Signed?]>('pause');
export const resumeRetrainingUpdate = defineUpdate<void, [Signed?]>('resume');
/** Closes the open request for an experiment. */
export const closeExperimentUpdate = defineUpdate<void, [{ readonly by: string; readonly comment: string; readonly voucher?: string }]>('closeExperiment');
/** Entries at hand, oldest first; all of them are in Postgres. */
export const ledgerQuery = defineQuery<readonly TriggerEntry[]>('ledger');
/** Null from a controller that is still to take today's code up. */
export const stateQuery = defineQuery<RetrainingStatus | null>('state');
