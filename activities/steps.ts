import type { DataFrame } from 'danfojs-node';
import type { ColumnType } from '../contracts/columns.ts';
import type { DatasetRef } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';

export { call, col, drop, hashed, rename, set } from '../contracts/row-transforms.ts';

/**
 * What `steps.ts` of a pipeline imports from `millrace/steps`: a person's own steps. They run on a pool, outside the
 * workflow; snapshot, lineage, cache and retries come with them.
 */
const STEP = Symbol.for('millrace.step');

export interface StepContext {
  readonly runId: string;
  readonly pipeline: string;
  /** Fires when the run is cancelled. */
  readonly signal: AbortSignal;
  /** A sign of life, and what people see: fraction done (0 … 1, or null) and a line. Call it in long work. */
  readonly progress: (fraction: number | null, message: string) => void;
}

/** The dataset as a view in DuckDB. */
export interface Relation {
  /** Name of the view, for the query that the step returns. */
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
}

/** What a step on a dataset may say of itself. */
export interface DatasetStepOptions<Parameters> {
  /**
   * The step's counterpart when a model is served: row transforms that do to one request's row what the step does to the
   * dataset's columns. Held against what the step gives; where they differ the step fails. A column that the step makes
   * or changes without one cannot be read by a model that is registered.
   */
  readonly serving?: readonly RowTransform[] | ((parameters: Parameters) => readonly RowTransform[]);
}

type Serving = readonly RowTransform[] | ((parameters: never) => readonly RowTransform[]);
type StepRun =
  | {
      readonly kind: 'frame';
      readonly run: (frame: DataFrame, parameters: never, context: StepContext) => DataFrame | Promise<DataFrame>;
      readonly serving: Serving;
    }
  | {
      readonly kind: 'relation';
      readonly run: (relation: Relation, parameters: never, context: StepContext) => string | Promise<string>;
      readonly serving: Serving;
    }
  | { readonly kind: 'value'; readonly run: (...args: never[]) => unknown }
  | {
      readonly kind: 'rows';
      readonly run: (parameters: never, context: RowsContext) => Iterable<SourceRow> | AsyncIterable<SourceRow>;
      readonly types: Readonly<Record<string, ColumnType>>;
    }
  | {
      readonly kind: 'metric';
      readonly run: (
        rows: Iterable<EvaluatedRow>,
        parameters: never,
        context: StepContext,
      ) => Readonly<Record<string, number>> | Promise<Readonly<Record<string, number>>>;
    };

/** A row that a model has answered: its target, the answer, and the columns that were asked for. Times are ISO texts. */
export interface EvaluatedRow {
  /** Text of the class, or the value. */
  readonly target: string | number | null;
  /** What the model answers: the text of a class, or a value. */
  readonly prediction: string | number | null;
  /** Probability of the positive class (of several classes: of the answered one), or the value. */
  readonly score: number;
  readonly [column: string]: string | number | null;
}

/** What a step that yields rows is told. */
export interface RowsContext extends StepContext {
  /** Of an incremental ingest: rows at or below are known, and are left out when they come. Null when all are asked for. */
  readonly above: { readonly column: string; readonly value: string } | null;
}

/** One row: column → value. What is missing is null, undefined or not there. */
export type SourceRow = Readonly<Record<string, string | number | bigint | boolean | Date | null | undefined>>;

/** A step that is a source, through `rows<typeof mySteps>()`. */
export interface RowsStep<Parameters> {
  readonly [STEP]: StepRun;
  /** Never set: carries the types. */
  readonly types?: { readonly rows: (parameters: Parameters) => void };
}

/** A step that turns judged rows into figures, through `businessMetrics<typeof mySteps>()`. */
export interface MetricStep<Parameters> {
  readonly [STEP]: StepRun;
  /** Never set: carries the types. */
  readonly types?: { readonly metric: (parameters: Parameters) => void };
}

/** A step as the workflow calls it, through `steps<typeof mySteps>()`. */
export interface Step<Args extends readonly unknown[], Output> {
  readonly [STEP]: StepRun;
  /** Never set: carries the types. */
  readonly types?: { readonly args: Args; readonly output: Output };
}

/**
 * A step on a danfojs DataFrame. The whole dataset is in memory: for more than a few million rows use `relationStep`.
 *
 * @example export const addHolidays = frameStep((frame, { country }: { country: string }) => …);
 */
export function frameStep<Parameters extends object = Record<string, never>>(
  run: (frame: DataFrame, parameters: Parameters, context: StepContext) => DataFrame | Promise<DataFrame>,
  options: DatasetStepOptions<Parameters> = {},
): Step<[dataset: DatasetRef, parameters?: Parameters], DatasetRef> {
  return { [STEP]: { kind: 'frame', run, serving: options.serving ?? [] } };
}

/**
 * A step in SQL: gets the name of a DuckDB view of the dataset and gives back the query whose rows are the new dataset.
 * Memory does not grow with the data.
 *
 * @example export const busyAirports = relationStep(({ name }) => `SELECT * FROM ${name} WHERE origin IN ('ORD', 'ATL')`);
 */
export function relationStep<Parameters extends object = Record<string, never>>(
  run: (relation: Relation, parameters: Parameters, context: StepContext) => string | Promise<string>,
  options: DatasetStepOptions<Parameters> = {},
): Step<[dataset: DatasetRef, parameters?: Parameters], DatasetRef> {
  return { [STEP]: { kind: 'relation', run, serving: options.serving ?? [] } };
}

/** A step of any kind: JSON in, JSON out; for data hand on references. */
export function valueStep<Args extends readonly unknown[], Output>(run: (...args: Args) => Output | Promise<Output>): Step<Args, Output> {
  return { [STEP]: { kind: 'value', run } };
}

/**
 * A source of your own: an iterator of rows, such as the pages of an API. Memory does not grow with the rows. A column's
 * type is that of its values in the first rows (numbers are `number`, bigints `integer`, Dates `timestamp`), or the one
 * that `types` states; a later value of another type is refused with its row and column.
 *
 * @example export const orders = rowsStep(async function* ({ since }: { since: string }) { yield { id: 1n, at: new Date() }; });
 */
export function rowsStep<Parameters extends object = Record<string, never>>(
  run: (parameters: Parameters, context: RowsContext) => Iterable<SourceRow> | AsyncIterable<SourceRow>,
  options: { readonly types?: Readonly<Record<string, ColumnType>> } = {},
): RowsStep<Parameters> {
  return { [STEP]: { kind: 'rows', run, types: options.types ?? {} } };
}

/**
 * Figures of your own for an evaluation: gets every judged row, one by one, and gives an object of numbers. They stand in
 * the report as `business.NAME`, and acceptance rules may bound them.
 *
 * @example export const profit = metricStep((rows, { perCall }: { perCall: number }) => { let total = 0; for (const row of rows) …; return { profit: total }; });
 */
export function metricStep<Parameters extends object = Record<string, never>>(
  run: (
    rows: Iterable<EvaluatedRow>,
    parameters: Parameters,
    context: StepContext,
  ) => Readonly<Record<string, number>> | Promise<Readonly<Record<string, number>>>,
): MetricStep<Parameters> {
  return { [STEP]: { kind: 'metric', run } };
}

export function isStep(value: unknown): value is Step<readonly unknown[], unknown> {
  return typeof value === 'object' && value !== null && STEP in value;
}

export const stepRun = (step: Step<readonly unknown[], unknown>): StepRun => step[STEP];
