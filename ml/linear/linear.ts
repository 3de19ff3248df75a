import { setImmediate } from 'node:timers/promises';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { Matrix } from '../matrix.ts';
import { createGraphBuilder } from '../onnx/graph-builder.ts';
import { createCheckpointSeal } from '../checkpoint-seal.ts';
import { weighRows } from '../class-weights.ts';
import type { LabelledRows, LearningTask, OnnxFragment, TrainedTrainer, Trainer, TrainingProgress } from '../trainer.ts';
import { type L1Penalty, type LbfgsState, loadLbfgs, type Objective, saveLbfgs, startLbfgs, stepLbfgs } from './lbfgs.ts';
import { type LearntWeights, loadLearnt, saveLearnt } from './learnt.ts';
import type { LinearParameters } from './parameters.ts';
import { columnMoments, scores, transposedProduct } from './products.ts';

/**
 * Linear models by full-batch L-BFGS in float64: logistic regression, softmax regression or ridge, the same optimum as
 * scikit-learn's `LogisticRegression` and `Ridge` at `l2` = 1/C = alpha. Nothing is random: the seed is not used.
 *
 * Goes on from an earlier model by Bayes' rule, to second order: each weight is drawn to its earlier value m as strongly as
 * the earlier rows held it there, by q/2 · (w - m)² with q = `l2` + `memory` × the diagonal of their loss's Hessian
 * (Chapelle and Li, An empirical evaluation of Thompson sampling, 2011, algorithm 3).
 * @throws TRAINING_DIVERGED with the last steps when the loss is not a number, as with missing or infinite values in the
 * matrix; TRAINING_STALLED with them when the loss no longer falls though it must; INVALID_PARAMETERS for a weight of a
 * class that is none.
 */
export const trainLinear: Trainer<LinearParameters> = async (task, parameters, train, _validation, context) => {
  const outputs = task.kind === 'multiclass' ? task.classes : 1;
  const size = (train.x.columns + 1) * outputs;
  const earlier = context.from === undefined ? undefined : loadLearnt(context.from, size);
  const problem = createProblem(task, parameters, train, outputs, earlier);
  const checkpoints = createCheckpointSeal(
    task,
    earlier === undefined ? parameters : { ...parameters, from: Buffer.from(saveLearnt(earlier)).toString('base64') },
    0,
    train,
    undefined,
  );
  const saved = context.resume === undefined ? undefined : checkpoints.open(context.resume);
  const state = (saved === undefined ? undefined : loadLbfgs(saved, size)) ?? startLbfgs(problem.objective, problem.start, problem.l1);
  while (!state.done && state.iteration < parameters.maxIterations) {
    context.signal?.throwIfAborted();
    stepLbfgs(state, problem.objective, problem.diagonal, parameters.tolerance, problem.l1);
    if (!Number.isFinite(state.value)) throw divergence(state, train);
    const progress = progressAt(state, state.iteration, parameters);
    context.onProgress?.(progress);
    context.look?.(progress, () => linearModel(task, problem.unscaled(state.point), train.x, outputs, []));
    if (state.iteration % parameters.checkpointEvery === 0) await context.checkpoint?.(state.iteration, () => checkpoints.seal(saveLbfgs(state)));
    // Lets an abort that waits in the event loop be seen.
    await setImmediate();
  }
  if (!Number.isFinite(state.value)) throw divergence(state, train);
  if (state.stalled) throw stall(state, train);
  const history = Array.from({ length: state.trace.length / 2 - 1 }, (_, i) => progressAt(state, i + 1, parameters));
  const learnt = saveLearnt({ point: problem.unscaled(state.point), precision: problem.precision(state.point) });
  return { ...linearModel(task, problem.unscaled(state.point), train.x, outputs, history), learnt };
};

