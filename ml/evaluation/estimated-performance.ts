import type { EvaluationReport } from '../../contracts/evaluation.ts';
import type { EstimatedPerformance, ScoreBin } from '../../contracts/window-quality.ts';
import { createRandom, type Random } from '../random.ts';
import { binaryJudge, confusionAt } from './binary.ts';
import { isotonicShares, placesOf, type ScorePlaces, sharesAt } from './calibration.ts';
import type { IntervalOptions } from './intervals.ts';
import type { Judge } from './judge.ts';
import { quantileOf } from './normal.ts';
import { binomial } from './resample.ts';

/** Which figures can be estimated from scores, by task; of several classes only the share of right answers. */
export const ESTIMATED_METRICS = {
  binary: [
    'auc',
    'averagePrecision',
    'logLoss',
    'brier',
    'accuracy',
    'precision',
    'recall',
    'f1',
    'macroF1',
    'specificity',
    'balancedAccuracy',
    'macroPrecision',
    'macroRecall',
    'weightedPrecision',
    'weightedRecall',
    'weightedF1',
    'matthews',
    'cohenKappa',
  ],
  multiclass: ['accuracy'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export interface EstimateInput {
  readonly task: 'binary' | 'multiclass';
  /** Of each row of the window the model's probability of the positive class; of several classes that of the answered one. */
  readonly scores: Float64Array;
  /** Answered as positive from this score on. Of several classes it plays no part. */
  readonly threshold: number;
  /** What `calibrationOf(report)` gives; `exact`: scores are probabilities as they are, without an error of their own. */
  readonly calibration: readonly ScoreBin[] | 'exact';
  /** Default all of the task; what cannot be estimated is left out. */
  readonly metrics?: readonly string[];
  /** Of fewer rows nothing is told. Default 30. */
  readonly leastRows?: number;
  readonly intervals: IntervalOptions;
}

const LEAST_ROWS = 30;
/** Rows are put into so many groups of neighbouring scores for the figures, */
const MOST_GROUPS = 20_000;
/** and into so many to draw labels for them. */
const MOST_DRAWN = 2_000;

/**
 * What labels would probably show of the answers in a window that has none: each row counts as a hit with its calibrated
 * probability and as a miss with the rest (confidence-based performance estimation, CBPE). The calibration is the isotonic
 * one of the evaluation's rows.
 *
 * The interval holds the figure that labels will show with the stated confidence. Its error has two parts, drawn together
 * `replicates` times: which labels the rows happen to have, and what other evaluation rows would have taught the calibration
 * (a parametric bootstrap of its bins). It holds while rows of one score are hits as often as in the evaluation: a shift of
 * the inputs may be borne, a changed meaning of the target is not seen by any method that looks at scores alone.
 *
 * Source: J. Białek, W. Kuberski, N. Perrakis, A. Bifet, "Estimating model performance under covariate shift without
 * labels", 2024. Equal to NannyML 0.13.1 where it is given the same calibrated probabilities.
 *
 * Of more than 20,000 rows neighbouring scores are one (20,000 groups of equal size), which changes a figure by less than 5e-5, most of all the average precision.
 *
 * Pure computation: a sort of the rows, and twice `replicates` passes over at most 2,000 bins: 1.5 s for 1,000,000 rows. Call it in a worker thread.
 */
export function estimatePerformance(input: EstimateInput): EstimatedPerformance {
  const { task, calibration, intervals } = input;
  const scores = input.scores.filter(Number.isFinite);
  const told = { rows: scores.length, unusableAnswers: input.scores.length - scores.length, beyond: 0, confidence: intervals.confidence };
  const nothing = { ...told, confusion: null, metrics: {} };
  if (input.scores.length === 0) return { state: 'noRows', ...nothing };
  if (calibration !== 'exact' && calibration.length === 0) return { state: 'noCalibration', ...nothing };
  if (scores.length < Math.max(1, input.leastRows ?? LEAST_ROWS)) return { state: 'fewRows', ...nothing };

  // of several classes every answer is one that can be right: nothing lies below the threshold
  const threshold = task === 'binary' ? input.threshold : Number.NEGATIVE_INFINITY;
  const possible: readonly string[] = ESTIMATED_METRICS[task];
  const names = input.metrics?.filter((name) => possible.includes(name)) ?? possible;
  const learnt = calibration === 'exact' ? null : { bins: calibration, shares: isotonicShares(calibration) };
  const groups = groupsOf(sortedRows(scores), threshold, MOST_GROUPS);
  const probabilities =
    learnt === null ? groups.scores.map((score) => Math.min(1, Math.max(0, score))) : sharesAt(placesOf(groups.scores, learnt.bins), learnt.shares);
  const rows = { ...groups, probabilities };
  const values = bothOutcomes(rows.scores, threshold).values(names, bothWeights(rows.probabilities, rows.counts));
  const confusion = confusionAt(bothLabels(rows.scores.length), bothScores(rows.scores), threshold, bothWeights(rows.probabilities, rows.counts));
  const someAnswered = confusion.truePositives + confusion.falsePositives > 0;
  const valued = names.filter((name) => Number.isFinite(values[name]) && (name !== 'precision' || someAnswered));

  const bins = groupsOf(rows, threshold, MOST_DRAWN);
  const judge = bothOutcomes(bins.scores, threshold);
  const centre = judge.values(valued, bothWeights(bins.probabilities, bins.counts));
  const places = learnt === null ? null : placesOf(bins.scores, learnt.bins);
  const random = createRandom(intervals.seed);
  const errors = new Map(valued.map((name) => [name, { labels: new Float64Array(intervals.replicates), calibration: new Float64Array(intervals.replicates) }]));
  for (let replicate = 0; replicate < intervals.replicates; replicate++) {
    const hits = bins.probabilities.map((p, i) => binomial(bins.counts[i] as number, p, random) / (bins.counts[i] as number));
    const drawn = judge.values(valued, bothWeights(hits, bins.counts));
    const taught =
      learnt === null || places === null ? centre : judge.values(valued, bothWeights(relearnt(learnt.bins, learnt.shares, places, random), bins.counts));
    for (const [name, error] of errors) {
      error.labels[replicate] = (drawn[name] as number) - (centre[name] as number);
      error.calibration[replicate] = (centre[name] as number) - (taught[name] as number);
    }
  }
  const figures = [...errors].flatMap(([name, error]) => {
    const known = error.labels
      .map((labels, replicate) => labels + (error.calibration[replicate] as number))
      .filter(Number.isFinite)
      .sort();
    // a figure that many draws do not have says nothing certain
    if (known.length < intervals.replicates * 0.9) return [];
    const value = values[name] as number;
    const [low, high] = [quantileOf(known, (1 - intervals.confidence) / 2), quantileOf(known, (1 + intervals.confidence) / 2)];
    const [least, most] = [name === 'matthews' || name === 'cohenKappa' ? -1 : 0, name === 'logLoss' ? Number.POSITIVE_INFINITY : 1];
    return [
      [
        name,
        {
          value,
          low: Math.max(least, Math.min(value, value + low)),
          high: Math.min(most, Math.max(value, value + high)),
          samplingDeviation: deviationOf(error.labels),
          calibrationDeviation: deviationOf(error.calibration),
        },
      ] as const,
    ];
  });
  return {
    state: 'estimated',
    ...told,
    beyond: calibration === 'exact' ? 0 : shareBeyond(scores, calibration),
    confusion: task === 'binary' ? confusion : null,
    metrics: Object.fromEntries(figures),
  };
}

/**
 * What an evaluation's report tells of its scores; of a report of an earlier version its 15 bins of equal width. Empty where
 * it tells nothing, and of regressions and rankings.
 */
export function calibrationOf({ curves, task }: Pick<EvaluationReport, 'curves' | 'task'>): readonly ScoreBin[] {
  if (task !== 'binary' && task !== 'multiclass') return [];
  return (
    curves.scoreBins ??
    (curves.calibration ?? []).map(({ from, to, rows, meanProbability, frequency }) => ({
      from,
      to,
      meanScore: meanProbability,
      rows,
      hits: Math.round(frequency * rows),
    }))
  );
}

/** Every row twice, as a hit and as a miss, to be weighted by how probable either is. */
function bothOutcomes(scores: Float64Array, threshold: number): Judge {
  const answers = new Float64Array(scores.length * 4);
  scores.forEach((score, row) => {
    answers.set([1 - score, score], row * 2);
    answers.set([1 - score, score], (scores.length + row) * 2);
  });
  return binaryJudge(bothLabels(scores.length), answers, threshold);
}

const bothLabels = (rows: number): Float64Array => new Float64Array(2 * rows).fill(1, 0, rows);

function bothScores(scores: Float64Array): Float64Array {
  const both = new Float64Array(2 * scores.length);
  both.set(scores);
  both.set(scores, scores.length);
  return both;
}

function bothWeights(probabilities: Float64Array, counts: Float64Array | null): Float64Array {
  const rows = probabilities.length;
  const weights = new Float64Array(2 * rows);
  for (let row = 0; row < rows; row++) {
    const [p, count] = [probabilities[row] as number, counts?.[row] ?? 1];
    weights[row] = p * count;
    weights[rows + row] = (1 - p) * count;
  }
  return weights;
}

/** Rows, or groups of them, by falling score, with the means of what is in them. */
interface ScoreGroups {
  readonly scores: Float64Array;
  readonly probabilities: Float64Array;
  readonly counts: Float64Array;
}

/** Probabilities are still unknown. */
function sortedRows(scores: Float64Array): ScoreGroups {
  // by the values alone: a comparing function would be several times slower on a million rows
  const sorted = Float64Array.from(scores).sort().reverse();
  return { scores: sorted, probabilities: new Float64Array(sorted.length), counts: new Float64Array(sorted.length).fill(1) };
}

/** At most about `most` groups of equal size; equal scores are never parted, and no group lies across the threshold. */
function groupsOf({ scores, probabilities, counts }: ScoreGroups, threshold: number, most: number): ScoreGroups {
  const size = Math.ceil(counts.reduce((sum, count) => sum + count, 0) / most);
  const groups: { readonly greatest: number; least: number; score: number; probability: number; count: number }[] = [];
  let group: (typeof groups)[number] | undefined;
  for (let at = 0; at < scores.length; at++) {
    const [score, count] = [scores[at] as number, counts[at] as number];
    if (group === undefined || (score !== group.least && (group.count >= size || (group.least >= threshold && score < threshold)))) {
      groups.push((group = { greatest: score, least: score, score: 0, probability: 0, count: 0 }));
    }
    group.least = score;
    group.score += score * count;
    group.probability += (probabilities[at] as number) * count;
    group.count += count;
  }
  return {
    // rounding must not take a mean across the threshold
    scores: Float64Array.from(groups, ({ score, count, least, greatest }) => Math.max(least, Math.min(greatest, score / count))),
    probabilities: Float64Array.from(groups, ({ probability, count }) => Math.min(1, probability / count)),
    counts: Float64Array.from(groups, ({ count }) => count),
  };
}

/** The probabilities that a calibration gives which other rows of the evaluation have taught. */
function relearnt(calibration: readonly ScoreBin[], shares: Float64Array, places: ScorePlaces, random: Random): Float64Array {
  const hits = calibration.map(({ rows }, i) => binomial(rows, shares[i] as number, random));
  return sharesAt(places, isotonicShares(calibration, hits));
}

function shareBeyond(scores: Float64Array, calibration: readonly ScoreBin[]): number {
  const [least, greatest] = [calibration[0]?.from ?? Number.NaN, calibration.at(-1)?.to ?? Number.NaN];
  return scores.reduce((sum, score) => sum + (score < least || score > greatest ? 1 : 0), 0) / scores.length;
}

function deviationOf(values: Float64Array): number {
  const known = values.filter(Number.isFinite);
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length);
}
