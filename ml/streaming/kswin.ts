import type { DetectorState, KswinOptions } from '../../contracts/detectors.ts';
import { createRandom, hashIndex } from '../random.ts';
import { type Detector, requireFinite } from './detector.ts';

type KswinState = Extract<DetectorState, { kind: 'kswin' }>;

/** Which of the older values a draw takes: `count` different whole numbers below `of`. The same for the same draw. */
export type DrawIndices = (draw: number, of: number, count: number) => ArrayLike<number>;

/**
 * Compares the newest values with as many of the older ones in the window, drawn by chance, by the two-sided test of
 * Kolmogorov and Smirnov (exact), at every value. A change needs a distance above 0.1 too. Memory: `windowSize` numbers;
 * a value costs a sort of 2 × `statSize` numbers, about 16 µs by default. `drawIndices` default: seeded by `seed` and the
 * number of the draw, so that the state need not hold a generator.
 *
 * Source: C. Raab, M. Heusinger, F.-M. Schleif, "Reactive soft prototype computing for concept drift streams",
 * Neurocomputing 416, 2020; the least distance of 0.1 as in River 0.26.1.
 */
export function createKswin(options: KswinOptions, drawIndices?: DrawIndices): Detector {
  return kswinFrom({ kind: 'kswin', options, draws: 0, window: [] }, drawIndices);
}

const LEAST_DISTANCE = 0.1;

/** Goes on from a state. */
export function kswinFrom({ options, ...from }: KswinState, drawIndices: DrawIndices = seededDraws(options.seed)): Detector {
  const { alpha, windowSize, statSize } = options;
  let { draws } = from;
  let window = [...from.window];
  return {
    update(value) {
      requireFinite(value);
      window.push(value);
      if (window.length > windowSize) window.shift();
      if (window.length < windowSize) return { drift: false };
      const older = Array.from(drawIndices(draws++, windowSize - statSize, statSize), (index) => window[index] as number);
      const distance = largestDistance(Float64Array.from(older).sort(), Float64Array.from(window.slice(-statSize)).sort());
      const drift = distance > LEAST_DISTANCE && equalSizesPValue(Math.round(distance * statSize), statSize) <= alpha;
      if (drift) window = [];
      return { drift };
    },
    state: () => ({ kind: 'kswin', options, draws, window: [...window] }),
  };
}

/** The first of a shuffle (Fisher–Yates), seeded for each draw. */
function seededDraws(seed: number): DrawIndices {
  return (draw, of, count) => {
    const random = createRandom(hashIndex(draw, seed));
    const numbers = Uint32Array.from({ length: of }, (_, i) => i);
    for (let i = 0; i < count; i++) {
      const j = i + random.below(of - i);
      const kept = numbers[i] as number;
      numbers[i] = numbers[j] as number;
      numbers[j] = kept;
    }
    return numbers.subarray(0, count);
  };
}

/** Largest distance between the distribution functions of two ascending lists. */
function largestDistance(a: Float64Array, b: Float64Array): number {
  let largest = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const value = Math.min(a[i] as number, b[j] as number);
    while (i < a.length && (a[i] as number) === value) i++;
    while (j < b.length && (b[j] as number) === value) j++;
    largest = Math.max(largest, Math.abs(i / a.length - j / b.length));
  }
  return largest;
}

/**
 * P(distance ≥ h ÷ n) of two samples of n values each from one distribution: 2 Σₖ (-1)ᵏ⁻¹ C(2n, n − kh) ÷ C(2n, n).
 * Source: B. V. Gnedenko, V. S. Korolyuk, "On the maximum discrepancy between two empirical distributions", 1951.
 */
export function equalSizesPValue(h: number, n: number): number {
  if (h <= 0) return 1;
  let sum = 0;
  // C(2n, n − d) ÷ C(2n, n) = Π (n − j) ÷ (n + j + 1) over j < d
  let share = 1;
  for (let d = 1; d <= n; d++) {
    share *= (n - d + 1) / (n + d);
    if (d % h === 0) sum += (d / h) % 2 === 1 ? share : -share;
  }
  return Math.max(0, Math.min(1, 2 * sum));
}
