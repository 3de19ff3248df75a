import type { TrainingProgress } from '../trainer.ts';
import { createRandom } from '../random.ts';

/** A network's weights: kernel [inputs × outputs] row-major, and bias, of each layer in turn. */
export interface LayerShape {
  readonly inputs: number;
  readonly outputs: number;
}

/**
 * All state of a training between two epochs.
 *
 * Invariants:
 * 1. An epoch depends on this state, the rows, the parameters and the seed alone: its order of rows comes from the seed
 *    and its number. So a training that goes on from a saved state ends with the same bytes.
 */
export interface MlpState {
  /** Epochs done. */
  epoch: number;
  /** Adam's steps done. */
  steps: number;
  weights: Float32Array[];
  firstMoments: Float32Array[];
  secondMoments: Float32Array[];
  best: Float32Array[];
  bestLoss: number;
  bestEpoch: number;
  history: TrainingProgress[];
}

export function layerShapes(columns: number, hidden: readonly number[], outputs: number): LayerShape[] {
  const sizes = [columns, ...hidden, outputs];
  return sizes.slice(1).map((size, i) => ({ inputs: sizes[i] ?? 0, outputs: size }));
}

/** He's uniform initialisation (He et al. 2015, eq. 10), biases at 0. */
export function startMlp(shapes: readonly LayerShape[], seed: number): MlpState {
  const random = createRandom(seed);
  const weights = shapes.flatMap(({ inputs, outputs }) => {
    const limit = Math.sqrt(6 / Math.max(1, inputs));
    return [Float32Array.from({ length: inputs * outputs }, () => (2 * random.next() - 1) * limit), new Float32Array(outputs)];
  });
  const zeros = (): Float32Array[] => weights.map((values) => new Float32Array(values.length));
  return {
    epoch: 0,
    steps: 0,
    weights,
    firstMoments: zeros(),
    secondMoments: zeros(),
    best: weights.map((values) => values.slice()),
    bestLoss: Number.POSITIVE_INFINITY,
    bestEpoch: 0,
    history: [],
  };
}

interface StateHeader {
  readonly epoch: number;
  readonly steps: number;
  readonly bestLoss: number | null;
  readonly bestEpoch: number;
  readonly history: TrainingProgress[];
}

/** Length of the JSON header (uint32), the header, and then weights, both moments and the best weights as float32. */
export function saveMlp(state: MlpState): Uint8Array {
  const { epoch, steps, bestLoss, bestEpoch, history } = state;
  const header: StateHeader = { epoch, steps, bestLoss: Number.isFinite(bestLoss) ? bestLoss : null, bestEpoch, history };
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  const arrays = [state.weights, state.firstMoments, state.secondMoments, state.best].flat();
  return Buffer.concat([length, text, ...arrays.map((values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength))]);
}

export function loadMlp(bytes: Uint8Array, shapes: readonly LayerShape[]): MlpState {
  const buffer = Buffer.from(bytes);
  const textLength = buffer.readUInt32LE(0);
  const header = JSON.parse(buffer.toString('utf8', 4, 4 + textLength)) as StateHeader;
  let at = 4 + textLength;
  const take = (length: number): Float32Array => {
    const values = new Float32Array(new Uint8Array(buffer.subarray(at, at + 4 * length)).buffer);
    at += 4 * length;
    return values;
  };
  const takeAll = (): Float32Array[] => shapes.flatMap(({ inputs, outputs }) => [take(inputs * outputs), take(outputs)]);
  const [weights, firstMoments, secondMoments, best] = [takeAll(), takeAll(), takeAll(), takeAll()];
  return { ...header, bestLoss: header.bestLoss ?? Number.POSITIVE_INFINITY, weights, firstMoments, secondMoments, best };
}
