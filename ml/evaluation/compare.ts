import { createJudge, higherIsBetter } from '../metrics.ts';
import { shuffledIndices } from '../random.ts';
import { delong } from './delong.ts';
import { type JudgedAnswers, pickRows, positiveScores } from './intervals.ts';
import type { Judge } from './judge.ts';
import { mostProbable } from './multiclass.ts';
import { fairCoinsAtMost, normalQuantile, normalTail, quantileOf } from './normal.ts';
import { rowResampler, strataOf } from './resample.ts';

/** Two models on the same rows. `improvement` is positive where the first is better, whichever way the metric goes. */
export interface PairedComparison {
  readonly metric: string;
  readonly method: 'delong' | 'mcnemar' | 'paired-bootstrap';
  readonly improvement: number;
  /** Two-sided, at `confidence`. */
  readonly low: number;
  readonly high: number;
  readonly confidence: number;
  /** Two-sided: how often a difference as great would be seen were there none. */
  readonly pValue: number;
  /** The improvement is at least this, at `confidence` (one-sided). */
  readonly atLeast: number;
  /** One-sided: of "it is no improvement". */
  readonly pNoBetter: number;
}

export interface CompareOptions {
  readonly confidence: number;
  readonly replicates: number;
  readonly seed: number;
}

/** Above so many rows that are answered differently the exact test adds nothing. */
const MOST_EXACT = 1_000;
/** Rows × replicates of a paired bootstrap; at least 200 replicates are drawn. */
const MOST_DRAWN = 50_000_000;
/** Of more rows a sample is resampled, and its spread narrowed by √(sample / rows) (Bickel, Götze & van Zwet 1997). */
const MOST_ROWS = 200_000;
const LEAST_REPLICATES = 200;

/**
 * Whether `mine` is better than `theirs` by more than noise. AUC: DeLong's test. Accuracy: McNemar's, exact up to 1,000
 * rows on which one alone is right, with Bonett & Price's interval (2012). Any other metric: a paired bootstrap, drawn by class,
 * of rankings by group.
 */
export function compareOnRows(metric: string, mine: JudgedAnswers, theirs: JudgedAnswers, options: CompareOptions): PairedComparison {
  if (metric === 'auc' && mine.task.kind === 'binary' && theirs.task.kind === 'binary') return byDelong(mine, theirs, options);
  if (metric === 'accuracy' && mine.task.kind !== 'regression') return byMcnemar(mine, theirs, options);
  return byBootstrap(metric, mine, theirs, options);
}

function byDelong(mine: JudgedAnswers, theirs: JudgedAnswers, { confidence }: CompareOptions): PairedComparison {
  const { auc, covariance } = delong(mine.y, [positiveScores(mine.answers), positiveScores(theirs.answers)]);
  const at = (i: number, j: number): number => covariance[i]?.[j] ?? Number.NaN;
  // rounding may leave a little less than nothing where both order the rows alike
  const spread = Math.sqrt(Math.max(0, at(0, 0) + at(1, 1) - 2 * at(0, 1)));
  return normal('auc', 'delong', (auc[0] ?? Number.NaN) - (auc[1] ?? Number.NaN), spread, confidence);
}

function normal(metric: string, method: PairedComparison['method'], improvement: number, spread: number, confidence: number): PairedComparison {
  const half = normalQuantile((1 + confidence) / 2) * spread;
  const z = spread === 0 ? (improvement === 0 ? 0 : Math.sign(improvement) * Number.POSITIVE_INFINITY) : improvement / spread;
  return {
    metric,
    method,
    improvement,
    low: improvement - half,
    high: improvement + half,
    confidence,
    pValue: Math.min(1, 2 * normalTail(Math.abs(z))),
    atLeast: improvement - normalQuantile(confidence) * spread,
    pNoBetter: normalTail(z),
  };
}

/** Whether each row is answered rightly. */
function right({ task, y, answers, threshold }: JudgedAnswers): Uint8Array {
  const answered =
    task.kind === 'binary' ? positiveScores(answers).map((score) => (score >= threshold ? 1 : 0)) : mostProbable(answers, answers.length / y.length);
  return Uint8Array.from(y, (label, row) => (answered[row] === label ? 1 : 0));
}

