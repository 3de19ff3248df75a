import { describe, expect, it } from 'vitest';
import { auc, averagePrecision, binaryMetrics, higherIsBetter, multiclassMetrics, regressionMetrics } from '../../../ml/metrics.ts';
import { bestThreshold } from '../../../ml/threshold.ts';
import { sequence } from './sequence.ts';

// Figures of scikit-learn 1.7.2 on the same rows.
const y = sequence(40, 3).map((value) => (value > 0.6 ? 1 : 0));
const noisy = sequence(40, 5);
const scores = y.map((label, row) => {
  // numpy.round takes the even neighbour of a half.
  const value = (noisy[row] ?? 0) * 0.7 + label * 0.25;
  return Math.min(0.95, Math.max(0.05, Math.round(value * 10) / 10));
});
const probabilities = Float64Array.from({ length: 80 }, (_, i) => (i % 2 === 1 ? (scores[i >> 1] ?? 0) : 1 - (scores[i >> 1] ?? 0)));
const weights = sequence(40, 9).map((value) => 0.25 + value);

const near = (found: Readonly<Record<string, number>>, expected: Readonly<Record<string, number>>): void => {
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, value] of Object.entries(expected)) expect(Math.abs((found[name] ?? Number.NaN) - value), name).toBeLessThan(1e-9);
};

describe('metrics', () => {
  it('of a binary classification equal scikit-learn', () => {
    near(binaryMetrics(y, probabilities), {
      auc: 0.8793103448275862,
      logLoss: 0.4971137945210324,
      accuracy: 0.65,
      f1: 0.5882352941176471,
      precision: 0.43478260869565216,
      recall: 0.9090909090909091,
      averagePrecision: 0.7862614147471718,
      brier: 0.1665625,
    });
  });

  it('of a weighted binary classification equal scikit-learn', () => {
    near(binaryMetrics(y, probabilities, { weights }), {
      auc: 0.8380331600597913,
      logLoss: 0.5107708716851351,
      accuracy: 0.6323644143599157,
      f1: 0.5673959341484557,
      precision: 0.4242322730019552,
      recall: 0.8564018061172046,
      averagePrecision: 0.7430827292170009,
      brier: 0.17241679040586574,
    });
  });

  it('of a regression equal scikit-learn, weighted or not', () => {
    const target = sequence(40, 21).map((value) => value * 10);
    const answers = sequence(40, 23).map((value, row) => (target[row] ?? 0) + value * 3 - 1);
    near(regressionMetrics(target, answers), { rmse: 1.0116239114525252, mae: 0.8450886856997386, r2: 0.867536555147844 });
    near(regressionMetrics(target, answers, weights), { rmse: 1.0807442687170077, mae: 0.9253723321745065, r2: 0.8601000991865144 });
  });

  it('of three classes equal scikit-learn, weighted or not', () => {
    const labels = sequence(40, 31).map((value) => Math.floor(value * 3));
    const raw = sequence(120, 33).map((value, i) => value + 0.05 + (labels[Math.floor(i / 3)] === i % 3 ? 0.3 : 0));
    const rows = raw.map((value, i) => {
      const first = i - (i % 3);
      return value / ((raw[first] ?? 0) + (raw[first + 1] ?? 0) + (raw[first + 2] ?? 0));
    });
    near(multiclassMetrics(labels, rows, 3), { accuracy: 0.625, logLoss: 0.9146919977366549, macroF1: 0.6132881611142481 });
    near(multiclassMetrics(labels, rows, 3, weights), { accuracy: 0.627259552013917, logLoss: 0.9258607367200543, macroF1: 0.607546281257058 });
  });

  it('count ties half and say NaN where a class is absent', () => {
    expect(auc(Float64Array.of(0, 1, 0, 1), Float64Array.of(0.5, 0.5, 0.5, 0.5))).toBe(0.5);
    expect(auc(Float64Array.of(1, 1), Float64Array.of(0.1, 0.9))).toBeNaN();
    expect(averagePrecision(Float64Array.of(0, 0), Float64Array.of(0.1, 0.9))).toBeNaN();
  });

  it('know which way is better', () => {
    expect(['auc', 'f1', 'r2', 'accuracy'].every(higherIsBetter)).toBe(true);
    expect(['logLoss', 'brier', 'rmse', 'mae'].some(higherIsBetter)).toBe(false);
  });
});

describe('the best threshold', () => {
  const labels = Float64Array.of(0, 0, 0, 1, 1);

  it('stands halfway between the scores that it parts', () => {
    expect(bestThreshold(labels, Float64Array.of(0.1, 0.2, 0.3, 0.7, 0.9), 'f1')).toEqual({ threshold: 0.5, value: 1 });
    expect(bestThreshold(labels, Float64Array.of(0.01, 0.02, 0.03, 0.07, 0.09), 'accuracy')).toEqual({ threshold: 0.05, value: 1 });
  });

  it('answers nothing where that is most often right', () => {
    const { threshold, value } = bestThreshold(Float64Array.of(0, 0, 0, 0, 1), Float64Array.of(0.1, 0.8, 0.7, 0.6, 0.2), 'accuracy');
    expect(threshold).toBeGreaterThan(0.8);
    expect(value).toBe(0.8);
  });
});
