/** Datasets in the artifact store: a manifest, and the Parquet files that it names. */
import { rm } from 'node:fs/promises';
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { type DatasetManifest, DatasetManifestSchema, type DatasetRef } from '../contracts/references.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import type { RankedFile } from './row-rank.ts';
import { textLiteral } from './sql-text.ts';

/** A dataset that was stored: what is handed on, and what it stands for. */
export interface StoredDataset {
  readonly ref: DatasetRef;
  readonly manifest: DatasetManifest;
}

/**
 * Rows of one row group. Fixed, because it decides the bytes of a snapshot; DuckDB's own default, so that reading is
 * spread over cores as it expects.
 */
export const ROW_GROUP_ROWS = 122_880;

/** What says how a dataset came to be may be left out where there is nothing to say. */
type Provenance = 'unserved' | 'sensitive' | 'golden' | 'reserved' | 'increment' | 'lookups';
export type ManifestDraft = Omit<DatasetManifest, Provenance> & Partial<Pick<DatasetManifest, Provenance>>;

/**
 * Refuses column names that cannot be kept: `__proto__`, which no JSON object can carry safely, and the names of columns
 * that are added while data is worked on.
 * @throws MillraceError SOURCE_MALFORMED with every such name
 */
export function refuseReservedNames(columns: readonly { readonly name: string }[]): void {
  const reserved = columns.filter(({ name }) => name === '__proto__' || name.toLowerCase().startsWith('__millrace_'));
  if (reserved.length === 0) return;
  const fix = 'Rename the column in the source.';
  throw new MillraceError('SOURCE_MALFORMED', `The data has columns whose names are reserved: ${reserved.map(({ name }) => name).join(', ')}.`, {
    problems: reserved.map(({ name }) => ({ path: 'source', column: name, message: `The column name ${name} is reserved.`, found: name, fix })),
    fix,
  });
}

/** Stores a manifest. One that is derived from another says so by spreading it: what it does not state anew, it inherits. */
export async function storeManifest(artifacts: ArtifactPort, draft: ManifestDraft): Promise<StoredDataset> {
  const {
    format,
    name,
    rows,
    columns,
    files,
    transforms,
    rawColumns,
    profile,
    parents,
    unserved = {},
    sensitive = {},
    golden = null,
    reserved = null,
    increment = null,
    lookups = [],
  } = draft;
  refuseReservedNames(columns);
  // Key by key: the manifest's name is the hash of its text.
  const manifest = { format, name, rows, columns, files, transforms, rawColumns, profile, parents, unserved, sensitive, golden, reserved, increment, lookups };
  const { sha256 } = await artifacts.putJson(manifest);
  return { ref: { kind: 'dataset', id: sha256, name, rows }, manifest };
}

export async function loadManifest(artifacts: ArtifactPort, ref: Pick<DatasetRef, 'id'>): Promise<DatasetManifest> {
  const parsed = DatasetManifestSchema.safeParse(await artifacts.getJson(ref.id));
  if (!parsed.success) throw new MillraceError('ARTIFACT_CORRUPT', 'The manifest of a dataset does not have its form.');
  return parsed.data;
}

/** Verified local paths of a dataset's files, in row order. */
export async function datasetFiles(artifacts: ArtifactPort, manifest: DatasetManifest): Promise<readonly RankedFile[]> {
  return Promise.all(manifest.files.map(async ({ sha256, rows }) => ({ path: await artifacts.pathOf(sha256), rows })));
}

/** The columns asked for, in the dataset's types. @throws MillraceError COLUMN_MISSING naming all that are missing and all there are. */
export function pickColumns(columns: readonly Column[], names: readonly string[]): readonly Column[] {
  const missing = names.filter((name) => !columns.some((column) => column.name === name));
  if (missing.length > 0) throw columnsMissing(columns, missing);
  return names.flatMap((name) => columns.filter((column) => column.name === name));
}

export function columnsMissing(columns: readonly Column[], missing: readonly string[]): MillraceError {
  const there = columns.map(({ name }) => name).join(', ');
  return new MillraceError('COLUMN_MISSING', `There is no column ${missing.join(', ')}. The columns are: ${there}.`, {
    problems: missing.map((name) => ({ path: 'columns', column: name, message: `There is no column ${name}.`, found: name, fix: `Use one of: ${there}.` })),
  });
}

export interface WrittenFile {
  readonly sha256: string;
  readonly rows: number;
  readonly sizeBytes: number;
}

/**
 * Writes a query's rows as one snapshot file: Parquet, zstd, the same bytes for the same rows in the same order.
 * `filtered`: rows may be left out on the way. DuckDB then cuts row groups where its threads' batches end, which differs
 * with their number, so such a query is written by one thread; one that passes all rows on is cut alike by any number.
 */
export async function writeSnapshot(
  db: DuckDb,
  artifacts: ArtifactPort,
  sql: string,
  { filtered, whenEmpty }: { readonly filtered: boolean; readonly whenEmpty: () => MillraceError },
): Promise<WrittenFile> {
  const path = await artifacts.temporaryFile('.parquet');
  const threads = toCount((await db.row("SELECT current_setting('threads') AS n"))['n']);
  let adopted = false;
  try {
    if (filtered) await db.run('SET threads = 1');
    const copied = await db.row(`COPY (${sql}) TO ${textLiteral(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${ROW_GROUP_ROWS})`);
    const rows = toCount(copied['Count']);
    if (rows === 0) throw whenEmpty();
    const stored = await artifacts.putFile(path);
    adopted = true;
    return { sha256: stored.sha256, rows, sizeBytes: stored.sizeBytes };
  } finally {
    if (filtered) await db.run(`SET threads = ${threads}`);
    if (!adopted) await rm(path, { force: true });
  }
}
