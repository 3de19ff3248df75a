import type { ScoreBin } from '../../contracts/window-quality.ts';
import { confusionAt } from './binary.ts';
import { scoreBinsOf } from './calibration.ts';
import { type JudgedAnswers, positiveScores } from './intervals.ts';
import { mostProbable } from './multiclass.ts';
import { quantileOf, wilsonInterval } from './normal.ts';
import { scoreLevels } from '../metrics.ts';

/** What a page draws of a model's answers. Lists have at most 200 points. */
export interface Curves {
  /** From the highest threshold to the lowest. Binary. */
  readonly roc?: readonly { readonly threshold: number; readonly falsePositiveRate: number; readonly truePositiveRate: number }[];
  readonly precisionRecall?: readonly { readonly threshold: number; readonly precision: number; readonly recall: number }[];
  /** Bins with rows, of equal width: of the positive class, or of the answered one. `low` and `high` are Wilson's 95 % interval of the frequency. */
  readonly calibration?: readonly CalibrationBin[];
  /** Of the same scores, in bins of about equal rows of either outcome: what estimated performance is calibrated by. */
  readonly scoreBins?: readonly ScoreBin[];
  /** Murphy's parts of the Brier score (1973) over these bins; `within` is what binning leaves (Stephenson 2008). Binary. */
  readonly brierParts?: { readonly reliability: number; readonly resolution: number; readonly uncertainty: number; readonly within: number };
  /** `counts[i][j]`: rows of class i that are answered j. The most frequent classes, at most 50; the others are the last row and column. */
  readonly confusion?: { readonly classes: readonly string[]; readonly counts: readonly (readonly number[])[] };
  /** Of a regression: target minus answer. */
  readonly residuals?: {
    /** Rows in even steps from the least answer to the greatest. */
    readonly points: readonly { readonly answer: number; readonly residual: number }[];
    readonly histogram: readonly { readonly from: number; readonly to: number; readonly rows: number }[];
    readonly quantiles: Readonly<Record<'1%' | '5%' | '25%' | '50%' | '75%' | '95%' | '99%', number>>;
  };
}

export interface CalibrationBin {
  readonly from: number;
  readonly to: number;
  readonly rows: number;
  readonly meanProbability: number;
  readonly frequency: number;
  readonly low: number;
  readonly high: number;
}

const MOST_POINTS = 200;
const CALIBRATION_BINS = 15;
const MOST_CLASSES = 50;
const HISTOGRAM_BINS = 40;
const OTHERS = '(others)';

/** The curves that fit the task. `classes` are the texts of the classes in their order. */
export function curvesOf(judged: JudgedAnswers, classes: readonly string[]): Curves {
  const { task, y, answers, threshold } = judged;
  // a ranking's scores are no estimates of the target
  if (task.kind === 'ranking') return {};
  if (task.kind === 'regression') return { residuals: residualsOf(y, answers) };
  if (task.kind === 'multiclass') {
    const answered = mostProbable(answers, task.classes);
    const right = Float64Array.from(answered, (k, row) => (k === y[row] ? 1 : 0));
    const confidence = Float64Array.from(answered, (k, row) => answers[row * task.classes + k] as number);
    return { calibration: calibrationOf(right, confidence), scoreBins: scoreBinsOf(confidence, right), confusion: confusionTable(y, answered, classes) };
  }
  const scores = positiveScores(answers);
  const c = confusionAt(y, scores, threshold);
  const calibration = calibrationOf(y, scores);
  return {
    ...ranksOf(y, scores),
    calibration,
    scoreBins: scoreBinsOf(scores, y),
    brierParts: brierParts(y, scores, calibration),
    confusion: {
      classes,
      counts: [
        [c.trueNegatives, c.falsePositives],
        [c.falseNegatives, c.truePositives],
      ],
    },
  };
}

function ranksOf(y: Float64Array, scores: Float64Array): Pick<Curves, 'roc' | 'precisionRecall'> {
  const levels = scoreLevels(y, scores);
  const positives = levels.reduce((sum, level) => sum + level.positives, 0);
  const negatives = y.length - positives;
  if (positives === 0 || negatives === 0) return {};
  let [above, wrong] = [0, 0];
  const all = levels.map((level) => {
    above += level.positives;
    wrong += level.negatives;
    return { threshold: level.score, above, wrong };
  });
  // in even steps along the curve, so that steep parts keep their shape
  const kept: typeof all = [];
  let reached = -1;
  const step = (2 * 1.001) / (MOST_POINTS - 2);
  for (const point of all) {
    const length = point.above / positives + point.wrong / negatives;
    if (point !== all.at(-1) && reached >= 0 && length - reached < step) continue;
    reached = length;
    kept.push(point);
  }
  return {
    roc: kept.map((p) => ({ threshold: p.threshold, falsePositiveRate: p.wrong / negatives, truePositiveRate: p.above / positives })),
    precisionRecall: kept.map((p) => ({ threshold: p.threshold, precision: p.above / (p.above + p.wrong), recall: p.above / positives })),
  };
}

