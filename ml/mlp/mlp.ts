import { setImmediate } from 'node:timers/promises';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { createCheckpointSeal } from '../checkpoint-seal.ts';
import type { Matrix } from '../matrix.ts';
import { createGraphBuilder } from '../onnx/graph-builder.ts';
import { hashIndex, shuffledIndices } from '../random.ts';
import type { LabelledRows, LearningTask, OnnxFragment, TrainedTrainer, Trainer } from '../trainer.ts';
import { type LayerShape, layerShapes, loadMlp, type MlpState, saveMlp, startMlp } from './mlp-state.ts';
import type { MlpParameters } from './parameters.ts';
import type { Tensor, TensorFlow } from './tensorflow.ts';

/** Adam as in Kingma and Ba 2015, with the paper's constants. */
const BETA_1 = 0.9;
const BETA_2 = 0.999;
const EPSILON = 1e-8;
const PREDICT_ROWS = 4_096;
const REPORTED_EPOCHS = 5;
/** Fewer epochs than this say nothing about how training goes. */
const TELLING_EPOCHS = 3;
/** A fall of less than this share is none. */
const STALLED_SHARE = 1e-6;
const LEARNT_LOSS = 1e-6;
/** A constant answer has a loss of about 1: targets are scaled. */
const EXPLODED_LOSS = 1e3;
/** How often an abort is looked for within an epoch. */
const BATCHES_BETWEEN_PAUSES = 64;

/**
 * A fully connected network with the TensorFlow.js that danfojs brings, on its CPU backend: gradients by TensorFlow.js,
 * Adam's step here, so that all state can be saved to the bit. Sparse rows are made dense batch by batch.
 * @throws TRAINING_DIVERGED and TRAINING_STALLED with the losses of the last epochs.
 */
export const trainMlp: Trainer<MlpParameters> = async (task, parameters, train, validation, context) => {
  // Only here: loading it takes two seconds, which the other trainers need not wait for.
  const { loadTensorFlow } = await import('./tensorflow.ts');
  const tf = await loadTensorFlow();
  const outputs = task.kind === 'multiclass' ? task.classes : 1;
  const shapes = layerShapes(train.x.columns, parameters.hidden, outputs);
  const { targets, center, spread } = task.kind === 'regression' ? standardised(train) : { targets: train.y, center: 0, spread: 1 };
  const network = createNetwork(tf, task, shapes, parameters.l2);
  const checkpoints = createCheckpointSeal(task, parameters, context.seed, train, validation);
  const saved = context.resume === undefined ? undefined : checkpoints.open(context.resume);
  const state = saved === undefined ? startMlp(shapes, context.seed) : loadMlp(saved, shapes);
  const stops = validation !== undefined && validation.y.length > 0;
  const patience = stops ? parameters.earlyStoppingEpochs : 0;

  const modelSoFar = (): TrainedTrainer => mlpModel(tf, task, shapes, withUnit(state.best, center, spread), train.x, state.history);
  const goesOn = (): boolean => state.epoch < parameters.epochs && (patience === 0 || state.epoch - state.bestEpoch < patience);
  while (goesOn()) {
    const order = shuffledIndices(train.x.rows, hashIndex(state.epoch, context.seed));
    let lossSum = 0;
    for (let from = 0, batch = 0; from < order.length; from += parameters.batchSize, batch++) {
      context.signal?.throwIfAborted();
      const rows = order.subarray(from, from + parameters.batchSize);
      const { loss, gradients } = network.gradients(state.weights, train, targets, rows);
      lossSum += loss * rows.length;
      if (!Number.isFinite(loss)) break;
      adamStep(state, gradients, parameters.learningRate);
      // Lets messages and an abort that wait in the event loop be seen.
      if (batch % BATCHES_BETWEEN_PAUSES === 0) await setImmediate();
    }
    const loss = lossSum / order.length;
    const validationLoss = stops ? network.meanLoss(state.weights, validation, validationTargets(validation.y, center, spread)) : undefined;
    if (!Number.isFinite(loss) || (validationLoss !== undefined && !Number.isFinite(validationLoss))) throw divergence(state, loss, validationLoss);
    state.epoch++;
    const judged = validationLoss ?? -state.epoch;
    if (judged < state.bestLoss) {
      state.bestLoss = judged;
      state.bestEpoch = state.epoch;
      state.best = state.weights.map((values) => values.slice());
    }
    const progress = {
      fraction: state.epoch / parameters.epochs,
      step: state.epoch,
      metrics: { loss, ...(validationLoss === undefined ? {} : { validationLoss }) },
    };
    state.history.push(progress);
    context.onProgress?.(progress);
    context.look?.(progress, modelSoFar);
    await context.checkpoint?.(state.epoch, () => checkpoints.seal(saveMlp(state)));
  }
  if ((lossesOf(state).at(-1) ?? 0) > EXPLODED_LOSS)
    throw failure('TRAINING_DIVERGED', `The loss has exploded: after ${state.epoch} epochs it is far above that of a constant answer.`, state);
  if (hasStalled(state)) throw failure('TRAINING_STALLED', `The loss of ${state.epoch} epochs never fell below that of the first.`, state);
  return modelSoFar();
};

