/**
 * The inner loops of training, as WebAssembly over one shared memory. V8 runs them without bounds checks, and one SIMD
 * instruction adds gradient and Hessian to a bin at once; plain JavaScript over typed arrays takes about twice as long.
 *
 * Invariants:
 * 1. A kernel adds up in the order of its rows: the same rows give the same bits, on every machine.
 * 2. Kernels check nothing. Pointers come from the memory layout, row numbers from the partition, and both stay inside.
 */
import { assembleModule, bulk, f64, f64x2, get, i32, i64x2, set, until, v128, type Code, type WasmFunction } from './wasm-assembler.ts';
import { type CompiledModule, type SharedMemory, wasmRuntime } from './wasm-runtime.ts';

/** Features whose bins lie side by side in a row and are added up in one pass. */
export const MAX_GROUP_WIDTH = 8;

/**
 * Bytes from one feature's histogram to the next: 256 bins of [gradient, Hessian], and a cache line more, since
 * stores and loads 4,096 bytes apart would be taken for the same address.
 */
export const HISTOGRAM_STRIDE_BYTES = 256 * 16 + 64;

/** Largest memory that 32-bit WebAssembly can address, in pages of 64 KiB. */
export const MAX_PAGES = 65_536;

/** Adds [gradient, Hessian] of each row to the bins of a group of features. Pointers are byte addresses. */
export type HistogramKernel = (bins: number, orderStart: number, orderEnd: number, derivatives: number, histogram: number) => void;

export interface Kernels {
  /** By group width - 1: the rows that `order` names. */
  readonly histogram: readonly HistogramKernel[];
  /** By group width - 1: all rows between the numbers `first` and `last` (exclusive), in the places of the order's pointers. */
  readonly histogramOfRange: readonly HistogramKernel[];
  /** Rows of `order` whose bin goes left (by `goesLeft`, 256 bytes of 0 or 1) to `left`, the others to `right`; both keep their order. Gives the end pointer of `left`. */
  readonly partition: (bins: number, rowStride: number, orderStart: number, orderEnd: number, goesLeft: number, left: number, right: number) => number;
  /** The same for all rows between two numbers. */
  readonly partitionRange: (bins: number, rowStride: number, first: number, last: number, goesLeft: number, left: number, right: number) => number;
  /** Adds `value` to the float64 score of each row. */
  readonly addToScores: (orderStart: number, orderEnd: number, scores: number, value: number) => void;
  /** e^x in place over float64 pairs; the count of bytes is a multiple of EXPONENTIAL_BLOCK_BYTES. To a relative 1e-11, x bounded to ±708. */
  readonly exponential: (start: number, end: number) => void;
  /** target += source over float64 pairs. */
  readonly addHistogram: (target: number, targetEnd: number, source: number) => void;
  /** target = target - source over float64 pairs. */
  readonly subtractHistogram: (target: number, targetEnd: number, source: number) => void;
  readonly copy: (target: number, source: number, sizeBytes: number) => void;
  readonly clear: (target: number, sizeBytes: number) => void;
}

const advance = (local: number, by: number): Code => set(local, i32.add(get(local), i32.constant(by)));

function histogramKernel(width: number, range: boolean): WasmFunction {
  const [bins, order, end, derivatives, histogram, row, base, pair, firstBin] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const features = Array.from({ length: width }, (_, index) => index);
  const body: Code = [
    ...(range ? set(row, get(order)) : set(row, i32.load(get(order)))),
    ...set(pair, f64x2.fromFloats(v128.loadHalf(i32.add(get(derivatives), i32.shiftLeft(get(row), i32.constant(3)))))),
    ...set(base, i32.add(get(bins), i32.multiply(get(row), i32.constant(width)))),
    // All bins are read before the first store: the compiler may not move a load across one.
    ...features.flatMap((f) => set(firstBin + f, i32.add(get(histogram), i32.shiftLeft(i32.loadByte(get(base), f), i32.constant(4))))),
    ...features.flatMap((f) =>
      v128.store(get(firstBin + f), f64x2.add(v128.load(get(firstBin + f), f * HISTOGRAM_STRIDE_BYTES), get(pair)), f * HISTOGRAM_STRIDE_BYTES),
    ),
    ...advance(order, range ? 1 : 4),
  ];
  return {
    name: `${range ? 'histogramOfRange' : 'histogram'}${width}`,
    parameters: ['i32', 'i32', 'i32', 'i32', 'i32'],
    locals: ['i32', 'i32', 'v128', ...features.map(() => 'i32' as const)],
    body: until(order, end, body),
  };
}

