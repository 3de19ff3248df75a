import { z } from 'zod';
import { MillraceError } from '../../contracts/errors.ts';
import { type DatasetRef, DatasetRefSchema } from '../../contracts/references.ts';
import { StepInputSchema } from '../../contracts/stages.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage, type StageContext, type StageOutcome } from '../stage-definition.ts';
import { stepRun, type StepContext } from '../steps.ts';

const ParametersSchema = z.record(z.string(), z.unknown());

/** A user's own step, from the pipeline's `steps.ts` as it was in the run's build. */
export const stepStage = defineStage({
  input: StepInputSchema,
  cacheable: true,
  fingerprint: async ({ pipeline, step }, call, { builds }) => ({ step: (await builds.pipeline(call.buildId, pipeline))?.steps[step] ?? 'unknown' }),
  run: async ({ pipeline, step, args }, context): Promise<StageOutcome<unknown>> => {
    const { call, deps, signal, progress } = context;
    const stepContext: StepContext = { runId: call.runId, pipeline: call.pipeline, signal, progress };
    const found = await deps.builds.step(call.buildId, pipeline, step);
    const run = stepRun(found);
    if (run.kind === 'value') {
      const output = await usersCode(step, () => (run.run as (...given: unknown[]) => unknown)(...args));
      return { output: output ?? null, summary: 'done' };
    }
    const dataset = DatasetRefSchema.safeParse(args[0]);
    const parameters = ParametersSchema.safeParse(args[1] ?? {});
    if (!dataset.success || !parameters.success) {
      throw new MillraceError('INVALID_PARAMETERS', `The step ${step} takes a dataset, and an object of parameters.`, { fix: `Call it as ${step}(dataset, { … }).` });
    }
    return runDataStep(step, run, dataset.data, parameters.data, context, stepContext);
  },
});

async function runDataStep(
  step: string,
  run: Exclude<ReturnType<typeof stepRun>, { kind: 'value' }>,
  dataset: DatasetRef,
  parameters: Readonly<Record<string, unknown>>,
  { deps, signal }: StageContext,
  stepContext: StepContext,
): Promise<StageOutcome<DatasetRef>> {
  const { frameFromDataset, datasetFromFrame, datasetFromQuery } = await import('../../data/frames.ts');
  const { loadManifest } = await import('../../data/dataset.ts');
  const parent = await loadManifest(deps.artifacts, dataset);
  const options = { artifacts: deps.artifacts, manifest: parent, id: dataset.id, signal };
  const made =
    run.kind === 'frame'
      ? await datasetFromFrame(await usersCode(step, async () => (run.run as (...given: unknown[]) => ReturnType<typeof run.run>)(await frameFromDataset(options), parameters, stepContext)), options)
      : await datasetFromQuery((relation) => usersCode(step, () => (run.run as (...given: unknown[]) => ReturnType<typeof run.run>)(relation, parameters, stepContext)), options);
  return { output: made.ref, summary: `${made.ref.rows.toLocaleString('en')} rows, ${String(made.manifest.columns.length)} columns`, datasets: [datasetDraft(made.ref, made.manifest, { step, dataset: dataset.id })] };
}

/** What a person's code throws is theirs to read: its message stays, its stack goes to the log. */
async function usersCode<T>(step: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new MillraceError('USER_CODE_FAILED', `The step ${step} threw ${message}`, { cause: error });
  }
}
