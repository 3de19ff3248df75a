/**
 * Ranking objectives: derivatives by the scores of rows that compete within their groups.
 *
 * Invariants:
 * 1. Which groups a task has depends on its rows alone: those whose first position lies in its block. Each group is in one task.
 * 2. Sums run over a group's rows in the order of their scores; of equal scores, in the order of the rows.
 */
import type { Layout } from './layout.ts';
import type { SharedMemory } from './wasm-runtime.ts';

/** What is minimised over pairs of rows of one group: all alike, or by how much swapping the two would change NDCG. */
export type RankingObjective = 'pairwise' | 'lambdarank';

/** How the rows of a ranking are grouped; part of the layout. */
export interface RankingLayout {
  readonly objective: RankingObjective;
  /** NDCG at this rank is what `lambdarank` improves. */
  readonly depth: number;
  /** Of the training rows and of the validation rows. */
  readonly groups: number;
  readonly largestGroup: number;
}

/** Rows group by group: the rows of group g stand at `starts[g] … starts[g + 1] - 1`, in ascending order. */
export interface GroupedRows {
  readonly starts: Int32Array;
  readonly rows: Int32Array;
}

/** Groups in the order in which they first occur. */
export function groupRows(groups: Int32Array): GroupedRows {
  const numberOf = new Map<number, number>();
  const sizes: number[] = [];
  const number = Int32Array.from(groups, (group) => {
    let known = numberOf.get(group);
    if (known === undefined) {
      known = sizes.length;
      numberOf.set(group, known);
      sizes.push(0);
    }
    sizes[known] = (sizes[known] ?? 0) + 1;
    return known;
  });
  const starts = new Int32Array(sizes.length + 1);
  sizes.forEach((size, group) => (starts[group + 1] = (starts[group] ?? 0) + size));
  const next = starts.slice();
  const rows = new Int32Array(groups.length);
  number.forEach((group, row) => {
    rows[next[group] as number] = row;
    next[group] = (next[group] as number) + 1;
  });
  return { starts, rows };
}

/** 2^relevance - 1: what a row of this relevance adds to the discounted cumulative gain (Burges et al. 2005). */
const gainOf = (relevance: number): number => 2 ** relevance - 1;

const discountOf = (rank: number): number => 1 / Math.log2(rank + 2);

/** 1 / the greatest discounted cumulative gain that the first `depth` rows can have; 0 where nothing is relevant. */
export function inverseIdeal(relevance: Float64Array, depth: number): number {
  const ideal = relevance
    .slice()
    .sort()
    .reverse()
    .subarray(0, depth)
    .reduce((sum, value, rank) => sum + gainOf(value) * discountOf(rank), 0);
  return ideal > 0 ? 1 / ideal : 0;
}

/** Pairs of different relevance. */
export function countPairs(relevance: Float64Array): number {
  const sorted = relevance.slice().sort();
  let pairs = (sorted.length * (sorted.length - 1)) / 2;
  for (let i = 0; i < sorted.length; ) {
    const from = i;
    while (i < sorted.length && sorted[i] === sorted[from]) i += 1;
    pairs -= ((i - from) * (i - from - 1)) / 2;
  }
  return pairs;
}

/** A group of rows whose derivatives are worked out, with room for the largest one. All arrays but `discounts` have one place a row. */
export interface RankedGroup {
  size: number;
  readonly scores: Float64Array;
  readonly relevance: Float64Array;
  /** Filled with the first and second derivatives of the group's loss by the scores. */
  readonly gradients: Float64Array;
  readonly hessians: Float64Array;
  readonly gains: Float64Array;
  readonly order: Int32Array;
  readonly discounts: Float64Array;
}

export function createRankedGroup(largest: number): RankedGroup {
  const numbers = (): Float64Array => new Float64Array(largest);
  return {
    size: 0,
    scores: numbers(),
    relevance: numbers(),
    gradients: numbers(),
    hessians: numbers(),
    gains: numbers(),
    order: new Int32Array(largest),
    discounts: numbers().map((_, rank) => discountOf(rank)),
  };
}

/** log(1 + e^-x) without overflow. */
const logLossOf = (x: number): number => (x > 0 ? Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)) - x);

/**
 * RankNet (Burges et al. 2005): log loss of each pair of different relevance, by the difference of its scores, times
 * `weight`: rows ÷ pairs, so that a group counts by its rows.
 *
 * @returns The group's loss.
 */
export function derivePairwise(group: RankedGroup, weight: number): number {
  const { size, scores, relevance, gradients, hessians } = group;
  gradients.fill(0, 0, size);
  hessians.fill(0, 0, size);
  let loss = 0;
  for (let i = 0; i < size; i += 1) {
    for (let j = i + 1; j < size; j += 1) {
      const difference = (relevance[i] as number) - (relevance[j] as number);
      if (difference === 0) continue;
      const [high, low] = difference > 0 ? [i, j] : [j, i];
      const gap = (scores[high] as number) - (scores[low] as number);
      addPair(group, high, low, gap, weight);
      loss += weight * logLossOf(gap);
    }
  }
  return loss;
}

/**
 * LambdaRank (Burges, Ragno & Le 2006) as LightGBM's `lambdarank` does it, normalised: pairs of which one is among the
 * first `depth` rows, each weighed by how much swapping the two would change NDCG@depth (`inverseIdealGain` is 1 ÷ the
 * greatest DCG@depth). The derivatives are of the loss at fixed weights.
 *
 * @returns Σ change of NDCG × log loss of the pair: what the derivatives follow, before they are normalised.
 */
