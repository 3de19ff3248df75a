import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { TrainerSpec } from '../contracts/stages.ts';
import { TuningHistorySchema } from '../contracts/tuning.ts';
import type { Observation } from '../ml/search/parameters.ts';
import { bindTrainer, isTrainerName } from '../ml/trainers.ts';
import type { Store } from '../store/store.ts';
import type { RunActivities } from './types.ts';

/** Earlier trials that a search begins with, at most; the newest of them. */
const MOST_WARM = 500;

/**
 * Before a tuning begins: each trainer is asked whether it takes the ends of each range, and earlier trials are looked up.
 *
 * @throws INVALID_PARAMETERS with every problem; NOT_FOUND where the run named has no such tuning.
 */
export async function planTuning(store: Store, { pipeline, stage, metric, trainers, warmStart }: Parameters<RunActivities['planTuning']>[0]) {
  checkTrainers(trainers);
  if (warmStart === undefined) return { warm: [] };
  const record =
    warmStart === 'last'
      ? await store.stages.lastCompleted(pipeline, stage)
      : ((await store.stages.list(warmStart.run)).find(({ kind, name, status }) => kind === 'tune' && name === stage && status === 'completed') ?? null);
  if (record === null) {
    if (warmStart === 'last') return { warm: [] };
    throw new MillraceError('NOT_FOUND', `Run ${warmStart.run} has no completed tuning ${stage}.`, { fix: 'Name the 32 digits of a run that completed it.' });
  }
  const history = TuningHistorySchema.parse((record.input as { readonly history: unknown }).history);
  if (history.metric !== metric) {
    throw new MillraceError('INVALID_PARAMETERS', 'The earlier tuning made another metric best.', {
      problems: [{ path: 'warmStart', message: `its values are of ${history.metric}`, found: metric, fix: `Tune ${history.metric}, or leave warmStart out.` }],
    });
  }
  const warm = history.trials.flatMap(({ state, values, value, rungs }): Observation[] =>
    state === 'completed' || state === 'stopped' ? [{ state, values, value, rungs }] : [],
  );
  return { warm: warm.slice(-MOST_WARM) };
}

function checkTrainers(trainers: readonly TrainerSpec[]): void {
  const problems = new Map<string, Problem>();
  for (const { name, parameters } of trainers) {
    // what other programs take, they say themselves
    if (!isTrainerName(name)) continue;
    try {
      bindTrainer(name, parameters);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      for (const problem of error.problems) problems.set(`${name} ${problem.path} ${problem.message}`, { ...problem, path: `${name}: ${problem.path}` });
    }
  }
  if (problems.size > 0)
    throw new MillraceError('INVALID_PARAMETERS', 'The space has values that its trainers do not take.', { problems: [...problems.values()] });
}
