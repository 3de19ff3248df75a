/** Windows of one season, such as the same hour of the day, put together: what is usual then. */
import type { BinCounts, ColumnDrift, DriftSettings, PastWindow } from '../../contracts/drift.ts';
import { chiSquareOfHomogeneity, expectedPsi, populationStability } from './two-samples.ts';

const HOUR_MS = 3_600_000;
/** Hours after which a season comes again. */
const PERIOD_HOURS: Readonly<Record<DriftSettings['season'], number>> = { none: 1, hourOfDay: 24, hourOfWeek: 168 };
/** Windows of the same season from which on they are a history of their own. */
export const LEAST_SEASON = 3;
/** Windows of a season that are put together, the newest ones. */
export const MOST_SEASON = 40;
/** Rows that a bin should expect for the chi-square approximation (W. Cochran, 1954). */
const LEAST_EXPECTED = 5;

/** Which season a window is in, and of how many. UTC. A look comes a moment before or after the full hour: starts are rounded to it. */
export function seasonOf(from: string, { season }: Pick<DriftSettings, 'season'>): { readonly season: number; readonly of: number } {
  const of = PERIOD_HOURS[season];
  return { season: Math.round(Date.parse(from) / HOUR_MS) % of, of };
}

/** Rows by bin of a window's values; undefined of texts, whose buckets say nothing. */
export function binCounts(column: ColumnDrift, rows: number): BinCounts | undefined {
  const bins = column.bins.slice(0, -1);
  if (column.kind === 'text' || bins.length < 2) return undefined;
  return { labels: bins.map(({ label }) => label), counts: bins.map(({ recent }) => Math.round(recent * (column.rows?.recent ?? rows))) };
}

export interface BinEffect {
  /** Index beyond what chance makes, its standard deviation by chance, and the p-value of chi-square. */
  readonly effect: number;
  readonly chance: number;
  readonly theory: () => number;
  readonly psi: number;
  readonly expected: number;
  readonly bins: number;
  /** 1/n + 1/m. */
  readonly unit: number;
}

const totalOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** How far two sides' bins are apart; undefined where a side is empty. Sparse bins are merged first. */
export function binEffect(recent: readonly number[], reference: readonly number[]): BinEffect | undefined {
  const [n, m] = [totalOf(recent), totalOf(reference)];
  if (n < 1 || m < 1) return undefined;
  const [here, there] = mergeSparse(recent, reference);
  const { psi, bins } = populationStability(here, there);
  const expected = expectedPsi(bins, n, m);
  const unit = 1 / n + 1 / m;
  // the index is chi-square × (1/n + 1/m) where nothing has moved
  return {
    effect: psi - expected,
    chance: Math.sqrt(2 * Math.max(0, bins - 1)) * unit,
    theory: () => chiSquareOfHomogeneity(here, there).pValue,
    psi,
    expected,
    bins,
    unit,
  };
}

/** Merges bins that expect fewer than five rows on the smaller side with one another, so that a long tail of rare values is one bin. */
function mergeSparse(here: readonly number[], there: readonly number[]): readonly [readonly number[], readonly number[]] {
  const [n, m] = [totalOf(here), totalOf(there)];
  const least = Math.min(n, m) / (n + m);
  const [a, b]: [number[], number[]] = [[], []];
  let [restHere, restThere] = [0, 0];
  here.forEach((count, index) => {
    const other = there[index] ?? 0;
    if ((count + other) * least >= LEAST_EXPECTED) {
      a.push(count);
      b.push(other);
    } else {
      restHere += count;
      restThere += other;
    }
  });
  if (restHere + restThere > 0) {
    a.push(restHere);
    b.push(restThere);
  }
  return [a, b];
}

const labelsOf = ({ labels }: BinCounts): string => labels.join('\n');

/** Windows of each season put together, by column and by their bins. */
interface Together {
  readonly sums: number[];
  windows: number;
}

/**
 * The windows, newest first, with the effect of each one against the others of its season, where its bins are known and the effect is not; and
 * of a season that is asked for its newest windows put together.
 */
export function putTogether(
  past: readonly PastWindow[],
  settings: Pick<DriftSettings, 'season'>,
): { readonly past: readonly PastWindow[]; readonly usual: (column: string, season: number, bins: BinCounts) => readonly number[] | undefined } {
  const together = new Map<string, Together>();
  const keyOf = (column: string, season: number, bins: BinCounts): string => `${season} ${column}\n${labelsOf(bins)}`;
  for (const { from, columns } of past) {
    const { season } = seasonOf(from, settings);
    for (const { column, bins } of columns) {
      if (bins === undefined) continue;
      const key = keyOf(column, season, bins);
      const own = together.get(key) ?? { sums: bins.counts.map(() => 0), windows: 0 };
      together.set(key, own);
      if (own.windows >= MOST_SEASON) continue;
      own.windows++;
      bins.counts.forEach((count, at) => (own.sums[at] = (own.sums[at] ?? 0) + count));
    }
  }
  const seen = new Map<string, number>();
  const known = past.map((window): PastWindow => {
    const { season } = seasonOf(window.from, settings);
    return {
      ...window,
      columns: window.columns.map((one) => {
        if (one.bins === undefined || one.tests.some(({ kind }) => kind === 'season')) return one;
        const key = keyOf(one.column, season, one.bins);
        const own = together.get(key);
        const order = seen.get(key) ?? 0;
        seen.set(key, order + 1);
        if (own === undefined || own.windows <= LEAST_SEASON) return one;
        const { counts } = one.bins;
        // what it is one of is held against the others
        const others = own.sums.map((sum, at) => (order < own.windows ? sum - (counts[at] ?? 0) : sum));
        const found = binEffect(counts, others);
        if (found === undefined) return one;
        const { effect, chance } = found;
        return { ...one, tests: [...one.tests, { kind: 'season' as const, effect, chance, pValue: 1, calibration: 'theory' as const, exceeded: false }] };
      }),
    };
  });
  return {
    past: known,
    usual: (column, season, bins) => {
      const own = together.get(keyOf(column, season, bins));
      return own === undefined || own.windows < LEAST_SEASON ? undefined : own.sums;
    },
  };
}
