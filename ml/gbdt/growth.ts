/**
 * Grows one tree, best leaf first (Shi, "Best-first decision tree learning", 2007; as LightGBM does).
 *
 * Invariants:
 * 1. The rows of a leaf lie together in `order`, ascending; splitting a leaf reorders its own rows only.
 * 2. Of two new leaves the smaller one's histogram is added up, the other one's is its parent's less that.
 * 3. Of equal gains the first leaf, then the first feature, then the lowest bin wins.
 */
import type { Crew } from './crew.ts';
import { HISTOGRAM_STRIDE_BYTES } from './kernels.ts';
import { BIN_WORDS, CANDIDATE_FIELDS, leafChunks, MAX_LEAF_CHUNKS, LEAF_CHUNK_ROWS, ROW_BLOCK, TREE_NODE_FIELDS, type Layout } from './layout.ts';
import { MEMBER_WORDS, type Tree } from './model.ts';
import type { GbdtParameters } from './parameters.ts';
import { histogramAt, type SplitLimits, TASK } from './tasks.ts';
import type { SharedMemory } from './wasm-runtime.ts';

/** Up to so many features the calling thread adds and searches histograms faster than it could wake another. */
const FEATURES_ALONE = 32;

/** Up to so many bins to be added the calling thread does it faster alone. */
const UPDATES_ALONE = 16_384;

interface Candidate {
  readonly feature: number;
  readonly bin: number;
  readonly missingLeft: boolean;
  readonly gain: number;
  readonly leftGradient: number;
  readonly leftHessian: number;
  /** Beside the trainer's own, of the leaves on both sides. */
  readonly extraL2: number;
  /** A bit for each bin that goes left, where bins are categories. */
  readonly members: Uint32Array | undefined;
}

interface Leaf {
  readonly start: number;
  readonly end: number;
  readonly slot: number;
  readonly gradient: number;
  readonly hessian: number;
  /** Beside the trainer's own. */
  readonly extraL2: number;
  /** What its output must lie between. */
  readonly least: number;
  readonly most: number;
  readonly depth: number;
  /** The split that it hangs on, and on which side. */
  readonly parent: number;
  readonly isLeft: boolean;
  readonly best: Candidate | undefined;
}

export interface Grower {
  /**
   * Grows a tree on the derivatives of `output`, leaves it in the memory for `addScores`, and gives it; undefined when
   * no split lowers the loss. `bagged` rows at the front of `order` take part; undefined: all rows, in their own order.
   */
  readonly grow: (output: number, bagged: number | undefined) => Tree | undefined;
  /** Adds the tree that was grown last to the scores of all training and validation rows. */
  readonly addScores: (output: number, bagged: number | undefined) => void;
  /** Adds any tree to the scores, as `addScores` would have done after growing it. */
  readonly replay: (tree: Tree) => void;
}

