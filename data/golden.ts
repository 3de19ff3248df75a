/**
 * The golden set: rows set aside at ingest for a test that is the same in every run.
 *
 * Invariants:
 * 1. A row's lot is drawn by its key columns and the seed alone: it does not change as the data grows, is sorted
 *    anew or is read from another format. Rows with the same key have the same lot.
 * 2. The golden rows go through the same transforms as the others, and are never profiled.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { IngestInput } from '../contracts/stages.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { datasetFiles, pickColumns, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import type { DuckDb } from './duckdb.ts';
import { keyHash } from './key-hash.ts';
import { transformedRelation } from './row-transforms-sql.ts';
import { identifier, parquetRelation } from './sql-text.ts';

export type GoldenRule = NonNullable<IngestInput['golden']>;

/**
 * The condition under which a row of the source belongs to the golden set; never null.
 * @throws MillraceError COLUMN_MISSING where the rule names a key that is not there
 */
export function goldenCondition(columns: readonly Column[], { fraction, by, seed }: GoldenRule): string {
  const keys = by === undefined ? columns : pickColumns(columns, by);
  // 53 bits of a double, as the upper bits of the 64 that the hash has.
  const bound = BigInt(Math.round(fraction * 2 ** 53)) << 11n;
  return `(${keyHash(keys, seed)} < CAST(${bound} AS UBIGINT))`;
}

export interface GoldenDraft {
  /** The source's rows with its columns in canonical types, before any transform. */
  readonly relation: string;
  readonly condition: string;
  readonly columns: readonly Column[];
  readonly transforms: readonly RowTransform[];
  /** The name of the dataset beside which it is reserved. */
  readonly name: string;
  readonly sensitive?: DatasetManifest['sensitive'];
  /** The golden set that an incremental ingest extends: its rows come first. */
  readonly before?: { readonly id: string; readonly manifest: DatasetManifest };
}

/**
 * Writes the golden rows of a source to a snapshot of their own; null where the source has none and none were there before.
 * @throws MillraceError SOURCE_MALFORMED and the like as reading does
 */
export async function writeGolden(db: DuckDb, artifacts: ArtifactPort, draft: GoldenDraft): Promise<StoredDataset | null> {
  const { relation, condition, columns: rawColumns, transforms, name, sensitive = {}, before } = draft;
  const { sql, columns } = transformedRelation(`(SELECT * FROM ${relation} WHERE ${condition})`, transforms, rawColumns);
  const none = new MillraceError('SPLIT_IMPOSSIBLE', 'No row of the source falls to the golden set.');
  const list = columns.map((column) => identifier(column.name)).join(', ');
  const written = await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${sql}`, { filtered: true, whenEmpty: () => none }).catch((error: unknown) => {
    if (error === none) return undefined;
    throw error;
  });
  if (written === undefined && before === undefined) return null;
  const files = [...(before?.manifest.files ?? []), ...(written === undefined ? [] : [written])];
  const plain = ({ name: column, type }: Column): Column => ({ name: column, type });
  return storeManifest(artifacts, {
    format: 'millrace-dataset/1',
    name: `${name}-golden`,
    rows: files.reduce((sum, file) => sum + file.rows, 0),
    columns: columns.map(plain),
    files,
    transforms: [...transforms],
    rawColumns: rawColumns.map(plain),
    profile: null,
    parents: before === undefined ? [] : [before.id],
    sensitive,
    reserved: 'golden',
  });
}

/** The golden rows in the form that a dataset has by now: a relation, and the columns that it shares with the dataset. */
export interface GoldenRows {
  readonly sql: string;
  readonly transforms: readonly RowTransform[];
}

/**
 * The golden set brought to where a dataset is that was made from its other rows: the transforms that the dataset got
 * since are applied to it too. Needs `bindHashKey` where one of them hashes.
 * @throws MillraceError SPLIT_IMPOSSIBLE where the dataset was changed in a way that cannot be repeated on other rows
 */
export async function goldenRows(artifacts: ArtifactPort, golden: DatasetManifest, dataset: DatasetManifest): Promise<GoldenRows> {
  const later = dataset.transforms.slice(golden.transforms.length) as RowTransform[];
  const begins = golden.transforms.every((transform, index) => JSON.stringify(transform) === JSON.stringify(dataset.transforms[index]));
  const unserved = Object.entries(dataset.unserved).filter(([column]) => dataset.columns.some(({ name }) => name === column));
  if (unserved.length > 0) {
    throw new MillraceError(
      'SPLIT_IMPOSSIBLE',
      `The golden rows cannot be given the columns ${unserved.map(([column]) => column).join(', ')} of the dataset.`,
      {
        problems: unserved.map(([column, how]) => ({
          path: `columns.${column}`,
          column,
          message: `It was made or changed by ${how}, which looks at other rows than the one that it changes.`,
          fix: 'Split before that step, or make it one that works row by row.',
        })),
        fix: 'Split before the step that is named, or make it one that works row by row.',
      },
    );
  }
  const files = await datasetFiles(artifacts, golden);
  const relation = parquetRelation(files.map(({ path }) => path));
  if (begins) {
    const { sql, columns } = transformedRelation(relation, later, golden.columns);
    const same =
      columns.length === dataset.columns.length &&
      columns.every(({ name, type }, at) => name === dataset.columns[at]?.name && type === dataset.columns[at].type);
    if (same) return { sql, transforms: later };
  }
  throw new MillraceError('SPLIT_IMPOSSIBLE', `The dataset ${dataset.name} has other columns than its golden set: a step of your own made it anew.`, {
    fix: 'Split before that step, or express it as transforms.',
  });
}
