import type { RungValue } from '../ml/search/parameters.ts';

/**
 * A checkpoint of a training that is looked at on its way: what was seen so far stands in front of the trainer's state, so
 * that an attempt that goes on reports the same values as one that was never interrupted.
 */
const LENGTH_BYTES = 4;

export function withRungs(state: Uint8Array, seen: readonly RungValue[]): Uint8Array<ArrayBuffer> {
  const head = new TextEncoder().encode(JSON.stringify(seen));
  const bytes = new Uint8Array(LENGTH_BYTES + head.length + state.length);
  new DataView(bytes.buffer).setUint32(0, head.length);
  bytes.set(head, LENGTH_BYTES);
  bytes.set(state, LENGTH_BYTES + head.length);
  return bytes;
}

export function splitRungs(bytes: Uint8Array): { readonly state: Uint8Array; readonly seen: readonly RungValue[] } {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const end = LENGTH_BYTES + length;
  return { state: bytes.slice(end), seen: JSON.parse(new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, end))) as RungValue[] };
}

/** Thrown to end a training at a rung; no failure. */
export class StoppedAtRung extends Error {
  readonly fraction: number;
  constructor(fraction: number) {
    super(`stopped at ${String(fraction)}`);
    this.fraction = fraction;
  }
}
