/**
 * Features of entities, read from the online store for the requests that leave them out.
 *
 * Invariants:
 * 1. Of each view one read is under way at most; what is asked for meanwhile is read together, after it.
 * 2. No request waits for a read longer than its time. When the store does not answer, what was read within a minute still
 *    answers; without that the request fails, and for a moment the next ones fail at once.
 * 3. What was read counts for some seconds, also that an entity is not known. Memory is bounded.
 */
import { MillraceError } from '../contracts/errors.ts';
import type { FeatureLookup, OnlineRow } from '../contracts/feature-lookup.ts';
import type { FeatureSource } from './ports.ts';

export interface OnlineFeaturesOptions {
  readonly source: FeatureSource;
  readonly now?: () => number;
  /** How long what was read counts. Default 2,000. */
  readonly freshMs?: number;
  /** How long it still answers when the store does not. Default 60,000. */
  readonly keptMs?: number;
  /** Entities kept. Default 50,000. */
  readonly maxEntities?: number;
  /** Default 2,000. */
  readonly timeoutMs?: number;
}

export interface OnlineFeatures {
  /**
   * Rows by key; an entity that is not known is not in it.
   * @throws MillraceError NOT_MATERIALIZED, DATABASE_UNAVAILABLE
   */
  find(lookup: Pick<FeatureLookup, 'view' | 'definition'>, keys: ReadonlySet<string>): Promise<ReadonlyMap<string, OnlineRow>>;
}

interface Kept {
  readonly row: OnlineRow | undefined;
  readonly readMs: number;
}

interface Read {
  readonly keys: Set<string>;
  readonly done: Promise<ReadonlyMap<string, OnlineRow>>;
  start: () => void;
}

interface View {
  running: Promise<unknown> | undefined;
  open: Read | undefined;
  downUntilMs: number;
}

const KEYS_AT_ONCE = 10_000;
/** After a read that failed, the store is left alone for so long. */
const REST_MS = 500;

async function within<T>(work: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(late());
    }, timeoutMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

const unavailable = (view: string): MillraceError =>
  new MillraceError('DATABASE_UNAVAILABLE', `The features of ${view} cannot be looked up: the online store does not answer.`, {
    fix: 'Try again after the seconds in Retry-After, or send the features with the request.',
  });

export function createOnlineFeatures(options: OnlineFeaturesOptions): OnlineFeatures {
  const { source, now = Date.now, freshMs = 2_000, keptMs = 60_000, maxEntities = 50_000, timeoutMs = 2_000 } = options;
  const kept = new Map<string, Kept>();
  const views = new Map<string, View>();

  function keep(id: string, row: OnlineRow | undefined): void {
    // Taken out first, so that the map's order is that of reading and its first entry the oldest.
    kept.delete(id);
    kept.set(id, { row, readMs: now() });
    const [oldest] = kept.size > maxEntities ? kept.keys() : [];
    if (oldest !== undefined) kept.delete(oldest);
  }

  async function read({ view, definition }: Pick<FeatureLookup, 'view' | 'definition'>, keys: ReadonlySet<string>): Promise<ReadonlyMap<string, OnlineRow>> {
    const all = [...keys];
    const rows = new Map<string, OnlineRow>();
    for (let from = 0; from < all.length; from += KEYS_AT_ONCE) {
      const asked = all.slice(from, from + KEYS_AT_ONCE);
      const found = await within(source.lookup(view, definition, asked), timeoutMs, () => unavailable(view));
      if (!found.materialized)
        throw new MillraceError('NOT_MATERIALIZED', `The feature view ${view} has no online values of the definition that this model was trained with.`, {
          fix: `Run a pipeline with materialize(${view}, { from }), or send the features with the request; \`millrace features show ${view}\` says what there is.`,
        });
      for (const key of asked) {
        const row = found.rows.get(key);
        if (row !== undefined) rows.set(key, row);
        keep(`${view}/${definition}/${key}`, row);
      }
    }
    return rows;
  }

  function load(lookup: Pick<FeatureLookup, 'view' | 'definition'>, view: View, keys: Iterable<string>): Promise<ReadonlyMap<string, OnlineRow>> {
    let { open } = view;
    if (open === undefined) {
      const asked = new Set<string>();
      let start: () => void = () => undefined;
      const started = new Promise<void>((resolve) => {
        start = resolve;
      });
      open = { keys: asked, done: started.then(() => read(lookup, asked)), start };
      view.open = open;
      // Requests that come on this turn of the loop are read together; so are those that come while another read goes on.
      if (view.running === undefined) setImmediate(dispatch, view);
    }
    for (const key of keys) open.keys.add(key);
    return open.done;
  }

  function dispatch(view: View): void {
    const next = view.open;
    view.open = undefined;
    view.running = next?.done
      .catch((error: unknown) => {
        if (error instanceof MillraceError && error.retryable) view.downUntilMs = now() + REST_MS;
      })
      .finally(() => {
        view.running = undefined;
        if (view.open !== undefined) dispatch(view);
      });
    next?.start();
  }

  return {
    async find(lookup, keys) {
      const { view: name, definition } = lookup;
      const prefix = `${name}/${definition}/`;
      const found = new Map<string, OnlineRow>();
      const wanted: string[] = [];
      const take = (key: string, withinMs: number): boolean => {
        const entry = kept.get(prefix + key);
        if (entry === undefined || now() - entry.readMs > withinMs) return false;
        if (entry.row !== undefined) found.set(key, entry.row);
        return true;
      };
      for (const key of keys) if (!take(key, freshMs)) wanted.push(key);
      if (wanted.length === 0) return found;
      let view = views.get(prefix);
      if (view === undefined) {
        view = { running: undefined, open: undefined, downUntilMs: 0 };
        views.set(prefix, view);
      }
      try {
        if (now() < view.downUntilMs) throw unavailable(name);
        const rows = await load(lookup, view, wanted);
        for (const key of wanted) {
          const row = rows.get(key);
          if (row !== undefined) found.set(key, row);
        }
      } catch (error) {
        if (!(error instanceof MillraceError && error.retryable)) throw error;
        if (!wanted.every((key) => take(key, keptMs))) throw error.code === 'DATABASE_UNAVAILABLE' ? unavailable(name) : error;
      }
      return found;
    },
  };
}
