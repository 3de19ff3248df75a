import type { WinnerRef } from '../../contracts/references.ts';
import { SelectInputSchema } from '../../contracts/stages.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { higherIsBetter } from '../../ml/metrics.ts';
import { judge } from '../scored-rows.ts';
import { defineStage } from '../stage-definition.ts';

/** Scores each candidate on the validation set and takes the best; of equal ones, the first. */
export const selectStage = defineStage({
  input: SelectInputSchema,
  cacheable: true,
  run: async ({ candidates, on, metric }, context) => {
    const scores: { trainer: string; value: number }[] = [];
    let best: { index: number; value: number } | undefined;
    for (const [index, candidate] of candidates.entries()) {
      const { metrics } = await judge(context, candidate.predictor, on, [], `candidate ${String(index + 1)} of ${String(candidates.length)}`);
      const value = metrics[metric];
      if (value === undefined) {
        throw new MillraceError('INVALID_PARAMETERS', `A ${candidate.task} model has no metric ${metric}.`, {
          problems: [{ path: 'select.metric', message: 'does not fit the task', found: metric, fix: `Use one of: ${Object.keys(metrics).join(', ')}.` }],
        });
      }
      scores.push({ trainer: candidate.trainer, value });
      if (!Number.isNaN(value) && (best === undefined || (higherIsBetter(metric) ? value > best.value : value < best.value))) best = { index, value };
    }
    const chosen = best === undefined ? undefined : candidates[best.index];
    if (!chosen)
      throw new MillraceError('ACCEPTANCE_FAILED', `No candidate has a ${metric} on the validation set.`, {
        fix: 'The validation set may have one class only; use another split.',
      });
    const output: WinnerRef = { kind: 'winner', candidate: chosen, metric, scores };
    return {
      output,
      summary: `${chosen.trainer}: ${scores.map((s) => `${s.trainer} ${s.value.toFixed(4)}`).join(', ')} (${metric})`,
      metrics: scores.map((s, step) => ({ key: `validation.${metric}`, step, value: s.value })),
    };
  },
});
