/** An endpoint's logs as relations of DuckDB, whichever files they lie in. */
import type { LogSegment } from './prediction-segments.ts';
import { listLiteral, textLiteral } from './sql-text.ts';

/** Column → [type in lines, expression that makes the column of it]. */
type LogColumns = Readonly<Record<string, readonly [string, string?]>>;

const instantOf = (column: string): readonly [string, string] => ['VARCHAR', `TRY_CAST("${column}" AS TIMESTAMP)`];

const PREDICTIONS: LogColumns = {
  requestId: ['VARCHAR'],
  row: ['BIGINT'],
  at: instantOf('at'),
  model: ['VARCHAR'],
  version: ['BIGINT'],
  challenger: ['BOOLEAN'],
  shadow: ['BOOLEAN', 'coalesce(shadow, false)'],
  inputs: ['JSON'],
  output: ['DOUBLE[]'],
  action: ['VARCHAR'],
  propensity: ['DOUBLE'],
  explored: ['BOOLEAN'],
  review: ['VARCHAR'],
  key: ['VARCHAR'],
  latencyMs: ['DOUBLE'],
};

const FEEDBACK: LogColumns = {
  requestId: ['VARCHAR'],
  row: ['BIGINT'],
  label: ['JSON'],
  outcome: ['VARCHAR'],
  value: ['DOUBLE'],
  happenedAt: instantOf('happenedAt'),
  at: instantOf('at'),
};

/** Longest line: the longest body that the prediction server takes, and what the log adds. */
const LONGEST_LINE_BYTES = 17 * 1024 ** 2;

/** Lines of predictions. A line that is not whole, or names no request, row and time, is left out. */
const PREDICTION_ROWS = `requestId IS NOT NULL AND "row" IS NOT NULL AND "at" IS NOT NULL AND json_type(inputs) = 'OBJECT'`;
const FEEDBACK_ROWS = `requestId IS NOT NULL AND "row" IS NOT NULL AND (coalesce(json_type(label), 'NULL') <> 'NULL' OR (outcome IS NOT NULL AND value IS NOT NULL))`;

/** The predictions of these segments: columns as `PredictionRecord`, `at` an instant. At least one segment. */
export const predictionRelation = (segments: readonly LogSegment[]): string => relation(segments, PREDICTIONS, PREDICTION_ROWS);

/** Labels and outcomes of these segments: columns as `FeedbackRecord` and `OutcomeRecord`. At least one segment. */
export const feedbackRelation = (segments: readonly LogSegment[]): string => relation(segments, FEEDBACK, FEEDBACK_ROWS);

function relation(segments: readonly LogSegment[], columns: LogColumns, where: string): string {
  const names = Object.keys(columns).map((name) => `"${name}"`);
  const pathsOf = (format: LogSegment['format']): readonly string[] => segments.flatMap((s) => (s.format === format ? [textLiteral(s.path)] : []));
  const [lines, files] = [pathsOf('jsonl'), pathsOf('parquet')];
  const parts = [
    ...(lines.length === 0
      ? []
      : [
          // values are read as they are typed here, whatever the first lines look like
          `SELECT ${Object.entries(columns)
            .map(([name, [, sql]]) => (sql === undefined ? `"${name}"` : `${sql} AS "${name}"`))
            .join(
              ', ',
            )} FROM read_json(${listLiteral(lines)}, format = 'newline_delimited', ignore_errors = true, maximum_object_size = ${LONGEST_LINE_BYTES}, columns = {${Object.entries(
            columns,
          )
            .map(([name, [type]]) => `"${name}": '${type}'`)
            .join(', ')}})`,
        ]),
    ...(files.length === 0 ? [] : [`SELECT ${names.join(', ')} FROM read_parquet(${listLiteral(files)}, union_by_name = true)`]),
  ];
  return `(SELECT * FROM (${parts.join(' UNION ALL ')}) WHERE ${where})`;
}
