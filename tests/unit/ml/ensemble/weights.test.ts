import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { optimalWeights } from '../../../../ml/ensemble/weights.ts';
import { createRandom } from '../../../../ml/random.ts';

const share = (weights: readonly number[]): number => weights.reduce((sum, weight) => sum + weight, 0);

describe('optimalWeights', () => {
  it('finds the mix of values that the truth is made of', () => {
    const random = createRandom(1);
    const a = Float64Array.from({ length: 300 }, () => random.normal());
    const b = Float64Array.from({ length: 300 }, () => random.normal());
    const weights = optimalWeights({ answers: [a, b], y: a.map((value, row) => 0.3 * value + 0.7 * (b[row] ?? 0)), outputs: 1 });
    expect(weights[0]).toBeCloseTo(0.3, 6);
    expect(weights[1]).toBeCloseTo(0.7, 6);
  });

  it('gives all weight to the member that alone is right', () => {
    const y = [0, 1, 1, 0, 1];
    const right = y.flatMap((target) => (target === 1 ? [0.1, 0.9] : [0.9, 0.1]));
    const wrong = y.flatMap((target) => (target === 1 ? [0.8, 0.2] : [0.2, 0.8]));
    expect(optimalWeights({ answers: [wrong, right], y, outputs: 2 })).toEqual([0, 1]);
    expect(optimalWeights({ answers: [y.map((v) => 1 - v), y], y, outputs: 1 })).toEqual([0, 1]);
  });

  it('finds the proportion of least log loss in closed form: of two members that are each right on a part of the rows', () => {
    // on 3 of 4 rows the first says 0.8 and the second 0.4, on the fourth 0.2 and 0.6: w solves 3·0.4/(0.4 + 0.4w) = 0.4/(0.6 - 0.4w)
    const y = [1, 1, 1, 0];
    const first = [0.2, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2, 0.8];
    const second = [0.6, 0.4, 0.6, 0.4, 0.6, 0.4, 0.6, 0.4];
    expect(optimalWeights({ answers: [first, second], y, outputs: 2 })[0]).toBeCloseTo(0.875, 4);
  });

  it('never loses more than equal weights, nor than any member alone', () => {
    const loss = (answers: readonly (readonly number[])[], weights: readonly number[], y: readonly number[]): number =>
      y.reduce((sum, target, row) => sum - Math.log(answers.reduce((p, answer, m) => p + (weights[m] ?? 0) * (answer[2 * row + target] ?? 0), 0)), 0);
    const squares = (answers: readonly (readonly number[])[], weights: readonly number[], y: readonly number[]): number =>
      y.reduce((sum, value, row) => sum + (answers.reduce((v, answer, m) => v + (weights[m] ?? 0) * (answer[row] ?? 0), 0) - value) ** 2, 0);
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 2, max: 40 }), fc.integer({ min: 0, max: 1e6 }), (members, rows, seed) => {
        const random = createRandom(seed);
        const y = Array.from({ length: rows }, () => random.below(2));
        const answers = Array.from({ length: members }, () => y.flatMap(() => [random.next() * 0.98 + 0.01]).flatMap((p) => [1 - p, p]));
        const values = Array.from({ length: members }, () => y.map((target) => target + random.normal()));
        const corners = [answers.map(() => 1 / members), ...answers.map((_, m) => answers.map((__, n) => (m === n ? 1 : 0)))];
        const mixed = optimalWeights({ answers, y, outputs: 2 });
        const fitted = optimalWeights({ answers: values, y, outputs: 1 });
        expect(share(mixed)).toBeCloseTo(1, 9);
        expect(share(fitted)).toBeCloseTo(1, 9);
        for (const corner of corners) {
          expect(loss(answers, mixed, y)).toBeLessThanOrEqual(loss(answers, corner, y) + 0.02 * rows ** 0.5);
          expect(squares(values, fitted, y)).toBeLessThanOrEqual(squares(values, corner, y) + 1e-2);
        }
      }),
      { numRuns: 50, seed: 2 },
    );
  });
});
