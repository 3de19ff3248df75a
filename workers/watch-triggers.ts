import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { askRetraining } from '../activities/ask-retraining.ts';
import type { BuiltPipeline } from '../activities/build-files.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { isWatched, lookForNews, type LookContext, requestOf, type WatchedTrigger } from '../activities/look-for-news.ts';
import { deleteRetrainSchedule, putRetrainSchedule } from '../activities/retrain-schedule.ts';
import { sourceSettings } from '../config/source-settings.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import { type ChannelListener, listenChannel } from '../store/listen-channel.ts';
import { every } from './every.ts';
import type { ProcessLog } from './process-log.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'config' | 'artifacts' | 'builds' | 'client' | 'log'>;
type NotifyTrigger = Extract<RetrainTrigger, { readonly kind: 'notify' }>;

const TELL_EVERY_MS = 500;
/** A look that takes longer is given up, and taken again. */
const LOOK_LIMIT_MS = 600_000;
/** Notifications that come within this time are one request. */
const GATHER_MS = 500;
const PAYLOADS = 5;
const PAYLOAD_LENGTH = 500;

/**
 * Makes what the pipelines declare what is watched: schedules are put on Temporal's list, the rest into the records that
 * `watchTriggers` goes by.
 */
export async function declareTriggers(deps: Pick<Deps, 'store' | 'client' | 'config' | 'log'>, pipelines: readonly BuiltPipeline[]): Promise<void> {
  const known = new Set((await deps.store.retrainTriggers.list()).map(({ pipeline }) => pipeline));
  const declared = new Map(pipelines.map(({ name, retrainOn = [] }) => [name, retrainOn]));
  for (const pipeline of new Set([...known, ...declared.keys()])) {
    const triggers = declared.get(pipeline) ?? [];
    // the schedule first: one whose record is gone would be found by nobody
    for (const { name, trigger } of await deps.store.retrainTriggers.list(pipeline))
      if (trigger.kind === 'schedule' && !triggers.some((other) => other.kind === 'schedule' && other.name === name))
        await deleteRetrainSchedule(deps, pipeline, name);
    await deps.store.retrainTriggers.declare(pipeline, triggers);
    for (const trigger of triggers) if (trigger.kind === 'schedule') await schedule(deps, pipeline, trigger);
  }
}

/** A schedule that Temporal does not take (a cron expression that is none) must not keep the other pipelines from running. */
async function schedule(
  deps: Pick<Deps, 'store' | 'client' | 'config' | 'log'>,
  pipeline: string,
  trigger: Extract<RetrainTrigger, { readonly kind: 'schedule' }>,
): Promise<void> {
  const problem = await putRetrainSchedule(deps, pipeline, trigger).then(
    () => null,
    (error: unknown) => {
      deps.log('error', `the schedule ${trigger.name} of ${pipeline} could not be made`, { error: String(error) });
      return 'Temporal does not take this schedule; the log of the orchestrator says why.';
    },
  );
  await deps.store.retrainTriggers.looked({ pipeline, name: trigger.name }, problem);
}

/** Tells the controllers what is asked and they were not told. */
export async function tellControllers(deps: Pick<Deps, 'store' | 'client'>): Promise<void> {
  for (const ask of await deps.store.retrainTriggers.untold()) {
    await askRetraining(deps, ask.pipeline, ask.request);
    await deps.store.retrainTriggers.told(ask);
  }
}

/** One look at a trigger. What goes wrong stands in its record, and is thrown. */
export async function lookAtTrigger(deps: Deps, pipeline: string, name: string, context: LookContext): Promise<void> {
  const record = await deps.store.retrainTriggers.find(pipeline, name);
  if (record === null) return;
  try {
    const noticed = await lookForNews(deps, record, context);
    if (noticed === null) await deps.store.retrainTriggers.looked(record, null);
    else await deps.store.retrainTriggers.notice(record, noticed);
  } catch (error) {
    if (context.signal.aborted) throw error;
    await deps.store.retrainTriggers.looked(record, error instanceof MillraceError ? error.message : 'It could not be looked at.');
    throw error;
  }
}

/**
 * Watches what asks for retrainings: sources, files, labels and snapshots are looked at again and again, channels of
 * Postgres are listened to, and controllers are told. It may run in several processes and die at any point: what was
 * seen and what is asked for it are one transaction.
 */
