import { projectHashKey } from '../../config/hash-key.ts';
import { type FunctionsReport, LabelInputSchema, type PeoplesAnswers } from '../../contracts/labels.ts';
import { loadManifest } from '../../data/dataset.ts';
import { labelDataset } from '../../data/labelling.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Writes the labels of functions and people into the dataset; who gave them, and when, stands in its report. */
export const labelStage = defineStage({
  input: LabelInputSchema,
  cacheable: true,
  run: async ({ dataset, column, classes, functions, answers: answersId, authors }, { deps, signal, progress }) => {
    const { artifacts } = deps;
    const answers = answersId === null ? null : ((await artifacts.getJson(answersId)) as PeoplesAnswers);
    const { ref, manifest, counts } = await labelDataset({
      manifest: await loadManifest(artifacts, dataset),
      id: dataset.id,
      column,
      classes,
      labels: functions.labels,
      answers,
      authors,
      artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'writing');
      },
    });
    const report = { column, classes, counts, functions: (await artifacts.getJson(functions.report)) as FunctionsReport, people: answers?.items ?? [] };
    const { sha256 } = await artifacts.putJson(report);
    const told = (['given', 'functions', 'people', 'none'] as const).flatMap((how) => {
      const rows = counts[how] ?? 0;
      return rows === 0
        ? []
        : [`${rows.toLocaleString('en')} ${{ given: 'had a label', functions: 'by functions', people: 'by people', none: 'without a label' }[how]}`];
    });
    return {
      output: ref,
      summary: told.join(', '),
      datasets: [datasetDraft(ref, manifest, { kind: 'label', source: { dataset: dataset.id, column }, report: sha256 })],
      metrics: Object.entries(counts).map(([key, value]) => ({ key: `rows.${key}`, value })),
    };
  },
});