/** How far it was after an iteration: by iterations, or by orders of magnitude of the gradient, whichever is further. */
function progressAt(state: LbfgsState, iteration: number, parameters: LinearParameters): TrainingProgress {
  const { tolerance, maxIterations } = parameters;
  const gradientAt = (at: number): number => Math.max(state.trace[2 * at + 1] ?? 0, tolerance);
  const whole = Math.log(gradientAt(0) / tolerance);
  const byGradient = whole > 0 ? Math.log(gradientAt(0) / gradientAt(iteration)) / whole : 0;
  const last = state.done && iteration === state.trace.length / 2 - 1;
  return {
    fraction: last ? 1 : Math.min(0.99, Math.max(0, byGradient, iteration / maxIterations)),
    step: iteration,
    metrics: { loss: state.trace[2 * iteration] ?? 0 },
  };
}

const REPORTED_STEPS = 5;

/** The last steps' losses, for a failure. */
function lastSteps({ trace, iteration }: LbfgsState): Problem[] {
  const steps = Array.from({ length: trace.length / 2 }, (_, at) => ({
    path: `iteration ${at}`,
    message: `loss ${trace[2 * at]}, largest slope ${trace[2 * at + 1]}`,
  }));
  return (steps.length > 0 ? steps : [{ path: `iteration ${iteration}`, message: 'no loss' }]).slice(-REPORTED_STEPS);
}

function divergence(state: LbfgsState, { x, names }: LabelledRows): MillraceError {
  const values = x.kind === 'dense' ? x.data : x.values;
  const bad = values.findIndex((value) => !Number.isFinite(value));
  const column = bad < 0 ? undefined : x.kind === 'dense' ? Math.floor(bad / x.rows) : (x.columnIndex[bad] ?? 0);
  const where = column === undefined ? '' : ` ${names?.[column] ?? `Column ${column} of the matrix`} has a missing or infinite value.`;
  return new MillraceError('TRAINING_DIVERGED', `The loss is not a number at iteration ${state.iteration}.${where}`, { problems: lastSteps(state) });
}

function stall(state: LbfgsState, { x }: LabelledRows): MillraceError {
  return new MillraceError(
    'TRAINING_STALLED',
    `The loss no longer falls at iteration ${state.iteration}, on ${x.rows} rows of ${x.columns} columns, though its slope is not 0.`,
    { problems: lastSteps(state) },
  );
}

interface LinearProblem {
  readonly start: Float64Array;
  /** Estimate of the Hessian's diagonal, by which steps are scaled. */
  readonly diagonal: Float64Array;
  /** Mean loss with its share of the penalty. Weights stand class by class, the intercepts behind them. */
  readonly objective: Objective;
  readonly l1: L1Penalty;
  /** How strongly this problem's rows and the earlier ones hold each weight at a point. */
  precision(point: Float64Array): Float64Array;
  /** Weights in the target's own unit. */
  unscaled(point: Float64Array): Float64Array;
}

