import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { LabelsAnswered } from '../contracts/labels.ts';
import type { Decision, RunProgress } from '../contracts/run.ts';
import type { RolloutOutcome } from '../contracts/stages.ts';
import type { Signed } from './authorize.ts';

/** Messages of a pipeline run. Names are persisted: programs and people send them. */
export const progressQuery = defineQuery<RunProgress>('progress');
export const pauseUpdate = defineUpdate<void, [Signed?]>('pause');
export const resumeUpdate = defineUpdate<void, [Signed?]>('resume');
export const approveUpdate = defineUpdate<{ gate: string; approved: boolean }, [Decision]>('approve');
export const rejectUpdate = defineUpdate<{ gate: string; approved: boolean }, [Decision]>('reject');
/** When all that the run asked of people is answered. */
export const labelsAnsweredSignal = defineSignal<[LabelsAnswered]>('labelsAnswered');
/** From the endpoint, when the rollout that this run started has ended. */
export const rolloutFinishedSignal = defineSignal<[RolloutOutcome]>('rolloutFinished');
