import { z } from 'zod';
import { ColumnTypeSchema } from './columns.ts';

/**
 * What data has to be like, as plain JSON: written with the builders below in a pipeline, checked by DuckDB.
 *
 * A null passes everything but `notNull` and `nullFractionAtMost`. `mostly` is the least share of the checked values
 * (those that are not null) that has to pass. A `warn` is reported and stops nothing.
 */
/** Schemas are made when first used: this module is loaded by every run's workflow, which needs the builders alone. */
export const ExpectationSchema = z.lazy(() => {
  const common = {
    severity: z.enum(['fail', 'warn']).default('fail'),
    mostly: z.number().min(0).max(1).default(1),
  };
  const ofColumn = { column: z.string().min(1), ...common };
  const ofTable = { severity: common.severity };
  const bound = z.number().nullable().default(null);
  const count = z.number().int().nonnegative().nullable().default(null);
  const instant = z.string().min(1).nullable().default(null);
  return z.discriminatedUnion('kind', [
    // a column's values, one by one
    z.object({ kind: z.literal('notNull'), ...ofColumn }),
    z.object({ kind: z.literal('unique'), ...ofColumn }),
    z.object({ kind: z.literal('inSet'), ...ofColumn, values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1) }),
    z.object({ kind: z.literal('notInSet'), ...ofColumn, values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1) }),
    z.object({ kind: z.literal('between'), ...ofColumn, min: bound, max: bound }),
    z.object({ kind: z.literal('dateBetween'), ...ofColumn, from: instant, to: instant }),
    z.object({ kind: z.literal('lengthBetween'), ...ofColumn, min: count, max: count }),
    z.object({ kind: z.literal('matches'), ...ofColumn, pattern: z.string().min(1) }),
    z.object({ kind: z.literal('increasing'), ...ofColumn, strictly: z.boolean().default(false) }),
    // a column as a whole
    z.object({ kind: z.literal('type'), column: z.string().min(1), ...ofTable, type: z.union([ColumnTypeSchema, z.array(ColumnTypeSchema).min(1)]) }),
    z.object({ kind: z.literal('nullFractionAtMost'), column: z.string().min(1), ...ofTable, fraction: z.number().min(0).max(1) }),
    z.object({ kind: z.literal('meanBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('sumBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('standardDeviationBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('quantileBetween'), column: z.string().min(1), ...ofTable, q: z.number().min(0).max(1), min: bound, max: bound }),
    z.object({ kind: z.literal('distinctBetween'), column: z.string().min(1), ...ofTable, min: count, max: count }),
    z.object({ kind: z.literal('freshness'), column: z.string().min(1), ...ofTable, maxAgeHours: z.number().positive() }),
    // the table
    z.object({ kind: z.literal('columnsExist'), ...ofTable, columns: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('exactColumns'), ...ofTable, columns: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('rowCount'), ...ofTable, min: count, max: count }),
    z.object({ kind: z.literal('uniqueTogether'), ...common, columns: z.array(z.string().min(1)).min(2) }),
    z.object({
      kind: z.literal('compareColumns'),
      ...common,
      left: z.string().min(1),
      is: z.enum(['<', '<=', '=', '<>', '>=', '>']),
      right: z.string().min(1),
    }),
    z.object({ kind: z.literal('customSql'), ...common, name: z.string().min(1), sql: z.string().min(1) }),
  ]);
});
export type Expectation = z.infer<typeof ExpectationSchema>;
export type ExpectationKind = Expectation['kind'];

export const ExpectationsSchema = z.lazy(() => z.object({ format: z.literal('millrace-expectations/1'), expectations: z.array(ExpectationSchema) }));
export type Expectations = z.infer<typeof ExpectationsSchema>;
export type ExpectationsInput = z.input<typeof ExpectationsSchema>;

/** What one expectation found. */
export const ExpectationResultSchema = z.lazy(() =>
  z.object({
    expectation: ExpectationSchema,
    /** Null for one that is about the table. */
    column: z.string().nullable(),
    success: z.boolean(),
    severity: z.enum(['fail', 'warn']),
    /** A sentence: what was wanted, what was found. */
    message: z.string(),
    /** Values that were looked at; null where it is about a whole. */
    checked: z.number().int().nullable(),
    failing: z.number().int().nullable(),
    /** failing ÷ checked. */
    fraction: z.number().nullable(),
    /** What was found, where it is one figure or text. */
    observed: z.union([z.number(), z.string()]).nullable(),
    /** The first failing rows (0-based numbers of the dataset), at most 5, values cut at 60 characters. */
    sample: z.array(z.object({ row: z.number().int(), value: z.string() })),
  }),
);
export type ExpectationResult = z.infer<typeof ExpectationResultSchema>;

export const ValidationResultSchema = z.lazy(() =>
  z.object({
    format: z.literal('millrace-validation/1'),
    rows: z.number().int(),
    /** Whether no expectation of severity `fail` failed. */
    success: z.boolean(),
    results: z.array(ExpectationResultSchema),
  }),
);
export type ValidationResult = z.infer<typeof ValidationResultSchema>;

/** An expectation of a column that is not said yet. Made by the builders, taken by `expectations`. */
export interface ColumnExpectation {
  readonly of: 'column';
  readonly rule: Readonly<Record<string, unknown>>;
}
/** An expectation of the table. */
export interface TableExpectation {
  readonly of: 'table';
  readonly rule: Readonly<Record<string, unknown>>;
}
export interface Tolerance {
  /** Default `fail`. */
  readonly severity?: 'fail' | 'warn';
}
export interface RowTolerance extends Tolerance {
  /** Least share of the values that has to pass, 0–1. Default 1. */
  readonly mostly?: number;
}
interface Range {
  readonly min?: number;
  readonly max?: number;
}
type Scalar = string | number | boolean;

const column = (rule: Readonly<Record<string, unknown>>): ColumnExpectation => ({ of: 'column', rule });
const table = (rule: Readonly<Record<string, unknown>>): TableExpectation => ({ of: 'table', rule });

/** No value is missing. */
export const notNull = (tolerance: RowTolerance = {}): ColumnExpectation => column({ kind: 'notNull', ...tolerance });
/** No value occurs twice. */
export const unique = (tolerance: RowTolerance = {}): ColumnExpectation => column({ kind: 'unique', ...tolerance });
/** Each value is one of these. */
export const inSet = (values: readonly Scalar[], tolerance: RowTolerance = {}): ColumnExpectation => column({ kind: 'inSet', values, ...tolerance });
/** No value is one of these. */
export const notInSet = (values: readonly Scalar[], tolerance: RowTolerance = {}): ColumnExpectation => column({ kind: 'notInSet', values, ...tolerance });
/** min ≤ value ≤ max, for numbers; null leaves a side open. */
export const between = (min: number | null, max: number | null, tolerance: RowTolerance = {}): ColumnExpectation =>
  column({ kind: 'between', min, max, ...tolerance });
/** from ≤ instant ≤ to, for timestamps and dates, as ISO texts (UTC); null leaves a side open. */
export const dateBetween = (from: string | null, to: string | null, tolerance: RowTolerance = {}): ColumnExpectation =>
  column({ kind: 'dateBetween', from, to, ...tolerance });
/** Length of texts in characters (code points). */
export const lengthBetween = (min: number | null, max: number | null, tolerance: RowTolerance = {}): ColumnExpectation =>
  column({ kind: 'lengthBetween', min, max, ...tolerance });
/** The pattern (RE2 syntax) is found somewhere in the text; anchor it with ^ and $ to match all of it. */
export const matches = (pattern: string | RegExp, tolerance: RowTolerance = {}): ColumnExpectation =>
  column({ kind: 'matches', pattern: typeof pattern === 'string' ? pattern : pattern.source, ...tolerance });
/** Each value is at least the one before it, in row order; `strictly`: more than it. */
export const increasing = (options: RowTolerance & { readonly strictly?: boolean } = {}): ColumnExpectation => column({ kind: 'increasing', ...options });
/** The column has this type, or one of these. */
export const hasType = (wanted: z.infer<typeof ColumnTypeSchema> | readonly z.infer<typeof ColumnTypeSchema>[], tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'type', type: wanted, ...tolerance });
/** At most this share of the values is missing, 0–1. */
export const nullFractionAtMost = (fraction: number, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'nullFractionAtMost', fraction, ...tolerance });
export const meanBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'meanBetween', min, max, ...tolerance });
export const sumBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'sumBetween', min, max, ...tolerance });
/** Of the sample (n − 1). */
export const standardDeviationBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'standardDeviationBetween', min, max, ...tolerance });
/** The value below which a share `q` of the values lies (the least value with at least that share at or below it). */
export const quantileBetween = (q: number, min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'quantileBetween', q, min, max, ...tolerance });
/** Number of different values, exact. */
export const distinctBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'distinctBetween', min, max, ...tolerance });
/** The latest instant is at most this old when it is checked. */
export const freshness = (maxAge: { readonly hours: number }, tolerance: Tolerance = {}): ColumnExpectation =>
  column({ kind: 'freshness', maxAgeHours: maxAge.hours, ...tolerance });

