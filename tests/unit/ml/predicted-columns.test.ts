import { describe, expect, it } from 'vitest';
import { planPredictedColumns, predictedColumns } from '../../../ml/predicted-columns.ts';

describe('predicted columns', () => {
  it('of two classes follow the threshold, of several the most probable, the first among equals', () => {
    const plan = planPredictedColumns({ kind: 'binary', target: 'y', classes: ['no', 'yes'] }, 2, 'm_');
    expect(plan.map(({ name, type }) => [name, type])).toEqual([
      ['m_prediction', 'string'],
      ['m_probability', 'number'],
      ['m_probability_no', 'number'],
      ['m_probability_yes', 'number'],
    ]);
    const task = { kind: 'binary' as const, target: 'y', classes: ['no', 'yes'] };
    expect(predictedColumns({ task, threshold: 0.25 }, plan, Float32Array.of(0.75, 0.25, 0.875, 0.125), 2)).toEqual([
      { name: 'm_prediction', kind: 'string', codes: Int32Array.of(1, 0), dictionary: ['no', 'yes'] },
      { name: 'm_probability', kind: 'float64', values: Float64Array.of(0.25, 0.875) },
      { name: 'm_probability_no', kind: 'float64', values: Float64Array.of(0.75, 0.875) },
      { name: 'm_probability_yes', kind: 'float64', values: Float64Array.of(0.25, 0.125) },
    ]);
    const several = { kind: 'multiclass' as const, target: 'y', classes: ['a', 'b', 'c'] };
    const [label, probability] = predictedColumns(
      { task: several, threshold: 0.5 },
      planPredictedColumns(several, 3),
      Float32Array.of(0.25, 0.375, 0.375, 0.5, 0.25, 0.25),
      3,
    );
    expect(label).toMatchObject({ codes: Int32Array.of(1, 0) });
    expect(probability).toMatchObject({ values: Float64Array.of(0.375, 0.5) });
  });

  it('of numbers are the prediction, of a bare ONNX file its outputs', () => {
    const regression = { kind: 'regression' as const, target: 'y' };
    expect(predictedColumns({ task: regression, threshold: 0.5 }, planPredictedColumns(regression, 1), Float32Array.of(1.5, -2), 1)).toEqual([
      { name: 'prediction', kind: 'float64', values: Float64Array.of(1.5, -2) },
    ]);
    const raw = { kind: 'raw' as const };
    expect(predictedColumns({ task: raw, threshold: 0.5 }, planPredictedColumns(raw, 2), Float32Array.of(1, 2, 3, 4), 2)).toEqual([
      { name: 'output_1', kind: 'float64', values: Float64Array.of(1, 3) },
      { name: 'output_2', kind: 'float64', values: Float64Array.of(2, 4) },
    ]);
  });
});
