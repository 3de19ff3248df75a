import { expect, it } from 'vitest';
import { judgeTest } from '../../../activities/judge-test.ts';
import type { ServedVersion } from '../../../contracts/routes.ts';
import { createRandom } from '../../../ml/random.ts';

const [champion, challenger] = [1, 2].map((version) => ({ model: 'm', version, predictor: 'a'.repeat(64) })) as [ServedVersion, ServedVersion];

interface Sums {
  readonly version: number;
  readonly from: string;
  readonly n: number;
  readonly sum: number;
  readonly sumSquares: number;
}
const judge = (sums: readonly Sums[], more: object = {}) =>
  judgeTest(
    sums.map((s) => ({ model: 'm', min: 0, max: 1, ...s })),
    { champion, challenger, metric: 'revenue', alpha: 0.05, ...more },
  );
const ones = (version: number, day: number, n: number, sum: number): Sums => ({
  version,
  from: `2026-01-0${String(day)}T00:00:00.000Z`,
  n,
  sum,
  sumSquares: sum,
});

it('says which of two versions is better, to the side that is good', () => {
  const sums = [ones(1, 1, 400, 200), ones(2, 1, 400, 240), ones(3, 1, 400, 400)];
  // z = 2.8284 of 2 · 400 values of which 440 are 1, by hand: score 20, variance 400·400·198 ÷ (800·799) = 49.56
  const judged = judge(sums);
  expect(judged).toMatchObject({ winner: 'challenger', figures: { 'revenue.challenger': 0.6, 'revenue.champion': 0.5, 'revenue.champion.n': 400 } });
  expect(judged.figures['p']).toBeCloseTo(0.00225, 4);
  expect(judged.sentence).toMatch(/^revenue: challenger 0\.6000 of 400, champion 0\.5000 of 400; the challenger is better/);
  expect(judge(sums, { better: 'lower' }).winner).toBe('champion');
  expect(judge([ones(1, 1, 400, 200), ones(2, 1, 400, 206)]).winner).toBeNull();
  expect(judge([])).toMatchObject({ winner: null, figures: { p: 0.5 } });
});

it('compares within days: a challenger with more of a good day is not better for it', () => {
  // both 0.9 on the first day and 0.1 on the second; the challenger has most of the first
  expect(judge([ones(1, 1, 100, 90), ones(2, 1, 900, 810), ones(1, 2, 900, 90), ones(2, 2, 100, 10)])).toMatchObject({
    winner: null,
    figures: { 'revenue.challenger': 0.82, 'revenue.champion': 0.18 },
  });
});

it('takes one of two equal versions for better at the level that it states', () => {
  const random = createRandom(7);
  let better = 0;
  for (let i = 0; i < 2_000; i++) {
    const drawn = (n: number): number => Array.from({ length: n }, () => (random.next() < 0.3 ? 1 : 0)).reduce<number>((a, b) => a + b, 0);
    if (judge([ones(1, 1, 120, drawn(120)), ones(2, 1, 80, drawn(80))]).winner === 'challenger') better += 1;
  }
  // binomial: 100 expected, standard deviation 9.7
  expect(better).toBeGreaterThan(60);
  expect(better).toBeLessThan(140);
});
