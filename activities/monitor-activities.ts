/**
 * Looks at an endpoint's requests, window by window.
 *
 * Invariants:
 * 1. A window begins where the last one that is stored ended, never where a tick was; it ends a moment before the look was asked for, which
 *    is the same time in every attempt. The same window again replaces its figures.
 * 2. A window without enough requests is not stored: it goes on, so that no request is left out.
 * 3. Windows that end in the future were looked at by a clock that was ahead: they are forgotten, and their requests looked at again.
 * 4. Who is asked and alerted is asked and alerted again by an attempt that comes after one that died: each carries a key or a subject.
 */
import { isDeepStrictEqual } from 'node:util';
import { Context } from '@temporalio/activity';
import { projectHashKey } from '../config/hash-key.ts';
import type { DetectorOptions } from '../contracts/detectors.ts';
import { MillraceError } from '../contracts/errors.ts';
import { EvaluationReportSchema, METRICS } from '../contracts/evaluation.ts';
import { type Expectation, type Expectations, ExpectationsSchema } from '../contracts/expectations.ts';
import type { Metric } from '../contracts/metrics.ts';
import { type Finding, type MonitorOptions, type WindowFigures, WindowFiguresSchema } from '../contracts/monitoring.ts';
import { type Profile, ProfileSchema } from '../contracts/profile.ts';
import { DatasetRefSchema } from '../contracts/references.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import { MonitorInputSchema, type Review } from '../contracts/stages.ts';
import { datasetFiles, loadManifest } from '../data/dataset.ts';
import type { ReferenceRows } from '../data/drift.ts';
import { withDuckDb } from '../data/duckdb.ts';
import { feedbackByWindow, windowEnd } from '../data/monitor-rows.ts';
import { feedbackSegments, predictionSegments } from '../data/prediction-segments.ts';
import { uncertainPredictions } from '../data/uncertain-predictions.ts';
import { decideDrift } from '../ml/drift/decide.ts';
import { calibrationOf } from '../ml/evaluation/estimated-performance.ts';
import { createDetector, restoreDetector } from '../ml/streaming/create-detector.ts';
import { askRetraining } from './ask-retraining.ts';
import { compute } from './compute-job.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { findingsOf, type FoundWindow, isMeasured } from './monitor-findings.ts';
import type { MeasuredWindow, MonitorJob } from './monitor-job.ts';
import { shownInputs } from './shown-inputs.ts';
import type { MonitorActivities, MonitorWindowInput, MonitorWindowResult } from './types.ts';

/** The prediction log is flushed at least twice in this time. */
const LOG_LAG_MS = 1_000;
/** While a window is measured. */
const HEARTBEAT_MS = 5_000;
/** Windows of a count of rows that one look catches up with at most, and late ones that it looks at again. */
const MOST_WINDOWS = 24;
const MOST_LATE = 24;
/** Windows whose findings and figures are at hand. */
const REMEMBERED = 400;

