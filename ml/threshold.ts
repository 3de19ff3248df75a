import { scoreLevels } from './metrics.ts';

/** What a threshold is chosen for. */
export type ThresholdRule =
  | 'f1'
  | 'accuracy'
  /** Least cost: what each kind of answer costs (a gain is negative), default 0. */
  | {
      readonly costs: {
        readonly falsePositive: number;
        readonly falseNegative: number;
        readonly truePositive?: number | undefined;
        readonly trueNegative?: number | undefined;
      };
    }
  /** Highest recall among those of at least this precision. */
  | { readonly precision: number }
  /** Highest precision among those of at least this recall. */
  | { readonly recall: number };

export interface ChosenThreshold {
  readonly threshold: number;
  /** What was made best: the metric, or the cost a row. */
  readonly value: number;
  readonly precision: number;
  readonly recall: number;
  /** False where no threshold reaches the precision or recall that was asked for: this one comes nearest. */
  readonly reached: boolean;
}

/** Rows answered positive from a threshold on. */
interface Cut {
  readonly truePositives: number;
  readonly falsePositives: number;
  readonly positive: number;
  readonly negative: number;
}

const precisionOf = ({ truePositives, falsePositives }: Cut): number =>
  truePositives + falsePositives === 0 ? 0 : truePositives / (truePositives + falsePositives);
const recallOf = ({ truePositives, positive }: Cut): number => (positive === 0 ? 0 : truePositives / positive);

/** What is compared, one after the other, the greater the better; and what is told. */
function worthOf(rule: ThresholdRule): (cut: Cut) => { readonly worth: readonly number[]; readonly value: number; readonly reached: boolean } {
  if (rule === 'f1')
    return (cut) => {
      const whole = cut.truePositives + cut.falsePositives + cut.positive;
      const f1 = whole === 0 ? 0 : (2 * cut.truePositives) / whole;
      return { worth: [f1], value: f1, reached: true };
    };
  if (rule === 'accuracy')
    return (cut) => {
      const accuracy = (cut.truePositives + cut.negative - cut.falsePositives) / (cut.positive + cut.negative);
      return { worth: [accuracy], value: accuracy, reached: true };
    };
  if ('costs' in rule) {
    const { falsePositive, falseNegative, truePositive = 0, trueNegative = 0 } = rule.costs;
    return ({ truePositives, falsePositives, positive, negative }) => {
      const cost =
        falsePositives * falsePositive + (positive - truePositives) * falseNegative + truePositives * truePositive + (negative - falsePositives) * trueNegative;
      return { worth: [-cost], value: cost / (positive + negative), reached: true };
    };
  }
  const [target, bound, free] = 'precision' in rule ? [rule.precision, precisionOf, recallOf] : [rule.recall, recallOf, precisionOf];
  return (cut) => {
    const reached = bound(cut) >= target;
    return { worth: reached ? [1, free(cut), bound(cut)] : [0, bound(cut), free(cut)], value: free(cut), reached };
  };
}

/**
 * The probability of the positive class from which on it is answered, so that the rule is met best on these rows: halfway
 * between the last score that is answered and the next one. Of equal ones the threshold nearest to 0.5 is taken. Choose
 * it on validation rows, never on test rows.
 */
export function bestThreshold(y: Float64Array, scores: Float64Array, rule: ThresholdRule, weights?: Float64Array): ChosenThreshold {
  const levels = scoreLevels(y, scores, weights);
  const positive = levels.reduce((sum, level) => sum + level.positives, 0);
  const negative = levels.reduce((sum, level) => sum + level.negatives, 0);
  const judge = worthOf(rule);
  let best: { readonly worth: readonly number[]; readonly chosen: ChosenThreshold } | undefined;
  const consider = (truePositives: number, falsePositives: number, threshold: number): void => {
    const cut = { truePositives, falsePositives, positive, negative };
    const { worth, value, reached } = judge(cut);
    const order = best === undefined ? 1 : compare(worth, best.worth);
    const nearer = best !== undefined && Math.abs(threshold - 0.5) < Math.abs(best.chosen.threshold - 0.5);
    if (order > 0 || (order === 0 && nearer)) best = { worth, chosen: { threshold, value, reached, precision: precisionOf(cut), recall: recallOf(cut) } };
  };
  const highest = levels[0]?.score ?? 1;
  // Answering nothing: the threshold stands above every score, where there is room.
  if (highest < 1) consider(0, 0, (highest + 1) / 2);
  let truePositives = 0;
  let falsePositives = 0;
  levels.forEach(({ score, positives, negatives }, i) => {
    truePositives += positives;
    falsePositives += negatives;
    const next = levels[i + 1]?.score ?? 0;
    const middle = (score + next) / 2;
    consider(truePositives, falsePositives, middle > next ? middle : score);
  });
  return best?.chosen ?? { threshold: 0.5, value: Number.NaN, reached: false, precision: 0, recall: 0 };
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [i, value] of a.entries()) if (value !== b[i]) return value - (b[i] ?? 0);
  return 0;
}
