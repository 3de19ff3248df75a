import { MillraceError } from '../contracts/errors.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { Source } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { ROW_NUMBER, ROW_RANK, rankBound, rankedRows } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { goldenCondition, type GoldenRule, writeGolden } from './golden.ts';
import { type OpenedSource, openAnySource } from './open-source.ts';
import type { SourceAccess } from './source-access.ts';
import { sourceError } from './source-errors.ts';
import type { SourceFile } from './source-files.ts';
import type { SourceRelation } from './source-relation.ts';
import { identifier } from './sql-text.ts';

export interface IngestOptions extends DuckDbOptions, SourceAccess {
  readonly source: Source;
  /** The dataset's name. */
  readonly name: string;
  /** Applied in order, in the same pass that writes the snapshot: what they hash or drop is never on disk. */
  readonly transforms?: readonly RowTransform[];
  readonly artifacts: ArtifactPort;
  /** The project's key for hashed columns. Needed where a transform hashes. */
  readonly hashKey?: string;
  /** At most this many of the source's rows, drawn by `seed`, in the source's order. Default: all. */
  readonly sampleRows?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Rows to set aside, in a snapshot of their own. Default: none. */
  readonly golden?: GoldenRule;
  /** Called while the source comes from elsewhere, with what is waited for: a file's label, a number of rows. */
  readonly onFetch?: (what: string) => void;
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
  return withDuckDb(options, async (db) => {
    const opened = await openAnySource(db, options.source, options, options);
    try {
      return await ingestOpened(db, opened, options);
    } finally {
      await opened.close();
    }
  });
}

async function ingestOpened(db: DuckDb, opened: OpenedSource, options: IngestOptions): Promise<IngestedDataset> {
  const { name, transforms = [], artifacts, hashKey, sampleRows, seed = 0 } = options;
  const { files } = opened;
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
  await opened.refuseChanged();
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
