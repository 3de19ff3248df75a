/**
 * Rows against a profile: each column is counted into the profile's bins, in one scan of it, also for many windows at once.
 *
 * Of numbers a profile knows the distribution function at its quantiles and its histogram's edges. The index, chi-square and Jensen and
 * Shannon's distance are of the bins between its deciles; Smirnov's statistic is the greatest difference at the points that it
 * knows, so that it may be too small and never too large; Wasserstein's distance takes both functions as straight between them.
 */
import type { ColumnProfile, Profile } from '../contracts/profile.ts';
import { type DuckDb, toCount, toNumber, toText } from './duckdb.ts';
import { type MeasuredColumn, TOP_CATEGORIES } from './drift-figures.ts';
import { TOP_VALUE_CHARACTERS } from './profile.ts';
import { numberLiteral, textLiteral } from './sql-text.ts';
import { smirnovPValue } from '../ml/drift/two-samples.ts';

/** A point at which the reference's distribution function is known: the share below it, or at most it. */
interface Point {
  readonly value: number;
  readonly inclusive: boolean;
  readonly share: number;
}

interface Binning {
  readonly column: ColumnProfile;
  /** SQL: index of the row's bin; the last one is missing values. */
  readonly sql: string;
  /** The same of a value that was read: a number, or the first characters of a text. */
  readonly binOf: (value: number | string | null) => number;
  readonly bins: number;
  /** Column of the relation. */
  readonly from: string;
  readonly measure: (counts: readonly number[], extremes: Extremes, rows: number) => MeasuredColumn;
}
interface Extremes {
  readonly min: number | null;
  readonly max: number | null;
}

/** How a profile's column is counted; undefined where it has nothing to compare with. `from` is the relation's column. */
export function planColumn(column: ColumnProfile, profile: Profile, from: string): Binning | undefined {
  const present = profile.rows - column.nulls;
  if (present === 0) return undefined;
  if (column.values.kind === 'string') return planCategories(column, column.values.top, profile.rows, from);
  return column.values.kind === 'number' ? planNumber(column, column.values, profile.rows, from) : undefined;
}

function planCategories(
  column: ColumnProfile,
  listed: readonly { readonly value: string; readonly count: number }[],
  rows: number,
  from: string,
): Binning | undefined {
  const top = listed.slice(0, TOP_CATEGORIES);
  if (top.length === 0) return undefined;
  const rest = rows - column.nulls - top.reduce((sum, { count }) => sum + count, 0);
  const whens = top.map(({ value }, index) => `WHEN ${textLiteral(value)} THEN ${index}`).join(' ');
  const reference = [...top.map(({ count }) => count), Math.max(0, rest), column.nulls];
  const labels = [...top.map(({ value }) => value), 'others', 'missing'];
  const indices = new Map<unknown, number>(top.map(({ value }, index) => [value, index]));
  return {
    column,
    from,
    bins: reference.length,
    binOf: (value) => (value === null ? top.length + 1 : (indices.get(value) ?? top.length)),
    sql: `CASE WHEN ${from} IS NULL THEN ${top.length + 1} ELSE CASE left(${from}, ${TOP_VALUE_CHARACTERS}) ${whens} ELSE ${top.length} END END`,
    measure: (counts) => ({ column: column.name, kind: 'category', of: 'input', labels, here: counts, there: reference, exact: false }),
  };
}

