/**
 * Joins labels and outcomes with the predictions that they are about, away from the path of requests.
 *
 * Invariants:
 * 1. What a server has written is taken once, in whole lines; what is not whole yet is taken later.
 * 2. A value whose prediction cannot be found is looked for again, and then said to be unknown: it waits for nothing for ever.
 */
import { join } from 'node:path';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { requirePredictor } from '../contracts/required-predictor.ts';
import type { FeedbackRecord, OutcomeRecord } from '../contracts/routes.ts';
import { PredictorSchema, type Signature } from '../contracts/signature.ts';
import { findPredictions, type LoggedPrediction } from '../data/find-predictions.ts';
import { listSegments, predictionSegments } from '../data/prediction-segments.ts';
import type { FeedbackValue, FoundPrediction, WaitingFeedback } from '../store/feedback.ts';
import { readNewLines } from './log-tail.ts';
import { endpointFolders } from './record-folders.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'config' | 'artifacts' | 'log'>;

/** Values whose predictions are looked for together. */
const AT_ONCE = 5_000;
const HOUR_MS = 3_600_000;
/** Half a line that nobody went on with for so long. */
const TORN_MS = 60_000;
/** Most feedback is about what was asked lately: there it is looked for first. */
const RECENT_MS = 2 * HOUR_MS;
/** Between one try and the next; after the last one in vain the prediction is unknown. */
export const WAITS_MS: readonly number[] = [5_000, 60_000, 600_000];
const DUCKDB = { threads: 1, memoryLimitBytes: 512 * 1024 ** 2 } as const;

/** Takes what came through `/feedback` since the last time. @returns how many values stood there */
export async function takeFeedback({ store, config }: Deps): Promise<number> {
  let taken = 0;
  for (const endpoint of await endpointFolders(config.home, 'feedback')) {
    const segments = (await listSegments(join(config.home, 'feedback', endpoint))).filter(({ lines }) => lines !== undefined);
    const fileOf = (name: string): string => `feedback/${endpoint}/${name}`;
    const offsets = await store.feedback.offsets(segments.map(({ name }) => fileOf(name)));
    for (const { name, lines } of segments) {
      if (lines === undefined) continue;
      const file = fileOf(name);
      for (let fromByte = offsets.get(file) ?? 0; fromByte < lines.sizeBytes; ) {
        const { lines: texts, toByte } = await readNewLines(lines.path, fromByte);
        if (toByte === fromByte) {
          // a line that was torn by its server's death: nothing comes after it any more
          if (Date.now() - lines.mtimeMs > TORN_MS) await store.feedback.take({ file, endpoint, fromByte, toByte: lines.sizeBytes, values: [] });
          break;
        }
        const values = texts.flatMap((text) => valueOf(text) ?? []);
        if (!(await store.feedback.take({ file, endpoint, fromByte, toByte, values }))) break;
        taken += values.length;
        fromByte = toByte;
      }
    }
  }
  return taken;
}

function valueOf(line: string): FeedbackValue | undefined {
  let record: Partial<FeedbackRecord & OutcomeRecord>;
  try {
    record = JSON.parse(line) as Partial<FeedbackRecord & OutcomeRecord>;
  } catch {
    // torn by a death while it was written
    return undefined;
  }
  const { requestId, row, label, outcome, value, at } = record;
  const given = outcome === undefined ? label : value;
  if (typeof requestId !== 'string' || typeof row !== 'number' || given === undefined || typeof at !== 'string') return undefined;
  return { requestId, row, name: outcome ?? '', value: given, receivedAt: at };
}

/** Looks for the predictions of what waits for them. @returns how many were found */
export async function joinFeedback(deps: Deps): Promise<number> {
  const signatures = signatureReader(deps);
  const byEndpoint = new Map<string, WaitingFeedback[]>();
  for (const value of await deps.store.feedback.due(AT_ONCE)) byEndpoint.set(value.endpoint, [...(byEndpoint.get(value.endpoint) ?? []), value]);
  let joined = 0;
  for (const [endpoint, values] of byEndpoint) {
    const earliest = Math.min(...values.map(({ receivedAt }) => Date.parse(receivedAt)));
    const from = values.some(({ tries }) => tries > 0) ? 0 : earliest - RECENT_MS;
    const segments = await predictionSegments(deps.config.home, endpoint, new Date(from).toISOString());
    const logged = await findPredictions(segments, [...new Set(values.map(({ requestId }) => requestId))], DUCKDB);
    const byRow = new Map(logged.map((prediction) => [`${prediction.requestId} ${prediction.row}`, prediction]));
    const found: FoundPrediction[] = [];
    const missed: WaitingFeedback[] = [];
    for (const value of values) {
      const prediction = byRow.get(`${value.requestId} ${value.row}`);
      if (prediction === undefined) missed.push(value);
      else
        found.push({
          requestId: value.requestId,
          row: value.row,
          name: value.name,
          model: prediction.model,
          version: prediction.version,
          predictedAt: prediction.at,
          metrics: metricsOf(value, prediction, await signatures(prediction)),
        });
    }
    await deps.store.feedback.join(endpoint, found);
    await deps.store.feedback.miss(missed, WAITS_MS);
    joined += found.length;
  }
  return joined;
}

/** The signature of a version; undefined where it is known no more. */
function signatureReader({ store, artifacts, log }: Deps): (of: { readonly model: string; readonly version: number }) => Promise<Signature | undefined> {
  const known = new Map<string, Promise<Signature | undefined>>();
  return ({ model, version }) => {
    const key = `${model} ${version}`;
    let signature = known.get(key);
    if (signature === undefined) {
      signature = store.models
        .version(model, version)
        .then(async (found) => PredictorSchema.parse(await artifacts.getJson(requirePredictor(found))).signature)
        .catch((error: unknown) => {
          log('warn', 'feedback is about a version that cannot be read; it counts for no figure', { model, version, error: String(error) });
          return undefined;
        });
      known.set(key, signature);
    }
    return signature;
  };
}

const LEAST_PROBABILITY = 1e-15;

/**
 * What a value says of its prediction: an outcome's own value; of a label whether the answer was right and its
 * log-loss, or the error of a number. Nothing where the label is none of the model's classes.
 */
export function metricsOf(
  { name, value }: Pick<FeedbackValue, 'name' | 'value'>,
  { output }: Pick<LoggedPrediction, 'output'>,
  signature: Pick<Signature, 'task' | 'threshold'> | undefined,
): Readonly<Record<string, number>> {
  if (name !== '') return typeof value === 'number' ? { [name]: value } : {};
  if (signature === undefined) return {};
  const { task, threshold } = signature;
  if (task.kind === 'regression') {
    const error = Number(value) - (output[0] ?? Number.NaN);
    return typeof value === 'boolean' || !Number.isFinite(error) ? {} : { absoluteError: Math.abs(error), squaredError: error ** 2 };
  }
  if (!('classes' in task)) return {};
  const label = task.classes.indexOf(String(value));
  const probability = output[label];
  if (label < 0 || typeof probability !== 'number') return {};
  const answered = task.kind === 'binary' ? ((output[1] ?? 0) >= threshold ? 1 : 0) : output.indexOf(Math.max(...output));
  return { correct: answered === label ? 1 : 0, logLoss: -Math.log(Math.min(1, Math.max(LEAST_PROBABILITY, probability))) };
}
