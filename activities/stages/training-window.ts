import { TrainingWindowInputSchema } from '../../contracts/stages.ts';
import type { WindowRule } from '../../contracts/training-window.ts';
import { loadManifest } from '../../data/dataset.ts';
import { trainingWindow } from '../../data/training-window.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Cuts the rows that are trained on out of a dataset, or gives them weights. */
export const trainingWindowStage = defineStage({
  input: TrainingWindowInputSchema,
  cacheable: true,
  run: async ({ dataset: from, rule }, { deps, signal, progress }) => {
    const { dataset, undated, ...span } = await trainingWindow({
      manifest: await loadManifest(deps.artifacts, from),
      id: from.id,
      rule,
      artifacts: deps.artifacts,
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'choosing rows');
      },
    });
    const rows = (n: number): string => n.toLocaleString('en');
    const dates = span.from === null ? '' : `, ${span.from} to ${span.to ?? ''}`;
    return {
      output: dataset.ref,
      summary: `${rows(dataset.ref.rows)} of ${rows(from.rows)} rows: ${shown(rule)}${dates}${undated === 0 ? '' : `; ${rows(undated)} without a value in the column left out`}`,
      // all rows are the dataset itself, which has its record
      datasets:
        dataset.ref.id === from.id
          ? []
          : [datasetDraft(dataset.ref, dataset.manifest, { kind: 'trainingWindow', source: { dataset: from.id, rule, ...span } })],
    };
  },
});

function shown(rule: WindowRule): string {
  switch (rule.rule) {
    case 'all':
      return 'all';
    case 'sliding':
      return `the newest ${lengthText(rule.length)}`;
    case 'sinceChange':
      return rule.changePoint === null ? 'no change point is known, all' : `since the change at ${rule.changePoint}`;
    case 'weighted':
      return `half the weight every ${lengthText(rule.halfLife)}`;
  }
}

const lengthText = (length: Extract<WindowRule, { rule: 'sliding' }>['length']): string =>
  'rows' in length ? `${length.rows.toLocaleString('en')} rows` : `${String(Math.round(length.ms / 8_640) / 10_000)} days`;
