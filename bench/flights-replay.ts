/**
 * Flights of 2001 replayed as the traffic of an endpoint: a model is trained on January, each later flight is a request at its
 * departure, and its label comes an hour later. Windows are measured and judged by what the monitor itself calls, in the time of
 * the flights: no clock is read.
 */
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measureWindow } from '../activities/measure-window.ts';
import type { MonitorJob } from '../activities/monitor-job.ts';
import type { Column, RawTable } from '../contracts/columns.ts';
import type { DriftDecision, DriftSettings, PastWindow } from '../contracts/drift.ts';
import { between, expectations, lengthBetween, notNull } from '../contracts/expectations.ts';
import { categorical, datetime, numeric } from '../contracts/features.ts';
import { type MonitorOptions, MonitorOptionsSchema } from '../contracts/monitoring.ts';
import type { Profile } from '../contracts/profile.ts';
import type { FeedbackRecord, PredictionRecord } from '../contracts/routes.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import { measureDriftByWindow } from '../data/drift-windows.ts';
import { withDuckDb } from '../data/duckdb.ts';
import type { LogSegment } from '../data/prediction-segments.ts';
import { profileDataset } from '../data/profile.ts';
import { readColumns } from '../data/read-columns.ts';
import { textLiteral } from '../data/sql-text.ts';
import { decideDrift, quietWindow, withReport } from '../ml/drift/decide.ts';
import { createScorer, type Scorer } from '../ml/score.ts';
import { trainPredictor } from '../ml/train-predictor.ts';

const HOUR_MS = 3_600_000;
const MODEL = 'flight-delay';
const WATCHED = ['distance', 'origin', 'destination'] as const;
const COLUMNS: readonly Column[] = [
  { name: 'date', type: 'timestamp' },
  { name: 'distance', type: 'integer' },
  { name: 'origin', type: 'string' },
  { name: 'destination', type: 'string' },
];
/** What the training data have to be like, of what requests carry. */
const EXPECTATIONS = expectations({
  distance: [notNull(), between(1, 6_000, { severity: 'warn' })],
  origin: [notNull(), lengthBetween(3, 3)],
  destination: [notNull(), lengthBetween(3, 3)],
});
/** Earlier windows that a decision looks at. */
const MOST_PAST = 1_000;

/**
 * What goes wrong with the requests of a window. `change` is SQL of a column, for every row. `by`: what has to find it; that codes are
 * new says little about how often each known one comes, and is for the expectations to find.
 */
export const FAULTS = [
  { name: 'miles to kilometres', column: 'distance', by: 'drift', change: 'CAST(round(distance * 1.609344) AS BIGINT)' },
  { name: 'null burst', column: 'origin', by: 'drift', change: 'CASE WHEN hash(date, destination, distance) % 10 < 3 THEN NULL ELSE origin END' },
  { name: 'category shift', column: 'destination', by: 'drift', change: "CASE WHEN hash(date, origin, distance) % 10 < 3 THEN 'ATL' ELSE destination END" },
  {
    name: 'new codes',
    column: 'destination',
    by: 'data',
    change: "CASE WHEN hash(date, origin, distance) % 10 < 3 THEN 'K' || destination ELSE destination END",
  },
] as const;
export type Fault = (typeof FAULTS)[number];

export interface ReplayOptions {
  /** The Parquet file of the flights. */
  readonly source: string;
  /** Emptied before and after. */
  readonly folder: string;
  /** Per cent of the flights. */
  readonly percent: number;
  readonly everyMs: number;
  /** Replayed from here to there, UTC ISO; the model is trained on what is before, from `trainFrom` on. */
  readonly trainFrom: string;
  readonly from: string;
  readonly to: string;
  /** In every window of so many, each fault is tried: the same requests once more, with the fault. */
  readonly faultEvery: number;
  /** A window with fewer goes on until the next look, as the monitor's do. Default: the monitor's. */
  readonly leastRows?: number;
  /** Whether labels are joined and judged too. Default true. */
  readonly judgeQuality?: boolean;
  readonly onWindow?: (window: ReplayedWindow) => void;
}

export interface ReplayedWindow {
  readonly from: string;
  readonly rows: number;
  readonly verdict: DriftDecision['verdict'];
  /** Columns that drifted, the surest first. */
  readonly drifted: readonly string[];
  /** Columns that fail an expectation of the training data. */
  readonly failed: readonly string[];
  /** Before labels came, and when all of the window's are there. */
  readonly labelledAtOnce: number;
  readonly labelled: number;
  readonly auc: number | null;
}

export interface TriedFault {
  readonly fault: string;
  readonly column: string;
  readonly from: string;
  readonly rows: number;
  /** Columns that drifted, the surest first; and those that fail an expectation. */
  readonly drifted: readonly string[];
  readonly failed: readonly string[];
  /** Whether what has to find it did, and named its column first. */
  readonly isFound: boolean;
}

