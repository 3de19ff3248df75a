import { describe, expect, it } from 'vitest';
import { RolloutStrategySchema } from '../../../contracts/rollouts.ts';
import { rolloutPlan } from '../../../workflows/rollout-plan.ts';
import { abTest, blueGreen, canary, replace, shadow } from '../../../workflows/rollouts.ts';

/** The plan in short: `5 % 10`, `5 % hold`. */
const planOf = (strategy: unknown, hasChampion = true): readonly string[] =>
  rolloutPlan(RolloutStrategySchema.parse(strategy), hasChampion).map((phase) => {
    if (phase.kind === 'watch') return `${phase.mode === 'shadow' ? 'mirror ' : ''}${String(phase.percent)} % ${String(phase.forMs ?? 'hold')}`;
    if (phase.kind === 'load') return phase.hold ? 'load hold' : 'load';
    return phase.kind === 'switch' && phase.keepMs > 0 ? `switch, keep ${String(phase.keepMs)}` : phase.kind;
  });

describe('the plan of a rollout', () => {
  it('is a switch where nothing serves, whatever was asked for', () => {
    expect(planOf(canary({ percent: [5, 'hold', 50], bake: 10 }), false)).toEqual(['switch']);
    expect(planOf(shadow({ for: 10, next: 'nothing' }), false)).toEqual(['switch']);
  });

  it('has each share of a canary for its time, and waits where that is said', () => {
    expect(planOf(replace())).toEqual(['switch']);
    expect(planOf(canary({ percent: [5, 'hold', 50, 100], bake: 10 }))).toEqual(['5 % 10', '5 % hold', '50 % 10', 'switch']);
    expect(planOf(canary({ percent: ['hold', 25], bake: 10 }))).toEqual(['load hold', '25 % 10', 'switch']);
  });

  it('loads before it switches, and keeps the version before for its time', () => {
    expect(planOf(blueGreen({ keep: '1 hour' }))).toEqual(['load', 'switch, keep 3600000']);
    expect(planOf(blueGreen({ keep: 0, hold: true }))).toEqual(['load hold', 'switch']);
  });

  it('mirrors, and goes on with what follows', () => {
    expect(planOf(shadow({ for: 10, next: 'nothing' }))).toEqual(['mirror 100 % 10', 'end']);
    expect(planOf(shadow({ percent: 20, for: 10, hold: true, next: canary({ percent: [5], bake: 1 }) }))).toEqual([
      'mirror 20 % 10',
      'mirror 20 % hold',
      '5 % 1',
      'switch',
    ]);
  });

  it('ends a test by a judgement, with a person behind it, or by a person alone', () => {
    const test = { stickyBy: 'header', for: 10 } as const;
    expect(planOf(abTest({ ...test, decideBy: { metric: 'correct' } }))).toEqual(['50 % 10', 'judge', '50 % hold', 'switch']);
    expect(planOf(abTest({ ...test, percent: 20 }))).toEqual(['20 % 10', '20 % hold', 'switch']);
  });
});

it('a strategy that makes no sense is refused with where and why', () => {
  const problems = (strategy: unknown): readonly string[] => (RolloutStrategySchema.safeParse(strategy).error?.issues ?? []).map(({ message }) => message);
  expect(problems(canary({ percent: [50, 5], bake: 1 }))).toEqual(['the shares must rise']);
  expect(problems(canary({ percent: [100, 'hold'], bake: 1 }))).toEqual(['100 can only be the last step']);
  expect(problems(abTest({ stickyBy: { column: '' }, for: 1 }))).toHaveLength(1);
  expect(problems(replace())).toEqual([]);
});
