import { projectHashKey } from '../../config/hash-key.ts';
import { LabelFunctionsInputSchema } from '../../contracts/labels.ts';
import { loadManifest } from '../../data/dataset.ts';
import { labelByFunctions } from '../../data/labelling.ts';
import { defineStage } from '../stage-definition.ts';

/** Labelling functions vote on the rows without a label; chooses what people are asked. */
export const labelFunctionsStage = defineStage({
  input: LabelFunctionsInputSchema,
  cacheable: true,
  run: async (input, { deps, signal, progress }) => {
    const { output, report } = await labelByFunctions({
      manifest: await loadManifest(deps.artifacts, input.dataset),
      input,
      artifacts: deps.artifacts,
      hashKey: projectHashKey(deps.config.home),
      signal,
      onProgress: ({ fraction }) => {
        progress(fraction, 'voting');
      },
    });
    const count = (n: number): string => n.toLocaleString('en');
    const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
    const each = report.functions
      .slice(0, 5)
      .map(({ name, coverage, conflicts }) => `${name} ${percent(coverage)}${conflicts > 0 ? ` (${percent(conflicts)} in conflict)` : ''}`);
    const functions =
      input.by.length === 0
        ? ''
        : `, functions label ${count(report.labelled)}, ${count(report.conflicting)} in conflict: ${each.join(', ')}${report.functions.length > 5 ? ', …' : ''}`;
    return {
      output,
      summary: `${count(report.rows - report.given)} of ${count(report.rows)} rows without a label${functions}`,
      metrics: [
        { key: 'coverage', value: report.rows === report.given ? 0 : report.covered / (report.rows - report.given) },
        { key: 'conflicting', value: report.conflicting },
        { key: 'labelledByFunctions', value: report.labelled },
      ],
    };
  },
});
