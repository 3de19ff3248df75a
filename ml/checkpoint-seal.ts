import { createHash } from 'node:crypto';
import type { LabelledRows, LearningTask } from './trainer.ts';

/** Bytes in front of a checkpoint's state. */
const FINGERPRINT_BYTES = 32;

/** Puts in front of a checkpoint's state what it belongs to: the SHA-256 of task, parameters, seed and rows. */
export interface CheckpointSeal {
  /** In memory of its own, so that it can be handed to another thread. */
  seal(state: Uint8Array): Uint8Array<ArrayBuffer>;
  /** The state, or undefined when it belongs to another training. */
  open(sealed: Uint8Array): Uint8Array | undefined;
}

export function createCheckpointSeal(
  task: LearningTask,
  parameters: unknown,
  seed: number,
  train: LabelledRows,
  validation: LabelledRows | undefined,
): CheckpointSeal {
  let made: Buffer | undefined;
  const fingerprint = (): Buffer => {
    made ??= fingerprintOf(task, parameters, seed, validation === undefined ? [train] : [train, validation]);
    return made;
  };
  return {
    seal: (state) => new Uint8Array(Buffer.concat([fingerprint(), state])),
    open: (sealed) => (fingerprint().equals(sealed.subarray(0, FINGERPRINT_BYTES)) ? sealed.slice(FINGERPRINT_BYTES) : undefined),
  };
}

function fingerprintOf(task: LearningTask, parameters: unknown, seed: number, parts: readonly LabelledRows[]): Buffer {
  const hash = createHash('sha256').update(JSON.stringify([task, parameters, seed]));
  const add = (view: Float32Array | Float64Array | Uint32Array): void => {
    hash.update(String(view.length));
    hash.update(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  };
  for (const { x, y, weights } of parts) {
    hash.update(`${x.kind} ${x.rows} ${x.columns}`);
    if (x.kind === 'dense') add(x.data);
    else for (const view of [x.rowStart, x.columnIndex, x.values]) add(view);
    add(y);
    if (weights !== undefined) add(weights);
  }
  return hash.digest();
}
