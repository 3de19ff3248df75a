/**
 * What an endpoint was asked and answered, joined with the labels and outcomes that came since.
 *
 * Invariants:
 * 1. One row a (request, row): of predictions under one id the last one counts, and of labels and of outcomes of one name too.
 * 2. A label or outcome of a request that this endpoint did not answer is left out; a line that is not whole is left out.
 * 3. Rows are ordered by time, request and row, so that the same logs give the same rows on any machine.
 */
import { MillraceError } from '../contracts/errors.ts';
import type { Source } from '../contracts/source.ts';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { type DuckDb, toCount, toText } from './duckdb.ts';
import { feedbackRelation, predictionRelation } from './log-relations.ts';
import { feedbackSegments, type LogSegment, predictionSegments } from './prediction-segments.ts';
import { notGiven, type SourceAccess } from './source-access.ts';
import type { SourceRelation } from './source-relation.ts';
import { DUCKDB_TYPE, identifier, textLiteral } from './sql-text.ts';

export type PredictionsSource = Source & { format: 'predictions' };

const LINES = 'millrace_predictions';
const LABELS = 'millrace_labels';
const OUTCOMES = 'millrace_outcomes';
const JOINED = 'millrace_prediction_rows';

/** @throws MillraceError SOURCE_EMPTY where nothing was logged */
export async function openPredictions(db: DuckDb, source: PredictionsSource, access: SourceAccess): Promise<SourceRelation> {
  if (access.home === undefined) throw notGiven('the state folder');
  const { endpoint, from, to, labelled } = source;
  const segments = await predictionSegments(access.home, endpoint, from ?? EARLIEST);
  if (segments.length === 0) throw none(source);
  // `at` is compared as an instant: a window may be given with other digits than the log has. What ran beside the champion answered nobody.
  const where = [
    'NOT shadow',
    ...(from === undefined ? [] : [`"at" >= CAST(${textLiteral(from)} AS TIMESTAMP)`]),
    ...(to === undefined ? [] : [`"at" < CAST(${textLiteral(to)} AS TIMESTAMP)`]),
  ].join(' AND ');
  const last = `SELECT requestId, "row", "at", model, version, inputs, output, action, propensity, explored FROM ${predictionRelation(segments)} WHERE ${where} QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC, version DESC, CAST(inputs AS VARCHAR), CAST(output AS VARCHAR)) = 1`;
  await readFeedback(db, await feedbackSegments(access.home, endpoint, from ?? EARLIEST));
  await db.run(`CREATE TEMPORARY TABLE ${LINES} AS ${last}`);
  const outcomes = await outcomeNames(db);
  const outcome = (name: string): string => `FILTER (WHERE outcome = ${textLiteral(name)})`;
  const pivot =
    outcomes.length === 0
      ? ''
      : ` LEFT JOIN (SELECT requestId AS r, "row" AS w, ${outcomes.map((name, index) => `max(value) ${outcome(name)} AS v${index}, max(happenedAt) ${outcome(name)} AS t${index}`).join(', ')} FROM ${OUTCOMES} GROUP BY requestId, "row") o ON o.r = p.requestId AND o.w = p."row"`;
  await db.run(
    `CREATE TEMPORARY TABLE ${JOINED} AS SELECT p.*, l.label AS label, l."at" AS labelledAt${outcomes.map((_, index) => `, v${index}, t${index}`).join('')} FROM ${LINES} p ${labelled ? 'JOIN' : 'LEFT JOIN'} ${LABELS} l ON l.requestId = p.requestId AND l."row" = p."row"${pivot} ORDER BY p."at", p.requestId, p."row"`,
  );
  const { n, widest, decided } = await db.row(`SELECT count(*) AS n, max(len(output)) AS widest, count(action) AS decided FROM ${JOINED}`);
  if (toCount(n) === 0) throw none(source);
  const inputs = await inputColumns(db, (await access.inputTypes?.(endpoint)) ?? new Map());
  const taken = new Set(inputs.map(({ name }) => name.toLowerCase()));
  const own: readonly (readonly [string, ColumnType, string])[] = [
    ...outputColumns(toCount(widest)),
    ['label', ...(await labelColumn(db))],
    ['requestId', 'string', 'requestId'],
    ['row', 'integer', '"row"'],
    ['at', 'timestamp', '"at"'],
    ['model', 'string', 'model'],
    ['version', 'integer', 'version'],
    ['labelledAt', 'timestamp', 'labelledAt'],
    ...(toCount(decided) === 0 ? [] : DECISION_COLUMNS),
    ...outcomes.flatMap((name, index): (readonly [string, ColumnType, string])[] => [
      [`outcome_${name}`, 'number', `CASE WHEN isfinite(v${index}) THEN v${index} END`],
      [`outcome_${name}_at`, 'timestamp', `t${index}`],
    ]),
  ];
  const ownColumns = own.map(([name, type, sql]) => ({ name: taken.has(name.toLowerCase()) ? `millrace_${name}` : name, type, sql }));
  const columns = [...inputs, ...ownColumns];
  return {
    sql: `(SELECT ${columns.map(({ name, sql }) => `${sql} AS ${identifier(name)}`).join(', ')} FROM ${JOINED})`,
    columns: columns.map(({ name, type }) => ({ name, type })),
  };
}

const DECISION_COLUMNS: readonly (readonly [string, ColumnType, string])[] = [
  ['action', 'string', 'action'],
  ['propensity', 'number', 'propensity'],
  ['explored', 'boolean', 'explored'],
];

