import { availableParallelism } from 'node:os';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { featureColumns } from '../../contracts/features.ts';
import type { CandidateRef } from '../../contracts/references.ts';
import { RowTransformSchema } from '../../contracts/row-transforms.ts';
import { type Predictor, PredictorSchema, type Signature } from '../../contracts/signature.ts';
import { type StageCall, type TrainInput, TrainInputSchema, type TrainerSpec } from '../../contracts/stages.ts';
import { datasetFiles, loadManifest } from '../../data/dataset.ts';
import { refusePersonalFeatures } from '../../data/personal-data.ts';
import { neededLookups } from '../../data/feature-definition.ts';
import { MlpParametersSchema } from '../../ml/mlp/parameters.ts';
import type { RungValue } from '../../ml/search/parameters.ts';
import type { TrainedPredictor } from '../../ml/train-predictor.ts';
import type { ActivityDependencies } from '../dependencies.ts';
import { compute, type JobRungs, type StoppedTraining, type TrainedCandidate, type TrainJob } from '../compute-job.ts';
import { type ExternallyTrained, externalFingerprint, isExternal, trainExternally } from '../external-trainer.ts';
import { loadPredictor } from '../scored-rows.ts';
import { refuseTestRows } from '../test-rows.ts';
import { defineStage, type StageContext, type StageOutcome } from '../stage-definition.ts';

/** Shorter than a lost worker is noticed in, long enough not to weigh on the training. */
const CHECKPOINT_EVERY_MS = 3_000;

/** Trains one candidate in a worker thread and stores it as a predictor: graph, signature, sample, training profile. */
export const trainStage = defineStage({
  input: TrainInputSchema,
  cacheable: true,
  fingerprint: trainingFingerprint,
  run: async (input, context) => {
    const outcome = await trainCandidate(input, context, null);
    // without rungs there is nothing to be stopped at
    if (outcome.kind === 'stopped') throw new MillraceError('INTERNAL', 'A training without rungs was stopped at one.');
    return outcome;
  },
});

/** What decides a training's result beside its code. Threads change how fast, not what: the same seed gives the same bytes. */
export async function trainingFingerprint(
  input: Pick<TrainInput, 'trainer' | 'threads'>,
  _call: StageCall,
  deps: ActivityDependencies,
  work: Pick<StageContext, 'signal' | 'progress'>,
): Promise<Readonly<Record<string, unknown>>> {
  return {
    input: { ...input, threads: undefined },
    runtime: `node ${process.versions.node.split('.')[0] ?? ''}`,
    ...(isExternal(input.trainer) ? { program: await externalFingerprint(input.trainer, { deps, ...work }) } : {}),
  };
}

/** What came of a training that is looked at on its way. */
export type CandidateOutcome =
  | (StageOutcome<CandidateRef> & { readonly kind: 'trained'; readonly validation: Readonly<Record<string, number>>; readonly rungs: readonly RungValue[] })
  | ({ readonly kind: 'stopped' } & StoppedTraining);

