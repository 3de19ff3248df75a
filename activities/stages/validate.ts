import { z } from 'zod';
import { personalFindingText } from '../../contracts/personal-data.ts';
import { ValidateInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { expectationsFailed } from '../../data/expectations.ts';
import { validateDataset } from '../../data/validate.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';
import { callValueStep } from '../step-threads.ts';

const SHOWN_FINDINGS = 5;
const VerdictsSchema = z.array(z.boolean());

/** Checks every expectation and profiles the data in one scan. What failed is told all at once. */
export const validateStage = defineStage({
  input: ValidateInputSchema,
  cacheable: true,
  fingerprint: async ({ expectations }, call, { builds }) => {
    const called = expectations.expectations.flatMap((expectation) => (expectation.kind === 'customFunction' ? [expectation.step] : []));
    if (called.length === 0) return {};
    const hashes = (await builds.pipeline(call.buildId, call.pipeline))?.steps ?? {};
    return { steps: Object.fromEntries(called.map((step) => [step, hashes[step] ?? 'unknown'])) };
  },
  run: async ({ dataset, expectations, target, quarantine }, { call, deps, signal, progress }) => {
    const { ref, manifest, validation, report, quarantined } = await validateDataset({
      manifest: await loadManifest(deps.artifacts, dataset),
      id: dataset.id,
      expectations,
      artifacts: deps.artifacts,
      ...(target === undefined ? {} : { target }),
      ...(quarantine === false ? {} : { quarantineAtMost: quarantine === true ? 1 : quarantine.atMost }),
      checkValues: async (step, values, parameters) => {
        const module = await deps.builds.stepModule(call.buildId, call.pipeline, step);
        const log = (message: string): void => {
          deps.log('error', `step ${step}`, { run: call.runId, error: message });
        };
        const given = await callValueStep({ module, pipeline: call.pipeline, step, args: [values, parameters] }, { signal, log });
        return VerdictsSchema.catch([]).parse(given);
      },
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'checking');
      },
    });
    if (!validation.success) throw expectationsFailed(validation, dataset.name);
    const warnings = validation.results.filter((result) => !result.success).length;
    const aside = quarantined === null ? '' : `, ${quarantined.ref.rows.toLocaleString('en')} rows quarantined`;
    const undeclared = (validation.personal ?? []).map(personalFindingText);
    const personal =
      undeclared.length === 0
        ? ''
        : `; undeclared personal data: ${undeclared.slice(0, SHOWN_FINDINGS).join(', ')}${undeclared.length > SHOWN_FINDINGS ? ', …' : ''}`;
    const origin = { kind: 'validate', source: { dataset: dataset.id }, report } as const;
    return {
      output: ref,
      summary: `${String(validation.results.length - warnings)} of ${String(validation.results.length)} expectations hold${warnings > 0 ? `, ${String(warnings)} warnings` : ''}${aside}${personal}`,
      datasets: [
        datasetDraft(ref, manifest, origin),
        ...(quarantined === null ? [] : [datasetDraft(quarantined.ref, quarantined.manifest, { ...origin, kind: 'quarantine' })]),
      ],
      artifacts: [{ sha256: report, sizeBytes: JSON.stringify(validation).length, kind: 'validation' }],
      metrics: [
        { key: 'expectations', value: validation.results.length },
        { key: 'expectations.failed', value: warnings },
        ...(undeclared.length === 0 ? [] : [{ key: 'personal.undeclared', value: undeclared.length }]),
        ...(quarantined === null ? [] : [{ key: 'rows.quarantined', value: quarantined.ref.rows }]),
      ],
    };
  },
});