export function deriveLambdarank(group: RankedGroup, depth: number, inverseIdealGain: number): number {
  const { size, scores, relevance, gradients, hessians, gains, discounts } = group;
  gradients.fill(0, 0, size);
  hessians.fill(0, 0, size);
  const order = group.order.subarray(0, size);
  for (let i = 0; i < size; i += 1) {
    order[i] = i;
    gains[i] = gainOf(relevance[i] as number);
  }
  order.sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
  const levelled = scores[order[0] as number] === scores[order[size - 1] as number];
  let [loss, slopes] = [0, 0];
  for (let i = 0; i < Math.min(size - 1, depth); i += 1) {
    const first = order[i] as number;
    for (let j = i + 1; j < size; j += 1) {
      const second = order[j] as number;
      const more = (gains[first] as number) - (gains[second] as number);
      if (more === 0) continue;
      const [high, low] = more > 0 ? [first, second] : [second, first];
      const gap = (scores[high] as number) - (scores[low] as number);
      const change = Math.abs(more) * ((discounts[i] as number) - (discounts[j] as number)) * inverseIdealGain;
      slopes += 2 * addPair(group, high, low, gap, levelled ? change : change / (0.01 + Math.abs(gap)));
      loss += change * logLossOf(gap);
    }
  }
  if (slopes > 0) {
    const factor = Math.log2(1 + slopes) / slopes;
    for (let i = 0; i < size; i += 1) {
      gradients[i] = (gradients[i] as number) * factor;
      hessians[i] = (hessians[i] as number) * factor;
    }
  }
  return loss;
}

/** Adds the derivatives of `weight` × log loss of a pair whose scores are `gap` apart; gives the slope. */
function addPair({ gradients, hessians }: RankedGroup, high: number, low: number, gap: number, weight: number): number {
  const p = 1 / (1 + Math.exp(gap));
  const slope = weight * p;
  const curvature = slope * (1 - p);
  gradients[high] = (gradients[high] as number) - slope;
  gradients[low] = (gradients[low] as number) + slope;
  hessians[high] = (hessians[high] as number) + curvature;
  hessians[low] = (hessians[low] as number) + curvature;
  return slope;
}

/** Writes the groups of both sets, training rows first, and what each group's pairs are weighed by. */
export function writeGroups(memory: SharedMemory, layout: Layout, ranking: RankingLayout, sets: readonly (GroupedRows & { readonly y: Float64Array })[]): void {
  const starts = new Int32Array(memory.buffer, layout.groupStarts, ranking.groups + 1);
  const rows = new Int32Array(memory.buffer, layout.groupedRows, layout.rows + layout.validationRows);
  const factors = new Float64Array(memory.buffer, layout.groupFactors, ranking.groups);
  let [group, offset] = [0, 0];
  for (const set of sets) {
    for (let g = 0; g + 1 < set.starts.length; g += 1) {
      const [from, to] = [set.starts[g] as number, set.starts[g + 1] as number];
      starts[group] = offset + from;
      const relevance = Float64Array.from(set.rows.subarray(from, to), (row) => set.y[row] as number);
      factors[group] = ranking.objective === 'pairwise' ? (to - from) / Math.max(1, countPairs(relevance)) : inverseIdeal(relevance, ranking.depth);
      group += 1;
    }
    set.rows.forEach((row, at) => (rows[offset + at] = offset + row));
    offset += set.rows.length;
  }
  starts[group] = offset;
}

/**
 * Binds the derivatives to the memory: those of the groups whose first place lies in `first … last - 1`.
 * @returns The sum of their losses.
 */
export function bindRanking(memory: SharedMemory, layout: Layout, ranking: RankingLayout): (first: number, last: number, training: boolean) => number {
  const { objective, depth, groups, largestGroup } = ranking;
  const starts = new Int32Array(memory.buffer, layout.groupStarts, groups + 1);
  const rows = new Int32Array(memory.buffer, layout.groupedRows, layout.rows + layout.validationRows);
  const factors = new Float64Array(memory.buffer, layout.groupFactors, groups);
  const scores = new Float64Array(memory.buffer, layout.scores, rows.length);
  const relevance = new Float64Array(memory.buffer, layout.targets, rows.length);
  const derivatives = new Float32Array(memory.buffer, layout.derivatives, 2 * layout.rows);
  const ranked = createRankedGroup(largestGroup);
  return (first, last, training) => {
    let [low, high] = [0, groups];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) < first) low = middle + 1;
      else high = middle;
    }
    let loss = 0;
    for (let group = low; group < groups && (starts[group] as number) < last; group += 1) {
      const from = starts[group] as number;
      ranked.size = (starts[group + 1] as number) - from;
      for (let i = 0; i < ranked.size; i += 1) {
        const row = rows[from + i] as number;
        ranked.scores[i] = scores[row] as number;
        ranked.relevance[i] = relevance[row] as number;
      }
      const factor = factors[group] as number;
      loss += objective === 'pairwise' ? derivePairwise(ranked, factor) : deriveLambdarank(ranked, depth, factor);
      if (!training) continue;
      for (let i = 0; i < ranked.size; i += 1) {
        const at = 2 * (rows[from + i] as number);
        derivatives[at] = ranked.gradients[i] as number;
        derivatives[at + 1] = ranked.hessians[i] as number;
      }
    }
    return loss;
  };
}
