/** What the checks of expectations have in common. */
import type { DuckDBValue } from '@duckdb/node-api';
import type { Column } from '../contracts/columns.ts';
import type { ExpectationResult } from '../contracts/expectations.ts';
import type { DatasetManifest, DatasetRef } from '../contracts/references.ts';
import type { ColumnScan } from './column-scan.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import type { RankedFile } from './row-rank.ts';
import { numberLiteral } from './sql-text.ts';

export type Outcome = Pick<ExpectationResult, 'success' | 'message'> &
  Partial<Pick<ExpectationResult, 'checked' | 'failing' | 'fraction' | 'observed' | 'sample'>>;
export type Conclude = (values: readonly DuckDBValue[]) => Outcome | Promise<Outcome>;

/** Whether each of a column's values passes, by a person's function. Instants and dates are ISO texts. */
export type CheckValues = (
  step: string,
  values: readonly (string | number | boolean)[],
  parameters: Readonly<Record<string, unknown>>,
) => Promise<readonly boolean[]>;

export interface CheckAccess {
  /** What `freshness` counts from. Default: now. */
  readonly now?: Date;
  /** Columns whose values no result may show. */
  readonly masked?: ReadonlySet<string>;
  /** Where expectations that name another dataset find it. */
  readonly openDataset?: (ref: DatasetRef) => Promise<{ readonly manifest: DatasetManifest; readonly files: readonly RankedFile[] }>;
  readonly checkValues?: CheckValues;
}

export interface CheckContext {
  readonly db: DuckDb;
  readonly scan: ColumnScan;
  readonly files: readonly RankedFile[];
  readonly relation: string;
  readonly columns: readonly Column[];
  readonly access: CheckAccess;
}

export const settled =
  (outcome: Outcome): Conclude =>
  () =>
    outcome;

export const SAMPLE_ROWS = 5;
export const SAMPLE_CHARACTERS = 60;
export const MASKED = '(masked)';

/** Rows of a query with columns `row` and `value`, as a result shows them. */
export async function sampleOf(db: DuckDb, sql: string): Promise<{ row: number; value: string }[]> {
  const rows = await db.rows(`SELECT row, CAST(value AS VARCHAR) AS value FROM (${sql}) ORDER BY row LIMIT ${SAMPLE_ROWS}`);
  return rows.map(({ row, value }) => {
    const text = typeof value === 'string' ? value : 'null';
    return { row: toCount(row), value: text.length > SAMPLE_CHARACTERS ? `${text.slice(0, SAMPLE_CHARACTERS)}…` : text };
  });
}

export function tolerated({ mostly }: { readonly mostly: number }, checked: number, failing: number, wanted: string): Outcome {
  const fraction = checked === 0 ? 0 : failing / checked;
  // In counts and not in shares: 1 − 1/1000 is not 0.999 in binary.
  const success = failing <= Math.floor((1 - mostly) * checked + 1e-9);
  const tolerance = mostly === 1 ? '' : ` (for a share of ${mostly})`;
  return {
    success,
    checked,
    failing,
    fraction,
    message: `It is wanted that ${wanted}${tolerance}: ${failing === 0 ? 'all' : `${failing} of`} ${checked} ${failing === 0 ? 'do' : 'do not'}.`,
  };
}

export function inRange(observed: number | null, { min, max }: { readonly min: number | null; readonly max: number | null }, said: string): Outcome {
  if (observed === null) return { success: false, message: `${said.replace('#', 'no')}: there are no values.` };
  const success = (min === null || observed >= min) && (max === null || observed <= max);
  return { success, observed, message: `${said.replace('#', figure(observed))}; wanted is ${rangeText({ min, max })}.` };
}

export const figure = (value: number): string => (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6))));
export const rangeText = ({ min, max }: { readonly min: number | string | null; readonly max: number | string | null }): string =>
  min === null ? (max === null ? 'anywhere' : `at most at ${max}`) : max === null ? `at least at ${min}` : `between ${min} and ${max}`;
export const listed = (values: readonly string[]): string =>
  values.length > 10 ? `${values.slice(0, 10).join(', ')} and ${values.length - 10} more` : values.join(', ');

/** A whole number stays one, so that DuckDB compares integers as integers and skips what Parquet's statistics rule out. */
export const numberSql = (value: number): string => (Number.isSafeInteger(value) ? String(value) : numberLiteral(value));
