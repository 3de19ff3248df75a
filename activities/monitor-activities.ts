import { Context } from '@temporalio/activity';
import type { ColumnDrift } from '../contracts/drift.ts';
import { MillraceError } from '../contracts/errors.ts';
import { ProfileSchema } from '../contracts/profile.ts';
import { retrainingWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { RetrainRequest } from '../contracts/retraining.ts';
import { measureDrift } from '../data/drift.ts';
import { predictionSegments } from '../data/prediction-segments.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import type { Review } from '../contracts/stages.ts';
import { type UncertainOptions, uncertainPredictions } from '../data/uncertain-predictions.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import { shownInputs } from './shown-inputs.ts';
import type { MonitorActivities, MonitorWindowInput, MonitorWindowResult } from './types.ts';

/** The prediction log is flushed at least twice in this time. */
const LOG_LAG_MS = 1_000;
/** PSI from which on a feature counts as drifted, where the pipeline states none. */
const DEFAULT_PSI = 0.25;

/**
 * Looks at one window of an endpoint's requests. The window runs from where the last one ended (read from the store, not
 * counted in ticks) to now; the same window again replaces its figures.
 */
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

async function checkWindow(deps: ActivityDependencies, input: MonitorWindowInput): Promise<MonitorWindowResult> {
  const { endpoint, leastRows, retrainOn } = input;
  const nothing = { rows: 0, worst: null, retrainingAsked: false } as const;
  const route = await deps.store.endpoints.route(endpoint);
  if (!route) return { verdict: 'no endpoint', ...nothing };
  const predictor = PredictorSchema.parse(await deps.artifacts.getJson(route.champion.predictor));
  if (predictor.trainingProfile === null) return { verdict: 'too few rows', ...nothing };
  const profile = ProfileSchema.parse(await deps.artifacts.getJson(predictor.trainingProfile));

  const earlier = await deps.store.monitoring.listWindows({ endpoint, limit: 100 });
  // what the server answered last is on disk a moment later
  const to = new Date(Date.now() - LOG_LAG_MS).toISOString();
  const from = earlier[0]?.to ?? new Date(Date.now() - input.everyMs).toISOString();
  const segments = await predictionSegments(deps.config.home, endpoint, from);
  const { model, version } = route.champion;
  if (input.review) await flagForReview(deps, input, input.review, predictor, { segments, model, version, from, to });
  const { rows, columns } = await measureDrift({ kind: 'predictionLog', segments, model, version, from, to }, profile, {
    // a clock always moves on: dates differ from training's by their nature
    columns: watchedColumns(predictor),
    signal: Context.current().cancellationSignal,
    onProgress: () => {
      Context.current().heartbeat();
    },
  });
  if (rows < leastRows) return { verdict: 'too few rows', rows, worst: null, retrainingAsked: false };

  const limit = retrainOn?.psi ?? DEFAULT_PSI;
  const worst = columns.reduce<ColumnDrift | null>((most, column) => (most === null || column.psi > most.psi ? column : most), null);
  const drifted = worst !== null && worst.psi > limit;
  await deps.store.monitoring.putWindow({ endpoint, from, to, figures: { rows, limit, columns, version: route.champion }, drifted });
  // a new champion starts a new streak: it was trained on what had drifted
  const steadySince = earlier.findIndex((window) => !window.drifted || !isOf(window.figures, model, version));
  const streak = drifted ? 1 + (steadySince < 0 ? earlier.length : steadySince) : 0;
  // asked once, and again when it has gone on for as long again: not in every window
  const ask = drifted && retrainOn !== undefined && streak >= (retrainOn.windows ?? 2) && streak % (retrainOn.windows ?? 2) === 0;
  if (ask)
    await askForRetraining(deps, input, {
      reason: `${worst.column} drifted: PSI ${worst.psi.toFixed(3)} over ${String(limit)} in ${String(streak)} windows in a row`,
      source: `monitor/${endpoint}`,
      evidence: { from, to, worst },
    });
  return { verdict: drifted ? 'drifted' : 'steady', rows, worst: worst ? { column: worst.column, psi: worst.psi } : null, retrainingAsked: ask };
}

/** What the graph reads, and the raw columns that requests carry for it as they are. */
function watchedColumns({ signature: { graph, columns, transforms } }: Predictor): readonly string[] {
  const changed = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  const raw = columns.filter(({ name, type }) => type !== 'timestamp' && type !== 'date' && !changed.has(name)).map(({ name }) => name);
  return [...new Set([...graph.numbers, ...graph.strings, ...raw])];
}

/** Puts the least sure predictions of the window into the queue; the same ones again change nothing. */
async function flagForReview(
  deps: ActivityDependencies,
  { endpoint }: MonitorWindowInput,
  { queue, between, atMost }: Review,
  { signature: { task } }: Predictor,
  window: Pick<UncertainOptions, 'segments' | 'model' | 'version' | 'from' | 'to'>,
): Promise<void> {
  if (task.kind !== 'binary' && task.kind !== 'multiclass') return;
  const found = await uncertainPredictions({ ...window, between, atMost, signal: Context.current().cancellationSignal });
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

const isOf = (figures: unknown, model: string, version: number): boolean => {
  const of = (figures as { readonly version?: { readonly model?: string; readonly version?: number } } | null)?.version;
  return of?.model === model && of.version === version;
};

async function askForRetraining(deps: ActivityDependencies, { pipeline, endpoint }: MonitorWindowInput, request: RetrainRequest): Promise<void> {
  if (pipeline === '') throw new MillraceError('INTERNAL', `The monitor of ${endpoint} has no pipeline.`);
  await deps.client.workflow.signalWithStart('retraining', {
    workflowId: retrainingWorkflowId(pipeline),
    taskQueue: WORKFLOW_QUEUE,
    args: [pipeline],
    signal: 'retrain',
    signalArgs: [request],
  });
}
