/**
 * How far recent rows have moved from the data a model was trained on, column by column, by the population stability
 * index: PSI = Σ (pᵢ − qᵢ) ln(pᵢ / qᵢ) over bins (N. Siddiqi, "Credit Risk Scorecards", 2006, ch. 8). Below 0.1 is
 * commonly taken as stable, above 0.25 as moved; with few rows it is above 0 by chance alone, see `expectedPsi`.
 */
import type { ColumnDrift, DriftReport } from '../contracts/drift.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { predictionRelation } from './log-relations.ts';
import type { LogSegment } from './prediction-segments.ts';
import { TOP_VALUE_CHARACTERS } from './profile.ts';
import { identifier, numberLiteral, parquetRelation, textLiteral } from './sql-text.ts';

/** Recent rows: segments of the prediction log (columns under `inputs`), or snapshot files. */
export type RecentRows =
  | {
      readonly kind: 'predictionLog';
      readonly segments: readonly LogSegment[];
      readonly model?: string;
      readonly version?: number;
      readonly from?: string;
      readonly to?: string;
    }
  | { readonly kind: 'parquet'; readonly paths: readonly string[] };

export interface DriftOptions extends DuckDbOptions {
  /** Default: all of the profile's. */
  readonly columns?: readonly string[];
}

const TOP_CATEGORIES = 20;
/** A share of 0 would make the index infinite: an empty bin counts as half a row. */
const HALF = 0.5;

interface Binning {
  readonly column: ColumnProfile;
  /** Rows of training in each bin; the last one is missing values. */
  readonly training: readonly number[];
  readonly labels: readonly string[];
  /** SQL: index of the row's bin. */
  readonly bin: string;
}

/**
 * Compares recent rows with a training profile. Numbers fall into the bins between the profile's deciles, categories
 * into the twenty most frequent ones and the rest; missing values are a bin of their own. Instants and free text are
 * skipped: time moves on by itself, and texts hardly ever come twice.
 */
export async function measureDrift(recent: RecentRows, profile: Profile, options: DriftOptions = {}): Promise<DriftReport> {
  const wanted = profile.columns.filter(({ name }) => options.columns?.includes(name) ?? true);
  if ((recent.kind === 'parquet' ? recent.paths : recent.segments).length === 0) return { rows: 0, columns: [], skipped: wanted.map(({ name }) => name) };
  return withDuckDb(options, async (db) => {
    const { relation, value, there } = await openRecent(db, recent, wanted);
    const binnings = wanted.filter(({ name }) => there.has(name)).flatMap((column) => binningOf(column, profile.rows, value(column)) ?? []);
    const rows = toCount((await db.row(`SELECT count(*) AS n FROM ${relation}`))['n']);
    const columns: ColumnDrift[] = [];
    if (rows > 0 && binnings.length > 0) {
      const counts = await countBins(db, relation, binnings);
      binnings.forEach((binning, index) => columns.push(driftOf(binning, counts[index] ?? [], profile.rows, rows)));
    }
    const compared = new Set(columns.map(({ column }) => column));
    const order = columns.sort((a, b) => b.psi - a.psi || (a.column < b.column ? -1 : 1));
    return { rows, columns: order, skipped: wanted.map(({ name }) => name).filter((name) => !compared.has(name)) };
  });
}

interface OpenedRows {
  readonly relation: string;
  readonly value: (column: ColumnProfile) => string;
  readonly there: ReadonlySet<string>;
}

