/**
 * The inner loops of training, as WebAssembly over one shared memory. V8 runs them without bounds checks, and one SIMD
 * instruction adds gradient and Hessian to a bin at once; plain JavaScript over typed arrays takes about twice as long.
 *
 * Invariants:
 * 1. A kernel adds up in the order of its rows: the same rows give the same bits, on every machine.
 * 2. Kernels check nothing. Pointers come from the memory layout, row numbers from the partition, and both stay inside.
 */
import { assembleModule, bulk, f32x4, f64, f64x2, get, i32, i64x2, set, until, v128, type Code, type WasmFunction } from './wasm-assembler.ts';
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
  /**
   * Derivatives of the log loss for the float64 scores from `scores` to `end` (a multiple of BINARY_BLOCK_ROWS rows) and
   * their float32 labels. At `sums` it leaves six numbers of 64 bits, one of each pair for even and odd rows: product of
   * mantissas, sum of biased exponents (whole numbers), and a sum that is finite if all scores are.
   */
  readonly deriveBinary: (scores: number, end: number, labels: number, derivatives: number, sums: number) => void;
  /** The sums alone. */
  readonly measureBinary: (scores: number, end: number, labels: number, derivatives: number, sums: number) => void;
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

/** Where the constants lie, at the start of the memory. Read from there: building each anew costs more than the arithmetic. */
const CONSTANT_TABLE = 0;

/** Bytes at the start of the memory that belong to the kernels. */
export const KERNEL_CONSTANTS_BYTES = 512;

/** A probability below this counts as this in the log loss, as in LightGBM. */
export const LEAST_PROBABILITY = 1e-15;

const EXPONENTIAL_TERMS = 9;

/** Positions in the table of constants: those of the exponential, its series, and those of the log loss. */
const CONSTANT = {
  most: 0,
  least: 1,
  log2e: 2,
  ln2High: 3,
  ln2Low: 4,
  rounder: 5,
  series: 6,
  one: 6 + EXPONENTIAL_TERMS,
  leastProbability: 7 + EXPONENTIAL_TERMS,
  mantissa: 8 + EXPONENTIAL_TERMS,
} as const;

/** ±708, log2 e, ln 2 in two parts (Cody and Waite, 1980), 1.5 · 2^52, 1 / 9! … 1 / 0!, least probability, mask of a mantissa: each twice, for both lanes. */
function kernelConstants(): Float64Array {
  const inverseFactorials = [1];
  for (let i = 1; i <= EXPONENTIAL_TERMS; i += 1) inverseFactorials.unshift((inverseFactorials[0] ?? 1) * i);
  const [mantissa = 0] = new Float64Array(BigUint64Array.of(0x000fffffffffffffn).buffer);
  const constants = [
    708,
    -708,
    Math.LOG2E,
    6.9314718036912381649e-1,
    1.90821492927058770002e-10,
    1.5 * 2 ** 52,
    ...inverseFactorials.map((f) => 1 / f),
    LEAST_PROBABILITY,
    mantissa,
  ];
  return Float64Array.from(constants.flatMap((c) => [c, c]));
}

const constant = (index: number): Code => v128.load(i32.constant(CONSTANT_TABLE + index * 16));

interface ExponentialChain {
  readonly x: number;
  readonly n: number;
  readonly shifted: number;
  readonly result: number;
}

/** Locals of chains that do not wait for each other, from local `first` on. */
const exponentialChains = (count: number, first: number): readonly (ExponentialChain & { readonly offset: number })[] =>
  Array.from({ length: count }, (_, chain) => ({
    x: first + 4 * chain,
    n: first + 1 + 4 * chain,
    shifted: first + 2 + 4 * chain,
    result: first + 3 + 4 * chain,
    offset: 16 * chain,
  }));

/** result = e^x = 2^n · e^r with n = round(x / ln 2), r = x - n ln 2, and the Taylor series of e^r to r^9, whose rest is below 1e-11 for |r| ≤ 0.347. */
function exponentialOf(chains: readonly ExponentialChain[]): Code {
  const each = (step: (chain: ExponentialChain) => Code): Code => chains.flatMap(step);
  return [
    ...each(({ x }) => set(x, f64x2.maximum(f64x2.minimum(get(x), constant(CONSTANT.most)), constant(CONSTANT.least)))),
    // Adding 1.5 · 2^52 rounds to a whole number and leaves it in the low bits, where the shift below takes it to the exponent.
    ...each(({ x, shifted }) => set(shifted, f64x2.add(f64x2.multiply(get(x), constant(CONSTANT.log2e)), constant(CONSTANT.rounder)))),
    ...each(({ n, shifted }) => set(n, f64x2.subtract(get(shifted), constant(CONSTANT.rounder)))),
    ...each(({ x, n }) =>
      set(x, f64x2.subtract(f64x2.subtract(get(x), f64x2.multiply(get(n), constant(CONSTANT.ln2High))), f64x2.multiply(get(n), constant(CONSTANT.ln2Low)))),
    ),
    ...each(({ result }) => set(result, constant(CONSTANT.series))),
    ...Array.from({ length: EXPONENTIAL_TERMS }, (_, term) =>
      each(({ x, result }) => set(result, f64x2.add(f64x2.multiply(get(result), get(x)), constant(CONSTANT.series + 1 + term)))),
    ).flat(),
    // The bits of 1.0 are the exponent 0.
    ...each(({ shifted, result }) => set(result, f64x2.multiply(get(result), i64x2.add(i64x2.shiftLeft(get(shifted), 52), constant(CONSTANT.one))))),
  ];
}

