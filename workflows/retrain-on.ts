import type { RetrainTriggerInput } from '../contracts/retrain-triggers.ts';
import type { SourceInput } from '../contracts/source.ts';
import { type Duration, durationMs } from './duration.ts';

/** What asks for a retraining by itself: for `retrainOn` of `definePipeline`. */
interface TriggerOptions {
  /** What was seen is remembered under it. Default: from what is watched. */
  readonly name?: string;
  /** Why; it stands in the ledger before what was found. */
  readonly reason?: string;
}
interface WatchOptions extends TriggerOptions {
  /** How often it is looked for. Default a minute. */
  readonly every?: Duration;
}

const DEFAULT_EVERY_MS = 60_000;
const NAME_LENGTH = 200;

const common = (what: string, { name, reason }: TriggerOptions) => ({ name: name ?? what.slice(0, NAME_LENGTH), ...(reason === undefined ? {} : { reason }) });
const everyMs = ({ every }: WatchOptions): number => (every === undefined ? DEFAULT_EVERY_MS : durationMs(every));

/**
 * By the clock: a Temporal Schedule `retrain/PIPELINE/NAME` that asks the controller. What was missed while the stack was
 * down is made up for once at most, within `catchUp`.
 */
export function schedule(
  times: TriggerOptions & {
    /** As Temporal reads them: `0 3 * * 1`, `@daily`. */
    readonly cron?: string | readonly string[];
    readonly every?: Duration;
    /** Zone of the cron expressions: `Europe/Berlin`. Default: the project's, else UTC. */
    readonly timeZone?: string;
    /** Each start is put off by up to so much, drawn anew each time. Default 0. */
    readonly jitter?: Duration;
    /** How late a missed start is still made up for; at least 10 seconds. Default: the project's, else one interval. */
    readonly catchUp?: Duration;
  },
): RetrainTriggerInput {
  const { cron, every, timeZone, jitter, catchUp } = times;
  return {
    kind: 'schedule',
    ...common('schedule', times),
    ...(cron === undefined ? {} : { cron: typeof cron === 'string' ? [cron] : [...cron] }),
    ...(every === undefined ? {} : { everyMs: durationMs(every) }),
    ...(timeZone === undefined ? {} : { timeZone }),
    ...(jitter === undefined ? {} : { jitterMs: durationMs(jitter) }),
    ...(catchUp === undefined ? {} : { catchUpMs: durationMs(catchUp) }),
  };
}

/** Files that appear, or get other content, where a path, a folder or a glob points: here, over https or in S3. */
export function newFiles(from: string | (SourceInput & { readonly path: unknown }), options: WatchOptions = {}): RetrainTriggerInput {
  const source: SourceInput & { readonly path: unknown } = typeof from === 'string' ? { format: 'text', path: from } : from;
  const path = typeof source.path === 'string' ? source.path : JSON.stringify(source.path);
  return { kind: 'files', ...common(`files ${path}`, options), source, everyMs: everyMs(options) };
}

/**
 * At least so many rows above the greatest value of a column that was seen: a Postgres query or files, whose column only
 * grows. With `channel` it is looked at once when that channel of the source's Postgres is notified; what was notified
 * while nobody listened is found by the next regular look.
 */
export function newRows(
  source: SourceInput,
  options: WatchOptions & { readonly column: string /** Default 1. */; readonly atLeast?: number; readonly channel?: string },
): RetrainTriggerInput {
  const { column, atLeast = 1, channel } = options;
  return {
    kind: 'rows',
    ...common(`rows by ${column}`, options),
    source,
    column,
    atLeast,
    everyMs: everyMs(options),
    ...(channel === undefined ? {} : { channel }),
  };
}

/**
 * A `NOTIFY` on a channel of Postgres; its payload stands in the ledger. Postgres keeps none for those who do not listen
 * just then: where none may be lost, use `newRows` with `channel`.
 */
export function notification(
  channel: string,
  options: TriggerOptions & { /** Default SOURCE_DATABASE_URL. */ readonly connection?: string } = {},
): RetrainTriggerInput {
  return {
    kind: 'notify',
    ...common(`notification ${channel}`, options),
    channel,
    ...(options.connection === undefined ? {} : { connection: options.connection }),
  };
}

/** At least so many labels since the last training: feedback on an endpoint's predictions, or answers in a label queue. */
export function newLabels(
  options: WatchOptions & ({ readonly endpoint: string } | { readonly queue: string }) & { readonly atLeast: number },
): RetrainTriggerInput {
  const of = 'endpoint' in options ? { endpoint: options.endpoint } : { queue: options.queue };
  return { kind: 'labels', ...common(`labels of ${Object.values(of).join('')}`, options), ...of, atLeast: options.atLeast, everyMs: everyMs(options) };
}

/** A new snapshot of this name that a run of another pipeline made, once that run has completed. */
export function newSnapshot(dataset: string, options: WatchOptions = {}): RetrainTriggerInput {
  return { kind: 'snapshot', ...common(`snapshot ${dataset}`, options), dataset, everyMs: everyMs(options) };
}
