import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { RowTransformSchema } from '../contracts/row-transforms.ts';
import type { Signature } from '../contracts/signature.ts';
import { readColumns } from '../data/read-columns.ts';
import type { StoredDataset } from '../data/dataset.ts';
import { compileRowTransforms, pruneTransforms } from '../data/row-transforms.ts';
import type { requestRow } from '../ml/score.ts';
import type { TrainedPredictor } from '../ml/train-predictor.ts';
import type { ComputeJob, ComputeMessage, JudgedRows, ScoreJob, StepJob, TrainedCandidate, TrainJob } from './compute-job.ts';
import type { StepContext } from './steps.ts';
import { usersCode } from './users-code.ts';

/** The thread behind compute-job.ts. */
const PROGRESS_EVERY_MS = 250;
const SAMPLE_ROWS = 5;

if (!parentPort) throw new Error('compute-thread runs as a worker thread only');
const port = parentPort;
const job = workerData as ComputeJob;
const send = (message: ComputeMessage<unknown>, transfer: readonly ArrayBuffer[] = []): void => {
  port.postMessage(message, transfer);
};

try {
  const result = await run();
  send({ type: 'done', result });
} catch (error) {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The computing failed unexpectedly.');
  const cause = error instanceof MillraceError ? error.cause : error;
  send({ type: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : typeof cause === 'string' ? cause : '' });
}

/** What a job needs is loaded when it is needed: the learning side is large. */
function run(): Promise<unknown> {
  if (job.kind === 'train') return train(job);
  return job.kind === 'score' ? score(job) : step(job);
}

/** A trained predictor with what makes it servable. */
async function train(task: TrainJob): Promise<TrainedCandidate> {
  const { trainPredictor } = await import('../ml/train-predictor.ts');
  const columns = [...Object.keys(task.features), task.target];
  send({ type: 'progress', fraction: null, message: 'reading' });
  const table = await readColumns(task.train, columns, { seed: task.seed, ...(task.sampleRows === null ? {} : { sampleRows: task.sampleRows }) });
  const validation =
    task.validation === null
      ? undefined
      : await readColumns(task.validation, columns, { seed: task.seed, ...(task.validationRows === null ? {} : { sampleRows: task.validationRows }) });
  let lastProgressMs = 0;
  let lastCheckpointMs = Date.now();
  let committing = false;
  port.on('message', (message: { type: string }) => {
    if (message.type === 'committed') committing = false;
  });
  try {
    const trained = await trainPredictor({
      trainer: task.trainer,
      features: task.features,
      train: table,
      ...(validation ? { validation } : {}),
      target: task.target,
      targetType: task.targetType,
      taskKind: task.task,
      seed: task.seed,
      threads: task.threads,
      ...(task.resume ? { resume: task.resume } : {}),
      onProgress: ({ fraction, step, metrics }) => {
        const now = Date.now();
        if (now - lastProgressMs < PROGRESS_EVERY_MS && fraction < 1) return;
        lastProgressMs = now;
        const figures = Object.entries(metrics).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
        send({ type: 'progress', fraction, message: [`step ${String(step)}`, ...figures].join(', ') });
      },
      checkpoint: async (step, state) => {
        const now = Date.now();
        if (!committing && now - lastCheckpointMs >= task.checkpointEveryMs) {
          lastCheckpointMs = now;
          committing = true;
          send({ type: 'checkpoint', step, state: state() });
        }
        await new Promise((resolve) => setImmediate(resolve)); // hears of commits
      },
    });
    return { trained, ...(await servable(task, trained, table)) };
  } finally {
    port.removeAllListeners('message');
  }
}

/** The signature's raw columns and transforms, and a sample that a server can be checked by. */
async function servable(task: TrainJob, trained: TrainedPredictor, table: RawTable): Promise<Omit<TrainedCandidate, 'trained'>> {
  const { requestRow, samplePredictions } = await import('../ml/score.ts');
  const { graph } = trained;
  const { transforms, rawColumns } = pruneTransforms(task.transforms, [...graph.numbers, ...graph.dates, ...graph.strings], task.rawColumns);
  const signature = { columns: rawColumns.map(({ name, type }) => ({ name, type })), transforms: [...transforms], graph };
  const sample = isAtRest(signature, table, requestRow)
    ? await samplePredictions({ onnx: trained.onnx, signature, table, count: SAMPLE_ROWS })
    : { rows: [], output: [] };
  return { columns: signature.columns, transforms: signature.transforms, sample };
}

