import { projectHashKey } from '../../config/hash-key.ts';
import type { DatasetRef } from '../../contracts/references.ts';
import { CleanInputSchema } from '../../contracts/stages.ts';
import { cleanDataset } from '../../data/clean.ts';
import { loadManifest } from '../../data/dataset.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Cleans a dataset, and others alongside. The report tells what each rule did. */
export const cleanStage = defineStage({
  input: CleanInputSchema,
  cacheable: true,
  run: async ({ dataset, rules, fitOn, alongside }, { deps, signal, progress }) => {
    const open = async (ref: DatasetRef) => ({ manifest: await loadManifest(deps.artifacts, ref), id: ref.id });
    const parent = await open(dataset);
    const others = Object.fromEntries(await Promise.all(Object.entries(alongside).map(async ([name, ref]) => [name, await open(ref)] as const)));
    const cleaned = await cleanDataset({
      ...parent,
      rules,
      ...(fitOn === undefined ? {} : { fitOn: await open(fitOn) }),
      alongside: others,
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'cleaning');
      },
    });
    const { ref, manifest } = cleaned.dataset;
    const { sha256, sizeBytes } = await deps.artifacts.putJson(cleaned.report);
    const dropped = parent.manifest.rows - ref.rows;
    const changed = cleaned.report.rules.reduce((sum, { columns }) => sum + columns.reduce((n, column) => n + column.changed, 0), 0);
    const written = [
      { dataset: cleaned.dataset, of: dataset },
      ...Object.entries(cleaned.alongside).map(([name, other]) => ({ dataset: other, of: alongside[name] ?? dataset })),
    ];
    return {
      output:
        Object.keys(alongside).length === 0
          ? ref
          : { dataset: ref, ...Object.fromEntries(Object.entries(cleaned.alongside).map(([name, other]) => [name, other.ref])) },
      summary: `${String(rules.length)} rules, ${ref.rows.toLocaleString('en')} rows${dropped > 0 ? `, ${dropped.toLocaleString('en')} dropped` : ''}, ${changed.toLocaleString('en')} values changed`,
      datasets: written.map(({ dataset: one, of }) =>
        datasetDraft(one.ref, one === cleaned.dataset ? manifest : one.manifest, { kind: 'clean', source: { dataset: of.id }, report: sha256 }),
      ),
      artifacts: [{ sha256, sizeBytes, kind: 'clean' }],
      metrics: [
        { key: 'rows.dropped', value: dropped },
        { key: 'values.changed', value: changed },
      ],
    };
  },
});
