import { projectHashKey } from '../../config/hash-key.ts';
import { shownSource } from '../../contracts/source.ts';
import { IngestInputSchema } from '../../contracts/stages.ts';
import { fingerprintSource } from '../../data/fingerprint-source.ts';
import { incrementSettings } from '../../data/increment.ts';
import { ingestSource } from '../../data/ingest.ts';
import { datasetDraft } from '../dataset-record.ts';
import { incrementBase } from '../increment-base.ts';
import { sourceAccess } from '../source-access.ts';
import { defineStage } from '../stage-definition.ts';

export const ingestStage = defineStage({
  input: IngestInputSchema,
  cacheable: true,
  fingerprint: async (input, call, deps, { signal, progress }) => ({
    source: await fingerprintSource(input.source, sourceAccess(deps, call), signal, (label, fraction) => {
      progress(fraction, `comparing ${label}`);
    }),
    ...(input.source.format === 'rows'
      ? { step: (await deps.builds.pipeline(call.buildId, input.source.pipeline))?.steps[input.source.step] ?? 'unknown' }
      : {}),
    ...(input.increment === undefined ? {} : { base: (await incrementBase(input, deps))?.id ?? null }),
  }),
  run: async (input, { call, deps, signal, progress }) => {
    const { source, name, pii, transforms, golden: rule, increment, owner } = input;
    const base = await incrementBase(input, deps);
    const { ref, manifest, golden, added, notes } = await ingestSource({
      source,
      name,
      pii,
      transforms,
      ...(rule === undefined ? {} : { golden: rule }),
      ...(increment === undefined ? {} : { increment: { rule: increment, settings: incrementSettings(input), ...(base === undefined ? {} : { base }) } }),
      artifacts: deps.artifacts,
      ...sourceAccess(deps, call),
      hashKey: projectHashKey(deps.config.home),
      signal,
      onFetch: (what) => {
        progress(null, `fetching ${what}`);
      },
      onProgress: ({ fraction, rows }) => {
        progress(fraction, rows > 0 ? `${rows.toLocaleString('en')} rows` : 'reading');
      },
    });
    const origin = { source: shownSource(source), ...(owner === undefined ? {} : { owner }) };
    const news = added === null ? '' : added === 0 ? ', nothing new' : `, ${added.toLocaleString('en')} of them new`;
    return {
      output: ref,
      summary: `${ref.rows.toLocaleString('en')} rows${news}, ${String(manifest.columns.length)} columns${golden === null ? '' : `, ${golden.ref.rows.toLocaleString('en')} more rows set aside`}${notes.map((note) => `; ${note}`).join('')}`,
      datasets: [
        datasetDraft(ref, manifest, { kind: 'ingest', ...origin }),
        ...(golden === null ? [] : [datasetDraft(golden.ref, golden.manifest, { kind: 'golden', ...origin })]),
      ],
      metrics: [{ key: 'rows', value: ref.rows }, ...(added === null ? [] : [{ key: 'newRows', value: added }])],
    };
  },
});
