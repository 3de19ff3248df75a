/**
 * The pieces of work that the threads share, over one memory. Each thread binds them once; the arguments of the piece
 * that runs lie in the memory.
 *
 * Invariants:
 * 1. What a task writes depends on its kind, index and arguments alone, never on the thread or on what ran before it.
 * 2. Tasks of one phase write to places of their own. Sums over tasks are made by one thread, in the order of the index.
 * 3. How rows and features are cut into tasks does not depend on the count of threads: a model is the same on any machine.
 */
import { createBinFinder, writeBins } from './binning.ts';
import { BINARY_BLOCK_ROWS, EXPONENTIAL_BLOCK_BYTES, HISTOGRAM_STRIDE_BYTES, LEAST_PROBABILITY, type Kernels } from './kernels.ts';
import { BIN_WORDS, CANDIDATE_FIELDS, leafChunks, ROW_BLOCK, SCRATCH_ROWS, TREE_NODE_FIELDS, type Layout } from './layout.ts';
import { bindRanking } from './ranking.ts';
import type { SharedMemory } from './wasm-runtime.ts';

export const TASK = { bin: 0, derive: 1, histogram: 2, combine: 3, scan: 4, partition: 5, gather: 6, score: 7, traverse: 8 } as const;

export type TaskKind = (typeof TASK)[keyof typeof TASK];

/** Rows of one binning task. */
export const BIN_BLOCK_ROWS = 65_536;

/** The features of both sets, column by column. */
export interface FeatureColumns {
  readonly train: Float32Array;
  readonly validation: Float32Array | undefined;
}

export interface SplitLimits {
  readonly minDataInLeaf: number;
  readonly minSumHessian: number;
  readonly minGain: number;
  readonly l2: number;
  readonly categorySmoothing: number;
  readonly categoryL2: number;
  readonly maxSplitCategories: number;
  readonly minDataPerGroup: number;
  readonly oneHotUpTo: number;
  /** For each used feature: 1 where the output may only rise in it, -1 where it may only fall, else 0. Empty: none is bound. */
  readonly directions: readonly number[];
}

export interface TaskRunner {
  /** Runs one task; `thread` (0 … threads - 1) says whose scratch it may use. */
  readonly run: (kind: TaskKind, index: number, thread: number) => void;
}

/** Address of a leaf's histogram. */
export const histogramAt = (layout: Layout, slot: number): number => layout.histograms + slot * layout.histogramBytes;

