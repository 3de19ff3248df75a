import type { Bins } from '../../contracts/features.ts';

/** The number of edges, in ascending order, that are not above the value; -1 for a missing value. */
export function binOf(edges: readonly number[], value: number): number {
  if (Number.isNaN(value)) return -1;
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((edges[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Quantile of ascending numbers by linear interpolation, NumPy's default; NaN of none. */
export function quantileOf(sorted: ArrayLike<number>, share: number): number {
  const position = share * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/**
 * The cuts between bins, float32 and ascending: as stated, or from ascending training values, of which there must be one.
 * Uniform cuts with `log` are uniform in log1p. Values that are all alike give one cut, at them.
 */
export function fitEdges(bins: Bins, sorted: ArrayLike<number>, log = false): readonly number[] {
  if ('edges' in bins) return ascending(bins.edges);
  const [least, most] = [sorted[0] ?? 0, sorted[sorted.length - 1] ?? 0];
  const to = (value: number): number => (log ? Math.log1p(Math.max(0, value)) : value);
  const from = (value: number): number => (log ? Math.expm1(value) : value);
  const inner = Array.from({ length: bins.count - 1 }, (_, i) => (i + 1) / bins.count);
  const cuts = inner.map((share) => (bins.by === 'quantile' ? quantileOf(sorted, share) : from(to(least) + (to(most) - to(least)) * share)));
  // A cut at the least value would leave the bin below it empty.
  const edges = ascending(cuts).filter((edge) => edge > least);
  return edges.length > 0 ? edges : [Math.fround(most) + 0];
}

const ascending = (edges: readonly number[]): number[] =>
  [...new Set(edges.map((edge) => Math.fround(edge) + 0))].filter(Number.isFinite).sort((a, b) => a - b);

/** `[10,20)`, for names. */
export function binText(edges: readonly number[], bin: number): string {
  const [low, high] = [edges[bin - 1], edges[bin]];
  return `[${low === undefined ? '-inf' : String(low)},${high === undefined ? 'inf' : String(high)})`;
}
