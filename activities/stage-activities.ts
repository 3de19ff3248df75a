import { createHash } from 'node:crypto';
import { CancelledFailure, Context } from '@temporalio/activity';
import type { z } from 'zod';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { withKeyOrder } from '../contracts/key-order.ts';
import type { StageCall, StageHeartbeat, StageKind, StageResult } from '../contracts/stages.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import type { StageContext, StageDefinition } from './stage-definition.ts';
import type { BegunStage, StageUsage } from '../store/stages.ts';
import { createResourceMeter } from './resource-meter.ts';
import { stages } from './stages/index.ts';
import type { StageActivities } from './types.ts';
import { undoPublications } from './undo.ts';

/**
 * The activity around every stage: cache, record, heartbeat, checkpoint, error.
 *
 * Invariants:
 * 1. An attempt begins with a token above all earlier ones; nothing is written under an older one.
 * 2. The record, its metrics, its datasets and its undos are one transaction.
 * 3. A heartbeat is sent while the work shows life (`progress`), not while the process merely lives: work that hangs is
 *    given to another worker.
 */
const HEARTBEAT_EVERY_MS = 2_000;
/** Work that shows no life for so long is taken for hung. */
const STALL_AFTER_MS = 5 * 60_000;

/** Each definition checks its own input: outside of it an input is unknown. */
type AnyStage = StageDefinition<z.ZodType<object>, unknown>;

export function createStageActivities(deps: ActivityDependencies): StageActivities {
  const guard = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      const { attempt } = Context.current().info;
      throw toActivityFailure(error, attempt, (original) => {
        deps.log('error', `${what} failed unexpectedly`, {
          attempt,
          error: original instanceof Error ? (original.stack ?? original.message) : String(original),
        });
      });
    }
  };
  return {
    runStage: (call) => guard(`stage ${call.stage} of run ${call.runId}`, () => runStage(deps, call)),
    lookupStage: (call) => guard(`lookup of stage ${call.stage} of run ${call.runId}`, () => lookupStage(deps, call)),
    undoStage: ({ runId, stage }) => guard(`undo of stage ${stage} of run ${runId}`, () => undoPublications(deps, runId, stage)),
    undoRun: ({ runId }) => guard(`undo of run ${runId}`, () => undoPublications(deps, runId)),
  };
}

async function prepare(deps: ActivityDependencies, call: StageCall, life: SignsOfLife) {
  const definition = stages[call.kind] as unknown as AnyStage;
  const parsed = definition.input.safeParse(call.input);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue): Problem => ({ path: `${call.stage}.${issue.path.map(String).join('.')}`, message: issue.message }));
    throw new MillraceError('INVALID_PARAMETERS', `The input of stage ${call.stage} does not fit.`, { problems });
  }
  const input = parsed.data;
  const parts = definition.cacheable
    ? {
        kind: call.kind,
        code: deps.codeVersions.get(call.kind) ?? '',
        input,
        ...(await definition.fingerprint?.(input, call, deps, { signal: Context.current().cancellationSignal, progress: life.progress })),
      }
    : null;
  const fingerprint = parts === null ? null : createHash('sha256').update(canonicalJson(parts)).digest('hex');
  return { definition, input, parts, fingerprint };
}

async function lookupStage(deps: ActivityDependencies, call: StageCall): Promise<StageResult | null> {
  const life = signsOfLife();
  try {
    const { parts, fingerprint } = await prepare(deps, call, life);
    if (fingerprint === null) return null;
    return await known(deps, call, await deps.store.stages.begin(beginning(deps, call, fingerprint, parts)));
  } finally {
    life.end();
  }
}

/** The result that needs no work: this stage's own, of an attempt before, or one of an earlier run. */
async function known(deps: ActivityDependencies, call: StageCall, begun: BegunStage): Promise<StageResult | null> {
  if (begun.completedOutput !== undefined) return resultOf(begun.completedOutput, false, '');
  if (begun.hit && (await artifactsAreThere(deps, begun.hit.output))) return takeOver(deps, call, begun.token, begun.hit);
  return null;
}

interface SignsOfLife {
  readonly progress: (fraction: number | null, message: string) => void;
  /** Is added to what people see of the progress. */
  readonly note: (shown: () => string) => void;
  readonly end: () => void;
}

