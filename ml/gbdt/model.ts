import type { DenseMatrix, Matrix } from '../matrix.ts';
import { MillraceError } from '../../contracts/errors.ts';

/** One grown tree. Splits are numbered from the root, 0; a child below 0 is the leaf ~child. A tree without splits has one leaf. */
export interface Tree {
  /** Which output the tree adds to: the class of a multiclass model, else 0. */
  readonly output: number;
  /** Matrix column of each split. */
  readonly feature: Int32Array;
  /** A row goes left when its float32 value is ≤ this. */
  readonly threshold: Float32Array;
  /** 1 where a missing value goes left. */
  readonly missingLeft: Uint8Array;
  /** 1 where the column holds categories, codes from 0: those in `members` go left, whatever the threshold. */
  readonly byCategory: Uint8Array;
  /** MEMBER_WORDS for each split, a bit for each code. */
  readonly members: Uint32Array;
  readonly left: Int32Array;
  readonly right: Int32Array;
  /** How much each split lowers the loss, by its second-order estimate. */
  readonly gain: Float64Array;
  /** float32, the learning rate already in it. */
  readonly leafValue: Float32Array;
}

export interface GbdtModel {
  readonly kind: 'binary' | 'multiclass' | 'regression';
  readonly columns: number;
  /** Scores a row: 1, or the classes of a multiclass model. */
  readonly outputs: number;
  /** Score of each output before the first tree. */
  readonly baseScores: Float32Array;
  readonly trees: readonly Tree[];
}

/** A split by categories tells so many times 32 codes apart. */
export const MEMBER_WORDS = 8;

/** Whether a split by categories takes the value to the left: a code that is in its set. A missing value has no code. */
export function isMember({ members, missingLeft }: Tree, node: number, value: number): boolean {
  if (Number.isNaN(value)) return missingLeft[node] === 1;
  return value >= 0 && value < 32 * MEMBER_WORDS && (((members[node * MEMBER_WORDS + (value >> 5)] as number) >>> (value & 31)) & 1) === 1;
}

/** The dense form of a matrix of at most `mostCells` cells. @throws MillraceError FEATURES_INVALID when it would be larger. */
export function toDense(x: Matrix, mostCells: number): DenseMatrix {
  if (x.kind === 'dense') return x;
  if (x.rows * x.columns > mostCells) {
    throw new MillraceError('FEATURES_INVALID', `gbdt needs dense features; ${x.rows} rows of ${x.columns} sparse columns are too many to spread out.`, {
      problems: [
        {
          path: 'features',
          message: 'sparse features are too wide for gbdt',
          found: `${x.rows} × ${x.columns}`,
          fix: 'use the trainer linear, or fewer columns',
        },
      ],
      fix: 'Use the trainer `linear` for sparse text features, or keep fewer columns.',
    });
  }
  const data = new Float32Array(x.rows * x.columns);
  for (let row = 0; row < x.rows; row += 1) {
    const end = x.rowStart[row + 1] ?? 0;
    for (let entry = x.rowStart[row] ?? 0; entry < end; entry += 1) data[(x.columnIndex[entry] ?? 0) * x.rows + row] = x.values[entry] ?? 0;
  }
  return { kind: 'dense', rows: x.rows, columns: x.columns, data };
}

/** Rows that go through all trees together: their values stay in the first cache. */
const PREDICT_ROWS = 256;

/** Scores of all rows, [outputs × rows]: base score plus every tree in turn. */
export function scoreRows(model: GbdtModel, x: DenseMatrix): Float64Array {
  const { columns, outputs } = model;
  if (x.columns !== columns) throw new MillraceError('FEATURES_INVALID', `The model was trained on ${columns} columns; the rows have ${x.columns}.`);
  const scores = new Float64Array(outputs * x.rows);
  for (let k = 0; k < outputs; k += 1) scores.fill(model.baseScores[k] ?? 0, k * x.rows, (k + 1) * x.rows);
  const block = new Float32Array(PREDICT_ROWS * columns);
  for (let first = 0; first < x.rows; first += PREDICT_ROWS) {
    const count = Math.min(PREDICT_ROWS, x.rows - first);
    for (let c = 0; c < columns; c += 1) {
      const from = c * x.rows + first;
      for (let i = 0; i < count; i += 1) block[i * columns + c] = x.data[from + i] as number;
    }
    for (const tree of model.trees) addTree(tree, block, columns, count, scores, tree.output * x.rows + first);
  }
  return scores;
}