async function openRecent(db: DuckDb, recent: RecentRows, columns: readonly ColumnProfile[]): Promise<OpenedRows> {
  if (recent.kind === 'parquet') {
    const relation = parquetRelation(recent.paths);
    const described = await db.rows(`DESCRIBE SELECT * FROM ${relation}`);
    return { relation, value: ({ name }) => identifier(name), there: new Set(described.map((row) => String(row['column_name']))) };
  }
  const conditions = [
    recent.model === undefined ? '' : `model = ${textLiteral(recent.model)}`,
    recent.version === undefined ? '' : `version = ${recent.version}`,
    recent.from === undefined ? '' : `"at" >= CAST(${textLiteral(recent.from)} AS TIMESTAMP)`,
    recent.to === undefined ? '' : `"at" < CAST(${textLiteral(recent.to)} AS TIMESTAMP)`,
  ].filter(Boolean);
  await db.run(
    `CREATE TEMPORARY TABLE millrace_recent AS SELECT inputs FROM ${predictionRelation(recent.segments)}${conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`}`,
  );
  const keys = await db.rows('SELECT DISTINCT unnest(json_keys(inputs)) AS k FROM millrace_recent');
  const there = new Set(keys.map(({ k }) => String(k)));
  const value = ({ name, type }: ColumnProfile): string => {
    const text = `json_extract_string(inputs, ${textLiteral(`$."${name.replaceAll('"', '\\"')}"`)})`;
    if (type === 'boolean') return `CASE ${text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END`;
    return type === 'number' || type === 'integer' ? `TRY_CAST(${text} AS DOUBLE)` : text;
  };
  return { relation: 'millrace_recent', value, there: new Set(columns.map(({ name }) => name).filter((name) => there.has(name))) };
}

function binningOf(column: ColumnProfile, rows: number, value: string): Binning | undefined {
  const present = rows - column.nulls;
  if (column.values.kind === 'timestamp' || present === 0) return undefined;
  if (column.values.kind === 'string') {
    const top = column.values.top.slice(0, TOP_CATEGORIES);
    if (top.length === 0) return undefined;
    const rest = present - top.reduce((sum, { count }) => sum + count, 0);
    const whens = top.map((entry, index) => `WHEN ${textLiteral(entry.value)} THEN ${index}`).join(' ');
    return {
      column,
      training: [...top.map(({ count }) => count), Math.max(0, rest), column.nulls],
      labels: [...top.map((entry) => entry.value), 'others', 'missing'],
      bin: `CASE WHEN ${value} IS NULL THEN ${top.length + 1} ELSE CASE left(${value}, ${TOP_VALUE_CHARACTERS}) ${whens} ELSE ${top.length} END END`,
    };
  }
  return numberBinning(column, column.values, present, value);
}

/** Bins between deciles; deciles that fall on one value make one bin, with the share that they stand for. */
function numberBinning(
  column: ColumnProfile,
  { quantiles, histogram }: ColumnProfile['values'] & { kind: 'number' },
  present: number,
  value: string,
): Binning | undefined {
  const deciles = quantiles.filter(({ q }) => q >= 0.1 && q <= 0.9 && q !== 0.25 && q !== 0.75);
  // A value with more than a tenth of the rows holds several deciles: the share at or below it is that of the last one.
  const bounds = deciles.filter(({ value: at }, index) => deciles[index + 1]?.value !== at);
  if (bounds.length === 0 || histogram.counts.length === 0) return undefined;
  const below = [...bounds.map(({ q, atOrBelow }) => atOrBelow ?? q), 1];
  const shares = below.map((share, index) => share - (index === 0 ? 0 : (below[index - 1] ?? 0)));
  const number = `CAST(${value} AS DOUBLE)`;
  const whens = bounds.map(({ value: at }, index) => `WHEN ${number} <= ${numberLiteral(at)} THEN ${index}`).join(' ');
  return {
    column,
    training: [...shares.map((share) => share * present), column.nulls],
    labels: [...bounds.map(({ value: at }) => `≤ ${at}`), `> ${bounds.at(-1)?.value ?? ''}`, 'missing'],
    bin: `CASE WHEN ${number} IS NULL THEN ${bounds.length + 1} ${whens} ELSE ${bounds.length} END`,
  };
}

/** All columns' bins in one pass. */
async function countBins(db: DuckDb, relation: string, binnings: readonly Binning[]): Promise<readonly (readonly number[])[]> {
  const counts: number[][] = [];
  const bins = binnings.map(({ bin }, index) => `${bin} AS b${index}`).join(', ');
  const list = binnings.flatMap(({ training }, index) => training.map((_, at) => `count(*) FILTER (WHERE b${index} = ${at}) AS n${index}_${at}`));
  const row = await db.row(`SELECT ${list.join(', ')} FROM (SELECT ${bins} FROM ${relation})`);
  binnings.forEach(({ training }, index) => counts.push(training.map((_, at) => toCount(row[`n${index}_${at}`]))));
  return counts;
}

function driftOf({ column, training, labels }: Binning, recent: readonly number[], trainingRows: number, rows: number): ColumnDrift {
  const shares = (counts: readonly number[], total: number): readonly number[] => counts.map((count) => Math.max(count, HALF) / total);
  // A bin that neither has says nothing.
  const used = training.map((count, index) => count > 0 || (recent[index] ?? 0) > 0);
  const [p, q] = [shares(recent, rows), shares(training, trainingRows)];
  const psi = p.reduce((sum, share, index) => (used[index] === true ? sum + (share - (q[index] ?? share)) * Math.log(share / (q[index] ?? share)) : sum), 0);
  const missing = training.length - 1;
  return {
    column: column.name,
    psi,
    expectedPsi: expectedPsi(used.filter(Boolean).length, rows, trainingRows),
    bins: labels.map((label, index) => ({ label, training: (training[index] ?? 0) / trainingRows, recent: (recent[index] ?? 0) / rows })),
    nullFraction: { training: column.nulls / trainingRows, recent: (recent[missing] ?? 0) / rows },
    values: rows - (recent[missing] ?? 0),
  };
}

/**
 * PSI's mean where nothing has moved: (B − 1)(1/n + 1/m) for B bins, n recent and m training rows, for it is
 * asymptotically a multiple of chi-square (B. Yurdakul, "Statistical Properties of Population Stability Index", 2018).
 */
export const expectedPsi = (bins: number, rows: number, trainingRows: number): number => (bins - 1) * (1 / rows + 1 / trainingRows);
