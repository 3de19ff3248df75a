import { beforeAll, describe, expect, it, vi } from 'vitest';
import { tuningWorkflowId } from '../../contracts/queues.ts';
import { int } from '../../contracts/search-space.ts';
import type { TrialOutput, TrialRecord, TuneOutput, TuningHistory, TuningState } from '../../contracts/tuning.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment, PATIENCE_MS, stageOf, untilProgress } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  // a second of a core costs 1
  env = await openEnvironment({ settings: { rates: { currency: 'EUR', cpuHour: 3600 } } });
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
    expect(new Set(trials.map(({ values }) => JSON.stringify([values['trainer'], values['features']]))).size).toBeGreaterThan(2);
  });

  it('with the same seed makes the same trials, and stops the same ones', async () => {
    const first = await historyOf(tuned(await env.run('tunedTrees', { trials: 8, parallel: 3, scheduler: 'asha' })));
    const second = await historyOf(tuned(await env.run('tunedTrees', { trials: 8, parallel: 3, scheduler: 'asha' })));
    expect(chosen(second.trials)).toEqual(chosen(first.trials));
    expect(first.trials.filter(({ state }) => state === 'stopped').length).toBeGreaterThan(0);
  });

  it('stops trials that are worse than the median of those before them', async () => {
    const { trials } = await historyOf(tuned(await env.run('tunedTrees', { trials: 12, scheduler: 'median' })));
    const stopped = trials.filter(({ state }) => state === 'stopped');
    expect(stopped.length).toBeGreaterThan(0);
    // none of the first five, which are what the others are held against
    expect(stopped.every(({ trial, rungs }) => trial > 5 && rungs.length > 0 && rungs.length <= 9)).toBe(true);
  });

  it.each([
    ['time', 1, 51, 'its time was over'],
    ['cpuSeconds', 0.01, 52, 'its CPU seconds were used'],
    ['cost', 0.01, 53, 'its money was spent'],
  ])('begins no trial any more when its budget of %s is used', async (figure, limit, seed, why) => {
    // trials of a seed of their own: what is taken over from another run uses nothing
    const result = tuned(await env.run('tunedTrees', { trials: 200, budget: { [figure]: limit }, seed }));
    expect(result.trials).toBeLessThan(20);
    expect(result.completed).toBe(result.trials);
    expect((await stageOf(env, result.runId, 'tune')).input).toMatchObject({ cancelled: why });
  });

  it('begins with what an earlier run has learnt: the last one, or the one that is named', async () => {
    const earlier = tuned(await env.run('tunedTrees', { trials: 10, seed: 2 }));
    const values = async (more: object) =>
      (await historyOf(tuned(await env.run('tunedTrees', { trials: 2, seed: 3, ...more })))).trials.map((trial) => trial.values);
    const cold = await values({});
    const named = await values({ warmStart: { run: earlier.runId } });
    expect(named).not.toEqual(cold);
    await env.run('tunedTrees', { trials: 10, seed: 2 });
    expect(await values({ warmStart: 'last' })).toEqual(named);
    expect(await failureOf(await env.start('tunedTrees', { warmStart: { run: '0'.repeat(32) } }))).toMatchObject({ code: 'NOT_FOUND' });
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

/** Trials that compute nothing: what is looked at is the search. */
const objective = (input: { readonly trainer: { readonly parameters: { readonly leaves?: number } } }): TrialOutput => ({
  kind: 'trial',
  candidate: { kind: 'candidate', predictor: '0'.repeat(64), trainer: 'gbdt', task: 'binary', device: 'cpu', rows: 1 },
  value: Math.abs((input.trainer.parameters.leaves ?? 0) - 11),
  rungs: [],
  stoppedAt: null,
});
const split = { kind: 'dataset', id: '1'.repeat(64), name: 'flights', rows: 1 } as const;
const MOCKS = { ingest: () => split, split: () => ({ train: split, validation: split, test: split }) };

describe('a long tuning', () => {
  it('of 500 trials stays far within the limits of a history, and goes on from one history to the next', async () => {
    const env = await openEnvironment({ mocks: { ...MOCKS, trial: objective } });
    const run = await env.start('tunedTrees', { trials: 500, parallel: 10 });
    const result = tuned(await run.result());
    expect(result).toMatchObject({ trials: 500, completed: 500, value: 0, values: { leaves: 11 } });
    const child = env.client.workflow.getHandle(tuningWorkflowId(result.runId, 'tune'));
    const description = await child.describe();
    // Temporal ends a workflow at 51,200 events or 50 MiB
    expect(description.historyLength).toBeLessThan(5_000);
    expect(description.historySize).toBeLessThan(8 * 2 ** 20);
    expect((await run.handle.describe()).historyLength).toBeLessThan(1_500);
  });

  it('can be steered: fewer trials, another space, a stop; what does not fit is refused', async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const env = await openEnvironment({
      mocks: {
        ...MOCKS,
        trial: async (input, call) => {
          if (call.stage === 'tune-trial-3') await gate;
          return objective(input);
        },
      },
    });
    const run = await env.start('tunedTrees', { trials: 400, parallel: 1 });
    const { runId } = await untilProgress(run, ({ stages }) => stages.some(({ name, status }) => name === 'tune' && status === 'running'));
    const child = env.client.workflow.getHandle(tuningWorkflowId(runId, 'tune'));
    const steer = (change: object): Promise<TuningState> => child.executeUpdate<TuningState, [object]>('steer', { args: [change] });
    await vi.waitFor(async () => expect((await child.query<TuningState>('state')).running).toEqual([3]), { timeout: PATIENCE_MS, interval: 150 });
    await expect(steer({ space: { leaves: int(5, 1) } })).rejects.toThrow();
    await expect(steer({ trials: 0 })).rejects.toThrow();
    expect(await steer({ trials: 8, space: { leaves: int(40, 50) } })).toMatchObject({ trials: 8, ended: 2 });
    open();
    const result = tuned(await run.result());
    expect(result.trials).toBe(8);
    const { trials } = (await env.deps.artifacts.getJson(result.history)) as TuningHistory;
    expect(trials.slice(3).every(({ values }) => Number(values['leaves']) >= 40)).toBe(true);
    expect(trials.slice(0, 3).every(({ values }) => Number(values['leaves']) <= 32)).toBe(true);
  });

  it('can be steered to another budget and another rule of stopping', async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const limits: unknown[] = [];
    const env = await openEnvironment({
      mocks: {
        ...MOCKS,
        trial: async (input, call) => {
          limits.push((input as unknown as { readonly limits: unknown }).limits);
          if (call.stage === 'tune-trial-2') await gate;
          return objective(input);
        },
      },
    });
    const run = await env.start('tunedTrees', { trials: 400, parallel: 1 });
    const { runId } = await untilProgress(run, ({ stages }) => stages.some(({ name, status }) => name === 'tune' && status === 'running'));
    const child = env.client.workflow.getHandle(tuningWorkflowId(runId, 'tune'));
    const steer = (change: object): Promise<TuningState> => child.executeUpdate<TuningState, [object]>('steer', { args: [change] });
    const untilRunning = (trial: number) =>
      vi.waitFor(async () => expect((await child.query<TuningState>('state')).running).toEqual([trial]), { timeout: PATIENCE_MS, interval: 150 });
    await untilRunning(2);
    await expect(steer({ stopRule: { rule: 'asha', reduction: 1 } })).rejects.toThrow();
    await expect(steer({ budget: { cost: -1 } })).rejects.toThrow();
    await steer({ stopRule: { rule: 'asha' }, budget: { cpuSeconds: 1_000 } });
    open();
    await vi.waitFor(() => expect(limits.length).toBeGreaterThan(2), { timeout: PATIENCE_MS });
    expect(limits.slice(0, 2)).toEqual([null, null]);
    expect(limits[2]).toMatchObject({ by: 'last' });
    await steer({ budget: { timeMs: 0 } });
    const result = tuned(await run.result());
    expect(result.trials).toBeLessThan(400);
    expect((await stageOf(env, result.runId, 'tune')).input).toMatchObject({ cancelled: 'its time was over' });
  });
});
