import { projectHashKey } from '../../config/hash-key.ts';
import { TrainingSetInputSchema } from '../../contracts/feature-views.ts';
import { loadManifest } from '../../data/dataset.ts';
import { featureDefinition } from '../../data/feature-definition.ts';
import { type JoinedView, joinTrainingSet } from '../../data/feature-views.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Labels with the features of their entities as they were at each label's instant. */
export const trainingSetStage = defineStage({
  input: TrainingSetInputSchema,
  cacheable: true,
  run: async ({ labels, eventTime, views, features }, { deps, signal, progress }) => {
    const joined = await Promise.all(
      views.map(async ({ view, from }): Promise<JoinedView> => ({ view, id: from.id, manifest: await loadManifest(deps.artifacts, from) })),
    );
    const { ref, manifest } = await joinTrainingSet({
      labels: await loadManifest(deps.artifacts, labels),
      labelsId: labels.id,
      eventTime,
      views: joined,
      ...(features === undefined ? {} : { features }),
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'joining');
      },
    });
    for (const { view, manifest: snapshot } of joined) await deps.store.featureViews.declare({ view, definition: featureDefinition(view, snapshot) });
    const added = manifest.columns.length - (await loadManifest(deps.artifacts, labels)).columns.length;
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows, ${String(added)} features as of ${eventTime}`,
      datasets: [datasetDraft(ref, manifest, { kind: 'features', source: { labels: labels.id, views } })],
    };
  },
});
