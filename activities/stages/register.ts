import { MillraceError } from '../../contracts/errors.ts';
import type { VersionRef } from '../../contracts/references.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { RegisterInputSchema } from '../../contracts/stages.ts';
import { defineStage } from '../stage-definition.ts';

/** Gives a judged candidate its number in the registry, as the alias `candidate`; with the undo in the same transaction. */
export const registerStage = defineStage({
  input: RegisterInputSchema,
  cacheable: false,
  run: async ({ evaluation, candidate, model, description }, { call, deps, token }) => {
    const chosen = evaluation?.candidate ?? candidate;
    if (!chosen) throw new MillraceError('INVALID_PARAMETERS', 'register needs an evaluation or a candidate.');
    const predictor = PredictorSchema.parse(await deps.artifacts.getJson(chosen.predictor));
    await deps.artifacts.pathOf(predictor.onnx); // what is registered must be whole
    const run = await deps.store.runs.get(call.runId);
    const { version } = await deps.store.models.register({
      model,
      predictor: chosen.predictor,
      metrics: evaluation?.metrics ?? {},
      evaluation: evaluation?.report ?? null,
      ...(description === undefined ? {} : { description }),
      ...(run.purpose === null ? {} : { purpose: run.purpose }),
      by: { runId: call.runId, stage: call.stage, token },
    });
    const output: VersionRef = { kind: 'version', model, version, predictor: chosen.predictor };
    return { output, summary: `${model} ${String(version)}, as candidate` };
  },
});
