import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { identifier, parquetRelation } from './sql-text.ts';

export interface CleanOptions extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the result's parent. */
  readonly id: string;
  readonly transforms: readonly RowTransform[];
  readonly artifacts: ArtifactPort;
  /** Needed where a transform hashes. */
  readonly hashKey?: string;
}

/**
 * Applies row transforms to a dataset. The result remembers them behind those of its parent, so that requests of a model
 * trained on it are treated the same.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS with every problem; SOURCE_EMPTY where no row is kept
 */
export async function cleanDataset(options: CleanOptions): Promise<StoredDataset> {
  const { manifest, id, transforms, artifacts, hashKey } = options;
  const files = await datasetFiles(artifacts, manifest);
  const { sql, columns } = transformedRelation(parquetRelation(files.map(({ path }) => path)), transforms, manifest.columns);
  return withDuckDb(options, async (db) => {
    if (hashKey !== undefined) await bindHashKey(db, hashKey);
    const list = columns.map(({ name }) => identifier(name)).join(', ');
    const written = await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${sql}`, {
      filtered: transforms.some(({ kind }) => kind === 'keep'),
      whenEmpty: () => new MillraceError('SOURCE_EMPTY', `No row of the dataset ${manifest.name} is kept.`, { fix: 'Loosen the condition of keep.' }),
    });
    return storeManifest(artifacts, {
      ...manifest,
      rows: written.rows,
      columns: columns.map(({ name, type }) => ({ name, type })),
      files: [written],
      transforms: [...manifest.transforms, ...transforms],
      profile: null,
      parents: [id],
    });
  });
}