/** Trains one candidate and stores it; with `rungs` it may be stopped on its way, and then stores nothing. */
export async function trainCandidate(input: TrainInput, context: StageContext, rungs: JobRungs | null): Promise<CandidateOutcome> {
  const { call, deps, signal, progress, resume, commitCheckpoint } = context;
  const manifest = await loadManifest(deps.artifacts, input.train);
  const validation = input.validation ? await loadManifest(deps.artifacts, input.validation) : null;
  refuseTestRows([
    { manifest, path: 'train', fix: 'Train on the training part.' },
    ...(validation === null ? [] : [{ manifest: validation, path: 'validation', fix: 'Give the validation part.' }]),
  ]);
  const paths = async (of: typeof manifest): Promise<string[]> => (await datasetFiles(deps.artifacts, of)).map((file) => file.path);
  checkGrouping(input);
  const needed = [
    ...featureColumns(input.features),
    input.target,
    ...(input.group === undefined ? [] : [input.group]),
    ...(input.weight === undefined ? [] : [input.weight]),
  ];
  const missing = needed.filter((name) => !manifest.columns.some((column) => column.name === name));
  if (missing.length > 0) {
    throw new MillraceError('COLUMN_MISSING', `The training data has no column ${missing.join(', ')}.`, {
      problems: missing.map((name) => ({
        path: name === input.target ? 'target' : name === input.group ? 'group' : name === input.weight ? 'weight' : `features.${name}`,
        message: 'is not a column of the data',
        found: name,
      })),
      fix: `Use one of: ${manifest.columns.map((column) => column.name).join(', ')}.`,
    });
  }
  refusePersonalFeatures(input.features, manifest);
  if (input.from !== undefined && isExternal(input.trainer)) {
    throw new MillraceError('INVALID_PARAMETERS', `The trainer ${input.trainer.name} cannot go on from an earlier model.`, {
      problems: [{ path: 'from', message: 'is for the trainer linear' }],
    });
  }
  if (input.weight !== undefined && isExternal(input.trainer)) {
    throw new MillraceError('INVALID_PARAMETERS', `The trainer ${input.trainer.name} is not given weights by Millrace.`, {
      problems: [{ path: 'weight', message: 'is for the trainers gbdt, linear and mlp', fix: 'read the column in your program' }],
    });
  }
  const earlier = input.from === undefined ? null : await loadPredictor(deps, input.from);
  const job: TrainJob = {
    kind: 'train',
    train: await paths(manifest),
    validation: validation ? await paths(validation) : null,
    trainer: withBatchShare(input.trainer, input.batchShare),
    features: input.features,
    target: input.target,
    targetType: manifest.columns.find((column) => column.name === input.target)?.type ?? 'number',
    // relevances are numbers, whatever they look like
    task: input.group === undefined && input.task !== 'ranking' ? input.task : 'regression',
    group: input.group ?? null,
    weight: input.weight ?? null,
    sampleRows: input.sampleRows ?? null,
    validationRows: input.validationRows ?? null,
    seed: input.seed,
    threads: input.threads ?? threadsOfSlot(deps.config.pools[call.pool]?.slots),
    resume: isExternal(input.trainer) ? null : ((await resume()) ?? null),
    transforms: manifest.transforms.map((transform) => RowTransformSchema.parse(transform)),
    rawColumns: manifest.rawColumns,
    checkpointEveryMs: CHECKPOINT_EVERY_MS,
    from: earlier && { onnx: await deps.artifacts.pathOf(earlier.onnx), task: earlier.signature.task },
    rungs,
  };
  const computed = isExternal(input.trainer)
    ? await trainExternally(job, context, input.batchShare)
    : await compute<TrainedCandidate | StoppedTraining>(job, {
        signal,
        progress,
        commitCheckpoint,
        heapMib: deps.config.pools[call.pool]?.heapMib,
        log: (message) => {
          deps.log('error', `training ${call.stage}`, { run: call.runId, error: message });
        },
      });
  if ('stoppedAt' in computed) return { kind: 'stopped', ...computed };
  const { trained, columns, transforms, sample } = computed;
  const { log } = computed as Partial<ExternallyTrained>;
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
    ...(input.from === undefined ? {} : { from: input.from }),
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
  // Millrace's own trainers compute on the CPU, wherever they run
  const device = isExternal(input.trainer) && context.device !== null ? 'gpu' : 'cpu';
  const output: CandidateRef = {
    kind: 'candidate',
    predictor: sha256,
    trainer: input.trainer.name,
    task: input.group === undefined ? trained.task.kind : 'ranking',
    device,
    rows: trained.trainRows,
  };
  const sampled = trained.trainRows < input.train.rows ? ` of ${input.train.rows.toLocaleString('en')}` : '';
  return {
    kind: 'trained',
    validation: trained.validation?.metrics ?? {},
    rungs: computed.rungs,
    output,
    summary: `${input.trainer.name} on ${trained.trainRows.toLocaleString('en')}${sampled} rows${figure(trained)}`,
    device,
    metrics: trained.history.flatMap(({ step, metrics }) => Object.entries(metrics).map(([key, value]) => ({ key, step, value }))),
    artifacts: [
      { sha256: stored.sha256, sizeBytes: stored.sizeBytes, kind: 'onnx' },
      { sha256, sizeBytes, kind: 'predictor' },
      ...(log === undefined ? [] : [{ ...log, kind: 'log' }]),
    ],
  };
}

/** @throws INVALID_PARAMETERS where what is said of groups does not go together */
function checkGrouping({ group, task, trainer, sampleRows, validationRows, from }: TrainInput): void {
  const problems: Problem[] = [];
  if (group === undefined) {
    if (task === 'ranking')
      problems.push({ path: 'group', message: 'a ranking needs the column whose value the rows of one group share', fix: "Name it: group: 'queryId'." });
  } else {
    if (task !== 'auto' && task !== 'ranking')
      problems.push({ path: 'task', message: 'rows are ranked within groups', found: task, fix: 'Leave task or group out.' });
    if (trainer.name !== 'gbdt')
      problems.push({ path: 'group', message: 'is for the trainer gbdt', found: trainer.name, fix: 'Train with gbdt(), or leave it out.' });
    for (const [path, rows] of Object.entries({ sampleRows, validationRows }))
      if (rows !== undefined)
        problems.push({ path, message: 'would tear groups apart', found: String(rows), fix: 'Leave it out, and split groups off instead.' });
    if (from !== undefined) problems.push({ path: 'from', message: 'is for the trainer linear' });
  }
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'The ranking cannot be trained like this.', { problems });
}

/** The trainer with batches of this share of their size. */
function withBatchShare(trainer: TrainerSpec, share = 1): TrainerSpec {
  if (share === 1 || trainer.name !== 'mlp') return trainer;
  const batchSize = MlpParametersSchema.safeParse(trainer.parameters).data?.batchSize;
  return batchSize === undefined ? trainer : { ...trainer, parameters: { ...trainer.parameters, batchSize: Math.max(1, Math.round(batchSize * share)) } };
}

const figure = ({ history }: TrainedPredictor): string => {
  const last = Object.entries(history.at(-1)?.metrics ?? {}).at(-1);
  return last ? `, ${last[0]} ${last[1].toPrecision(4)}` : '';
};

/** Trainings share the machine's cores with the other slots of their pool. */
export function threadsOfSlot(slots: number | 'devices' | undefined): number {
  return Math.max(1, Math.floor(availableParallelism() / (typeof slots === 'number' ? slots : 1)));
}
