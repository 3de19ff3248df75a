/**
 * Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) for a smooth convex function, with a
 * diagonal in place of the first inverse Hessian and a backtracking line search. With an L1 penalty it is OWL-QN (Andrew
 * and Gao, Scalable training of L1-regularized log-linear models, 2007).
 *
 * Invariants:
 * 1. All state lies in `LbfgsState`: a run that goes on from a saved state takes the same steps as one that never stopped.
 * 2. Nothing is random, and sums are taken in one order.
 */
export interface LbfgsState {
  iteration: number;
  value: number;
  point: Float64Array;
  gradient: Float64Array;
  /** The last steps and the changes of the gradient over them, oldest first. */
  steps: Float64Array[];
  changes: Float64Array[];
  /** Value and largest component of the gradient at the start and after each iteration, in pairs. */
  trace: number[];
  done: boolean;
  /** The value cannot be made to fall although the gradient says that it must. */
  stalled: boolean;
}

/** Penalty `weight` · |x| on the first `count` numbers of the point. */
export interface L1Penalty {
  readonly weight: number;
  readonly count: number;
}

const NO_PENALTY: L1Penalty = { weight: 0, count: 0 };

/** Writes the gradient at `point` into `gradient` and returns the value. */
export type Objective = (point: Float64Array, gradient: Float64Array) => number;

const MEMORY = 10;
const ARMIJO = 1e-4;
const MAX_HALVINGS = 40;
/** A promised fall of less than this share of the value is rounding. */
const ROUNDING = 1e-10;

export function startLbfgs(objective: Objective, point: Float64Array, l1 = NO_PENALTY): LbfgsState {
  const gradient = new Float64Array(point.length);
  const value = objective(point, gradient) + penaltyOf(point, l1);
  const steepness = largest(pseudoGradient(point, gradient, l1));
  return { iteration: 0, value, point, gradient, steps: [], changes: [], trace: [value, steepness], done: false, stalled: false };
}

function penaltyOf(point: Float64Array, { weight, count }: L1Penalty): number {
  if (weight === 0) return 0;
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.abs(point[i] as number);
  return weight * sum;
}

/** The gradient with the penalty's share: at 0 the one of the two one-sided slopes that leads down, or 0. */
function pseudoGradient(point: Float64Array, gradient: Float64Array, { weight, count }: L1Penalty): Float64Array {
  if (weight === 0) return gradient;
  const result = gradient.slice();
  for (let i = 0; i < count; i++) {
    const [x, slope] = [point[i] as number, gradient[i] as number];
    if (x !== 0) result[i] = slope + (x > 0 ? weight : -weight);
    else result[i] = slope > weight ? slope - weight : slope < -weight ? slope + weight : 0;
  }
  return result;
}

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
};

/** Adds factor × b to a. */
const addScaled = (a: Float64Array, b: Float64Array, factor: number): void => {
  for (let i = 0; i < a.length; i++) a[i] = (a[i] as number) + factor * (b[i] as number);
};

const largest = (values: Float64Array): number => {
  let max = 0;
  for (const value of values) max = Math.max(max, Math.abs(value));
  return max;
};

/** Takes one step; sets `done` when the gradient is small enough or the value cannot fall further. */
export function stepLbfgs(state: LbfgsState, objective: Objective, diagonal: Float64Array, tolerance: number, l1 = NO_PENALTY): void {
  const uphill = pseudoGradient(state.point, state.gradient, l1);
  if (state.done || largest(uphill) <= tolerance) {
    state.done = true;
    return;
  }
  const downhill = (): Float64Array => {
    const found = descentDirection(state, uphill, diagonal);
    // A penalised weight moves down its own slope only, so that it cannot cross 0 unseen.
    if (l1.weight > 0) for (let i = 0; i < l1.count; i++) if ((found[i] as number) * (uphill[i] as number) >= 0) found[i] = 0;
    return found;
  };
  let direction = downhill();
  let slope = dot(direction, uphill);
  if (!(slope < 0)) {
    // Rounding spoilt the memory: start again from the diagonal alone.
    state.steps = [];
    state.changes = [];
    direction = downhill();
    slope = dot(direction, uphill);
  }
  const point = new Float64Array(state.point.length);
  const gradient = new Float64Array(state.point.length);
  let size = 1;
  let value = Number.POSITIVE_INFINITY;
  for (let halving = 0; halving < MAX_HALVINGS; halving++) {
    point.set(state.point);
    addScaled(point, direction, size);
    if (l1.weight > 0) stayInOrthant(point, state.point, uphill, l1);
    value = objective(point, gradient) + penaltyOf(point, l1);
    if (value <= state.value + ARMIJO * size * slope) break;
    if (Number.isNaN(value)) break;
    // The least of the parabola through both values and the slope, kept within a tenth and a half of the last size.
    const parabola = (-slope * size * size) / (2 * (value - state.value - slope * size));
    size = Number.isFinite(parabola) ? Math.min(size / 2, Math.max(size / 10, parabola)) : size / 10;
  }
  state.iteration++;
  if (!(value < state.value)) {
    if (Number.isNaN(value)) state.value = value;
    state.stalled = -slope > ROUNDING * Math.max(1, Math.abs(state.value));
    state.trace.push(state.value, largest(uphill));
    state.done = true;
    return;
  }
  const step = point.slice();
  addScaled(step, state.point, -1);
  const change = gradient.slice();
  addScaled(change, state.gradient, -1);
  if (dot(step, change) > 1e-12 * Math.sqrt(dot(step, step) * dot(change, change))) {
    state.steps.push(step);
    state.changes.push(change);
    if (state.steps.length > MEMORY) {
      state.steps.shift();
      state.changes.shift();
    }
  }
  state.point = point;
  state.gradient = gradient;
  state.value = value;
  const steepness = largest(pseudoGradient(point, gradient, l1));
  state.trace.push(value, steepness);
  state.done = steepness <= tolerance;
}