function addTree(tree: Tree, block: Float32Array, columns: number, count: number, scores: Float64Array, start: number): void {
  const { feature, threshold, missingLeft, byCategory, left, right, leafValue } = tree;
  if (feature.length === 0) {
    for (let i = 0; i < count; i += 1) scores[start + i] = (scores[start + i] as number) + (leafValue[0] as number);
    return;
  }
  for (let i = 0; i < count; i += 1) {
    const row = i * columns;
    let node = 0;
    do {
      const value = block[row + (feature[node] as number)] as number;
      const goesLeft =
        byCategory[node] === 1 ? isMember(tree, node, value) : value <= (threshold[node] as number) || (value !== value && missingLeft[node] === 1);
      node = goesLeft ? (left[node] as number) : (right[node] as number);
    } while (node >= 0);
    scores[start + i] = (scores[start + i] as number) + (leafValue[~node] as number);
  }
}

/** Row-major probabilities [N × K] (K = 2 for binary) or values [N × 1] of the scores of `scoreRows`. */
export function toPredictions(model: GbdtModel, scores: Float64Array, rows: number): Float64Array {
  if (model.kind === 'regression') return scores;
  if (model.kind === 'binary') {
    const predictions = new Float64Array(rows * 2);
    for (let row = 0; row < rows; row += 1) {
      const p = 1 / (1 + Math.exp(-(scores[row] as number)));
      predictions[2 * row] = 1 - p;
      predictions[2 * row + 1] = p;
    }
    return predictions;
  }
  const { outputs } = model;
  const predictions = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row += 1) {
    let most = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < outputs; k += 1) most = Math.max(most, scores[k * rows + row] as number);
    let sum = 0;
    for (let k = 0; k < outputs; k += 1) {
      const value = Math.exp((scores[k * rows + row] as number) - most);
      predictions[row * outputs + k] = value;
      sum += value;
    }
    for (let k = 0; k < outputs; k += 1) predictions[row * outputs + k] = (predictions[row * outputs + k] as number) / sum;
  }
  return predictions;
}

/** Share of each matrix column in the gain of all splits; sums to 1. Empty when nothing was split. */
export function gainImportance(model: GbdtModel): Float64Array {
  const importance = new Float64Array(model.columns);
  let total = 0;
  for (const tree of model.trees) {
    tree.feature.forEach((feature, node) => {
      const gain = tree.gain[node] ?? 0;
      importance[feature] = (importance[feature] ?? 0) + gain;
      total += gain;
    });
  }
  return total > 0 ? importance.map((gain) => gain / total) : new Float64Array(0);
}

const TREE_FIELDS = ['feature', 'threshold', 'missingLeft', 'byCategory', 'members', 'left', 'right', 'gain', 'leafValue'] as const;

/** Bytes of trees: a header of JSON, then each array as it lies in memory (little-endian). The same trees give the same bytes. */
export function encodeTrees(header: object, trees: readonly Tree[]): Uint8Array {
  const arrays = trees.flatMap((tree) => TREE_FIELDS.map((field) => tree[field]));
  const json = new TextEncoder().encode(JSON.stringify({ header, trees: trees.map((tree) => [tree.output, tree.feature.length]) }));
  const bytes = new Uint8Array(4 + json.length + arrays.reduce((sum, array) => sum + array.byteLength, 0));
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  let offset = 4 + json.length;
  for (const array of arrays) {
    bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), offset);
    offset += array.byteLength;
  }
  return bytes;
}

/** What `encodeTrees` wrote, or undefined when the bytes are something else or end too early. */
export function decodeTrees(bytes: Uint8Array): { readonly header: unknown; readonly trees: readonly Tree[] } | undefined {
  try {
    const jsonLength = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
    const parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(4, 4 + jsonLength))) as {
      header: unknown;
      trees: readonly (readonly [number, number])[];
    };
    let offset = 4 + jsonLength;
    const take = (sizeBytes: number): ArrayBuffer => {
      if (offset + sizeBytes > bytes.byteLength) throw new RangeError('The state ends too early.');
      offset += sizeBytes;
      return bytes.slice(offset - sizeBytes, offset).buffer;
    };
    const trees = parsed.trees.map(([output, splits]) => ({
      output,
      feature: new Int32Array(take(splits * 4)),
      threshold: new Float32Array(take(splits * 4)),
      missingLeft: new Uint8Array(take(splits)),
      byCategory: new Uint8Array(take(splits)),
      members: new Uint32Array(take(splits * MEMBER_WORDS * 4)),
      left: new Int32Array(take(splits * 4)),
      right: new Int32Array(take(splits * 4)),
      gain: new Float64Array(take(splits * 8)),
      leafValue: new Float32Array(take((splits + 1) * 4)),
    }));
    return offset === bytes.byteLength ? { header: parsed.header, trees } : undefined;
  } catch {
    return undefined;
  }
}
