/**
 * One window of an endpoint's predictions in DuckDB, with what came of them.
 *
 * Invariants:
 * 1. Lines are parsed once; raw columns are typed once, as lines are read. Of a large log the inputs themselves are kept of a share of the
 *    rows alone, those of the least hashes: a sample is drawn among these, and where they are too few the log is read once more.
 * 2. Of a request's row that was logged twice the last prediction counts; shadows are left out.
 * 3. Of labels, and of outcomes of one name, the one that came last counts; those that name no row of the window are left out.
 * 4. A value that is not of its column's type is missing.
 */
import { stat } from 'node:fs/promises';
import type { Column, RawTable } from '../contracts/columns.ts';
import { type DuckDb, toCount, toNumber, toText } from './duckdb.ts';
import { feedbackRelation, predictionRelation } from './log-relations.ts';
import type { LogSegment } from './prediction-segments.ts';
import { copyNumbers, openPartReader } from './read-columns.ts';
import { DUCKDB_TYPE, identifier, listLiteral, textLiteral } from './sql-text.ts';

export interface MonitorRowsInput {
  readonly segments: readonly LogSegment[];
  /** Labels and outcomes; those received at `feedbackUntil` or later are left out. */
  readonly feedback: readonly LogSegment[];
  readonly feedbackUntil: string;
  readonly model: string;
  readonly version: number;
  /** [from, to), UTC ISO. */
  readonly from: string;
  readonly to: string;
  /** Raw columns that are read, typed. */
  readonly columns: readonly Column[];
  /** Of what `sample` draws. */
  readonly seed: number;
  /** Of a log of more bytes not all inputs are kept. Default 32 MiB. */
  readonly keptBytes?: number;
}

export interface OutcomeFigures {
  readonly rows: number;
  readonly sum: number;
  readonly mean: number;
  /** Of the sample; null of one value. */
  readonly deviation: number | null;
}

export interface SampledRow {
  readonly requestId: string;
  readonly row: number;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly output: readonly number[];
}

export interface MonitorRows {
  readonly rows: number;
  readonly otherVersions: number;
  readonly repeated: number;
  /** Labels that another one of the same row followed. */
  readonly relabelled: number;
  readonly labelled: number;
  /** Length of the longest answer. */
  readonly width: number;
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
  readonly outcomes: Readonly<Record<string, OutcomeFigures>>;
  /** The labelled rows in order of time: texts of the labels as codes, each output, and those of the raw columns that have these names. */
  labelledRows(columns: readonly string[]): Promise<{
    readonly labels: { readonly codes: Int32Array; readonly dictionary: readonly string[] };
    readonly answers: Float64Array;
    readonly table: RawTable;
  }>;
  /** One output of every row; NaN where it is no number. `greatest`: the greatest of all. `inOrder`: of time. */
  scores(output: number | 'greatest', options?: { readonly inOrder: boolean }): Promise<Float64Array>;
  /** Rows drawn by the seed among those that were logged with all of these columns. The relation has their raw columns, in the same order. */
  sample(options: {
    readonly rows: number;
    readonly carrying: readonly string[];
  }): Promise<{ readonly rows: readonly SampledRow[]; readonly relation: (columns: readonly Column[]) => string }>;
  /** Writes the raw columns and the answers (`ANSWERS`) as a Parquet file. @returns the columns that no request has, not even as null */
  write(path: string): Promise<readonly string[]>;
  /** Gives back what the window takes in the database. */
  close(): Promise<void>;
}

/** Column of what the model answered, a list, in the file that `write` makes. */
export const ANSWERS = 'millrace_answers';

const ROWS = 'millrace_window';
/** Of a request's row that was logged more than once. */
const LAST = 'row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC, CAST(output AS VARCHAR)) = 1';
const LABELLED = 'millrace_labelled';
const SAMPLE = 'millrace_sample';
const instant = (at: string): string => `CAST(${textLiteral(at)} AS TIMESTAMP)`;
/** Of an answer: JSON has no NaN. */
const listText = (sql: string): string => `CAST(to_json(list_transform(${sql}, lambda x: CASE WHEN isfinite(x) THEN x END)) AS VARCHAR)`;
const path = (name: string): string => textLiteral(`$."${name.replaceAll('"', '\\"')}"`);

