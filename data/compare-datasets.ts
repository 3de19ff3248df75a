/**
 * How two snapshots differ, from their manifests and profiles alone: no row is read.
 *
 * Distributions are compared through what the profiles keep of them. A number's distribution function is drawn through
 * its quantiles and histogram, straight between them: KS = max |F − G| over all these points, and PSI over the ten parts
 * between the deciles of the first (N. Siddiqi, "Credit Risk Scorecards", 2006). Texts are compared over the most frequent
 * values of both, all others in one: Jensen–Shannon divergence to base 2 (J. Lin 1991), 0 alike … 1 nothing in common.
 */
import type { Column } from '../contracts/columns.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';

export interface ComparedDataset {
  readonly columns: readonly Column[];
  readonly rows: number;
  readonly sizeBytes: number;
  /** Null where no statistic may see the rows. */
  readonly profile: Profile | null;
}

export interface ColumnChange {
  readonly column: string;
  readonly nullShare: readonly [number, number];
  readonly distinct: readonly [number, number];
  /** Numbers, instants and booleans; null where one side has no value. */
  readonly psi: number | null;
  readonly ks: number | null;
  /** Texts; null where a side has no counted value. */
  readonly js: number | null;
  /** Means of numbers, least and greatest instants, as the profile has them. */
  readonly range: readonly [string, string] | null;
  /** Frequent values of one side that are not among the counted ones of the other, most frequent first. */
  readonly appeared: readonly string[];
  readonly vanished: readonly string[];
  /** What the columns are sorted by: the greatest of KS, JS and the change of the share of nulls. */
  readonly moved: number;
}

export interface DatasetDifference {
  readonly rows: readonly [number, number];
  readonly sizeBytes: readonly [number, number];
  readonly added: readonly Column[];
  readonly removed: readonly Column[];
  readonly retyped: readonly { readonly column: string; readonly from: string; readonly to: string }[];
  /** Whether the order of the columns that both have is another. */
  readonly reordered: boolean;
  /** Columns of one type in both, most moved first; null where a side has no profile. */
  readonly columns: readonly ColumnChange[] | null;
}

const SHOWN_VALUES = 5;
/** A share of 0 would make PSI infinite: an empty part counts as half a row. */
const HALF = 0.5;

/** Compares `b` with `a`, the earlier one. */
export function compareDatasets(a: ComparedDataset, b: ComparedDataset): DatasetDifference {
  const [before, after] = [new Map(a.columns.map((c) => [c.name, c])), new Map(b.columns.map((c) => [c.name, c]))];
  const both = a.columns.filter(({ name }) => after.has(name));
  const retyped = both.flatMap(({ name, type }) => {
    const to = after.get(name)?.type ?? type;
    return to === type ? [] : [{ column: name, from: type, to }];
  });
  const order = b.columns.filter(({ name }) => before.has(name)).map(({ name }) => name);
  return {
    rows: [a.rows, b.rows],
    sizeBytes: [a.sizeBytes, b.sizeBytes],
    added: b.columns.filter(({ name }) => !before.has(name)),
    removed: a.columns.filter(({ name }) => !after.has(name)),
    retyped,
    reordered: both.some(({ name }, index) => order[index] !== name),
    columns: a.profile === null || b.profile === null ? null : compareProfiles(a.profile, b.profile),
  };
}

function compareProfiles(a: Profile, b: Profile): readonly ColumnChange[] {
  const changes = a.columns.flatMap((column): ColumnChange[] => {
    const other = b.columns.find(({ name }) => name === column.name);
    return other === undefined || other.values.kind !== column.values.kind ? [] : [compareColumn(column, a.rows, other, b.rows)];
  });
  return changes.sort((x, y) => y.moved - x.moved || (x.column < y.column ? -1 : 1));
}

function compareColumn(a: ColumnProfile, aRows: number, b: ColumnProfile, bRows: number): ColumnChange {
  const nullShare = [a.nulls / Math.max(aRows, 1), b.nulls / Math.max(bRows, 1)] as const;
  const [aPresent, bPresent] = [aRows - a.nulls, bRows - b.nulls];
  const texts = a.values.kind === 'string' && b.values.kind === 'string' ? compareTexts(a.values.top, aPresent, b.values.top, bPresent) : undefined;
  const [f, g] = [distributionOf(a), distributionOf(b)];
  const ks = f === undefined || g === undefined ? null : greatestDistance(f, g);
  const psi = f === undefined || g === undefined ? null : stability(f, aPresent, g, bPresent);
  const js = texts?.js ?? null;
  const [aRange, bRange] = [rangeOf(a), rangeOf(b)];
  return {
    column: a.name,
    nullShare,
    distinct: [a.distinct, b.distinct],
    psi,
    ks,
    js,
    range: aRange === null || bRange === null ? null : [aRange, bRange],
    appeared: texts?.appeared ?? [],
    vanished: texts?.vanished ?? [],
    moved: Math.max(ks ?? 0, js ?? 0, Math.abs(nullShare[0] - nullShare[1])),
  };
}

