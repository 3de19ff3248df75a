import { projectHashKey } from '../../config/hash-key.ts';
import { IngestInputSchema } from '../../contracts/stages.ts';
import { fingerprintSource } from '../../data/fingerprint-source.ts';
import { ingestSource } from '../../data/ingest.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

export const ingestStage = defineStage({
  input: IngestInputSchema,
  cacheable: true,
  fingerprint: async ({ source }, _call, { config }) => ({ source: await fingerprintSource(source, config.projectFolder) }),
  run: async ({ source, name, transforms }, { deps, signal, progress }) => {
    const { ref, manifest } = await ingestSource({
      source,
      name,
      transforms,
      artifacts: deps.artifacts,
      projectFolder: deps.config.projectFolder,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction, rows }) => {
        progress(fraction, rows > 0 ? `${rows.toLocaleString('en')} rows` : 'reading');
      },
    });
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows, ${String(manifest.columns.length)} columns`,
      datasets: [datasetDraft(ref, manifest, { kind: 'ingest', source })],
      metrics: [{ key: 'rows', value: ref.rows }],
    };
  },
});
