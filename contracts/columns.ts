import { z } from 'zod';

/**
 * A column's type as Millrace sees it. `timestamp` is an instant in UTC with at most microseconds; `date` has no time.
 * Wider engine types map onto these (DECIMAL → number, HUGEINT → number).
 */
export const ColumnTypeSchema = z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date']);
export type ColumnType = z.infer<typeof ColumnTypeSchema>;

export const ColumnSchema = z.object({ name: z.string().min(1), type: ColumnTypeSchema }).readonly();
export type Column = z.infer<typeof ColumnSchema>;

/** Columns in memory, as trainers, features and batch scoring read them. All arrays have `rows` entries. */
export type RawColumn =
  /** number, integer, boolean (0 and 1). NaN is null. */
  | { readonly kind: 'number'; readonly values: Float64Array }
  /** timestamp, date: milliseconds since 1970 UTC. NaN is null. */
  | { readonly kind: 'timestamp'; readonly values: Float64Array }
  /** Dictionary-coded: `dictionary[codes[i]]`; code -1 is null. */
  | { readonly kind: 'string'; readonly codes: Int32Array; readonly dictionary: readonly string[] };

export interface RawTable {
  readonly rows: number;
  readonly columns: ReadonlyMap<string, RawColumn>;
}
