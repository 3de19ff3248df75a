import { describe, expect, it } from 'vitest';
import { loadLbfgs, saveLbfgs, startLbfgs, stepLbfgs } from '../../../ml/linear/lbfgs.ts';

describe('L-BFGS', () => {
  it('stalls, and says so, where no step along the slope lowers the value', () => {
    // The gradient is that of a hill, not of this bowl: every promised fall is a climb.
    const lying = (point: Float64Array, gradient: Float64Array): number => {
      point.forEach((x, i) => (gradient[i] = -2 * x));
      return point.reduce((sum, x) => sum + x * x, 0);
    };
    const state = startLbfgs(lying, Float64Array.of(1, -2));
    stepLbfgs(state, lying, Float64Array.of(1, 1), 1e-6);
    expect(state).toMatchObject({ done: true, stalled: true, iteration: 1, value: 5 });
    expect(loadLbfgs(saveLbfgs(state), 2)).toEqual(state);
  });

  it('ends without a stall at the least value that rounding lets it see', () => {
    const bowl = (point: Float64Array, gradient: Float64Array): number => {
      gradient[0] = 2 * ((point[0] ?? 0) - 3);
      return 1e6 + ((point[0] ?? 0) - 3) ** 2;
    };
    const state = startLbfgs(bowl, Float64Array.of(0));
    for (let i = 0; i < 50 && !state.done; i++) stepLbfgs(state, bowl, Float64Array.of(1.5), 0);
    expect(state.stalled).toBe(false);
    expect(state.point[0]).toBeCloseTo(3, 4);
  });
});
