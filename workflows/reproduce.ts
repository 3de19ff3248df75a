import { isCancellation } from '@temporalio/workflow';
import { ReproduceParametersSchema } from '../contracts/reproduction.ts';
import { definePipeline } from './define-pipeline.ts';
import { asStage, buildId, callStage, currentRun, openStage, runActivities } from './run.ts';

/** The stages of an earlier run once more, each on its recorded input and without the cache; whatever publishes is left out. */
export const reproduce = definePipeline({ params: ReproduceParametersSchema }, async ({ run: first, stage: only, code }) => {
  const run = currentRun();
  const plan = await runActivities.planReproduction({ run: first, code, ...(only === undefined ? {} : { stage: only }) });
  const origin = { pipeline: plan.pipeline, buildId: plan.buildId ?? buildId() };
  let failure: { readonly error: unknown } | undefined;
  for (const { stage: name, kind, pool } of plan.stages) {
    const stage = openStage(run, kind, name, { pool });
    try {
      await asStage(run, stage, async () => {
        const { input } = await runActivities.recordedInput({ run: first, stage: name });
        return callStage(run, stage, kind, input, { pool, cache: false, origin });
      });
    } catch (error) {
      if (isCancellation(error)) throw error;
      // the others do not need it: each has its own recorded input
      failure ??= { error };
    }
  }
  if (failure !== undefined) throw failure.error;
  return { reproduced: first, build: origin.buildId, stages: plan.stages.map(({ stage }) => stage) };
});
