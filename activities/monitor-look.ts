/** What the parts of one look at an endpoint share. */
import { Context } from '@temporalio/activity';
import { METRICS } from '../contracts/evaluation.ts';
import type { Metric } from '../contracts/metrics.ts';
import type { MonitorOptions } from '../contracts/monitoring.ts';
import type { Profile } from '../contracts/profile.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { Predictor } from '../contracts/signature.ts';
import { feedbackSegments, predictionSegments } from '../data/prediction-segments.ts';
import type { Store } from '../store/store.ts';
import { compute } from './compute-job.ts';
import type { ActivityDependencies } from './dependencies.ts';
import type { FoundWindow } from './monitor-findings.ts';
import type { MeasuredWindow, MonitorJob } from './monitor-job.ts';
import type { WindowMemory } from './window-memory.ts';

/** While a window is measured. */
const HEARTBEAT_MS = 5_000;

export interface Look {
  readonly deps: ActivityDependencies;
  readonly memory: WindowMemory;
  readonly options: MonitorOptions;
  readonly champion: ServedVersion;
  readonly predictor: Predictor;
  readonly profile: Profile | null;
  /** Requests and labels later than this belong to the next look. UTC ISO. */
  readonly until: string;
  /** Of the champion: its record, and the stages of the run that made it. Asked for once, when they are needed. */
  readonly record: () => ReturnType<Store['models']['version']>;
  readonly stages: () => ReturnType<Store['stages']['list']>;
}

export function openLook(given: Omit<Look, 'record' | 'stages'>): Look {
  const { store } = given.deps;
  const { model, version } = given.champion;
  const record = once(() => store.models.version(model, version));
  const stages = once(async () => {
    const { runId } = await record();
    return runId === null ? [] : store.stages.list(runId);
  });
  return { ...given, record, stages };
}

function once<Answer>(ask: () => Promise<Answer>): () => Promise<Answer> {
  let asked: Promise<Answer> | undefined;
  return () => (asked ??= ask());
}

export const putWindow = (deps: ActivityDependencies, endpoint: string, { from, to, figures }: FoundWindow): Promise<void> =>
  deps.store.monitoring.putWindow({ endpoint, from, to, figures, drifted: figures.verdict === 'drifted' });

export function hooks(deps: ActivityDependencies, endpoint: string) {
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

export const sameVersion = (windows: readonly FoundWindow[], { model, version }: Pick<ServedVersion, 'model' | 'version'>): readonly FoundWindow[] =>
  windows.filter(({ figures }) => figures.version.model === model && figures.version.version === version);

/** The earliest prediction for which a label may still come. */
export const earliestLabelled = ({ quality }: MonitorOptions, from: string): string =>
  new Date(Date.parse(from) - (quality === false ? 0 : quality.latenessMs)).toISOString();

export async function measure(
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

/** What is to be said of a window where a figure is missing: none of it is an alert. */
export function notesOf({ rows, log, quality }: MeasuredWindow, { quality: asked }: MonitorOptions): readonly string[] {
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
