import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { MlflowClient } from '../store/mlflow-client.ts';
import type { MirroredPoint, RunToMirror } from '../store/mlflow-mirror.ts';
import type { Store } from '../store/store.ts';

/**
 * The mirror: what runs have is sent to an outside MLflow server, and what changes of them after it.
 *
 * Invariants:
 * 1. A run is found outside by its tag before it is made there. Where a request to make it got lost with its answer, it is made
 *    again only when the first cannot come any more.
 * 2. What was sent is noted after it was taken. It may be sent twice, never not at all: a point, a parameter and a tag that
 *    come again are the same ones to MLflow's server.
 * 3. One run that is refused holds up no other; a server that is away holds up nothing here.
 */
const API = '/api/2.0/mlflow';
/** By which a run is found outside. */
const RUN_TAG = 'millrace.run_id';
/** Names that the outside server would not take, and what they are here. */
const RENAMED_TAG = 'millrace.renamed';
/** Parameters that have another value here by now: outside they cannot be changed. */
const CHANGED_TAG = 'millrace.changed_params';
/** Of models that are not there. */
const LEFT_OUT_TAGS: ReadonlySet<string> = new Set(['mlflow.log-model.history']);
const PARENT_TAG = 'mlflow.parentRunId';
const MOST_PARENTS = 20;

/** MLflow's limits of a batch. */
const MOST_ENTITIES = 1_000;
const MOST_PARAMS_OR_TAGS = 100;
const MOST_BATCH_BYTES = 900_000;
const MOST_NAME = 250;
const MOST_SAID = 2_000;

/** How long one pass goes on: whatever else its process does comes between. */
const PASS_MS = 20_000;
/** Longer than a request that is under way can take to be carried out. */
const SETTLE_MS = 120_000;
const STATUSES = { waiting: 'SCHEDULED', running: 'RUNNING', completed: 'FINISHED', failed: 'FAILED', cancelled: 'KILLED', terminated: 'KILLED' } as const;

export interface MlflowMirrorDeps {
  readonly store: Pick<Store, 'mlflowMirror'>;
  /** Of the outside server. */
  readonly client: Pick<MlflowClient, 'address' | 'get' | 'post'>;
  readonly log: (level: 'warn', message: string, details?: Readonly<Record<string, unknown>>) => void;
  /** When the process stops. */
  readonly stopped?: AbortSignal;
  /** How long a request to make a run, whose answer got lost, may still be carried out. Default two minutes. */
  readonly settleMs?: number;
}

interface Entry {
  readonly key: string;
  readonly value: string;
}

const entries = z.array(z.object({ key: z.string(), value: z.string().default('') })).default([]);
const OutsideRunSchema = z.object({
  info: z.object({
    run_id: z.string(),
    run_name: z.string().default(''),
    status: z.string(),
    end_time: z.coerce.number().optional(),
    lifecycle_stage: z.string(),
  }),
  data: z.object({ params: entries, tags: entries }).default({ params: [], tags: [] }),
});
type OutsideRun = z.output<typeof OutsideRunSchema>;
const AnswerSchema = z.object({ run: OutsideRunSchema });
const FoundSchema = z.object({ runs: z.array(OutsideRunSchema).default([]) });
const ExperimentSchema = z.object({ experiment: z.object({ experiment_id: z.string(), lifecycle_stage: z.string() }) });
const CreatedExperimentSchema = z.object({ experiment_id: z.string() });