function planNumber(column: ColumnProfile, values: ColumnProfile['values'] & { kind: 'number' }, rows: number, from: string): Binning | undefined {
  const points = pointsOf(values);
  // A value with more than a tenth of the rows holds several deciles: the share at or below it is that of the last one.
  const deciles = values.quantiles.filter(({ q }) => q >= 0.1 && q <= 0.9 && q !== 0.25 && q !== 0.75);
  const cuts = [...new Set(deciles.map(({ value }) => value))].map((value) => points.findIndex((point) => point.inclusive && point.value === value));
  if (cuts.length === 0) return undefined;
  const present = rows - column.nulls;
  const shareAt = (at: number): number => points[at]?.share ?? 1;
  const reference = [...cuts, points.length].map((at, index) => (shareAt(at) - (index === 0 ? 0 : shareAt(cuts[index - 1] ?? 0))) * present);
  const labels = [...cuts.map((at) => `≤ ${points[at]?.value ?? ''}`), `> ${points[cuts.at(-1) ?? 0]?.value ?? ''}`, 'missing'];
  return {
    column,
    from,
    bins: points.length + 2,
    sql: `CASE WHEN ${from} IS NULL THEN ${points.length + 1} ELSE ${searchSql(points, from, 0, points.length)} END`,
    binOf: (value) => (value === null ? points.length + 1 : search(points, Number(value))),
    measure: (counts, { min, max }, recentRows) => {
      const missing = counts.at(-1) ?? 0;
      const recent = recentRows - missing;
      // rows below each point, or at most at it
      const below: number[] = [];
      let sum = 0;
      for (let at = 0; at < points.length; at++) below.push((sum += counts[at] ?? 0));
      const here = [...cuts, points.length].map((at, index) => (below[at] ?? recent) - (index === 0 ? 0 : (below[cuts[index - 1] ?? 0] ?? 0)));
      const base = {
        column: column.name,
        kind: 'number',
        of: 'input',
        labels,
        here: [...here, missing],
        there: [...reference, column.nulls],
        exact: false,
      } as const;
      if (recent === 0) return base;
      const gaps = points.map(({ value, share }, at) => ({ value, gap: (below[at] ?? 0) / recent - share }));
      const statistic = Math.max(...gaps.map(({ gap }) => Math.abs(gap)));
      const least = Math.min(values.min ?? 0, min ?? 0);
      const most = Math.max(values.max ?? 0, max ?? 0);
      return {
        ...base,
        kolmogorovSmirnov: { statistic, pValue: smirnovPValue(statistic, recent, present) },
        wasserstein: areaBetween([{ value: least, gap: 0 }, ...gaps, { value: most, gap: 0 }]),
      };
    },
  };
}

/** Ascending; of one value the share below it comes first. */
function pointsOf({ quantiles, histogram }: ColumnProfile['values'] & { kind: 'number' }): readonly Point[] {
  const found = new Map<string, Point>();
  // of deciles that fall on one value the last one says what is at most the value
  for (const { q, value, atOrBelow } of quantiles) found.set(`${value}|1`, { value, inclusive: true, share: atOrBelow ?? q });
  const total = histogram.counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  for (let bin = 1; bin + 1 < histogram.edges.length; bin++) {
    below += histogram.counts[bin - 1] ?? 0;
    const value = histogram.edges[bin] ?? 0;
    found.set(`${value}|0`, { value, inclusive: false, share: below / total });
  }
  const points = [...found.values()].sort((a, b) => a.value - b.value || Number(a.inclusive) - Number(b.inclusive));
  // Edges are rounded otherwise than quantiles: a share that falls is not known.
  let most = 0;
  return points.filter(({ inclusive, share }) => {
    if (share < most && !inclusive) return false;
    most = Math.max(most, share);
    return true;
  });
}

/** The number of points that the value is not below (or not at most at): a search of six comparisons among fifty points. */
function searchSql(points: readonly Point[], value: string, low: number, high: number): string {
  if (low === high) return String(low);
  const middle = (low + high) >> 1;
  const point = points[middle];
  if (point === undefined) return String(low);
  return `CASE WHEN ${value} ${point.inclusive ? '<=' : '<'} ${numberLiteral(point.value)} THEN ${searchSql(points, value, low, middle)} ELSE ${searchSql(points, value, middle + 1, high)} END`;
}

