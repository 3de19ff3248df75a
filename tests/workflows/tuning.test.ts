import { beforeAll, describe, expect, it } from 'vitest';
import type { TrialRecord, TuneOutput, TuningHistory } from '../../contracts/tuning.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment, stageOf } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment();
});

const historyOf = async ({ history }: Pick<TuneOutput, 'history'>): Promise<TuningHistory> => (await env.deps.artifacts.getJson(history)) as TuningHistory;
/** What the search did, without what the machine did. */
const chosen = (trials: readonly TrialRecord[]) => trials.map(({ trial, state, values, value, rungs }) => ({ trial, state, values, value, rungs }));
const tuned = (result: unknown): TuneOutput & { readonly runId: string } => result as TuneOutput & { readonly runId: string };

describe('tune', () => {
  it('gives the best candidate of its trials, each a stage of the run', async () => {
    const result = tuned(await env.run('tunedTrees', { trials: 6 }));
    expect(result).toMatchObject({ trials: 6, completed: 6, best: { kind: 'candidate', trainer: 'gbdt', task: 'binary' } });
    const { trials, best } = await historyOf(result);
    expect(trials.map(({ value }) => value)[best - 1]).toBe(Math.min(...trials.map(({ value }) => value ?? Infinity)));
    expect(result.values).toEqual(trials[best - 1]?.values);
    const record = await stageOf(env, result.runId, `tune-trial-${String(best)}`);
    expect(record).toMatchObject({ kind: 'trial', status: 'completed', input: { trainer: { parameters: { trees: 16, ...result.values } } } });
  });

  it('chooses among trainers and recipes; what was not chosen has no parameters', async () => {
    const { trials } = await historyOf(tuned(await env.run('tunedChoice', { trials: 10, parallel: 3 })));
    for (const { values } of trials) {
      const names = Object.keys(values).filter((name) => name !== 'features');
      const early = values['trees.stopping'] === 'early' ? ['trees.stopping.early.earlyStoppingRounds'] : [];
      expect(names.sort()).toEqual(values['trainer'] === 'line' ? ['line.l2', 'trainer'] : ['trainer', 'trees.leaves', 'trees.stopping', ...early]);
    }
    expect(new Set(trials.map(({ values }) => `${String(values['trainer'])} ${String(values['features'])}`)).size).toBeGreaterThan(2);
  });

  it('with the same seed makes the same trials, and stops the same ones', async () => {
    const first = await historyOf(tuned(await env.run('tunedTrees', { trials: 8, parallel: 3, scheduler: 'asha' })));
    const second = await historyOf(tuned(await env.run('tunedTrees', { trials: 8, parallel: 3, scheduler: 'asha' })));
    expect(chosen(second.trials)).toEqual(chosen(first.trials));
    expect(first.trials.filter(({ state }) => state === 'stopped').length).toBeGreaterThan(0);
  });

  it('names every problem of a space before anything runs', async () => {
    const report = await failureOf(await env.start('tunedWrongly'));
    expect(report).toMatchObject({ code: 'INVALID_PARAMETERS' });
    expect(report.problems.map(({ path }) => path)).toEqual(['space.leaves', 'space.learningRate.low', 'space.l2', 'space.x']);
    const values = await failureOf(await env.start('tunedWrongly', { where: 'trainer' }));
    expect(values.problems.map(({ path }) => path).sort()).toEqual(['gbdt: trainer.parameters', 'gbdt: trainer.parameters.leaves']);
    const settings = await failureOf(await env.start('tunedWrongly', { where: 'settings' }));
    expect(settings.problems.map(({ path }) => path)).toEqual(['scheduler.reduction', 'trials', 'parallel']);
  });

  it('gives up when all trials fail, and says why', async () => {
    const report = await failureOf(await env.start('tunedWrongly', { where: 'failing' }));
    expect(report).toMatchObject({ code: 'TUNING_FAILED', message: 'None of 10 trials has completed.' });
    expect(report.problems).toHaveLength(1);
    expect(report.problems[0]?.message).toContain('COLUMN_MISSING');
  });
});
