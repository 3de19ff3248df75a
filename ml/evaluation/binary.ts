import { descendingOrder, type Figures, type Judge, judgeOf, once, ratio, requireAnswers, totalOf } from './judge.ts';

const ECE_BINS = 15;

export interface Confusion {
  readonly truePositives: number;
  readonly falsePositives: number;
  readonly falseNegatives: number;
  readonly trueNegatives: number;
}

/** Areas under the curves of a ranking, and the widest gap between the two classes' distributions. */
interface RankFigures {
  readonly auc: number;
  readonly averagePrecision: number;
  readonly ks: number;
}

interface Pass {
  readonly confusion: () => Confusion;
  readonly ranks: () => RankFigures;
  readonly total: () => number;
  readonly logLoss: () => number;
  readonly brier: () => number;
  readonly ece: () => number;
}

const FIGURES: Figures<Pass> = {
  auc: (pass) => pass.ranks().auc,
  averagePrecision: (pass) => pass.ranks().averagePrecision,
  logLoss: (pass) => pass.logLoss(),
  brier: (pass) => pass.brier(),
  accuracy: (pass) => ratio(pass.confusion().truePositives + pass.confusion().trueNegatives, pass.total()),
  precision: (pass) => precisionOf(pass.confusion()),
  recall: (pass) => recallOf(pass.confusion()),
  f1: (pass) => f1Of(pass.confusion()),
  macroF1: (pass) => meanOfClasses(pass.confusion(), f1Of, false, occurs),
  specificity: (pass) => recallOf(turned(pass.confusion())),
  balancedAccuracy: (pass) => meanOfClasses(pass.confusion(), recallOf, false, (c) => c.truePositives + c.falseNegatives > 0),
  macroPrecision: (pass) => meanOfClasses(pass.confusion(), precisionOf, false, occurs),
  macroRecall: (pass) => meanOfClasses(pass.confusion(), recallOf, false, occurs),
  weightedPrecision: (pass) => meanOfClasses(pass.confusion(), precisionOf, true, occurs),
  weightedRecall: (pass) => meanOfClasses(pass.confusion(), recallOf, true, occurs),
  weightedF1: (pass) => meanOfClasses(pass.confusion(), f1Of, true, occurs),
  matthews: (pass) => matthewsOf(pass.confusion()),
  cohenKappa: (pass) => kappaOf(pass.confusion(), pass.total()),
  ece: (pass) => pass.ece(),
  ks: (pass) => pass.ranks().ks,
};

/**
 * Judges a binary classification: `probabilities` is [rows × 2], column 1 that of the positive class, which is answered
 * from `threshold` on.
 * @throws SOURCE_EMPTY, MODEL_INVALID
 */
export function binaryJudge(y: Float64Array, probabilities: Float64Array, threshold = 0.5): Judge {
  requireAnswers(y, probabilities, 2);
  const rows = y.length;
  const scores = new Float64Array(rows);
  for (let row = 0; row < rows; row++) scores[row] = probabilities[2 * row + 1] as number;
  const ordered = once(() => descendingOrder(scores));
  const losses = once(() => {
    const found = new Float64Array(rows);
    for (let row = 0; row < rows; row++)
      found[row] = -Math.log(Math.min(1 - Number.EPSILON, Math.max(Number.EPSILON, probabilities[2 * row + (y[row] as number)] as number)));
    return found;
  });
  return judgeOf<Pass>(rows, FIGURES, (weights) => {
    const total = once(() => totalOf(weights, rows));
    const mean = (of: (row: number) => number): number => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += (weights === undefined ? 1 : (weights[row] as number)) * of(row);
      return sum / total();
    };
    return {
      total,
      confusion: once(() => confusionAt(y, scores, threshold, weights)),
      ranks: once(() => rankFigures(weights === undefined ? plainLevels(y, scores) : weightedLevels(y, scores, ordered(), weights))),
      logLoss: once(() => {
        const loss = losses();
        return mean((row) => loss[row] as number);
      }),
      brier: once(() => mean((row) => ((scores[row] as number) - (y[row] as number)) ** 2)),
      ece: once(() => calibrationError(y, scores, weights, total())),
    };
  });
}

/** The weights of the rows by what they are and what is answered. */
export function confusionAt(y: Float64Array, scores: Float64Array, threshold: number, weights?: Float64Array): Confusion {
  const cells = [0, 0, 0, 0] as [number, number, number, number];
  for (let row = 0; row < y.length; row++) {
    const cell = (y[row] === 1 ? 2 : 0) + ((scores[row] as number) >= threshold ? 1 : 0);
    cells[cell] = (cells[cell] as number) + (weights === undefined ? 1 : (weights[row] as number));
  }
  return { trueNegatives: cells[0], falsePositives: cells[1], falseNegatives: cells[2], truePositives: cells[3] };
}

/** Different scores from the highest one down, with the weights of each class at them. */
interface Levels {
  readonly count: number;
  readonly positives: Float64Array;
  readonly negatives: Float64Array;
}

function weightedLevels(y: Float64Array, scores: Float64Array, order: Uint32Array, weights: Float64Array): Levels {
  const rows = order.length;
  const [positives, negatives] = [new Float64Array(rows), new Float64Array(rows)];
  let count = 0;
  for (let i = 0; i < rows; count++) {
    const score = scores[order[i] as number];
    for (; i < rows && scores[order[i] as number] === score; i++) {
      const row = order[i] as number;
      const side = y[row] === 1 ? positives : negatives;
      side[count] = (side[count] as number) + (weights[row] as number);
    }
  }
  return { count, positives, negatives };
}

