import type { RoundBins } from '../contracts/profile.ts';
import { numberLiteral } from './sql-text.ts';

/** Bins [from + i × width, from + (i + 1) × width), the last one closed at `to`. */
export interface BinPlan {
  readonly from: number;
  readonly to: number;
  readonly width: number;
  readonly bins: number;
}

/** Where values lie: all of them between `min` and `max`, all but two in a hundred between `low` and `high`. */
export interface Spread {
  readonly min: number;
  readonly max: number;
  readonly low: number;
  readonly high: number;
}

const MOST_BINS = 40;
/** What lies further from the bulk than so many times its width is left out of the bins. */
const FAR = 0.5;
/** How far bins go on beyond the bulk, on a side where values are left out. */
const MARGIN = 0.1;

const rounded = (value: number): number => Number(value.toPrecision(12));

/** Bins of a round width over the bulk of the values; of whole numbers each bin holds the same number of them. */
export function roundBins({ min, max, low, high }: Spread, whole: boolean): BinPlan {
  const bulk = high - low;
  const left = bulk > 0 && low - min > FAR * bulk ? low - MARGIN * bulk : min;
  const right = bulk > 0 && max - high > FAR * bulk ? high + MARGIN * bulk : max;
  const least = (right - left) / MOST_BINS;
  const power = 10 ** Math.floor(Math.log10(least));
  const round = rounded(([1, 2, 5].find((step) => step * power >= least * (1 - 1e-9)) ?? 10) * power);
  const width = Math.max(whole ? 1 : 0, round);
  const from = rounded(Math.floor(left / width) * width);
  const bins = Math.ceil((right + (whole ? 1 : 0) - from) / width - 1e-9);
  const to = rounded(from + bins * width);
  // One value alone, or a range that doubles cannot divide.
  if (!(bins >= 1 && bins <= MOST_BINS + 2 && to > from)) return { from: min, to: max, width: 0, bins: 1 };
  return { from, to, width, bins };
}

/** Counts values into bins. Values within rounding of an edge may fall to the bin beside it. */
export function countIntoBins(plan: BinPlan, counted: readonly { readonly value: number; readonly count: number }[]): RoundBins {
  const { from, to, width, bins } = plan;
  const edges = Array.from({ length: bins + 1 }, (_, index) => (index === bins ? to : rounded(from + index * width)));
  const found = { edges, counts: new Array<number>(bins).fill(0), below: 0, above: 0 };
  for (const { value, count } of counted) {
    if (value < from) found.below += count;
    else if (value > to) found.above += count;
    else {
      const place = width === 0 ? 0 : Math.min(bins - 1, Math.floor((value - from) / width));
      found.counts[place] = (found.counts[place] ?? 0) + count;
    }
  }
  return found;
}

/** SQL: the bin's place; −1 for what lies below all bins, their number for what lies above. */
export function roundBinSql(value: string, { from, to, width, bins }: BinPlan): string {
  const place = width === 0 ? '0' : `CAST(least(${String(bins - 1)}, floor((${value} - ${numberLiteral(from)}) / ${numberLiteral(width)})) AS INTEGER)`;
  return `CASE WHEN ${value} < ${numberLiteral(from)} THEN -1 WHEN ${value} > ${numberLiteral(to)} THEN ${String(bins)} ELSE ${place} END`;
}
