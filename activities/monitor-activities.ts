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
import { Context } from '@temporalio/activity';
import type { WindowFigures } from '../contracts/monitoring.ts';
import { ProfileSchema } from '../contracts/profile.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import { MonitorInputSchema, type Review } from '../contracts/stages.ts';
import { withDuckDb } from '../data/duckdb.ts';
import { windowEnd } from '../data/monitor-rows.ts';
import { predictionSegments } from '../data/prediction-segments.ts';
import { uncertainPredictions } from '../data/uncertain-predictions.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import type { FoundWindow } from './monitor-findings.ts';
import { lookAgain } from './monitor-late.ts';
import { hooks, type Look, openLook, putWindow } from './monitor-look.ts';
import { askForRetraining, settleAlerts, standing } from './monitor-tell.ts';
import { lookAt } from './monitor-window.ts';
import { createWindowMemory, type WindowMemory } from './window-memory.ts';
import { shownInputs } from './shown-inputs.ts';
import type { MonitorActivities, MonitorWindowInput, MonitorWindowResult } from './types.ts';

/** The prediction log is flushed at least twice in this time. */
const LOG_LAG_MS = 1_000;
/** Windows of a count of rows that one look catches up with at most. */
const MOST_WINDOWS = 24;
/** Windows whose findings and figures are at hand. */
const REMEMBERED = 400;

export function createMonitorActivities(deps: ActivityDependencies): MonitorActivities {
  const memory = createWindowMemory(deps.store.monitoring);
  return {
    checkWindow: async (input) => {
      try {
        return await checkWindow(deps, memory, input);
      } catch (error) {
        throw toActivityFailure(error, Context.current().info.attempt, (original) => {
          deps.log('error', `monitor of ${input.endpoint}`, { error: original instanceof Error ? (original.stack ?? original.message) : String(original) });
        });
      }
    },
  };
}

async function checkWindow(deps: ActivityDependencies, memory: WindowMemory, input: MonitorWindowInput): Promise<MonitorWindowResult> {
  const options = MonitorInputSchema.parse(input);
  const { endpoint } = options;
  const nothing = { rows: 0, worst: null, retrainingAsked: false } as const;
  const route = await deps.store.endpoints.route(endpoint);
  if (!route) return { verdict: 'no endpoint', ...nothing };
  const { champion } = route;
  const predictor = await memory.artifact(champion.predictor, async () => PredictorSchema.parse(await deps.artifacts.getJson(champion.predictor)));
  const { trainingProfile } = predictor;
  const profile =
    trainingProfile === null ? null : await memory.artifact(trainingProfile, async () => ProfileSchema.parse(await deps.artifacts.getJson(trainingProfile)));
  // what the server answered last is on disk a moment later; an attempt that comes again looks at the same window
  const untilMs = Context.current().info.scheduledTimestampMs - LOG_LAG_MS;
  const until = new Date(untilMs).toISOString();
  const look = openLook({ deps, memory, options, champion, predictor, profile, until });

  const forgotten = await deps.store.monitoring.dropWindowsAfter({ endpoint, after: until });
  const notes = forgotten === 0 ? [] : [`the clock went back: ${String(forgotten)} windows that end later are looked at again`];
  // those of this look's time left out: an attempt before this one may have stored it
  const known = await memory.windows({ endpoint, before: until, most: REMEMBERED });
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
