/**
 * A stream of numbers in [0, 1) that `seed` and `stream` fix: SplitMix32 finalizer over a counter (Steele, Lea, Flood:
 * "Fast splittable pseudorandom number generators", 2014). A stream is never continued across steps, so that a resumed
 * training draws the same numbers as one that was not interrupted.
 */
export function createSeededRandom(seed: number, stream: number): () => number {
  const mix = (value: number): number => {
    let z = value | 0;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
  // A seed may exceed 32 bits: both halves count.
  let state = mix(mix(mix(seed % 4294967296) ^ Math.floor(seed / 4294967296)) ^ Math.imul(stream + 1, 0x85ebca6b));
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return (mix(state) >>> 0) / 4294967296;
  };
}
