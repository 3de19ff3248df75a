import { MillraceError } from '../../contracts/errors.ts';
import { metricDefinition } from '../../contracts/metrics.ts';
import type { CandidateRef, WinnerRef } from '../../contracts/references.ts';
import { SelectInputSchema } from '../../contracts/stages.ts';
import { loadManifest } from '../../data/dataset.ts';
import { higherIsBetter } from '../../ml/metrics.ts';
import type { ChosenThreshold } from '../../ml/threshold.ts';
import { judge, loadPredictor } from '../scored-rows.ts';
import { defineStage, type StageContext } from '../stage-definition.ts';
import { refuseTestRows } from '../test-rows.ts';

/** Scores each candidate on the validation set and takes the best; of equal ones, the first. */
export const selectStage = defineStage({
  input: SelectInputSchema,
  cacheable: true,
  run: async ({ candidates, on, metric, threshold: rule }, context) => {
    refuseTestRows([{ manifest: await loadManifest(context.deps.artifacts, on), path: 'select.on', fix: 'Select on the validation part.' }]);
    const scores: WinnerRef['scores'] = [];
    let best: { index: number; value: number; threshold: ChosenThreshold | null } | undefined;
    for (const [index, candidate] of candidates.entries()) {
      const what = `candidate ${String(index + 1)} of ${String(candidates.length)}`;
      const { metrics, threshold } = await judge(context, candidate.predictor, on, what, rule ?? null);
      const value = metrics[metric];
      if (value === undefined) {
        throw new MillraceError('INVALID_PARAMETERS', `A ${candidate.task} model has no metric ${metric}.`, {
          problems: [{ path: 'select.metric', message: 'does not fit the task', found: metric, fix: `Use one of: ${Object.keys(metrics).join(', ')}.` }],
        });
      }
      scores.push({ trainer: candidate.trainer, value, metrics: chiefOf(metrics) });
      if (!Number.isNaN(value) && (best === undefined || (higherIsBetter(metric) ? value > best.value : value < best.value)))
        best = { index, value, threshold };
    }
    const chosen = best === undefined ? undefined : candidates[best.index];
    if (!chosen)
      throw new MillraceError('ACCEPTANCE_FAILED', `No candidate has a ${metric} on the validation set.`, {
        fix: 'The validation set may have one class only; use another split.',
      });
    const threshold = best?.threshold ?? null;
    const moved = threshold === null ? null : await withThreshold(context, chosen, threshold);
    const output: WinnerRef = { kind: 'winner', candidate: moved?.candidate ?? chosen, metric, scores };
    const from = threshold === null ? '' : `, positive from ${threshold.threshold.toPrecision(4)} on`;
    return {
      output,
      summary: `${chosen.trainer}: ${scores.map((s) => `${s.trainer} ${s.value.toFixed(4)}`).join(', ')} (${metric})${from}`,
      ...(moved === null ? {} : { artifacts: [moved.artifact] }),
      metrics: scores.map((s, step) => ({ key: `validation.${metric}`, step, value: s.value })),
    };
  },
});

/** What candidates are compared by at a glance. */
const chiefOf = (metrics: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(metrics).filter(([name, value]) => metricDefinition(name)?.headline === true && Number.isFinite(value)));

/**
 * The candidate with another threshold: a predictor of its own, whose graph is the same.
 * @throws ACCEPTANCE_FAILED where no threshold reaches the precision or recall that was asked for
 */
async function withThreshold({ deps }: StageContext, candidate: CandidateRef, { threshold, reached, precision, recall }: ChosenThreshold) {
  if (!reached) {
    throw new MillraceError('ACCEPTANCE_FAILED', `No threshold of the ${candidate.trainer} candidate reaches what select.threshold asks for.`, {
      problems: [{ path: 'select.threshold', message: 'the nearest one has', found: `precision ${precision.toFixed(4)}, recall ${recall.toFixed(4)}` }],
      fix: 'Ask for less, or train a better model.',
    });
  }
  const predictor = await loadPredictor(deps, candidate.predictor);
  const { sha256, sizeBytes } = await deps.artifacts.putJson({ ...predictor, signature: { ...predictor.signature, threshold } });
  return { candidate: { ...candidate, predictor: sha256 }, artifact: { sha256, sizeBytes, kind: 'predictor' as const } };
}
