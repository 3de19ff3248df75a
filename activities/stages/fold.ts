import { projectHashKey } from '../../config/hash-key.ts';
import { FoldInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { leakSummary } from '../../data/leaks.ts';
import { foldDataset } from '../../data/split.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Makes k pairs of training and validation parts; training parts alone are profiled. */
export const foldStage = defineStage({
  input: FoldInputSchema,
  cacheable: true,
  run: async ({ dataset, options }, { deps, signal, progress }) => {
    const { folds, test, leaks } = await foldDataset({
      manifest: await loadManifest(deps.artifacts, dataset),
      id: dataset.id,
      options,
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'folding');
      },
    });
    const validated = folds.reduce((sum, { validation }) => sum + validation.ref.rows, 0);
    const tested = test === null ? '' : `, ${test.ref.rows.toLocaleString('en')} test`;
    const made = [...folds.flatMap(({ train, validation }) => [train, validation]), ...(test === null ? [] : [test])];
    return {
      output: { folds: folds.map(({ train, validation }) => ({ train: train.ref, validation: validation.ref })), test: test?.ref ?? null },
      summary: `${String(folds.length)} folds, ${validated.toLocaleString('en')} rows judged${tested}${leakSummary(leaks?.report ?? null)}`,
      datasets: made.map(({ ref, manifest }) =>
        datasetDraft(ref, manifest, { kind: 'split', source: { dataset: dataset.id }, ...(leaks === null ? {} : { report: leaks.sha256 }) }),
      ),
      ...(leaks === null ? {} : { metrics: [{ key: 'leaks', value: leaks.report.findings.length }] }),
    };
  },
});
