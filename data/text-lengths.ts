import type { ColumnProfile } from '../contracts/profile.ts';
import { countIntoBins, roundBins } from './round-bins.ts';

export interface LengthCount {
  readonly value: number;
  readonly count: number;
}

const QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95] as const;
/** Up to 2 to this power a length is told exactly; a longer one loses its lower bits, so that no column has more than some ten thousand of them. */
const EXACT_BITS = 12;

/** SQL: the length of a text in characters, as it is counted. */
export function lengthSql(text: string): string {
  const length = `length(${text})`;
  const lost = `CAST(floor(log2(${length})) AS BIGINT) - ${String(EXACT_BITS - 1)}`;
  return `CASE WHEN ${length} < ${String(2 ** EXACT_BITS)} THEN ${length} ELSE ((${length} >> (${lost})) << (${lost})) END`;
}

/** What is said of lengths that were counted, shortest first. */
export function countedLengths(counts: readonly LengthCount[]): NonNullable<(ColumnProfile['values'] & { kind: 'string' })['lengths']> {
  const present = counts.reduce((sum, { count }) => sum + count, 0);
  const at = (q: number): number => {
    let below = 0;
    for (const { value, count } of counts) {
      below += count;
      if (below >= Math.ceil(q * present)) return value;
    }
    return counts.at(-1)?.value ?? 0;
  };
  const bins = roundBins({ min: counts[0]?.value ?? 0, max: counts.at(-1)?.value ?? 0, low: at(0.01), high: at(0.99) }, true);
  return { quantiles: QUANTILES.map((q) => ({ q, value: at(q) })), histogram: countIntoBins(bins, counts) };
}