/** Heartbeats from now on, as long as the work shows life. */
function signsOfLife(stallAfterMs = STALL_AFTER_MS): SignsOfLife {
  const activity = Context.current();
  let noted: (() => string) | undefined;
  let lastSign = Date.now();
  let state: StageHeartbeat = { fraction: null, message: 'begins' };
  const beat = setInterval(() => {
    if (Date.now() - lastSign < stallAfterMs) activity.heartbeat(noted === undefined ? state : { ...state, message: `${state.message} · ${noted()}` });
  }, HEARTBEAT_EVERY_MS);
  return {
    progress: (fraction, message) => {
      lastSign = Date.now();
      state = { fraction, message };
    },
    note: (shown) => {
      noted = shown;
    },
    end: () => {
      clearInterval(beat);
    },
  };
}

async function runStage(deps: ActivityDependencies, call: StageCall): Promise<StageResult> {
  const life = signsOfLife(call.stallAfterMs);
  try {
    const { definition, input, parts, fingerprint } = await prepare(deps, call, life).catch(async (error: unknown) => {
      await noteUnprepared(deps, call, error);
      throw error;
    });
    const begun = await deps.store.stages.begin(beginning(deps, call, fingerprint, parts));
    return (await known(deps, call, begun)) ?? (await work(deps, call, definition, input, begun, life));
  } finally {
    life.end();
  }
}

async function work(
  deps: ActivityDependencies,
  call: StageCall,
  definition: AnyStage,
  input: object,
  begun: BegunStage,
  life: SignsOfLife,
): Promise<StageResult> {
  const activity = Context.current();
  const { checkpoint } = begun;
  const used = await meterStage(deps, call, activity.cancellationSignal, life).catch(async (error: unknown) => {
    throw await noteFailure(deps, call, begun.token, error);
  });
  const context: StageContext = {
    call,
    deps,
    token: begun.token,
    signal: activity.cancellationSignal,
    progress: life.progress,
    device: used.device,
    childUsed: used.childUsed,
    resume: async () => (checkpoint ? deps.artifacts.getBytes(checkpoint.sha) : undefined),
    commitCheckpoint: async (step, bytes) => {
      const { sha256 } = await deps.artifacts.putBytes(bytes);
      await deps.store.stages.commitCheckpoint({ runId: call.runId, name: call.stage, token: begun.token, sha: sha256, step, usage: used.take() });
    },
  };
  try {
    const outcome = await definition.run(input, context);
    activity.cancellationSignal.throwIfAborted();
    await deps.store.stages.complete({
      runId: call.runId,
      name: call.stage,
      token: begun.token,
      output: { value: outcome.output, summary: outcome.summary },
      usage: used.take(),
      device: outcome.device === 'gpu' && used.device !== null ? `gpu ${String(used.device.index)}` : (outcome.device ?? 'cpu'),
      ...(outcome.metrics ? { metrics: outcome.metrics } : {}),
      ...(outcome.datasets ? { datasets: outcome.datasets } : {}),
      ...(outcome.artifacts ? { artifacts: outcome.artifacts } : {}),
      ...(outcome.undos ? { undos: outcome.undos } : {}),
    });
    return { output: outcome.output, cached: false, summary: outcome.summary, usage: used.total() };
  } catch (error) {
    throw await noteFailure(deps, call, begun.token, error, used.take());
  } finally {
    await used.end();
  }
}

/** Of this process: what runs at the same time shares its figures. */
const meter = createResourceMeter();

/** Begins to charge the stage, with the device that it holds where its pool has GPUs. */
async function meterStage(deps: ActivityDependencies, call: StageCall, signal: AbortSignal, life: SignsOfLife) {
  const device =
    (await deps.devices?.acquire(signal, () => {
      life.progress(null, 'waits for a GPU');
    })) ?? null;
  if (device !== null) life.note(device.shown);
  const usage = meter.begin();
  const rates = deps.config.rates;
  const { cpuHour, gpuHour } = { ...rates, ...rates.pools[call.pool] };
  let deviceSince = Date.now();
  const total = { cpuSeconds: 0, gpuSeconds: 0, peakMib: 0, cost: 0 };
  return {
    device,
    childUsed: usage.addChild,
    /** What was used since it was last asked. */
    take: (): StageUsage => {
      const { cpuSeconds, peakMib } = usage.take();
      const now = Date.now();
      const gpuSeconds = device === null ? 0 : (now - deviceSince) / 1_000;
      deviceSince = now;
      const figures = device?.figures();
      const cost = rates.currency === undefined ? undefined : (cpuSeconds * cpuHour + gpuSeconds * gpuHour) / 3_600;
      total.cpuSeconds += cpuSeconds;
      total.gpuSeconds += gpuSeconds;
      total.peakMib = Math.max(total.peakMib, peakMib);
      total.cost += cost ?? 0;
      return {
        cpuSeconds,
        peakMib,
        ...(device === null ? {} : { gpuSeconds }),
        ...(figures === undefined ? {} : { gpuPeakMib: figures.peakMib, gpuUtilisation: figures.utilisation }),
        ...(cost === undefined ? {} : { cost }),
      };
    },
    /** Of this attempt, as far as it was taken. */
    total: () => ({ ...total }),
    end: async (): Promise<void> => {
      usage.end();
      await device?.release();
    },
  };
}