function standardised({ y }: LabelledRows): { targets: Float64Array; center: number; spread: number } {
  const center = y.reduce((sum, value) => sum + value / y.length, 0);
  const spread = Math.sqrt(y.reduce((sum, value) => sum + (value - center) ** 2 / y.length, 0)) || 1;
  return { targets: validationTargets(y, center, spread), center, spread };
}
const validationTargets = (y: Float64Array, center: number, spread: number): Float64Array => y.map((value) => (value - center) / spread);

/** The last layer's weights in the target's own unit. */
function withUnit(weights: readonly Float32Array[], center: number, spread: number): Float32Array[] {
  const last = weights.length - 2;
  return weights.map((values, i) => (i < last ? values : values.map((value) => value * spread + (i === last + 1 ? center : 0))));
}

const lossesOf = ({ history }: MlpState): number[] => history.map(({ metrics }) => metrics['loss'] ?? 0);

/** Whether all epochs left the training loss where the first one had it. Rows that nothing can be learnt from still let it fall a little. */
function hasStalled(state: MlpState): boolean {
  const losses = lossesOf(state);
  const first = losses[0] ?? 0;
  // Nothing is left to fall when each row is answered right.
  if (losses.length < TELLING_EPOCHS || first < LEARNT_LOSS) return false;
  return losses.slice(1).every((loss) => loss >= first * (1 - STALLED_SHARE));
}

function divergence(state: MlpState, loss: number, validationLoss: number | undefined): MillraceError {
  const last = { path: `epoch ${state.epoch + 1}`, message: `loss ${loss}${validationLoss === undefined ? '' : `, validation loss ${validationLoss}`}` };
  return failure('TRAINING_DIVERGED', `The loss of epoch ${state.epoch + 1} is not a number.`, state, last);
}

/** With the losses of the last epochs. */
function failure(code: 'TRAINING_DIVERGED' | 'TRAINING_STALLED', message: string, state: MlpState, ...more: readonly Problem[]): MillraceError {
  const steps = state.history.slice(-REPORTED_EPOCHS).map(({ step, metrics }) => ({ path: `epoch ${step}`, message: `loss ${metrics['loss']}` }));
  return new MillraceError(code, message, { problems: [...steps, ...more] });
}

function adamStep(state: MlpState, gradients: readonly Float32Array[], learningRate: number): void {
  state.steps++;
  const rate = (learningRate * Math.sqrt(1 - BETA_2 ** state.steps)) / (1 - BETA_1 ** state.steps);
  state.weights.forEach((weights, layer) => {
    const gradient = gradients[layer] as Float32Array;
    const first = state.firstMoments[layer] as Float32Array;
    const second = state.secondMoments[layer] as Float32Array;
    for (let i = 0; i < weights.length; i++) {
      const g = gradient[i] as number;
      first[i] = BETA_1 * (first[i] as number) + (1 - BETA_1) * g;
      second[i] = BETA_2 * (second[i] as number) + (1 - BETA_2) * g * g;
      weights[i] = (weights[i] as number) - (rate * (first[i] as number)) / (Math.sqrt(second[i] as number) + EPSILON);
    }
  });
}