function createProblem(
  task: LearningTask,
  parameters: LinearParameters,
  train: LabelledRows,
  outputs: number,
  earlier: LearntWeights | undefined,
): LinearProblem {
  const { x, y } = train;
  const { columns, rows } = x;
  const classCount = task.kind === 'multiclass' ? task.classes : 2;
  const rowWeights = weighRows(task, parameters.classWeight, train, classCount);
  const totalWeight = rowWeights.reduce((sum, weight) => sum + weight, 0);
  const intercepts = columns * outputs;
  const { targets, center, spread } = task.kind === 'regression' ? standardised(y, rowWeights, totalWeight) : { targets: y, center: 0, spread: 1 };

  const start = new Float64Array(intercepts + outputs);
  // The earlier weights in the unit in which this problem is solved.
  const prior = earlier?.point.map((value, i) => (i < intercepts ? value : value - center) / spread);
  const memory = parameters.memory ?? 1;
  const held = Float64Array.from({ length: start.length }, (_, i) => (i < intercepts ? parameters.l2 : 0) + memory * (earlier?.precision[i] ?? 0));
  if (prior !== undefined) start.set(prior);
  else if (task.kind !== 'regression') {
    const shares = new Float64Array(classCount);
    for (let row = 0; row < rows; row++) shares[y[row] as number] = (shares[y[row] as number] as number) + (rowWeights[row] as number) / totalWeight;
    if (shares.some((share) => share >= 1)) throw new MillraceError('TARGET_ONE_CLASS', 'All rows have the same class.');
    if (task.kind === 'binary') start[intercepts] = Math.log((shares[1] as number) / (shares[0] as number));
    else for (let k = 0; k < outputs; k++) start[intercepts + k] = Math.log(Math.max(shares[k] as number, 1e-12));
  }

  const curvature = task.kind === 'regression' ? 1 : 0.25;
  const { squares } = columnMoments(x, rowWeights);
  const diagonal = new Float64Array(start.length);
  for (let k = 0; k < outputs; k++) {
    for (let c = 0; c < columns; c++)
      diagonal[k * columns + c] = Math.max((curvature * (squares[c] as number) + (held[k * columns + c] as number)) / totalWeight, 1e-12);
    diagonal[intercepts + k] = curvature + (held[intercepts + k] as number) / totalWeight;
  }

  const z = new Float64Array(rows * outputs);
  const objective: Objective = (point, gradient) => {
    scores(x, point, outputs, z);
    const loss = lossAndResiduals(task.kind, z, targets, rowWeights, outputs);
    transposedProduct(x, z, outputs, gradient);
    let penalty = 0;
    for (let i = 0; i < point.length; i++) {
      const moved = (point[i] as number) - (prior?.[i] ?? 0);
      penalty += (held[i] as number) * moved * moved;
      gradient[i] = ((gradient[i] as number) + (held[i] as number) * moved) / totalWeight;
    }
    return (loss + penalty / 2) / totalWeight;
  };
  return {
    start,
    diagonal,
    objective,
    // The target is divided by its spread, so the loss by its square, and a penalty without a square by it once.
    l1: { weight: (parameters.l1 ?? 0) / spread / totalWeight, count: intercepts },
    precision: (point) => {
      scores(x, point, outputs, z);
      const hessian = hessianDiagonal(task.kind, x, z, rowWeights, outputs);
      // The penalty itself is no row's: the next problem has its own.
      return hessian.map((value, i) => value + memory * (earlier?.precision[i] ?? 0));
    },
    unscaled: (point) => {
      const weightsOut = point.map((value) => value * spread);
      weightsOut[intercepts] = (weightsOut[intercepts] as number) + center;
      return weightsOut;
    },
  };
}

/** Σ weight · x² · (the loss's second derivative by the score), for each weight and each intercept. */
function hessianDiagonal(kind: LearningTask['kind'], x: Matrix, z: Float64Array, rowWeights: Float64Array, outputs: number): Float64Array {
  const result = new Float64Array((x.columns + 1) * outputs);
  if (kind === 'multiclass') for (let row = 0; row < x.rows; row++) softmaxInPlace(z, row * outputs, outputs);
  for (let k = 0; k < outputs; k++) {
    const curvature = rowWeights.map((weight, row) => {
      if (kind === 'regression') return weight;
      const score = z[row * outputs + k] as number;
      const share = kind === 'multiclass' ? score : 1 / (1 + Math.exp(-score));
      return weight * share * (1 - share);
    });
    result.set(columnMoments(x, curvature).squares, k * x.columns);
    result[x.columns * outputs + k] = curvature.reduce((sum, value) => sum + value, 0);
  }
  return result;
}

/** The target with mean 0 and deviation 1, which leaves ridge's optimum where it is and its steps well scaled. */
function standardised(y: Float64Array, weights: Float64Array, totalWeight: number): { targets: Float64Array; center: number; spread: number } {
  let center = 0;
  for (let row = 0; row < y.length; row++) center += ((y[row] as number) * (weights[row] as number)) / totalWeight;
  let squares = 0;
  for (let row = 0; row < y.length; row++) squares += (((y[row] as number) - center) ** 2 * (weights[row] as number)) / totalWeight;
  const spread = squares > 0 ? Math.sqrt(squares) : 1;
  return { targets: y.map((value) => (value - center) / spread), center, spread };
}

