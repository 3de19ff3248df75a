import type { ArtifactPort } from '../../data/artifact-port.ts';
import { datasetFiles, loadManifest } from '../../data/dataset.ts';
import { withDuckDb } from '../../data/duckdb.ts';
import { parquetRelation } from '../../data/sql-text.ts';

/** A small dataset's rows, in order. */
export async function readDataset(artifacts: ArtifactPort, ref: { readonly id: string }): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const files = await datasetFiles(artifacts, await loadManifest(artifacts, ref));
  return withDuckDb({}, (db) => db.rows(`SELECT * FROM ${parquetRelation(files.map(({ path }) => path))}`));
}
