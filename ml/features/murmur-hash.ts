const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;

/**
 * MurmurHash3 (x86, 32 bits, seed 0) of some bytes, 0 … 2³² - 1, as onnxruntime's contributed operator `MurmurHash3` and
 * scikit-learn's `murmurhash3_32(positive=True)` give it. Source: Austin Appleby, MurmurHash3.cpp (public domain).
 */
export function murmurHash(bytes: Uint8Array, length = bytes.length): number {
  let hash = 0;
  const whole = length & ~3;
  for (let at = 0; at < whole; at += 4) {
    const block = (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    hash ^= mix(block);
    hash = Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64;
  }
  let tail = 0;
  for (let at = length - 1; at >= whole; at--) tail = (tail << 8) | (bytes[at] as number);
  if (length > whole) hash ^= mix(tail);
  hash ^= length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function mix(block: number): number {
  const mixed = Math.imul(block, C1);
  return Math.imul((mixed << 15) | (mixed >>> 17), C2);
}

const encoder = new TextEncoder();
let scratch = new Uint8Array(256);

/** The hash of a text's UTF-8 bytes. */
export function murmurHashOfText(text: string): number {
  if (text.length * 3 > scratch.length) scratch = new Uint8Array(text.length * 6);
  return murmurHash(scratch, encoder.encodeInto(text, scratch).written);
}

const single = new Float32Array(1);
const singleBytes = new Uint8Array(single.buffer);

/** The hash of a number's four bytes as float32, low byte first. */
export function murmurHashOfNumber(value: number): number {
  single[0] = value === 0 ? 0 : value;
  return murmurHash(singleBytes);
}

const HASH_FACTOR = 0x61c88647;

/** Hash of several values from the hash of those before and of the next one: 32 bits, as int64 arithmetic can follow it. */
export const joinHashes = (before: number, next: number): number => (Math.imul(before, HASH_FACTOR) + next) >>> 0;
export { HASH_FACTOR };
