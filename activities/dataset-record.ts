import type { DatasetManifest, DatasetRef } from '../contracts/references.ts';
import type { DatasetDraft } from '../store/stages.ts';

/** What made a dataset, and what its stage has to tell of it (artifact). */
export interface DatasetOrigin {
  readonly kind: 'ingest' | 'validate' | 'quarantine' | 'golden' | 'clean' | 'label' | 'split' | 'step' | 'trainingWindow' | 'features' | 'predictions';
  readonly source: unknown;
  readonly report?: string;
  readonly owner?: string;
}

/** What the catalogue keeps of a dataset that a stage made. */
export function datasetDraft(ref: DatasetRef, manifest: DatasetManifest, origin: DatasetOrigin): DatasetDraft {
  return {
    id: ref.id,
    name: ref.name,
    rows: ref.rows,
    columns: manifest.columns,
    sizeBytes: manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    source: origin.source,
    kind: origin.kind,
    parents: manifest.parents,
    profile: manifest.profile,
    report: origin.report ?? null,
    owner: origin.owner ?? null,
  };
}