function parsed<Schema extends z.ZodType>(schema: Schema, answer: unknown): z.output<Schema> {
  const result = schema.safeParse(answer);
  if (!result.success) throw new MillraceError('INVALID_REQUEST', 'What answers is no MLflow server: it left out what every one of them says.');
  return result.data;
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');
const codeOf = (error: unknown): string => (error instanceof MillraceError ? error.code : '');
const wordsOf = (error: unknown): string => (error instanceof MillraceError ? error.message : 'The mirror failed; the log of the orchestrator says how.');

/** A name as MLflow's server takes it: the same one, or one with its unfit characters replaced and a hash that keeps it apart from others. */
export function outsideName(name: string): string {
  const fits = /^[/\p{L}\p{N}_.\- :]+$/u.test(name) && [...name].length <= MOST_NAME && name.split('/').every((part) => !['', '.', '..'].includes(part));
  if (fits) return name;
  const parts = name
    .replaceAll(/[^/\p{L}\p{N}_.\- :]/gu, '_')
    .split('/')
    .map((part) => (['', '.', '..'].includes(part) ? '_' : part));
  return `${[...parts.join('/')].slice(0, MOST_NAME - 10).join('')}.${hashOf(name).slice(0, 8)}`;
}

/**
 * Sends what there is to send, what waits longest first, for some seconds at most. Nothing is done where another process mirrors,
 * or while the server is given time. Never throws because of the server.
 *
 * @returns How many runs are up to date that were not.
 */
export async function mirrorRuns(deps: MlflowMirrorDeps): Promise<number> {
  const { mlflowMirror } = deps.store;
  await mlflowMirror.turnOn(deps.client.address);
  return (await mlflowMirror.alone((lost) => mirrorAlone(deps, lost))) ?? 0;
}

async function mirrorAlone(deps: MlflowMirrorDeps, lost: AbortSignal): Promise<number> {
  const { store, log, stopped } = deps;
  const { mlflowMirror } = store;
  const until = Date.now() + PASS_MS;
  const isOver = (): boolean => Date.now() > until || lost.aborted || stopped?.aborted === true;
  const mirror = createMirror(deps, isOver, lost);
  let [done, empty, whole] = [0, 0, false];
  // changes and runs from before take turns, so that neither waits for the end of the other
  for (; empty < 2 && !isOver(); whole = !whole) {
    const runId = (await mlflowMirror.isDue()) ? await mlflowMirror.next(whole ? 'whole' : 'news') : null;
    if (runId === null) {
      empty++;
      continue;
    }
    empty = 0;
    try {
      // a server that is away is told from one that refuses a run
      await mirror.isThere();
    } catch (error) {
      log('warn', 'the outside MLflow server takes nothing; runs are mirrored later', { server: deps.client.address, why: wordsOf(error) });
      await mlflowMirror.notReached(wordsOf(error));
      return done;
    }
    try {
      if (await mirror.send(runId)) done++;
    } catch (error) {
      if (lost.aborted) return done;
      const code = codeOf(error);
      if (code === '' || code === 'DATABASE_UNAVAILABLE') throw error;
      log('warn', 'a run could not be mirrored; it is tried again', { runId, why: wordsOf(error) });
      if (code === 'NOT_FOUND') await mlflowMirror.isGone(runId);
      await mlflowMirror.refused(runId, wordsOf(error));
      if (code === 'SERVER_UNAVAILABLE' || code === 'OVERLOADED' || code === 'TOKEN_NEEDED') {
        await mlflowMirror.notReached(wordsOf(error));
        return done;
      }
    }
  }
  return done;
}

function createMirror({ store, client, settleMs = SETTLE_MS }: MlflowMirrorDeps, isOver: () => boolean, lost: AbortSignal) {
  const { mlflowMirror } = store;
  const experiments = new Map<string, string>();
  let isReached = false;

  const post = async (path: string, body: unknown): Promise<unknown> => {
    if (lost.aborted) throw new MillraceError('SERVER_UNAVAILABLE', 'Another process mirrors by now.');
    return client.post(`${API}/${path}`, body);
  };

  async function experimentOf(name: string): Promise<string> {
    const known = experiments.get(name);
    if (known !== undefined) return known;
    const find = async (): Promise<string | null> => {
      try {
        const { experiment } = parsed(ExperimentSchema, await client.get(`${API}/experiments/get-by-name`, { experiment_name: name }));
        if (experiment.lifecycle_stage === 'deleted') await post('experiments/restore', { experiment_id: experiment.experiment_id });
        return experiment.experiment_id;
      } catch (error) {
        if (codeOf(error) === 'NOT_FOUND') return null;
        throw error;
      }
    };
    let id = await find();
    if (id === null) {
      try {
        id = parsed(CreatedExperimentSchema, await post('experiments/create', { name })).experiment_id;
      } catch (error) {
        // somebody else made it meanwhile
        id = codeOf(error) === 'CONFLICT' ? await find() : null;
        if (id === null) throw error;
      }
    }
    experiments.set(name, id);
    return id;
  }

  /** The run outside, made where it is not there; null where it may still come of an earlier request. */
  async function ensureRun(run: RunToMirror): Promise<OutsideRun | null> {
    const experimentId = await experimentOf(run.experiment);
    const filter = `tags.\`${RUN_TAG}\` = '${run.runId}'`;
    const search = { experiment_ids: [experimentId], filter, run_view_type: 'ALL', max_results: 10 };
    const { runs } = parsed(FoundSchema, await post('runs/search', search));
    const [found, ...doubles] = runs.toSorted(
      (a, b) => Number(a.info.lifecycle_stage === 'deleted') - Number(b.info.lifecycle_stage === 'deleted') || (a.info.run_id < b.info.run_id ? -1 : 1),
    );
    for (const { info } of doubles) if (info.lifecycle_stage === 'active') await post('runs/delete', { run_id: info.run_id });
    if (found !== undefined) {
      await mlflowMirror.isThere(run.runId, found.info.run_id);
      return found;
    }
    const waitedMs = run.askedAt === null ? settleMs : Date.now() - Date.parse(run.askedAt);
    if (waitedMs < settleMs) {
      await mlflowMirror.postpone(run.runId, (settleMs - waitedMs) / 1_000);
      return null;
    }
    await mlflowMirror.asking(run.runId);
    const { run: made } = parsed(
      AnswerSchema,
      await post('runs/create', {
        experiment_id: experimentId,
        start_time: run.startedAtMs,
        ...(run.name === '' ? {} : { run_name: run.name }),
        ...(run.userId === null ? {} : { user_id: run.userId }),
        tags: [{ key: RUN_TAG, value: run.runId }],
      }),
    );
    await mlflowMirror.isThere(run.runId, made.info.run_id);
    return made;
  }

  /** The run's id outside; a parent comes before its children, so that they can name it. */
  async function outsideIdOf(runId: string, depth: number): Promise<string | null> {
    const known = await mlflowMirror.outsideIdOf(runId);
    if (known !== null || depth > MOST_PARENTS) return known;
    const run = await mlflowMirror.read(runId);
    return run === null || run.isDeleted || run.status === 'waiting' ? null : ((await ensureRun(run))?.info.run_id ?? null);
  }

  /** Parameters and tags as they are to stand outside. */
  async function factsOf(run: RunToMirror): Promise<{ readonly params: ReadonlyMap<string, string>; readonly tags: ReadonlyMap<string, string> }> {
    const renamed: Record<string, string> = {};
    const fitting = (name: string): string => {
      const outside = outsideName(name);
      if (outside !== name) renamed[outside] = name;
      return outside;
    };
    const params = new Map(Object.entries(run.params).map(([key, value]) => [fitting(key), value]));
    const tags = new Map(Object.entries(run.tags).flatMap(([key, value]) => (LEFT_OUT_TAGS.has(key) ? [] : [[fitting(key), value] as const])));
    const parent = tags.get(PARENT_TAG);
    if (parent !== undefined) {
      const outside = parent === run.runId ? null : await outsideIdOf(parent, 0);
      if (outside === null) tags.delete(PARENT_TAG);
      else tags.set(PARENT_TAG, outside);
    }
    if (Object.keys(renamed).length > 0) tags.set(RENAMED_TAG, JSON.stringify(renamed).slice(0, MOST_SAID));
    tags.set(RUN_TAG, run.runId);
    return { params, tags };
  }

  async function log(outsideId: string, params: readonly Entry[], tags: readonly Entry[], points: readonly MirroredPoint[]): Promise<void> {
    if (params.length + tags.length + points.length === 0) return;
    const metrics = points.map(({ name, value, step, atMs }) => ({
      key: outsideName(name),
      value: Number.isFinite(value) ? value : String(value),
      step,
      timestamp: atMs,
    }));
    await post('runs/log-batch', { run_id: outsideId, params, tags, metrics });
  }

  /** Makes parameters and tags outside what they are here, and answers with what did not fit into one batch with points: nothing. */
  async function sendFacts(run: RunToMirror, outside: OutsideRun, facts: Awaited<ReturnType<typeof factsOf>>): Promise<void> {
    const { run_id: outsideId, lifecycle_stage: stage } = outside.info;
    if (stage === 'deleted') await post('runs/restore', { run_id: outsideId });
    const there = new Map(outside.data.params.map(({ key, value }) => [key, value]));
    const params = [...facts.params].flatMap(([key, value]) => (there.has(key) ? [] : [{ key, value }]));
    const changed = [...facts.params].flatMap(([key, value]) => (there.has(key) && there.get(key) !== value ? [key] : []));
    const standing = new Map(outside.data.tags.map(({ key, value }) => [key, value]));
    const wanted = new Map(facts.tags);
    if (changed.length > 0) wanted.set(CHANGED_TAG, changed.join(', ').slice(0, MOST_SAID));
    const tags = [...wanted].flatMap(([key, value]) => (standing.get(key) === value ? [] : [{ key, value }]));
    for (const batch of batchesOf(params)) await log(outsideId, batch, [], []);
    for (const batch of batchesOf(tags)) await log(outsideId, [], batch, []);
    for (const key of run.tagsSent)
      if (!wanted.has(key) && standing.has(key))
        await post('runs/delete-tag', { run_id: outsideId, key }).catch((error: unknown) => {
          if (codeOf(error) !== 'NOT_FOUND') throw error;
        });
  }

  /** Sends points: all of them, or those that were noted. @returns whether that is all */
  async function sendPoints(run: RunToMirror, outsideId: string, isWhole: boolean, after: RunToMirror['wholeAfter']): Promise<boolean> {
    for (let cursor = after, isLast = !isWhole; !isLast; ) {
      if (isOver()) return false;
      const { points, next } = await mlflowMirror.points({ runId: run.runId, after: cursor, limit: MOST_ENTITIES });
      await log(outsideId, [], [], points);
      await mlflowMirror.wholeSent(run.runId, next);
      cursor = next;
      isLast = next === null;
    }
    // a walk that began after the notes were read has met their points
    if (isWhole && after === null) return true;
    const noted = run.notes.flatMap(({ points }) => points);
    for (let at = 0; at < noted.length; at += MOST_ENTITIES) await log(outsideId, [], [], noted.slice(at, at + MOST_ENTITIES));
    return true;
  }

  async function sendState(run: RunToMirror, { info }: OutsideRun): Promise<void> {
    const status = STATUSES[run.status];
    const isSame = info.status === status && (run.endedAtMs ?? 0) === (info.end_time ?? 0) && (run.name === '' || run.name === info.run_name);
    if (!isSame)
      await post('runs/update', {
        run_id: info.run_id,
        status,
        ...(run.endedAtMs === null ? {} : { end_time: run.endedAtMs }),
        ...(run.name === '' ? {} : { run_name: run.name }),
      });
    if (run.isDeleted) await post('runs/delete', { run_id: info.run_id });
  }

  async function sendRun(run: RunToMirror): Promise<boolean> {
    const { runId } = run;
    const notes = run.notes.map(({ id }) => id);
    const made = run.outsideId === null ? await ensureRun(run) : null;
    const outsideId = run.outsideId ?? made?.info.run_id;
    if (outsideId === undefined) return false;
    const facts = await factsOf(run);
    const { name, status, endedAtMs, isDeleted } = run;
    const hash = hashOf(canonicalJson({ params: Object.fromEntries(facts.params), tags: Object.fromEntries(facts.tags), name, status, endedAtMs, isDeleted }));
    const isChanged = hash !== run.factsSent || made !== null;
    const outside = isChanged ? (made ?? parsed(AnswerSchema, await client.get(`${API}/runs/get`, { run_id: outsideId })).run) : null;
    if (outside !== null) await sendFacts(run, outside, facts);
    const isAll = await sendPoints(run, outsideId, run.whole || made !== null, made === null ? run.wholeAfter : null);
    if (!isAll) return false;
    if (outside !== null) await sendState(run, outside);
    await mlflowMirror.sent({ runId, notes, facts: hash, tags: [...facts.tags.keys()] });
    return true;
  }

  return {
    /** Once a pass. @throws where the server does not answer as one of MLflow's */
    async isThere(): Promise<void> {
      if (isReached) return;
      await client.get(`${API}/experiments/search`, { max_results: 1 });
      await mlflowMirror.reached();
      isReached = true;
    },

    /** Brings one run up to date. @returns whether all of it was sent */
    async send(runId: string): Promise<boolean> {
      const run = await mlflowMirror.read(runId);
      if (run === null) return false;
      if (run.outsideId === null && (run.isDeleted || (run.status === 'waiting' && run.askedAt === null))) {
        // once it begins, or is brought back, it is sent whole
        await mlflowMirror.wholeSent(runId, null);
        await mlflowMirror.sent({ runId, notes: run.notes.map(({ id }) => id), facts: '', tags: [] });
        return false;
      }
      try {
        return await sendRun(run);
      } catch (error) {
        if (codeOf(error) !== 'INVALID_REQUEST' || run.factsSent === null || run.outsideId === null) throw error;
        // perhaps it was deleted there: everything is compared anew
        return sendRun({ ...run, factsSent: null });
      }
    },
  };
}

/** Entries in batches that MLflow's server takes. */
function batchesOf(items: readonly Entry[]): readonly (readonly Entry[])[] {
  const batches: Entry[][] = [];
  let sizeBytes = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const itemBytes = Buffer.byteLength(JSON.stringify(item)) + 1;
    const last = batches.at(-1);
    if (last === undefined || last.length >= MOST_PARAMS_OR_TAGS || sizeBytes + itemBytes > MOST_BATCH_BYTES) {
      batches.push([item]);
      sizeBytes = itemBytes;
    } else {
      last.push(item);
      sizeBytes += itemBytes;
    }
  }
  return batches;
}
