import { z } from 'zod';
import { type ColumnType, ColumnTypeSchema } from './columns.ts';
import { PersonalFindingSchema } from './personal-data.ts';
import { type DatasetRef, DatasetRefSchema } from './references.ts';

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
    z.object({ kind: z.literal('isNull'), ...ofColumn }),
    z.object({ kind: z.literal('unique'), ...ofColumn }),
    z.object({ kind: z.literal('inSet'), ...ofColumn, values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1) }),
    z.object({ kind: z.literal('notInSet'), ...ofColumn, values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1) }),
    z.object({ kind: z.literal('between'), ...ofColumn, min: bound, max: bound }),
    z.object({ kind: z.literal('dateBetween'), ...ofColumn, from: instant, to: instant }),
    z.object({ kind: z.literal('lengthBetween'), ...ofColumn, min: count, max: count }),
    z.object({ kind: z.literal('matches'), ...ofColumn, pattern: z.string().min(1) }),
    z.object({ kind: z.literal('notMatches'), ...ofColumn, pattern: z.string().min(1) }),
    z.object({ kind: z.literal('dateFormat'), ...ofColumn, formats: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('json'), ...ofColumn }),
    z.object({ kind: z.literal('zScoreAtMost'), ...ofColumn, deviations: z.number().positive() }),
    z.object({ kind: z.literal('increasing'), ...ofColumn, strictly: z.boolean().default(false) }),
    z.object({ kind: z.literal('decreasing'), ...ofColumn, strictly: z.boolean().default(false) }),
    z.object({ kind: z.literal('foreignKey'), ...ofColumn, dataset: DatasetRefSchema, key: z.string().min(1) }),
    z.object({ kind: z.literal('customFunction'), ...ofColumn, step: z.string().min(1), parameters: z.record(z.string(), z.unknown()).default({}) }),
    // a column as a whole
    z.object({ kind: z.literal('type'), column: z.string().min(1), ...ofTable, type: z.union([ColumnTypeSchema, z.array(ColumnTypeSchema).min(1)]) }),
    z.object({ kind: z.literal('nullFractionAtMost'), column: z.string().min(1), ...ofTable, fraction: z.number().min(0).max(1) }),
    z.object({ kind: z.literal('minBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('maxBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('meanBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('sumBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('standardDeviationBetween'), column: z.string().min(1), ...ofTable, min: bound, max: bound }),
    z.object({ kind: z.literal('quantileBetween'), column: z.string().min(1), ...ofTable, q: z.number().min(0).max(1), min: bound, max: bound }),
    z.object({ kind: z.literal('distinctBetween'), column: z.string().min(1), ...ofTable, min: count, max: count }),
    z.object({
      kind: z.literal('distinctFractionBetween'),
      column: z.string().min(1),
      ...ofTable,
      min: z.number().min(0).max(1).nullable().default(null),
      max: z.number().min(0).max(1).nullable().default(null),
    }),
    z.object({
      kind: z.literal('distinctInclude'),
      column: z.string().min(1),
      ...ofTable,
      values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1),
    }),
    z.object({
      kind: z.literal('mostCommonIn'),
      column: z.string().min(1),
      ...ofTable,
      values: z.array(z.union([z.string(), z.number(), z.boolean()])).min(1),
    }),
    z.object({ kind: z.literal('psiAtMost'), column: z.string().min(1), ...ofTable, reference: DatasetRefSchema, psi: z.number().positive() }),
    z.object({
      kind: z.literal('kolmogorovSmirnov'),
      column: z.string().min(1),
      ...ofTable,
      reference: DatasetRefSchema,
      statisticAtMost: z.number().min(0).max(1).nullable().default(null),
      pValueAtLeast: z.number().min(0).max(1).nullable().default(null),
    }),
    z.object({ kind: z.literal('chiSquare'), column: z.string().min(1), ...ofTable, reference: DatasetRefSchema, pValueAtLeast: z.number().min(0).max(1) }),
    z.object({ kind: z.literal('freshness'), column: z.string().min(1), ...ofTable, maxAgeHours: z.number().positive() }),
    // the table
    z.object({ kind: z.literal('columnsExist'), ...ofTable, columns: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('exactColumns'), ...ofTable, columns: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('rowCount'), ...ofTable, min: count, max: count }),
    z.object({ kind: z.literal('columnCount'), ...ofTable, min: count, max: count }),
    z.object({
      kind: z.literal('sumEquals'),
      ...common,
      columns: z.array(z.string().min(1)).min(1),
      total: z.string().min(1),
      within: z.number().min(0).default(1e-9),
    }),
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
    /** Rows that were put aside before: `results` is about the others. */
    quarantine: z
      .object({
        /** Manifest of the dataset that holds them. */
        dataset: z.string(),
        rows: z.number().int(),
        /** What was found over all rows. */
        results: z.array(ExpectationResultSchema),
      })
      .optional(),
    /** Undeclared columns whose values look personal; left out where there are none. */
    personal: z.array(PersonalFindingSchema).optional(),
  }),
);
export type ValidationResult = z.infer<typeof ValidationResultSchema>;

