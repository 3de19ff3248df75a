import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { nativeCode, threadIsUp } from '../config/module-worker.ts';
import { MillraceError } from '../contracts/errors.ts';
import { RowTransformSchema } from '../contracts/row-transforms.ts';
import { readColumns } from '../data/read-columns.ts';
import type { StoredDataset } from '../data/dataset.ts';
import { featureColumns } from '../contracts/features.ts';
import { goesOn } from '../ml/search/stopping.ts';
import type { ComputeJob, ComputeMessage, JudgedRows, NextWindow, ScoreJob, StepJob, StoppedTraining, TrainedCandidate, TrainJob } from './compute-job.ts';
import { noSuchMetric } from './no-such-metric.ts';
import { splitRungs, StoppedAtRung, withRungs } from './rung-checkpoint.ts';
import type { BuiltEnsemble, EnsembleJob } from './ensemble-job.ts';
import type { EvaluatedRows, EvaluateJob } from './evaluate-job.ts';
import type { MeasuredWindow, MonitorJob } from './monitor-job.ts';
import type { PredictedDataset, PredictJob } from './predict-job.ts';
import type { StepContext } from './steps.ts';
import { usersCode } from './users-code.ts';

/** The thread behind compute-job.ts. */
const PROGRESS_EVERY_MS = 250;
/** A larger window leaves more garbage in the thread's heap than a new thread costs. */
const SMALL_WINDOW_ROWS = 20_000;

if (!parentPort) throw new Error('compute-thread runs as a worker thread only');
const port = parentPort;
const job = workerData as ComputeJob;
const send = (message: ComputeMessage<unknown>, transfer: readonly ArrayBuffer[] = []): void => {
  port.postMessage(message, transfer);
};

threadIsUp();
await answer(run);
// measuring a window is the engine's own code, and leaves nothing behind
if (job.kind === 'monitor') {
  port.on('message', (next: NextWindow) => {
    void answer(() => monitor(next.job));
  });
}

async function answer(work: () => Promise<unknown>): Promise<void> {
  try {
    const result = await work();
    send({ type: 'done', result, rests: job.kind === 'monitor' && (result as MeasuredWindow).rows <= SMALL_WINDOW_ROWS });
  } catch (error) {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The computing failed unexpectedly.');
    const cause = error instanceof MillraceError ? error.cause : error;
    send({ type: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : typeof cause === 'string' ? cause : '' });
  }
}

/** What a job needs is loaded when it is needed: the learning side is large. */
function run(): Promise<unknown> {
  if (job.kind === 'train') return train(job);
  if (job.kind === 'evaluate') return evaluate(job);
  if (job.kind === 'ensemble') return ensemble(job);
  if (job.kind === 'predict') return predict(job);
  if (job.kind === 'monitor') return monitor(job);
  return job.kind === 'score' ? score(job) : step(job);
}

/** A trained predictor with what makes it servable, or where its training was stopped. */
async function train(task: TrainJob): Promise<TrainedCandidate | StoppedTraining> {
  const { trainPredictor } = await nativeCode(() => import('../ml/train-predictor.ts'));
  const { resume, looks } = prepareLooks(task);
  const { group, weight } = task;
  const columns = [...new Set([...featureColumns(task.features), task.target, ...(group ? [group] : [])])];
  send({ type: 'progress', fraction: null, message: 'reading' });
  const table = await readColumns(task.train, weight ? [...new Set([...columns, weight])] : columns, {
    seed: task.seed,
    ...(task.sampleRows === null ? {} : { sampleRows: task.sampleRows }),
  });
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
      ...(group ? { group } : {}),
      ...(weight ? { weight } : {}),
      seed: task.seed,
      threads: task.threads,
      ...(resume ? { resume } : {}),
      ...(task.from ? { from: { onnx: await readFile(task.from.onnx), task: task.from.task } } : {}),
      ...(looks === null ? {} : { rungs: looks.rungs }),
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
          send({ type: 'checkpoint', step, state: looks === null ? state() : looks.seal(state()) });
        }
        await new Promise((resolve) => setImmediate(resolve)); // hears of commits
      },
    });
    const { servable } = await nativeCode(() => import('./servable.ts'));
    return { trained, ...(await servable(task, trained, table)), rungs: looks?.seen ?? [] };
  } catch (error) {
    if (looks !== null && error instanceof StoppedAtRung) return { stoppedAt: error.fraction, rungs: looks.seen };
    throw error;
  } finally {
    port.removeAllListeners('message');
  }
}

