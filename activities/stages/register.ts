import { MillraceError } from '../../contracts/errors.ts';
import type { VersionRef } from '../../contracts/references.ts';
import { type Predictor, PredictorSchema } from '../../contracts/signature.ts';
import { RegisterInputSchema } from '../../contracts/stages.ts';
import { keepCard } from '../keep-card.ts';
import { defineStage } from '../stage-definition.ts';

/** Gives a judged candidate its number in the registry, as the alias `candidate`; with the undo in the same transaction, and with its model card. */
export const registerStage = defineStage({
  input: RegisterInputSchema,
  cacheable: false,
  run: async ({ evaluation, candidate, model, description, acceptUnserved }, context) => {
    const { call, deps, token } = context;
    const chosen = evaluation?.candidate ?? candidate;
    if (!chosen) throw new MillraceError('INVALID_PARAMETERS', 'register needs an evaluation or a candidate.');
    const predictor = PredictorSchema.parse(await deps.artifacts.getJson(chosen.predictor));
    refuseUnserved(predictor, acceptUnserved);
    await deps.artifacts.pathOf(predictor.onnx); // what is registered must be whole
    const run = await deps.store.runs.get(call.runId);
    const { version } = await deps.store.models.register({
      model,
      predictor: chosen.predictor,
      metrics: evaluation?.metrics ?? {},
      evaluation: evaluation?.report ?? null,
      ...(description === undefined ? {} : { description }),
      features: predictor.lookups.map(({ view, definition }) => ({ view, definition })),
      ...(run.purpose === null ? {} : { purpose: run.purpose }),
      by: { runId: call.runId, stage: call.stage, token },
    });
    const output: VersionRef = { kind: 'version', model, version, predictor: chosen.predictor };
    const { artifacts, missing } = await keepCard({ model, version }, context);
    return { output, summary: `${model} ${String(version)}, as candidate${missing === '' ? '' : `, ${missing}`}`, artifacts };
  },
});

function refuseUnserved({ unserved }: Predictor, accepted: readonly string[]): void {
  const refused = Object.entries(unserved).filter(([column]) => !accepted.includes(column));
  if (refused.length === 0) return;
  throw new MillraceError(
    'UNSERVED_COLUMN',
    `The model reads ${refused.map(([column]) => column).join(', ')}: no request can be given that as the training rows were.`,
    {
      problems: refused.map(([column, how]) => ({
        path: `features.${column}`,
        column,
        message: `It was made or changed by ${how}, which has no counterpart for a single request.`,
        fix: `Leave it out of the features; or give the step its counterpart (serving); or, when whoever asks sends it made the same way, register with acceptUnserved: ['${column}'].`,
      })),
    },
  );
}
