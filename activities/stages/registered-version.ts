import { MillraceError } from '../../contracts/errors.ts';
import { NameSchema } from '../../contracts/ids.ts';
import type { VersionRef } from '../../contracts/references.ts';
import { RegisteredVersionInputSchema } from '../../contracts/stages.ts';
import { openMlflowModel } from '../mlflow-model.ts';
import { defineStage } from '../stage-definition.ts';
import { barePredictor } from './import-model.ts';

/**
 * A version that stands in the registry, by number or alias. One that an MLflow client registered becomes a predictor by
 * it: the ONNX file of its folder is run once, as a file of the project is, and the version keeps what was made of it.
 */
export const registeredVersionStage = defineStage({
  input: RegisteredVersionInputSchema,
  cacheable: false,
  run: async ({ model: named, sampleRows }, { deps }) => {
    const [, name = named, at] = /^(.*)@([^@]*)$/.exec(named) ?? [];
    const found = await deps.store.models.versionNamed(name, at);
    const { model, version } = found;
    if (!NameSchema.safeParse(model).success)
      throw new MillraceError('MODEL_INVALID', `A model of the name ${model} cannot be served: names stand in addresses.`, {
        fix: 'Rename it (MlflowClient().rename_registered_model): a letter, then at most 99 letters, digits, - or _.',
      });
    if (found.predictor !== null) {
      const output: VersionRef = { kind: 'version', model, version, predictor: found.predictor };
      return { output, summary: `${model} ${String(version)}` };
    }
    const { onnx, signature, path } = await openMlflowModel(found, deps);
    const made = await barePredictor({ onnx, signature, sampleRows, parameters: { path, source: found.source } }, deps);
    const predictor = await deps.store.registry.adoptPredictor(model, version, made.sha256);
    const output: VersionRef = { kind: 'version', model, version, predictor };
    return {
      output,
      summary: `${model} ${String(version)}, ${String(signature.columns.length)} inputs, from MLflow`,
      artifacts: [{ ...made, kind: 'predictor' }],
    };
  },
});
