import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { type TrialRecord, type TuneOutput, TuneInputSchema, type TuningHistory } from '../../contracts/tuning.ts';
import { defineStage } from '../stage-definition.ts';

/** Reasons that are told when no trial has completed. */
const MOST_REASONS = 10;

/** Ends a tuning: keeps the history of its trials and names the best. */
export const tuneStage = defineStage({
  input: TuneInputSchema,
  cacheable: true,
  run: async ({ history, candidate, cancelled }, { deps }) => {
    const { trials, metric, best } = history;
    const counted = (state: string): number => trials.filter((trial) => trial.state === state).length;
    const counts = { completed: counted('completed'), stopped: counted('stopped'), failed: counted('failed') };
    const winner = trials.find(({ trial }) => trial === best);
    if (candidate === null || winner === undefined || winner.value === null) throw nothingCompleted(trials);
    const kept: TuningHistory = { ...history, best: winner.trial };
    const { sha256, sizeBytes } = await deps.artifacts.putJson(kept);
    const output: TuneOutput = {
      kind: 'tuned',
      best: candidate,
      value: winner.value,
      trial: winner.trial,
      values: winner.values,
      trials: trials.length,
      ...counts,
      history: sha256,
    };
    const others = [counts.stopped > 0 ? `${String(counts.stopped)} stopped early` : '', counts.failed > 0 ? `${String(counts.failed)} failed` : ''].filter(
      Boolean,
    );
    const early = cancelled === null ? '' : `; ${cancelled}`;
    return {
      output,
      summary: `${metric} ${winner.value.toPrecision(4)} in trial ${String(winner.trial)} of ${String(trials.length)}${others.length > 0 ? ` (${others.join(', ')})` : ''}${early}`,
      metrics: trials.flatMap(({ trial, value }) => (value === null ? [] : [{ key: `trial.${metric}`, step: trial, value }])),
      artifacts: [{ sha256, sizeBytes, kind: 'tuning' }],
    };
  },
});

function nothingCompleted(trials: readonly TrialRecord[]): MillraceError {
  const reasons = new Map<string, { readonly problem: Problem; count: number }>();
  for (const { trial, error } of trials) {
    if (error === undefined) continue;
    const key = `${error.code}: ${error.message}`;
    const known = reasons.get(key);
    if (known) known.count++;
    else reasons.set(key, { problem: { path: `trial ${String(trial)}`, message: key }, count: 1 });
  }
  return new MillraceError('TUNING_FAILED', `None of ${String(trials.length)} trials has completed.`, {
    problems: [...reasons.values()]
      .slice(0, MOST_REASONS)
      .map(({ problem, count }) => (count === 1 ? problem : { ...problem, message: `${problem.message} (and ${String(count - 1)} more)` })),
  });
}
