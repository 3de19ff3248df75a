import { projectHashKey } from '../../config/hash-key.ts';
import { type BatchPredictInput, BatchPredictInputSchema, type ScoredDataset } from '../../contracts/batch-predictions.ts';
import { canonicalJson } from '../../contracts/canonical-json.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { DatasetManifest, VersionRef } from '../../contracts/references.ts';
import { type RowTransform, RowTransformSchema } from '../../contracts/row-transforms.ts';
import { requirePredictor } from '../../contracts/required-predictor.ts';
import type { Signature } from '../../contracts/signature.ts';
import { datasetFiles, loadManifest, pickColumns, storeManifest } from '../../data/dataset.ts';
import { neededLookups } from '../../data/feature-definition.ts';
import { pruneTransforms } from '../../data/row-transforms.ts';
import { planPredictedColumns } from '../../ml/predicted-columns.ts';
import { compute } from '../compute-job.ts';
import { datasetDraft } from '../dataset-record.ts';
import type { ActivityDependencies } from '../dependencies.ts';
import type { PredictedDataset } from '../predict-job.ts';
import { loadPredictor } from '../scored-rows.ts';
import { defineStage } from '../stage-definition.ts';
import { threadsOfSlot } from './train.ts';

/** Scores a snapshot with a registered version, in a worker thread, into a new snapshot: predictions beside the columns that are kept. */
export const batchPredictStage = defineStage({
  input: BatchPredictInputSchema,
  cacheable: true,
  // threads change how fast, not what; an alias may name another version by now
  fingerprint: async (input, _call, deps) => ({ input: { ...input, threads: undefined, version: await resolveVersion(deps, input.version) } }),
  run: async (input, { call, deps, signal, progress, resume, commitCheckpoint, device }) => {
    const version = await resolveVersion(deps, input.version);
    const predictor = await loadPredictor(deps, version.predictor);
    const { signature } = predictor;
    const manifest = await loadManifest(deps.artifacts, input.dataset);
    const transforms = missingTransforms(signature, manifest);
    const kept = input.columns === undefined ? manifest.columns : pickColumns(manifest.columns, [...new Set(input.columns)]);
    const prefix = input.prefix ?? '';
    refuseTakenNames(signature, prefix, kept);
    const predicted = await compute<PredictedDataset>(
      {
        kind: 'predict',
        files: await datasetFiles(deps.artifacts, manifest),
        columns: manifest.columns,
        transforms,
        hashKey: projectHashKey(deps.config.home),
        onnx: await deps.artifacts.pathOf(predictor.onnx),
        signature,
        kept: kept.map(({ name }) => name),
        prefix,
        fileRows: input.fileRows,
        threads: input.threads ?? threadsOfSlot(deps.config.pools[call.pool]?.slots),
        gpu: device?.ordinal ?? null,
        artifactsFolder: deps.artifacts.root,
        resume: (await resume()) ?? null,
      },
      {
        signal,
        progress,
        commitCheckpoint,
        heapMib: deps.config.pools[call.pool]?.heapMib,
        log: (message) => {
          deps.log('error', `batch predictions of ${call.stage}`, { run: call.runId, error: message });
        },
      },
    );
    const plan = planPredictedColumns(signature.task, predicted.width, prefix);
    const because = `the predictions of ${version.model} ${String(version.version)}`;
    const isKept = ([name]: readonly [string, unknown]): boolean => kept.some((column) => column.name === name);
    const { ref, manifest: made } = await storeManifest(deps.artifacts, {
      ...manifest,
      name: input.name ?? `${manifest.name}-predictions`,
      columns: [...kept, ...plan.map(({ name, type }) => ({ name, type }))],
      files: [...predicted.files],
      profile: null,
      parents: [input.dataset.id],
      unserved: { ...Object.fromEntries(Object.entries(manifest.unserved).filter(isKept)), ...Object.fromEntries(plan.map(({ name }) => [name, because])) },
      sensitive: Object.fromEntries(Object.entries(manifest.sensitive).filter(isKept)),
      golden: null,
      increment: null,
      lookups: neededLookups(
        manifest.lookups,
        kept.map(({ name }) => name),
      ),
    });
    const output: ScoredDataset = { predictions: ref, version };
    const { resumedRows } = predicted;
    return {
      output,
      summary: `${ref.rows.toLocaleString('en')} rows by ${version.model} ${String(version.version)}${resumedRows === 0 ? '' : `, ${resumedRows.toLocaleString('en')} of them by an earlier attempt`}`,
      device: predicted.device,
      datasets: [datasetDraft(ref, made, { kind: 'predictions', source: { dataset: input.dataset.id, model: version.model, version: version.version } })],
    };
  },
});

async function resolveVersion(deps: ActivityDependencies, named: BatchPredictInput['version']): Promise<VersionRef> {
  if (typeof named !== 'string') return named;
  const [model = named, name] = named.split('@');
  const found = await deps.store.models.versionNamed(model, name);
  return { kind: 'version', model, version: found.version, predictor: requirePredictor(found) };
}

/**
 * What of the signature's row transforms the dataset's rows still lack: nothing where they have gone through the same ones, all
 * of them where the dataset is as raw as a request.
 */
function missingTransforms(signature: Signature, manifest: DatasetManifest): readonly RowTransform[] {
  const { graph } = signature;
  const wanted = [...graph.numbers, ...graph.dates, ...graph.strings];
  const done = manifest.transforms.map((transform) => RowTransformSchema.parse(transform));
  const undergone = prunedOrNull(done, wanted, manifest);
  if (signature.transforms.length === 0 || (undergone !== null && canonicalJson(undergone) === canonicalJson(signature.transforms))) {
    pickColumns(manifest.columns, wanted);
    return [];
  }
  const raw = signature.columns.map(({ name }) => name);
  pickColumns(manifest.columns, raw);
  if (prunedOrNull(done, raw, manifest)?.length === 0) return signature.transforms;
  throw new MillraceError('INVALID_PARAMETERS', `The rows of ${manifest.name} were changed in another way than the model's rows.`, {
    problems: [{ path: 'dataset', message: 'has gone through row transforms that are not those of the training rows', found: manifest.name }],
    fix: 'Give a dataset that was prepared as the training data was, or the raw one.',
  });
}

function prunedOrNull(transforms: readonly RowTransform[], wanted: readonly string[], manifest: DatasetManifest): readonly RowTransform[] | null {
  try {
    return pruneTransforms(transforms, wanted, manifest.rawColumns).transforms;
  } catch (error) {
    if (error instanceof MillraceError) return null;
    throw error;
  }
}

function refuseTakenNames(signature: Signature, prefix: string, kept: readonly { readonly name: string }[]): void {
  // the output of a bare ONNX file has as many values as it has; its names are numbered
  const width = signature.task.kind === 'raw' ? 1 : 0;
  const there = new Set(kept.map(({ name }) => name.toLowerCase()));
  const problems = planPredictedColumns(signature.task, width, prefix)
    .filter(({ name }) => there.has(name.toLowerCase()))
    .map(({ name }): Problem => ({ path: 'columns', column: name, message: `The dataset has a column ${name} already.`, found: name }));
  if (problems.length === 0) return;
  throw new MillraceError('INVALID_PARAMETERS', 'Predicted columns have names that are taken.', {
    problems,
    fix: 'Give a prefix, or keep other columns: columns.',
  });
}
