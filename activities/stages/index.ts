import type { StageKind } from '../../contracts/stages.ts';
import { approveStage } from './approve.ts';
import { batchPredictStage } from './batch-predict.ts';
import { cleanStage } from './clean.ts';
import { deployStage } from './deploy.ts';
import { ensembleStage } from './ensemble.ts';
import { evaluateStage } from './evaluate.ts';
import { foldStage } from './fold.ts';
import { importModelStage } from './import-model.ts';
import { ingestStage } from './ingest.ts';
import { labelStage } from './label.ts';
import { labelFunctionsStage } from './label-functions.ts';
import { loadTestStage } from './load-test.ts';
import { materializeStage } from './materialize.ts';
import { monitorStage } from './monitor.ts';
import { publishPredictionsStage } from './publish-predictions.ts';
import { registerStage } from './register.ts';
import { registeredVersionStage } from './registered-version.ts';
import { selectStage } from './select.ts';
import { splitStage } from './split.ts';
import { stepStage } from './step.ts';
import { trainStage } from './train.ts';
import { trialStage } from './trial.ts';
import { tuneStage } from './tune.ts';
import { trainingSetStage } from './training-set.ts';
import { trainingWindowStage } from './training-window.ts';
import { validateStage } from './validate.ts';

/** Every kind of stage, by the name under which runs record it. */
export const stages = {
  ingest: ingestStage,
  validate: validateStage,
  clean: cleanStage,
  split: splitStage,
  fold: foldStage,
  train: trainStage,
  trial: trialStage,
  tune: tuneStage,
  ensemble: ensembleStage,
  select: selectStage,
  evaluate: evaluateStage,
  register: registerStage,
  importModel: importModelStage,
  registeredVersion: registeredVersionStage,
  approve: approveStage,
  deploy: deployStage,
  monitor: monitorStage,
  step: stepStage,
  labelFunctions: labelFunctionsStage,
  label: labelStage,
  trainingSet: trainingSetStage,
  trainingWindow: trainingWindowStage,
  materialize: materializeStage,
  batchPredict: batchPredictStage,
  publishPredictions: publishPredictionsStage,
  loadTest: loadTestStage,
} as const satisfies Record<StageKind, unknown>;
