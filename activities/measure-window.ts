import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Column } from '../contracts/columns.ts';
import type { DetectorSignal } from '../contracts/detectors.ts';
import type { PastWindow } from '../contracts/drift.ts';
import type { Profile } from '../contracts/profile.ts';
import type { Signature } from '../contracts/signature.ts';
import { sampleDomain } from '../data/domain-sample.ts';
import { measureDrift, type RecentRows } from '../data/drift.ts';
import { measureDriftByWindow, type WindowedDriftOptions } from '../data/drift-windows.ts';
import { type DuckDb, withDuckDb } from '../data/duckdb.ts';
import { checkExpectations } from '../data/expectations.ts';
import { ANSWERS, arrivedLabels, type MonitorRows, openMonitorRows } from '../data/monitor-rows.ts';
import { quietWindow } from '../ml/drift/decide.ts';
import { classifyDomain } from '../ml/drift/domain-classifier.ts';
import { estimatePerformance } from '../ml/evaluation/estimated-performance.ts';
import { normalQuantile } from '../ml/evaluation/normal.ts';
import { type WindowRows, windowQuality } from '../ml/evaluation/window-quality.ts';
import { createJudge } from '../ml/metrics.ts';
import { createDetector } from '../ml/streaming/create-detector.ts';
import { restoreDetector } from '../ml/streaming/create-detector.ts';
import type { MeasuredWindow, MonitorJob } from './monitor-job.ts';
import { scoreAgain } from './score-again.ts';

type Progress = (fraction: number | null, message: string) => void;
type Whole = NonNullable<MonitorJob['whole']>;
type WindowedDriftLimits = Pick<WindowedDriftOptions, 'columns' | 'within'>;

/** Beyond that DuckDB spills into a temporary folder. */
const MEMORY_BYTES = 512 * 1024 ** 2;
const OUTCOME_CONFIDENCE = 0.95;
/** Of either side. */
const LEAST_DOMAIN_ROWS = 50;