/** Binds the tasks to the memory in the calling thread. `columns` is needed by the binning tasks alone. */
export function createTaskRunner(memory: SharedMemory, layout: Layout, kernels: Kernels, limits: SplitLimits, columns: FeatureColumns | undefined): TaskRunner {
  const { rows, validationRows, outputs, groups, features, binCounts } = layout;
  const allRows = rows + validationRows;
  const bytes = new Uint8Array(memory.buffer);
  const ints = new Int32Array(memory.buffer);
  const floats = new Float32Array(memory.buffer);
  const doubles = new Float64Array(memory.buffer);
  const given = new Float64Array(memory.buffer, layout.taskArguments, 16);
  const argument = (index: number): number => given[index] as number;
  const losses = new Float64Array(memory.buffer, layout.losses, Math.ceil(rows / ROW_BLOCK) + Math.ceil(validationRows / ROW_BLOCK));
  const classes = layout.classification && outputs > 1 ? new Uint16Array(memory.buffer, layout.targets, allRows) : new Uint16Array(0);
  const values = layout.classification ? new Float64Array(0) : new Float64Array(memory.buffer, layout.targets, allRows);
  const weights = layout.weighted ? new Float64Array(memory.buffer, layout.weights, allRows) : undefined;
  const chunkCounts = new Int32Array(memory.buffer, layout.chunkCounts, 16);
  const hasMissing = new Uint8Array(memory.buffer, layout.missing, features.length);
  const selected = new Uint8Array(memory.buffer, layout.selected, features.length);

  /** Task: group × block of rows, training rows first. */
  const bin = (index: number): void => {
    const group = groups[index % groups.length];
    if (group === undefined || columns === undefined) return;
    const block = Math.floor(index / groups.length);
    const trainBlocks = Math.ceil(rows / BIN_BLOCK_ROWS);
    const training = block < trainBlocks;
    const data = training ? columns.train : columns.validation;
    if (data === undefined) return;
    const bits = new Int32Array(data.buffer, data.byteOffset, data.length);
    const count = training ? rows : validationRows;
    const first = (training ? block : block - trainBlocks) * BIN_BLOCK_ROWS;
    const last = Math.min(count, first + BIN_BLOCK_ROWS);
    for (let j = 0; j < group.width; j += 1) {
      const feature = group.first + j;
      const binCount = binCounts[feature] as number;
      const finder = createBinFinder(new Float32Array(memory.buffer, layout.bounds + feature * 1024, binCount));
      const column = (features[feature] as number) * count;
      const start = group.bins + ((training ? 0 : rows) + first) * group.width + j;
      writeBins(finder, data, bits, column + first, column + last, binCount, bytes, start, group.width);
      if (training) {
        for (let i = 0, at = start; i < last - first; i += 1, at += group.width) {
          if (bytes[at] === binCount) {
            hasMissing[feature] = 1;
            break;
          }
        }
      }
    }
  };

  const deriveBinary = (first: number, last: number, training: boolean, scratch: number): number => {
    let loss = 0;
    let from = first;
    if (weights === undefined) {
      const count = Math.floor((last - first) / BINARY_BLOCK_ROWS) * BINARY_BLOCK_ROWS;
      const start = layout.scores + first * 8;
      (training ? kernels.deriveBinary : kernels.measureBinary)(start, start + count * 8, layout.targets + first * 4, layout.derivatives + first * 8, scratch);
      // The exponents are biased by 1,023 for each of the rows in a lane.
      const exponents = (ints[scratch / 4 + 4] as number) + (ints[scratch / 4 + 6] as number) - 1023 * count;
      const mantissas = (doubles[scratch / 8] as number) * (doubles[scratch / 8 + 1] as number);
      const check = (doubles[scratch / 8 + 4] as number) + (doubles[scratch / 8 + 5] as number);
      loss = Number.isFinite(check) ? -Math.log(mantissas) - exponents * Math.LN2 : Number.NaN;
      from += count;
    }
    for (let row = from; row < last; row += 1) {
      const p = 1 / (1 + Math.exp(-(doubles[layout.scores / 8 + row] as number)));
      const y = floats[layout.targets / 4 + row] as number;
      const w = weights === undefined ? 1 : (weights[row] as number);
      if (w > 0) loss -= w * Math.log(Math.max(LEAST_PROBABILITY, y === 1 ? p : 1 - p));
      if (training) {
        floats[layout.derivatives / 4 + 2 * row] = w * (p - y);
        floats[layout.derivatives / 4 + 2 * row + 1] = w * p * (1 - p);
      }
    }
    return loss;
  };

  const deriveMulticlass = (first: number, last: number, training: boolean, scratch: number): number => {
    const at = scratch / 8;
    // Friedman's K / (K - 1) for the redundant class, as in LightGBM.
    const factor = outputs / (outputs - 1);
    let loss = 0;
    for (let from = first; from < last; from += SCRATCH_ROWS) {
      const count = Math.min(SCRATCH_ROWS, last - from);
      for (let i = 0; i < count; i += 1) {
        let most = Number.NEGATIVE_INFINITY;
        for (let k = 0; k < outputs; k += 1) most = Math.max(most, doubles[layout.scores / 8 + k * allRows + from + i] as number);
        for (let k = 0; k < outputs; k += 1) doubles[at + k * SCRATCH_ROWS + i] = (doubles[layout.scores / 8 + k * allRows + from + i] as number) - most;
      }
      for (let k = 0; k < outputs; k += 1) {
        const start = scratch + k * SCRATCH_ROWS * 8;
        kernels.exponential(start, start + Math.ceil((count * 8) / EXPONENTIAL_BLOCK_BYTES) * EXPONENTIAL_BLOCK_BYTES);
      }
      for (let i = 0; i < count; i += 1) {
        const row = from + i;
        const y = classes[row] as number;
        const w = weights === undefined ? 1 : (weights[row] as number);
        let sum = 0;
        for (let k = 0; k < outputs; k += 1) sum += doubles[at + k * SCRATCH_ROWS + i] as number;
        if (w > 0) loss -= w * Math.log(Math.max(LEAST_PROBABILITY, (doubles[at + y * SCRATCH_ROWS + i] as number) / sum));
        if (!training) continue;
        for (let k = 0; k < outputs; k += 1) {
          const p = (doubles[at + k * SCRATCH_ROWS + i] as number) / sum;
          const target = layout.derivatives / 4 + 2 * (k * rows + row);
          floats[target] = w * (p - (k === y ? 1 : 0));
          floats[target + 1] = w * factor * p * (1 - p);
        }
      }
    }
    return loss;
  };

  const deriveRegression = (first: number, last: number, training: boolean): number => {
    let loss = 0;
    for (let row = first; row < last; row += 1) {
      const difference = (doubles[layout.scores / 8 + row] as number) - (values[row] as number);
      const w = weights === undefined ? 1 : (weights[row] as number);
      loss += w * difference * difference;
      if (training) {
        floats[layout.derivatives / 4 + 2 * row] = w * difference;
        floats[layout.derivatives / 4 + 2 * row + 1] = w;
      }
    }
    return loss;
  };

  const deriveRanking = layout.ranking === undefined ? undefined : bindRanking(memory, layout, layout.ranking);

  /** Task: block of rows, training rows first (of a ranking: of places of grouped rows). Derivatives of the loss by the scores (training rows), and its sum. */
  const derive = (index: number, thread: number): void => {
    const trainBlocks = Math.ceil(rows / ROW_BLOCK);
    const training = index < trainBlocks;
    const first = training ? index * ROW_BLOCK : rows + (index - trainBlocks) * ROW_BLOCK;
    const last = Math.min(training ? rows : allRows, first + ROW_BLOCK);
    const scratch = layout.scratch + thread * layout.scratchBytes;
    if (deriveRanking !== undefined) losses[index] = deriveRanking(first, last, training);
    else if (!layout.classification) losses[index] = deriveRegression(first, last, training);
    else losses[index] = outputs === 1 ? deriveBinary(first, last, training, scratch) : deriveMulticlass(first, last, training, scratch);
  };

  /** Task: group × chunk. Arguments: first and last position, histogram slot, output, 1 when positions are the rows themselves. */
  const histogram = (index: number): void => {
    const group = groups[index % groups.length];
    if (group === undefined || !groupSelected(group.first, group.width)) return;
    const chunk = Math.floor(index / groups.length);
    const start = argument(0);
    const end = argument(1);
    const chunks = leafChunks(end - start, groups.length);
    const first = start + Math.floor(((end - start) * chunk) / chunks);
    const last = start + Math.floor(((end - start) * (chunk + 1)) / chunks);
    const target =
      (chunk === 0 ? histogramAt(layout, argument(2)) : layout.chunkHistograms + (chunk - 1) * layout.histogramBytes) + group.first * HISTOGRAM_STRIDE_BYTES;
    const derivatives = layout.derivatives + argument(3) * rows * 8;
    kernels.clear(target, group.width * HISTOGRAM_STRIDE_BYTES);
    if (argument(4) === 1) kernels.histogramOfRange[group.width - 1]?.(group.bins, first, last, derivatives, target);
    else kernels.histogram[group.width - 1]?.(group.bins, layout.order + first * 4, layout.order + last * 4, derivatives, target);
  };

  const groupSelected = (first: number, width: number): boolean => {
    for (let j = 0; j < width; j += 1) if (selected[first + j] === 1) return true;
    return false;
  };

  /** Task: group. Arguments: rows of the leaf that was built, its slot, slot of the parent that becomes its sibling's, or -1. */
  const combine = (index: number): void => {
    const group = groups[index];
    if (group === undefined || !groupSelected(group.first, group.width)) return;
    const offset = group.first * HISTOGRAM_STRIDE_BYTES;
    const sizeBytes = group.width * HISTOGRAM_STRIDE_BYTES;
    const built = histogramAt(layout, argument(1)) + offset;
    const chunks = leafChunks(argument(0), groups.length);
    for (let chunk = 1; chunk < chunks; chunk += 1)
      kernels.addHistogram(built, built + sizeBytes, layout.chunkHistograms + (chunk - 1) * layout.histogramBytes + offset);
    if (argument(2) >= 0) {
      const parent = histogramAt(layout, argument(2)) + offset;
      kernels.subtractHistogram(parent, parent + sizeBytes, built);
    }
  };

  /** Task: group. Arguments, for each of two leaves: slot (or -1), gradient, Hessian, rows; then least and greatest output of each. The best split of each feature. */
  const scan = (index: number): void => {
    const group = groups[index];
    if (group === undefined) return;
    for (let side = 0; side < 2; side += 1) {
      const slot = argument(4 * side);
      if (slot < 0) continue;
      for (let j = 0; j < group.width; j += 1) {
        const feature = group.first + j;
        const target = layout.candidates / 8 + (side * features.length + feature) * CANDIDATE_FIELDS;
        doubles[target] = Number.NEGATIVE_INFINITY;
        if (selected[feature] !== 1) continue;
        const [gradient, hessian, count] = [argument(4 * side + 1), argument(4 * side + 2), argument(4 * side + 3)];
        if (layout.categorical[feature] === true)
          scanCategories(feature, slot, gradient, hessian, count, target, argument(8 + 2 * side), argument(9 + 2 * side));
        else if (limits.directions.length > 0) scanBound(feature, slot, gradient, hessian, count, target, argument(8 + 2 * side), argument(9 + 2 * side));
        else scanFeature(feature, slot, gradient, hessian, count, target);
      }
    }
  };

  const scanFeature = (feature: number, slot: number, gradient: number, hessian: number, count: number, target: number): void => {
    const { minDataInLeaf, l2 } = limits;
    // Below this a sum of Hessians is rounding of the subtraction.
    const minHessian = Math.max(limits.minSumHessian, 1e-15);
    if (!(hessian >= 2 * minHessian)) return;
    const base = (histogramAt(layout, slot) + feature * HISTOGRAM_STRIDE_BYTES) / 8;
    const bins = binCounts[feature] as number;
    const missing = hasMissing[feature] === 1;
    const rowsPerHessian = count / hessian;
    const parentScore = (gradient * gradient) / (hessian + l2);
    // A gain that is rounding of the parent's own score is none.
    let bestScore = parentScore + limits.minGain + parentScore * 1e-12;
    let bestBin = -1;
    let bestMissingLeft = 0;
    let bestGradient = 0;
    let bestHessian = 0;
    for (let missingLeft = 0; missingLeft < (missing ? 2 : 1); missingLeft += 1) {
      let leftGradient = 0;
      let leftHessian = 0;
      if (missingLeft === 1) {
        leftGradient = doubles[base + 2 * bins] as number;
        leftHessian = doubles[base + 2 * bins + 1] as number;
      }
      // With missing values on the right, all others on the left is a split too.
      const last = missing && missingLeft === 0 ? bins : bins - 1;
      for (let b = 0; b < last; b += 1) {
        leftGradient += doubles[base + 2 * b] as number;
        leftHessian += doubles[base + 2 * b + 1] as number;
        const leftRows = leftHessian * rowsPerHessian + 0.5;
        if (leftRows < minDataInLeaf || leftHessian < minHessian) continue;
        const rightHessian = hessian - leftHessian;
        if (count - leftRows + 1 < minDataInLeaf || rightHessian < minHessian) break;
        const rightGradient = gradient - leftGradient;
        const score = (leftGradient * leftGradient) / (leftHessian + l2) + (rightGradient * rightGradient) / (rightHessian + l2);
        if (score > bestScore) {
          bestScore = score;
          bestBin = b;
          // Where no missing value was seen, one goes with the larger side.
          bestMissingLeft = missing ? missingLeft : leftRows * 2 > count ? 1 : 0;
          bestGradient = leftGradient;
          bestHessian = leftHessian;
        }
      }
    }
    if (bestBin < 0) return;
    doubles[target] = bestScore - parentScore;
    doubles[target + 1] = bestBin;
    doubles[target + 2] = bestMissingLeft;
    doubles[target + 3] = bestGradient;
    doubles[target + 4] = bestHessian;
    doubles[target + 5] = 0;
  };

  /** Twice what a leaf with these sums lowers the loss by when its output must lie between two bounds. */
  const boundScore = (gradient: number, hessian: number, least: number, most: number): number => {
    const output = Math.min(most, Math.max(least, -gradient / hessian));
    return -(2 * gradient * output + hessian * output * output);
  };

  /** As `scanFeature`, with outputs between two bounds, and ordered where the feature has a direction. */
  const scanBound = (feature: number, slot: number, gradient: number, hessian: number, count: number, target: number, least: number, most: number): void => {
    const { minDataInLeaf, l2 } = limits;
    const minHessian = Math.max(limits.minSumHessian, 1e-15);
    if (!(hessian >= 2 * minHessian)) return;
    const base = (histogramAt(layout, slot) + feature * HISTOGRAM_STRIDE_BYTES) / 8;
    const bins = binCounts[feature] as number;
    const missing = hasMissing[feature] === 1;
    const direction = limits.directions[feature] ?? 0;
    const rowsPerHessian = count / hessian;
    const parentScore = boundScore(gradient, hessian + l2, least, most);
    let bestScore = parentScore + limits.minGain + Math.abs(parentScore) * 1e-12;
    let found = false;
    for (let missingLeft = 0; missingLeft < (missing ? 2 : 1); missingLeft += 1) {
      let leftGradient = missingLeft === 1 ? (doubles[base + 2 * bins] as number) : 0;
      let leftHessian = missingLeft === 1 ? (doubles[base + 2 * bins + 1] as number) : 0;
      const last = missing && missingLeft === 0 ? bins : bins - 1;
      for (let b = 0; b < last; b += 1) {
        leftGradient += doubles[base + 2 * b] as number;
        leftHessian += doubles[base + 2 * b + 1] as number;
        const leftRows = leftHessian * rowsPerHessian + 0.5;
        const rightHessian = hessian - leftHessian;
        if (leftRows < minDataInLeaf || leftHessian < minHessian) continue;
        if (count - leftRows + 1 < minDataInLeaf || rightHessian < minHessian) break;
        const rightGradient = gradient - leftGradient;
        if (direction !== 0) {
          const left = Math.min(most, Math.max(least, -leftGradient / (leftHessian + l2)));
          const right = Math.min(most, Math.max(least, -rightGradient / (rightHessian + l2)));
          if (direction * (right - left) < 0) continue;
        }
        const score = boundScore(leftGradient, leftHessian + l2, least, most) + boundScore(rightGradient, rightHessian + l2, least, most);
        if (score <= bestScore) continue;
        bestScore = score;
        found = true;
        doubles[target + 1] = b;
        doubles[target + 2] = missing ? missingLeft : leftRows * 2 > count ? 1 : 0;
        doubles[target + 3] = leftGradient;
        doubles[target + 4] = leftHessian;
      }
    }
    doubles[target] = found ? bestScore - parentScore : Number.NEGATIVE_INFINITY;
    doubles[target + 5] = 0;
  };

  const categoryOrder = new Int32Array(256);
  const categoryRatio = new Float64Array(256);

  /**
   * The best set of categories to go left (Fisher 1958: for a convex loss it is a prefix of the order by Σ gradient ÷
   * Σ Hessian; smoothed, from both ends, as LightGBM does). A missing value is one more category; one that no row of the
   * leaf has goes right.
   */
  const scanCategories = (
    feature: number,
    slot: number,
    gradient: number,
    hessian: number,
    count: number,
    target: number,
    least: number,
    most: number,
  ): void => {
    const { minDataInLeaf, categorySmoothing, minDataPerGroup, maxSplitCategories, oneHotUpTo } = limits;
    const minHessian = Math.max(limits.minSumHessian, 1e-15);
    if (!(hessian >= 2 * minHessian)) return;
    const base = (histogramAt(layout, slot) + feature * HISTOGRAM_STRIDE_BYTES) / 8;
    const bins = (binCounts[feature] as number) + 1;
    const rowsPerHessian = count / hessian;
    const single = bins - 1 <= oneHotUpTo;
    const extraL2 = single ? 0 : limits.categoryL2;
    const l2 = limits.l2 + extraL2;
    const parentScore = boundScore(gradient, hessian + limits.l2, least, most);
    let bestScore = parentScore + limits.minGain + Math.abs(parentScore) * 1e-12;
    let [bestSize, bestFrom] = [0, 0];
    let used = 0;
    for (let b = 0; b < bins; b += 1) {
      const h = doubles[base + 2 * b + 1] as number;
      if (h * rowsPerHessian + 0.5 < (single ? 1 : Math.max(1, categorySmoothing))) continue;
      categoryRatio[b] = (doubles[base + 2 * b] as number) / (h + categorySmoothing);
      categoryOrder[used] = b;
      used += 1;
    }
    const consider = (leftGradient: number, leftHessian: number, size: number, from: number): void => {
      const rightHessian = hessian - leftHessian;
      const score = boundScore(leftGradient, leftHessian + l2, least, most) + boundScore(gradient - leftGradient, rightHessian + l2, least, most);
      if (score <= bestScore) return;
      bestScore = score;
      [bestSize, bestFrom] = [size, from];
      doubles[target + 3] = leftGradient;
      doubles[target + 4] = leftHessian;
    };
    const fits = (rows: number, h: number): boolean => rows >= minDataInLeaf && h >= minHessian;
    if (single) {
      for (let i = 0; i < used; i += 1) {
        const b = categoryOrder[i] as number;
        const h = doubles[base + 2 * b + 1] as number;
        const leftRows = h * rowsPerHessian + 0.5;
        if (fits(leftRows, h) && fits(count - leftRows + 1, hessian - h)) consider(doubles[base + 2 * b] as number, h, 1, i);
      }
    } else {
      // Sorted by insertion: of equal ratios the lower bin stays first.
      for (let i = 1; i < used; i += 1) {
        const b = categoryOrder[i] as number;
        let j = i - 1;
        while (j >= 0 && (categoryRatio[categoryOrder[j] as number] as number) > (categoryRatio[b] as number)) {
          categoryOrder[j + 1] = categoryOrder[j] as number;
          j -= 1;
        }
        categoryOrder[j + 1] = b;
      }
      const mostCategories = Math.min(maxSplitCategories, (used + 1) >> 1);
      for (let end = 0; end < 2; end += 1) {
        let [leftGradient, leftHessian, sinceLast] = [0, 0, 0];
        for (let i = 0; i < used && i < mostCategories; i += 1) {
          const b = categoryOrder[end === 0 ? i : used - 1 - i] as number;
          const h = doubles[base + 2 * b + 1] as number;
          leftGradient += doubles[base + 2 * b] as number;
          leftHessian += h;
          sinceLast += h * rowsPerHessian + 0.5;
          const leftRows = leftHessian * rowsPerHessian + 0.5;
          const rightRows = count - leftRows + 1;
          if (!fits(leftRows, leftHessian)) continue;
          if (!fits(rightRows, hessian - leftHessian) || rightRows < minDataPerGroup) break;
          if (sinceLast < minDataPerGroup) continue;
          sinceLast = 0;
          consider(leftGradient, leftHessian, i + 1, end === 0 ? 0 : used - 1 - i);
        }
      }
    }
    if (bestSize === 0) {
      doubles[target] = Number.NEGATIVE_INFINITY;
      return;
    }
    doubles[target] = bestScore - parentScore;
    doubles[target + 1] = 0;
    doubles[target + 2] = 0;
    doubles[target + 5] = extraL2;
    for (let word = 0; word < BIN_WORDS; word += 1) doubles[target + 6 + word] = 0;
    for (let i = bestFrom; i < bestFrom + bestSize; i += 1) {
      const b = categoryOrder[i] as number;
      if (b === bins - 1) doubles[target + 2] = 1;
      const word = target + 6 + (b >> 5);
      doubles[word] = ((doubles[word] as number) | (1 << (b & 31))) >>> 0;
    }
  };

  /** Task: chunk. Arguments: first and last position, feature, chunks, 1 when positions are the rows themselves. One chunk stays in `order`, right rows aside. */
  const partition = (index: number): void => {
    const start = argument(0);
    const size = argument(1) - start;
    const feature = argument(2);
    const chunks = argument(3);
    const first = start + Math.floor((size * index) / chunks);
    const last = start + Math.floor((size * (index + 1)) / chunks);
    const group = groupOf(feature);
    if (group === undefined) return;
    const left = (chunks === 1 ? layout.order : layout.orderLeft) + first * 4;
    const right = layout.orderRight + first * 4;
    const column = group.bins + feature - group.first;
    const leftEnd =
      argument(4) === 1
        ? kernels.partitionRange(column, group.width, first, last, layout.goesLeft, left, right)
        : kernels.partition(column, group.width, layout.order + first * 4, layout.order + last * 4, layout.goesLeft, left, right);
    chunkCounts[index] = ((leftEnd >>> 0) - left) / 4;
  };

  /** Task: chunk, after all are partitioned. Brings its two sides to their places. */
  const gather = (index: number): void => {
    const start = argument(0);
    const size = argument(1) - start;
    const chunks = argument(3);
    let leftBefore = 0;
    let leftTotal = 0;
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      if (chunk < index) leftBefore += chunkCounts[chunk] as number;
      leftTotal += chunkCounts[chunk] as number;
    }
    const first = start + Math.floor((size * index) / chunks);
    const count = Math.floor((size * (index + 1)) / chunks) - Math.floor((size * index) / chunks);
    const left = chunkCounts[index] as number;
    if (chunks > 1) kernels.copy(layout.order + (start + leftBefore) * 4, layout.orderLeft + first * 4, left * 4);
    kernels.copy(layout.order + (start + leftTotal + first - start - leftBefore) * 4, layout.orderRight + first * 4, (count - left) * 4);
  };

  const groupOfFeature = groups.flatMap((group) => Array.from({ length: group.width }, () => group));
  const groupOf = (feature: number): (typeof groups)[number] | undefined => groupOfFeature[feature];

  /** Task: block of positions in `order`. Arguments: positions in all, output, leaves. Adds the leaves' values to the scores. */
  const score = (index: number): void => {
    const first = index * ROW_BLOCK;
    const last = Math.min(argument(0), first + ROW_BLOCK);
    const scores = layout.scores + argument(1) * allRows * 8;
    const leaves = argument(2);
    for (let leaf = 0; leaf < leaves; leaf += 1) {
      const from = Math.max(first, ints[layout.segmentStarts / 4 + leaf] as number);
      const to = Math.min(last, ints[layout.segmentStarts / 4 + leaf + 1] as number);
      if (from < to) kernels.addToScores(layout.order + from * 4, layout.order + to * 4, scores, doubles[layout.segmentValues / 8 + leaf] as number);
    }
  };

  /** Task: block of rows, of the training rows that `order` has from a position on, then of validation rows. Arguments: that position, output, 1 when all training rows are meant. */
  const traverse = (index: number): void => {
    const from = argument(0);
    const everyRow = argument(2) === 1;
    const trainBlocks = Math.ceil((rows - from) / ROW_BLOCK);
    const training = index < trainBlocks;
    const first = training ? from + index * ROW_BLOCK : rows + (index - trainBlocks) * ROW_BLOCK;
    const last = Math.min(training ? rows : allRows, first + ROW_BLOCK);
    const scores = layout.scores / 8 + argument(1) * allRows;
    const nodes = layout.treeNodes / 4;
    for (let position = first; position < last; position += 1) {
      const row = training && !everyRow ? (ints[layout.order / 4 + position] as number) : position;
      let node = 0;
      do {
        const at = nodes + node * TREE_NODE_FIELDS;
        const value = bytes[((ints[at] as number) >>> 0) + row * (ints[at + 1] as number)] as number;
        const left =
          (ints[at + 7] as number) === 1
            ? (((ints[at + 8 + (value >> 5)] as number) >>> (value & 31)) & 1) === 1
            : value === (ints[at + 3] as number)
              ? (ints[at + 4] as number) === 1
              : value <= (ints[at + 2] as number);
        node = ints[at + (left ? 5 : 6)] as number;
      } while (node >= 0);
      doubles[scores + row] = (doubles[scores + row] as number) + (doubles[layout.leafValues / 8 + ~node] as number);
    }
  };

  const byKind: readonly ((index: number, thread: number) => void)[] = [bin, derive, histogram, combine, scan, partition, gather, score, traverse];
  return {
    run: (kind, index, thread) => {
      byKind[kind]?.(index, thread);
    },
  };
}
