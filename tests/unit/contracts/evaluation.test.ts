import { describe, expect, it } from 'vitest';
import { EvaluationReportSchema } from '../../../contracts/evaluation.ts';
import { EvaluateInputSchema } from '../../../contracts/stages.ts';

const id = 'a'.repeat(64);
const candidate = { kind: 'candidate', predictor: id, trainer: 'gbdt', task: 'binary', device: 'cpu', rows: 10 };
const on = { kind: 'dataset', id, name: 'd', rows: 10 };

describe('evaluations', () => {
  it('of the first format are still read', () => {
    const report = EvaluationReportSchema.parse({
      format: 'millrace-evaluation/1',
      predictor: id,
      on: id,
      rows: 1000,
      metrics: { auc: 0.7, accuracy: 0.8, precision: 0.5 },
      champion: { model: 'm', version: 2, metrics: { auc: 0.69 } },
      slices: [{ column: 'origin', metric: 'auc', values: [{ value: 'JFK', rows: 120, metric: 0.6 }] }],
      accepted: true,
      problems: [],
    });
    expect(report).toMatchObject({
      format: 'millrace-evaluation/2',
      task: 'binary',
      metric: 'auc',
      champion: { version: 2, comparison: null },
      slices: [{ values: [{ value: 'JFK', metrics: {} }] }],
      intervals: {},
      tests: [],
    });
    expect(EvaluationReportSchema.parse(report)).toEqual(report);
  });

  it('take the inputs that stand in older histories', () => {
    const input = EvaluateInputSchema.parse({ candidate, on, slices: ['origin'], accept: { atLeast: { auc: 0.5 }, atMost: {}, beats: { champion: 'm' } } });
    expect(input).toMatchObject({
      accept: { beats: { champion: 'm' }, judge: 'figure' },
      leastSliceRows: 100,
      intervals: { confidence: 0.95, replicates: 500 },
      tests: [],
    });
    expect(EvaluateInputSchema.parse({ candidate, on }).accept).toEqual({ atLeast: {}, atMost: {}, judge: 'figure' });
  });

  it('refuse bounds on what is no metric', () => {
    expect(EvaluateInputSchema.safeParse({ candidate, on, accept: { atLeast: { speed: 1 } } }).success).toBe(false);
    expect(EvaluateInputSchema.safeParse({ candidate, on, accept: { atLeast: { 'business.speed': 1 } } }).success).toBe(true);
  });
});