function rangeOf({ values }: ColumnProfile): string | null {
  if (values.kind === 'number') return values.mean === null ? null : `mean ${Number(values.mean.toPrecision(6))}`;
  if (values.kind === 'timestamp') return values.min === null || values.max === null ? null : `${values.min} – ${values.max}`;
  return null;
}

type Counted = readonly { readonly value: string; readonly count: number }[];

function compareTexts(a: Counted, aPresent: number, b: Counted, bPresent: number) {
  const [inA, inB] = [new Map(a.map((e) => [e.value, e.count])), new Map(b.map((e) => [e.value, e.count]))];
  const names = (from: Counted, other: ReadonlyMap<string, number>): string[] =>
    from
      .filter(({ value }) => !other.has(value))
      .slice(0, SHOWN_VALUES)
      .map(({ value }) => value);
  const lists = { appeared: names(b, inA), vanished: names(a, inB) };
  if (a.length === 0 || b.length === 0 || aPresent === 0 || bPresent === 0) return { ...lists, js: null };
  const values = [...new Set([...inA.keys(), ...inB.keys()])];
  const shares = (counts: ReadonlyMap<string, number>, present: number): number[] => {
    const of = values.map((value) => (counts.get(value) ?? 0) / present);
    return [...of, Math.max(0, 1 - of.reduce((sum, share) => sum + share, 0))];
  };
  return { ...lists, js: jensenShannon(shares(inA, aPresent), shares(inB, bPresent)) };
}

function jensenShannon(p: readonly number[], q: readonly number[]): number {
  const half = (from: readonly number[], to: readonly number[]): number =>
    from.reduce((sum, share, index) => (share > 0 ? sum + share * Math.log2(share / ((share + (to[index] ?? 0)) / 2)) : sum), 0);
  return Math.min(1, Math.max(0, (half(p, q) + half(q, p)) / 2));
}

/** A distribution function: its points, growing in both. Two of one place are a step. */
type Distribution = readonly { readonly at: number; readonly share: number }[];

function distributionOf({ values }: ColumnProfile): Distribution | undefined {
  if (values.kind === 'string') return undefined;
  const edges = values.histogram.edges.map((edge) => (typeof edge === 'number' ? edge : Date.parse(edge)));
  const total = values.histogram.counts.reduce((sum, count) => sum + count, 0);
  const [first] = edges;
  if (first === undefined || total === 0) return undefined;
  const points = [{ at: first, share: 0 }];
  if (edges.at(-1) === first) return [...points, { at: first, share: 1 }];
  // The share below an edge; at the last one that of all.
  let below = 0;
  values.histogram.counts.forEach((count, index) => {
    below += count;
    points.push({ at: edges[index + 1] ?? first, share: below / total });
  });
  if (values.kind === 'number') for (const { q, value, atOrBelow } of values.quantiles) points.push({ at: value, share: atOrBelow ?? q });
  points.sort((x, y) => x.at - y.at || x.share - y.share);
  let highest = 0;
  return points.map(({ at, share }) => ({ at, share: (highest = Math.max(highest, share)) }));
}

/** The share at or below a value. */
function shareAt(f: Distribution, at: number): number {
  let low: Distribution[number] | undefined;
  for (const point of f) {
    if (point.at <= at) low = point;
    else return low === undefined ? 0 : low.share + ((point.share - low.share) * (at - low.at)) / (point.at - low.at);
  }
  return low?.share ?? 0;
}

const greatestDistance = (f: Distribution, g: Distribution): number => Math.max(...[...f, ...g].map(({ at }) => Math.abs(shareAt(f, at) - shareAt(g, at))));

/** PSI over the parts between the deciles of `f`. */
function stability(f: Distribution, fRows: number, g: Distribution, gRows: number): number {
  const bounds = new Set<number>();
  for (let decile = 1; decile < 10; decile++) {
    const index = f.findIndex(({ share }) => share >= decile / 10 - 1e-12);
    const [low, high] = [f[index - 1], f[index]];
    if (high === undefined) continue;
    bounds.add(low === undefined || high.share === low.share ? high.at : low.at + ((high.at - low.at) * (decile / 10 - low.share)) / (high.share - low.share));
  }
  const parts = (d: Distribution, rows: number): number[] => {
    const cumulative = [...[...bounds].sort((x, y) => x - y).map((at) => shareAt(d, at)), 1];
    return cumulative.map((share, index) => Math.max(share - (cumulative[index - 1] ?? 0), HALF / Math.max(rows, 1)));
  };
  const [p, q] = [parts(f, fRows), parts(g, gRows)];
  return p.reduce((sum, share, index) => sum + (share - (q[index] ?? share)) * Math.log(share / (q[index] ?? share)), 0);
}
