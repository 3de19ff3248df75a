import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { ExpectationResult } from '../../contracts/expectations.ts';
import { ValidateInputSchema } from '../../contracts/stages.ts';
import { validateDataset } from '../../data/validate.ts';
import { datasetDraft } from '../dataset-record.ts';
import { defineStage } from '../stage-definition.ts';

/** Checks every expectation and profiles the data in one scan. What failed is told all at once. */
export const validateStage = defineStage({
  input: ValidateInputSchema,
  cacheable: true,
  run: async ({ dataset, expectations }, { deps, signal, progress }) => {
    const { ref, manifest, validation } = await validateDataset({
      ref: dataset,
      expectations,
      artifacts: deps.artifacts,
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'checking');
      },
    });
    const failed = validation.results.filter((result) => !result.success);
    const warnings = failed.filter((result) => result.severity === 'warn').length;
    if (!validation.success) {
      throw new MillraceError('EXPECTATIONS_FAILED', `${String(failed.length - warnings)} of ${String(validation.results.length)} expectations do not hold.`, {
        problems: failed.filter((result) => result.severity === 'fail').map(problemOf),
      });
    }
    const report = await deps.artifacts.putJson(validation);
    return {
      output: ref,
      summary: `${String(validation.results.length - failed.length)} of ${String(validation.results.length)} expectations hold${warnings > 0 ? `, ${String(warnings)} warnings` : ''}`,
      datasets: [datasetDraft(ref, manifest, { dataset: dataset.id })],
      artifacts: [{ sha256: report.sha256, sizeBytes: report.sizeBytes, kind: 'validation' }],
      metrics: [
        { key: 'expectations', value: validation.results.length },
        { key: 'expectations.failed', value: failed.length },
      ],
    };
  },
});

function problemOf(result: ExpectationResult): Problem {
  const rows = result.sample.map(({ row, value }) => `row ${String(row)}: ${value}`).join('; ');
  return {
    path: `expectations.${result.column ?? 'table'}.${result.expectation.kind}`,
    message: result.message,
    ...(rows === '' ? {} : { found: rows }),
    ...(result.column === null ? {} : { column: result.column }),
  };
}