/** An expectation of a column that is not said yet. Made by the builders, taken by `expectations`. `Of`: the column types it goes with. */
export interface ColumnExpectation<Of extends ColumnType = never> {
  readonly of: 'column';
  readonly rule: Readonly<Record<string, unknown>>;
  /** Never set: carries the types. */
  readonly fits?: (type: Of) => void;
}
/** An expectation of the table. `Names`: the columns that it speaks of. */
export interface TableExpectation<Names extends string = string> {
  readonly of: 'table';
  readonly rule: Readonly<Record<string, unknown>>;
  /** Never set: carries the types. */
  readonly speaksOf?: Names;
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
type Numeric = 'number' | 'integer';
type Timed = 'timestamp' | 'date';

const column = <Of extends ColumnType>(rule: Readonly<Record<string, unknown>>): ColumnExpectation<Of> => ({ of: 'column', rule });
const table = <Names extends string = never>(rule: Readonly<Record<string, unknown>>): TableExpectation<Names> => ({ of: 'table', rule });

/** No value is missing. */
export const notNull = (tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> => column({ kind: 'notNull', ...tolerance });
/** Every value is missing: a column that is not filled yet, or not any more. */
export const isNull = (tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> => column({ kind: 'isNull', ...tolerance });
/** No value occurs twice. */
export const unique = (tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> => column({ kind: 'unique', ...tolerance });
/** Each value is one of these. */
export const inSet = (values: readonly Scalar[], tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'inSet', values, ...tolerance });
/** No value is one of these. */
export const notInSet = (values: readonly Scalar[], tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'notInSet', values, ...tolerance });
/** min ≤ value ≤ max, for numbers; null leaves a side open. */
export const between = (min: number | null, max: number | null, tolerance: RowTolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'between', min, max, ...tolerance });
/** from ≤ instant ≤ to, for timestamps and dates, as ISO texts (UTC); null leaves a side open. */
export const dateBetween = (from: string | null, to: string | null, tolerance: RowTolerance = {}): ColumnExpectation<Timed> =>
  column({ kind: 'dateBetween', from, to, ...tolerance });
/** Length of texts in characters (code points). */
export const lengthBetween = (min: number | null, max: number | null, tolerance: RowTolerance = {}): ColumnExpectation<'string'> =>
  column({ kind: 'lengthBetween', min, max, ...tolerance });
/** The pattern (RE2 syntax) is found somewhere in the text; anchor it with ^ and $ to match all of it. */
export const matches = (pattern: string | RegExp, tolerance: RowTolerance = {}): ColumnExpectation<'string'> =>
  column({ kind: 'matches', pattern: typeof pattern === 'string' ? pattern : pattern.source, ...tolerance });
/** The pattern (RE2 syntax) is found nowhere in the text. */
export const notMatches = (pattern: string | RegExp, tolerance: RowTolerance = {}): ColumnExpectation<'string'> =>
  column({ kind: 'notMatches', pattern: typeof pattern === 'string' ? pattern : pattern.source, ...tolerance });
/** The text is an instant or a date in one of these formats (as `strptime` writes them): `dateFormat('%d.%m.%Y')`. */
export const dateFormat = (formats: string | readonly string[], tolerance: RowTolerance = {}): ColumnExpectation<'string'> =>
  column({ kind: 'dateFormat', formats: typeof formats === 'string' ? [formats] : formats, ...tolerance });
/** The text is JSON. */
export const isJson = (tolerance: RowTolerance = {}): ColumnExpectation<'string'> => column({ kind: 'json', ...tolerance });
/** The value is at most so many standard deviations (of the sample) away from the mean of the column. */
export const zScoreAtMost = (deviations: number, tolerance: RowTolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'zScoreAtMost', deviations, ...tolerance });
/** Each value is at least the one before it, in row order; `strictly`: more than it. */
export const increasing = (options: RowTolerance & { readonly strictly?: boolean } = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'increasing', ...options });
/** Each value is at most the one before it, in row order; `strictly`: less than it. */
export const decreasing = (options: RowTolerance & { readonly strictly?: boolean } = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'decreasing', ...options });
/** Each value is one of a column's of another dataset: `foreignKey({ dataset: airports, column: 'code' })`. */
export const foreignKey = (to: { readonly dataset: DatasetRef; readonly column: string }, tolerance: RowTolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'foreignKey', dataset: to.dataset, key: to.column, ...tolerance });
/**
 * A function of your own: a `valueStep` of the pipeline's `steps.ts` that takes a list of different values of the column, and the
 * parameters, and gives a list of booleans: whether each value passes. Instants and dates come as ISO texts.
 */