const KEPT_BYTES = 32 * 1024 ** 2;
/** One row of so many has its inputs kept where the log is larger. */
const KEPT_SHARE = 16;

/** Raw columns out of the logged inputs, typed. */
const typedRelation = (relation: string, columns: readonly Column[]): string =>
  columns.length === 0
    ? `(SELECT 1 AS millrace_one FROM ${relation})`
    : `(SELECT ${columns.map(({ name, type }, index) => `${typedValue(`e[${index + 1}]`, type)} AS ${identifier(name)}`).join(', ')} FROM (SELECT ${extracted(columns)} AS e FROM ${relation}))`;

/** All at once: a line's inputs are parsed once. */
const extracted = (columns: readonly Column[]): string => `json_extract_string(inputs, ${listLiteral(columns.map(({ name }) => path(name)))})`;

function typedValue(sql: string, type: Column['type']): string {
  if (type === 'string') return sql;
  const value = `TRY_CAST(${sql} AS ${DUCKDB_TYPE[type]})`;
  return type === 'number' ? `CASE WHEN isfinite(${value}) THEN ${value} END` : value;
}

/** Null where nothing was logged in the window. */
export async function openMonitorRows(db: DuckDb, input: MonitorRowsInput): Promise<MonitorRows | null> {
  const { segments, feedback, feedbackUntil, model, version, from, to, columns, seed } = input;
  if (segments.length === 0) return null;
  const isOwn = `model = ${textLiteral(model)} AND version = ${version}`;
  const logged = `${predictionRelation(segments)} WHERE NOT shadow AND "at" >= ${instant(from)} AND "at" < ${instant(to)}`;
  const keepsAll = (await bytesOf(segments)) <= (input.keptBytes ?? KEPT_BYTES);
  const drawn = `hash(requestId, "row", ${seed})`;
  const isKept = keepsAll ? 'own' : `own AND ${drawn} < ${2n ** 64n / BigInt(KEPT_SHARE)}::UBIGINT`;
  const typed = columns.map(({ type }, index) => `, ${typedValue(`e[${index + 1}]`, type)} AS c${index}`).join('');
  const parsed = columns.length === 0 ? '' : `, CASE WHEN own THEN ${extracted(columns)} END AS e`;
  await db.run(
    `CREATE TEMPORARY TABLE millrace_logged AS SELECT requestId, "row", "at", output, latencyMs, own, CASE WHEN ${isKept} THEN inputs END AS inputs${typed} FROM (SELECT *${parsed} FROM (SELECT requestId, "row", "at", inputs, output, latencyMs, ${isOwn} AS own FROM ${logged}))`,
  );
  const { n, own, unlike } = await db.row(
    'SELECT count(*) AS n, count(*) FILTER (WHERE own) AS own, count(DISTINCT hash(requestId, "row")) FILTER (WHERE own) AS unlike FROM millrace_logged',
  );
  if (toCount(n) === 0) return null;
  const repeated = toCount(own) - toCount(unlike);
  const once = repeated === 0 ? '' : ` QUALIFY ${LAST}`;
  // a view that looks for the last ones would look anew at each use
  await db.run(`CREATE TEMPORARY ${repeated === 0 ? 'VIEW' : 'TABLE'} ${ROWS} AS SELECT rowid AS millrace_id, * FROM millrace_logged WHERE own${once}`);
  /** The rows with all of their inputs. */
  const whole = keepsAll ? ROWS : `(SELECT requestId, "row", inputs, output FROM ${logged} AND ${isOwn}${once})`;
  const { labelled, relabelled } = await joinLabels(db, feedback, feedbackUntil);
  const figures = await db.row(
    `SELECT n, width, p[1] AS p50, p[2] AS p95, p[3] AS p99 FROM (SELECT count(*) AS n, max(len(output)) AS width, quantile_cont(latencyMs, [0.5, 0.95, 0.99]) AS p FROM ${ROWS})`,
  );
  const [p50, p95, p99] = [toNumber(figures['p50']), toNumber(figures['p95']), toNumber(figures['p99'])];
  const width = toCount(figures['width']);
  const rows = toCount(figures['n']);
  return {
    rows,
    otherVersions: toCount(n) - toCount(own),
    repeated,
    relabelled,
    labelled,
    width,
    latencyMs: p50 === null || p95 === null || p99 === null ? null : { p50, p95, p99 },
    outcomes: await outcomesOf(db, feedback, feedbackUntil),
    async labelledRows(names) {
      const outputs = Array.from({ length: width }, (_, index): Column => ({ name: `millrace_output_${index}`, type: 'number' }));
      const own: readonly Column[] = [{ name: 'millrace_label', type: 'string' }, ...outputs];
      const taken = new Set([...own.map(({ name }) => name), 'millrace_at', 'millrace_tie']);
      const asked = columns.filter(({ name }) => names.includes(name) && !taken.has(name));
      const kept = ['millrace_label', ...outputs.map(({ name }, index) => `coalesce(l.output[${index + 1}], 'nan'::DOUBLE) AS ${name}`)];
      const raw = asked.map((column) => `w.c${columns.indexOf(column)} AS ${identifier(column.name)}`);
      // the labelled rows are kept without their raw columns
      const relation = `(SELECT ${[...kept, ...raw].join(', ')}, l."at" AS millrace_at, tie AS millrace_tie FROM ${LABELLED} l${asked.length === 0 ? '' : ` JOIN ${ROWS} w USING (millrace_id)`})`;
      const read = await openPartReader(db, relation, [...own, ...asked], labelled);
      const table = await read(`(SELECT * FROM ${relation} ORDER BY millrace_at, millrace_tie)`);
      const label = table.columns.get('millrace_label');
      const answers = new Float64Array(labelled * width);
      outputs.forEach(({ name }, k) => {
        const column = table.columns.get(name);
        if (column === undefined || column.kind === 'string') return;
        for (let row = 0; row < column.values.length; row++) answers[row * width + k] = column.values[row] as number;
      });
      return {
        labels: label?.kind === 'string' ? label : { codes: new Int32Array(0), dictionary: [] },
        answers,
        table: { rows: table.rows, columns: new Map(asked.flatMap(({ name }) => (table.columns.has(name) ? [[name, table.columns.get(name) as never]] : []))) },
      };
    },
    async scores(output, { inOrder } = { inOrder: false }) {
      const value = output === 'greatest' ? 'list_max(output)' : `output[${output + 1}]`;
      const chunks = await db.whole(`SELECT coalesce(${value}, 'nan'::DOUBLE) AS v FROM ${ROWS}${inOrder ? ' ORDER BY "at", requestId, "row"' : ''}`);
      const found = new Float64Array(rows);
      let at = 0;
      for (const chunk of chunks) {
        copyNumbers(chunk, 0, found, at);
        at += chunk.rowCount;
      }
      return found;
    },
    async sample({ rows: most, carrying }) {
      const draw = async (relation: string) => {
        await db.run(
          `CREATE OR REPLACE TEMPORARY TABLE ${SAMPLE} AS SELECT requestId, "row", inputs, output FROM ${relation} WHERE list_has_all(json_keys(inputs), ${listLiteral(carrying.map(textLiteral))}) ORDER BY ${drawn}, requestId, "row" LIMIT ${most}`,
        );
        return db.rows(`SELECT requestId, "row" AS r, CAST(inputs AS VARCHAR) AS i, ${listText('output')} AS o FROM ${SAMPLE}`);
      };
      const kept = await draw(`(SELECT * FROM ${ROWS} WHERE inputs IS NOT NULL)`);
      const found = keepsAll || kept.length === most ? kept : await draw(whole);
      return {
        rows: found.map(({ requestId, r, i, o }) => ({
          requestId: toText(requestId ?? null) ?? '',
          row: toCount(r),
          inputs: JSON.parse(toText(i ?? null) ?? '{}') as Record<string, unknown>,
          output: (JSON.parse(toText(o ?? null) ?? '[]') as readonly (number | null)[]).map((value) => value ?? Number.NaN),
        })),
        relation: (columns) => typedRelation(SAMPLE, columns),
      };
    },
    async write(file) {
      const list = [`output AS ${ANSWERS}`, ...columns.map(({ name }, index) => `c${index} AS ${identifier(name)}`)];
      await db.run(`COPY (SELECT ${list.join(', ')} FROM ${ROWS}) TO ${textLiteral(file)} (FORMAT parquet)`);
      if (columns.length === 0) return [];
      const counted = await db.row(`SELECT ${columns.map((_, at) => `count(c${at}) AS c${at}`).join(', ')} FROM ${ROWS}`);
      const silent = columns.filter((_, at) => toCount(counted[`c${at}`]) === 0);
      if (silent.length === 0) return [];
      // null in every request, or not sent at all: the one is a column of missing values, the other none
      const sent = await db.row(`SELECT ${silent.map(({ name }, at) => `bool_or(json_exists(inputs, ${path(name)})) AS s${at}`).join(', ')} FROM ${whole}`);
      return silent.flatMap(({ name }, at) => (sent[`s${at}`] === true ? [] : [name]));
    },
    async close() {
      await db.run(`DROP ${repeated === 0 ? 'VIEW' : 'TABLE'} ${ROWS}`);
      for (const table of ['millrace_logged', LABELLED, SAMPLE]) await db.run(`DROP TABLE IF EXISTS ${table}`);
    },
  };
}