/** Rows of a matrix as a row-major block. */
export function denseRows(x: Matrix, rows: Uint32Array): Float32Array {
  const block = new Float32Array(rows.length * x.columns);
  if (x.kind === 'dense') {
    for (let c = 0; c < x.columns; c++) {
      const offset = c * x.rows;
      for (let i = 0; i < rows.length; i++) block[i * x.columns + c] = x.data[offset + (rows[i] as number)] as number;
    }
    return block;
  }
  rows.forEach((row, i) => {
    for (let at = x.rowStart[row] as number; at < (x.rowStart[row + 1] as number); at++)
      block[i * x.columns + (x.columnIndex[at] as number)] = x.values[at] as number;
  });
  return block;
}

interface Network {
  /** Mean loss with its penalty on some rows, and its gradient by each weight. */
  gradients(weights: readonly Float32Array[], data: LabelledRows, targets: Float64Array, rows: Uint32Array): { loss: number; gradients: Float32Array[] };
  /** Mean loss of all rows, without the penalty. */
  meanLoss(weights: readonly Float32Array[], data: LabelledRows, targets: Float64Array): number;
}

function createNetwork(tf: TensorFlow, task: LearningTask, shapes: readonly LayerShape[], l2: number): Network {
  const rowLosses = (scores: Tensor, targets: Float64Array, rows: Uint32Array): Tensor => {
    const y = Float32Array.from(rows, (row) => targets[row] as number);
    if (task.kind === 'regression') return tf.square(tf.sub(scores.flatten(), tf.tensor1d(y))).div(2);
    if (task.kind === 'binary') {
      const z = scores.flatten();
      // ln(1 + e^z) - y·z, with no large exponential.
      return tf.sub(tf.add(tf.relu(z), tf.log1p(tf.exp(tf.neg(tf.abs(z))))), tf.mul(z, tf.tensor1d(y)));
    }
    const labels = tf.oneHot(tf.tensor1d(Int32Array.from(y), 'int32'), task.classes);
    return tf.neg(tf.sum(tf.mul(tf.logSoftmax(scores), labels), 1));
  };
  const weighted = (losses: Tensor, data: LabelledRows, rows: Uint32Array): Tensor =>
    data.weights === undefined ? losses : tf.mul(losses, tf.tensor1d(Float32Array.from(rows, (row) => data.weights?.[row] ?? 1)));
  return {
    gradients: (weights, data, targets, rows) => {
      const tensors = toTensors(tf, shapes, weights);
      const x = tf.tensor2d(denseRows(data.x, rows), [rows.length, data.x.columns]);
      const lossOf = (...given: Tensor[]): Tensor =>
        tf.tidy(() => {
          const mean = tf.mean(weighted(rowLosses(forward(tf, x, given), targets, rows), data, rows));
          const kernels = given.filter((_, i) => i % 2 === 0);
          return l2 === 0 ? mean.asScalar() : kernels.reduce((sum, kernel) => tf.add(sum, tf.mul(tf.sum(tf.square(kernel)), l2 / 2)), mean).asScalar();
        });
      const { value, grads } = tf.valueAndGrads(lossOf)(tensors);
      const result = { loss: value.dataSync()[0] ?? Number.NaN, gradients: grads.map((gradient) => gradient.dataSync().slice()) };
      tf.dispose([value, x, ...grads, ...tensors]);
      return result;
    },
    meanLoss: (weights, data, targets) => {
      let sum = 0;
      const total = data.weights?.reduce((all, weight) => all + weight, 0) ?? data.x.rows;
      for (let from = 0; from < data.x.rows; from += PREDICT_ROWS) {
        const rows = rowRange(from, Math.min(data.x.rows, from + PREDICT_ROWS));
        sum += tf.tidy(() => {
          const x = tf.tensor2d(denseRows(data.x, rows), [rows.length, data.x.columns]);
          return tf.sum(weighted(rowLosses(forward(tf, x, toTensors(tf, shapes, weights)), targets, rows), data, rows)).dataSync()[0] ?? Number.NaN;
        });
      }
      return sum / total;
    },
  };
}

const rowRange = (from: number, to: number): Uint32Array => Uint32Array.from({ length: to - from }, (_, i) => from + i);

function toTensors(tf: TensorFlow, shapes: readonly LayerShape[], weights: readonly Float32Array[]): Tensor[] {
  return shapes.flatMap(({ inputs, outputs }, layer) => [
    tf.tensor2d(weights[2 * layer] as Float32Array, [inputs, outputs]),
    tf.tensor1d(weights[2 * layer + 1] as Float32Array),
  ]);
}