/** What a training that is looked at goes on from, and who looks. */
function prepareLooks({ rungs, resume }: TrainJob) {
  if (rungs === null) return { resume, looks: null };
  const saved = resume === null ? { state: null, seen: [] } : splitRungs(resume);
  const seen = [...saved.seen];
  const left = rungs.rungs.slice(seen.length);
  const judge = (fraction: number, metrics: Readonly<Record<string, number>>): void => {
    const value = metrics[rungs.metric];
    if (value === undefined) throw noSuchMetric(rungs.metric, Object.keys(metrics));
    seen.push({ fraction, value });
    const limit = left.find((rung) => rung.fraction === fraction)?.limit ?? null;
    if (
      !goesOn(
        rungs.by,
        limit,
        seen.map((rung) => rung.value),
        rungs.direction,
      )
    )
      throw new StoppedAtRung(fraction);
  };
  return {
    resume: saved.state,
    looks: { seen, rungs: { fractions: left.map(({ fraction }) => fraction), judge }, seal: (state: Uint8Array) => withRungs(state, seen) },
  };
}

/** Scores the rows and judges them here: metrics over hundreds of thousands of rows would stop the worker's heartbeats. */
async function score(task: ScoreJob): Promise<JudgedRows> {
  const { createScorer } = await nativeCode(() => import('../ml/score.ts'));
  const { judgeRows } = await nativeCode(() => import('./judge-rows.ts'));
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

/** Scores the rows, and works out all that an evaluation tells. */
async function evaluate(task: EvaluateJob): Promise<EvaluatedRows> {
  const { evaluateRows } = await nativeCode(() => import('./evaluate-rows.ts'));
  send({ type: 'progress', fraction: null, message: 'reading' });
  const table = await readColumns(task.files, task.columns, { seed: 0 });
  return evaluateRows(task, table, (fraction, message) => {
    send({ type: 'progress', fraction, message });
  });
}

/** Scores a dataset of any size into files. */
async function predict(task: PredictJob): Promise<PredictedDataset> {
  const { predictRows } = await nativeCode(() => import('./predict-rows.ts'));
  return predictRows(task, {
    progress: (fraction, message) => {
      send({ type: 'progress', fraction, message });
    },
    commit: (step, state) => {
      send({ type: 'checkpoint', step, state });
    },
  });
}

/** Measures one window of an endpoint's requests. */
async function monitor(task: MonitorJob): Promise<MeasuredWindow> {
  const { measureWindow } = await nativeCode(() => import('./measure-window.ts'));
  return measureWindow(task, (fraction, message) => {
    send({ type: 'progress', fraction, message });
  });
}

/** Joins several predictors into one. */
async function ensemble(task: EnsembleJob): Promise<BuiltEnsemble> {
  const { buildEnsemble } = await nativeCode(() => import('./build-ensemble.ts'));
  return buildEnsemble(task, (fraction, message) => {
    send({ type: 'progress', fraction, message });
  });
}

/** A user's step on a dataset, as a DataFrame or as a DuckDB view. */
async function step(task: StepJob): Promise<StoredDataset> {
  const [{ frameFromDataset, datasetFromFrame, datasetFromQuery }, { loadManifest }, { openArtifacts }, { stepRun, isStep }] = await nativeCode(() =>
    Promise.all([import('../data/frames.ts'), import('../data/dataset.ts'), import('../store/artifacts.ts'), import('./steps.ts')]),
  );
  const found = ((await nativeCode(() => import(pathToFileURL(task.module).href))) as Record<string, unknown>)[task.step];
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
    if (user.kind === 'value' || user.kind === 'rows' || user.kind === 'metric') throw new MillraceError('USAGE', `The step ${task.step} takes no dataset.`);
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
