/**
 * What a look at an endpoint needs of its earlier windows, at hand for the next look.
 *
 * Invariants:
 * 1. What is stored counts: each look asks which windows there are, and reads those that it does not know, or that were written since.
 * 2. It is forgotten a few minutes after the endpoint's last look, and where it would grow beyond its bound: then all is read again.
 * 3. What it gives is not changed by anybody.
 */
import { DriftReportSchema, type DriftSettings, type PastWindow } from '../contracts/drift.ts';
import { WindowFiguresSchema } from '../contracts/monitoring.ts';
import { withReport } from '../ml/drift/decide.ts';
import { MOST_SEASON, seasonOf } from '../ml/drift/season.ts';
import type { MonitoringStore } from '../store/monitoring.ts';
import type { FoundWindow } from './monitor-findings.ts';

export interface WindowMemory {
  /** Newest first, of those that ended before then (UTC ISO) the newest ones. What is stored otherwise than windows are is left out. */
  windows(input: { readonly endpoint: string; readonly before: string; readonly most: number }): Promise<FoundWindow[]>;
  /**
   * What was decided of drift in the windows of one version that ended at `until` or before, newest first, of the endpoint's newest 3,000. The newest
   * ones of the season that begins then have their bins.
   */
  decisions(input: {
    readonly endpoint: string;
    readonly model: string;
    readonly version: number;
    readonly until: string;
    readonly season: DriftSettings['season'];
  }): Promise<readonly PastWindow[]>;
  /** Windows of the training rows that were kept under this key; undefined: none were. */
  trained(endpoint: string, key: string): readonly PastWindow[] | undefined;
  keepTrained(endpoint: string, key: string, windows: readonly PastWindow[]): void;
  /** What `read` made of an artifact: one of an id never changes. */
  artifact<Made>(id: string, read: () => Promise<Made>): Promise<Made>;
}

/** Of one stored window. */
interface Known {
  readonly stamp: string;
  /** Null: it cannot be read. */
  window?: FoundWindow | null;
  decision?: { readonly model: string; readonly version: number; readonly decided: PastWindow | null };
  seasonal?: PastWindow;
}

interface Remembered {
  readonly windows: Map<string, Known>;
  trained?: { readonly key: string; readonly windows: readonly PastWindow[] };
  timer?: NodeJS.Timeout;
}

const MOST_DECISIONS = 3_000;
const REMEMBERED_MS = 300_000;
const MOST_ARTIFACTS = 24;
/** Columns of windows and of decisions, of all endpoints: some 100 MiB. */
const MOST_COLUMNS = 50_000;

const keyOf = ({ from, to }: { readonly from: string; readonly to: string }): string => `${from} ${to}`;
const columnsOf = ({ windows, trained }: Remembered): number =>
  [...windows.values()].reduce(
    (sum, { window, decision, seasonal }) =>
      sum + 1 + (window?.figures.drift?.columns.length ?? 0) + ((decision?.decided?.columns.length ?? 0) + (seasonal?.columns.length ?? 0)) / 4,
    (trained?.windows ?? []).reduce((sum, { columns }) => sum + columns.length / 4, 0),
  );

const slim = ({ from, columns }: PastWindow): PastWindow => ({
  from,
  columns: columns.map(({ column, exceeded, tests }) => ({
    column,
    exceeded,
    tests: tests.map(({ kind, effect, chance, pValue, calibration, exceeded: isOver }) => ({ kind, effect, chance, pValue, calibration, exceeded: isOver })),
  })),
});