export async function watchTriggers(deps: Deps, stopped: AbortSignal, log: ProcessLog): Promise<void> {
  const known = new AbortController();
  const watched: Promise<void>[] = [];
  // again and again until the records can be read
  await every(TELL_EVERY_MS, AbortSignal.any([stopped, known.signal]), log, async () => {
    for (const { pipeline, trigger } of await deps.store.retrainTriggers.list()) {
      if (trigger.kind === 'notify') watched.push(hearNotifications(deps, pipeline, trigger, stopped, log));
      else if (isWatched(trigger)) watched.push(watchOne(deps, pipeline, trigger, stopped, log));
    }
    known.abort();
  });
  await Promise.all([every(TELL_EVERY_MS, stopped, log, () => tellControllers(deps)), ...watched]);
}

// a function, so that a check before an await says nothing of after it
const isStopped = (signal: AbortSignal): boolean => signal.aborted;

/** Looks at one trigger as often as it says, and at once where it is notified. */
async function watchOne(deps: Deps, pipeline: string, trigger: WatchedTrigger, stopped: AbortSignal, log: ProcessLog): Promise<void> {
  const sizes = new Map<string, string>();
  let notified = new AbortController();
  const heard = trigger.kind === 'rows' && trigger.source.format === 'postgres' ? { ...trigger.source, channel: trigger.channel } : undefined;
  let listener: ChannelListener | undefined;
  try {
    while (!stopped.aborted) {
      notified = new AbortController();
      try {
        // the look says in the trigger's record what is wrong with the connection, where something is
        if (heard?.channel !== undefined) listener ??= tryToListen(heard.connection, heard.channel, stopped, log, () => notified.abort());
        await lookAtTrigger(deps, pipeline, trigger.name, { signal: AbortSignal.any([stopped, AbortSignal.timeout(LOOK_LIMIT_MS)]), sizes });
      } catch (error) {
        if (!isStopped(stopped)) log('warn', `what asks for retraining ${pipeline} could not be looked at: ${trigger.name}`, { error: String(error) });
      }
      // only the stop and a notification end it early
      await sleep(trigger.everyMs, undefined, { signal: AbortSignal.any([stopped, notified.signal]) }).catch(() => undefined);
    }
  } finally {
    await listener?.close();
  }
}

function listenTo(connection: string, channel: string, stopped: AbortSignal, log: ProcessLog, onNotice: (payload: string | null) => void): ChannelListener {
  return listenChannel({
    databaseUrl: sourceSettings().secret(connection),
    channel,
    applicationName: 'millrace triggers',
    onNotice,
    // what was notified meanwhile is lost: a look finds what it was about
    onConnect: () => onNotice(null),
    onError: () => {
      if (!stopped.aborted) log('warn', `the connection that hears the channel ${channel} was lost; it is made again`);
    },
  });
}

/** Undefined where the connection's address is not known. */
function tryToListen(...given: Parameters<typeof listenTo>): ChannelListener | undefined {
  try {
    return listenTo(...given);
  } catch (error) {
    if (error instanceof MillraceError) return undefined;
    throw error;
  }
}

/** Asks for each notification, those that come together as one. They stay here until they are written. */
async function hearNotifications(deps: Deps, pipeline: string, trigger: NotifyTrigger, stopped: AbortSignal, log: ProcessLog): Promise<void> {
  let payloads: string[] = [];
  let heard = 0;
  const open = (): ChannelListener =>
    listenTo(trigger.connection, trigger.channel, stopped, log, (payload) => {
      if (payload === null) return;
      heard += 1;
      if (payloads.length < PAYLOADS) payloads.push(payload.slice(0, PAYLOAD_LENGTH));
    });
  let listener: ChannelListener | undefined;
  await every(GATHER_MS, stopped, log, async () => {
    const record = await deps.store.retrainTriggers.find(pipeline, trigger.name);
    if (record === null) return;
    if (listener === undefined) {
      try {
        listener = open();
        await deps.store.retrainTriggers.looked(record, null);
      } catch (error) {
        if (error instanceof MillraceError && record.problem !== error.message) await deps.store.retrainTriggers.looked(record, error.message);
        return;
      }
    }
    if (heard === 0) return;
    const [n, shown] = [heard, [...payloads]];
    const said = shown.filter((payload) => payload !== '').join('; ');
    const found = `${n === 1 ? 'a notification' : `${String(n)} notifications`} on ${trigger.channel}${said === '' ? '' : `: ${said}`}`;
    const ask = requestOf(trigger, found, { channel: trigger.channel, notifications: n, payloads: shown }, randomUUID());
    if (!(await deps.store.retrainTriggers.notice(record, { state: null, ask }))) return;
    heard -= n;
    payloads = payloads.slice(shown.length);
  });
  await listener?.close();
}
