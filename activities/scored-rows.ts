import { MillraceError } from '../contracts/errors.ts';
import type { DatasetRef } from '../contracts/references.ts';
import { type Predictor, PredictorSchema, type Signature } from '../contracts/signature.ts';
import { datasetFiles, loadManifest, pickColumns } from '../data/dataset.ts';
import type { ThresholdRule } from '../ml/threshold.ts';
import { compute, type JudgedRows } from './compute-job.ts';
import type { StageContext } from './stage-definition.ts';

/** The column whose rows compete with each other, of a ranking. */
export const groupOf = ({ task }: Signature): readonly string[] => (task.kind === 'regression' && task.group !== undefined ? [task.group] : []);

export async function loadPredictor(deps: StageContext['deps'], id: string): Promise<Predictor> {
  return PredictorSchema.parse(await deps.artifacts.getJson(id));
}

/** Scores every row of the dataset in a worker thread and says what the answers are worth, from a threshold that is chosen for them if a rule is given. */
export async function judge(
  context: StageContext,
  predictorId: string,
  on: DatasetRef,
  what: string,
  threshold: ThresholdRule | null = null,
): Promise<JudgedRows> {
  const { deps, signal, progress, call } = context;
  const predictor = await loadPredictor(deps, predictorId);
  const { signature } = predictor;
  if (signature.task.kind === 'raw') {
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  }
  const { target } = signature.task;
  const manifest = await loadManifest(deps.artifacts, on);
  const wanted = [...new Set([...signature.graph.numbers, ...signature.graph.dates, ...signature.graph.strings, target, ...groupOf(signature)])];
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
      threshold,
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