/** Weights that would change their sign on the way become 0. */
function stayInOrthant(point: Float64Array, before: Float64Array, uphill: Float64Array, { count }: L1Penalty): void {
  for (let i = 0; i < count; i++) {
    const sign = (before[i] as number) === 0 ? -(uphill[i] as number) : (before[i] as number);
    if ((point[i] as number) * sign <= 0) point[i] = 0;
  }
}

function descentDirection(state: LbfgsState, uphill: Float64Array, diagonal: Float64Array): Float64Array {
  const q = uphill.slice();
  const count = state.steps.length;
  const alphas = new Float64Array(count);
  for (let i = count - 1; i >= 0; i--) {
    const step = state.steps[i] as Float64Array;
    const change = state.changes[i] as Float64Array;
    alphas[i] = dot(step, q) / dot(step, change);
    addScaled(q, change, -(alphas[i] as number));
  }
  let scale = 1;
  const lastStep = state.steps[count - 1];
  const lastChange = state.changes[count - 1];
  if (lastStep !== undefined && lastChange !== undefined) {
    let weighted = 0;
    for (let i = 0; i < q.length; i++) weighted += ((lastChange[i] as number) * (lastChange[i] as number)) / (diagonal[i] as number);
    scale = dot(lastStep, lastChange) / weighted;
  }
  for (let i = 0; i < q.length; i++) q[i] = (scale * (q[i] as number)) / (diagonal[i] as number);
  for (let i = 0; i < count; i++) {
    const step = state.steps[i] as Float64Array;
    const change = state.changes[i] as Float64Array;
    addScaled(q, step, (alphas[i] as number) - dot(change, q) / dot(step, change));
  }
  for (let i = 0; i < q.length; i++) q[i] = -(q[i] as number);
  return q;
}

/** [iteration, value, done, pairs, size, trace] and then point, gradient, steps, changes and trace, as float64. */
const HEADER = 6;

export function saveLbfgs(state: LbfgsState): Uint8Array {
  const size = state.point.length;
  const vectors = [state.point, state.gradient, ...state.steps, ...state.changes];
  const all = new Float64Array(HEADER + size * vectors.length + state.trace.length);
  all.set([state.iteration, state.value, state.stalled ? 2 : state.done ? 1 : 0, state.steps.length, size, state.trace.length]);
  vectors.forEach((vector, i) => {
    all.set(vector, HEADER + i * size);
  });
  all.set(state.trace, HEADER + size * vectors.length);
  return new Uint8Array(all.buffer);
}

/** The state that `saveLbfgs` wrote, or undefined when the bytes belong to a problem of another size. */
export function loadLbfgs(bytes: Uint8Array, size: number): LbfgsState | undefined {
  if (bytes.byteLength % 8 !== 0 || bytes.byteLength < HEADER * 8) return undefined;
  const all = new Float64Array(bytes.slice().buffer);
  const [iteration = 0, value = 0, done = 0, pairs = 0, savedSize = 0, traceLength = 0] = all;
  const traceStart = HEADER + size * (2 + 2 * pairs);
  if (savedSize !== size || all.length !== traceStart + traceLength) return undefined;
  const vector = (i: number): Float64Array => all.slice(HEADER + i * size, HEADER + (i + 1) * size);
  const vectors = (from: number): Float64Array[] => Array.from({ length: pairs }, (_, i) => vector(from + i));
  return {
    iteration,
    value,
    done: done > 0,
    stalled: done === 2,
    point: vector(0),
    gradient: vector(1),
    steps: vectors(2),
    changes: vectors(2 + pairs),
    trace: [...all.subarray(traceStart)],
  };
}