export function createMonitorActivities(deps: ActivityDependencies): MonitorActivities {
  return {
    checkWindow: async (input) => {
      try {
        return await checkWindow(deps, input);
      } catch (error) {
        throw toActivityFailure(error, Context.current().info.attempt, (original) => {
          deps.log('error', `monitor of ${input.endpoint}`, { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    },
  };
}

interface Look {
  readonly deps: ActivityDependencies;
  readonly options: MonitorOptions;
  readonly champion: ServedVersion;
  readonly predictor: Predictor;
  readonly profile: Profile | null;
  /** Requests and labels later than this belong to the next look. UTC ISO. */
  readonly until: string;
}

async function checkWindow(deps: ActivityDependencies, input: MonitorWindowInput): Promise<MonitorWindowResult> {
  const options = MonitorInputSchema.parse(input);
  const { endpoint } = options;
  const nothing = { rows: 0, worst: null, retrainingAsked: false } as const;
  const route = await deps.store.endpoints.route(endpoint);
  if (!route) return { verdict: 'no endpoint', ...nothing };
  const { champion } = route;
  const predictor = PredictorSchema.parse(await deps.artifacts.getJson(champion.predictor));
  const profile = predictor.trainingProfile === null ? null : ProfileSchema.parse(await deps.artifacts.getJson(predictor.trainingProfile));
  // what the server answered last is on disk a moment later; an attempt that comes again looks at the same window
  const untilMs = Context.current().info.scheduledTimestampMs - LOG_LAG_MS;
  const until = new Date(untilMs).toISOString();
  const look: Look = { deps, options, champion, predictor, profile, until };

  const forgotten = await deps.store.monitoring.dropWindowsAfter({ endpoint, after: until });
  const notes = forgotten === 0 ? [] : [`the clock went back: ${String(forgotten)} windows that end later are looked at again`];
  const known = await rememberedWindows(look);
  const standingBefore = standing(known);
  const touched: FoundWindow[] = [];
  let result: MonitorWindowResult = { verdict: 'too few rows', ...nothing };
  for (let round = 0; round < (options.rows === undefined ? 1 : MOST_WINDOWS); round++) {
    const window = await nextWindow(look, known[0]);
    if (window === null) break;
    if (round === 0 && options.review) await flagForReview(look, options.review, window);
    const figures = await lookAt(look, window, known, notes);
    result = { ...result, rows: figures.rows };
    if (figures.verdict === undefined || figures.verdict === 'too few rows') break;
    const found: FoundWindow = { ...window, figures };
    await putWindow(deps, endpoint, found);
    known.unshift(found);
    touched.push(found);
    result = resultOf(figures);
  }
  touched.push(...(await lookAgain(look, known, touched)));
  await settleAlerts(look, known);
  const asked = await askForRetraining(look, input.pipeline, known, touched, standingBefore);
  return { ...result, retrainingAsked: asked };
}

function resultOf({ rows, verdict = 'steady', drift }: WindowFigures): MonitorWindowResult {
  const worst = drift?.columns[0];
  return { verdict, rows, worst: worst === undefined ? null : { column: worst.column, psi: worst.psi }, retrainingAsked: false };
}

const putWindow = (deps: ActivityDependencies, endpoint: string, { from, to, figures }: FoundWindow): Promise<void> =>
  deps.store.monitoring.putWindow({ endpoint, from, to, figures, drifted: figures.verdict === 'drifted' });

/** Newest first, those of this look's time left out: an attempt before this one may have stored it. */
async function rememberedWindows({ deps, options, until }: Look): Promise<FoundWindow[]> {
  const windows = await deps.store.monitoring.listWindows({ endpoint: options.endpoint, before: until, limit: REMEMBERED });
  return windows.flatMap(({ from, to, figures }) => {
    const read = WindowFiguresSchema.safeParse(figures);
    return read.success ? [{ from, to, figures: read.data }] : [];
  });
}

/** Null: there is none yet. */
async function nextWindow(
  { deps, options, champion, until }: Look,
  last: FoundWindow | undefined,
): Promise<{ readonly from: string; readonly to: string } | null> {
  const { endpoint, everyMs, lengthMs, rows } = options;
  const backFrom = (ms: number): string => new Date(Date.parse(until) - ms).toISOString();
  if (lengthMs !== undefined && rows === undefined) return { from: backFrom(lengthMs), to: until };
  const first = async (): Promise<string> => {
    const since = (await deps.store.monitoring.findMonitor(endpoint))?.updatedAt;
    const earliest = backFrom(everyMs);
    return since !== undefined && since < earliest ? since : earliest;
  };
  const from = last?.to ?? (await first());
  if (from >= until) return null;
  if (rows === undefined) return { from, to: until };
  const segments = await predictionSegments(deps.config.home, endpoint, from);
  const { signal } = hooks(deps, endpoint);
  const to = await withDuckDb({ signal }, (db) => windowEnd(db, { segments, model: champion.model, version: champion.version, from, until, rows }));
  return to === null ? null : { from, to };
}

function hooks(deps: ActivityDependencies, endpoint: string) {
  const context = Context.current();
  return {
    signal: context.cancellationSignal,
    progress: (): void => {
      context.heartbeat();
    },
    log: (message: string): void => {
      deps.log('error', `monitor of ${endpoint}`, { error: message });
    },
  };
}

/** Measures a window and says what is the matter in it. */
async function lookAt(
  look: Look,
  window: { readonly from: string; readonly to: string },
  known: readonly FoundWindow[],
  notes: readonly string[],
): Promise<WindowFigures> {
  const { deps, options, champion, predictor, until } = look;
  const { endpoint } = options;
  const { model, version } = champion;
  const { home } = deps.config;
  const past = sameVersion(known, champion);
  const reference = await referenceOf(look, window, past);
  const perRow = options.detectors.filter(({ of }) => of === 'error' || of === 'score');
  const nameOf = ({ name, of, detector }: (typeof options.detectors)[number]): string => name ?? `${of}, ${detector.kind}`;
  const kept = past[0]?.figures.detectors;
  const arrivedFrom = past[0]?.figures.labelsUntil ?? window.from;
  const measured = await measure(
    look,
    {
      ...window,
      feedbackUntil: until,
      predictor,
      whole: {
        reference: reference.rows,
        watched: watchedColumns(predictor).filter((column) => !options.drift.except.includes(column)),
        domain: options.drift.domain ? await domainRows(look, reference.rows) : null,
        calibration: options.estimate ? await calibration(deps, champion) : null,
        estimated: estimatedMetrics(options),
        skew: options.skew === false ? null : { ...options.skew, onnx: await deps.artifacts.pathOf(predictor.onnx), hashKey: projectHashKey(home) },
        expectations: await liveExpectations(look),
        detectors: perRow.map((rule) => ({
          name: nameOf(rule),
          of: rule.of === 'error' ? 'error' : 'score',
          options: rule.detector,
          state: sameDetector(kept?.[nameOf(rule)]?.state, rule.detector),
        })),
        arrivedFrom,
        arrivals: perRow.some(({ of }) => of === 'error') ? await predictionSegments(home, endpoint, latest(options, window.from)) : [],
      },
    },
    champion,
  );
  const system = await deps.store.stats.read({ endpoint, model, version, ...window });
  const { latencyMs, drift, ...rest } = measured;
  const leastRows = options.rows === undefined ? options.leastRows : 1;
  const figures: WindowFigures = {
    ...rest,
    ...(drift === undefined ? {} : { drift: ofRequests(drift, predictor) }),
    version: { model, version, predictor: champion.predictor },
    labelsUntil: until,
    notes: [...notes, ...reference.notes, ...notesOf(measured, options)],
    system: {
      requests: system.requests,
      errors: system.errors,
      errorRate: system.requests === 0 ? null : system.errors / system.requests,
      latencyMsP50: latencyMs?.p50 ?? null,
      latencyMsP95: latencyMs?.p95 ?? null,
      latencyMsP99: latencyMs?.p99 ?? null,
    },
  };
  if (figures.rows < leastRows) return { ...figures, verdict: 'too few rows' };
  const { except: _except, domain: _domain, ...settings } = options.drift;
  const decision =
    figures.drift === undefined
      ? undefined
      : decideDrift({
          from: window.from,
          report: figures.drift,
          ...(figures.domain ? { domain: figures.domain } : {}),
          past: await deps.store.monitoring.pastDecisions({ endpoint, model, version, until: window.from }),
          settings: { ...settings, leastRows: Math.min(settings.leastRows, leastRows) },
        });
  const decided: WindowFigures = {
    ...figures,
    ...(reference.told === null ? {} : { reference: { ...reference.told, rows: figures.drift?.referenceRows ?? 0 } }),
    ...(decision === undefined ? {} : { decision }),
  };
  const complete: WindowFigures = { ...decided, detectors: { ...decided.detectors, ...windowDetectors(look, { ...window, figures: decided }, past, nameOf) } };
  const findings = findingsOf({ ...window, figures: complete }, past, options);
  return { ...complete, findings, verdict: findings.some(({ check, firing }) => check === 'drift' && firing) ? 'drifted' : 'steady' };
}

/** Columns that transforms make are in no request: that says nothing. */
function ofRequests(drift: NonNullable<WindowFigures['drift']>, { signature: { columns } }: Predictor): NonNullable<WindowFigures['drift']> {
  const raw = new Set(columns.map(({ name }) => name));
  const skipped = drift.skipped.filter((name) => drift.reasons?.[name] !== 'missing' || raw.has(name));
  return { ...drift, skipped, reasons: Object.fromEntries(Object.entries(drift.reasons ?? {}).filter(([name]) => skipped.includes(name))) };
}

const sameVersion = (windows: readonly FoundWindow[], { model, version }: Pick<ServedVersion, 'model' | 'version'>): readonly FoundWindow[] =>
  windows.filter(({ figures }) => figures.version.model === model && figures.version.version === version);

/** The earliest prediction for which a label may still come. */
const latest = ({ quality }: MonitorOptions, from: string): string => new Date(Date.parse(from) - (quality === false ? 0 : quality.latenessMs)).toISOString();

async function measure(
  { deps, options }: Look,
  { from, to, feedbackUntil, predictor, whole }: Pick<MonitorJob, 'from' | 'to' | 'feedbackUntil' | 'predictor' | 'whole'>,
  { model, version }: Pick<ServedVersion, 'model' | 'version'>,
): Promise<MeasuredWindow> {
  const { endpoint, quality } = options;
  const { home } = deps.config;
  const [segments, feedback] = [await predictionSegments(home, endpoint, from), await feedbackSegments(home, endpoint, from)];
  const watch = hooks(deps, endpoint);
  // a thread that is ended in the middle of native code may take the process along: it is only ended when the time is really up
  const alive = setInterval(watch.progress, HEARTBEAT_MS);
  try {
    return await compute<MeasuredWindow>(
      { kind: 'monitor', from, to, feedbackUntil, predictor, whole, model, version, segments, feedback, quality, metrics: ruledMetrics(options) },
      watch,
    );
  } finally {
    clearInterval(alive);
  }
}

/** Metrics that rules and detectors speak of. */
function ruledMetrics({ alertOn, retrainOn, detectors }: MonitorOptions): readonly Metric[] {
  return METRICS.filter((metric) => alertOn?.[metric] !== undefined || retrainOn?.[metric] !== undefined || detectors.some(({ of }) => of === metric));
}

const CHIEF_ESTIMATES: readonly Metric[] = ['auc', 'accuracy', 'precision', 'recall', 'f1', 'logLoss', 'brier'];
const estimatedMetrics = ({ alertOn, retrainOn }: MonitorOptions): readonly Metric[] =>
  METRICS.filter((metric) => CHIEF_ESTIMATES.includes(metric) || alertOn?.estimated?.[metric] !== undefined || retrainOn?.estimated?.[metric] !== undefined);

/** What is to be said of a window where a figure is missing: none of it is an alert. */
function notesOf({ rows, log, quality }: MeasuredWindow, { quality: asked }: MonitorOptions): readonly string[] {
  const missing = {
    noLabels: 'no label has come yet',
    fewLabels: `only ${String(quality?.labelled ?? 0)} labels have come yet`,
    oneClass: 'all labels are of one class',
  } as const;
  const state = asked === false ? undefined : quality?.state;
  return [
    ...(rows === 0 ? ['no traffic'] : []),
    ...(state !== undefined && state in missing ? [missing[state as keyof typeof missing]] : []),
    ...((quality?.unknownLabels ?? 0) > 0 ? [`${String(quality?.unknownLabels)} labels are none that the model knows`] : []),
    ...((log?.repeated ?? 0) > 0 ? [`${String(log?.repeated)} rows were logged again under the same request id: the last ones count`] : []),
  ];
}

interface Compared {
  readonly rows: Profile | ReferenceRows | null;
  readonly told: Omit<NonNullable<WindowFigures['reference']>, 'rows'> | null;
  readonly notes: readonly string[];
}

async function referenceOf(
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
function watchedColumns({ signature: { graph, columns, transforms } }: Predictor): readonly string[] {
  const changed = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  // a clock always moves on: dates differ from training's by their nature
  const raw = columns.filter(({ name, type }) => type !== 'timestamp' && type !== 'date' && !changed.has(name)).map(({ name }) => name);
  return [...new Set([...graph.numbers, ...graph.strings, ...raw])];
}

/** What a classifier tells the window from: the reference's rows, or those that the model was trained on. */
async function domainRows(
  { deps, champion, predictor }: Look,
  reference: Compared['rows'],
): Promise<NonNullable<NonNullable<MonitorJob['whole']>['domain']> | null> {
  const watched = new Set(watchedColumns(predictor));
  const columns = predictor.signature.columns.filter(({ name }) => watched.has(name));
  if (reference !== null && 'kind' in reference) return { rows: reference.rows, columns };
  const { runId } = await deps.store.models.version(champion.model, champion.version);
  const stages = runId === null ? [] : await deps.store.stages.list(runId);
  const trained = stages.flatMap(({ kind, status, input }) => {
    const read = kind === 'train' && status === 'completed' ? DatasetRefSchema.safeParse((input as { readonly train?: unknown } | null)?.train) : undefined;
    return read?.success === true ? [read.data] : [];
  });
  const [training] = trained;
  if (training === undefined) return null;
  const files = await datasetFiles(deps.artifacts, await loadManifest(deps.artifacts, training));
  return { rows: { kind: 'parquet', paths: files.map(({ path }) => path) }, columns };
}

async function calibration(deps: ActivityDependencies, { model, version }: ServedVersion): Promise<ReturnType<typeof calibrationOf> | null> {
  const { evaluation } = await deps.store.models.version(model, version);
  if (evaluation === null) return null;
  const report = EvaluationReportSchema.safeParse(await deps.artifacts.getJson(evaluation));
  return report.success ? calibrationOf(report.data) : null;
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
async function liveExpectations({ deps, options, champion, predictor }: Look): Promise<Expectations | null> {
  if (options.expectations === false) return null;
  if (options.expectations !== undefined) return options.expectations;
  const { runId } = await deps.store.models.version(champion.model, champion.version);
  if (runId === null) return null;
  const { columns, transforms } = predictor.signature;
  const changed = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  const carried = new Set(columns.map(({ name }) => name).filter((name) => !changed.has(name)));
  const stages = (await deps.store.stages.list(runId)).filter(({ kind, status }) => kind === 'validate' && status === 'completed');
  const found = stages.flatMap(({ input }) => {
    const read = ExpectationsSchema.safeParse((input as { readonly expectations?: unknown } | null)?.expectations);
    return read.success ? read.data.expectations : [];
  });
  const live = found.filter((expectation) => LIVE.has(expectation.kind) && 'column' in expectation && carried.has(expectation.column));
  const unlike = [...new Map(live.map((expectation) => [JSON.stringify(expectation), expectation])).values()];
  return unlike.length === 0 ? null : { format: 'millrace-expectations/1', expectations: unlike };
}

type Detectors = NonNullable<WindowFigures['detectors']>;

/** A state goes on only under the settings that it came from. */
const sameDetector = (state: Detectors[string]['state'] | undefined, options: DetectorOptions): Detectors[string]['state'] | null =>
  state !== undefined && isDeepStrictEqual(state.options, options) ? state : null;

/** Detectors that take a value a window: each window's once, in order of time, when it is known. */
function windowDetectors(
  { options }: Look,
  window: FoundWindow,
  past: readonly FoundWindow[],
  nameOf: (rule: MonitorOptions['detectors'][number]) => string,
): Detectors {
  const before = past[0]?.figures.detectors ?? {};
  const inOrder = [window, ...past].toReversed();
  return Object.fromEntries(
    options.detectors
      .filter(({ of }) => of !== 'error' && of !== 'score')
      .map((rule) => {
        const name = nameOf(rule);
        const state = sameDetector(before[name]?.state, rule.detector);
        const detector = state === null ? createDetector(rule.detector) : restoreDetector(state);
        let until = state === null ? '' : (before[name]?.until ?? '');
        let [values, changes] = [0, 0];
        for (const { to, figures } of inOrder) {
          const value = to > until ? streamValue(rule.of, figures) : undefined;
          if (value === undefined || !Number.isFinite(value)) continue;
          until = to;
          values++;
          if (detector.update(value).drift) changes++;
        }
        return [name, { state: detector.state(), values, changes, ...(until === '' ? {} : { until }) }];
      }),
  );
}

function streamValue(of: string, { rows, quality, estimated, outcomes, drift, system }: WindowFigures): number | undefined {
  const [kind = '', name = ''] = of.split(/\.(.*)/s);
  if (kind === 'estimated') return estimated?.metrics[name]?.value;
  if (kind === 'outcome') return outcomes?.[name]?.mean;
  if (kind === 'psi') return drift?.columns.find(({ column }) => column === name)?.psi;
  if (of === 'rows') return rows;
  if (system !== undefined && of in system) return system[of as keyof typeof system] ?? undefined;
  return quality?.metrics[of];
}

/** Looks again at windows for which labels or outcomes have come since, the oldest first, and at what they and later ones then show. */
async function lookAgain(look: Look, known: FoundWindow[], touched: readonly FoundWindow[]): Promise<readonly FoundWindow[]> {
  const { deps, options, until } = look;
  const { endpoint, quality } = options;
  if (quality === false) return [];
  const earliest = latest(options, until);
  const open = known
    .filter(
      (window) =>
        !touched.includes(window) && window.to > earliest && window.figures.labelsUntil !== undefined && window.figures.version.predictor !== undefined,
    )
    .toReversed();
  const [first] = open;
  if (first === undefined) return [];
  const { home } = deps.config;
  const since = open.map(({ from, to, figures }) => ({ from, to, since: figures.labelsUntil ?? to }));
  const feedback = await feedbackSegments(
    home,
    endpoint,
    since.reduce((least, one) => (one.since < least ? one.since : least), until),
  );
  if (feedback.length === 0) return [];
  const segments = await predictionSegments(home, endpoint, first.from);
  const { signal } = hooks(deps, endpoint);
  const counts = await withDuckDb({ signal }, (db) => feedbackByWindow(db, { segments, feedback, until, windows: since }));
  const late = open.filter((_, index) => (counts[index] ?? 0) > 0).slice(0, MOST_LATE);
  const changed: FoundWindow[] = [];
  for (const window of late) {
    const { version } = window.figures;
    const predictor = await deps.artifacts.getJson(version.predictor ?? '').catch((error: unknown) => {
      // it was removed with its version: the window stays as it is
      if (error instanceof MillraceError) return null;
      throw error;
    });
    if (predictor === null) continue;
    const {
      quality: judged,
      outcomes,
      log,
    } = await measure(look, { ...window, feedbackUntil: until, predictor: PredictorSchema.parse(predictor), whole: null }, version);
    const notes = (window.figures.notes ?? []).filter((note) => !/label/.test(note));
    const { rows } = window.figures;
    changed.push({
      ...window,
      figures: {
        ...window.figures,
        ...(judged === undefined ? {} : { quality: judged }),
        ...(outcomes === undefined ? {} : { outcomes }),
        ...(log === undefined ? {} : { log }),
        notes: [...notes, ...notesOf({ rows, latencyMs: null, ...(judged === undefined ? {} : { quality: judged }) }, options)],
        labelsUntil: until,
      },
    });
  }
  return refound(look, known, changed);
}

/** Findings of windows that changed, and of those after them: a streak of theirs may have become another one. */
async function refound({ deps, options }: Look, known: FoundWindow[], changed: readonly FoundWindow[]): Promise<readonly FoundWindow[]> {
  const [first] = changed;
  if (first === undefined) return [];
  const replaced = new Map(changed.map((window) => [`${window.from} ${window.to}`, window]));
  const written: FoundWindow[] = [];
  for (let at = known.length - 1; at >= 0; at--) {
    const window = known[at];
    if (window === undefined || window.to < first.to) continue;
    const newer = replaced.get(`${window.from} ${window.to}`);
    const figures = (newer ?? window).figures;
    if (figures.findings === undefined) continue;
    const byLabels = ({ check }: Finding): boolean => check === 'quality' || check === 'outcome';
    const findings = [
      ...findingsOf({ ...window, figures }, sameVersion(known.slice(at + 1), figures.version), options).filter(byLabels),
      ...figures.findings.filter((finding) => !byLabels(finding)),
    ];
    if (newer === undefined && JSON.stringify(findings) === JSON.stringify(figures.findings)) continue;
    const found = { ...window, figures: { ...figures, findings } };
    known[at] = found;
    await putWindow(deps, options.endpoint, found);
    written.push(found);
  }
  return written;
}

/** What is the matter now: of each thing what the newest window says in which it was measured. `known`: newest first. */
function standing(known: readonly FoundWindow[]): readonly { readonly window: FoundWindow; readonly finding: Finding }[] {
  const [newest] = known;
  if (newest === undefined) return [];
  const windows = sameVersion(known, newest.figures.version);
  const seen = new Set<string>();
  return windows.flatMap((window) =>
    (window.figures.findings ?? []).flatMap((finding) => {
      const key = JSON.stringify([finding.check, finding.subject]);
      if (seen.has(key)) return [];
      seen.add(key);
      return windows.find(({ figures }) => isMeasured(finding, figures)) === window ? [{ window, finding }] : [];
    }),
  );
}

async function settleAlerts({ deps, options }: Look, known: readonly FoundWindow[]): Promise<void> {
  const { endpoint } = options;
  await deps.store.alerts.settle({
    kinds: ['drift', 'quality', 'skew', 'data', 'system'],
    endpoint,
    firing: standing(known)
      .filter(({ finding }) => finding.firing)
      .map(({ finding: { kind, check, subject, what, since, against, sure, windowsInARow } }) => ({
        kind,
        endpoint,
        subject: check === 'schema' ? `${subject} missing` : subject,
        what: `${what}${windowsInARow > 1 ? `, in ${String(windowsInARow)} windows in a row` : ''}.`,
        since,
        against,
        sure,
        look: `/api/v1/endpoints/${endpoint}/windows`,
        command: `millrace endpoints windows ${endpoint}`,
      })),
  });
}

/** What a controller is told of as one thing: drift of any column is one, whichever is worst. */
const conditionOf = ({ check, subject }: Finding): string => (check === 'drift' ? 'drift' : `${check} ${subject}`);

/** Asks for each thing once a streak, and says when one is over. */
async function askForRetraining(
  { deps, options }: Look,
  pipeline: string,
  known: readonly FoundWindow[],
  touched: readonly FoundWindow[],
  before: ReturnType<typeof standing>,
): Promise<boolean> {
  const { endpoint } = options;
  const source = `monitor/${endpoint}`;
  const now = standing(known).filter(({ finding }) => finding.retrain);
  const conditions = new Set(now.map(({ finding }) => conditionOf(finding)));
  const earlier = new Set(before.filter(({ finding }) => finding.retrain).map(({ finding }) => conditionOf(finding)));
  const due = new Map<string, typeof now>();
  for (const one of now) {
    const condition = conditionOf(one.finding);
    if (touched.includes(one.window) && !earlier.has(condition)) due.set(condition, [...(due.get(condition) ?? []), one]);
  }
  const over = [...earlier].filter((condition) => !conditions.has(condition));
  if (due.size + over.length > 0 && pipeline === '') throw new MillraceError('INTERNAL', `The monitor of ${endpoint} has no pipeline.`);
  for (const condition of over) await askRetraining(deps, pipeline, { reason: `${condition} is over`, source, condition, recovered: true });
  for (const [condition, found] of due) {
    const [first] = found;
    if (first === undefined) continue;
    const { window, finding } = first;
    const { what, since, windowsInARow, against, sure, value, limit, subject } = finding;
    const { model, version } = window.figures.version;
    await askRetraining(deps, pipeline, {
      reason: `${what} in ${String(windowsInARow)} ${windowsInARow === 1 ? 'window' : 'windows'} in a row`,
      source,
      condition,
      key: `${source} ${model} ${String(version)} ${condition} ${since}`.slice(0, 300),
      at: window.to,
      evidence: {
        endpoint,
        from: window.from,
        to: window.to,
        changePoint: since,
        version: { model, version },
        rows: window.figures.rows,
        worst: { column: subject, value, limit, against, sure },
        findings: found.slice(0, 20).map((one) => one.finding),
        look: `/api/v1/endpoints/${endpoint}/windows`,
      },
    });
  }
  return due.size > 0;
}

/** Puts the least sure predictions of the window into the queue; the same ones again change nothing. */
async function flagForReview(
  { deps, options: { endpoint }, predictor, champion }: Look,
  { queue, between, atMost }: Review,
  window: { readonly from: string; readonly to: string },
): Promise<void> {
  const { task } = predictor.signature;
  if (task.kind !== 'binary' && task.kind !== 'multiclass') return;
  const segments = await predictionSegments(deps.config.home, endpoint, window.from);
  const { model, version } = champion;
  const found = await uncertainPredictions({ segments, model, version, ...window, between, atMost, signal: Context.current().cancellationSignal });
  if (found.length === 0) return;
  await deps.store.labels.openQueue({ name: queue, question: `${task.target}?`, classes: task.classes });
  await deps.store.labels.enqueue(
    queue,
    found.map(({ requestId, row, inputs, uncertainty }) => ({
      endpoint,
      requestId,
      row,
      shown: shownInputs(inputs),
      priority: uncertainty,
    })),
  );
}
