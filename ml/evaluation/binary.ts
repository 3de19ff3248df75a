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
      ranks: once(() => rankFigures(y, scores, ordered(), weights)),
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

/** One pass from the highest score down; rows of equal scores count at once. NaN where a class is absent. */
function rankFigures(y: Float64Array, scores: Float64Array, order: Uint32Array, weights: Float64Array | undefined): RankFigures {
  const rows = order.length;
  let allPositive = 0;
  let allNegative = 0;
  for (let row = 0; row < rows; row++) {
    const weight = weights === undefined ? 1 : (weights[row] as number);
    if (y[row] === 1) allPositive += weight;
    else allNegative += weight;
  }
  let above = 0;
  let negativesAbove = 0;
  let area = 0;
  let precisionSum = 0;
  let ks = 0;
  for (let i = 0; i < rows; ) {
    const score = scores[order[i] as number];
    let positives = 0;
    let negatives = 0;
    for (; i < rows && scores[order[i] as number] === score; i++) {
      const row = order[i] as number;
      const weight = weights === undefined ? 1 : (weights[row] as number);
      if (y[row] === 1) positives += weight;
      else negatives += weight;
    }
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