function byMcnemar(mine: JudgedAnswers, theirs: JudgedAnswers, { confidence }: CompareOptions): PairedComparison {
  const [a, b] = [right(mine), right(theirs)];
  let [mineAlone, theirsAlone] = [0, 0];
  a.forEach((own, row) => {
    if (own === 1 && b[row] === 0) mineAlone++;
    else if (own === 0 && b[row] === 1) theirsAlone++;
  });
  const rows = a.length;
  const differ = mineAlone + theirsAlone;
  const adjusted = { mine: (mineAlone + 1) / (rows + 2), theirs: (theirsAlone + 1) / (rows + 2) };
  const centre = adjusted.mine - adjusted.theirs;
  const spread = Math.sqrt((adjusted.mine + adjusted.theirs - centre ** 2) / (rows + 2));
  const half = normalQuantile((1 + confidence) / 2) * spread;
  // of many the normal distribution, with the continuity correction
  const oneSided = (few: number, many: number): number =>
    differ <= MOST_EXACT ? fairCoinsAtMost(few, differ) : normalTail((many - few - 1) / Math.sqrt(differ));
  return {
    metric: 'accuracy',
    method: 'mcnemar',
    improvement: (mineAlone - theirsAlone) / rows,
    low: centre - half,
    high: centre + half,
    confidence,
    pValue: Math.min(1, 2 * oneSided(Math.min(mineAlone, theirsAlone), Math.max(mineAlone, theirsAlone))),
    atLeast: centre - normalQuantile(confidence) * spread,
    pNoBetter: oneSided(theirsAlone, mineAlone),
  };
}

function byBootstrap(metric: string, mine: JudgedAnswers, theirs: JudgedAnswers, options: CompareOptions): PairedComparison {
  const judgeOf = ({ task, y, answers, threshold }: JudgedAnswers): Judge => createJudge(task, y, answers, threshold);
  if (mine.task.kind === 'ranking') {
    const [own, other] = [judgeOf(mine), judgeOf(theirs)];
    return compareJudges(metric, own, other, [Uint32Array.from({ length: own.rows }, (_, group) => group)], options);
  }
  const classes = mine.task.kind === 'regression' ? undefined : mine.task.kind === 'binary' ? 2 : mine.task.classes;
  const rows = mine.y.length;
  if (rows <= MOST_ROWS) return compareJudges(metric, judgeOf(mine), judgeOf(theirs), strataOf(mine.y, classes), options);
  const sample = shuffledIndices(rows, options.seed).subarray(0, MOST_ROWS).sort();
  const [a, b] = [pickRows(mine, sample), pickRows(theirs, sample)];
  const whole = improvementOf(metric, judgeOf(mine), judgeOf(theirs));
  return compareJudges(metric, judgeOf(a), judgeOf(b), strataOf(a.y, classes), options, { improvement: whole, scale: Math.sqrt(MOST_ROWS / rows) });
}

function improvementOf(metric: string, mine: Judge, theirs: Judge, weights?: Float64Array): number {
  const [a, b] = [mine, theirs].map((judge) => judge.values([metric], weights)[metric] ?? Number.NaN) as [number, number];
  return higherIsBetter(metric) ? a - b : b - a;
}

/** Compares what two judges find, by resampling what they judge (rows, or groups of rows) alike for both. Of a sample: `whole` is what all rows say. */
export function compareJudges(
  metric: string,
  mine: Judge,
  theirs: Judge,
  strata: readonly Uint32Array[],
  { confidence, replicates, seed }: CompareOptions,
  whole?: { readonly improvement: number; readonly scale: number },
): PairedComparison {
  const draw = rowResampler(strata, mine.rows, seed);
  const count = Math.max(Math.min(replicates, LEAST_REPLICATES), Math.min(replicates, Math.floor(MOST_DRAWN / mine.rows)));
  const here = improvementOf(metric, mine, theirs);
  const { improvement, scale } = whole ?? { improvement: here, scale: 1 };
  const drawn = Float64Array.from({ length: count }, () => {
    const found = improvementOf(metric, mine, theirs, draw());
    return whole === undefined ? found : improvement + (found - here) * scale;
  })
    .filter(Number.isFinite)
    .sort();
  const notAbove = drawn.reduce((found, value) => found + (value <= 0 ? 1 : 0), 0);
  const notBelow = drawn.reduce((found, value) => found + (value >= 0 ? 1 : 0), 0);
  const share = (found: number): number => Math.min(1, (found + 1) / (drawn.length + 1));
  return {
    metric,
    method: 'paired-bootstrap',
    improvement,
    low: quantileOf(drawn, (1 - confidence) / 2),
    high: quantileOf(drawn, (1 + confidence) / 2),
    confidence,
    pValue: Math.min(1, 2 * Math.min(share(notAbove), share(notBelow))),
    atLeast: quantileOf(drawn, 1 - confidence),
    pNoBetter: share(notAbove),
  };
}