/** Of rows that count once: to sort each class's scores is several times faster than to order the rows. */
function plainLevels(y: Float64Array, scores: Float64Array): Levels {
  const rows = scores.length;
  let hits = 0;
  for (let row = 0; row < rows; row++) if (y[row] === 1) hits++;
  const [above, below] = [new Float64Array(hits), new Float64Array(rows - hits)];
  for (let row = 0, a = 0, b = 0; row < rows; row++) {
    if (y[row] === 1) above[a++] = scores[row] as number;
    else below[b++] = scores[row] as number;
  }
  above.sort();
  below.sort();
  const [positives, negatives] = [new Float64Array(rows), new Float64Array(rows)];
  let count = 0;
  for (let a = above.length - 1, b = below.length - 1; a >= 0 || b >= 0; count++) {
    const score = Math.max(a < 0 ? Number.NEGATIVE_INFINITY : (above[a] as number), b < 0 ? Number.NEGATIVE_INFINITY : (below[b] as number));
    const [lastA, lastB] = [a, b];
    while (a >= 0 && above[a] === score) a--;
    while (b >= 0 && below[b] === score) b--;
    positives[count] = lastA - a;
    negatives[count] = lastB - b;
  }
  return { count, positives, negatives };
}

/** One pass from the highest score down; rows of equal scores count at once. NaN where a class is absent. */
function rankFigures({ count, positives: hits, negatives: misses }: Levels): RankFigures {
  let allPositive = 0;
  let allNegative = 0;
  for (let level = 0; level < count; level++) {
    allPositive += hits[level] as number;
    allNegative += misses[level] as number;
  }
  let above = 0;
  let negativesAbove = 0;
  let area = 0;
  let precisionSum = 0;
  let ks = 0;
  for (let level = 0; level < count; level++) {
    const [positives, negatives] = [hits[level] as number, misses[level] as number];
    area += negatives * (above + positives / 2);
    above += positives;
    negativesAbove += negatives;
    if (above + negativesAbove > 0) precisionSum += positives * (above / (above + negativesAbove));
    ks = Math.max(ks, Math.abs(above / allPositive - negativesAbove / allNegative));
  }
  const both = allPositive > 0 && allNegative > 0;
  return {
    auc: both ? area / (allPositive * allNegative) : Number.NaN,
    averagePrecision: allPositive > 0 ? precisionSum / allPositive : Number.NaN,
    ks: both ? ks : Number.NaN,
  };
}

/** Expected calibration error over bins of equal width: [0, 1/15), …, [14/15, 1]. */
export function calibrationError(outcome: Float64Array, probability: Float64Array, weights: Float64Array | undefined, total: number): number {
  const gaps = new Float64Array(ECE_BINS);
  for (let row = 0; row < outcome.length; row++) {
    const p = probability[row] as number;
    const bin = Math.max(0, Math.min(ECE_BINS - 1, Math.floor(p * ECE_BINS)));
    gaps[bin] = (gaps[bin] as number) + (weights === undefined ? 1 : (weights[row] as number)) * (p - (outcome[row] as number));
  }
  return gaps.reduce((sum, gap) => sum + Math.abs(gap), 0) / total;
}

const turned = (c: Confusion): Confusion => ({
  truePositives: c.trueNegatives,
  falsePositives: c.falseNegatives,
  falseNegatives: c.falsePositives,
  trueNegatives: c.truePositives,
});
const precisionOf = (c: Confusion): number => ratio(c.truePositives, c.truePositives + c.falsePositives);
const recallOf = (c: Confusion): number => ratio(c.truePositives, c.truePositives + c.falseNegatives);
const f1Of = (c: Confusion): number => ratio(2 * c.truePositives, 2 * c.truePositives + c.falsePositives + c.falseNegatives);
const occurs = (c: Confusion): boolean => c.truePositives + c.falsePositives + c.falseNegatives > 0;

function meanOfClasses(c: Confusion, figure: (of: Confusion) => number, byRows: boolean, counts: (of: Confusion) => boolean): number {
  const classes = [c, turned(c)].filter(counts);
  const weightOf = (of: Confusion): number => (byRows ? of.truePositives + of.falseNegatives : 1);
  return ratio(
    classes.reduce((sum, of) => sum + weightOf(of) * figure(of), 0),
    classes.reduce((sum, of) => sum + weightOf(of), 0),
  );
}

function matthewsOf({ truePositives: tp, falsePositives: fp, falseNegatives: fn, trueNegatives: tn }: Confusion): number {
  return ratio(tp * tn - fp * fn, Math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)));
}

/** Cohen (1960): agreement above that of chance. NaN where chance alone agrees wholly, as scikit-learn has it. */
function kappaOf({ truePositives: tp, falsePositives: fp, falseNegatives: fn, trueNegatives: tn }: Confusion, total: number): number {
  const expectedDisagreement = ((tp + fp) * (fp + tn) + (fn + tn) * (tp + fn)) / total;
  return expectedDisagreement === 0 ? Number.NaN : 1 - (fp + fn) / expectedDisagreement;
}
