import { metricDefinition } from '../../contracts/metrics.ts';
import { createJudge, type JudgedTask } from '../metrics.ts';
import { shuffledIndices } from '../random.ts';
import { confusionAt } from './binary.ts';
import { type Judge, once } from './judge.ts';
import { type Interval, quantileOf, wilsonInterval } from './normal.ts';
import { binResampler, type Resampler, rowResampler, strataOf } from './resample.ts';

export interface JudgedAnswers {
  readonly task: JudgedTask;
  readonly y: Float64Array;
  readonly answers: Float64Array;
  readonly threshold: number;
}

export interface IntervalOptions {
  /** Share of intervals that hold the true figure, e.g. 0.95. */
  readonly confidence: number;
  readonly replicates: number;
  readonly seed: number;
}

export interface MetricInterval extends Interval {
  /** How it was made; `docs/training.md` says more. */
  readonly method: 'wilson' | 'bootstrap' | 'binned-bootstrap' | 'm-of-n-bootstrap';
}

/** So many rows are drawn one by one; of more, binary scores are put into bins, and other tasks draw from a sample. */
const MOST_ROWS = 5_000;
const BINS_OF_A_CLASS = 2_000;
/** What takes a largest value or adds absolute gaps is moved to one side by resampling: an interval of it would mislead. */
const WITHOUT_INTERVAL: ReadonlySet<string> = new Set(['maxError', 'ece', 'ks']);

/**
 * Intervals of these metrics on the rows, by name; what has none (its value is NaN, `maxError`, `ece`, `ks`) is left out.
 * Shares of rows (accuracy, precision, recall, …) have Wilson's interval; the others the percentiles of a seeded
 * bootstrap, drawn by class. Above 5,000 rows a binary task resamples 2,000 bins of scores a class; the others draw from
 * 5,000 rows and narrow the interval by √(5,000 / rows) (Bickel, Götze & van Zwet 1997). Of a ranking whole groups are drawn.
 *
 * Each interval holds the figure that it is of. Percentiles alone need not: drawn rows come twice and tie with themselves, which
 * moves an average precision of few hits to one side, now and then past its own interval. Such an interval ends at the figure.
 */
export function metricIntervals(judged: JudgedAnswers, values: Readonly<Record<string, number>>, options: IntervalOptions): Record<string, MetricInterval> {
  const { task, y } = judged;
  if (task.kind === 'ranking') return judgeIntervals(judgeOfAnswers(judged), values, options);
  const rows = y.length;
  const names = Object.keys(values).filter((name) => !WITHOUT_INTERVAL.has(name) && Number.isFinite(values[name]));
  const shares = names.filter((name) => metricDefinition(name)?.proportion === true);
  const resampled = names.filter((name) => !shares.includes(name));
  const denominatorOf = denominators(judged);
  const intervals = new Map<string, MetricInterval>(
    shares.map((name) => {
      const of = denominatorOf(name);
      return [name, { ...wilsonInterval((values[name] as number) * of, of, options.confidence), method: 'wilson' }];
    }),
  );
  // bins and samples differ a little from the rows: their intervals stand around the figure of all rows
  const around = (method: MetricInterval['method'], judge: Judge, draw: Resampler, counts: Float64Array, scale: number): void => {
    const centre = judge.values(resampled, counts);
    bootstrap(judge, draw, resampled, options, (name, low, high) => {
      const [value, middle] = [values[name] as number, centre[name] as number];
      intervals.set(name, { ...holding(value, value + (low - middle) * scale, value + (high - middle) * scale), method });
    });
  };
  const classes = task.kind === 'regression' ? undefined : task.kind === 'binary' ? 2 : task.classes;
  if (rows <= MOST_ROWS) {
    bootstrap(judgeOfAnswers(judged), rowResampler(strataOf(y, classes), rows, options.seed), resampled, options, (name, low, high) => {
      intervals.set(name, { ...holding(values[name] as number, low, high), method: 'bootstrap' });
    });
  } else if (task.kind === 'binary') {
    const bins = scoreBins(judged);
    const draw = binResampler(bins.counts, strataOf(bins.y, 2), options.seed);
    around('binned-bootstrap', createJudge(task, bins.y, bins.answers, judged.threshold), draw, bins.counts, 1);
  } else {
    const some = pickRows(judged, shuffledIndices(rows, options.seed).subarray(0, MOST_ROWS).sort());
    const draw = rowResampler(strataOf(some.y, classes), MOST_ROWS, options.seed);
    around('m-of-n-bootstrap', judgeOfAnswers(some), draw, new Float64Array(MOST_ROWS).fill(1), Math.sqrt(MOST_ROWS / rows));
  }
  return Object.fromEntries(names.flatMap((name) => (intervals.has(name) ? [[name, intervals.get(name) as MetricInterval]] : [])));
}

