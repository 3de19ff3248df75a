import { projectHashKey } from '../../config/hash-key.ts';
import { SplitInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { leakSummary } from '../../data/leaks.ts';
import { splitDataset } from '../../data/split.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Splits into train, validation and test; the training part alone is profiled. */
export const splitStage = defineStage({
  input: SplitInputSchema,
  cacheable: true,
  run: async ({ dataset, options }, { deps, signal, progress }) => {
    const { train, validation, test, leaks } = await splitDataset({
      manifest: await loadManifest(deps.artifacts, dataset),
      id: dataset.id,
      options,
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'splitting');
      },
    });
    const rows = (n: number): string => n.toLocaleString('en');
    // A test dataset that was given has its record already.
    const made = options.by === 'fixed' && options.test !== undefined ? [train, validation] : [train, validation, test];
    return {
      output: { train: train.ref, validation: validation.ref, test: test.ref },
      summary: `${rows(train.ref.rows)} train, ${rows(validation.ref.rows)} validation, ${rows(test.ref.rows)} test${leakSummary(leaks?.report ?? null)}`,
      datasets: made.map(({ ref, manifest }) =>
        datasetDraft(ref, manifest, { kind: 'split', source: { dataset: dataset.id }, ...(leaks === null ? {} : { report: leaks.sha256 }) }),
      ),
      ...(leaks === null ? {} : { metrics: [{ key: 'leaks', value: leaks.report.findings.length }] }),
    };
  },
});