/** Of the files; one that is gone meanwhile is read by nobody. */
async function bytesOf(segments: readonly LogSegment[]): Promise<number> {
  const sizes = await Promise.all(segments.map(async ({ path: file }) => (await stat(file).catch(() => undefined))?.size ?? 0));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Makes the table of the rows that have a label. */
async function joinLabels(db: DuckDb, feedback: readonly LogSegment[], until: string): Promise<{ readonly labelled: number; readonly relabelled: number }> {
  if (feedback.length === 0) return { labelled: 0, relabelled: 0 };
  const given = `SELECT requestId, "row", label, "at" FROM ${feedbackRelation(feedback)} WHERE label IS NOT NULL AND coalesce("at" < ${instant(until)}, true)`;
  const join = (once: string): string =>
    `CREATE OR REPLACE TEMPORARY TABLE ${LABELLED} AS SELECT millrace_id, hash(w.requestId, w."row") AS tie, w."at", w.output, json_extract_string(l.label, '$') AS millrace_label FROM ${ROWS} w JOIN (${given}) l ON l.requestId = w.requestId AND l."row" = w."row"${once}`;
  await db.run(join(''));
  const { n, unlike } = await db.row(`SELECT count(*) AS n, count(DISTINCT millrace_id) AS unlike FROM ${LABELLED}`);
  const [all, labelled] = [toCount(n), toCount(unlike)];
  if (all > labelled) await db.run(join(' QUALIFY row_number() OVER (PARTITION BY millrace_id ORDER BY l."at" DESC NULLS LAST, CAST(l.label AS VARCHAR)) = 1'));
  return { labelled, relabelled: all - labelled };
}

async function outcomesOf(db: DuckDb, feedback: readonly LogSegment[], until: string): Promise<Record<string, OutcomeFigures>> {
  if (feedback.length === 0) return {};
  const last = `SELECT requestId, "row", outcome, value FROM ${feedbackRelation(feedback)} WHERE outcome IS NOT NULL AND isfinite(value) AND coalesce("at" < ${instant(until)}, true) QUALIFY row_number() OVER (PARTITION BY requestId, "row", outcome ORDER BY "at" DESC NULLS LAST, happenedAt DESC NULLS LAST, value) = 1`;
  const found = await db.rows(
    `SELECT outcome, count(*) AS n, sum(value) AS s, avg(value) AS m, stddev_samp(value) AS d FROM (${last}) SEMI JOIN ${ROWS} USING (requestId, "row") GROUP BY outcome ORDER BY outcome LIMIT 200`,
  );
  return Object.fromEntries(
    found.map(({ outcome, n, s, m, d }) => [toText(outcome ?? null) ?? '', { rows: toCount(n), sum: toCount(s), mean: toCount(m), deviation: toNumber(d) }]),
  );
}

/**
 * Labels that came in [from, until) for predictions of this version, with the answers that they are about, in the order in which they came.
 * A row's second label is not told again.
 */
export async function arrivedLabels(
  db: DuckDb,
  {
    segments,
    feedback,
    model,
    version,
    from,
    until,
  }: Pick<MonitorRowsInput, 'segments' | 'feedback' | 'model' | 'version' | 'from'> & { readonly until: string },
): Promise<readonly { readonly label: string; readonly output: readonly number[] }[]> {
  if (segments.length === 0 || feedback.length === 0) return [];
  const first = `SELECT requestId, "row", label, "at" FROM ${feedbackRelation(feedback)} WHERE label IS NOT NULL QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" NULLS FIRST, CAST(label AS VARCHAR)) = 1`;
  const rows = await db.rows(
    `SELECT json_extract_string(l.label, '$') AS label, ${listText('p.output')} AS o FROM (${first}) l JOIN (SELECT requestId, "row", output FROM ${predictionRelation(segments)} WHERE NOT shadow AND model = ${textLiteral(model)} AND version = ${version} QUALIFY row_number() OVER (PARTITION BY requestId, "row" ORDER BY "at" DESC) = 1) p ON p.requestId = l.requestId AND p."row" = l."row" WHERE l."at" >= ${instant(from)} AND l."at" < ${instant(until)} ORDER BY l."at", l.requestId, l."row"`,
  );
  return rows.map(({ label, o }) => ({
    label: toText(label ?? null) ?? '',
    output: (JSON.parse(toText(o ?? null) ?? '[]') as readonly (number | null)[]).map((value) => value ?? Number.NaN),
  }));
}

/** Where a window of so many rows ends that begins at `from`: just after its last row's time, which further rows may share. Null: there are fewer until then. */
export async function windowEnd(
  db: DuckDb,
  {
    segments,
    model,
    version,
    from,
    until,
    rows,
  }: Pick<MonitorRowsInput, 'segments' | 'model' | 'version' | 'from'> & { readonly until: string; readonly rows: number },
): Promise<string | null> {
  if (segments.length === 0) return null;
  const [last] = await db.rows(
    `SELECT epoch_ms("at") AS t FROM ${predictionRelation(segments)} WHERE NOT shadow AND model = ${textLiteral(model)} AND version = ${version} AND "at" >= ${instant(from)} AND "at" < ${instant(until)} ORDER BY "at" LIMIT 1 OFFSET ${rows - 1}`,
  );
  return last === undefined ? null : new Date(toCount(last['t']) + 1).toISOString();
}

/** Of each window how many labels and outcomes came at `since` or later, and before `until`, for its predictions. */
export async function feedbackByWindow(
  db: DuckDb,
  input: Pick<MonitorRowsInput, 'segments' | 'feedback'> & {
    readonly until: string;
    readonly windows: readonly { readonly from: string; readonly to: string; readonly since: string }[];
  },
): Promise<readonly number[]> {
  const { segments, feedback, until, windows } = input;
  if (windows.length === 0 || segments.length === 0 || feedback.length === 0) return windows.map(() => 0);
  const earliest = windows.reduce((least, { since }) => (since < least ? since : least), windows[0]?.since ?? '');
  const counts = windows.map(
    ({ from, to, since }, index) =>
      `count(*) FILTER (WHERE p."at" >= ${instant(from)} AND p."at" < ${instant(to)} AND f."at" >= ${instant(since)}) AS n${index}`,
  );
  const row = await db.row(
    `SELECT ${counts.join(', ')} FROM (SELECT requestId, "row", "at" FROM ${feedbackRelation(feedback)} WHERE "at" >= ${instant(earliest)} AND "at" < ${instant(until)}) f JOIN (SELECT requestId, "row", "at" FROM ${predictionRelation(segments)} WHERE NOT shadow) p ON p.requestId = f.requestId AND p."row" = f."row"`,
  );
  return windows.map((_, index) => toCount(row[`n${index}`]));
}