/** Its input does not fit, or its source is not there: a stage that never began has a record that says so, like any that failed. */
async function noteUnprepared(deps: ActivityDependencies, call: StageCall, error: unknown): Promise<void> {
  try {
    if ((await deps.store.stages.find(call.runId, call.stage)) !== null) return;
    const { token } = await deps.store.stages.begin(beginning(deps, call, null, null));
    await noteFailure(deps, call, token, error);
  } catch (unwritten) {
    deps.log('warn', `the failure of stage ${call.stage} of run ${call.runId} could not be recorded`, { error: String(unwritten) });
  }
}

/** Writes the failure into the stage's record; gives back what is to be thrown. */
async function noteFailure(deps: ActivityDependencies, call: StageCall, token: number, error: unknown, usage?: StageUsage): Promise<unknown> {
  const cancelled = Context.current().cancellationSignal.aborted;
  const report =
    error instanceof MillraceError
      ? error.report()
      : new MillraceError(cancelled ? 'CONFLICT' : 'INTERNAL', cancelled ? 'The stage was cancelled.' : undefined).report();
  // the record of a failed attempt is for people; that it could not be written must not hide the failure itself
  await deps.store.stages
    .fail({ runId: call.runId, name: call.stage, token, error: report, cancelled, ...(usage === undefined ? {} : { usage }) })
    .catch((unwritten: unknown) => {
      deps.log('warn', `the failure of stage ${call.stage} of run ${call.runId} could not be recorded`, { error: String(unwritten) });
    });
  return cancelled ? new CancelledFailure('The stage was cancelled.') : error;
}

function beginning(deps: ActivityDependencies, call: StageCall, fingerprint: string | null, parts: Readonly<Record<string, unknown>> | null) {
  return {
    runId: call.runId,
    name: call.stage,
    kind: call.kind,
    ordinal: call.ordinal,
    pool: call.pool,
    worker: deps.worker,
    attempt: Context.current().info.attempt,
    fingerprint,
    fingerprintParts: parts,
    input: withKeyOrder(call.input),
    useCache: call.cache && fingerprint !== null,
  };
}

/** A stage's record holds its output with the line for people. */
function resultOf(stored: unknown, cached: boolean, from: string): StageResult {
  const { value, summary } = stored as { value: unknown; summary: string };
  return { output: value, cached, summary: from === '' ? summary : `${summary} (as in run ${from.slice(0, 8)})` };
}

async function takeOver(
  deps: ActivityDependencies,
  call: StageCall,
  token: number,
  hit: { readonly fromRunId: string; readonly fromStage: string; readonly output: unknown },
): Promise<StageResult> {
  await deps.store.stages.complete({
    runId: call.runId,
    name: call.stage,
    token,
    output: hit.output,
    cachedFrom: { runId: hit.fromRunId, stage: hit.fromStage },
  });
  return resultOf(hit.output, true, hit.fromRunId);
}

/**
 * Whether every artifact that the output names, and every file of the datasets it names, is in the store; from then on
 * they count as used, so that retention leaves them to this run. A dataset that retention has marked is not there.
 */
async function artifactsAreThere(deps: ActivityDependencies, output: unknown): Promise<boolean> {
  const names = [...new Set(JSON.stringify(output).match(/(?<=")[0-9a-f]{64}(?=")/g))];
  for (const name of names) {
    if (!(await deps.artifacts.keep(name))) return false;
    const inner = await deps.artifacts.getJson(name).catch(() => undefined); // only manifests are JSON
    if (inner === null || typeof inner !== 'object') continue;
    const files = 'files' in inner && Array.isArray(inner.files) ? (inner.files as { sha256: string }[]).map(({ sha256 }) => sha256) : [];
    const profile = 'profile' in inner && typeof inner.profile === 'string' ? [inner.profile] : [];
    for (const part of [...files, ...profile]) if (!(await deps.artifacts.keep(part))) return false;
  }
  return !(await deps.store.datasets.anyCollected(names));
}

export const STAGE_KINDS = Object.keys(stages) as StageKind[];
