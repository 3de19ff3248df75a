/** What a window is held against, as far as the version's records tell it. */
import type { EvaluatedAnswers } from '../contracts/drift.ts';
import { EvaluationReportSchema } from '../contracts/evaluation.ts';
import { type Expectation, type Expectations, ExpectationsSchema } from '../contracts/expectations.ts';
import type { WindowFigures } from '../contracts/monitoring.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Profile } from '../contracts/profile.ts';
import { DatasetRefSchema } from '../contracts/references.ts';
import type { Predictor } from '../contracts/signature.ts';
import { datasetFiles, loadManifest } from '../data/dataset.ts';
import { SplitInputSchema } from '../contracts/stages.ts';
import type { ScoreBin } from '../contracts/window-quality.ts';
import type { ReferenceRows } from '../data/drift.ts';
import { predictionSegments } from '../data/prediction-segments.ts';
import { answersOf } from '../ml/drift/answers.ts';
import { calibrationOf } from '../ml/evaluation/estimated-performance.ts';
import type { FoundWindow } from './monitor-findings.ts';
import type { MonitorJob } from './monitor-job.ts';
import type { Look } from './monitor-look.ts';

/** Windows of its own from which on a version needs none of the training rows; and how many of those are looked at, the newest ones. */
const ENOUGH_WINDOWS = 1_000;
const MOST_TRAINED = 1_000;

interface Compared {
  readonly rows: Profile | ReferenceRows | null;
  readonly told: Omit<NonNullable<WindowFigures['reference']>, 'rows'> | null;
  readonly notes: readonly string[];
}

export async function referenceOf(
  { deps, options, champion, predictor, profile }: Look,
  window: { readonly from: string; readonly to: string },
  past: readonly FoundWindow[],
): Promise<Compared> {
  const { against, endpoint } = options;
  if (against === 'training')
    return profile === null
      ? { rows: null, told: null, notes: ['the model has no training profile: drift is not measured'] }
      : { rows: profile, told: { kind: 'training', label: `the training data of ${champion.model} ${String(champion.version)}` }, notes: [] };
  const day = 86_400_000;
  const ranges =
    'windows' in against
      ? past.filter(({ to }) => to <= window.from).slice(0, against.windows)
      : Array.from({ length: against.cycles }, (_, index) => {
          const back = (index + 1) * (against.season === 'day' ? day : 7 * day);
          return { from: new Date(Date.parse(window.from) - back).toISOString(), to: new Date(Date.parse(window.to) - back).toISOString() };
        });
  const earliest = ranges.reduce((least, { from }) => (from < least ? from : least), window.from);
  const segments = ranges.length === 0 ? [] : await predictionSegments(deps.config.home, endpoint, earliest);
  if (segments.length === 0) return { rows: null, told: null, notes: ['nothing earlier to compare with: drift is not measured'] };
  const watched = new Set(watchedColumns(predictor));
  return {
    rows: {
      kind: 'rows',
      rows: { kind: 'predictionLog', segments, model: champion.model, version: champion.version, ranges: ranges.map(({ from, to }) => ({ from, to })) },
      columns: predictor.signature.columns.filter(({ name }) => watched.has(name)),
    },
    told:
      'windows' in against
        ? { kind: 'windows', label: `the ${String(ranges.length)} windows before` }
        : { kind: 'season', label: `the same time of the ${String(against.cycles)} ${against.season}s before` },
    notes: [],
  };
}

/** What the graph reads, and the raw columns that requests carry for it as they are. */
export function watchedColumns({ signature: { graph, columns, transforms } }: Predictor): readonly string[] {
  const changed = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  // a clock always moves on: dates differ from training's by their nature
  const raw = columns.filter(({ name, type }) => type !== 'timestamp' && type !== 'date' && !changed.has(name)).map(({ name }) => name);
  return [...new Set([...graph.numbers, ...graph.strings, ...raw])];
}

/** What a classifier tells the window from: the reference's rows, or those that the model was trained on. */
export async function domainRows(look: Look, reference: Compared['rows']): Promise<NonNullable<NonNullable<MonitorJob['whole']>['domain']> | null> {
  const { deps, predictor } = look;
  const watched = new Set(watchedColumns(predictor));
  const columns = predictor.signature.columns.filter(({ name }) => watched.has(name));
  if (reference !== null && 'kind' in reference) return { rows: reference.rows, columns };
  const trained = await trainedDataset(look);
  if (trained === null) return null;
  const files = await datasetFiles(deps.artifacts, trained.manifest);
  return { rows: { kind: 'parquet', paths: files.map(({ path }) => path) }, columns };
}

