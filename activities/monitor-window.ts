/** Measures one window of an endpoint's requests and judges it. */
import { isDeepStrictEqual } from 'node:util';
import { projectHashKey } from '../config/hash-key.ts';
import type { DetectorOptions } from '../contracts/detectors.ts';
import { METRICS } from '../contracts/evaluation.ts';
import type { Metric } from '../contracts/metrics.ts';
import type { MonitorOptions, WindowFigures } from '../contracts/monitoring.ts';
import type { Predictor } from '../contracts/signature.ts';
import { predictionSegments } from '../data/prediction-segments.ts';
import { decideDrift } from '../ml/drift/decide.ts';
import { createDetector, restoreDetector } from '../ml/streaming/create-detector.ts';
import { findingsOf, type FoundWindow } from './monitor-findings.ts';
import { earliestLabelled, type Look, measure, notesOf, sameVersion } from './monitor-look.ts';
import { domainRows, evaluated, liveExpectations, referenceOf, trainedKey, trainedWindows, watchedColumns } from './monitor-references.ts';

/** Measures a window and says what is the matter in it. */
export async function lookAt(
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
  const evaluation = await evaluated(look);
  const decided = await look.memory.decisions({ endpoint, model, version, until: window.from, season: options.drift.season });
  const quietOnes = trainedKey(look, decided.length);
  const remembered = quietOnes === null ? [] : look.memory.trained(endpoint, quietOnes);
  const trainedRows = remembered === undefined ? await trainedWindows(look) : null;
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
        answers: evaluation?.answers ?? null,
        trained: trainedRows,
        calibration: options.estimate ? (evaluation?.calibration ?? null) : null,
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
        arrivals: perRow.some(({ of }) => of === 'error') ? await predictionSegments(home, endpoint, earliestLabelled(options, window.from)) : [],
      },
    },
    champion,
  );
  const system = await deps.store.stats.read({ endpoint, model, version, ...window });
  const { latencyMs, drift, trained = remembered ?? [], ...rest } = measured;
  // of a window without rows nothing was measured
  if (quietOnes !== null && (trainedRows === null || measured.trained !== undefined)) look.memory.keepTrained(endpoint, quietOnes, trained);
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
  const { except: _except, domain: _domain, trainingTime: _time, ...settings } = options.drift;
  const decision =
    figures.drift === undefined
      ? undefined
      : decideDrift({
          from: window.from,
          report: figures.drift,
          ...(figures.domain ? { domain: figures.domain } : {}),
          past: [...decided, ...trained],
          settings: { ...settings, leastRows: Math.min(settings.leastRows, leastRows) },
        });
  const judged: WindowFigures = {
    ...figures,
    ...(reference.told === null ? {} : { reference: { ...reference.told, rows: figures.drift?.referenceRows ?? 0 } }),
    ...(decision === undefined ? {} : { decision }),
  };
  const complete: WindowFigures = { ...judged, detectors: { ...judged.detectors, ...windowDetectors(look, { ...window, figures: judged }, past, nameOf) } };
  const findings = findingsOf({ ...window, figures: complete }, past, options);
  return { ...complete, findings, verdict: findings.some(({ check, firing }) => check === 'drift' && firing) ? 'drifted' : 'steady' };
}

/** Columns that transforms make are in no request: that says nothing. */
function ofRequests(drift: NonNullable<WindowFigures['drift']>, { signature: { columns } }: Predictor): NonNullable<WindowFigures['drift']> {
  const raw = new Set(columns.map(({ name }) => name));
  const skipped = drift.skipped.filter((name) => drift.reasons?.[name] !== 'missing' || raw.has(name));
  return { ...drift, skipped, reasons: Object.fromEntries(Object.entries(drift.reasons ?? {}).filter(([name]) => skipped.includes(name))) };
}

const CHIEF_ESTIMATES: readonly Metric[] = ['auc', 'accuracy', 'precision', 'recall', 'f1', 'logLoss', 'brier'];
const estimatedMetrics = ({ alertOn, retrainOn }: MonitorOptions): readonly Metric[] =>
  METRICS.filter((metric) => CHIEF_ESTIMATES.includes(metric) || alertOn?.estimated?.[metric] !== undefined || retrainOn?.estimated?.[metric] !== undefined);

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
