/**
 * How many different values a column has, better than HyperLogLog tells it (DuckDB's is off by up to 13 %).
 *
 * Few are counted. Of many, those whose hash falls below a bound are counted, and the count is divided by the share of
 * all hashes that lie below it: a sample of the different values, whatever the number of rows each has. Its standard
 * error is √((1 − p) / m) of the number, for m counted values and the share p (Wegman's adaptive sampling: P. Flajolet,
 * "On adaptive sampling", Computing 43, 1990).
 */
import type { DuckDBValue } from '@duckdb/node-api';
import type { Column } from '../contracts/columns.ts';
import type { ColumnScan } from './column-scan.ts';
import { toCount } from './duckdb.ts';
import { identifier } from './sql-text.ts';

export interface DistinctCount {
  readonly distinct: number;
  /** Standard error as a share of `distinct`; left out where it is exact. */
  readonly error?: number;
}

/** So many values are counted: √(1 / 40,000) is half a percent. */
const SAMPLED = 40_000;
const HASHES = 2n ** 64n;

/** Adds to a scan what the number needs, given HyperLogLog's estimate of it; up to `counted` values it is exact. */
export function planDistinct(scan: ColumnScan, column: Column, estimate: number, counted: number): (values: readonly DuckDBValue[]) => DistinctCount {
  const name = identifier(column.name);
  const value = column.type === 'string' ? `hash(${name})` : name;
  if (estimate <= counted) {
    const place = scan.add(`count(DISTINCT ${value}) FILTER (WHERE ${name} IS NOT NULL)`);
    return (values) => ({ distinct: toCount(values[place]) });
  }
  const parts = Math.ceil(estimate / SAMPLED);
  const place = scan.add(`count(DISTINCT hash(${name})) FILTER (WHERE ${name} IS NOT NULL AND hash(${name}) < ${String(HASHES / BigInt(parts))}::UBIGINT)`);
  return (values) => {
    const found = toCount(values[place]);
    return { distinct: found * parts, error: Number(Math.sqrt((1 - 1 / parts) / Math.max(1, found)).toPrecision(2)) };
  };
}
