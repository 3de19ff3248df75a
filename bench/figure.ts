/** One measured figure, as one JSON line of `npm run bench -- NAME --json`. */
export interface Figure {
  readonly bench: string;
  readonly metric: string;
  /** Which setting of the benchmark the figure belongs to, such as `2 threads`. */
  readonly variant?: string;
  /** Ours: the median over `n` repetitions. */
  readonly value: number;
  readonly unit: string;
  readonly n: number;
  readonly min: number;
  readonly max: number;
  /** What ran beside it in the same run, and its median. */
  readonly peer?: string;
  readonly peerValue?: number;
  /** Ours ÷ theirs. */
  readonly ratio?: number;
  readonly better?: 'lower' | 'higher';
  /** The limit asked for: of the ratio where there is one, else of the value. */
  readonly bar?: number;
  /** True for a smaller size that gives a first look only. */
  readonly quick?: boolean;
}

export interface BenchmarkOptions {
  /** A smaller size for a first look. Its figures say so. */
  readonly quick: boolean;
  readonly emit: (figure: Figure) => void;
}

/** What each file of this folder that is listed in main.ts exports as `benchmark`. */
export interface Benchmark {
  readonly name: string;
  readonly summary: string;
  readonly run: (options: BenchmarkOptions) => Promise<void>;
}

/** Median, least and most of repeated measurements, ready for a figure. @throws RangeError when there is none. */
export function summarise(samples: readonly number[]): { readonly value: number; readonly n: number; readonly min: number; readonly max: number } {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1];
  const high = sorted[Math.floor(middle)];
  if (low === undefined || high === undefined) throw new RangeError('There is nothing to summarise.');
  return { value: (low + high) / 2, n: sorted.length, min: sorted[0] ?? low, max: sorted.at(-1) ?? high };
}