export function createGrower(
  memory: SharedMemory,
  layout: Layout,
  crew: Crew,
  parameters: GbdtParameters,
  limits: SplitLimits,
  bounds: readonly Float32Array[],
  helpers: number,
): Grower {
  const { rows, validationRows, features, groups, binCounts } = layout;
  const ints = new Int32Array(memory.buffer);
  const doubles = new Float64Array(memory.buffer);
  const goesLeft = new Uint8Array(memory.buffer, layout.goesLeft, 256);
  const selected = new Uint8Array(memory.buffer, layout.selected, features.length);
  const chunkCounts = new Int32Array(memory.buffer, layout.chunkCounts, MAX_LEAF_CHUNKS);
  const groupOfFeature = groups.flatMap((group) => Array.from({ length: group.width }, () => group));
  const featureOfColumn = new Map(features.map((column, feature) => [column, feature]));
  const { directions } = limits;
  const few = features.length <= FEATURES_ALONE;
  let segmentCount = 0;

  const buildHistogram = (start: number, end: number, slot: number, parentSlot: number, output: number, range: boolean): void => {
    const chunks = leafChunks(end - start, groups.length);
    crew.run(TASK.histogram, groups.length * chunks, [start, end, slot, output, range ? 1 : 0], (end - start) * features.length <= UPDATES_ALONE);
    crew.run(TASK.combine, groups.length, [end - start, slot, parentSlot], few);
  };

  const mayBeSplit = (count: number, hessian: number, depth: number): boolean =>
    count >= 2 * parameters.minDataInLeaf && hessian >= 2 * parameters.minSumHessian && (parameters.maxDepth === 0 || depth < parameters.maxDepth);

  const bestOf = (side: number): Candidate | undefined => {
    let best: Candidate | undefined;
    for (let feature = 0; feature < features.length; feature += 1) {
      const at = layout.candidates / 8 + (side * features.length + feature) * CANDIDATE_FIELDS;
      const gain = doubles[at] as number;
      if (gain > (best?.gain ?? 0)) {
        best = {
          feature,
          gain,
          bin: doubles[at + 1] as number,
          missingLeft: doubles[at + 2] === 1,
          leftGradient: doubles[at + 3] as number,
          leftHessian: doubles[at + 4] as number,
          extraL2: doubles[at + 5] as number,
          members: layout.categorical[feature] === true ? Uint32Array.from({ length: BIN_WORDS }, (_, word) => doubles[at + 6 + word] as number) : undefined,
        };
      }
    }
    return best;
  };

  /** Sums of the root, from the bins of the first feature that was added up. */
  const rootSums = (): { gradient: number; hessian: number } => {
    const feature = selected.indexOf(1);
    const at = (histogramAt(layout, 0) + feature * HISTOGRAM_STRIDE_BYTES) / 8;
    let gradient = 0;
    let hessian = 0;
    for (let b = 0; b <= (binCounts[feature] ?? 0); b += 1) {
      gradient += doubles[at + 2 * b] as number;
      hessian += doubles[at + 2 * b + 1] as number;
    }
    return { gradient, hessian };
  };

  const outputOf = ({ gradient, hessian, extraL2, least, most }: Pick<Leaf, 'gradient' | 'hessian' | 'extraL2' | 'least' | 'most'>): number =>
    Math.min(most, Math.max(least, -gradient / (hessian + parameters.l2 + extraL2)));

  /** Where the feature has a direction, what lies below one side lies below the other: both stop half-way (as LightGBM's `basic` method). */
  const childBounds = (leaf: Leaf, split: Candidate, direction: number) => {
    const { least, most } = leaf;
    const both = { left: { least, most }, right: { least, most } };
    if (direction === 0) return both;
    const left = outputOf({ gradient: split.leftGradient, hessian: split.leftHessian, extraL2: split.extraL2, least, most });
    const right = outputOf({ gradient: leaf.gradient - split.leftGradient, hessian: leaf.hessian - split.leftHessian, extraL2: split.extraL2, least, most });
    const middle = (left + right) / 2;
    return direction > 0
      ? { left: { least, most: middle }, right: { least: middle, most } }
      : { left: { least: middle, most }, right: { least, most: middle } };
  };

  /** Brings the rows of a leaf that go left before the others; gives where the others start. */
  const partition = (leaf: Leaf, split: Candidate, range: boolean): number => {
    const { members } = split;
    for (let b = 0; b < 256; b += 1) {
      if (members !== undefined) goesLeft[b] = hasBin(members, b) ? 1 : 0;
      else goesLeft[b] = b === binCounts[split.feature] ? (split.missingLeft ? 1 : 0) : b <= split.bin ? 1 : 0;
    }
    const size = leaf.end - leaf.start;
    const chunks = helpers === 0 ? 1 : Math.max(1, Math.min(MAX_LEAF_CHUNKS, Math.floor(size / LEAF_CHUNK_ROWS)));
    const given = [leaf.start, leaf.end, split.feature, chunks, range ? 1 : 0];
    crew.run(TASK.partition, chunks, given);
    crew.run(TASK.gather, chunks, given);
    let left = 0;
    for (let chunk = 0; chunk < chunks; chunk += 1) left += chunkCounts[chunk] ?? 0;
    return leaf.start + left;
  };

  const writeNode = (node: number, feature: number, bin: number, missingLeft: boolean, members: Uint32Array | undefined): void => {
    const group = groupOfFeature[feature];
    if (group === undefined) return;
    const at = layout.treeNodes / 4 + node * TREE_NODE_FIELDS;
    ints.set([group.bins + feature - group.first, group.width, bin, binCounts[feature] ?? 0, missingLeft ? 1 : 0], at);
    ints[at + 7] = members === undefined ? 0 : 1;
    if (members !== undefined) ints.set(members, at + 8);
  };

  const grow = (output: number, bagged: number | undefined): Tree | undefined => {
    const count = bagged ?? rows;
    const everyRow = bagged === undefined;
    segmentCount = 0;
    if (features.length === 0 || count < 2) return undefined;
    buildHistogram(0, count, 0, -1, output, everyRow);
    const sums = rootSums();
    if (!mayBeSplit(count, sums.hessian, 0)) return undefined;
    const unbound = { least: Number.NEGATIVE_INFINITY, most: Number.POSITIVE_INFINITY };
    crew.run(TASK.scan, groups.length, [0, sums.gradient, sums.hessian, count, -1, 0, 0, 0, unbound.least, unbound.most, unbound.least, unbound.most], few);
    const leaves: Leaf[] = [{ start: 0, end: count, slot: 0, ...sums, extraL2: 0, ...unbound, depth: 0, parent: -1, isLeft: true, best: bestOf(0) }];
    const nodes: { readonly candidate: Candidate; left: number; right: number }[] = [];

    while (leaves.length < layout.leaves) {
      let index = -1;
      leaves.forEach((leaf, at) => {
        if (leaf.best !== undefined && leaf.best.gain > (leaves[index]?.best?.gain ?? 0)) index = at;
      });
      const leaf = leaves[index];
      const split = leaf?.best;
      if (leaf === undefined || split === undefined) break;
      const middle = partition(leaf, split, everyRow && nodes.length === 0);
      const node = nodes.length;
      nodes.push({ candidate: split, left: ~index, right: ~leaves.length });
      writeNode(node, split.feature, split.bin, split.missingLeft, split.members);
      const above = nodes[leaf.parent];
      if (above !== undefined) {
        if (leaf.isLeft) above.left = node;
        else above.right = node;
      }
      const depth = leaf.depth + 1;
      const leftSmaller = middle - leaf.start <= leaf.end - middle;
      const freshSlot = leaves.length;
      const bounds = childBounds(leaf, split, directions[split.feature] ?? 0);
      const left = {
        start: leaf.start,
        end: middle,
        slot: leftSmaller ? freshSlot : leaf.slot,
        gradient: split.leftGradient,
        hessian: split.leftHessian,
        extraL2: split.extraL2,
        ...bounds.left,
        depth,
        parent: node,
        isLeft: true,
      };
      const right = {
        start: middle,
        end: leaf.end,
        slot: leftSmaller ? leaf.slot : freshSlot,
        gradient: leaf.gradient - split.leftGradient,
        hessian: leaf.hessian - split.leftHessian,
        extraL2: split.extraL2,
        ...bounds.right,
        depth,
        parent: node,
        isLeft: false,
      };
      let bestLeft: Candidate | undefined;
      let bestRight: Candidate | undefined;
      if (leaves.length + 1 < layout.leaves) {
        const leftOpen = mayBeSplit(left.end - left.start, left.hessian, depth);
        const rightOpen = mayBeSplit(right.end - right.start, right.hessian, depth);
        if (leftOpen || rightOpen) {
          const smaller = leftSmaller ? left : right;
          buildHistogram(smaller.start, smaller.end, freshSlot, leaf.slot, output, false);
          const side = (child: typeof left, open: boolean): number[] => [open ? child.slot : -1, child.gradient, child.hessian, child.end - child.start];
          crew.run(TASK.scan, groups.length, [...side(left, leftOpen), ...side(right, rightOpen), left.least, left.most, right.least, right.most], few);
          bestLeft = leftOpen ? bestOf(0) : undefined;
          bestRight = rightOpen ? bestOf(1) : undefined;
        }
      }
      leaves[index] = { ...left, best: bestLeft };
      leaves.push({ ...right, best: bestRight });
    }
    if (nodes.length === 0) return undefined;

    const tree: Tree = {
      output,
      feature: Int32Array.from(nodes, (node) => features[node.candidate.feature] ?? 0),
      threshold: Float32Array.from(nodes, (node) => bounds[node.candidate.feature]?.[node.candidate.bin] ?? 0),
      missingLeft: Uint8Array.from(nodes, (node) => (node.candidate.missingLeft ? 1 : 0)),
      byCategory: Uint8Array.from(nodes, (node) => (node.candidate.members === undefined ? 0 : 1)),
      members: membersOf(
        nodes.map((node) => node.candidate),
        binCounts,
      ),
      left: Int32Array.from(nodes, (node) => node.left),
      right: Int32Array.from(nodes, (node) => node.right),
      gain: Float64Array.from(nodes, (node) => node.candidate.gain),
      leafValue: Float32Array.from(leaves, (leaf) => parameters.learningRate * outputOf(leaf)),
    };
    writeLinks(tree);
    const segments = leaves.map((leaf, index) => ({ start: leaf.start, value: tree.leafValue[index] ?? 0 })).sort((a, b) => a.start - b.start);
    segments.forEach((segment, index) => {
      ints[layout.segmentStarts / 4 + index] = segment.start;
      doubles[layout.segmentValues / 8 + index] = segment.value;
    });
    ints[layout.segmentStarts / 4 + segments.length] = count;
    segmentCount = segments.length;
    return tree;
  };

  const writeLinks = (tree: Tree): void => {
    tree.left.forEach((left, node) => {
      const at = layout.treeNodes / 4 + node * TREE_NODE_FIELDS;
      ints[at + 5] = left;
      ints[at + 6] = tree.right[node] ?? 0;
    });
    doubles.set(tree.leafValue, layout.leafValues / 8);
  };

  const validationBlocks = Math.ceil(validationRows / ROW_BLOCK);

  return {
    grow,
    addScores: (output, bagged) => {
      const count = bagged ?? rows;
      crew.run(TASK.score, Math.ceil(count / ROW_BLOCK), [count, output, segmentCount]);
      const blocks = Math.ceil((rows - count) / ROW_BLOCK) + validationBlocks;
      if (blocks > 0) crew.run(TASK.traverse, blocks, [count, output, 0]);
    },
    replay: (tree) => {
      tree.feature.forEach((column, node) => {
        const feature = featureOfColumn.get(column) ?? 0;
        const bin = bounds[feature]?.indexOf(tree.threshold[node] ?? 0) ?? 0;
        const missingLeft = tree.missingLeft[node] === 1;
        const members = tree.byCategory[node] === 1 ? tree.members.slice(node * MEMBER_WORDS, (node + 1) * MEMBER_WORDS) : undefined;
        const missingBin = binCounts[feature] ?? 0;
        // among bins a missing value is one more category
        if (members !== undefined && missingLeft) members[missingBin >> 5] = ((members[missingBin >> 5] ?? 0) | (1 << (missingBin & 31))) >>> 0;
        writeNode(node, feature, bin, missingLeft, members);
      });
      writeLinks(tree);
      crew.run(TASK.traverse, Math.ceil(rows / ROW_BLOCK) + validationBlocks, [0, tree.output, 1]);
    },
  };
}

const hasBin = (words: Uint32Array, bin: number): boolean => (((words[bin >> 5] ?? 0) >>> (bin & 31)) & 1) === 1;

/** The sets of all splits; the bin of missing values, which is no code, is left out. */
function membersOf(splits: readonly Candidate[], binCounts: readonly number[]): Uint32Array {
  const all = new Uint32Array(splits.length * MEMBER_WORDS);
  splits.forEach(({ members, feature }, node) => {
    if (members === undefined) return;
    const missingBin = binCounts[feature] ?? 0;
    members.forEach((word, at) => {
      all[node * MEMBER_WORDS + at] = at === missingBin >> 5 ? word & ~(1 << (missingBin & 31)) : word;
    });
  });
  return all;
}