/** Bytes that one pass of the exponential takes. */
export const EXPONENTIAL_BLOCK_BYTES = 32;

function exponentialKernel(): WasmFunction {
  const [pointer, end] = [0, 1];
  const chains = exponentialChains(EXPONENTIAL_BLOCK_BYTES / 16, 2);
  const body: Code = [
    ...chains.flatMap(({ x, offset }) => set(x, v128.load(get(pointer), offset))),
    ...exponentialOf(chains),
    ...chains.flatMap(({ result, offset }) => v128.store(get(pointer), get(result), offset)),
    ...advance(pointer, EXPONENTIAL_BLOCK_BYTES),
  ];
  return {
    name: 'exponential',
    parameters: ['i32', 'i32'],
    locals: chains.flatMap(() => ['v128', 'v128', 'v128', 'v128'] as const),
    body: until(pointer, end, body),
  };
}

/** Rows that one pass of the binary kernels takes. */
export const BINARY_BLOCK_ROWS = 4;

/**
 * Log loss of a binary target. The logarithms are not taken one by one: the probabilities of the rows' own classes are
 * multiplied, and the product's exponent is moved to a sum of its own after each row.
 */
function binaryKernel(training: boolean): WasmFunction {
  const [scores, end, labels, derivatives, sums, product, exponents, check, p, difference] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const chains = exponentialChains(BINARY_BLOCK_ROWS / 2, 10);
  const one = constant(CONSTANT.one);
  const body: Code = [
    ...chains.flatMap(({ x, offset }) => set(x, f64x2.negate(v128.load(get(scores), offset)))),
    ...exponentialOf(chains),
    ...chains.flatMap(({ result, offset }) => [
      ...set(p, f64x2.divide(one, f64x2.add(one, get(result)))),
      ...set(difference, f64x2.subtract(get(p), f64x2.fromFloats(v128.loadHalf(get(labels), offset / 2)))),
      ...(training
        ? v128.store(
            get(derivatives),
            f32x4.interleaveLow(f64x2.toFloats(get(difference)), f64x2.toFloats(f64x2.multiply(get(p), f64x2.subtract(one, get(p))))),
            offset,
          )
        : []),
      ...set(check, f64x2.add(get(check), get(difference))),
      ...set(product, f64x2.multiply(get(product), f64x2.maximum(f64x2.subtract(one, f64x2.absolute(get(difference))), constant(CONSTANT.leastProbability)))),
      ...set(exponents, i64x2.add(get(exponents), i64x2.shiftRight(get(product), 52))),
      ...set(product, v128.or(v128.and(get(product), constant(CONSTANT.mantissa)), one)),
    ]),
    ...advance(scores, BINARY_BLOCK_ROWS * 8),
    ...advance(labels, BINARY_BLOCK_ROWS * 4),
    ...advance(derivatives, BINARY_BLOCK_ROWS * 8),
  ];
  return {
    name: training ? 'deriveBinary' : 'measureBinary',
    parameters: ['i32', 'i32', 'i32', 'i32', 'i32'],
    locals: ['v128', 'v128', 'v128', 'v128', 'v128', ...chains.flatMap(() => ['v128', 'v128', 'v128', 'v128'] as const)],
    body: [
      ...set(product, one),
      ...until(scores, end, body),
      ...v128.store(get(sums), get(product), 0),
      ...v128.store(get(sums), get(exponents), 16),
      ...v128.store(get(sums), get(check), 32),
    ],
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
    binaryKernel(true),
    binaryKernel(false),
    histogramSumKernel('addHistogram', f64x2.add),
    histogramSumKernel('subtractHistogram', f64x2.subtract),
    { name: 'copy', parameters: ['i32', 'i32', 'i32'], locals: [], body: bulk.copy(get(0), get(1), get(2)) },
    { name: 'clear', parameters: ['i32', 'i32'], locals: [], body: bulk.fill(get(0), i32.constant(0), get(1)) },
  ];
  return new wasmRuntime.Module(assembleModule(functions, maximumPages));
}

/** Binds the compiled kernels to a memory, in the calling thread. */
export function bindKernels(module: CompiledModule, memory: SharedMemory): Kernels {
  new Float64Array(memory.buffer, CONSTANT_TABLE).set(kernelConstants());
  const exported = new wasmRuntime.Instance(module, { host: { memory } }).exports;
  const widths = Array.from({ length: MAX_GROUP_WIDTH }, (_, index) => index + 1);
  return {
    ...(exported as unknown as Omit<Kernels, 'histogram' | 'histogramOfRange'>),
    histogram: widths.map((width) => exported[`histogram${width}`] as HistogramKernel),
    histogramOfRange: widths.map((width) => exported[`histogramOfRange${width}`] as HistogramKernel),
  };
}
