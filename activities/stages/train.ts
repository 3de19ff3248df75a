import { availableParallelism } from 'node:os';
import { MillraceError } from '../../contracts/errors.ts';
import type { CandidateRef } from '../../contracts/references.ts';
import { RowTransformSchema } from '../../contracts/row-transforms.ts';
import { type Predictor, PredictorSchema, type Signature } from '../../contracts/signature.ts';
import { TrainInputSchema } from '../../contracts/stages.ts';
import { datasetFiles, loadManifest } from '../../data/dataset.ts';
import { neededLookups } from '../../data/feature-definition.ts';
import { refusePersonalFeatures } from '../../data/personal-data.ts';
import type { TrainedPredictor } from '../../ml/train-predictor.ts';
import { compute, type TrainedCandidate } from '../compute-job.ts';
import { defineStage } from '../stage-definition.ts';

/** Shorter than a lost worker is noticed in, long enough not to weigh on the training. */
const CHECKPOINT_EVERY_MS = 3_000;

/** Trains one candidate in a worker thread and stores it as a predictor: graph, signature, sample, training profile. */
export const trainStage = defineStage({
  input: TrainInputSchema,
  cacheable: true,
  // threads change how fast, not what: the same seed gives the same bytes
  fingerprint: async (input) => Promise.resolve({ input: { ...input, threads: undefined }, runtime: `node ${process.versions.node.split('.')[0] ?? ''}` }),
  run: async (input, { call, deps, signal, progress, resume, commitCheckpoint }) => {
    const manifest = await loadManifest(deps.artifacts, input.train);
    const validation = input.validation ? await loadManifest(deps.artifacts, input.validation) : null;
    const paths = async (of: typeof manifest): Promise<string[]> => (await datasetFiles(deps.artifacts, of)).map((file) => file.path);
    const needed = [...Object.keys(input.features), input.target];
    const missing = needed.filter((name) => !manifest.columns.some((column) => column.name === name));
    if (missing.length > 0) {
      throw new MillraceError('COLUMN_MISSING', `The training data has no column ${missing.join(', ')}.`, {
        problems: missing.map((name) => ({ path: name === input.target ? 'target' : `features.${name}`, message: 'is not a column of the data', found: name })),
        fix: `Use one of: ${manifest.columns.map((column) => column.name).join(', ')}.`,
      });
    }
    refusePersonalFeatures(input.features, manifest);
    const { trained, columns, transforms, sample } = await compute<TrainedCandidate>(
      {
        kind: 'train',
        train: await paths(manifest),
        validation: validation ? await paths(validation) : null,
        trainer: input.trainer,
        features: input.features,
        target: input.target,
        targetType: manifest.columns.find((column) => column.name === input.target)?.type ?? 'number',
        task: input.task,
        sampleRows: input.sampleRows ?? null,
        validationRows: input.validationRows ?? null,
        seed: input.seed,
        threads: input.threads ?? threadsOfSlot(deps.config.pools['cpu']?.slots),
        resume: (await resume()) ?? null,
        transforms: manifest.transforms.map((transform) => RowTransformSchema.parse(transform)),
        rawColumns: manifest.rawColumns,
        checkpointEveryMs: CHECKPOINT_EVERY_MS,
      },
      {
        signal,
        progress,
        commitCheckpoint,
        log: (message) => {
          deps.log('error', `training ${call.stage}`, { run: call.runId, error: message });
        },
      },
    );
    const signature: Signature = { columns, transforms, graph: trained.graph, task: trained.task, threshold: trained.threshold };
    const stored = await deps.artifacts.putBytes(trained.onnx);
    const unserved = Object.fromEntries(
      Object.entries(manifest.unserved).filter(([name]) => [...trained.graph.numbers, ...trained.graph.dates, ...trained.graph.strings].includes(name)),
    );
    const predictor: Predictor = PredictorSchema.parse({
      format: 'millrace-predictor/1',
      onnx: stored.sha256,
      onnxSizeBytes: stored.sizeBytes,
      signature,
      trainer: trained.trainer,
      trainingProfile: manifest.profile,
      sample,
      importance: [...trained.importance],
      unserved,
      lookups: neededLookups(
        manifest.lookups,
        columns.map(({ name }) => name).filter((name) => !Object.hasOwn(manifest.unserved, name)),
      ),
    });
    const { sha256, sizeBytes } = await deps.artifacts.putJson(predictor);
    const output: CandidateRef = {
      kind: 'candidate',
      predictor: sha256,
      trainer: input.trainer.name,
      task: trained.task.kind,
      device: 'cpu',
      rows: trained.trainRows,
    };
    const sampled = trained.trainRows < input.train.rows ? ` of ${input.train.rows.toLocaleString('en')}` : '';
    return {
      output,
      summary: `${input.trainer.name} on ${trained.trainRows.toLocaleString('en')}${sampled} rows${figure(trained)}`,
      device: 'cpu',
      metrics: trained.history.flatMap(({ step, metrics }) => Object.entries(metrics).map(([key, value]) => ({ key, step, value }))),
      artifacts: [
        { sha256: stored.sha256, sizeBytes: stored.sizeBytes, kind: 'onnx' },
        { sha256, sizeBytes, kind: 'predictor' },
      ],
    };
  },
});

const figure = ({ history }: TrainedPredictor): string => {
  const last = Object.entries(history.at(-1)?.metrics ?? {}).at(-1);
  return last ? `, ${last[0]} ${last[1].toPrecision(4)}` : '';
};

/** Trainings share the machine's cores with the other slots of their pool. */
function threadsOfSlot(slots: number | 'devices' | undefined): number {
  return Math.max(1, Math.floor(availableParallelism() / (typeof slots === 'number' ? slots : 1)));
}
