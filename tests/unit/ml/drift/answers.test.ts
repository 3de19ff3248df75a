import { describe, expect, it } from 'vitest';
import { answersOf } from '../../../../ml/drift/answers.ts';
import { curvesOf } from '../../../../ml/evaluation/curves.ts';
import { createRandom } from '../../../../ml/random.ts';

const random = createRandom(3);
const ROWS = 5_000;
const scores = Float64Array.from({ length: ROWS }, () => random.next() ** 2);
const y = scores.map((p) => (random.next() < p ? 1 : 0));
const binary = curvesOf({ task: { kind: 'binary' }, y, answers: Float64Array.from([...scores].flatMap((p) => [1 - p, p])), threshold: 0.5 }, ['no', 'yes']);

describe("what an evaluation knows of a model's answers", () => {
  it('is the share at or below the edges of its bins, of two classes', () => {
    const answers = answersOf({ task: 'binary', curves: binary, rows: ROWS });
    expect(answers).toMatchObject({ output: 'last', rows: ROWS });
    expect(answers?.values.quantiles.map(({ q }) => q)).toEqual([0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]);
    for (const { q, value, atOrBelow } of answers?.values.quantiles ?? []) {
      expect(atOrBelow).toBeGreaterThanOrEqual(q - 1e-12);
      expect(atOrBelow).toBeCloseTo(scores.filter((score) => score <= value).length / ROWS, 12);
    }
    expect(answers?.values.histogram.counts.reduce((sum, count) => sum + count, 0)).toBe(ROWS);
    expect(answers?.values).toMatchObject({ min: Math.min(...scores), max: Math.max(...scores) });
  });

  it('is of the answered class of several, and of the values of a regression', () => {
    expect(answersOf({ task: 'multiclass', curves: binary, rows: ROWS })?.output).toBe('greatest');
    const values = curvesOf({ task: { kind: 'regression' }, y, answers: scores, threshold: 0.5 }, []);
    const answers = answersOf({ task: 'regression', curves: values, rows: ROWS });
    const sorted = Float64Array.from(scores).sort();
    for (const { q, value } of answers?.values.quantiles ?? []) expect(Math.abs(value - (sorted[Math.round(q * (ROWS - 1))] ?? 0))).toBeLessThan(0.02);
  });

  it('is nothing of rankings, of constant answers and of reports of earlier versions', () => {
    expect(answersOf({ task: 'ranking', curves: {}, rows: 10 })).toBeNull();
    expect(answersOf({ task: 'binary', curves: {}, rows: 10 })).toBeNull();
    const constant = curvesOf({ task: { kind: 'regression' }, y, answers: new Float64Array(ROWS).fill(2), threshold: 0.5 }, []);
    expect(answersOf({ task: 'regression', curves: constant, rows: ROWS })).toBeNull();
  });
});