function partitionKernel(range: boolean): WasmFunction {
  const [bins, stride, order, end, goesLeft, left, right, row, side] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const body: Code = [
    ...(range ? set(row, get(order)) : set(row, i32.load(get(order)))),
    ...set(side, i32.shiftLeft(i32.loadByte(i32.add(get(goesLeft), i32.loadByte(i32.add(get(bins), i32.multiply(get(row), get(stride)))))), i32.constant(2))),
    // Written to both sides, and only one pointer moves on: no branch to mispredict.
    ...i32.store(get(left), get(row)),
    ...i32.store(get(right), get(row)),
    ...set(left, i32.add(get(left), get(side))),
    ...set(right, i32.subtract(i32.add(get(right), i32.constant(4)), get(side))),
    ...advance(order, range ? 1 : 4),
  ];
  return {
    name: range ? 'partitionRange' : 'partition',
    parameters: ['i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32'],
    result: 'i32',
    locals: ['i32', 'i32'],
    body: [...until(order, end, body), ...get(left)],
  };
}

function addToScoresKernel(): WasmFunction {
  const [order, end, scores, value, address] = [0, 1, 2, 3, 4];
  const body: Code = [
    ...set(address, i32.add(get(scores), i32.shiftLeft(i32.load(get(order)), i32.constant(3)))),
    ...f64.store(get(address), f64.add(f64.load(get(address)), get(value))),
    ...advance(order, 4),
  ];
  return { name: 'addToScores', parameters: ['i32', 'i32', 'i32', 'f64'], locals: ['i32'], body: until(order, end, body) };
}

/** Where the constants of the exponential lie, at the start of the memory. Read from there: building each anew costs half of the time. */
const EXPONENTIAL_TABLE = 0;

/** Bytes at the start of the memory that belong to the kernels. */
export const KERNEL_CONSTANTS_BYTES = 512;

const EXPONENTIAL_TERMS = 9;

/** 708, -708, log2 e, ln 2 in two parts (Cody and Waite, 1980), 1.5 · 2^52, then 1 / 9! … 1 / 0!: each twice, for both lanes. */
function exponentialConstants(): Float64Array {
  const inverseFactorials = [1];
  for (let i = 1; i <= EXPONENTIAL_TERMS; i += 1) inverseFactorials.unshift((inverseFactorials[0] ?? 1) * i);
  return Float64Array.from(
    [708, -708, Math.LOG2E, 6.9314718036912381649e-1, 1.90821492927058770002e-10, 1.5 * 2 ** 52, ...inverseFactorials.map((f) => 1 / f)].flatMap((c) => [c, c]),
  );
}

/** Bytes that one pass of the exponential takes: chains that do not wait for each other. */
export const EXPONENTIAL_BLOCK_BYTES = 32;