export const customFunction = (
  step: string,
  options: RowTolerance & { readonly parameters?: Readonly<Record<string, unknown>> } = {},
): ColumnExpectation<ColumnType> => column({ kind: 'customFunction', step, ...options });
/** The column has this type, or one of these. */
export const hasType = (
  wanted: z.infer<typeof ColumnTypeSchema> | readonly z.infer<typeof ColumnTypeSchema>[],
  tolerance: Tolerance = {},
): ColumnExpectation<ColumnType> => column({ kind: 'type', type: wanted, ...tolerance });
/** At most this share of the values is missing, 0–1. */
export const nullFractionAtMost = (fraction: number, tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'nullFractionAtMost', fraction, ...tolerance });
/** The least value lies in the range. */
export const minBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'minBetween', min, max, ...tolerance });
/** The greatest value lies in the range. */
export const maxBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'maxBetween', min, max, ...tolerance });
export const meanBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'meanBetween', min, max, ...tolerance });
export const sumBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'sumBetween', min, max, ...tolerance });
/** Of the sample (n − 1). */
export const standardDeviationBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'standardDeviationBetween', min, max, ...tolerance });
/** The value below which a share `q` of the values lies (the least value with at least that share at or below it). */
export const quantileBetween = (q: number, min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<Numeric> =>
  column({ kind: 'quantileBetween', q, min, max, ...tolerance });
/** Number of different values, exact. */
export const distinctBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'distinctBetween', min, max, ...tolerance });
/** Number of different values ÷ number of values, 0–1. 1: each occurs once. */
export const distinctFractionBetween = (min: number | null, max: number | null, tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'distinctFractionBetween', min, max, ...tolerance });
/** Each of these values occurs; others may too. */
export const distinctInclude = (values: readonly Scalar[], tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'distinctInclude', values, ...tolerance });
/** The value that occurs most often is one of these; where several do, each of them is. */
export const mostCommonIn = (values: readonly Scalar[], tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'mostCommonIn', values, ...tolerance });
/**
 * Population stability index against the same column of another dataset: Σ (p − q) ln(p ÷ q), over ten bins between the reference's
 * deciles for numbers and times, over its 50 most frequent values and the others for texts; missing values are a bin.
 */
export const psiAtMost = (reference: DatasetRef, psi = 0.2, tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'psiAtMost', reference, psi, ...tolerance });
/**
 * Two-sample Kolmogorov–Smirnov test against the same column of another dataset, over all values of both. The p-value is that of the
 * limiting distribution. On many rows the least shift is significant: ask for the statistic then.
 */
