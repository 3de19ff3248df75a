import { type Figures, type Judge, judgeOf, once, requireAnswers, totalOf } from './judge.ts';

interface Pass {
  readonly total: () => number;
  /** Weighted mean of a function of the row. */
  readonly mean: (of: (row: number) => number) => number;
  readonly targetMean: () => number;
  readonly weights: Float64Array | undefined;
}

/** x ln(x / y), 0 at 0. */
const xlogy = (x: number, y: number): number => (x === 0 ? 0 : x * Math.log(x / y));
const poisson = (value: number, answer: number): number => 2 * (xlogy(value, answer) - value + answer);
/** 1 where both are nothing, 0 where only the reference is. */
const explained = (loss: number, reference: number): number => (reference === 0 ? (loss === 0 ? 1 : 0) : 1 - loss / reference);

/**
 * Judges a regression.
 * @throws SOURCE_EMPTY, MODEL_INVALID
 */
export function regressionJudge(y: Float64Array, answers: Float64Array): Judge {
  requireAnswers(y, answers, 1);
  const rows = y.length;
  const value = (row: number): number => y[row] as number;
  const answer = (row: number): number => answers[row] as number;
  const errors = Float64Array.from(y, (target, row) => target - (answers[row] as number));
  const error = (row: number): number => errors[row] as number;
  const everyRow = (holds: (row: number) => boolean): boolean => {
    for (let row = 0; row < rows; row++) if (!holds(row)) return false;
    return true;
  };
  const isPoisson = once(() => everyRow((row) => value(row) >= 0 && answer(row) > 0));
  const isGamma = once(() => everyRow((row) => value(row) > 0 && answer(row) > 0));
  const isLog = once(() => everyRow((row) => value(row) > -1 && answer(row) > -1));
  const byError = once(() => ascending(errors.map(Math.abs)));
  const byTarget = once(() => ascending(y));
  const pinball = (alpha: number) => (pass: Pass) => pass.mean((row) => (error(row) >= 0 ? alpha * error(row) : (alpha - 1) * error(row)));
  const figures: Figures<Pass> = {
    rmse: (pass) => Math.sqrt(pass.mean((row) => error(row) ** 2)),
    mae: (pass) => pass.mean((row) => Math.abs(error(row))),
    r2: (pass) => {
      const mean = pass.targetMean();
      return explained(
        pass.mean((row) => error(row) ** 2),
        pass.mean((row) => (value(row) - mean) ** 2),
      );
    },
    medae: (pass) => middle(byError(), pass),
    mape: (pass) => pass.mean((row) => Math.abs(error(row)) / Math.max(Math.abs(value(row)), Number.EPSILON)),
    smape: (pass) => pass.mean((row) => (error(row) === 0 ? 0 : (2 * Math.abs(error(row))) / (Math.abs(value(row)) + Math.abs(answer(row))))),
    rmsle: (pass) => (isLog() ? Math.sqrt(pass.mean((row) => (Math.log1p(value(row)) - Math.log1p(answer(row))) ** 2)) : Number.NaN),
    explainedVariance: (pass) => {
      const [errorMean, targetMean] = [pass.mean(error), pass.targetMean()];
      return explained(
        pass.mean((row) => (error(row) - errorMean) ** 2),
        pass.mean((row) => (value(row) - targetMean) ** 2),
      );
    },
    maxError: ({ weights }) =>
      errors.reduce((most, found, row) => (weights === undefined || (weights[row] as number) > 0 ? Math.max(most, Math.abs(found)) : most), 0),
    pinball10: pinball(0.1),
    pinball50: pinball(0.5),
    pinball90: pinball(0.9),
    poissonDeviance: (pass) => (isPoisson() ? pass.mean((row) => poisson(value(row), answer(row))) : Number.NaN),
    gammaDeviance: (pass) => (isGamma() ? pass.mean((row) => 2 * (Math.log(answer(row) / value(row)) + value(row) / answer(row) - 1)) : Number.NaN),
    d2Absolute: (pass) => {
      if (rows < 2) return Number.NaN;
      const median = middle(byTarget(), pass);
      return explained(
        pass.mean((row) => Math.abs(error(row))),
        pass.mean((row) => Math.abs(value(row) - median)),
      );
    },
    d2Poisson: (pass) => {
      if (rows < 2 || !isPoisson()) return Number.NaN;
      const mean = pass.targetMean();
      return explained(
        pass.mean((row) => poisson(value(row), answer(row))),
        pass.mean((row) => poisson(value(row), mean)),
      );
    },
  };
  return judgeOf<Pass>(rows, figures, (weights) => {
    const total = once(() => totalOf(weights, rows));
    const mean = (of: (row: number) => number): number => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += (weights === undefined ? 1 : (weights[row] as number)) * of(row);
      return sum / total();
    };
    return { total, mean, targetMean: once(() => mean(value)), weights };
  });
}

interface Ordered {
  readonly values: Float64Array;
  readonly order: Uint32Array;
}

const ascending = (values: Float64Array): Ordered => ({
  values,
  order: Uint32Array.from(values.keys()).sort((a, b) => (values[a] as number) - (values[b] as number)),
});

/** The median; weighted, the least value at which half of the weight is reached, as scikit-learn has it. */
function middle({ values, order }: Ordered, { weights, total }: Pass): number {
  const at = (i: number): number => values[order[i] as number] as number;
  if (weights === undefined) {
    const half = order.length >> 1;
    return order.length % 2 === 1 ? at(half) : (at(half - 1) + at(half)) / 2;
  }
  const half = total() / 2;
  let reached = 0;
  for (const row of order) {
    reached += weights[row] as number;
    if (reached >= half) return values[row] as number;
  }
  return at(order.length - 1);
}