/** e^x = 2^n · e^r with n = round(x / ln 2), r = x - n ln 2, and the Taylor series of e^r to r^9, whose rest is below 1e-11 for |r| ≤ 0.347. */
function exponentialKernel(): WasmFunction {
  const [pointer, end] = [0, 1];
  const chains = Array.from({ length: EXPONENTIAL_BLOCK_BYTES / 16 }, (_, chain) => ({
    x: 2 + 4 * chain,
    n: 3 + 4 * chain,
    shifted: 4 + 4 * chain,
    polynomial: 5 + 4 * chain,
    offset: 16 * chain,
  }));
  const constant = (index: number): Code => v128.load(i32.constant(EXPONENTIAL_TABLE + index * 16));
  /** The bits of 1.0 are the exponent 0. */
  const ONE = 6 + EXPONENTIAL_TERMS;
  const each = (step: (chain: (typeof chains)[number]) => Code): Code => chains.flatMap(step);
  const body: Code = [
    ...each(({ x, offset }) => set(x, f64x2.maximum(f64x2.minimum(v128.load(get(pointer), offset), constant(0)), constant(1)))),
    // Adding 1.5 · 2^52 rounds to a whole number and leaves it in the low bits, where the shift below takes it to the exponent.
    ...each(({ x, n, shifted }) => [
      ...set(shifted, f64x2.add(f64x2.multiply(get(x), constant(2)), constant(5))),
      ...set(n, f64x2.subtract(get(shifted), constant(5))),
    ]),
    ...each(({ x, n }) => set(x, f64x2.subtract(f64x2.subtract(get(x), f64x2.multiply(get(n), constant(3))), f64x2.multiply(get(n), constant(4))))),
    ...each(({ polynomial }) => set(polynomial, constant(6))),
    ...Array.from({ length: EXPONENTIAL_TERMS }, (_, term) =>
      each(({ x, polynomial }) => set(polynomial, f64x2.add(f64x2.multiply(get(polynomial), get(x)), constant(7 + term)))),
    ).flat(),
    ...each(({ shifted, polynomial, offset }) =>
      v128.store(get(pointer), f64x2.multiply(get(polynomial), i64x2.add(i64x2.shiftLeft(get(shifted), 52), constant(ONE))), offset),
    ),
    ...advance(pointer, EXPONENTIAL_BLOCK_BYTES),
  ];
  return {
    name: 'exponential',
    parameters: ['i32', 'i32'],
    locals: chains.flatMap(() => ['v128', 'v128', 'v128', 'v128'] as const),
    body: until(pointer, end, body),
  };
}

function histogramSumKernel(name: string, combine: (left: Code, right: Code) => Code): WasmFunction {
  const [target, end, source] = [0, 1, 2];
  const body: Code = [...v128.store(get(target), combine(v128.load(get(target)), v128.load(get(source)))), ...advance(target, 16), ...advance(source, 16)];
  return { name, parameters: ['i32', 'i32', 'i32'], locals: [], body: until(target, end, body) };
}

/** Compiles the kernels for a memory of so many pages. The module can be handed to other threads as it is. */
export function compileKernels(maximumPages: number): CompiledModule {
  const widths = Array.from({ length: MAX_GROUP_WIDTH }, (_, index) => index + 1);
  const functions: WasmFunction[] = [
    ...widths.map((width) => histogramKernel(width, false)),
    ...widths.map((width) => histogramKernel(width, true)),
    partitionKernel(false),
    partitionKernel(true),
    addToScoresKernel(),
    exponentialKernel(),
    histogramSumKernel('addHistogram', f64x2.add),
    histogramSumKernel('subtractHistogram', f64x2.subtract),
    { name: 'copy', parameters: ['i32', 'i32', 'i32'], locals: [], body: bulk.copy(get(0), get(1), get(2)) },
    { name: 'clear', parameters: ['i32', 'i32'], locals: [], body: bulk.fill(get(0), i32.constant(0), get(1)) },
  ];
  return new wasmRuntime.Module(assembleModule(functions, maximumPages));
}

/** Binds the compiled kernels to a memory, in the calling thread. */
export function bindKernels(module: CompiledModule, memory: SharedMemory): Kernels {
  new Float64Array(memory.buffer, EXPONENTIAL_TABLE).set(exponentialConstants());
  const exported = new wasmRuntime.Instance(module, { host: { memory } }).exports;
  const widths = Array.from({ length: MAX_GROUP_WIDTH }, (_, index) => index + 1);
  return {
    ...(exported as unknown as Omit<Kernels, 'histogram' | 'histogramOfRange'>),
    histogram: widths.map((width) => exported[`histogram${width}`] as HistogramKernel),
    histogramOfRange: widths.map((width) => exported[`histogramOfRange${width}`] as HistogramKernel),
  };
}
