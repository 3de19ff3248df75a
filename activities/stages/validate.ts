import { ValidateInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { expectationsFailed } from '../../data/expectations.ts';
import { validateDataset } from '../../data/validate.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Checks every expectation and profiles the data in one scan. What failed is told all at once. */
export const validateStage = defineStage({
  input: ValidateInputSchema,
  cacheable: true,
  run: async ({ dataset, expectations }, { deps, signal, progress }) => {
    const { ref, manifest, validation, report } = await validateDataset({
      manifest: await loadManifest(deps.artifacts, dataset),
      id: dataset.id,
      expectations,
      artifacts: deps.artifacts,
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'checking');
      },
    });
    if (!validation.success) throw expectationsFailed(validation, dataset.name);
    const warnings = validation.results.filter((result) => !result.success).length;
    return {
      output: ref,
      summary: `${String(validation.results.length - warnings)} of ${String(validation.results.length)} expectations hold${warnings > 0 ? `, ${String(warnings)} warnings` : ''}`,
      datasets: [datasetDraft(ref, manifest, { kind: 'validate', source: { dataset: dataset.id }, report })],
      artifacts: [{ sha256: report, sizeBytes: JSON.stringify(validation).length, kind: 'validation' }],
      metrics: [
        { key: 'expectations', value: validation.results.length },
        { key: 'expectations.failed', value: warnings },
      ],
    };
  },
});
