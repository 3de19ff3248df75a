import type { Random } from '../random.ts';
import { type Distribution, fromSearchRange, searchRange } from './parameters.ts';

/** A value drawn evenly, as its number. */
export function drawEvenly(distribution: Distribution, random: Random): number {
  if (distribution.kind === 'categorical') return random.below(distribution.options.length);
  const { low, high } = searchRange(distribution);
  return fromSearchRange(distribution, low + random.next() * (high - low));
}
