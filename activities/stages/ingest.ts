import { projectHashKey } from '../../config/hash-key.ts';
import { shownSource } from '../../contracts/source.ts';
import { IngestInputSchema } from '../../contracts/stages.ts';
import { fingerprintSource } from '../../data/fingerprint-source.ts';
import { ingestSource } from '../../data/ingest.ts';
import { datasetDraft } from '../dataset-record.ts';
import { sourceAccess } from '../source-access.ts';
import { defineStage } from '../stage-definition.ts';

export const ingestStage = defineStage({
  input: IngestInputSchema,
  cacheable: true,
  fingerprint: async ({ source }, _call, deps) => ({ source: await fingerprintSource(source, sourceAccess(deps)) }),
  run: async ({ source, name, transforms, golden: rule }, { deps, signal, progress }) => {
    const { ref, manifest, golden } = await ingestSource({
      source,
      name,
      transforms,
      ...(rule === undefined ? {} : { golden: rule }),
      artifacts: deps.artifacts,
      ...sourceAccess(deps),
      hashKey: projectHashKey(deps.config.home),
      signal,
      onFetch: (what) => {
        progress(null, `fetching ${what}`);
      },
      onProgress: ({ fraction, rows }) => {
        progress(fraction, rows > 0 ? `${rows.toLocaleString('en')} rows` : 'reading');
      },
    });
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows, ${String(manifest.columns.length)} columns${golden === null ? '' : `, ${golden.ref.rows.toLocaleString('en')} more rows set aside`}`,
      datasets: [
        datasetDraft(ref, manifest, { kind: 'ingest', source: shownSource(source) }),
        ...(golden === null ? [] : [datasetDraft(golden.ref, golden.manifest, { kind: 'golden', source: shownSource(source) })]),
      ],
      metrics: [{ key: 'rows', value: ref.rows }],
    };
  },
});