/** These columns are there; others may be too. */
export const columnsExist = (columns: readonly string[], tolerance: Tolerance = {}): TableExpectation => table({ kind: 'columnsExist', columns, ...tolerance });
/** These columns are there and no others, in any order. */
export const exactColumns = (columns: readonly string[], tolerance: Tolerance = {}): TableExpectation => table({ kind: 'exactColumns', columns, ...tolerance });
export const rowCount = (range: Range, tolerance: Tolerance = {}): TableExpectation => table({ kind: 'rowCount', ...range, ...tolerance });
/** No combination of values occurs twice. Rows with a null in one of the columns are left out. */
export const uniqueTogether = (columns: readonly string[], tolerance: RowTolerance = {}): TableExpectation =>
  table({ kind: 'uniqueTogether', columns, ...tolerance });
/** `compareColumns('departure', '<=', 'arrival')` */
export const compareColumns = (left: string, is: '<' | '<=' | '=' | '<>' | '>=' | '>', right: string, tolerance: RowTolerance = {}): TableExpectation =>
  table({ kind: 'compareColumns', left, is, right, ...tolerance });
/** A boolean expression in DuckDB's SQL over the row's columns. Like a CHECK, null passes. */
export const customSql = (name: string, sql: string, tolerance: RowTolerance = {}): TableExpectation => table({ kind: 'customSql', name, sql, ...tolerance });