export interface Replay {
  readonly trainedRows: number;
  readonly windows: readonly ReplayedWindow[];
  readonly faults: readonly TriedFault[];
}

const within = (from: string, to: string): string => `date >= CAST(${textLiteral(from)} AS TIMESTAMP) AND date < CAST(${textLiteral(to)} AS TIMESTAMP)`;
const iso = (ms: number): string => new Date(ms).toISOString();

/** @throws what training, DuckDB and the file system throw */
export async function replayFlights(options: ReplayOptions): Promise<Replay> {
  const { source, folder, percent, everyMs, from, to, faultEvery } = options;
  const { leastRows, drift, quality } = MonitorOptionsSchema.parse({
    endpoint: MODEL,
    everyMs,
    ...(options.leastRows === undefined ? {} : { leastRows: options.leastRows }),
    ...(options.judgeQuality === false ? { quality: false } : {}),
  });
  const { except: _except, domain: _domain, trainingTime: _time, ...settings } = drift;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    const sampled = join(folder, 'sampled.parquet');
    await withDuckDb({}, (db) =>
      db.run(
        `COPY (SELECT date, distance, origin, destination, delay > 15 AS delayed FROM ${textLiteral(source)} WHERE ${within(options.trainFrom, to)} AND hash(date, origin, destination, distance, delay) % 100 < ${String(percent)} ORDER BY date) TO ${textLiteral(sampled)} (FORMAT parquet)`,
      ),
    );
    const flights = (name: string, begin: string, end: string, fault?: Fault): Promise<string> =>
      withDuckDb({}, async (db) => {
        const path = join(folder, `${name}.parquet`);
        const columns = COLUMNS.map((column) => (fault?.column === column.name ? `${fault.change} AS ${column.name}` : column.name)).join(', ');
        await db.run(
          `COPY (SELECT ${columns}, delayed FROM ${textLiteral(sampled)} WHERE ${within(begin, end)} ORDER BY date) TO ${textLiteral(path)} (FORMAT parquet)`,
        );
        return path;
      });
    const training = await flights('training', options.trainFrom, from);
    const { predictor, profile, scorer } = await trained(training);
    try {
      const quiet = await measureDriftByWindow([training], profile, { columns: WATCHED, time: 'date', everyMs, leastRows });
      let past: readonly PastWindow[] = quiet.map(({ from: at, report }) => quietWindow(at, report)).reverse();
      const replay: { windows: ReplayedWindow[]; faults: TriedFault[] } = { windows: [], faults: [] };
      for (let month = Date.parse(from); month < Date.parse(to); ) {
        const next = Math.min(Date.parse(to), Date.UTC(new Date(month).getUTCFullYear(), new Date(month).getUTCMonth() + 1));
        const table = await readColumns([await flights('month', iso(month), iso(next))], [...COLUMNS.map(({ name }) => name), 'delayed']);
        const log = await answered(table, scorer);
        for (let start = month, end = month; end < next; ) {
          end = Math.min(next, end + everyMs);
          const rows = log.between(start, end);
          if (rows.length < leastRows) continue;
          const known = { predictor, profile, past, quality, settings: { ...settings, leastRows: Math.min(settings.leastRows, leastRows) } };
          const judged = await judge(known, await written(folder, log, rows), start, end);
          past = [judged.asPast, ...past].slice(0, MOST_PAST);
          replay.windows.push(judged.window);
          options.onWindow?.(judged.window);
          for (const fault of replay.windows.length % faultEvery === 0 ? FAULTS : []) {
            const faulty = await answered(
              await readColumns([await flights('fault', iso(start), iso(end), fault)], [...COLUMNS.map(({ name }) => name), 'delayed']),
              scorer,
            );
            // held against what stood before the window: as if the fault had come in place of what was quiet
            const tried = await judge(known, await written(folder, faulty, faulty.between(start, end)), start, end);
            const { rows: faultyRows, drifted, failed } = tried.window;
            const isFound = (fault.by === 'drift' ? drifted : failed)[0] === fault.column;
            replay.faults.push({ fault: fault.name, column: fault.column, from: iso(start), rows: faultyRows, drifted, failed, isFound });
          }
          start = end;
        }
        month = next;
      }
      return { trainedRows: profile.rows, ...replay };
    } finally {
      await scorer.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function trained(path: string): Promise<{ readonly predictor: Predictor; readonly profile: Profile; readonly scorer: Scorer }> {
  const profile = await profileDataset([{ path }] as never, COLUMNS);
  const { onnx, graph, task, threshold, trainer } = await trainPredictor({
    trainer: { name: 'gbdt', parameters: { trees: 40 } },
    features: {
      date: datetime({ parts: ['dayOfWeek', 'hour'] }),
      distance: numeric(),
      origin: categorical(),
      destination: categorical(),
    },
    train: await readColumns([path], [...COLUMNS.map(({ name }) => name), 'delayed'], { sampleRows: 40_000 }),
    target: 'delayed',
    targetType: 'boolean',
    seed: 7,
    threads: 1,
  });
  const predictor = PredictorSchema.parse({
    format: 'millrace-predictor/1',
    onnx: createHash('sha256').update(onnx).digest('hex'),
    onnxSizeBytes: onnx.length,
    signature: { columns: COLUMNS, transforms: [], graph, task, threshold },
    trainer,
    trainingProfile: null,
    sample: { rows: [], output: [] },
    importance: [],
  });
  return { predictor, profile, scorer: await createScorer(onnx, graph) };
}

interface Answered {
  readonly line: (row: number) => PredictionRecord;
  readonly label: (row: number) => FeedbackRecord;
  /** Rows of requests in [start, end), milliseconds. */
  readonly between: (start: number, end: number) => readonly number[];
}

async function answered(table: RawTable, scorer: Scorer): Promise<Answered> {
  const { values, outputs } = await scorer.score(table);
  const column = (name: string): ((row: number) => string | number | null) => {
    const found = table.columns.get(name);
    if (found === undefined) throw new RangeError(`There is no ${name}.`);
    if (found.kind === 'string') return (row) => found.dictionary[found.codes[row] ?? -1] ?? null;
    return (row) => (Number.isFinite(found.values[row]) ? (found.values[row] ?? null) : null);
  };
  const [date, distance, origin, destination, delayed] = ['date', ...WATCHED, 'delayed'].map(column) as [
    ReturnType<typeof column>,
    ...ReturnType<typeof column>[],
  ];
  const at = (row: number): number => Number(date(row));
  const order = Array.from({ length: table.rows }, (_, row) => row);
  return {
    line: (row) => ({
      requestId: `flight-${String(at(row))}-${String(row)}`,
      row: 0,
      at: iso(at(row)),
      model: MODEL,
      version: 1,
      challenger: false,
      inputs: { date: iso(at(row)), distance: distance?.(row), origin: origin?.(row), destination: destination?.(row) },
      output: Array.from(values.subarray(row * outputs, (row + 1) * outputs)),
      latencyMs: 1,
    }),
    label: (row) => ({ requestId: `flight-${String(at(row))}-${String(row)}`, row: 0, label: delayed?.(row) === 1, at: iso(at(row) + HOUR_MS) }),
    between: (start, end) => order.filter((row) => at(row) >= start && at(row) < end),
  };
}

interface Segments {
  readonly segments: readonly LogSegment[];
  readonly feedback: readonly LogSegment[];
}

/** The lines of some rows, as prediction servers write them. */
async function written(folder: string, log: Answered, rows: readonly number[]): Promise<Segments> {
  const write = async (name: string, lines: readonly object[]): Promise<LogSegment> => {
    const path = join(folder, `${name}.jsonl`);
    await writeFile(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    return { path, format: 'jsonl', identity: name };
  };
  return { segments: [await write('predictions', rows.map(log.line))], feedback: [await write('feedback', rows.map(log.label))] };
}

interface Known {
  readonly predictor: Predictor;
  readonly profile: Profile;
  readonly past: readonly PastWindow[];
  readonly quality: MonitorOptions['quality'];
  readonly settings: DriftSettings;
}

async function judge(
  { predictor, profile, past, quality, settings }: Known,
  { segments, feedback }: Segments,
  start: number,
  end: number,
): Promise<{ readonly window: ReplayedWindow; readonly asPast: PastWindow }> {
  const [from, to] = [iso(start), iso(end)];
  const job: MonitorJob = {
    kind: 'monitor',
    model: MODEL,
    version: 1,
    from,
    to,
    segments,
    feedback,
    feedbackUntil: to,
    predictor,
    quality,
    metrics: ['auc'],
    whole: {
      reference: profile,
      watched: WATCHED,
      calibration: null,
      estimated: [],
      skew: null,
      expectations: EXPECTATIONS,
      detectors: [],
      arrivedFrom: from,
      arrivals: segments,
    },
  };
  const nothing = (): void => undefined;
  const atOnce = await measureWindow(job, nothing);
  // an hour later the labels of the last requests are there as well, and the window is looked at again
  const later = quality === false ? atOnce : await measureWindow({ ...job, feedbackUntil: iso(end + HOUR_MS), whole: null }, nothing);
  const report = atOnce.drift ?? { rows: atOnce.rows, columns: [], skipped: [] };
  const decision = decideDrift({ from, report, past, settings });
  return {
    asPast: withReport(decision, report),
    window: {
      from,
      rows: atOnce.rows,
      verdict: decision.verdict,
      failed: [...new Set((atOnce.data?.results ?? []).flatMap(({ success, column }) => (success || column === null ? [] : [column])))],
      drifted: decision.columns.flatMap(({ column, drifted }) => (drifted ? [column] : [])),
      labelledAtOnce: atOnce.quality?.labelled ?? 0,
      labelled: later.quality?.labelled ?? 0,
      auc: later.quality?.metrics['auc'] ?? null,
    },
  };
}
