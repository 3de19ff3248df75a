/**
 * Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) for a smooth convex function, with a
 * diagonal in place of the first inverse Hessian and a backtracking line search.
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
}

/** Writes the gradient at `point` into `gradient` and returns the value. */
export type Objective = (point: Float64Array, gradient: Float64Array) => number;

const MEMORY = 10;
const ARMIJO = 1e-4;
const MAX_HALVINGS = 40;

export function startLbfgs(objective: Objective, point: Float64Array): LbfgsState {
  const gradient = new Float64Array(point.length);
  const value = objective(point, gradient);
  return { iteration: 0, value, point, gradient, steps: [], changes: [], trace: [value, largest(gradient)], done: false };
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
export function stepLbfgs(state: LbfgsState, objective: Objective, diagonal: Float64Array, tolerance: number): void {
  if (state.done || largest(state.gradient) <= tolerance) {
    state.done = true;
    return;
  }
  const direction = descentDirection(state, diagonal);
  let slope = dot(direction, state.gradient);
  if (!(slope < 0)) {
    // Rounding spoilt the memory: start again from the diagonal alone.
    state.steps = [];
    state.changes = [];
    direction.set(descentDirection(state, diagonal));
    slope = dot(direction, state.gradient);
  }
  const point = new Float64Array(state.point.length);
  const gradient = new Float64Array(state.point.length);
  let size = 1;
  let value = Number.POSITIVE_INFINITY;
  for (let halving = 0; halving < MAX_HALVINGS; halving++) {
    point.set(state.point);
    addScaled(point, direction, size);
    value = objective(point, gradient);
    if (value <= state.value + ARMIJO * size * slope) break;
    if (Number.isNaN(value)) break;
    // The least of the parabola through both values and the slope, kept within a tenth and a half of the last size.
    const parabola = (-slope * size * size) / (2 * (value - state.value - slope * size));
    size = Number.isFinite(parabola) ? Math.min(size / 2, Math.max(size / 10, parabola)) : size / 10;
  }
  state.iteration++;
  if (!(value < state.value)) {
    if (Number.isNaN(value)) state.value = value;
    state.trace.push(state.value, largest(state.gradient));
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
  state.trace.push(value, largest(gradient));
  state.done = largest(gradient) <= tolerance;
}

function descentDirection(state: LbfgsState, diagonal: Float64Array): Float64Array {
  const q = state.gradient.slice();
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
  all.set([state.iteration, state.value, state.done ? 1 : 0, state.steps.length, size, state.trace.length]);
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
    done: done === 1,
    point: vector(0),
    gradient: vector(1),
    steps: vectors(2),
    changes: vectors(2 + pairs),
    trace: [...all.subarray(traceStart)],
  };
}