/** Of labels, and of outcomes of one name, the one that came last counts. */
async function readFeedback(db: DuckDb, segments: readonly LogSegment[]): Promise<void> {
  if (segments.length === 0) {
    await db.run(`CREATE TEMPORARY TABLE ${LABELS} (requestId VARCHAR, "row" BIGINT, label JSON, "at" TIMESTAMP)`);
    await db.run(`CREATE TEMPORARY TABLE ${OUTCOMES} (requestId VARCHAR, "row" BIGINT, outcome VARCHAR, value DOUBLE, happenedAt TIMESTAMP)`);
    return;
  }
  const given = feedbackRelation(segments);
  await db.run(
    `CREATE TEMPORARY TABLE ${LABELS} AS SELECT requestId, "row", label, "at" FROM ${given} WHERE label IS NOT NULL QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC NULLS LAST, CAST(label AS VARCHAR)) = 1`,
  );
  await db.run(
    `CREATE TEMPORARY TABLE ${OUTCOMES} AS SELECT requestId, "row", outcome, value, happenedAt FROM ${given} WHERE outcome IS NOT NULL QUALIFY row_number() OVER (PARTITION BY requestId, "row", outcome ORDER BY "at" DESC NULLS LAST, happenedAt DESC NULLS LAST, value) = 1`,
  );
}

/** A column each; so many are a mistake. */
const MOST_OUTCOMES = 200;

async function outcomeNames(db: DuckDb): Promise<readonly string[]> {
  const rows = await db.rows(
    `SELECT DISTINCT outcome AS name FROM ${OUTCOMES} SEMI JOIN ${LINES} USING (requestId, "row") ORDER BY name LIMIT ${MOST_OUTCOMES + 1}`,
  );
  if (rows.length > MOST_OUTCOMES)
    throw new MillraceError('SOURCE_MALFORMED', `The outcomes have more than ${MOST_OUTCOMES} names.`, {
      fix: 'Name outcomes after what they measure, not after whom they concern.',
    });
  return rows.flatMap(({ name }) => toText(name) ?? []);
}

const EARLIEST = '1970-01-01T00:00:00Z';

const none = ({ endpoint, from, to, labelled }: PredictionsSource): MillraceError =>
  new MillraceError(
    'SOURCE_EMPTY',
    `The endpoint ${endpoint} has logged no predictions${labelled ? ' that have a label' : ''}${from === undefined && to === undefined ? '' : ' in the window'}.`,
    {
      fix: 'Check the name and the window; the prediction server has to log on this machine (MILLRACE_HOME).',
    },
  );

/** One value a row is the prediction; several stay apart. */
function outputColumns(widest: number): readonly (readonly [string, ColumnType, string])[] {
  if (widest <= 1) return [['prediction', 'number', 'CASE WHEN isfinite(output[1]) THEN output[1] END']];
  return Array.from(
    { length: widest },
    (_, index) => [`prediction_${index}`, 'number', `CASE WHEN isfinite(output[${index + 1}]) THEN output[${index + 1}] END`] as const,
  );
}

interface SqlColumn extends Column {
  readonly sql: string;
}

const textOf = (json: string, key: string): string => `json_extract_string(${json}, ${textLiteral(`$."${key.replaceAll('"', '\\"')}"`)})`;

/** The inputs' columns in the order of their names; types as the model states them where all values have them, else as the values are. */
async function inputColumns(db: DuckDb, stated: ReadonlyMap<string, string>): Promise<readonly SqlColumn[]> {
  const { s } = await db.row(`SELECT CAST(json_group_structure(inputs) AS VARCHAR) AS s FROM ${JOINED}`);
  const structure = JSON.parse(typeof s === 'string' ? s : '{}') as Readonly<Record<string, unknown>>;
  const names = Object.keys(structure).sort();
  const lower = new Set(names.map((name) => name.toLowerCase()));
  if (lower.size < names.length) {
    const twice = names.filter((name, index) => names.some((other, at) => at !== index && other.toLowerCase() === name.toLowerCase()));
    throw new MillraceError('SOURCE_MALFORMED', `The logged inputs name columns that differ only in case: ${twice.join(', ')}.`);
  }
  const drafts = names.map((name) => {
    const type = (stated.get(name) as ColumnType | undefined) ?? typeOfStructure(structure[name]);
    return { name, type, text: textOf('inputs', name) };
  });
  // Where a value is not of the type, the column is text.
  const checks = drafts.map(
    ({ type, text }, index) => `count(*) FILTER (WHERE ${text} IS NOT NULL AND TRY_CAST(${text} AS ${DUCKDB_TYPE[type]}) IS NULL) AS n${index}`,
  );
  const misfits = checks.length === 0 ? {} : await db.row(`SELECT ${checks.join(', ')} FROM ${JOINED}`);
  return drafts.map(({ name, type: wanted, text }, index) => {
    const type = toCount(misfits[`n${index}`]) === 0 ? wanted : 'string';
    const value = type === 'string' ? text : `CAST(${text} AS ${DUCKDB_TYPE[type]})`;
    return { name, type, sql: type === 'number' ? `CASE WHEN isfinite(${value}) THEN ${value} END` : value };
  });
}

function typeOfStructure(structure: unknown): ColumnType {
  if (structure === 'UBIGINT' || structure === 'BIGINT') return 'integer';
  if (structure === 'DOUBLE') return 'number';
  return structure === 'BOOLEAN' ? 'boolean' : 'string';
}

async function labelColumn(db: DuckDb): Promise<readonly [ColumnType, string]> {
  const { s } = await db.row(`SELECT CAST(json_group_structure(label) AS VARCHAR) AS s FROM ${JOINED} WHERE label IS NOT NULL`);
  const type = typeOfStructure(typeof s === 'string' ? JSON.parse(s) : undefined);
  const text = "json_extract_string(label, '$')";
  return [type, type === 'string' ? text : `CAST(${text} AS ${DUCKDB_TYPE[type]})`];
}
