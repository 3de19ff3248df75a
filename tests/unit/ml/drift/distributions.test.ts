import { describe, expect, it } from 'vitest';
import { chiSquareTail, kolmogorovTail } from '../../../../ml/drift/distributions.ts';

// the figures are SciPy 1.17.1's
describe('tail probabilities', () => {
  it.each([
    [0.5, 1, 0.47950012218695337],
    [3.84, 1, 0.05004352124870519],
    [10, 3, 0.01856613546304325],
    [50, 30, 0.01240206071890054],
    [300, 200, 5.924540335483916e-6],
    [1e-3, 2, 0.9995001249791693],
  ])('chi-square at %d with %d degrees of freedom', (x, degrees, wanted) => {
    expect(chiSquareTail(x, degrees) / wanted).toBeCloseTo(1, 11);
  });

  it.each([
    [0.3, 0.9999906941986655],
    [0.5, 0.9639452436648751],
    [0.9, 0.3927307079406543],
    [1, 0.26999967167735456],
    [1.36, 0.049485876755377876],
    [2.5, 7.453306344157342e-6],
  ])('Kolmogorov at %d', (x, wanted) => {
    expect(kolmogorovTail(x) / wanted).toBeCloseTo(1, 11);
  });

  it('are 1 where nothing was found', () => {
    expect([chiSquareTail(0, 3), kolmogorovTail(0)]).toEqual([1, 1]);
  });
});
