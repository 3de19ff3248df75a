/**
 * Rows against rows: each column's different values are counted on both sides, and every figure is exact. The different values of one number
 * column at a time are in memory, 24 bytes each.
 */
import { type DuckDb, toCount, toText } from './duckdb.ts';
import { type MeasuredColumn, TOP_CATEGORIES } from './drift-figures.ts';
import { smirnovPValue, valueDistances } from '../ml/drift/two-samples.ts';

/** One column on both sides, as SQL. */
export interface Pair {
  readonly column: string;
  readonly of: 'input' | 'output';
  readonly recent: { readonly relation: string; readonly value: string; readonly rows: number };
  readonly reference: { readonly relation: string; readonly value: string; readonly rows: number };
}

const BINS = 10;

/** Counts of a number's different values, ascending. Undefined where the reference has none: there is nothing to compare with. */
export async function compareNumbers(db: DuckDb, { column, of, recent, reference }: Pair): Promise<MeasuredColumn | undefined> {
  const [a, b] = [await countValues(db, recent), await countValues(db, reference)];
  if (b.total === 0) return undefined;
  const { values, here, there } = merge(a, b);
  const cuts = decileCuts(values, there, b.total);
  const binsOf = (counts: Float64Array, missing: number): number[] => {
    const bins = new Array<number>(cuts.length + 1).fill(0);
    for (let i = 0, bin = 0; i < values.length; i++) {
      while (bin < cuts.length && (values[i] as number) > (cuts[bin] as number)) bin++;
      bins[bin] = (bins[bin] as number) + (counts[i] as number);
    }
    return [...bins, missing];
  };
  const base = {
    column,
    kind: 'number',
    of,
    labels: [...cuts.map((cut) => `≤ ${cut}`), `> ${cuts.at(-1) ?? ''}`, 'missing'],
    here: binsOf(here, recent.rows - a.total),
    there: binsOf(there, reference.rows - b.total),
    exact: true,
  } as const;
  if (a.total === 0) return base;
  const { statistic, wasserstein } = valueDistances({ values, here, there });
  return { ...base, kolmogorovSmirnov: { statistic, pValue: smirnovPValue(statistic, a.total, b.total) }, wasserstein };
}

interface Counted {
  readonly values: Float64Array;
  readonly counts: Float64Array;
  readonly total: number;
}

async function countValues(db: DuckDb, { relation, value }: Pair['recent']): Promise<Counted> {
  const chunks = await db.whole(
    `SELECT CAST(v AS DOUBLE) AS v, CAST(n AS DOUBLE) AS n FROM (SELECT ${value} AS v, count(*) AS n FROM ${relation} GROUP BY v) WHERE v IS NOT NULL ORDER BY v`,
  );
  const rows = chunks.reduce((sum, chunk) => sum + chunk.rowCount, 0);
  const [values, counts] = [new Float64Array(rows), new Float64Array(rows)];
  let at = 0;
  let total = 0;
  for (const chunk of chunks) {
    const [v, n] = [chunk.getColumnValues(0), chunk.getColumnValues(1)];
    for (let i = 0; i < chunk.rowCount; i++, at++) {
      values[at] = v[i] as number;
      counts[at] = n[i] as number;
      total += n[i] as number;
    }
  }
  return { values, counts, total };
}

function merge(a: Counted, b: Counted): { readonly values: Float64Array; readonly here: Float64Array; readonly there: Float64Array } {
  const size = a.values.length + b.values.length;
  const [values, here, there] = [new Float64Array(size), new Float64Array(size), new Float64Array(size)];
  let [i, j, at] = [0, 0, 0];
  while (i < a.values.length || j < b.values.length) {
    const x = i < a.values.length ? (a.values[i] as number) : Number.POSITIVE_INFINITY;
    const y = j < b.values.length ? (b.values[j] as number) : Number.POSITIVE_INFINITY;
    values[at] = Math.min(x, y);
    if (x <= y) here[at] = a.counts[i++] as number;
    if (y <= x) there[at] = b.counts[j++] as number;
    at++;
  }
  return { values: values.subarray(0, at), here: here.subarray(0, at), there: there.subarray(0, at) };
}

/** The reference's deciles, each once: the least value with at least that share at or below it. */
function decileCuts(values: Float64Array, counts: Float64Array, total: number): readonly number[] {
  const cuts: number[] = [];
  let below = 0;
  let next = 1;
  for (let i = 0; i < values.length && next < BINS; i++) {
    below += counts[i] as number;
    if (below < Math.ceil((next / BINS) * total)) continue;
    cuts.push(values[i] as number);
    while (next < BINS && below >= Math.ceil((next / BINS) * total)) next++;
  }
  return cuts;
}

/** Counts of the reference's most frequent values and of the rest, and what one side alone has. */
export async function compareCategories(db: DuckDb, { column, of, recent, reference }: Pair): Promise<MeasuredColumn | undefined> {
  const counted = ({ relation, value }: Pair['recent']): string => `SELECT ${value} AS v, count(*) AS n FROM ${relation} GROUP BY v`;
  // ranks of the reference's values, of those that it lacks, and of those that the recent rows lack
  const rows = await db.rows(
    `SELECT v, here, there, side, rank, sum(here) OVER (PARTITION BY side) AS hereInAll, sum(there) OVER (PARTITION BY side) AS thereInAll, count(*) OVER (PARTITION BY side) AS found FROM (SELECT *, CASE WHEN v IS NULL THEN 'missing' WHEN there = 0 THEN 'appeared' WHEN here = 0 THEN 'vanished' ELSE 'both' END AS side, row_number() OVER (PARTITION BY v IS NULL ORDER BY there DESC, v) AS rank FROM (SELECT coalesce(a.v, b.v) AS v, coalesce(a.n, 0) AS here, coalesce(b.n, 0) AS there FROM (${counted(recent)}) a FULL JOIN (${counted(reference)}) b ON a.v IS NOT DISTINCT FROM b.v)) QUALIFY rank <= ${TOP_CATEGORIES} OR row_number() OVER (PARTITION BY side ORDER BY here + there DESC, v) <= ${TOP_CATEGORIES} ORDER BY rank`,
  );
  const of_ = (side: string) => rows.filter((row) => row['side'] === side);
  const [missing] = of_('missing');
  const top = rows.filter((row) => row['side'] !== 'missing' && toCount(row['there']) > 0 && toCount(row['rank']) <= TOP_CATEGORIES);
  if (top.length === 0) return undefined;
  const bins = (side: 'here' | 'there', total: number): number[] => {
    const listed = top.map((row) => toCount(row[side]));
    const without = toCount(missing?.[side]);
    return [...listed, total - without - listed.reduce((sum, count) => sum + count, 0), without];
  };
  const alone = (side: 'appeared' | 'vanished', count: 'here' | 'there') => {
    const found = of_(side);
    return {
      values: toCount(found[0]?.['found']),
      rows: toCount(found[0]?.[`${count}InAll`]),
      named: found
        .map((row) => ({ value: toText(row['v'] ?? null) ?? '', rows: toCount(row[count]) }))
        .sort((x, y) => y.rows - x.rows || (x.value < y.value ? -1 : 1))
        .slice(0, TOP_CATEGORIES),
    };
  };
  return {
    column,
    kind: 'category',
    of,
    labels: [...top.map(({ v }) => toText(v ?? null) ?? ''), 'others', 'missing'],
    here: bins('here', recent.rows),
    there: bins('there', reference.rows),
    exact: true,
    categories: { appeared: alone('appeared', 'here'), vanished: alone('vanished', 'there') },
  };
}
