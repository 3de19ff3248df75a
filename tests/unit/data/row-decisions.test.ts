import { describe, expect, it } from 'vitest';
import { type DecisionsInput, DecisionsSchema, predicted, when } from '../../../contracts/decisions.ts';
import { call, col } from '../../../contracts/row-transforms.ts';
import type { Signature } from '../../../contracts/signature.ts';
import { compileDecisions, type DecidedRow, type Decider, drawOf } from '../../../data/row-decisions.ts';
import { trafficBucket } from '../../../serving/request-id.ts';

const SIGNATURE: Pick<Signature, 'columns' | 'task'> = {
  columns: [
    { name: 'amount', type: 'number' },
    { name: 'country', type: 'string' },
  ],
  task: { kind: 'binary', target: 'fraud', classes: ['no', 'yes'] },
};
const RULES: DecisionsInput = {
  rules: [
    when(call('greaterOrEqual', predicted.probabilityOf('yes'), 0.9), 'block'),
    when(call('and', call('greater', col('amount'), 1_000), call('greater', predicted.probabilityOf('yes'), 0.5)), 'call', { review: 'fraud' }),
  ],
  otherwise: 'allow',
};
const compile = (input: DecisionsInput, signature = SIGNATURE): Decider => compileDecisions(DecisionsSchema.parse(input), signature);
const row = (p: number, values: Readonly<Record<string, unknown>> | undefined = { amount: 1, country: 'CH' }, more: Partial<DecidedRow> = {}): DecidedRow => ({
  requestId: 'r',
  row: 0,
  values,
  output: [1 - p, p],
  from: 0,
  answered: p >= 0.5 ? 1 : 0,
  ...more,
});
const codeOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe('rules of decision', () => {
  it('answer with the first rule that holds, over columns and what was predicted', () => {
    const decider = compile(RULES);
    const action = (p: number, amount: unknown): unknown => {
      const { action: name, review } = decider.decide(row(p, { amount, country: 'CH' }));
      return [name, review];
    };
    expect([action(0.95, 5_000), action(0.6, 5_000), action(0.6, 5), action(0.4, 5_000)]).toEqual([
      ['block', undefined],
      ['call', 'fraud'],
      ['allow', undefined],
      ['allow', undefined],
    ]);
    expect(decider.decide(row(0.95))).toMatchObject({ propensity: 1, explored: false, text: '"block"' });
  });

  it('do not hold where what they ask for is unknown: null, absent, of another type, or no number', () => {
    const decider = compile(RULES);
    for (const amount of [null, undefined, 'much']) expect(decider.decide(row(0.6, { amount })).action).toBe('allow');
    expect(decider.decide(row(0.6, undefined)).action).toBe('allow');
    expect(decider.decide(row(Number.NaN, { amount: 5_000 })).action).toBe('allow');
  });

  it('see the label, its probability, a value, or the outputs of a bare model', () => {
    const label = compile({
      rules: [when(call('and', call('equal', predicted.label, 'no'), call('greater', predicted.probability, 0.8)), 'sure')],
      otherwise: 'ask',
    });
    expect([label.decide(row(0.1)).action, label.decide(row(0.3)).action, label.decide(row(0.9)).action]).toEqual(['sure', 'ask', 'ask']);
    const value = compile(
      { rules: [when(call('greater', predicted.value, 10), 'high')], otherwise: 'low' },
      { ...SIGNATURE, task: { kind: 'regression', target: 'y' } },
    );
    expect([value.decide(row(0, {}, { output: [1, 11, 9], from: 1 })).action, value.decide(row(0, {}, { output: [1, 11, 9], from: 2 })).action]).toEqual([
      'high',
      'low',
    ]);
    const raw = compile({ rules: [when(call('greater', predicted.output(2), 0), 'third')], otherwise: 'none' }, { ...SIGNATURE, task: { kind: 'raw' } });
    expect(raw.decide(row(0, {}, { output: [0, 0, 1] })).action).toBe('third');
  });

  it('that do not fit are refused, each problem with its rule', () => {
    const missing = codeOf(() =>
      compile({ rules: [when(call('greater', col('amuont'), 1), 'a'), when(call('greater', col('country'), 1), 'b')], otherwise: 'c' }),
    );
    expect(missing).toMatchObject({
      problems: [
        { path: expect.stringMatching(/^decide\.rules\[0\]\.when/) as string },
        { path: expect.stringMatching(/^decide\.rules\[1\]\.when/) as string },
      ],
    });
    expect(codeOf(() => compile({ rules: [when(call('add', col('amount'), 1), 'a')], otherwise: 'c' }))).toMatchObject({
      code: 'COLUMN_TYPE',
      problems: [{ path: 'decide.rules[0].when' }],
    });
    expect(codeOf(() => compile(RULES, { ...SIGNATURE, task: { kind: 'regression', target: 'y' } }))).toMatchObject({ code: 'COLUMN_MISSING' });
    expect(
      codeOf(() =>
        compile({ rules: [when(call('greater', col('amount'), 1), 'a', { review: 'q' })], otherwise: 'c' }, { ...SIGNATURE, task: { kind: 'raw' } }),
      ),
    ).toMatchObject({ code: 'INVALID_PARAMETERS' });
  });
});