export const kolmogorovSmirnov = (
  reference: DatasetRef,
  wanted: { readonly statisticAtMost?: number; readonly pValueAtLeast?: number },
  tolerance: Tolerance = {},
): ColumnExpectation<Numeric | Timed> => column({ kind: 'kolmogorovSmirnov', reference, ...wanted, ...tolerance });
/** Pearson's chi-square test of homogeneity of the values' counts against the same column of another dataset, missing values left out. */
export const chiSquare = (reference: DatasetRef, pValueAtLeast: number, tolerance: Tolerance = {}): ColumnExpectation<ColumnType> =>
  column({ kind: 'chiSquare', reference, pValueAtLeast, ...tolerance });
/** The latest instant is at most this old when it is checked. */
export const freshness = (maxAge: { readonly hours: number }, tolerance: Tolerance = {}): ColumnExpectation<Timed> =>
  column({ kind: 'freshness', maxAgeHours: maxAge.hours, ...tolerance });

/** These columns are there; others may be too. */
export const columnsExist = <const Names extends string>(columns: readonly Names[], tolerance: Tolerance = {}): TableExpectation<Names> =>
  table({ kind: 'columnsExist', columns, ...tolerance });
/** These columns are there and no others, in any order. */
export const exactColumns = <const Names extends string>(columns: readonly Names[], tolerance: Tolerance = {}): TableExpectation<Names> =>
  table({ kind: 'exactColumns', columns, ...tolerance });
export const rowCount = (range: Range, tolerance: Tolerance = {}): TableExpectation<never> => table({ kind: 'rowCount', ...range, ...tolerance });
export const columnCount = (range: Range, tolerance: Tolerance = {}): TableExpectation<never> => table({ kind: 'columnCount', ...range, ...tolerance });
/** The columns add up to `total` in each row, within so much (default 1e-9). Rows with a null in one of them are left out. */
export const sumEquals = <const Names extends string>(
  columns: readonly Names[],
  total: Names,
  options: RowTolerance & { readonly within?: number } = {},
): TableExpectation<Names> => table({ kind: 'sumEquals', columns, total, ...options });
/** No combination of values occurs twice. Rows with a null in one of the columns are left out. */
export const uniqueTogether = <const Names extends string>(columns: readonly Names[], tolerance: RowTolerance = {}): TableExpectation<Names> =>
  table({ kind: 'uniqueTogether', columns, ...tolerance });
/** `compareColumns('departure', '<=', 'arrival')` */
export const compareColumns = <const Names extends string>(
  left: Names,
  is: '<' | '<=' | '=' | '<>' | '>=' | '>',
  right: Names,
  tolerance: RowTolerance = {},
): TableExpectation<Names> => table({ kind: 'compareColumns', left, is, right, ...tolerance });
/** A boolean expression in DuckDB's SQL over the row's columns. Like a CHECK, null passes. */
export const customSql = (name: string, sql: string, tolerance: RowTolerance = {}): TableExpectation<never> =>
  table({ kind: 'customSql', name, sql, ...tolerance });

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

/** Expectations held against the columns that they are written for: a name or a kind that does not fit is a type error. */
export type TypedExpectationLists<Columns extends Readonly<Record<string, ColumnType>>> = {
  readonly [Name in keyof Columns]?: readonly ColumnExpectation<Columns[Name]>[];
} & { readonly table?: readonly TableExpectation<Extract<keyof Columns, string>>[] };

/**
 * A suite that says the columns and their types first: each is expected to be there with its type, and what is expected of it has to
 * go with that type, which the compiler checks.
 *
 * @example typedExpectations({ delay: 'integer', origin: 'string' })({ delay: [between(-1500, 3000)], origin: [lengthBetween(3, 3)] })
 */
export const typedExpectations =
  <const Columns extends Readonly<Record<string, ColumnType>>>(columns: Columns) =>
  (lists: TypedExpectationLists<Columns>): Expectations => {
    const { table: ofTheTable = [], ...given } = lists as Readonly<Record<string, readonly { readonly rule: Readonly<Record<string, unknown>> }[] | undefined>>;
    const rules = [
      { kind: 'columnsExist', columns: Object.keys(columns) },
      ...ofTheTable.map(({ rule }) => rule),
      ...Object.entries(columns).flatMap(([name, type]) => [
        { kind: 'type', type, column: name },
        ...(given[name] ?? []).map(({ rule }) => ({ ...rule, column: name })),
      ]),
    ];
    return ExpectationsSchema.parse({ format: 'millrace-expectations/1', expectations: rules });
  };
