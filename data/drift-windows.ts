/**
 * Drift from a profile in every window of some rows at once, such as the training rows themselves: what a quiet window is like is known
 * before the first one.
 */
import type { DriftReport } from '../contracts/drift.ts';
import type { Profile } from '../contracts/profile.ts';
import { figuresOf } from './drift-figures.ts';
import { countColumns, planColumn } from './drift-profile.ts';
import { openRows } from './drift-source.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';

export interface WindowedDrift {
  /** Start, UTC ISO. */
  readonly from: string;
  readonly report: DriftReport;
}

export interface WindowedDriftOptions extends DuckDbOptions {
  /** Default: all of the profile's. */
  readonly columns?: readonly string[];
  /** Column of the rows' times; rows without one are in no window. */
  readonly time: string;
  /** A window is as long as this, and longer until it has `leastRows` (default 1): as a monitor's are. */
  readonly everyMs: number;
  readonly leastRows?: number;
  /** A window is so many rows in order of time, whatever `everyMs` says. */
  readonly rows?: number;
  /** The newest so many. Default all. */
  readonly most?: number;
}

const WINDOWS = 'millrace_windows';

/** Windows in order of time; rows after the last whole one are left out, and categories are not named. */
export async function measureDriftByWindow(paths: readonly string[], profile: Profile, options: WindowedDriftOptions): Promise<readonly WindowedDrift[]> {
  if (paths.length === 0) return [];
  const wanted = profile.columns.filter(({ name }) => options.columns?.includes(name) ?? true);
  return withDuckDb(options, async (db) => {
    const source = await openRows(db, { kind: 'parquet', paths }, [...wanted, { name: options.time, type: 'timestamp' }], 'millrace_rows');
    if (!source.there.has(options.time)) return [];
    const there = wanted.flatMap((column, index) => (source.there.has(column.name) ? [{ column, from: `i${index}` }] : []));
    const plans = there.flatMap(({ column, from }) => planColumn(column, profile, from) ?? []);
    const at = `epoch_ms(i${wanted.length})`;
    const starts = await (options.rows === undefined ? openByTime : openByRows)(db, source.relation, at, options);
    if (starts.length === 0) return [];
    const planned = new Set(plans.map(({ column }) => column.name));
    const groups = await countColumns(db, WINDOWS, plans, 'w');
    return groups.map(({ group, rows, columns }) => ({
      from: new Date(starts[group] ?? 0).toISOString(),
      report: {
        rows,
        referenceRows: profile.rows,
        columns: columns.map((column) => figuresOf(column, rows, profile.rows)).sort((a, b) => b.psi - a.psi || (a.column < b.column ? -1 : 1)),
        skipped: wanted.map(({ name }) => name).filter((name) => !planned.has(name)),
      },
    }));
  });
}

type Opened = (db: DuckDb, relation: string, at: string, options: WindowedDriftOptions) => Promise<readonly number[]>;

/** Puts the rows into the table of windows, numbered by `w`. @returns their starts, in milliseconds */
const openByTime: Opened = async (db, relation, at, { everyMs, leastRows = 1, most = Number.POSITIVE_INFINITY }) => {
  const counts = await db.rows(`SELECT ${at} // ${everyMs} AS g, count(*) AS n FROM ${relation} WHERE ${at} IS NOT NULL GROUP BY g ORDER BY g`);
  const windows: { readonly first: number; readonly last: number }[] = [];
  let [first, rows]: [number | undefined, number] = [undefined, 0];
  for (const { g, n } of counts) {
    const group = toCount(g);
    first ??= group;
    rows += toCount(n);
    if (rows < leastRows) continue;
    windows.push({ first, last: group });
    // what is asked for too seldom goes on until it is enough: the next one begins where this one ended
    [first, rows] = [leastRows > 1 ? group + 1 : undefined, 0];
  }
  const kept = windows.slice(-Math.min(most, windows.length));
  if (kept.length === 0) return [];
  const ranges = kept.map((window, w) => `(${window.first}, ${window.last}, ${w})`).join(', ');
  const groups = `(SELECT unnest(range(f, l + 1)) AS g, w FROM (VALUES ${ranges}) AS windows(f, l, w))`;
  await db.run(`CREATE TEMPORARY TABLE ${WINDOWS} AS SELECT r.*, m.w FROM ${relation} r JOIN ${groups} m ON m.g = ${at} // ${everyMs}`);
  return kept.map((window) => window.first * everyMs);
};

const openByRows: Opened = async (db, relation, at, { rows = 1, most = Number.POSITIVE_INFINITY }) => {
  const total = toCount((await db.row(`SELECT count(*) AS n FROM ${relation} WHERE ${at} IS NOT NULL`))['n']);
  const windows = Math.floor(total / rows);
  const skipped = Math.max(0, windows - most) * rows;
  await db.run(
    `CREATE TEMPORARY TABLE ${WINDOWS} AS SELECT *, (row_number() OVER (ORDER BY ${at}) - 1 - ${skipped}) // ${rows} AS w FROM ${relation} WHERE ${at} IS NOT NULL QUALIFY w >= 0 AND w < ${Math.min(windows, most)}`,
  );
  return (await db.rows(`SELECT w, min(${at}) AS t FROM ${WINDOWS} GROUP BY w ORDER BY w`)).map(({ t }) => toCount(t));
};