/** As `searchSql`. */
function search(points: readonly Point[], value: number): number {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const point = points[middle];
    if (point === undefined) return low;
    if (point.inclusive ? value <= point.value : value < point.value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** ∫ |gap|, the gap being straight between points. */
function areaBetween(points: readonly { readonly value: number; readonly gap: number }[]): number {
  let area = 0;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    if (a === undefined || b === undefined) continue;
    const width = b.value - a.value;
    if (!(width > 0)) continue;
    const [x, y] = [a.gap, b.gap];
    area += x * y >= 0 ? (width * Math.abs(x + y)) / 2 : (width * (x * x + y * y)) / (2 * (Math.abs(x) + Math.abs(y)));
  }
  return area;
}

const FEW_VALUES = 20_000;

/** Counts of all rows, or of each group of rows apart (`by`, an SQL expression that gives a whole number), in the groups' order. */
export async function countColumns(
  db: DuckDb,
  relation: string,
  binnings: readonly Binning[],
  by = '0',
): Promise<readonly { readonly group: number; readonly rows: number; readonly columns: readonly MeasuredColumn[] }[]> {
  const groups = new Map<number, Counted[]>();
  for (const [index, { sql, bins, column, from }] of binnings.entries()) {
    const value = column.values.kind === 'number' ? from : 'CAST(NULL AS DOUBLE)';
    // a bin is searched for each different value once, where the reference has few
    const isRepeated = column.type !== 'number' && column.distinct <= FEW_VALUES;
    const bin = `CAST(${sql} AS UTINYINT) AS b, ${value} AS v`;
    const binned = isRepeated
      ? `SELECT w, ${bin}, n FROM (SELECT ${by} AS w, ${from}, count(*) AS n FROM ${relation} GROUP BY ALL)`
      : `SELECT ${by} AS w, ${bin}, 1 AS n FROM ${relation}`;
    const rows = await db.rows(`SELECT w, b, sum(n) AS n, min(v) AS least, max(v) AS most FROM (${binned}) WHERE w IS NOT NULL GROUP BY w, b`);
    for (const { w, b, n, least, most } of rows) {
      const group = toCount(w);
      const counted = groups.get(group) ?? binnings.map(({ bins: width }) => ({ counts: new Array<number>(width).fill(0), min: null, max: null }));
      groups.set(group, counted);
      const own = counted[index];
      if (own === undefined || toCount(b) >= bins) continue;
      own.counts[toCount(b)] = toCount(n);
      const [low, high] = [toNumber(least), toNumber(most)];
      if (low !== null) own.min = Math.min(own.min ?? low, low);
      if (high !== null) own.max = Math.max(own.max ?? high, high);
    }
  }
  return [...groups.keys()]
    .sort((x, y) => x - y)
    .map((group) => {
      const counted = groups.get(group) ?? [];
      const rows = counted[0]?.counts.reduce((sum, count) => sum + count, 0) ?? 0;
      return { group, rows, columns: binnings.map(({ measure }, index) => measure(counted[index]?.counts ?? [], counted[index] ?? NO_VALUES, rows)) };
    });
}

/** As `countColumns` of all rows, where they are few: to read them takes less than to plan the queries. */
export async function countFewRows(db: DuckDb, relation: string, binnings: readonly Binning[]): Promise<readonly MeasuredColumn[]> {
  const list = binnings.map(({ column, from }, index) =>
    column.values.kind === 'number' ? `CAST(${from} AS DOUBLE) AS c${index}` : `left(${from}, ${TOP_VALUE_CHARACTERS}) AS c${index}`,
  );
  const rows = await db.rows(`SELECT ${list.join(', ')} FROM ${relation}`);
  return binnings.map(({ column, binOf, bins, measure }, index) => {
    const counts = new Array<number>(bins).fill(0);
    let [min, max]: [number | null, number | null] = [null, null];
    for (const row of rows) {
      const value = column.values.kind === 'number' ? toNumber(row[`c${index}`]) : toText(row[`c${index}`] ?? null);
      const bin = binOf(value);
      counts[bin] = (counts[bin] ?? 0) + 1;
      if (typeof value !== 'number') continue;
      min = Math.min(min ?? value, value);
      max = Math.max(max ?? value, value);
    }
    return measure(counts, { min, max }, rows.length);
  });
}

interface Counted {
  readonly counts: number[];
  min: number | null;
  max: number | null;
}
const NO_VALUES: Extremes = { min: null, max: null };

/** Values that the recent rows or the profile alone have; null where the profile does not list all of its values. */
export async function comparedCategories(db: DuckDb, relation: string, column: ColumnProfile, from: string): Promise<MeasuredColumn['categories']> {
  if (column.values.kind !== 'string') return undefined;
  const { top } = column.values;
  if (column.distinct > top.length) return null;
  const known = top.map(({ value }) => textLiteral(value)).join(', ');
  const counted = `SELECT left(${from}, ${TOP_VALUE_CHARACTERS}) AS v, count(*) AS n FROM ${relation} WHERE ${from} IS NOT NULL GROUP BY v`;
  const rows = await db.rows(
    `SELECT v, n, k, sum(n) FILTER (WHERE NOT k) OVER () AS rows, count(*) FILTER (WHERE NOT k) OVER () AS found FROM (SELECT v, n, v IN (${known}) AS k FROM (${counted})) QUALIFY k OR row_number() OVER (PARTITION BY k ORDER BY n DESC, v) <= ${TOP_CATEGORIES} ORDER BY n DESC, v`,
  );
  const seen = new Set(rows.filter(({ k }) => k === true).map(({ v }) => toText(v ?? null) ?? ''));
  const gone = top.filter(({ value }) => !seen.has(value));
  return {
    appeared: {
      values: toCount(rows[0]?.['found']),
      rows: toCount(rows[0]?.['rows']),
      named: rows.filter(({ k }) => k !== true).map(({ v, n }) => ({ value: toText(v ?? null) ?? '', rows: toCount(n) })),
    },
    vanished: {
      values: gone.length,
      rows: gone.reduce((sum, { count }) => sum + count, 0),
      named: gone.slice(0, TOP_CATEGORIES).map(({ value, count }) => ({ value, rows: count })),
    },
  };
}