function calibrationOf(outcome: Float64Array, probability: Float64Array): CalibrationBin[] {
  const bins = Array.from({ length: CALIBRATION_BINS }, () => ({ rows: 0, sum: 0, hits: 0 }));
  outcome.forEach((hit, row) => {
    const p = probability[row] as number;
    const bin = bins[Math.max(0, Math.min(CALIBRATION_BINS - 1, Math.floor(p * CALIBRATION_BINS)))];
    if (!bin) return;
    bin.rows++;
    bin.sum += p;
    bin.hits += hit;
  });
  return bins.flatMap(({ rows, sum, hits }, i) =>
    rows === 0
      ? []
      : [
          {
            from: i / CALIBRATION_BINS,
            to: (i + 1) / CALIBRATION_BINS,
            rows,
            meanProbability: sum / rows,
            frequency: hits / rows,
            ...wilsonInterval(hits, rows, 0.95),
          },
        ],
  );
}

function brierParts(y: Float64Array, scores: Float64Array, bins: readonly CalibrationBin[]): NonNullable<Curves['brierParts']> {
  const rows = y.length;
  const base = y.reduce((sum, label) => sum + label, 0) / rows;
  const brier = y.reduce((sum, label, row) => sum + ((scores[row] as number) - label) ** 2, 0) / rows;
  const reliability = bins.reduce((sum, bin) => sum + bin.rows * (bin.meanProbability - bin.frequency) ** 2, 0) / rows;
  const resolution = bins.reduce((sum, bin) => sum + bin.rows * (bin.frequency - base) ** 2, 0) / rows;
  const uncertainty = base * (1 - base);
  return { reliability, resolution, uncertainty, within: brier - (reliability - resolution + uncertainty) };
}

function confusionTable(y: Float64Array, answered: Float64Array, classes: readonly string[]): NonNullable<Curves['confusion']> {
  const rowsOf = new Float64Array(classes.length);
  y.forEach((label) => (rowsOf[label] = (rowsOf[label] as number) + 1));
  const frequent = [...classes.keys()].sort((a, b) => (rowsOf[b] as number) - (rowsOf[a] as number) || a - b).slice(0, MOST_CLASSES);
  const shown = frequent.sort((a, b) => a - b);
  const names = shown.map((k) => classes[k] as string);
  const whole = shown.length === classes.length;
  const placeOf = new Map(shown.map((k, i) => [k, i]));
  const width = shown.length + (whole ? 0 : 1);
  const counts = Array.from({ length: width }, () => new Array<number>(width).fill(0));
  y.forEach((label, row) => {
    const line = counts[placeOf.get(label) ?? width - 1];
    const cell = placeOf.get(answered[row] as number) ?? width - 1;
    if (line) line[cell] = (line[cell] as number) + 1;
  });
  return { classes: whole ? names : [...names, OTHERS], counts };
}

function residualsOf(y: Float64Array, answers: Float64Array): NonNullable<Curves['residuals']> {
  const residuals = Float64Array.from(y, (value, row) => value - (answers[row] as number));
  const sorted = Float64Array.from(residuals).sort();
  const byAnswer = Uint32Array.from(answers.keys()).sort((a, b) => (answers[a] as number) - (answers[b] as number) || a - b);
  const shown = Math.min(MOST_POINTS, y.length);
  const points = Array.from({ length: shown }, (_, i) => {
    const row = byAnswer[shown === 1 ? 0 : Math.round((i * (y.length - 1)) / (shown - 1))] as number;
    return { answer: answers[row] as number, residual: residuals[row] as number };
  });
  const [from, to] = [quantileOf(sorted, 0.005), quantileOf(sorted, 0.995)];
  const width = (to - from) / HISTOGRAM_BINS;
  const bins = new Float64Array(HISTOGRAM_BINS);
  // the half percent at each end stands in the outermost bins
  for (const residual of residuals) {
    const bin = width === 0 ? 0 : Math.max(0, Math.min(HISTOGRAM_BINS - 1, Math.floor((residual - from) / width)));
    bins[bin] = (bins[bin] as number) + 1;
  }
  const at = (share: number): number => quantileOf(sorted, share);
  return {
    points,
    histogram: width === 0 ? [{ from, to, rows: y.length }] : [...bins].map((rows, i) => ({ from: from + i * width, to: from + (i + 1) * width, rows })),
    quantiles: { '1%': at(0.01), '5%': at(0.05), '25%': at(0.25), '50%': at(0.5), '75%': at(0.75), '95%': at(0.95), '99%': at(0.99) },
  };
}
