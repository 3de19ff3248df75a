/**
 * Which rows are drawn, by row number alone: a row's rank is a permutation of the 32-bit numbers that depends on the
 * seed, so no two of the first 2^32 rows share a rank, and "the n rows of least rank" is a sample without replacement
 * of exactly n. The same arithmetic stands in SQL and here, so a draw depends on no engine's random numbers.
 *
 * Mixer: lowbias32 (C. Wellons, "Prospecting for Hash Functions", 2018).
 */
import { identifier, textLiteral } from './sql-text.ts';

const FIRST = 0x7feb352d;
const SECOND = 0x846ca68b;
const MASK = 0xffffffff;
const BUCKET_BITS = 16;

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), FIRST);
  x = Math.imul(x ^ (x >>> 15), SECOND);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Spreads a seed, so that draws of neighbouring seeds have nothing to do with each other. */
const seedWord = (seed: number): number => mix(mix((seed >>> 0) ^ 0x9e3779b9) + (Math.floor(seed / 2 ** 32) >>> 0));

/** The rank of row `row` (0-based): 0 … 2^32 − 1. */
export const rowRank = (row: number, seed: number): number => mix((row ^ seedWord(seed)) >>> 0);

export interface RankedFile {
  readonly path: string;
  readonly rows: number;
}

/** Name of the column that `numberedRelation` adds: the row's number over all files, 0-based. */
export const ROW_NUMBER = '__millrace_row';
/** Name of the column that `rankedRelation` adds. */
export const ROW_RANK = '__millrace_rank';

/** The files as one relation in row order, with each row's number. */
export function numberedRelation(files: readonly RankedFile[], columns: readonly string[]): string {
  const names = columns.map((name) => `${identifier(name)}, `).join('');
  let offset = 0;
  const parts = files.map(({ path, rows }) => {
    const part = `SELECT ${names}file_row_number + ${offset} AS ${ROW_NUMBER} FROM read_parquet(${textLiteral(path)}, file_row_number = true)`;
    offset += rows;
    return part;
  });
  return `(${parts.join(' UNION ALL ')})`;
}

/** The files as one relation in row order, with each row's number and rank. */
export const rankedRelation = (files: readonly RankedFile[], columns: readonly string[], seed: number): string =>
  rankedRows(numberedRelation(files, columns), columns, seed);

/** Any relation with a column of row numbers, with each row's rank. Each step of the mixer is a projection of its own, so that it is computed once. */
export function rankedRows(numbered: string, columns: readonly string[], seed: number): string {
  const names = [...columns.map(identifier), ROW_NUMBER].join(', ');
  const a = `SELECT ${names}, xor(CAST(${ROW_NUMBER} & ${MASK} AS UBIGINT), CAST(${seedWord(seed)} AS UBIGINT)) AS __a FROM ${numbered}`;
  // Both factors are below 2^32, so that the product fits UBIGINT.
  const b = `SELECT ${names}, (xor(__a, __a >> 16) * ${FIRST}) & ${MASK} AS __b FROM (${a})`;
  const c = `SELECT ${names}, (xor(__b, __b >> 15) * ${SECOND}) & ${MASK} AS __c FROM (${b})`;
  return `(SELECT ${names}, xor(__c, __c >> 16) AS ${ROW_RANK} FROM (${c}))`;
}

/** The bound below which exactly `count` of the rows 0 … rows − 1 have their rank. Linear in rows, without sorting them. */
export function rankBound(rows: number, seed: number, count: number): number {
  if (count <= 0) return 0;
  if (count >= rows) return 2 ** 32;
  const word = seedWord(seed);
  const buckets = new Uint32Array(1 << BUCKET_BITS);
  for (let row = 0; row < rows; row++) {
    const bucket = mix(row ^ word) >>> BUCKET_BITS;
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  let below = 0;
  let bucket = 0;
  while (below + (buckets[bucket] ?? 0) < count) {
    below += buckets[bucket] ?? 0;
    bucket++;
  }
  const inside = new Uint32Array(buckets[bucket] ?? 0);
  let found = 0;
  for (let row = 0; row < rows; row++) {
    const rank = mix(row ^ word);
    if (rank >>> BUCKET_BITS === bucket) inside[found++] = rank;
  }
  inside.sort();
  return (inside[count - below - 1] ?? 0) + 1;
}
