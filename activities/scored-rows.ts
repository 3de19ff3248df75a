import { MillraceError } from '../contracts/errors.ts';
import type { DatasetRef } from '../contracts/references.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import { datasetFiles, loadManifest, pickColumns } from '../data/dataset.ts';
import { compute, type JudgedRows, type ScoreJob } from './compute-job.ts';
import type { StageContext } from './stage-definition.ts';

export async function loadPredictor(deps: StageContext['deps'], id: string): Promise<Predictor> {
  return PredictorSchema.parse(await deps.artifacts.getJson(id));
}

/** Scores every row of the dataset in a worker thread and says what the answers are worth. */
export async function judge(context: StageContext, predictorId: string, on: DatasetRef, slices: ScoreJob['slices'], what: string): Promise<JudgedRows> {
  const { deps, signal, progress, call } = context;
  const predictor = await loadPredictor(deps, predictorId);
  const { signature } = predictor;
  if (signature.task.kind === 'raw') {
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  }
  const { target } = signature.task;
  const manifest = await loadManifest(deps.artifacts, on);
  const wanted = [
    ...new Set([...signature.graph.numbers, ...signature.graph.dates, ...signature.graph.strings, target, ...slices.map(({ column }) => column)]),
  ];
  pickColumns(manifest.columns, wanted);
  const files = await datasetFiles(deps.artifacts, manifest);
  return compute<JudgedRows>(
    {
      kind: 'score',
      files: files.map((file) => file.path),
      columns: wanted,
      onnx: await deps.artifacts.pathOf(predictor.onnx),
      signature,
      targetType: manifest.columns.find((column) => column.name === target)?.type ?? null,
      slices,
    },
    {
      signal,
      heapMib: deps.config.pools[call.pool]?.heapMib,
      progress: (fraction) => {
        progress(fraction, what);
      },
      log: (message) => {
        deps.log('error', `scoring for ${call.stage}`, { run: call.runId, error: message });
      },
    },
  );
}
