import { stat } from 'node:fs/promises';
import { MillraceError } from '../contracts/errors.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { Source } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { ROW_NUMBER, ROW_RANK, rankBound, rankedRows } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { goldenCondition, type GoldenRule, writeGolden } from './golden.ts';
import { malformed, sourceError } from './source-errors.ts';
import { findSourceFiles, type SourceFile } from './source-files.ts';
import { openSource, type SourceRelation } from './source-relation.ts';
import { identifier } from './sql-text.ts';

export interface IngestOptions extends DuckDbOptions {
  readonly source: Source;
  /** The dataset's name. */
  readonly name: string;
  /** Applied in order, in the same pass that writes the snapshot: what they hash or drop is never on disk. */
  readonly transforms?: readonly RowTransform[];
  readonly artifacts: ArtifactPort;
  /** What relative paths and `package:` start from. */
  readonly projectFolder: string;
  /** The project's key for hashed columns. Needed where a transform hashes. */
  readonly hashKey?: string;
  /** At most this many of the source's rows, drawn by `seed`, in the source's order. Default: all. */
  readonly sampleRows?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Rows to set aside, in a snapshot of their own. Default: none. */
  readonly golden?: GoldenRule;
}

export interface IngestedDataset extends StoredDataset {
  /** The rows that were set aside. */
  readonly golden: StoredDataset | null;
}

/**
 * Reads a source into an immutable snapshot and stores its manifest. The same content, settings and seed give the same
 * bytes, whatever the number of threads. Memory does not grow with the data. The manifest's profile is null: `validate`
 * fills it in the scan that checks expectations.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_MALFORMED (with file, row, column), SOURCE_EMPTY, SPLIT_IMPOSSIBLE, COLUMN_TYPE, COLUMN_MISSING, DISK_FULL, OUT_OF_MEMORY
 */
export async function ingestSource(options: IngestOptions): Promise<IngestedDataset> {
  const { source, name, transforms = [], artifacts, projectFolder, hashKey, sampleRows, seed = 0, signal } = options;
  const files = await findSourceFiles(source, projectFolder);
  return withDuckDb(options, async (db) => {
    const opened = await openSource(db, source, files, signal);
    if (hashKey !== undefined) await bindHashKey(db, hashKey);
    const sampled = sampleRows === undefined ? opened.sql : await sampledRelation(db, opened, sampleRows, seed, files);
    const reserved = options.golden === undefined ? undefined : goldenCondition(opened.columns, options.golden);
    const rest = reserved === undefined ? sampled : `(SELECT * FROM ${sampled} WHERE NOT ${reserved})`;
    const { sql, columns } = transformedRelation(rest, transforms, opened.columns);
    const list = columns.map((column) => identifier(column.name)).join(', ');
    const empty = (): MillraceError =>
      new MillraceError(
        'SOURCE_EMPTY',
        transforms.some(({ kind }) => kind === 'keep') ? 'The source has no rows that the transforms keep.' : 'The source has columns but no rows.',
      );
    const written = await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${sql}`, {
      filtered: rest !== opened.sql || transforms.some(({ kind }) => kind === 'keep'),
      whenEmpty: empty,
    }).catch((error: unknown) => {
      throw sourceError(error, files);
    });
    // The source is read a second time for the golden rows: what transforms hash or drop may not lie on disk meanwhile.
    const golden =
      reserved === undefined
        ? null
        : await writeGolden(db, artifacts, { relation: sampled, condition: reserved, columns: opened.columns, transforms, name }).catch((error: unknown) => {
            throw sourceError(error, files);
          });
    if (reserved !== undefined && golden === null)
      throw new MillraceError('SPLIT_IMPOSSIBLE', `None of the ${written.rows} rows falls to the golden set.`, {
        fix: 'Give more rows, or a greater fraction.',
      });
    await refuseChanged(files);
    const stored = await storeManifest(artifacts, {
      format: 'millrace-dataset/1',
      name,
      rows: written.rows,
      columns: columns.map((column) => ({ name: column.name, type: column.type })),
      files: [written],
      transforms: [...transforms],
      rawColumns: opened.columns.map((column) => ({ name: column.name, type: column.type })),
      profile: null,
      parents: [],
      golden: golden?.ref.id ?? null,
    });
    return { ...stored, golden };
  });
}

/** The sample as a relation. The source is read twice: once for its number of rows, which Parquet knows without reading. */
async function sampledRelation(db: DuckDb, opened: SourceRelation, sampleRows: number, seed: number, files: readonly SourceFile[]): Promise<string> {
  const { n } = await db.row(`SELECT count(*) AS n FROM ${opened.sql}`).catch((error: unknown) => {
    throw sourceError(error, files);
  });
  const rows = toCount(n);
  if (rows <= sampleRows) return opened.sql;
  const names = opened.columns.map(({ name }) => name);
  const numbered = `(SELECT *, row_number() OVER () - 1 AS ${ROW_NUMBER} FROM ${opened.sql})`;
  return `(SELECT ${names.map(identifier).join(', ')} FROM ${rankedRows(numbered, names, seed)} WHERE ${ROW_RANK} < ${rankBound(rows, seed, sampleRows)})`;
}

async function refuseChanged(files: readonly SourceFile[]): Promise<void> {
  for (const file of files) {
    const now = await stat(file.path).catch(() => undefined);
    if (now === undefined || now.size !== file.sizeBytes || now.mtimeMs !== file.modifiedMs) {
      throw malformed('The file changed while it was read', { file: file.label, fix: 'Ingest again when nothing writes to it.' });
    }
  }
}