/** `mostColumns`: the bound. */
export function createWindowMemory(store: MonitoringStore, { mostColumns = MOST_COLUMNS }: { readonly mostColumns?: number } = {}): WindowMemory {
  const endpoints = new Map<string, Remembered>();
  const artifacts = new Map<string, { readonly made: unknown; readonly timer: NodeJS.Timeout }>();

  /** What is known of an endpoint, which is now the one that was asked for last. */
  function recall(endpoint: string): Remembered {
    const known = endpoints.get(endpoint) ?? { windows: new Map<string, Known>() };
    endpoints.delete(endpoint);
    endpoints.set(endpoint, known);
    clearTimeout(known.timer);
    known.timer = setTimeout(() => endpoints.delete(endpoint), REMEMBERED_MS).unref();
    return known;
  }

  function keepBound(): void {
    let columns = [...endpoints.values()].reduce((sum, known) => sum + columnsOf(known), 0);
    for (const [endpoint, known] of endpoints) {
      if (columns <= mostColumns) return;
      columns -= columnsOf(known);
      clearTimeout(known.timer);
      endpoints.delete(endpoint);
    }
  }

  /** The stored windows, newest first, with what is known of them. */
  async function look(
    endpoint: string,
    among: { readonly before?: string; readonly until?: string; readonly limit: number },
  ): Promise<readonly { readonly from: string; readonly to: string; readonly known: Known }[]> {
    const { windows } = recall(endpoint);
    const stamps = await store.windowStamps({ endpoint, ...among });
    const found = stamps.map(({ from, to, stamp }) => {
      const before = windows.get(keyOf({ from, to }));
      const known: Known = before?.stamp === stamp ? before : { stamp };
      return { from, to, known };
    });
    for (const { from, to, known } of found) windows.set(keyOf({ from, to }), known);
    if (windows.size > 2 * MOST_DECISIONS) windows.clear();
    return found;
  }

  return {
    async windows({ endpoint, before, most }) {
      const found = await look(endpoint, { before, limit: most });
      const unread = new Map(found.flatMap((one) => (one.known.window === undefined ? [[keyOf(one), one.known]] : [])));
      if (unread.size > 0) {
        const ends = found.flatMap(({ to, known }) => (known.window === undefined ? [to] : []));
        for (const { from, to, figures } of await store.listWindows({ endpoint, ends, limit: 1_000 })) {
          const known = unread.get(keyOf({ from, to }));
          const read = WindowFiguresSchema.safeParse(figures);
          if (known !== undefined) known.window = read.success ? { from, to, figures: read.data } : null;
        }
      }
      keepBound();
      return found.flatMap(({ known }) => known.window ?? []);
    },

    async decisions({ endpoint, model, version, until, season }) {
      const found = await look(endpoint, { until, limit: MOST_DECISIONS });
      const unread = new Map(found.flatMap((one) => (one.known.decision === undefined ? [[keyOf(one), one]] : [])));
      if (unread.size > 0) {
        const ends = [...unread.values()].map(({ to }) => to);
        for (const { from, to, model: by, version: of, decision } of await store.windowDecisions({ endpoint, ends })) {
          const one = unread.get(keyOf({ from, to }));
          if (one !== undefined) one.known.decision = { model: by, version: of, decided: decision === null ? null : slim(decision) };
        }
      }
      const own = found.flatMap(({ from, to, known }) => {
        const { decision } = known;
        return decision?.decided != null && decision.model === model && decision.version === version ? [{ from, to, known, decided: decision.decided }] : [];
      });
      const now = seasonOf(until, { season }).season;
      const inSeason = new Set(own.filter(({ from }) => seasonOf(from, { season }).season === now).slice(0, MOST_SEASON));
      const unseen = new Map([...inSeason].flatMap((one) => (one.known.seasonal === undefined ? [[keyOf(one), one]] : [])));
      if (unseen.size > 0) {
        for (const { from, to, drift } of await store.windowDrift({ endpoint, ends: [...unseen.values()].map((one) => one.to) })) {
          const one = unseen.get(keyOf({ from, to }));
          const report = DriftReportSchema.safeParse(drift);
          if (one !== undefined) one.known.seasonal = report.success ? withReport(one.decided, report.data) : one.decided;
        }
      }
      keepBound();
      return own.map((one) => (inSeason.has(one) ? (one.known.seasonal ?? one.decided) : one.decided));
    },

    trained: (endpoint, key) => {
      const { trained } = recall(endpoint);
      return trained?.key === key ? trained.windows : undefined;
    },

    async artifact<Made>(id: string, read: () => Promise<Made>): Promise<Made> {
      const before = artifacts.get(id);
      const made = before === undefined ? await read() : (before.made as Made);
      clearTimeout(artifacts.get(id)?.timer);
      artifacts.delete(id);
      artifacts.set(id, { made, timer: setTimeout(() => artifacts.delete(id), REMEMBERED_MS).unref() });
      const [oldest = id] = artifacts.keys();
      if (artifacts.size > MOST_ARTIFACTS) {
        clearTimeout(artifacts.get(oldest)?.timer);
        artifacts.delete(oldest);
      }
      return made;
    },

    keepTrained(endpoint, key, windows) {
      recall(endpoint).trained = { key, windows };
      keepBound();
    },
  };
}