/**
 * The training rows are as they are after the transforms. They may stand for raw rows where the transforms leave them as
 * they are (a text that is lower case already); where they do not (a hash), there is no sample.
 */
function isAtRest({ columns, transforms, graph }: Pick<Signature, 'columns' | 'transforms' | 'graph'>, table: RawTable, rowOf: typeof requestRow): boolean {
  if (columns.some((column) => !table.columns.has(column.name))) return false;
  if (transforms.length === 0) return true;
  if (JSON.stringify(transforms).includes('"op":"hash"')) return false;
  const apply = compileRowTransforms(transforms, columns);
  const taken = Math.min(SAMPLE_ROWS, table.rows);
  return Array.from({ length: taken }, (_, i) => rowOf(columns, table, Math.floor((i * table.rows) / taken))).every((row) => {
    const after = apply(row);
    return [...graph.numbers, ...graph.dates, ...graph.strings].every((name) => !(name in row) || after[name] === row[name]);
  });
}

/** Scores the rows and judges them here: metrics over hundreds of thousands of rows would stop the worker's heartbeats. */
async function score(task: ScoreJob): Promise<JudgedRows> {
  const { createScorer } = await import('../ml/score.ts');
  const { judgeRows } = await import('./judge-rows.ts');
  const table = await readColumns(task.files, task.columns, { seed: 0 });
  const scorer = await createScorer(task.onnx, task.signature.graph);
  try {
    const scores = await scorer.score(table, {
      onProgress: (done) => {
        send({ type: 'progress', fraction: done / table.rows, message: 'scoring' });
      },
    });
    send({ type: 'progress', fraction: null, message: 'judging' });
    return judgeRows(task, table, scores);
  } finally {
    await scorer.close();
  }
}

/** A user's step on a dataset, as a DataFrame or as a DuckDB view. */
async function step(task: StepJob): Promise<StoredDataset> {
  const [{ frameFromDataset, datasetFromFrame, datasetFromQuery }, { loadManifest }, { openArtifacts }, { stepRun, isStep }] = await Promise.all([
    import('../data/frames.ts'),
    import('../data/dataset.ts'),
    import('../store/artifacts.ts'),
    import('./steps.ts'),
  ]);
  const found = ((await import(pathToFileURL(task.module).href)) as Record<string, unknown>)[task.step];
  if (!isStep(found)) throw new MillraceError('NOT_FOUND', `The pipeline ${task.pipeline} has no step ${task.step}.`);
  const stop = new AbortController();
  port.on('message', (message: { type: string }) => {
    if (message.type === 'abort') stop.abort();
  });
  try {
    const artifacts = await openArtifacts(task.artifactsFolder);
    const options = { artifacts, manifest: await loadManifest(artifacts, task.dataset), id: task.dataset.id, signal: stop.signal };
    const progress = (fraction: number | null, message: string): void => {
      send({ type: 'progress', fraction, message });
    };
    const context: StepContext = { runId: task.runId, pipeline: task.pipeline, signal: stop.signal, progress };
    const user = stepRun(found);
    // the types of a step's parameters are the pipeline author's, checked where the step is called
    const parameters = task.parameters as never;
    if (user.kind === 'value' || user.kind === 'rows') throw new MillraceError('USAGE', `The step ${task.step} takes no dataset.`);
    const { serving } = user;
    const counterpart = typeof serving === 'function' ? await usersCode(task.step, () => serving(parameters)) : serving;
    const origin = { ...options, step: task.step, serving: z.array(RowTransformSchema).parse(counterpart), hashKey: task.hashKey };
    if (user.kind === 'frame') {
      const frame = await frameFromDataset(options);
      return await datasetFromFrame(await usersCode(task.step, () => user.run(frame, parameters, context)), origin);
    }
    return await datasetFromQuery((relation) => usersCode(task.step, () => user.run(relation, parameters, context)), origin);
  } finally {
    port.removeAllListeners('message');
  }
}
