import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../../ml/random.ts';
import { scoreOfMeans, testMeanNotWorse, type ValueSums } from '../../../../ml/sequential/means.ts';

const sumsOf = (values: readonly number[]): ValueSums => ({
  n: values.length,
  sum: values.reduce((a, b) => a + b, 0),
  sumSquares: values.reduce((a, b) => a + b * b, 0),
  min: values.length === 0 ? 0 : Math.min(...values),
  max: values.length === 0 ? 0 : Math.max(...values),
});
const random = createRandom(5);
type Draw = () => number;
/** Share of repetitions in which the test finds the challenger worse: 120 minutes, some values each, at a share that rises. */
function found(tried: Draw, ruling: Draw, options: Parameters<typeof testMeanNotWorse>[0], repetitions: number, level: number): number {
  let times = 0;
  for (let k = 0; k < repetitions; k++) {
    const test = testMeanNotWorse(options);
    for (let minute = 0; minute < 120 && test.pValue > level; minute++) {
      const share = minute < 40 ? 0.05 : minute < 80 ? 0.25 : 0.5;
      const values: [number[], number[]] = [[], []];
      for (let i = 0; i < 12; i++) {
        const one = random.next() < share;
        values[one ? 0 : 1].push(one ? tried() : ruling());
      }
      test.add({ tried: sumsOf(values[0]), ruling: sumsOf(values[1]) }, minute * 60);
    }
    if (test.pValue <= level) times += 1;
  }
  return times / repetitions;
}

describe('the score of a block', () => {
  it('has the variance of dealing its values at random, as all 56 ways to deal eight values show', () => {
    const { score, variance, reach } = scoreOfMeans({ tried: sumsOf([3, 1, 4, 1, 5]), ruling: sumsOf([9, 2, 6]) });
    expect(score).toBeCloseTo(-5.375, 12);
    expect(variance).toBeCloseTo(14.162946428571429, 10);
    expect(reach).toBeCloseTo(5.125, 12);
  });

  it('says nothing where one of the two has no values', () => {
    expect(scoreOfMeans({ tried: sumsOf([]), ruling: sumsOf([1, 2]) })).toMatchObject({ score: 0, variance: 0 });
  });
});

describe('a test of means', () => {
  const level = 0.05;
  it.each<[string, Draw]>([
    ['answers that are right or wrong', () => (random.next() < 0.8 ? 1 : 0)],
    ['outcomes of one in fifty', () => (random.next() < 0.02 ? 1 : 0)],
    ['normal errors', () => random.normal()],
    ['revenues that are mostly nothing and else skewed', () => (random.next() < 0.1 ? Math.exp(1.2 * random.normal()) : 0)],
  ])('takes identical versions for different in at most the level of rollouts: %s', (_, draw) => {
    for (const better of ['higher', 'lower'] as const) expect(found(draw, draw, { better }, 250, level)).toBeLessThanOrEqual(level);
  });

  it('is not misled by a day that changes together with the share', () => {
    let times = 0;
    for (let k = 0; k < 200; k++) {
      const test = testMeanNotWorse({ better: 'higher' });
      for (let minute = 0; minute < 120; minute++) {
        const [share, level_] = minute < 60 ? [0.05, 0.9] : [0.5, 0.5];
        const values: [number[], number[]] = [[], []];
        for (let i = 0; i < 12; i++) values[random.next() < share ? 0 : 1].push(random.next() < level_ ? 1 : 0);
        test.add({ tried: sumsOf(values[0]), ruling: sumsOf(values[1]) }, minute * 60);
      }
      if (test.pValue <= level) times += 1;
    }
    expect(times / 200).toBeLessThanOrEqual(level);
  });

  it('finds a mean that is worse, to either side', () => {
    const normal: Draw = () => random.normal();
    expect(found(() => random.normal() - 0.5, normal, { better: 'higher' }, 60, level)).toBeGreaterThan(0.95);
    expect(found(() => random.normal() + 0.5, normal, { better: 'lower' }, 60, level)).toBeGreaterThan(0.95);
    expect(found(() => random.normal() + 0.5, normal, { better: 'higher' }, 60, level)).toBeLessThanOrEqual(level);
  });

  it('lets a mean be as much worse as was allowed', () => {
    const normal: Draw = () => random.normal();
    expect(found(() => random.normal() - 0.5, normal, { better: 'higher', margin: 0.5 }, 150, level)).toBeLessThanOrEqual(level);
    expect(found(() => random.normal() - 1.1, normal, { better: 'higher', margin: 0.5 }, 60, level)).toBeGreaterThan(0.95);
    expect(found(() => random.normal() + 0.5, normal, { better: 'lower', margin: 0.5 }, 150, level)).toBeLessThanOrEqual(level);
  });
});