const holding = (value: number, low: number, high: number): Interval => ({ low: Math.min(value, low), high: Math.max(value, high) });

const judgeOfAnswers = ({ task, y, answers, threshold }: JudgedAnswers): Judge => createJudge(task, y, answers, threshold);

/** Percentile intervals of what a judge computes, by resampling what it judges (of rankings: whole groups). */
export function judgeIntervals(judge: Judge, values: Readonly<Record<string, number>>, options: IntervalOptions): Record<string, MetricInterval> {
  const intervals: Record<string, MetricInterval> = {};
  const draw = rowResampler([Uint32Array.from({ length: judge.rows }, (_, i) => i)], judge.rows, options.seed);
  bootstrap(judge, draw, Object.keys(values), options, (name, low, high) => {
    intervals[name] = { ...holding(values[name] ?? Number.NaN, low, high), method: 'bootstrap' };
  });
  return intervals;
}

function bootstrap(
  judge: Judge,
  draw: Resampler,
  names: readonly string[],
  { replicates, confidence }: IntervalOptions,
  tell: (name: string, low: number, high: number) => void,
): void {
  if (names.length === 0) return;
  const found = new Map(names.map((name) => [name, new Float64Array(replicates)]));
  for (let replicate = 0; replicate < replicates; replicate++) {
    const values = judge.values(names, draw());
    for (const [name, list] of found) list[replicate] = values[name] as number;
  }
  for (const [name, list] of found) {
    const known = list.filter(Number.isFinite).sort();
    // a figure that many replicates do not have says nothing certain
    if (known.length < replicates * 0.9) continue;
    tell(name, quantileOf(known, (1 - confidence) / 2), quantileOf(known, (1 + confidence) / 2));
  }
}

/** The rows that a share is of. */
function denominators({ task, y, answers, threshold }: JudgedAnswers): (name: string) => number {
  const confusion = once(() => confusionAt(y, positiveScores(answers), threshold));
  return (name) => {
    if (task.kind !== 'binary' || name === 'accuracy') return y.length;
    const c = confusion();
    if (name === 'precision') return c.truePositives + c.falsePositives;
    return name === 'recall' ? c.truePositives + c.falseNegatives : c.trueNegatives + c.falsePositives;
  };
}

/** Column 1 of [rows × 2]. */
export function positiveScores(answers: Float64Array): Float64Array {
  const scores = new Float64Array(answers.length / 2);
  for (let row = 0; row < scores.length; row++) scores[row] = answers[2 * row + 1] as number;
  return scores;
}

/** The rows with these numbers. */
export function pickRows(judged: JudgedAnswers, rows: ArrayLike<number>): JudgedAnswers {
  const width = judged.answers.length / judged.y.length;
  const [y, answers] = [new Float64Array(rows.length), new Float64Array(rows.length * width)];
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] as number;
    y[i] = judged.y[row] as number;
    answers.set(judged.answers.subarray(row * width, (row + 1) * width), i * width);
  }
  const { task } = judged;
  return {
    ...judged,
    y,
    answers,
    task: task.kind === 'ranking' ? { kind: 'ranking', groups: Int32Array.from(rows, (row) => task.groups[row] as number) } : task,
  };
}

/** Rows of each class in bins of nearly equal size by score; none across the threshold, and equal scores not parted where there are few. */
function scoreBins({ y, answers, threshold }: JudgedAnswers): { readonly y: Float64Array; readonly answers: Float64Array; readonly counts: Float64Array } {
  const scores = positiveScores(answers);
  const bins: { label: number; count: number; zero: number; one: number }[] = [];
  for (const label of [0, 1]) {
    let rows = 0;
    for (let row = 0; row < y.length; row++) if (y[row] === label) rows++;
    const sorted = new Float64Array(rows);
    for (let row = 0, at = 0; row < y.length; row++) if (y[row] === label) sorted[at++] = scores[row] as number;
    // by the values alone: a comparing function would be several times slower on a million rows
    sorted.sort();
    const size = Math.max(1, sorted.length / BINS_OF_A_CLASS);
    let bin: (typeof bins)[number] | undefined;
    for (let i = 0; i < sorted.length; i++) {
      const score = sorted[i] as number;
      const last = sorted[i - 1];
      const full = bin !== undefined && bin.count >= size && score !== last;
      const crosses = last !== undefined && last < threshold && score >= threshold;
      if (bin === undefined || full || crosses) bins.push((bin = { label, count: 0, zero: 0, one: 0 }));
      bin.count++;
      bin.one += score;
    }
  }
  for (const bin of bins) {
    bin.one /= bin.count;
    bin.zero = 1 - bin.one;
  }
  return {
    y: Float64Array.from(bins, ({ label }) => label),
    answers: Float64Array.from(bins.flatMap(({ zero, one }) => [zero, one])),
    counts: Float64Array.from(bins, ({ count }) => count),
  };
}
