import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../../ml/random.ts';
import { logOddsEvidence, type RatePair, testRateNotHigher, testShareAtMost } from '../../../../ml/sequential/rates.ts';

const table = (triedTotal: number, triedEvents: number, rulingTotal: number, rulingEvents: number): RatePair => ({
  triedTotal,
  triedEvents,
  rulingTotal,
  rulingEvents,
});

describe('the evidence of a table', () => {
  // ln of scipy.stats.nchypergeom_fisher(M, n, N, odds).pmf(x) ÷ scipy.stats.hypergeom(M, n, N).pmf(x), SciPy 1.17.1
  it.each([
    [table(25, 2, 75, 1), 3.2, 1.0229933526369792],
    [table(250, 60, 750, 40), 2.3, 22.71406587652651],
    [table(4, 4, 12, 0), 10, 5.137329828812515],
    [table(25, 0, 75, 3), 3.2, -1.3033082669743645],
  ])("is SciPy's ratio of Fisher's noncentral to the central hypergeometric probability: %o at odds of %d", (given, odds, expected) => {
    expect(logOddsEvidence(given, Math.log(odds))).toBeCloseTo(expected, 9);
  });

  it('has a mean of one over all ways in which the events may fall', () => {
    const [tried, ruling, events] = [6, 14, 5];
    const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k);
    let mean = 0;
    for (let x = 0; x <= events; x++) {
      const chance = (choose(tried, x) * choose(ruling, events - x)) / choose(tried + ruling, events);
      mean += chance * Math.exp(logOddsEvidence(table(tried, x, ruling, events - x), Math.log(3.2)));
    }
    expect(mean).toBeCloseTo(1, 12);
  });

  it('is nothing where all requests failed, or none, or one of the two was not asked', () => {
    for (const given of [table(5, 5, 5, 5), table(5, 0, 5, 0), table(0, 0, 5, 2), table(5, 2, 0, 0)]) expect(logOddsEvidence(given, 1)).toBe(0);
  });

  it('stays finite where thousands fail', () => {
    const evidence = logOddsEvidence(table(5_000, 4_900, 15_000, 200), Math.log(40));
    expect(Number.isFinite(evidence)).toBe(true);
    expect(evidence).toBeGreaterThan(1_000);
  });
});

describe('a test of an error rate against the champion', () => {
  const random = createRandom(21);
  const draw = (n: number, rate: number): number => {
    let events = 0;
    for (let i = 0; i < n; i++) if (random.next() < rate) events += 1;
    return events;
  };
  function found(level: number, repetitions: number, rates: (second: number) => readonly [tried: number, ruling: number]): number {
    let times = 0;
    for (let k = 0; k < repetitions; k++) {
      const test = testRateNotHigher();
      for (let second = 1; second <= 300 && test.pValue > level; second++) {
        const tried = second < 100 ? 3 : 10;
        const [a, b] = rates(second);
        test.add(table(tried, draw(tried, a), 20 - tried, draw(20 - tried, b)), second);
      }
      if (test.pValue <= level) times += 1;
    }
    return times / repetitions;
  }

  it('leaves equal rates alone though it looks every second, also when both change together', () => {
    expect(found(0.05, 300, () => [0.05, 0.05])).toBeLessThanOrEqual(0.05);
    expect(found(0.05, 300, (second) => (second < 100 ? [0.3, 0.3] : [0.01, 0.01]))).toBeLessThanOrEqual(0.05);
    expect(found(0.05, 100, () => [0.01, 0.05])).toBe(0);
  });

  it('has evidence whose mean is one over all ways in which the events of three blocks may fall, for whatever level it was made', () => {
    const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k);
    const [tried, ruling, events] = [5, 15, 3];
    const chances = [0, 1, 2, 3].map((x) => (choose(tried, x) * choose(ruling, events - x)) / choose(tried + ruling, events));
    for (const level of [0.3, 0.05, 0.001]) {
      let mean = 0;
      for (let way = 0; way < 64; way++) {
        const test = testRateNotHigher(level);
        let chance = 1;
        for (const [block, x] of [way % 4, Math.floor(way / 4) % 4, Math.floor(way / 16)].entries()) {
          chance *= chances[x] ?? 0;
          // the third block is in the second sprint
          test.add(table(tried, x, ruling, events - x), block * 7);
        }
        mean += chance * test.evidence;
      }
      expect(mean).toBeCloseTo(1, 10);
    }
  });

  it('finds a rate that is thrice as high, from the begin and from later on', () => {
    expect(found(0.05, 60, () => [0.15, 0.05])).toBeGreaterThan(0.95);
    expect(found(0.05, 60, (second) => [second < 100 ? 0.05 : 0.2, 0.05])).toBeGreaterThan(0.95);
  });
});

describe('a test of a share against a limit', () => {
  const random = createRandom(22);
  const found = (share: number, limit: number, repetitions: number): number => {
    let times = 0;
    for (let k = 0; k < repetitions; k++) {
      const test = testShareAtMost(limit);
      for (let second = 1; second <= 200 && test.pValue > 0.05; second++) {
        let events = 0;
        for (let i = 0; i < 10; i++) if (random.next() < share) events += 1;
        test.add({ total: 10, events }, second);
      }
      if (test.pValue <= 0.05) times += 1;
    }
    return times / repetitions;
  };

  it('is the likelihood ratio, mixed: one alternative alone gives p and q by hand', () => {
    const test = testShareAtMost(0.5);
    test.add({ total: 1, events: 1 }, 0);
    // share of odds o: o ÷ (1 + o); over the limit a half: 2·o ÷ (1 + o); 0.4 is kept back
    const mixture = [
      [1.3, 0.08],
      [1.7, 0.14],
      [2.3, 0.22],
      [3.2, 0.26],
      [5, 0.16],
      [10, 0.08],
      [40, 0.06],
    ].reduce((sum, [odds = 0, weight = 0]) => sum + weight * ((2 * odds) / (1 + odds)), 0);
    expect(test.evidence).toBeCloseTo(0.4 + 0.6 * mixture, 10);
  });

  it('leaves a share alone that is at its limit, and finds one that is above', () => {
    expect(found(0.1, 0.1, 300)).toBeLessThanOrEqual(0.05);
    expect(found(0.2, 0.1, 60)).toBeGreaterThan(0.95);
  });
});
