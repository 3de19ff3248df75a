import { MillraceError } from '../../contracts/errors.ts';
import type { RankingLayout } from './ranking.ts';
import { HISTOGRAM_STRIDE_BYTES, KERNEL_CONSTANTS_BYTES, MAX_GROUP_WIDTH, MAX_PAGES } from './kernels.ts';

/** Rows of one task that goes through rows in their own order. */
export const ROW_BLOCK = 16_384;

/** Rows that are worth a task of their own in a leaf; smaller leaves are built by the calling thread. */
export const LEAF_CHUNK_ROWS = 16_384;

/** Most parts that one leaf's rows are cut into, for histograms and for the partition. Fixed, so that sums do not depend on the threads. */
export const MAX_LEAF_CHUNKS = 16;

/** Features whose bins lie side by side, row after row. */
export interface FeatureGroup {
  /** Position of its first feature among the used features. */
  readonly first: number;
  readonly width: number;
  /** Byte address of its bins, [rows × width]. */
  readonly bins: number;
}

/** What the shared memory holds. Every address is in bytes from its start. */
export interface Layout {
  readonly rows: number;
  readonly validationRows: number;
  /** Scores a row: one for each class of a multiclass model, else one. */
  readonly outputs: number;
  /** Columns of the matrix that have at least two bins, ascending. */
  readonly features: readonly number[];
  /** Bins of each used feature, its bin of missing values not counted. */
  readonly binCounts: readonly number[];
  /** Whether the bins of each used feature are categories, without an order. */
  readonly categorical: readonly boolean[];
  readonly groups: readonly FeatureGroup[];
  readonly leaves: number;
  readonly classification: boolean;
  readonly weighted: boolean;
  /** Of a ranking. */
  readonly ranking: RankingLayout | undefined;
  /** Int32: see crew.ts. */
  readonly control: number;
  /** Float64: arguments of the running task. */
  readonly taskArguments: number;
  /** Uint8 × 256: 1 where a bin goes left. */
  readonly goesLeft: number;
  /** Float32 × 256 for each used feature. */
  readonly bounds: number;
  /** Float64 for each block of rows. */
  readonly losses: number;
  /** Int32 for each chunk of a leaf: its rows that go left. */
  readonly chunkCounts: number;
  /** Uint8 for each used feature: 1 where this tree may split it. */
  readonly selected: number;
  /** Uint8 for each used feature: 1 where training rows have missing values. */
  readonly missing: number;
  /** Best split of each used feature for two leaves, CANDIDATE_FIELDS Float64 each. */
  readonly candidates: number;
  /** Int32 × TREE_NODE_FIELDS for each split of the tree that was grown last; see tasks.ts. */
  readonly treeNodes: number;
  /** Float64 for each leaf of it. */
  readonly leafValues: number;
  /** Int32: where the leaves' rows start in `order`, ascending, and the end of the last; then Float64: their values. */
  readonly segmentStarts: number;
  readonly segmentValues: number;
  /** Float32 pairs of gradient and Hessian, [outputs × rows]. */
  readonly derivatives: number;
  /** Float64, [outputs × (rows + validationRows)]. */
  readonly scores: number;
  /** Binary labels as Float32, class numbers as Uint16, or values as Float64; validation rows after training rows. */
  readonly targets: number;
  /** Float64 a row, validation rows after training rows; only when weighted. */
  readonly weights: number;
  /** Only of a ranking: Int32, where each group's rows start in `groupedRows`, and the end of the last; Int32, the rows group by group; Float64 for each group, what its pairs are weighed by. */
  readonly groupStarts: number;
  readonly groupedRows: number;
  readonly groupFactors: number;
  /** Int32: row numbers, each leaf's together. */
  readonly order: number;
  readonly orderLeft: number;
  readonly orderRight: number;
  /** One histogram of all used features for each leaf. */
  readonly histograms: number;
  readonly histogramBytes: number;
  /** Histograms of chunks, to be added up; as many as chunks of one leaf. */
  readonly chunkHistograms: number;
  /** Float64 for SCRATCH_ROWS rows of each output, for each thread. */
  readonly scratch: number;
  readonly scratchBytes: number;
  readonly pages: number;
}

export interface LayoutNeeds {
  readonly rows: number;
  readonly validationRows: number;
  readonly outputs: number;
  readonly features: readonly number[];
  readonly binCounts: readonly number[];
  readonly categorical: readonly boolean[];
  readonly leaves: number;
  readonly threads: number;
  readonly classification: boolean;
  readonly weighted: boolean;
  readonly ranking?: RankingLayout | undefined;
}

