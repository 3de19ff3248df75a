import { type Judge, judgeOf } from './judge.ts';

/** Rows of one group from the highest score to the lowest, with the relevance of each. */
interface Group {
  readonly relevance: readonly number[];
  readonly scores: readonly number[];
}

const DEPTH = 10;

/**
 * Judges rankings: `groups[row]` says which rows compete with each other (the rows of one query), `relevance` how much a
 * row is wanted (0: not at all). A judge's weights are here of the groups, in the order of `groupNumbers`.
 */
export function rankingJudge(relevance: Float64Array, scores: Float64Array, groups: Int32Array): Judge {
  const rowsOf = new Map<number, number[]>();
  groups.forEach((group, row) => {
    const rows = rowsOf.get(group);
    if (rows) rows.push(row);
    else rowsOf.set(group, [row]);
  });
  const figuresOf = [...rowsOf.values()].map((rows) => {
    const sorted = rows.sort((a, b) => (scores[b] as number) - (scores[a] as number) || (relevance[a] as number) - (relevance[b] as number));
    return groupFigures({ relevance: sorted.map((row) => relevance[row] as number), scores: sorted.map((row) => scores[row] as number) });
  });
  const mean = (name: keyof ReturnType<typeof groupFigures>) => (weights: Float64Array | undefined) => {
    let [sum, whole] = [0, 0];
    figuresOf.forEach((figures, i) => {
      const weight = weights === undefined ? 1 : (weights[i] as number);
      sum += weight * figures[name];
      whole += weight;
    });
    return sum / whole;
  };
  return judgeOf<Float64Array | undefined>(
    figuresOf.length,
    { ndcg: mean('ndcg'), 'ndcg@5': mean('ndcg@5'), 'ndcg@10': mean('ndcg@10'), map: mean('map'), 'map@10': mean('map@10'), mrr: mean('mrr') },
    (weights) => weights,
  );
}

function groupFigures(group: Group) {
  return {
    ndcg: ndcg(group, Number.POSITIVE_INFINITY),
    'ndcg@5': ndcg(group, 5),
    'ndcg@10': ndcg(group, 10),
    map: averagePrecision(group),
    'map@10': averagePrecisionAt(group),
    mrr: reciprocalRank(group),
  };
}

/** Gains are the relevances, discounts 1 / log₂(1 + rank); rows of equal scores share their discounts (McSherry & Najork 2008). */
function ndcg({ relevance, scores }: Group, depth: number): number {
  const discount = (rank: number): number => (rank < depth ? 1 / Math.log2(rank + 2) : 0);
  let gained = 0;
  for (let i = 0; i < scores.length; ) {
    const from = i;
    let [gains, discounts] = [0, 0];
    for (; i < scores.length && scores[i] === scores[from]; i++) {
      gains += relevance[i] as number;
      discounts += discount(i);
    }
    gained += (gains / (i - from)) * discounts;
  }
  const ideal = [...relevance].sort((a, b) => b - a).reduce((sum, gain, rank) => sum + gain * discount(rank), 0);
  return ideal === 0 ? 0 : gained / ideal;
}

/** Rows of equal scores count at once, as in `averagePrecision`; 0 where nothing is relevant. */
function averagePrecision({ relevance, scores }: Group): number {
  let [sum, found] = [0, 0];
  for (let i = 0; i < scores.length; ) {
    const score = scores[i];
    let here = 0;
    for (; i < scores.length && scores[i] === score; i++) if ((relevance[i] as number) > 0) here++;
    found += here;
    sum += here * (found / i);
  }
  return found === 0 ? 0 : sum / found;
}

function averagePrecisionAt({ relevance }: Group): number {
  const relevant = relevance.filter((value) => value > 0).length;
  let [sum, found] = [0, 0];
  for (let i = 0; i < Math.min(DEPTH, relevance.length); i++) {
    if ((relevance[i] as number) <= 0) continue;
    found++;
    sum += found / (i + 1);
  }
  return relevant === 0 ? 0 : sum / Math.min(relevant, DEPTH);
}

function reciprocalRank({ relevance }: Group): number {
  const first = relevance.findIndex((value) => value > 0);
  return first < 0 ? 0 : 1 / (first + 1);
}