/** Sum of the rows' losses; turns the scores in `z` into the loss's derivatives by them, row-major. */
function lossAndResiduals(kind: LearningTask['kind'], z: Float64Array, y: Float64Array, weights: Float64Array, outputs: number): number {
  let loss = 0;
  for (let row = 0; row < y.length; row++) {
    const weight = weights[row] as number;
    const target = y[row] as number;
    if (kind === 'regression') {
      const error = (z[row] as number) - target;
      loss += (weight * error * error) / 2;
      z[row] = weight * error;
    } else if (kind === 'binary') {
      const score = z[row] as number;
      const decay = Math.exp(-Math.abs(score));
      loss += weight * (Math.log1p(decay) + Math.max(score, 0) - target * score);
      z[row] = weight * ((score >= 0 ? 1 : decay) / (1 + decay) - target);
    } else {
      const first = row * outputs;
      const score = z[first + target] as number;
      const total = softmaxInPlace(z, first, outputs);
      loss += weight * (total - score);
      for (let k = 0; k < outputs; k++) z[first + k] = weight * ((z[first + k] as number) - (k === target ? 1 : 0));
    }
  }
  return loss;
}

/** Turns scores into probabilities; returns the logarithm of the sum of their exponentials. */
function softmaxInPlace(z: Float64Array, first: number, outputs: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let k = 0; k < outputs; k++) max = Math.max(max, z[first + k] as number);
  let sum = 0;
  for (let k = 0; k < outputs; k++) {
    const exponential = Math.exp((z[first + k] as number) - max);
    z[first + k] = exponential;
    sum += exponential;
  }
  for (let k = 0; k < outputs; k++) z[first + k] = (z[first + k] as number) / sum;
  return max + Math.log(sum);
}

function linearModel(task: LearningTask, point: Float64Array, trainX: Matrix, outputs: number, history: readonly TrainingProgress[]): TrainedTrainer {
  const { columns } = trainX;
  // The graph computes in float32, so the model is its float32 weights.
  const weights = Float64Array.from(Float32Array.from(point));
  return {
    history,
    importance: importanceOf(weights, trainX, outputs),
    predict: (x) => {
      const z = new Float64Array(x.rows * outputs);
      scores(x, weights, outputs, z);
      if (task.kind === 'regression') return z;
      if (task.kind === 'multiclass') {
        for (let row = 0; row < x.rows; row++) softmaxInPlace(z, row * outputs, outputs);
        return z;
      }
      const probabilities = new Float64Array(x.rows * 2);
      z.forEach((score, row) => {
        probabilities[2 * row] = 1 / (1 + Math.exp(score));
        probabilities[2 * row + 1] = 1 / (1 + Math.exp(-score));
      });
      return probabilities;
    },
    toOnnx: (input, prefix) => linearFragment(task, weights, columns, outputs, input, prefix),
  };
}

function linearFragment(task: LearningTask, weights: Float64Array, columns: number, outputs: number, input: string, prefix: string): OnnxFragment {
  const graph = createGraphBuilder(prefix);
  const byColumn = new Float32Array(columns * outputs);
  for (let k = 0; k < outputs; k++) for (let c = 0; c < columns; c++) byColumn[c * outputs + k] = weights[k * columns + c] as number;
  const score = graph.op('Gemm', [input, graph.floats(byColumn, [columns, outputs]), graph.floats(weights.slice(columns * outputs))]);
  // σ(-z) and σ(z): both tails keep their digits.
  const output =
    task.kind === 'regression'
      ? score
      : task.kind === 'multiclass'
        ? graph.op('Softmax', [score])
        : graph.op('Sigmoid', [graph.op('Mul', [score, graph.floats([-1, 1])])]);
  return { nodes: graph.nodes, initializers: graph.initializers, output, opset: { ai: 13 } };
}

/** |weight| × the column's deviation, summed over the classes, as shares of 1. */
function importanceOf(weights: Float64Array, x: Matrix, outputs: number): Float64Array {
  const { sums, squares } = columnMoments(x, undefined);
  const sizes = new Float64Array(x.columns);
  let total = 0;
  for (let c = 0; c < x.columns; c++) {
    const mean = (sums[c] as number) / x.rows;
    const deviation = Math.sqrt(Math.max(0, (squares[c] as number) / x.rows - mean * mean));
    for (let k = 0; k < outputs; k++) sizes[c] = (sizes[c] as number) + Math.abs(weights[k * x.columns + c] as number) * deviation;
    total += sizes[c] as number;
  }
  return total > 0 ? sizes.map((value) => value / total) : sizes;
}
