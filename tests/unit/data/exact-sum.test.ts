import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createExactSum } from '../../../data/exact-sum.ts';
import { exactSumOf } from '../../support/exact-rational.ts';

const finite = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e300, max: 1e300 }),
  fc.double({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 }),
  fc.integer({ min: -50, max: 50 }).map((n) => n / 100),
  fc.constantFrom(1e300, -1e300, 2 ** 53, 1, 2 ** -53, -(2 ** -106), 5e-324, Number.MAX_SAFE_INTEGER),
);
/** −0 and 0 are the same sum. */
const plain = (value: number): number => value + 0;

describe('an exact sum', () => {
  it('is the sum rounded once, whatever was added and taken away before', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ value: finite, stays: fc.boolean() }), { maxLength: 60 }), (items) => {
        const sum = createExactSum();
        for (const { value } of items) sum.add(value);
        for (const { value, stays } of items) if (!stays) sum.remove(value);
        expect(sum.overflowed()).toBe(false);
        expect(plain(sum.value())).toBe(plain(exactSumOf(items.flatMap(({ value, stays }) => (stays ? [value] : [])))));
      }),
      { numRuns: 2000 },
    );
  });

  it('is what math.fsum of Python 3.11 gives', () => {
    const sumOf = (values: readonly number[]): number => {
      const sum = createExactSum();
      for (const value of values) sum.add(value);
      return sum.value();
    };
    expect(sumOf(Array.from({ length: 10 }, () => 0.1))).toBe(1);
    expect(sumOf([1e16, 1, -1e16])).toBe(1);
    expect(sumOf([1e100, 1, -1e100, 1e-100])).toBe(1);
    expect(sumOf([1, 2 ** -53, 2 ** -106])).toBe(1.0000000000000002);
    expect(sumOf([1, 2 ** -53])).toBe(1);
  });

  it('adds infinities up as arithmetic does, and forgets those that are taken away', () => {
    const sum = createExactSum();
    sum.add(2.5);
    sum.add(Infinity);
    expect(sum.value()).toBe(Infinity);
    sum.add(-Infinity);
    expect(sum.value()).toBeNaN();
    sum.remove(Infinity);
    expect(sum.value()).toBe(-Infinity);
    sum.add(Number.NaN);
    expect(sum.value()).toBeNaN();
    sum.remove(Number.NaN);
    sum.remove(-Infinity);
    expect(sum.value()).toBe(2.5);
  });

  it('says that it went beyond the largest double until it is cleared', () => {
    const sum = createExactSum();
    sum.add(1e308);
    sum.add(1e308);
    sum.remove(1e308);
    expect(sum.overflowed()).toBe(true);
    sum.clear();
    sum.add(1);
    expect([sum.overflowed(), sum.value()]).toEqual([false, 1]);
  });
});