/** Measures a window. Works in a computing thread, which cancelling ends. */
export async function measureWindow(job: MonitorJob, progress: Progress): Promise<MeasuredWindow> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-window-'));
  try {
    return await measureIn(folder, job, progress);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** All in one database: to open one takes longer than most of its queries on a small window. */
function measureIn(folder: string, job: MonitorJob, progress: Progress): Promise<MeasuredWindow> {
  return withDuckDb({ memoryLimitBytes: MEMORY_BYTES }, async (db): Promise<MeasuredWindow> => {
    const path = join(folder, 'rows.parquet');
    const { whole, predictor } = job;
    const { columns } = predictor.signature;
    progress(null, 'reading');
    const window = await openMonitorRows(db, { ...job, columns: whole === null ? slicedColumns(job) : columns, seed: whole?.skew?.seed ?? 0 });
    if (window === null) return { rows: 0, latencyMs: null, log: { otherVersions: 0, repeated: 0, relabelled: 0 } };
    const { rows, otherVersions, repeated, relabelled, latencyMs } = window;
    const half = normalQuantile((1 + OUTCOME_CONFIDENCE) / 2);
    const outcomes = Object.entries(window.outcomes).map(([name, { deviation, ...of }]) => {
      const wide = deviation === null ? null : (half * deviation) / Math.sqrt(of.rows);
      return [name, { ...of, low: wide === null ? null : of.mean - wide, high: wide === null ? null : of.mean + wide }] as const;
    });
    const log = { otherVersions, repeated, relabelled };
    const read: MeasuredWindow = { rows, latencyMs, log, quality: null, outcomes: Object.fromEntries(outcomes) };
    if (rows === 0) return read;
    const labelled = await labelledOf(job, window);
    const scores = whole === null ? null : await scoresOf(predictor.signature, whole, window);
    // DuckDB writes while this thread computes
    const writing = whole === null ? undefined : window.write(path);
    writing?.catch(() => undefined);
    progress(null, 'judging');
    const quality = qualityOf(job, window, labelled);
    if (whole === null || writing === undefined) return { ...read, quality };
    progress(null, 'estimating');
    const estimated = scores === null ? null : estimateOf(predictor.signature, whole, scores);
    const absent = await writing;
    const measured = { ...read, quality, estimated, ...(await wholeOf(db, job, whole, window, progress)) };
    await window.close();
    progress(null, 'comparing');
    return { ...measured, ...(await comparedOf(db, { kind: 'parquet', paths: [path], answers: ANSWERS, absent }, { path, columns, rows }, whole)) };
  });
}

async function comparedOf(
  db: DuckDb,
  recent: RecentRows,
  { path, columns, rows }: { readonly path: string; readonly columns: readonly Column[]; readonly rows: number },
  { reference, watched, domain, answers, trained, expectations }: Whole,
): Promise<Pick<MeasuredWindow, 'drift' | 'data' | 'domain' | 'trained'>> {
  const within = { within: db };
  const drift =
    reference === null
      ? undefined
      : await measureDrift(recent, reference, { columns: watched, ...(answers == null || 'kind' in reference ? {} : { outputs: answers }), ...within });
  return {
    data: expectations === null ? null : await checkedData(db, path, columns, rows, expectations),
    ...(drift === undefined ? {} : { drift }),
    ...(domain ? { domain: await domainOf(db, recent, domain) } : {}),
    ...(trained == null || reference === null || 'kind' in reference
      ? {}
      : { trained: await quietWindows(trained, reference, { columns: watched, ...within }) }),
  };
}

/** What the windows of the training rows were like, newest first. */
async function quietWindows(
  { paths, ...windows }: NonNullable<Whole['trained']>,
  profile: Profile,
  options: WindowedDriftLimits,
): Promise<readonly PastWindow[]> {
  const found = await measureDriftByWindow(paths, profile, { ...windows, ...options });
  return found.map(({ from, report }) => quietWindow(from, report)).reverse();
}

/** Null: either side has too few rows to learn from. */
async function domainOf(db: DuckDb, recent: RecentRows, { rows, columns }: NonNullable<Whole['domain']>): Promise<MeasuredWindow['domain']> {
  const sample = await sampleDomain(recent, rows, { columns, within: db });
  const now = sample.recent.reduce((sum, side) => sum + side, 0);
  if (sample.names.length === 0 || Math.min(now, sample.recent.length - now) < LEAST_DOMAIN_ROWS) return null;
  return classifyDomain(sample, { seed: 0 });
}

async function wholeOf(
  db: DuckDb,
  job: MonitorJob,
  whole: Whole,
  window: MonitorRows,
  progress: Progress,
): Promise<Pick<MeasuredWindow, 'skew' | 'detectors'>> {
  const { signature } = job.predictor;
  const detectors: NonNullable<MeasuredWindow['detectors']> = {};
  for (const detector of whole.detectors) {
    const values = detector.of === 'score' ? await window.scores(positiveOutput(signature, window.width), { inOrder: true }) : await errorsOf(db, job, whole);
    detectors[detector.name] = runDetector(detector, values);
  }
  progress(null, 'scoring again');
  const skew = whole.skew === null ? null : await scoreAgain(db, window, { ...whole.skew, signature });
  return { detectors, skew };
}

const positiveOutput = ({ task }: Signature, width: number): number => (task.kind === 'binary' && width > 1 ? 1 : 0);

async function checkedData(
  db: DuckDb,
  path: string,
  columns: readonly Column[],
  rows: number,
  expectations: NonNullable<Whole['expectations']>,
): Promise<MeasuredWindow['data']> {
  const result = await checkExpectations([{ path, rows }], columns, expectations, { within: db });
  // values of requests are kept in the log alone, for as long as that is kept
  return { ...result, results: result.results.map((one) => ({ ...one, sample: [] })) };
}

/** What performance is estimated from; null where it is not. */
async function scoresOf({ task }: Signature, { calibration }: Whole, window: MonitorRows): Promise<Float64Array | null> {
  if (calibration === null || (task.kind !== 'binary' && task.kind !== 'multiclass')) return null;
  return window.scores(task.kind === 'binary' ? (window.width > 1 ? 1 : 0) : 'greatest');
}

function estimateOf({ task, threshold }: Signature, { calibration, estimated }: Whole, scores: Float64Array): MeasuredWindow['estimated'] {
  if (calibration === null || (task.kind !== 'binary' && task.kind !== 'multiclass')) return null;
  return estimatePerformance({
    task: task.kind,
    scores,
    threshold,
    calibration,
    metrics: estimated,
    intervals: { confidence: 0.95, replicates: 200, seed: 0 },
  });
}

type LabelledRows = Awaited<ReturnType<MonitorRows['labelledRows']>>;

/** Null: quality is not judged. */
async function labelledOf(job: MonitorJob, window: MonitorRows): Promise<LabelledRows | null> {
  const { task } = job.predictor.signature;
  if (job.quality === false || task.kind === 'raw' || (task.kind === 'regression' && task.group !== undefined)) return null;
  if (window.labelled > 0) return window.labelledRows(slicesBy(job).flat());
  // one row stands for all where no label came
  const answers = new Float64Array(task.kind === 'regression' ? 1 : task.classes.length);
  return { labels: { codes: Int32Array.of(-1), dictionary: [] }, answers, table: { rows: 1, columns: new Map() } };
}

function qualityOf(job: MonitorJob, window: MonitorRows, rows: LabelledRows | null): MeasuredWindow['quality'] {
  const { quality, predictor, metrics } = job;
  const { task, threshold } = predictor.signature;
  if (rows === null || quality === false || task.kind === 'raw') return null;
  const judged: WindowRows['task'] = task.kind === 'multiclass' ? { kind: 'multiclass', classes: task.classes.length } : { kind: task.kind };
  const width = task.kind === 'regression' ? 1 : task.classes.length;
  const headline = createJudge(judged, Float64Array.of(0, 1), new Float64Array(2 * width).fill(1 / width), threshold).names;
  const asked = quality.metrics.length > 0 ? [...new Set([...quality.metrics, ...metrics])] : undefined;
  const by = slicesBy(job);
  const values = Float64Array.from(rows.labels.dictionary, labelOf(predictor.signature));
  const y = new Float64Array(rows.labels.codes.length);
  rows.labels.codes.forEach((code, row) => (y[row] = values[code] ?? Number.NaN));
  const answers = window.labelled > 0 && window.width === 1 && width === 2 ? bothClasses(rows.answers) : rows.answers;
  const found = windowQuality(
    { task: judged, y, answers: answers.length === y.length * width ? answers : new Float64Array(y.length * width).fill(Number.NaN), threshold },
    {
      metric: metrics[0] ?? asked?.[0] ?? headline[0] ?? 'accuracy',
      ...(asked === undefined ? {} : { metrics: asked }),
      leastRows: quality.leastRows,
      intervals: quality.intervals,
      ...(by.length === 0 || window.labelled === 0 ? {} : { slices: { table: rows.table, by, leastRows: quality.leastSliceRows } }),
    },
  );
  return { ...found, rows: window.rows };
}

const slicesBy = ({ quality }: MonitorJob): readonly (readonly string[])[] =>
  quality === false ? [] : quality.slices.map((slice) => (typeof slice === 'string' ? [slice] : slice));

function slicedColumns(job: MonitorJob): readonly Column[] {
  const sliced = new Set(slicesBy(job).flat());
  return job.predictor.signature.columns.filter(({ name }) => sliced.has(name));
}

/** Of two classes the log may have the positive one's probability alone. */
const bothClasses = (scores: Float64Array): Float64Array =>
  Float64Array.from({ length: scores.length * 2 }, (_, at) => (at % 2 === 1 ? (scores[at >> 1] as number) : 1 - (scores[at >> 1] as number)));

/** A label's text as the model knows it: -1 where it is none of its classes, NaN where it is no number. */
function labelOf({ task }: Signature): (text: string) => number {
  if (task.kind !== 'binary' && task.kind !== 'multiclass') return (text) => (text.trim() === '' ? Number.NEGATIVE_INFINITY : Number(text));
  const codes = new Map(task.classes.map((name, code) => [name, code]));
  return (text) => codes.get(text) ?? codes.get(String(Number(text))) ?? -1;
}

/** 0 for a right answer and 1 for a wrong one; of values the absolute error. In the order in which labels came. */
async function errorsOf(db: DuckDb, job: MonitorJob, { arrivals, arrivedFrom }: Whole): Promise<Float64Array> {
  const { signature } = job.predictor;
  const arrived = await arrivedLabels(db, { ...job, segments: arrivals, from: arrivedFrom, until: job.feedbackUntil });
  const label = labelOf(signature);
  return Float64Array.from(arrived, ({ label: text, output }) => {
    const wanted = label(text);
    if (signature.task.kind === 'regression' || signature.task.kind === 'raw') return Math.abs((output[0] ?? Number.NaN) - wanted);
    const answered =
      output.length <= 2 ? (((output.length === 2 ? output[1] : output[0]) ?? 0) >= signature.threshold ? 1 : 0) : output.indexOf(Math.max(...output));
    return wanted === -1 ? Number.NaN : Number(answered !== wanted);
  });
}

/** Values that are no numbers are left out: they say nothing. */
function runDetector({ options, state }: Whole['detectors'][number], values: Float64Array): NonNullable<MeasuredWindow['detectors']>[string] {
  const detector = state === null ? createDetector(options) : restoreDetector(state);
  let [seen, changes] = [0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    seen++;
    const signal: DetectorSignal = detector.update(value);
    if (signal.drift) changes++;
  }
  return { state: detector.state(), values: seen, changes };
}
