import { MillraceError } from '../../contracts/errors.ts';

/** What a linear model learnt, in the target's own unit: weights class by class, the intercepts behind them. */
export interface LearntWeights {
  readonly point: Float64Array;
  /** How strongly its training rows hold each weight: the diagonal of their loss's Hessian. */
  readonly precision: Float64Array;
}

/** Both as float32, the weights first: the model's own precision. */
export function saveLearnt({ point, precision }: LearntWeights): Uint8Array {
  return new Uint8Array(Float32Array.from([...point, ...precision]).buffer);
}

/** @throws MODEL_INVALID when the bytes are not `size` weights and precisions, finite each. */
export function loadLearnt(bytes: Uint8Array, size: number): LearntWeights {
  const numbers = bytes.byteLength === 8 * size ? Float64Array.from(new Float32Array(bytes.slice().buffer)) : undefined;
  if (numbers === undefined || !numbers.every(Number.isFinite)) {
    throw new MillraceError('MODEL_INVALID', 'The earlier model does not have the weights that these features need.');
  }
  return { point: numbers.slice(0, size), precision: numbers.slice(size) };
}
