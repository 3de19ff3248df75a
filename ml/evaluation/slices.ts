import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { metricDefinition } from '../../contracts/metrics.ts';
import { createJudge, higherIsBetter } from '../metrics.ts';
import { delong } from './delong.ts';
import { type IntervalOptions, type JudgedAnswers, metricIntervals, pickRows, positiveScores } from './intervals.ts';
import { normalQuantile, quantileOf } from './normal.ts';

export interface Slice {
  /** Of crossed columns both values, `1st × 2nd`. A range has its first end in it and its last not, but for the highest. */
  readonly value: string;
  readonly rows: number;
  readonly metric: number;
  /** Interval of the metric; absent where there is none. */
  readonly low?: number;
  readonly high?: number;
  /** Other metrics that were asked for. */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface SliceList {
  /** The column, or both with ` × ` between. */
  readonly column: string;
  readonly metric: string;
  /** The worst first, at most 50. */
  readonly values: readonly Slice[];
  /** Slices that are left out: fewer rows than asked for, or no value of the metric (one class alone). */
  readonly tooSmall: number;
  readonly withoutValue: number;
}

export interface SliceOptions {
  readonly metric: string;
  /** Metrics that are told beside it. */
  readonly others: readonly string[];
  readonly leastRows: number;
  readonly intervals: IntervalOptions | null;
}

/** Of a column with many values the largest slices are judged, and the worst of them listed. */
const JUDGED_SLICES = 200;
const LISTED_SLICES = 50;
/** A column of numbers or times with more different values is cut at its deciles. */
const MOST_NUMBERS = 20;
const QUANTILE_BINS = 10;
const SLICE_REPLICATES = 200;

/** Metrics by the values of a column, or by those of two columns crossed; the worst slice first. @throws COLUMN_MISSING */
export function sliceMetrics(judged: JudgedAnswers, table: RawTable, by: readonly string[], options: SliceOptions): SliceList {
  const { metric } = options;
  const codings = by.map((name) => {
    const column = table.columns.get(name);
    if (!column) throw new MillraceError('COLUMN_MISSING', `The data has no column ${name} to slice by.`);
    return codeValues(column);
  });
  const rowsOf = new Map<string, number[]>();
  for (let row = 0; row < table.rows; row++) {
    const key = codings.map(({ codes }) => codes[row] as number).join(' ');
    const slice = rowsOf.get(key);
    if (slice) slice.push(row);
    else rowsOf.set(key, [row]);
  }
  const large = [...rowsOf].filter(([, rows]) => rows.length >= options.leastRows).sort((a, b) => b[1].length - a[1].length);
  const textOf = (key: string): string =>
    key
      .split(' ')
      .map((code, i) => codings[i]?.texts[Number(code)] ?? '')
      .join(' × ');
  const found = large.slice(0, JUDGED_SLICES).map(([key, rows]) => {
    const part = pickRows(judged, rows);
    const metrics = createJudge(part.task, part.y, part.answers, part.threshold).values([...new Set([metric, ...options.others])]);
    return { value: textOf(key), rows: rows.length, part, metric: metrics[metric] ?? Number.NaN, metrics };
  });
  const valued = found.filter((slice) => Number.isFinite(slice.metric));
  const worst = valued.sort((a, b) => (higherIsBetter(metric) ? a.metric - b.metric : b.metric - a.metric)).slice(0, LISTED_SLICES);
  return {
    column: by.join(' × '),
    metric,
    values: worst.map(({ part, ...slice }) => ({
      ...slice,
      metrics: Object.fromEntries(Object.entries(slice.metrics).filter(([, value]) => Number.isFinite(value))),
      ...(options.intervals === null ? {} : sliceInterval(part, metric, slice.metric, options.intervals)),
    })),
    tooSmall: rowsOf.size - large.length,
    withoutValue: found.length - valued.length,
  };
}

function sliceInterval(part: JudgedAnswers, metric: string, value: number, options: IntervalOptions): { readonly low?: number; readonly high?: number } {
  if (metric === 'auc' && metricDefinition(metric)) {
    // a bootstrap of each slice would cost more than the whole evaluation
    const half = normalQuantile((1 + options.confidence) / 2) * Math.sqrt(delong(part.y, [positiveScores(part.answers)]).covariance[0]?.[0] ?? Number.NaN);
    return Number.isFinite(half) ? { low: Math.max(0, value - half), high: Math.min(1, value + half) } : {};
  }
  const interval = metricIntervals(part, { [metric]: value }, { ...options, replicates: Math.min(options.replicates, SLICE_REPLICATES) })[metric];
  return interval ? { low: interval.low, high: interval.high } : {};
}

interface Coding {
  readonly codes: Int32Array;
  readonly texts: readonly string[];
}

function codeValues(column: RawColumn): Coding {
  if (column.kind === 'string') {
    const none = column.dictionary.length;
    return { codes: column.codes.map((code) => (code < 0 ? none : code)), texts: [...column.dictionary, 'null'] };
  }
  const text = (value: number): string => (column.kind === 'timestamp' ? new Date(value).toISOString() : String(value));
  const { values } = column;
  const distinct = new Set<number>();
  for (const value of values) {
    if (!Number.isNaN(value)) distinct.add(value);
    if (distinct.size > MOST_NUMBERS) return codeRanges(values, text);
  }
  const sorted = [...distinct].sort((a, b) => a - b);
  const codeOf = new Map(sorted.map((value, code) => [value, code]));
  return { codes: Int32Array.from(values, (value) => codeOf.get(value) ?? sorted.length), texts: [...sorted.map(text), 'null'] };
}

function codeRanges(values: Float64Array, text: (value: number) => string): Coding {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  const edges = [...new Set(Array.from({ length: QUANTILE_BINS + 1 }, (_, i) => quantileOf(sorted, i / QUANTILE_BINS)))];
  const bins = Math.max(1, edges.length - 1);
  const codes = Int32Array.from(values, (value) => {
    if (Number.isNaN(value)) return bins;
    let bin = 0;
    while (bin < bins - 1 && value >= (edges[bin + 1] as number)) bin++;
    return bin;
  });
  const texts = Array.from(
    { length: bins },
    (_, i) => `[${text(edges[i] as number)}, ${text(edges[i + 1] ?? (edges[i] as number))}${i === bins - 1 ? ']' : ')'}`,
  );
  return { codes, texts: [...texts, 'null'] };
}
