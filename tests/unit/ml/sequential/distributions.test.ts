import { describe, expect, it } from 'vitest';
import { addBinCounts, type BinCounts, latencyBin, latencyPercentileMs, probabilityBin } from '../../../../contracts/serving-bins.ts';
import { createRandom } from '../../../../ml/random.ts';
import { testDistance, testPercentileRatio } from '../../../../ml/sequential/distributions.ts';

const random = createRandom(9);
type Draw = () => number;
const counted = (n: number, draw: Draw): BinCounts => addBinCounts(Array.from({ length: n }, () => [draw(), 1]));
const LEVEL = 0.05;

function found(make: () => ReturnType<typeof testDistance>, tried: Draw, ruling: Draw, repetitions: number, blocks = 200): number {
  let times = 0;
  for (let k = 0; k < repetitions; k++) {
    const test = make();
    for (let second = 0; second < blocks && test.pValue > LEVEL; second++) test.add({ tried: counted(6, tried), ruling: counted(18, ruling) }, second);
    if (test.pValue <= LEVEL) times += 1;
  }
  return times / repetitions;
}

describe('a test of distance', () => {
  const flat: Draw = () => probabilityBin(random.next());
  /** 30 % of its answers would have to be others. */
  const moved: Draw = () => (random.next() < 0.3 ? 25 : flat());

  it('leaves equal distributions alone, and those exactly as far away as allowed', () => {
    expect(found(() => testDistance(0.1), flat, flat, 80)).toBeLessThanOrEqual(LEVEL);
    expect(found(() => testDistance(0.3), moved, flat, 80)).toBeLessThanOrEqual(LEVEL);
  });

  it('finds what is further away, the sooner the further', () => {
    expect(found(() => testDistance(0.1), moved, flat, 40)).toBe(1);
    expect(
      found(
        () => testDistance(0.5),
        () => 3,
        flat,
        40,
        30,
      ),
    ).toBe(1);
  });

  it('counts rows of one request that are all alike for no more than they are', () => {
    let times = 0;
    for (let k = 0; k < 150; k++) {
      const test = testDistance(0.1);
      for (let second = 0; second < 200; second++) test.add({ tried: [flat(), 500], ruling: [flat(), 500] }, second);
      if (test.pValue <= LEVEL) times += 1;
    }
    expect(times / 150).toBeLessThanOrEqual(LEVEL);
  });
});

describe('a test of percentiles', () => {
  const latency =
    (factor: number): Draw =>
    () =>
      latencyBin(20 * factor * Math.exp(0.8 * random.normal()));
  const p99 = (): ReturnType<typeof testPercentileRatio> => testPercentileRatio({ share: 0.99, maxRatio: 2, ignoreBelowMs: 0 });

  it('leaves a challenger alone that is as fast, or slower by just what is allowed', () => {
    expect(found(p99, latency(1), latency(1), 40)).toBeLessThanOrEqual(LEVEL);
    expect(found(p99, latency(2), latency(1), 40)).toBeLessThanOrEqual(LEVEL);
    expect(found(() => testPercentileRatio({ share: 0.5, maxRatio: 2, ignoreBelowMs: 0 }), latency(2), latency(1), 40)).toBeLessThanOrEqual(LEVEL);
  });

  it('finds one that is slower than that, in the tail alone too', () => {
    expect(found(p99, latency(6), latency(1), 40)).toBeGreaterThan(0.95);
    const tail: Draw = () => (random.next() < 0.1 ? latencyBin(2_000) : latency(1)());
    expect(found(p99, tail, latency(1), 40)).toBeGreaterThan(0.95);
  });

  it('takes nothing for slow that is faster than what is ignored', () => {
    expect(found(() => testPercentileRatio({ share: 0.99, maxRatio: 2, ignoreBelowMs: 10_000 }), latency(10), latency(1), 20)).toBe(0);
  });
});

describe('percentiles from bins', () => {
  it('are within five in a hundred of those of the values', () => {
    const values = Array.from({ length: 20_000 }, () => 3 * Math.exp(random.normal()));
    const counts = addBinCounts(values.map((value) => [latencyBin(value), 1]));
    const sorted = values.toSorted((a, b) => a - b);
    for (const share of [0.5, 0.95, 0.99]) {
      const exact = sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
      expect(Math.abs((latencyPercentileMs(counts, share) ?? 0) / exact - 1)).toBeLessThan(0.05);
    }
    expect(latencyPercentileMs([], 0.99)).toBeNull();
  });
});
