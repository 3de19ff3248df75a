import { describe, expect, it } from 'vitest';
import { lastChange } from '../../../../ml/drift/change-point.ts';
import { createRandom } from '../../../../ml/random.ts';

describe('the last change of a series', () => {
  it('is where its newest level begins', () => {
    expect(lastChange([0, 0, 0, 0, 1, 1, 1])).toBe(4);
    expect(lastChange([0, 0.1, -0.1, 0, 5, 5.1, 4.9, 5, 9, 9.2, 8.9])).toBe(8);
    const random = createRandom(1);
    const values = Array.from({ length: 200 }, (_, i) => (i < 150 ? 0 : 2) + random.normal());
    expect(Math.abs((lastChange(values) ?? 0) - 150)).toBeLessThanOrEqual(3);
  });

  it('is none where there is none: of few values, of equal ones, and of noise but for about one series in a hundred', () => {
    expect(lastChange([])).toBeNull();
    expect(lastChange([1, 2, 9, 9, 9])).toBeNull();
    expect(lastChange(new Array<number>(50).fill(0.3))).toBeNull();
    const random = createRandom(2);
    let found = 0;
    for (let series = 0; series < 300; series++) if (lastChange(Array.from({ length: 100 }, () => 1e6 + random.normal())) !== null) found++;
    // 3 of 300, and three standard deviations
    expect(found).toBeLessThanOrEqual(3 + 3 * Math.sqrt(3));
  });
});
