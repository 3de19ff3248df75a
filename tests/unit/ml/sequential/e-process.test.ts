import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../../ml/random.ts';
import { createEProcess } from '../../../../ml/sequential/e-process.ts';

describe('a process of evidence', () => {
  it('begins at one, and is the weighted mean of the products of its factors', () => {
    const process = createEProcess([1, 3], 1);
    expect(process.evidence).toBe(1);
    process.update((i) => Math.log(i === 0 ? 4 : 0.5), 1);
    process.update((i) => Math.log(i === 0 ? 2 : 0.5), 2);
    expect(process.evidence).toBeCloseTo(0.25 * 8 + 0.75 * 0.25, 12);
    process.update(() => Math.log(0.5), 3);
    expect(process.pValue).toBeCloseTo(1 / (0.25 * 8 + 0.75 * 0.25), 12);
  });

  it('keeps a part back, of which half is put in after ten minutes: what comes late is not held against what was before', () => {
    const process = createEProcess([1], 0.6);
    process.update(() => Math.log(1e-6), 0);
    expect(process.evidence).toBeCloseTo(0.4, 5);
    process.update(() => 0, 600);
    process.update(() => Math.log(10), 600);
    expect(process.evidence).toBeCloseTo(0.2 + 0.2 * 10, 4);
  });

  it('has a mean of one while the factors have, whatever is kept back', () => {
    const random = createRandom(3);
    let sum = 0;
    const repetitions = 4_000;
    for (let k = 0; k < repetitions; k++) {
      const process = createEProcess([1, 1], 0.6);
      for (let t = 1; t <= 6; t++) {
        const up = random.next() < 0.5;
        process.update((i) => Math.log(up ? 1 + 0.3 * (i + 1) : 1 - 0.3 * (i + 1)), t * 100);
      }
      sum += process.evidence;
    }
    expect(Math.abs(sum / repetitions - 1)).toBeLessThan(0.06);
  });

  it('stays finite however much is found', () => {
    const process = createEProcess([1, 1]);
    for (let t = 0; t < 100; t++) process.update(() => 500, t);
    expect(process.evidence).toBeGreaterThanOrEqual(1e100);
    expect(Number.isFinite(process.evidence)).toBe(true);
  });
});
