/** A column's distribution against the same column of another dataset. */
import type { Column } from '../contracts/columns.ts';
import type { Expectation } from '../contracts/expectations.ts';
import { chiSquareTail, kolmogorovTail } from '../ml/drift/distributions.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import { type CheckContext, type Conclude, figure, type Outcome, settled } from './expectation-check.ts';
import { openReference } from './row-rules.ts';
import { identifier } from './sql-text.ts';

type Compared = Extract<Expectation, { kind: 'psiAtMost' | 'kolmogorovSmirnov' | 'chiSquare' }>;

/** Frequent values that have a bin of their own; all others share one. */
const LISTED_VALUES = 50;
const BINS = 10;
/** A bin that is empty on one side counts as holding this share, so that the index stays finite. */
const LEAST_SHARE = 1e-4;

export async function planComparison(expectation: Compared, column: Column, context: CheckContext): Promise<Conclude> {
  const reference = await openReference(context, expectation.reference, column.name, column);
  if (typeof reference === 'string') return settled({ success: false, message: reference });
  const name = identifier(column.name);
  const samples: Samples = {
    db: context.db,
    here: `(SELECT ${name} AS v FROM ${context.relation} WHERE ${name} IS NOT NULL)`,
    there: reference.values,
    hereRows: context.files.reduce((sum, { rows }) => sum + rows, 0),
    thereRows: reference.rows,
    of: `${column.name} against ${reference.name}`,
  };
  switch (expectation.kind) {
    case 'psiAtMost':
      return () => psi(samples, column, expectation.psi);
    case 'kolmogorovSmirnov':
      return () => kolmogorovSmirnov(samples, expectation);
    case 'chiSquare':
      return () => chiSquare(samples, expectation.pValueAtLeast);
  }
}

interface Samples {
  readonly db: DuckDb;
  /** Relations of one column `v`, without missing values. */
  readonly here: string;
  readonly there: string;
  /** All rows, missing values too. */
  readonly hereRows: number;
  readonly thereRows: number;
  readonly of: string;
}

async function psi({ db, here, there, hereRows, thereRows, of }: Samples, { type }: Column, atMost: number): Promise<Outcome> {
  if (hereRows === 0 || thereRows === 0) return { success: false, message: `There are no rows to compare ${of}.` };
  const texts = type === 'string' || type === 'boolean';
  const cuts = Array.from({ length: BINS - 1 }, (_, index) => (index + 1) / BINS);
  const bounds = `(SELECT list_distinct(quantile_disc(v, [${cuts.join(', ')}])) AS b FROM ${there})`;
  const listedValues = `(SELECT v FROM ${there} GROUP BY v ORDER BY count(*) DESC, v LIMIT ${LISTED_VALUES})`;
  // A bin is the number of the reference's deciles below the value; a text's bin is the text itself, or empty for the rare ones.
  const binned = (relation: string): string =>
    texts
      ? `SELECT CASE WHEN v IN (SELECT v FROM ${listedValues}) THEN 'v' || CAST(v AS VARCHAR) ELSE 'others' END AS bin FROM ${relation}`
      : `SELECT CAST(len(list_filter(b, lambda x: x < v)) AS VARCHAR) AS bin FROM ${relation}, ${bounds}`;
  const counted = await db.rows(
    `SELECT bin, count(*) FILTER (WHERE side = 1) AS here, count(*) FILTER (WHERE side = 2) AS there FROM (SELECT bin, 1 AS side FROM (${binned(here)}) UNION ALL SELECT bin, 2 AS side FROM (${binned(there)})) GROUP BY bin ORDER BY bin`,
  );
  const bins = counted.map((row) => ({ here: toCount(row['here']), there: toCount(row['there']) }));
  const sum = (side: 'here' | 'there'): number => bins.reduce((total, bin) => total + bin[side], 0);
  const missing = { here: hereRows - sum('here'), there: thereRows - sum('there') };
  const observed = stabilityIndex(missing.here + missing.there > 0 ? [...bins, missing] : bins, hereRows, thereRows);
  return { success: observed <= atMost, observed, message: `The population stability index of ${of} is ${figure(observed)}; at most ${atMost} is wanted.` };
}