/** Int32 fields of a split: address of the feature's first bin, group width, last bin that goes left, missing bin, whether missing goes left, left and right child (a leaf as ~leaf), whether it is a split by categories; from the ninth on, a bit for each bin that goes left then. */
export const TREE_NODE_FIELDS = 16;

/** Float64 fields of a candidate: gain, last bin that goes left, whether missing goes left, gradient and Hessian of the left side, additional L2 of its leaves; then 8 words with a bit for each bin that goes left, where bins are categories. */
export const CANDIDATE_FIELDS = 14;

/** Words of 32 bits for the bins of a feature. */
export const BIN_WORDS = 8;

/** Rows whose scores are turned into derivatives at a time: they stay in the first cache. */
export const SCRATCH_ROWS = 1024;

/** How many parts a leaf of so many rows is cut into when there are so many feature groups. */
export function leafChunks(rows: number, groups: number): number {
  const parts = Math.floor(rows / LEAF_CHUNK_ROWS);
  // Many groups keep all threads busy without cutting the rows, and need no sum over parts then.
  const most = groups >= MAX_LEAF_CHUNKS ? 1 : Math.ceil(MAX_LEAF_CHUNKS / Math.max(1, groups));
  return Math.max(1, Math.min(parts, most));
}

/** @throws MillraceError OUT_OF_MEMORY when the data needs more than the 4 GiB that the kernels can address. */
export function planLayout(needs: LayoutNeeds): Layout {
  let end = KERNEL_CONSTANTS_BYTES;
  const take = (sizeBytes: number): number => {
    const start = Math.ceil(end / 64) * 64;
    end = start + sizeBytes;
    return start;
  };
  const { rows, validationRows, outputs, features, leaves } = needs;
  const allRows = rows + validationRows;
  const groupCount = Math.ceil(features.length / MAX_GROUP_WIDTH);
  const histogramBytes = Math.max(1, features.length) * HISTOGRAM_STRIDE_BYTES;
  const scratchBytes = SCRATCH_ROWS * 8 * outputs;
  const parallel = needs.threads > 1;
  const small = {
    control: take(64),
    taskArguments: take(128),
    goesLeft: take(256),
    bounds: take(features.length * 256 * 4),
    losses: take(Math.ceil(allRows / ROW_BLOCK) * 8 + 8),
    chunkCounts: take(MAX_LEAF_CHUNKS * 4),
    selected: take(features.length),
    missing: take(features.length),
    candidates: take(2 * features.length * CANDIDATE_FIELDS * 8),
    treeNodes: take(leaves * TREE_NODE_FIELDS * 4),
    leafValues: take(leaves * 8),
    segmentStarts: take((leaves + 1) * 4),
    segmentValues: take(leaves * 8),
  };
  const groups: FeatureGroup[] = [];
  for (let group = 0; group < groupCount; group += 1) {
    const first = Math.floor((group * features.length) / groupCount);
    const width = Math.floor(((group + 1) * features.length) / groupCount) - first;
    groups.push({ first, width, bins: take(allRows * width) });
  }
  const large = {
    derivatives: take(outputs * rows * 8),
    scores: take(outputs * allRows * 8),
    targets: take(allRows * (needs.classification ? (outputs === 1 ? 4 : 2) : 8)),
    weights: needs.weighted ? take(allRows * 8) : 0,
    groupStarts: needs.ranking ? take((needs.ranking.groups + 1) * 4) : 0,
    groupedRows: needs.ranking ? take(allRows * 4) : 0,
    groupFactors: needs.ranking ? take(needs.ranking.groups * 8) : 0,
    order: take(rows * 4),
    orderLeft: parallel ? take(rows * 4) : 0,
    orderRight: take(rows * 4),
    histograms: take(leaves * histogramBytes),
    histogramBytes,
    chunkHistograms: groupCount >= MAX_LEAF_CHUNKS ? 0 : take(leafChunks(rows, groupCount) * histogramBytes),
    scratch: take(needs.threads * scratchBytes),
    scratchBytes,
  };
  const pages = Math.ceil((end + 64) / 65_536);
  if (pages > MAX_PAGES) {
    throw new MillraceError(
      'OUT_OF_MEMORY',
      `gbdt needs ${(end / 2 ** 30).toFixed(1)} GiB for ${rows} rows, ${features.length} features and ${leaves} leaves; it can use 4 GiB.`,
      {
        fix: 'Train on a sample, or with fewer features or leaves.',
      },
    );
  }
  return {
    rows,
    validationRows,
    outputs,
    features,
    binCounts: needs.binCounts,
    categorical: needs.categorical,
    groups,
    leaves,
    classification: needs.classification,
    weighted: needs.weighted,
    ranking: needs.ranking,
    ...small,
    ...large,
    pages,
  };
}
