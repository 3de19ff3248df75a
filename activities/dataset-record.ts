import type { DatasetManifest, DatasetRef } from '../contracts/references.ts';
import type { DatasetDraft } from '../store/stages.ts';

/** What the catalogue keeps of a dataset that a stage made. */
export function datasetDraft(ref: DatasetRef, manifest: DatasetManifest, source: unknown): DatasetDraft {
  return {
    id: ref.id,
    name: ref.name,
    rows: ref.rows,
    columns: manifest.columns,
    sizeBytes: manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    source,
  };
}
