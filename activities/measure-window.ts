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
type WindowedDriftLimits = Pick<WindowedDriftOptions, 'columns' | 'memoryLimitBytes'>;

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

async function measureIn(folder: string, job: MonitorJob, progress: Progress): Promise<MeasuredWindow> {
  const path = join(folder, 'rows.parquet');
  const { whole } = job;
  const { columns } = job.predictor.signature;
  let absent: readonly string[] = [];
  const measured = await withDuckDb({ memoryLimitBytes: MEMORY_BYTES }, async (db): Promise<MeasuredWindow> => {
    progress(null, 'reading');
    const window = await openMonitorRows(db, job);
    if (window === null) return { rows: 0, latencyMs: null, log: { otherVersions: 0, repeated: 0, relabelled: 0 } };
    const { rows, otherVersions, repeated, relabelled, latencyMs } = window;
    if (whole !== null && rows > 0) absent = await window.write(path, columns);
    progress(null, 'judging');
    const half = normalQuantile((1 + OUTCOME_CONFIDENCE) / 2);
    const outcomes = Object.entries(window.outcomes).map(([name, { deviation, ...of }]) => {
      const wide = deviation === null ? null : (half * deviation) / Math.sqrt(of.rows);
      return [name, { ...of, low: wide === null ? null : of.mean - wide, high: wide === null ? null : of.mean + wide }] as const;
    });
    return {
      rows,
      latencyMs,
      log: { otherVersions, repeated, relabelled },
      quality: rows === 0 ? null : await qualityOf(job, window),
      outcomes: Object.fromEntries(outcomes),
      ...(whole === null || rows === 0 ? {} : await wholeOf(db, job, whole, window, progress)),
    };
  });
  if (whole === null || measured.rows === 0) return measured;
  progress(null, 'comparing');
  const recent: RecentRows = { kind: 'parquet', paths: [path], answers: ANSWERS, absent };
  const { reference, watched, domain, answers, trained } = whole;
  const limited = { memoryLimitBytes: MEMORY_BYTES };
  const drift =
    reference === null
      ? undefined
      : await measureDrift(recent, reference, { columns: watched, ...(answers == null || 'kind' in reference ? {} : { outputs: answers }), ...limited });
  return {
    ...measured,
    data: whole.expectations === null ? null : await checkedData(path, columns, measured.rows, whole.expectations),
    ...(drift === undefined ? {} : { drift }),
    ...(domain ? { domain: await domainOf(recent, domain) } : {}),
    ...(trained == null || reference === null || 'kind' in reference
      ? {}
      : { trained: await quietWindows(trained, reference, { columns: watched, ...limited }) }),
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
async function domainOf(recent: RecentRows, { rows, columns }: NonNullable<Whole['domain']>): Promise<MeasuredWindow['domain']> {
  const sample = await sampleDomain(recent, rows, { columns, memoryLimitBytes: MEMORY_BYTES });
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
): Promise<Pick<MeasuredWindow, 'estimated' | 'skew' | 'detectors'>> {
  const { signature } = job.predictor;
  progress(null, 'estimating');
  const estimated = await estimateOf(signature, whole, window);
  const detectors: NonNullable<MeasuredWindow['detectors']> = {};
  for (const detector of whole.detectors) {
    const values = detector.of === 'score' ? await window.scores(positiveOutput(signature, window.width), { inOrder: true }) : await errorsOf(db, job, whole);
    detectors[detector.name] = runDetector(detector, values);
  }
  progress(null, 'scoring again');
  const skew = whole.skew === null ? null : await scoreAgain(db, window, { ...whole.skew, signature });
  return { estimated, detectors, skew };
}

const positiveOutput = ({ task }: Signature, width: number): number => (task.kind === 'binary' && width > 1 ? 1 : 0);

async function checkedData(
  path: string,
  columns: readonly Column[],
  rows: number,
  expectations: NonNullable<Whole['expectations']>,
): Promise<MeasuredWindow['data']> {
  const result = await checkExpectations([{ path, rows }], columns, expectations, { memoryLimitBytes: MEMORY_BYTES });
  // values of requests are kept in the log alone, for as long as that is kept
  return { ...result, results: result.results.map((one) => ({ ...one, sample: [] })) };
}

async function estimateOf({ task, threshold }: Signature, { calibration, estimated }: Whole, window: MonitorRows): Promise<MeasuredWindow['estimated']> {
  if (calibration === null || (task.kind !== 'binary' && task.kind !== 'multiclass')) return null;
  const scores = await window.scores(task.kind === 'binary' ? (window.width > 1 ? 1 : 0) : 'greatest');
  return estimatePerformance({
    task: task.kind,
    scores,
    threshold,
    calibration,
    metrics: estimated,
    intervals: { confidence: 0.95, replicates: 200, seed: 0 },
  });
}

async function qualityOf(job: MonitorJob, window: MonitorRows): Promise<MeasuredWindow['quality']> {
  const { quality, predictor, metrics } = job;
  const { task, threshold } = predictor.signature;
  if (quality === false || task.kind === 'raw' || (task.kind === 'regression' && task.group !== undefined)) return null;
  const judged: WindowRows['task'] = task.kind === 'multiclass' ? { kind: 'multiclass', classes: task.classes.length } : { kind: task.kind };
  const width = task.kind === 'regression' ? 1 : task.classes.length;
  const headline = createJudge(judged, Float64Array.of(0, 1), new Float64Array(2 * width).fill(1 / width), threshold).names;
  const asked = quality.metrics.length > 0 ? [...new Set([...quality.metrics, ...metrics])] : undefined;
  const by = quality.slices.map((slice): readonly string[] => (typeof slice === 'string' ? [slice] : slice));
  const sliced = new Set(by.flat());
  const columns = predictor.signature.columns.filter(({ name }) => sliced.has(name));
  // one row stands for all where no label came
  const rows =
    window.labelled === 0
      ? { labels: { codes: Int32Array.of(-1), dictionary: [] }, answers: new Float64Array(width), table: { rows: 1, columns: new Map() } }
      : await window.labelledRows(columns);
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