/** Σ (p − q) ln(p ÷ q) over the bins' shares. */
export function stabilityIndex(bins: readonly { readonly here: number; readonly there: number }[], hereRows: number, thereRows: number): number {
  return bins.reduce((total, bin) => {
    const [p, q] = [Math.max(bin.here / hereRows, LEAST_SHARE), Math.max(bin.there / thereRows, LEAST_SHARE)];
    return total + (p - q) * Math.log(p / q);
  }, 0);
}

async function kolmogorovSmirnov(
  { db, here, there, of }: Samples,
  { statisticAtMost, pValueAtLeast }: { readonly statisticAtMost: number | null; readonly pValueAtLeast: number | null },
): Promise<Outcome> {
  const counted = `SELECT v, count(*) FILTER (WHERE side = 1) AS a, count(*) FILTER (WHERE side = 2) AS b FROM (SELECT v, 1 AS side FROM ${here} UNION ALL SELECT v, 2 AS side FROM ${there}) GROUP BY v`;
  const running = `SELECT sum(a) OVER (ORDER BY v) AS ca, sum(b) OVER (ORDER BY v) AS cb, sum(a) OVER () AS na, sum(b) OVER () AS nb FROM (${counted})`;
  const row = await db.row(`SELECT max(abs(ca / na - cb / nb)) AS d, max(na) AS na, max(nb) AS nb FROM (${running})`);
  const [a, b] = [toCount(row['na']), toCount(row['nb'])];
  if (a === 0 || b === 0) return { success: false, message: `There are no values to compare ${of}.` };
  const statistic = toCount(row['d']);
  const pValue = kolmogorovTail(Math.sqrt((a * b) / (a + b)) * statistic);
  const success = (statisticAtMost === null || statistic <= statisticAtMost) && (pValueAtLeast === null || pValue >= pValueAtLeast);
  const wanted = [
    ...(statisticAtMost === null ? [] : [`a statistic of at most ${statisticAtMost}`]),
    ...(pValueAtLeast === null ? [] : [`a p-value of at least ${pValueAtLeast}`]),
  ];
  const tail = wanted.length === 0 ? '' : `; ${wanted.join(' and ')} is wanted`;
  return { success, observed: statistic, message: `The Kolmogorov–Smirnov statistic of ${of} is ${figure(statistic)} (p = ${figure(pValue)})${tail}.` };
}

async function chiSquare({ db, here, there, of }: Samples, pValueAtLeast: number): Promise<Outcome> {
  const counted = `SELECT v, count(*) FILTER (WHERE side = 1)::DOUBLE AS a, count(*) FILTER (WHERE side = 2)::DOUBLE AS b FROM (SELECT v, 1 AS side FROM ${here} UNION ALL SELECT v, 2 AS side FROM ${there}) GROUP BY v`;
  const totals = `SELECT a, b, sum(a) OVER () AS na, sum(b) OVER () AS nb FROM (${counted})`;
  const expected = (side: 'a' | 'b'): string => `(a + b) * n${side} / (na + nb)`;
  const term = (side: 'a' | 'b'): string => `(${side} - ${expected(side)}) ** 2 / (${expected(side)})`;
  const row = await db.row(`SELECT sum(${term('a')} + ${term('b')}) AS x, count(*) AS k, max(na) AS na, max(nb) AS nb FROM (${totals})`);
  if (toCount(row['na']) === 0 || toCount(row['nb']) === 0) return { success: false, message: `There are no values to compare ${of}.` };
  const degrees = toCount(row['k']) - 1;
  const statistic = toCount(row['x']);
  const pValue = degrees === 0 ? 1 : chiSquareTail(statistic, degrees);
  return {
    success: pValue >= pValueAtLeast,
    observed: pValue,
    message: `The chi-square test of ${of} gives ${figure(statistic)} with ${degrees} degrees of freedom (p = ${figure(pValue)}); p of at least ${pValueAtLeast} is wanted.`,
  };
}