describe('a control share', () => {
  const explored = (share: number, seed = 0): Decider => compile({ ...RULES, explore: { share, actions: ['allow', 'block', 'call', 'wait'], seed } });

  it('answers a request alike when it is sent again, and rows of one request apart', () => {
    const [first, again] = [explored(0.5), explored(0.5)];
    const actions = Array.from({ length: 200 }, (_, n) => first.decide(row(0.1, {}, { requestId: 'same', row: n })).action);
    expect(actions).toEqual(Array.from({ length: 200 }, (_, n) => again.decide(row(0.1, {}, { requestId: 'same', row: n })).action));
    expect(new Set(actions).size).toBeGreaterThan(1);
    const others = Array.from({ length: 200 }, (_, n) => explored(0.5, 1).decide(row(0.1, {}, { requestId: 'same', row: n })).action);
    expect(others).not.toEqual(actions);
  });

  it('has the size it says, draws every action alike often, and logs the probability with which it did', () => {
    const decider = explored(0.2);
    const n = 40_000;
    const counts = new Map<string, number>();
    let drawn = 0;
    const propensities = new Map<string, number>();
    for (let i = 0; i < n; i += 1) {
      const decision = decider.decide(row(0.1, {}, { requestId: `a1b2c3d4e5f6a7b8c9d0e1f2${i.toString(16).padStart(10, '0')}` }));
      propensities.set(decision.action, decision.propensity);
      if (!decision.explored) {
        expect(decision.action).toBe('allow');
        continue;
      }
      drawn += 1;
      counts.set(decision.action, (counts.get(decision.action) ?? 0) + 1);
    }
    // four standard deviations of a binomial
    expect(Math.abs(drawn - 0.2 * n)).toBeLessThan(4 * Math.sqrt(n * 0.2 * 0.8));
    const expected = drawn / 4;
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 99.99 % point of chi-square with three degrees of freedom (SciPy 1.14.1: chi2.ppf(0.9999, 3))
    expect(chiSquare).toBeLessThan(21.108);
    for (const [action, propensity] of [
      ['allow', 0.85],
      ['block', 0.05],
      ['call', 0.05],
      ['wait', 0.05],
    ] as const)
      expect(propensities.get(action)).toBeCloseTo(propensity, 12);
  });

  it('lies apart from the share of a canary: the same ids, other requests', () => {
    const n = 20_000;
    let [both, canary, control] = [0, 0, 0];
    for (let i = 0; i < n; i += 1) {
      const id = `ffeeddccbbaa998877665544${i.toString(16).padStart(10, '0')}`;
      const [a, b] = [trafficBucket(id) < 1_000, drawOf(`${id}\n0\n0\nexplore`) < 0.1];
      canary += a ? 1 : 0;
      control += b ? 1 : 0;
      both += a && b ? 1 : 0;
    }
    const expected = (canary * control) / n;
    expect(Math.abs(both - expected)).toBeLessThan(4 * Math.sqrt(expected));
  });

  it('gives an estimate of what another policy would have earned that a plain mean does not give', () => {
    // of rows that the rules block, one in ten would have been worth 1; the rules alone never see it
    const decider = compile({
      rules: [when(call('greaterOrEqual', predicted.probabilityOf('yes'), 0.9), 'block')],
      otherwise: 'allow',
      explore: { share: 0.1, actions: ['allow', 'block'] },
    });
    const n = 40_000;
    let weighted = 0;
    for (let i = 0; i < n; i += 1) {
      const { action, propensity } = decider.decide(row(0.95, {}, { requestId: `x${i}` }));
      const reward = action === 'allow' && i % 10 === 0 ? 1 : 0;
      // inverse propensity score of the policy "always allow" (Horvitz and Thompson, 1952)
      if (action === 'allow') weighted += reward / propensity;
    }
    const standardError = Math.sqrt(0.1 / 0.05 / n);
    expect(Math.abs(weighted / n - 0.1)).toBeLessThan(4 * standardError);
  });
});
