/**
 * Drift between rows of one table in memory: the figures by which a monitor decides, for a replay of many windows. Bins are those of
 * the monitor's comparison of rows with rows (data/drift.ts): a number's between the reference's deciles, a category's 20 most frequent
 * values and the rest, and missing values.
 *
 * Invariants:
 * 1. The reference is read once, however many windows are held against it.
 * 2. Instants are left out: time moves on by itself.
 */
import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import type { ColumnDrift, DriftReport } from '../../contracts/drift.ts';
import { expectedPsi, populationStability, twoProportions } from './two-samples.ts';

/** Where the bins of one column lie, and how many rows of the reference each has; the last one is missing values. */
interface ReferenceColumn {
  readonly column: string;
  readonly kind: 'number' | 'category';
  readonly labels: readonly string[];
  readonly counts: readonly number[];
  readonly binOf: (row: number) => number;
}

export interface TableReference {
  readonly rows: number;
  readonly columns: readonly ReferenceColumn[];
  readonly skipped: readonly string[];
}

const BINS = 10;
const TOP_CATEGORIES = 20;

/** What rows `from` … `to - 1` are like in these columns. */
export function tableReference(table: RawTable, columns: readonly string[], from: number, to: number): TableReference {
  const found = columns.map((name) => {
    const column = table.columns.get(name);
    return column === undefined || column.kind === 'timestamp' ? undefined : referenceColumn(name, column, from, to);
  });
  return {
    rows: to - from,
    columns: found.flatMap((column) => column ?? []),
    skipped: columns.filter((_, index) => found[index] === undefined),
  };
}

/** The figures of rows `from` … `to - 1` of the table that the reference is of; the most moved column first. */
export function driftOfRows({ rows: referenceRows, columns, skipped }: TableReference, from: number, to: number): DriftReport {
  const rows = to - from;
  if (rows === 0 || referenceRows === 0) return { rows, referenceRows, columns: [], skipped: [...skipped, ...columns.map(({ column }) => column)] };
  const measured = columns.map((reference): ColumnDrift => {
    const here = countBins(reference, from, to);
    const [missing, missingThere] = [here.at(-1) ?? 0, reference.counts.at(-1) ?? 0];
    const { psi, bins } = populationStability(here, reference.counts);
    return {
      column: reference.column,
      kind: reference.kind,
      of: 'input',
      exact: true,
      psi,
      expectedPsi: expectedPsi(bins, rows, referenceRows),
      bins: reference.labels.map((label, bin) => ({ label, recent: (here[bin] ?? 0) / rows, training: (reference.counts[bin] ?? 0) / referenceRows })),
      nullFraction: { recent: missing / rows, training: missingThere / referenceRows },
      nulls: twoProportions(missing, rows, missingThere, referenceRows),
      values: rows - missing,
      rows: { recent: rows, training: referenceRows },
    };
  });
  return { rows, referenceRows, columns: measured.sort((a, b) => b.psi - a.psi || (a.column < b.column ? -1 : 1)), skipped: [...skipped] };
}

/** Undefined where the reference has no value: there is nothing to compare with. */
function referenceColumn(name: string, column: RawColumn, from: number, to: number): ReferenceColumn | undefined {
  const binned = column.kind === 'string' ? categoryBins(column, from, to) : numberBins(column.values, from, to);
  if (binned === undefined) return undefined;
  const reference = { column: name, kind: column.kind === 'string' ? ('category' as const) : ('number' as const), ...binned };
  return { ...reference, counts: countBins(reference, from, to) };
}

type Bins = Pick<ReferenceColumn, 'labels' | 'binOf'>;

const countBins = ({ labels, binOf }: Bins, from: number, to: number): readonly number[] => {
  const counts = new Array<number>(labels.length).fill(0);
  for (let row = from; row < to; row++) {
    const bin = binOf(row);
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts;
};

/** Cuts are the deciles, each once: the least value with at least that share at or below it. */
function numberBins(values: Float64Array, from: number, to: number): Bins | undefined {
  const known = values.slice(from, to).filter(Number.isFinite).sort();
  if (known.length === 0) return undefined;
  const deciles = Array.from({ length: BINS - 1 }, (_, tenth) => known[Math.ceil(((tenth + 1) / BINS) * known.length) - 1] ?? 0);
  const cuts = [...new Set(deciles)];
  return {
    labels: [...cuts.map((cut) => `≤ ${String(cut)}`), `> ${String(cuts.at(-1))}`, 'missing'],
    binOf: (row) => {
      const value = values[row] ?? Number.NaN;
      if (!Number.isFinite(value)) return cuts.length + 1;
      const bin = cuts.findIndex((cut) => value <= cut);
      return bin < 0 ? cuts.length : bin;
    },
  };
}

function categoryBins({ codes, dictionary }: RawColumn & { readonly kind: 'string' }, from: number, to: number): Bins | undefined {
  const counts = new Map<number, number>();
  for (let row = from; row < to; row++) {
    const code = codes[row] ?? -1;
    if (code >= 0) counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  if (counts.size === 0) return undefined;
  const textOf = (code: number): string => dictionary[code] ?? '';
  const top = [...counts].sort(([a, n], [b, m]) => m - n || (textOf(a) < textOf(b) ? -1 : 1)).slice(0, TOP_CATEGORIES);
  const bins = new Map(top.map(([code], bin) => [code, bin]));
  return {
    labels: [...top.map(([code]) => textOf(code)), 'others', 'missing'],
    binOf: (row) => {
      const code = codes[row] ?? -1;
      return code < 0 ? top.length + 1 : (bins.get(code) ?? top.length);
    },
  };
}