function forward(tf: TensorFlow, x: Tensor, weights: readonly Tensor[]): Tensor {
  let value = x;
  for (let layer = 0; layer < weights.length; layer += 2) {
    value = tf.add(tf.matMul(value, weights[layer] as Tensor), weights[layer + 1] as Tensor);
    if (layer + 2 < weights.length) value = tf.relu(value);
  }
  return value;
}

function mlpModel(
  tf: TensorFlow,
  task: LearningTask,
  shapes: readonly LayerShape[],
  weights: readonly Float32Array[],
  trainX: Matrix,
  history: MlpState['history'],
): TrainedTrainer {
  const answer = (scores: Tensor): Tensor => {
    if (task.kind === 'regression') return scores;
    return task.kind === 'multiclass' ? tf.softmax(scores) : tf.concat([tf.sigmoid(tf.neg(scores)), tf.sigmoid(scores)], 1);
  };
  return {
    history,
    importance: importanceOf(trainX, shapes, weights),
    predict: (x) => {
      const blocks: Float32Array[] = [];
      for (let from = 0; from < x.rows; from += PREDICT_ROWS) {
        const rows = rowRange(from, Math.min(x.rows, from + PREDICT_ROWS));
        blocks.push(
          tf.tidy(() =>
            answer(forward(tf, tf.tensor2d(denseRows(x, rows), [rows.length, x.columns]), toTensors(tf, shapes, weights)))
              .dataSync()
              .slice(),
          ),
        );
      }
      const result = new Float64Array(blocks.reduce((sum, block) => sum + block.length, 0));
      let at = 0;
      for (const block of blocks) {
        result.set(block, at);
        at += block.length;
      }
      return result;
    },
    toOnnx: (input, prefix) => mlpFragment(task, shapes, weights, input, prefix),
  };
}

function mlpFragment(task: LearningTask, shapes: readonly LayerShape[], weights: readonly Float32Array[], input: string, prefix: string): OnnxFragment {
  const graph = createGraphBuilder(prefix);
  let value = input;
  shapes.forEach(({ inputs, outputs }, layer) => {
    const kernel = graph.floats(weights[2 * layer] ?? [], [inputs, outputs]);
    value = graph.op('Gemm', [value, kernel, graph.floats(weights[2 * layer + 1] ?? [])]);
    if (layer + 1 < shapes.length) value = graph.op('Relu', [value]);
  });
  if (task.kind === 'multiclass') value = graph.op('Softmax', [value]);
  // σ(-z) and σ(z): both tails keep their digits.
  else if (task.kind === 'binary') value = graph.op('Sigmoid', [graph.op('Mul', [value, graph.floats([-1, 1])])]);
  return { nodes: graph.nodes, initializers: graph.initializers, output: value, opset: { ai: 13 } };
}

/**
 * Weight of each input by the products of absolute weights along all paths (Garson 1991, without signs), times the
 * input's deviation on up to 4,096 training rows; as shares of 1.
 */
function importanceOf(x: Matrix, shapes: readonly LayerShape[], weights: readonly Float32Array[]): Float64Array {
  let influence = new Float64Array(shapes.at(-1)?.outputs ?? 0).fill(1);
  for (let layer = shapes.length - 1; layer >= 0; layer--) {
    const { inputs, outputs } = shapes[layer] ?? { inputs: 0, outputs: 0 };
    const kernel = weights[2 * layer] ?? new Float32Array(0);
    const before = new Float64Array(inputs);
    for (let i = 0; i < inputs; i++)
      for (let o = 0; o < outputs; o++) before[i] = (before[i] as number) + Math.abs(kernel[i * outputs + o] as number) * (influence[o] as number);
    influence = before;
  }
  const rows = rowRange(0, Math.min(x.rows, PREDICT_ROWS));
  const block = denseRows(x, rows);
  let total = 0;
  for (let c = 0; c < x.columns; c++) {
    let mean = 0;
    let squares = 0;
    rows.forEach((_, i) => {
      const value = block[i * x.columns + c] as number;
      const delta = value - mean;
      mean += delta / (i + 1);
      squares += delta * (value - mean);
    });
    influence[c] = (influence[c] as number) * Math.sqrt(squares / rows.length);
    total += influence[c] as number;
  }
  return total > 0 ? influence.map((value) => value / total) : influence;
}
