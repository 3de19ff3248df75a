import { projectHashKey } from '../../config/hash-key.ts';
import { CleanInputSchema } from '../../contracts/stages.ts';
import { cleanDataset } from '../../data/clean.ts';
import { loadManifest } from '../../data/dataset.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

export const cleanStage = defineStage({
  input: CleanInputSchema,
  cacheable: true,
  run: async ({ dataset, transforms }, { deps, signal, progress }) => {
    const parent = await loadManifest(deps.artifacts, dataset);
    const { ref, manifest } = await cleanDataset({
      manifest: parent,
      id: dataset.id,
      transforms,
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'cleaning');
      },
    });
    const dropped = parent.rows - ref.rows;
    return {
      output: ref,
      summary: `${String(transforms.length)} rules, ${ref.rows.toLocaleString('en')} rows${dropped > 0 ? `, ${dropped.toLocaleString('en')} dropped` : ''}`,
      datasets: [datasetDraft(ref, manifest, { kind: 'clean', source: { dataset: dataset.id } })],
    };
  },
});
