/**
 * How far recent rows have moved from a reference, column by column: a training profile, or rows (a snapshot's, or those of earlier windows).
 * What the figures are: ml/drift/two-samples.ts. What is decided from them: ml/drift/decide.ts.
 *
 * Invariants:
 * 1. A log is parsed once a call, and each column of it read once; only categories are read again, for the names of new ones.
 * 2. Instants are left out: time moves on by itself.
 */
import type { Column } from '../contracts/columns.ts';
import type { ColumnDrift, DriftReport, EvaluatedAnswers } from '../contracts/drift.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';
import { figuresOf, type MeasuredColumn } from './drift-figures.ts';
import { comparedCategories, countColumns, countFewRows, planColumn } from './drift-profile.ts';
import { compareCategories, compareNumbers, type Pair } from './drift-rows.ts';
import { isEmptySource, isNumeric, openRows, type OpenedRows, type RecentRows } from './drift-source.ts';
import { compareTexts, TEXT_DEFAULTS, type TextOptions } from './drift-texts.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';

/** Rows to compare with, and which columns of them. */
export interface ReferenceRows {
  readonly kind: 'rows';
  readonly rows: RecentRows;
  readonly columns: readonly Column[];
}

export interface DriftOptions extends DuckDbOptions {
  /** Default: all of the reference's. */
  readonly columns?: readonly string[];
  /** What the model answered (`output[0]` …) is compared too, with the answers of these rows or with what is known of them. Default: with those of reference rows that are a log, else not. */
  readonly outputs?: RecentRows | EvaluatedAnswers | false;
  /**
   * Text columns that are compared by their n-grams, where the reference is rows. Default: those of which more
   * than half of the reference's first 10,000 values are different ones, and more than 50.
   */
  readonly texts?: readonly string[];
  /** Default: words and pairs of words of 5,000 texts of each side. */
  readonly ngrams?: Partial<TextOptions>;
}

type Skipped = NonNullable<DriftReport['reasons']>[string];

/** Answers of a model with more outputs are too many columns to look at. */
const MOST_OUTPUTS = 20;
/** A column of more different values may be a free text; its first values say so. */
const LEAST_TEXTS = 50;
const SEEN_TEXTS = 10_000;
/** So many rows are counted here, more of them in DuckDB. */
const FEW_ROWS = 5_000;

/** The figures of every column that both sides have; none where one side has no rows. */
export async function measureDrift(recent: RecentRows, reference: Profile | ReferenceRows, options: DriftOptions = {}): Promise<DriftReport> {
  const isWanted = ({ name }: { readonly name: string }): boolean => options.columns?.includes(name) ?? true;
  const profiled = 'kind' in reference ? [] : reference.columns.filter(isWanted);
  const wanted: readonly Column[] = 'kind' in reference ? reference.columns.filter(isWanted) : profiled;
  const skipped = new Map<string, Skipped>();
  const report = (rows: number, referenceRows: number, columns: readonly ColumnDrift[]): DriftReport => ({
    rows,
    referenceRows,
    columns: [...columns].sort((a, b) => b.psi - a.psi || (a.column < b.column ? -1 : 1)),
    skipped: [...skipped.keys()],
    reasons: Object.fromEntries(skipped),
  });
  const skipAll = (): void => {
    for (const { name } of wanted) skipped.set(name, 'no rows');
  };
  if (isEmptySource(recent) || ('kind' in reference && isEmptySource(reference.rows))) {
    skipAll();
    return report(0, 'kind' in reference ? 0 : reference.rows, []);
  }
  return withDuckDb(options, async (db) => {
    const opened = await openRows(db, recent, wanted, 'millrace_recent');
    const before = 'kind' in reference ? await openRows(db, reference.rows, wanted, 'millrace_reference') : undefined;
    const referenceRows = before?.rows ?? ('kind' in reference ? 0 : reference.rows);
    if (opened.rows === 0 || referenceRows === 0) {
      skipAll();
      return report(opened.rows, referenceRows, []);
    }
    const columns: ColumnDrift[] = [];
    const comparable = <C extends Column>(among: readonly C[]): readonly Compared<C>[] =>
      among.flatMap((column, index) => {
        const why = column.type === 'timestamp' || column.type === 'date' ? 'time' : opened.there.has(column.name) ? undefined : 'missing';
        if (why !== undefined) skipped.set(column.name, why);
        return why === undefined ? [{ column, from: `i${index}` }] : [];
      });
    if (before !== undefined) columns.push(...(await againstRows(db, opened, before, comparable(wanted), options, skipped)));
    else if (!('kind' in reference)) columns.push(...(await againstProfile(db, opened, reference, comparable(profiled), skipped)));
    columns.push(...(await compareOutputs(db, opened, before, recent, reference, options)));
    return report(opened.rows, referenceRows, columns);
  });
}

interface Compared<C> {
  readonly column: C;
  readonly from: string;
}

