/** A text column on both sides, by its n-grams: texts hardly ever come twice, words do. */
import type { ColumnDrift } from '../contracts/drift.ts';
import { chiSquareTail } from '../ml/drift/distributions.ts';
import { createNgramCounter, type NgramCounts } from '../ml/drift/ngrams.ts';
import { chiSquareOfHomogeneity, expectedPsi, jensenShannonDistance, populationStability, twoProportions } from '../ml/drift/two-samples.ts';
import type { Pair } from './drift-rows.ts';
import { type DuckDb, toCount, toText } from './duckdb.ts';

export interface TextOptions {
  readonly analyzer: 'word' | 'char';
  /** Longest n-gram. */
  readonly ngrams: number;
  /** Texts of each side that are read, spread evenly over it. */
  readonly texts: number;
}
export const TEXT_DEFAULTS: TextOptions = { analyzer: 'word', ngrams: 2, texts: 5_000 };
const TEXTS_AT_A_TIME = 50;
const NAMED_TERMS = 10;

/** Undefined where one side has no n-gram. Counting gives way to other work between texts. */
export async function compareTexts(db: DuckDb, { column, of, recent, reference }: Pair, options: TextOptions): Promise<ColumnDrift | undefined> {
  const [here, there] = [await countNgrams(db, recent, options), await countNgrams(db, reference, options)];
  const [n, m] = [total(here.counts), total(there.counts)];
  if (n === 0 || m === 0) return undefined;
  const [a, b] = [here.counts.buckets, there.counts.buckets];
  const designEffect = (here.counts.designEffect * n + there.counts.designEffect * m) / (n + m);
  const { statistic, degreesOfFreedom } = chiSquareOfHomogeneity(a, b);
  const { psi, bins } = populationStability(a, b);
  return {
    column,
    psi,
    expectedPsi: expectedPsi(bins, n / designEffect, m / designEffect),
    bins: Array.from(a, (count, bucket) => ({ label: `bucket ${bucket}`, training: (b[bucket] ?? 0) / m, recent: count / n })),
    nullFraction: { training: 1 - there.present / reference.rows, recent: 1 - here.present / recent.rows },
    values: here.present,
    kind: 'text',
    of,
    rows: { training: reference.rows, recent: recent.rows },
    exact: true,
    chiSquare: { statistic, degreesOfFreedom, pValue: chiSquareTail(statistic / designEffect, degreesOfFreedom) },
    jensenShannon: jensenShannonDistance(a, b),
    nulls: twoProportions(recent.rows - here.present, recent.rows, reference.rows - there.present, reference.rows),
    text: { terms: movedTerms(here.counts, there.counts), designEffect },
  };
}

const total = ({ buckets }: NgramCounts): number => buckets.reduce((sum, count) => sum + count, 0);

async function countNgrams(
  db: DuckDb,
  { relation, value }: Pair['recent'],
  { analyzer, ngrams, texts }: TextOptions,
): Promise<{ readonly counts: NgramCounts; readonly present: number }> {
  const present = toCount((await db.row(`SELECT count(${value}) AS n FROM ${relation}`))['n']);
  const counter = createNgramCounter({ analyzer, ngrams });
  const step = Math.max(1, Math.ceil(present / texts));
  let read = 0;
  for await (const chunk of db.chunks(
    `SELECT v FROM (SELECT v, row_number() OVER () AS r FROM (SELECT ${value} AS v FROM ${relation}) WHERE v IS NOT NULL) WHERE (r - 1) % ${step} = 0`,
  )) {
    for (const found of chunk.getColumnValues(0)) {
      counter.add(toText(found) ?? '');
      if (++read % TEXTS_AT_A_TIME === 0) await new Promise(setImmediate);
    }
  }
  return { counts: counter.result(), present };
}

/** By the difference of the shares of texts that have the term, in standard errors. */
function movedTerms(here: NgramCounts, there: NgramCounts): NonNullable<ColumnDrift['text']>['terms'] {
  return [...new Set([...here.terms.keys(), ...there.terms.keys()])]
    .map((term) => {
      const [a, b] = [here.terms.get(term) ?? 0, there.terms.get(term) ?? 0];
      return { term, training: b / there.texts, recent: a / here.texts, z: Math.abs(twoProportions(a, here.texts, b, there.texts).z) };
    })
    .sort((x, y) => y.z - x.z || (x.term < y.term ? -1 : 1))
    .slice(0, NAMED_TERMS)
    .map(({ term, training, recent }) => ({ term, training, recent }));
}
