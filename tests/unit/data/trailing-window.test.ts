import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createTrailingWindow, type TrailingWindow } from '../../../data/trailing-window.ts';
import { exactSumOf } from '../../support/exact-rational.ts';

const open = (lengthUs: bigint): TrailingWindow => createTrailingWindow({ lengthUs, sums: true, least: true, greatest: true });
const told = (window: TrailingWindow): readonly number[] => [window.count(), window.sum(), window.last(), window.least(), window.greatest()];

/** The row that no other row goes before, the last of those. */
const best = (rows: readonly { readonly row: number; readonly value: number }[], before: (a: number, b: number) => boolean): number =>
  rows.reduce((found, candidate) => (found === undefined || !before(found.value, candidate.value) ? candidate : found), rows[0])?.row ?? -1;

describe('a trailing window', () => {
  it('tells what its rows are, not what went through it, however many it holds', () => {
    const step = fc.record({ wait: fc.integer({ min: 0, max: 3 }), value: fc.integer({ min: -20, max: 20 }).map((n) => n / 7) });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 400 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 12 }),
        (steps, length, repeats) => {
          const window = open(BigInt(length));
          const rows: { at: number; row: number; value: number }[] = [];
          let at = -500;
          for (const { wait, value } of Array.from({ length: repeats }, () => steps).flat()) {
            at += wait;
            rows.push({ at, row: rows.length, value });
            window.push(BigInt(at), rows.length - 1, value, value);
            if (rows.length % 7 > 0) continue;
            window.moveTo(BigInt(at));
            const held = rows.filter((row) => row.at > at - length);
            expect(told(window)).toEqual([
              held.length,
              exactSumOf(held.map((row) => row.value)) + 0,
              held.at(-1)?.row ?? -1,
              best(held, (a, b) => a < b),
              best(held, (a, b) => a > b),
            ]);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('keeps its rows when it outgrows its memory, and lets them go all the same', () => {
    const window = open(5_000n);
    for (let at = 0; at < 20_000; at++) window.push(BigInt(at), at, 0.1, -at);
    window.moveTo(19_999n);
    expect(told(window)).toEqual([5_000, 500, 19_999, 19_999, 15_000]);
    window.moveTo(24_998n);
    expect(told(window)).toEqual([1, 0.1, 19_999, 19_999, 19_999]);
    window.moveTo(24_999n);
    expect([...told(window), window.mean()]).toEqual([0, 0, -1, -1, -1, 0]);
  });

  it('gives the mean of values whose sum no double holds', () => {
    const window = open(10n);
    window.push(1n, 0, 1.5e308, 0);
    window.push(2n, 1, 1.7e308, 0);
    expect([window.sum(), window.mean()]).toEqual([Infinity, 1.6e308]);
    window.push(3n, 2, -1.7e308, 0);
    expect(window.sum()).toBe(1.5e308);
    window.moveTo(11n);
    expect(window.sum()).toBe(0);
  });

  it('orders text by code points and puts NaN above all numbers, as DuckDB does', () => {
    const texts = open(10n);
    ['\u{1f600}', '\uff5e', 'z'].forEach((text, row) => {
      texts.push(1n, row, 0, text);
    });
    expect([texts.least(), texts.greatest()]).toEqual([2, 0]);
    const numbers = open(10n);
    [1, Number.NaN, -Infinity, Infinity].forEach((value, row) => {
      numbers.push(1n, row, 0, value);
    });
    expect([numbers.least(), numbers.greatest()]).toEqual([2, 1]);
    const integers = open(10n);
    [2n ** 62n, 2n ** 62n + 1n, 2n ** 62n - 1n].forEach((value, row) => {
      integers.push(1n, row, 0, value);
    });
    expect([integers.least(), integers.greatest()]).toEqual([2, 1]);
  });
});
