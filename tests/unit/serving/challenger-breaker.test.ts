import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../ml/random.ts';
import { createChallengerBreaker } from '../../../serving/challenger-breaker.ts';

describe("a challenger's breaker", () => {
  it('breaks at once after ten failures one after the other, while the champion answers', () => {
    const breaker = createChallengerBreaker(0);
    const told = Array.from({ length: 10 }, (_, i) => [breaker.count(true, true), breaker.count(false, i === 0)]);
    expect(told).toEqual([...Array.from({ length: 9 }, () => [false, false]), [true, true]]);
    expect(breaker.broken).toEqual({
      reason: '10 of its requests failed one after the other; the server took its traffic back by itself',
      figures: { requests: 10, errors: 10, championRequests: 9, championErrors: 1 },
    });
    expect(breaker.count(true, false)).toBe(true);
    expect(breaker.look(5_000)).toBe(true);
  });

  it('does not break for failures that the champion has as well', () => {
    const breaker = createChallengerBreaker(0);
    for (let second = 1; second <= 60; second++) {
      for (let i = 0; i < 20; i++) {
        expect(breaker.count(true, true)).toBe(false);
        expect(breaker.count(false, true)).toBe(false);
      }
      expect(breaker.look(second * 1_000)).toBe(false);
    }
    for (let i = 0; i < 20; i++) breaker.count(true, true);
    expect(breaker.broken).toBeUndefined();
  });

  it('waits for answers of the champion, without which nobody knows whose fault it is', () => {
    const breaker = createChallengerBreaker(0);
    for (let i = 0; i < 50; i++) expect(breaker.count(true, true)).toBe(false);
    breaker.count(false, false);
    expect(breaker.count(false, false)).toBe(true);
  });

  it('finds failures that are scattered among answers, second by second', () => {
    const random = createRandom(7);
    const breaker = createChallengerBreaker(0);
    let second = 0;
    while (breaker.broken === undefined && second < 600) {
      second += 1;
      for (let i = 0; i < 100; i++) {
        const challenger = random.next() < 0.25;
        breaker.count(challenger, random.next() < (challenger ? 0.1 : 0.01));
      }
      breaker.look(second * 1_000);
    }
    expect(second).toBeLessThan(60);
    expect(breaker.broken?.reason).toMatch(
      /^\d+\.\d % of its \d+ requests failed, \d+\.\d % of the champion's \d+; the server took its traffic back by itself$/,
    );
  });

  it('leaves identical versions alone, in ten hours of an error in a hundred', () => {
    const random = createRandom(11);
    let taken = 0;
    for (let rollout = 0; rollout < 100; rollout++) {
      const breaker = createChallengerBreaker(0);
      for (let second = 1; second <= 360; second++) {
        for (let i = 0; i < 20; i++) breaker.count(random.next() < 0.25, random.next() < 0.01);
        breaker.look(second * 1_000);
      }
      if (breaker.broken !== undefined) taken += 1;
    }
    expect(taken).toBe(0);
  });

  it("weighs nothing of the time before the challenger's first request", () => {
    const breaker = createChallengerBreaker(0);
    for (let i = 0; i < 1_000; i++) breaker.count(false, false);
    for (let i = 0; i < 9; i++) breaker.count(true, true);
    breaker.count(true, false);
    expect(breaker.look(1_000)).toBe(false);
    for (let i = 0; i < 4; i++) breaker.count(true, true);
    expect(breaker.broken).toBeUndefined();
  });
});
