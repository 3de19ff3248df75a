import { SplitInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { splitDataset } from '../../data/split.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Splits into train, validation and test; the training part alone is profiled. */
export const splitStage = defineStage({
  input: SplitInputSchema,
  cacheable: true,
  run: async ({ dataset, options }, { deps, signal, progress }) => {
    const parts = await splitDataset({
      manifest: await loadManifest(deps.artifacts, dataset),
      id: dataset.id,
      options,
      artifacts: deps.artifacts,
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'splitting');
      },
    });
    const { train, validation, test } = parts;
    const rows = (n: number): string => n.toLocaleString('en');
    return {
      output: { train: train.ref, validation: validation.ref, test: test.ref },
      summary: `${rows(train.ref.rows)} train, ${rows(validation.ref.rows)} validation, ${rows(test.ref.rows)} test`,
      datasets: [train, validation, test].map(({ ref, manifest }) => datasetDraft(ref, manifest, { kind: 'split', source: { dataset: dataset.id } })),
    };
  },
});
