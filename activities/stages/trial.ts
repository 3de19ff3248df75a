import { metricDefinition } from '../../contracts/metrics.ts';
import { type TrialOutput, TrialInputSchema } from '../../contracts/tuning.ts';
import { noSuchMetric } from '../no-such-metric.ts';
import { defineStage } from '../stage-definition.ts';
import { trainCandidate, trainingFingerprint } from './train.ts';

/** One trial of a tuning: trains a candidate as `train` does and judges it on the validation rows, or is stopped on its way. */
export const trialStage = defineStage({
  input: TrialInputSchema,
  cacheable: true,
  fingerprint: trainingFingerprint,
  run: async ({ metric, limits, ...input }, context) => {
    const direction = metricDefinition(metric)?.better === 'lower' ? 'minimize' : 'maximize';
    const outcome = await trainCandidate(input, context, limits === null ? null : { ...limits, metric, direction });
    if (outcome.kind === 'stopped') {
      const { stoppedAt, rungs } = outcome;
      const output: TrialOutput = { kind: 'trial', candidate: null, value: null, rungs, stoppedAt };
      const last = rungs.at(-1)?.value;
      return {
        output,
        summary: `${input.trainer.name}: stopped at ${(100 * stoppedAt).toFixed(0)} %, ${metric} ${last?.toPrecision(4) ?? 'unknown'}`,
        ...(last === undefined ? {} : { metrics: [{ key: metric, value: last }] }),
      };
    }
    const value = outcome.validation[metric];
    if (value === undefined || Number.isNaN(value)) throw noSuchMetric(metric, Object.keys(outcome.validation));
    const output: TrialOutput = { kind: 'trial', candidate: outcome.output, value, rungs: outcome.rungs, stoppedAt: null };
    return {
      output,
      summary: `${input.trainer.name}: ${metric} ${value.toPrecision(4)}`,
      metrics: [{ key: metric, value }],
      ...(outcome.device === undefined ? {} : { device: outcome.device }),
      ...(outcome.artifacts === undefined ? {} : { artifacts: outcome.artifacts }),
    };
  },
});