async function againstProfile(
  db: DuckDb,
  { relation, rows }: OpenedRows,
  profile: Profile,
  compared: readonly Compared<ColumnProfile>[],
  skipped: Map<string, Skipped>,
): Promise<readonly ColumnDrift[]> {
  const plans = compared.flatMap(({ column, from }) => {
    const plan = planColumn(column, profile, from);
    if (plan === undefined) skipped.set(column.name, 'nothing in the reference');
    return plan ?? [];
  });
  if (plans.length === 0) return [];
  const counted = await countAll(db, relation, rows, plans);
  const columns: ColumnDrift[] = [];
  for (const [index, { column, from }] of plans.entries()) {
    const measured = counted[index];
    if (measured === undefined) continue;
    const categories = await comparedCategories(db, relation, column, from);
    columns.push(figuresOf({ ...measured, ...(categories === undefined ? {} : { categories }) }, rows, profile.rows));
  }
  return columns;
}

async function countAll(db: DuckDb, relation: string, rows: number, plans: Parameters<typeof countColumns>[2]): Promise<readonly MeasuredColumn[]> {
  if (rows <= FEW_ROWS) return countFewRows(db, relation, plans);
  const [counted] = await countColumns(db, relation, plans);
  return counted?.columns ?? [];
}

async function againstRows(
  db: DuckDb,
  recent: OpenedRows,
  reference: OpenedRows,
  compared: readonly Compared<Column>[],
  options: DriftOptions,
  skipped: Map<string, Skipped>,
): Promise<readonly ColumnDrift[]> {
  const columns: ColumnDrift[] = [];
  for (const { column, from } of compared) {
    const pair: Pair = {
      column: column.name,
      of: 'input',
      recent: { relation: recent.relation, value: from, rows: recent.rows },
      reference: { relation: reference.relation, value: from, rows: reference.rows },
    };
    const found = reference.there.has(column.name) ? await comparePair(db, pair, column, options) : undefined;
    if (found === undefined) skipped.set(column.name, 'nothing in the reference');
    else columns.push(found);
  }
  return columns;
}

async function comparePair(db: DuckDb, pair: Pair, { name, type }: Column, options: DriftOptions): Promise<ColumnDrift | undefined> {
  const drift = (measured: MeasuredColumn | undefined): ColumnDrift | undefined =>
    measured === undefined ? undefined : figuresOf(measured, pair.recent.rows, pair.reference.rows);
  if (isNumeric(type)) return drift(await compareNumbers(db, pair));
  if (options.texts?.includes(name) ?? (await looksLikeText(db, pair))) return compareTexts(db, pair, { ...TEXT_DEFAULTS, ...options.ngrams });
  return drift(await compareCategories(db, pair));
}

async function looksLikeText(db: DuckDb, { reference: { relation, value } }: Pair): Promise<boolean> {
  const { n, d } = await db.row(`SELECT count(v) AS n, approx_count_distinct(v) AS d FROM (SELECT ${value} AS v FROM ${relation} LIMIT ${SEEN_TEXTS})`);
  return toCount(d) > LEAST_TEXTS && toCount(d) > toCount(n) / 2;
}

async function compareOutputs(
  db: DuckDb,
  opened: OpenedRows,
  before: OpenedRows | undefined,
  recent: RecentRows,
  reference: Profile | ReferenceRows,
  { outputs }: DriftOptions,
): Promise<readonly ColumnDrift[]> {
  if (outputs === false || (recent.kind === 'parquet' && recent.answers === undefined)) return [];
  if (outputs?.kind === 'answers') return againstAnswers(db, opened, outputs);
  const given = outputs ?? ('kind' in reference && reference.rows.kind === 'predictionLog' ? reference.rows : undefined);
  if (given === undefined || isEmptySource(given)) return [];
  const there = outputs === undefined && before !== undefined ? before : await openRows(db, given, [], 'millrace_answers');
  const columns: ColumnDrift[] = [];
  for (let index = 0; index < Math.min(opened.outputs, there.outputs, MOST_OUTPUTS); index++) {
    const value = `CASE WHEN isfinite(output[${index + 1}]) THEN output[${index + 1}] END`;
    const pair: Pair = {
      column: `output[${index}]`,
      of: 'output',
      recent: { relation: opened.relation, value, rows: opened.rows },
      reference: { relation: there.relation, value, rows: there.rows },
    };
    const measured = await compareNumbers(db, pair);
    if (measured !== undefined) columns.push(figuresOf(measured, opened.rows, there.rows));
  }
  return columns;
}

async function againstAnswers(
  db: DuckDb,
  { relation, rows, outputs }: OpenedRows,
  { output, values, rows: referenceRows }: EvaluatedAnswers,
): Promise<readonly ColumnDrift[]> {
  if (outputs === 0) return [];
  const [name, answer] = output === 'greatest' ? ['greatest output', 'list_max(output)'] : [`output[${outputs - 1}]`, `output[${outputs}]`];
  const column: ColumnProfile = { name, type: 'number', nulls: 0, distinct: values.quantiles.length, values };
  // planned on a column: a search asks for its value many times
  const plan = planColumn(column, { format: 'millrace-profile/1', rows: referenceRows, columns: [column] }, 'v');
  if (plan === undefined) return [];
  const counted = await countAll(db, `(SELECT CASE WHEN isfinite(${answer}) THEN ${answer} END AS v FROM ${relation})`, rows, [plan]);
  return counted.map((measured) => figuresOf({ ...measured, of: 'output' }, rows, referenceRows));
}

export type { RecentRows, TimeRange } from './drift-source.ts';
