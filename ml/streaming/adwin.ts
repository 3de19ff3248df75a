import type { AdwinOptions, DetectorState } from '../../contracts/detectors.ts';
import { type Detector, requireFinite } from './detector.ts';

type AdwinState = Extract<DetectorState, { kind: 'adwin' }>;
/** Sum of the values, and sum of their squared deviations from their mean. */
type Bucket = [sum: number, squares: number];

/**
 * Keeps as many of the newest values as have one mean, and tells a change when two parts of them differ by more than their
 * spread allows. The window stands in buckets of 1, 2, 4, … values, so that its memory and its time grow with the logarithm
 * of its length. One value costs about 0.6 µs, at every `clock`th one a pass over the buckets.
 *
 * The bound is that of the normal approximation: with W values in the window, δ' = ln(2 ln W ÷ δ) and
 * m⁻¹ = 1 ÷ (n₀ − l + 1) + 1 ÷ (n₁ − l + 1), where l is `minWindowLength`, means that differ by more than
 * √(2 m⁻¹ σ² δ') + ⅔ m⁻¹ δ' are not one.
 *
 * Source: A. Bifet, R. Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM SDM 2007 (ADWIN2);
 * `minWindowLength`, `gracePeriod` and the new begin after a change as in River 0.26.1 and MOA.
 */
export function createAdwin(options: AdwinOptions): Detector {
  return adwinFrom({ kind: 'adwin', options, tick: 0, variance: 0, total: 0, rows: [[]], drifted: false });
}

/** Goes on from a state. */
export function adwinFrom(from: AdwinState): Detector {
  const { options } = from;
  const { delta, clock, maxBuckets, minWindowLength, gracePeriod } = options;
  let rows: Bucket[][] = from.rows.map((row) => row.map(([sum, squares]) => [sum, squares]));
  let { tick, total, variance: squares, drifted } = from;
  let width = rows.reduce((sum, row, i) => sum + row.length * 2 ** i, 0);

  const insert = (value: number): void => {
    rows[0]?.push([value, 0]);
    width++;
    if (width > 1) {
      const distance = value - total / (width - 1);
      squares += ((width - 1) * distance * distance) / width;
    }
    total += value;
    merge();
  };

  /** Two oldest buckets of a size become one of the next size where there are too many. */
  const merge = (): void => {
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] as Bucket[];
      if (row.length <= maxBuckets) return;
      const [[sumA, squaresA], [sumB, squaresB]] = row.splice(0, 2) as [Bucket, Bucket];
      const size = 2 ** i;
      const distance = sumA / size - sumB / size;
      (rows[i + 1] ??= []).push([sumA + sumB, squaresA + squaresB + (size * size * distance * distance) / (size + size)]);
    }
  };

  const dropOldest = (): void => {
    const size = 2 ** (rows.length - 1);
    const [sum, within] = (rows.at(-1) as Bucket[]).shift() as Bucket;
    width -= size;
    total -= sum;
    const distance = sum / size - total / width;
    squares -= within + (size * width * distance * distance) / (size + width);
    while (rows.length > 1 && rows.at(-1)?.length === 0) rows.pop();
  };

  /** Whether some cut, of those between buckets, parts the window into two means. */
  const isCut = (): boolean => {
    const deltaPrime = Math.log((2 * Math.log(width)) / delta);
    const variance = squares / width;
    let [older, newer, sumOlder, sumNewer] = [0, width, 0, total];
    for (let i = rows.length - 1; i >= 0; i--) {
      for (const [sum] of rows[i] as Bucket[]) {
        older += 2 ** i;
        newer -= 2 ** i;
        sumOlder += sum;
        sumNewer -= sum;
        if (newer < minWindowLength || newer === 0) return false;
        if (older < minWindowLength) continue;
        const inverse = 1 / (older - minWindowLength + 1) + 1 / (newer - minWindowLength + 1);
        const bound = Math.sqrt(2 * inverse * variance * deltaPrime) + (2 / 3) * deltaPrime * inverse;
        if (Math.abs(sumOlder / older - sumNewer / newer) > bound) return true;
      }
    }
    return false;
  };

  return {
    update(value) {
      requireFinite(value);
      if (drifted) {
        rows = [[]];
        [tick, total, squares, width, drifted] = [0, 0, 0, 0, false];
      }
      insert(value);
      tick++;
      if (tick % clock === 0 && width > gracePeriod) {
        while (isCut()) {
          drifted = true;
          dropOldest();
        }
      }
      return { drift: drifted };
    },
    state: () => ({ kind: 'adwin', options, tick, variance: squares, total, rows: rows.map((row) => row.map(([a, b]) => [a, b])), drifted }),
  };
}
