/** What was counted of a column on both sides, turned into the figures of its drift. */
import type { ColumnDrift } from '../contracts/drift.ts';
import { chiSquareOfHomogeneity, expectedPsi, jensenShannonDistance, populationStability, twoProportions } from '../ml/drift/two-samples.ts';

/** Categories that have a bin of their own, or are named; the rest are counted together. */
export const TOP_CATEGORIES = 20;

export interface MeasuredColumn {
  readonly column: string;
  readonly kind: 'number' | 'category';
  readonly of: 'input' | 'output';
  /** The last one is missing values. */
  readonly labels: readonly string[];
  /** Rows by bin: recent, and of the reference. */
  readonly here: readonly number[];
  readonly there: readonly number[];
  readonly exact: boolean;
  readonly kolmogorovSmirnov?: NonNullable<ColumnDrift['kolmogorovSmirnov']>;
  readonly wasserstein?: number;
  readonly categories?: ColumnDrift['categories'];
}

/** Both sides have rows. */
export function figuresOf(
  { column, kind, of, labels, here, there, exact, kolmogorovSmirnov, wasserstein, categories }: MeasuredColumn,
  rows: number,
  referenceRows: number,
): ColumnDrift {
  const { psi, bins } = populationStability(here, there);
  const [missing, missingThere] = [here.at(-1) ?? 0, there.at(-1) ?? 0];
  return {
    column,
    psi,
    expectedPsi: expectedPsi(bins, rows, referenceRows),
    bins: labels.map((label, index) => ({ label, training: (there[index] ?? 0) / referenceRows, recent: (here[index] ?? 0) / rows })),
    nullFraction: { training: missingThere / referenceRows, recent: missing / rows },
    values: rows - missing,
    kind,
    of,
    rows: { training: referenceRows, recent: rows },
    exact,
    ...(kolmogorovSmirnov === undefined ? {} : { kolmogorovSmirnov }),
    chiSquare: chiSquareOfHomogeneity(here, there),
    jensenShannon: jensenShannonDistance(here, there),
    ...(wasserstein === undefined ? {} : { wasserstein }),
    nulls: twoProportions(missing, rows, missingThere, referenceRows),
    ...(categories === undefined ? {} : { categories }),
  };
}