/** Column → expectations; under `table` those of the table. */
export type ExpectationLists<Names extends string = string> = {
  readonly [Name in Names]: Name extends 'table' ? readonly TableExpectation[] : readonly ColumnExpectation[];
};

/**
 * A suite of expectations as plain JSON, in the order in which they are written.
 *
 * @param input Column → expectations; `table` holds those of the table.
 * @param columns The same for columns whose name is taken above: one that is called `table`.
 * @example expectations({ delay: [notNull(), between(-1500, 3000)], origin: [matches(/^[A-Z]{3}$/)], table: [rowCount({ min: 1000 })] })
 */
export function expectations<const Names extends string>(
  input: ExpectationLists<Names>,
  columns: Readonly<Record<string, readonly ColumnExpectation[]>> = {},
): Expectations {
  const { table: ofTheTable = [], ...ofColumns } = input as Readonly<Record<string, readonly (ColumnExpectation | TableExpectation)[] | undefined>>;
  const named = [...Object.entries(ofColumns), ...Object.entries(columns)];
  const rules = [...ofTheTable.map(({ rule }) => rule), ...named.flatMap(([name, list]) => (list ?? []).map(({ rule }) => ({ ...rule, column: name })))];
  return ExpectationsSchema.parse({ format: 'millrace-expectations/1', expectations: rules });
}