/** What the version's evaluation knows of its answers; null where there is none. */
export async function evaluated({
  deps,
  memory,
  record,
}: Look): Promise<{ readonly calibration: readonly ScoreBin[]; readonly answers: EvaluatedAnswers | null } | null> {
  const { evaluation } = await record();
  if (evaluation === null) return null;
  return memory.artifact(evaluation, async () => {
    const report = EvaluationReportSchema.safeParse(await deps.artifacts.getJson(evaluation));
    return report.success ? { calibration: calibrationOf(report.data), answers: answersOf(report.data) } : null;
  });
}

/** What the windows of the training rows depend on. Null: they are not needed. `known`: the version's windows that were decided before. */
export function trainedKey({ options, champion }: Look, known: number): string | null {
  const { against, everyMs, lengthMs, leastRows, rows, drift } = options;
  if (against !== 'training' || drift.trainingTime === false || known >= ENOUGH_WINDOWS) return null;
  return JSON.stringify([champion.model, champion.version, champion.predictor, everyMs, lengthMs, leastRows, rows, drift.trainingTime, drift.except]);
}

/** The training rows that a window is like by time, for thresholds of the first windows. Null: their times are not known. */
export async function trainedWindows(look: Look): Promise<NonNullable<MonitorJob['whole']>['trained']> {
  const { deps, options } = look;
  const { trainingTime } = options.drift;
  if (trainingTime === false) return null;
  try {
    const trained = await trainedDataset(look);
    if (trained === null) return null;
    const { manifest, stages } = trained;
    const times = manifest.columns.filter(({ type }) => type === 'timestamp' || type === 'date').map(({ name }) => name);
    const split = stages.flatMap(({ kind, input }) => {
      const read = kind === 'split' ? SplitInputSchema.safeParse(input) : undefined;
      return read?.success === true && read.data.options.by === 'time' ? [read.data.options.column] : [];
    });
    const [only, ...others] = times;
    const time = trainingTime ?? split.find((column) => times.includes(column)) ?? (others.length === 0 ? only : undefined);
    if (time === undefined || !times.includes(time)) return null;
    const paths = (await datasetFiles(deps.artifacts, manifest)).map(({ path }) => path);
    const { everyMs, lengthMs, leastRows, rows } = options;
    return { paths, time, everyMs: lengthMs ?? everyMs, leastRows, most: MOST_TRAINED, ...(rows === undefined ? {} : { rows }) };
  } catch (error) {
    // they were removed since: the first windows have no history
    if (error instanceof MillraceError) return null;
    throw error;
  }
}

/** What the version was trained on, and the stages of the run that made it. */
async function trainedDataset({ deps, stages: ask }: Look) {
  const stages = (await ask()).filter(({ status }) => status === 'completed');
  const [training] = stages.flatMap(({ kind, input }) => {
    const read = kind === 'train' ? DatasetRefSchema.safeParse((input as { readonly train?: unknown } | null)?.train) : undefined;
    return read?.success === true ? [read.data] : [];
  });
  return training === undefined ? null : { stages, manifest: await loadManifest(deps.artifacts, training) };
}

/** Expectations that a window of requests can keep or break: those of a table, of an order, and of other data are about a dataset. */
const LIVE: ReadonlySet<Expectation['kind']> = new Set([
  'notNull',
  'isNull',
  'inSet',
  'notInSet',
  'between',
  'dateBetween',
  'lengthBetween',
  'matches',
  'notMatches',
  'dateFormat',
  'json',
  'nullFractionAtMost',
  'minBetween',
  'maxBetween',
  'meanBetween',
  'standardDeviationBetween',
  'quantileBetween',
  'mostCommonIn',
]);

/** Given, or those of the run that made the version, of columns that requests carry as the training data had them. */
export async function liveExpectations({ options, predictor, stages: ask }: Look): Promise<Expectations | null> {
  if (options.expectations === false) return null;
  if (options.expectations !== undefined) return options.expectations;
  const { columns, transforms } = predictor.signature;
  const changed = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  const carried = new Set(columns.map(({ name }) => name).filter((name) => !changed.has(name)));
  const stages = (await ask()).filter(({ kind, status }) => kind === 'validate' && status === 'completed');
  const found = stages.flatMap(({ input }) => {
    const read = ExpectationsSchema.safeParse((input as { readonly expectations?: unknown } | null)?.expectations);
    return read.success ? read.data.expectations : [];
  });
  const live = found.filter((expectation) => LIVE.has(expectation.kind) && 'column' in expectation && carried.has(expectation.column));
  const unlike = [...new Map(live.map((expectation) => [JSON.stringify(expectation), expectation])).values()];
  return unlike.length === 0 ? null : { format: 'millrace-expectations/1', expectations: unlike };
}
