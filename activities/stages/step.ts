import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { projectHashKey } from '../../config/hash-key.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { DatasetRefSchema } from '../../contracts/references.ts';
import { StepInputSchema } from '../../contracts/stages.ts';
import type { StoredDataset } from '../../data/dataset.ts';
import { compute } from '../compute-job.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage, type StageOutcome } from '../stage-definition.ts';
import { resolveSecrets } from '../secrets.ts';
import { callValueStep } from '../step-threads.ts';
import { isStep, stepRun } from '../steps.ts';

const ParametersSchema = z.record(z.string(), z.unknown());

/** A user's own step, from the pipeline's `steps.ts` as it was in the run's build; on data, in a thread of its own. */
export const stepStage = defineStage({
  input: StepInputSchema,
  cacheable: true,
  fingerprint: async ({ pipeline, step }, call, { builds }) => ({ step: (await builds.pipeline(call.buildId, pipeline))?.steps[step] ?? 'unknown' }),
  run: async ({ pipeline, step, args: named }, { call, deps, signal, progress }): Promise<StageOutcome<unknown>> => {
    const { value: args, mask, guard } = resolveSecrets(named);
    const module = await deps.builds.stepModule(call.buildId, pipeline, step);
    const found = ((await import(pathToFileURL(module).href)) as Record<string, unknown>)[step];
    if (!isStep(found)) throw new MillraceError('NOT_FOUND', `The pipeline ${pipeline} has no step ${step}.`);
    const user = stepRun(found);
    const log = (message: string): void => {
      deps.log('error', `step ${step}`, { run: call.runId, error: mask(message) });
    };
    if (user.kind === 'value') {
      const output = await guard(() => callValueStep({ module, pipeline, step, args }, { signal, log }));
      return { output: mask(output), summary: 'done' };
    }
    if (user.kind === 'rows')
      throw new MillraceError('USAGE', `The step ${step} is a source.`, { fix: `Ingest it: ingest({ source: rows<typeof mySteps>().${step}({ … }) }).` });
    if (user.kind === 'metric')
      throw new MillraceError('USAGE', `The step ${step} turns judged rows into figures.`, {
        fix: `Give it to an evaluation: evaluate(candidate, { business: [businessMetrics<typeof mySteps>().${step}({ … })] }).`,
      });
    const dataset = DatasetRefSchema.safeParse(args[0]);
    const parameters = ParametersSchema.safeParse(args[1] ?? {});
    if (!dataset.success || !parameters.success) {
      throw new MillraceError('INVALID_PARAMETERS', `The step ${step} takes a dataset, and an object of parameters.`, {
        fix: `Call it as ${step}(dataset, { … }).`,
      });
    }
    const { ref, manifest } = await guard(() =>
      compute<StoredDataset>(
        {
          kind: 'step',
          module,
          step,
          dataset: dataset.data,
          parameters: parameters.data,
          runId: call.runId,
          pipeline: call.pipeline,
          artifactsFolder: deps.config.artifacts.folder,
          hashKey: projectHashKey(deps.config.home),
        },
        {
          signal,
          progress: (fraction, message) => progress(fraction, mask(message)),
          heapMib: deps.config.pools[call.pool]?.heapMib,
          log,
        },
      ),
    );
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows, ${String(manifest.columns.length)} columns`,
      datasets: [datasetDraft(ref, manifest, { kind: 'step', source: { step, dataset: dataset.data.id } })],
    };
  },
});
