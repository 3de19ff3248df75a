import { describe, expect, it } from 'vitest';
import { delong } from '../../../../ml/evaluation/delong.ts';
import { type JudgedAnswers, metricIntervals, positiveScores } from '../../../../ml/evaluation/intervals.ts';
import { normalQuantile } from '../../../../ml/evaluation/normal.ts';
import { createJudge } from '../../../../ml/metrics.ts';
import { createRandom } from '../../../../ml/random.ts';
import { sequence } from '../sequence.ts';

const options = { confidence: 0.95, replicates: 1_000, seed: 1 };
const intervalsOf = (judged: JudgedAnswers, names?: readonly string[]) =>
  metricIntervals(judged, createJudge(judged.task, judged.y, judged.answers, judged.threshold).values(names), options);

function binaryRows(rows: number, share = 0.3): JudgedAnswers {
  const random = createRandom(7);
  const y = Float64Array.from({ length: rows }, () => (random.next() < share ? 1 : 0));
  const answers = new Float64Array(rows * 2);
  y.forEach((label, row) => {
    const p = 1 / (1 + Math.exp(-(random.normal() + label * 1.2 - 1)));
    answers.set([1 - p, p], row * 2);
  });
  return { task: { kind: 'binary' }, y, answers, threshold: 0.5 };
}

function regressionRows(rows: number): JudgedAnswers {
  const random = createRandom(9);
  const y = Float64Array.from({ length: rows }, () => random.normal() * 3);
  return { task: { kind: 'regression' }, y, answers: y.map((value) => value + random.normal()), threshold: 0.5 };
}

describe('intervals', () => {
  it('of a regression are those of scipy.stats.bootstrap, but for chance', () => {
    const y = sequence(300, 21).map((value) => value * 10);
    const answers = sequence(300, 23).map((value, row) => (y[row] ?? 0) + value * 3 - 1);
    const { rmse } = intervalsOf({ task: { kind: 'regression' }, y, answers, threshold: 0.5 });
    // SciPy 1.17.1, percentile, 50,000 resamples
    expect(rmse?.method).toBe('bootstrap');
    expect(Math.abs((rmse?.low ?? 0) - 0.9151107605187322)).toBeLessThan(0.008);
    expect(Math.abs((rmse?.high ?? 0) - 1.038625685575063)).toBeLessThan(0.008);
  });

  it.each([
    [3_000, 'bootstrap'],
    [100_000, 'binned-bootstrap'],
  ] as const)('of the AUC of %i rows are as wide as DeLong says', (rows, method) => {
    const judged = binaryRows(rows);
    const { auc } = intervalsOf(judged, ['auc']);
    const { covariance } = delong(judged.y, [positiveScores(judged.answers)]);
    expect(auc?.method).toBe(method);
    const width = 2 * normalQuantile(0.975) * Math.sqrt(covariance[0]?.[0] ?? 0);
    expect(((auc?.high ?? 0) - (auc?.low ?? 0)) / width).toBeGreaterThan(0.9);
    expect(((auc?.high ?? 0) - (auc?.low ?? 0)) / width).toBeLessThan(1.1);
  });

  it('of many rows are as wide as theory says, whatever the way', () => {
    const [binary, regression] = [binaryRows(100_000, 0.01), regressionRows(100_000)];
    const widthOf = (values: Float64Array): number => {
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return (2 * normalQuantile(0.975) * Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)) / Math.sqrt(values.length);
    };
    const { mae, medae } = intervalsOf(regression, ['mae', 'medae']);
    const errors = regression.y.map((value, row) => Math.abs(value - (regression.answers[row] ?? 0)));
    expect([mae?.method, medae?.method]).toEqual(['m-of-n-bootstrap', 'm-of-n-bootstrap']);
    expect(((mae?.high ?? 0) - (mae?.low ?? 0)) / widthOf(errors)).toBeCloseTo(1, 0);
    // drawn by class, so that the spread between the classes does not count
    const { logLoss, recall } = intervalsOf(binary, ['logLoss', 'recall']);
    expect(logLoss?.method).toBe('binned-bootstrap');
    expect((logLoss?.high ?? 0) - (logLoss?.low ?? 0)).toBeGreaterThan(0);
    expect(recall?.method).toBe('wilson');
    const positives = binary.y.reduce((sum, label) => sum + label, 0);
    const hits = binary.y.reduce((sum, label, row) => sum + (label === 1 && (binary.answers[2 * row + 1] ?? 0) >= 0.5 ? 1 : 0), 0) / positives;
    expect(((recall?.high ?? 0) - (recall?.low ?? 0)) / (2 * 1.96 * Math.sqrt((hits * (1 - hits)) / positives))).toBeCloseTo(1, 1);
  });

  it('hold the figure, are the same each time, and are left out where resampling would mislead', () => {
    const judged = binaryRows(500);
    const values = createJudge(judged.task, judged.y, judged.answers).values();
    const intervals = metricIntervals(judged, values, options);
    for (const [name, { low, high }] of Object.entries(intervals)) {
      expect(low, name).toBeLessThanOrEqual(values[name] ?? Number.NaN);
      expect(high, name).toBeGreaterThanOrEqual(values[name] ?? Number.NaN);
    }
    expect(metricIntervals(judged, values, options)).toEqual(intervals);
    expect(Object.keys(values).filter((name) => !(name in intervals))).toEqual(['ece', 'ks']);
  });

  it('hold the average precision of few hits, which resampling moves to one side', () => {
    for (let seed = 0; seed < 60; seed++) {
      const random = createRandom(seed);
      const y = Float64Array.from({ length: 60 }, (_, row) => (row < 3 ? 1 : 0));
      const answers = new Float64Array(120);
      y.forEach((_, row) => {
        const p = random.next();
        answers.set([1 - p, p], 2 * row);
      });
      const judged: JudgedAnswers = { task: { kind: 'binary' }, y, answers, threshold: 0.5 };
      const values = createJudge(judged.task, y, answers).values(['averagePrecision']);
      // few replicates: their ends are far from the tails, as those of a narrow interval are
      const { averagePrecision } = metricIntervals(judged, values, { confidence: 0.2, replicates: 200, seed });
      expect(averagePrecision?.low).toBeLessThanOrEqual(values['averagePrecision'] ?? Number.NaN);
      expect(averagePrecision?.high).toBeGreaterThanOrEqual(values['averagePrecision'] ?? Number.NaN);
    }
  });

  it('of a handful of rows, and of one class, are what they can be', () => {
    const one: JudgedAnswers = {
      task: { kind: 'binary' },
      y: Float64Array.of(1, 1, 1),
      answers: Float64Array.of(0.1, 0.9, 0.2, 0.8, 0.9, 0.1),
      threshold: 0.5,
    };
    const intervals = intervalsOf(one);
    expect(intervals['auc']).toBeUndefined();
    expect(intervals['recall']?.low).toBeGreaterThan(0.1);
    expect(intervals['recall']?.high).toBeLessThan(1);
  });
});
