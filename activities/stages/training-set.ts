import { projectHashKey } from '../../config/hash-key.ts';
import { TrainingSetInputSchema } from '../../contracts/feature-views.ts';
import { loadManifest } from '../../data/dataset.ts';
import { joinTrainingSet } from '../../data/feature-views.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Labels with the features of their entities as they were at each label's instant. */
export const trainingSetStage = defineStage({
  input: TrainingSetInputSchema,
  cacheable: true,
  run: async ({ labels, eventTime, views, features }, { deps, signal, progress }) => {
    const { ref, manifest } = await joinTrainingSet({
      labels: await loadManifest(deps.artifacts, labels),
      labelsId: labels.id,
      eventTime,
      views: await Promise.all(views.map(async ({ view, from }) => ({ view, id: from.id, manifest: await loadManifest(deps.artifacts, from) }))),
      ...(features === undefined ? {} : { features }),
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'joining');
      },
    });
    const added = manifest.columns.length - (await loadManifest(deps.artifacts, labels)).columns.length;
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows, ${String(added)} features as of ${eventTime}`,
      datasets: [datasetDraft(ref, manifest, { kind: 'features', source: { labels: labels.id, views } })],
    };
  },
});
