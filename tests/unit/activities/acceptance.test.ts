import { describe, expect, it } from 'vitest';
import { type Found, verdictOf } from '../../../activities/acceptance.ts';
import { AcceptSchema, type Comparison } from '../../../contracts/evaluation.ts';
import type { z } from 'zod';

const comparison: Comparison = {
  metric: 'auc',
  method: 'delong',
  improvement: 0.02,
  low: -0.01,
  high: 0.05,
  confidence: 0.95,
  pValue: 0.19,
  atLeast: -0.005,
  pNoBetter: 0.095,
};
const found = (changes: Partial<Found> = {}): Found => ({
  metric: 'auc',
  metrics: { auc: 0.8, logLoss: 0.4 },
  intervals: { auc: { low: 0.77, high: 0.83, method: 'bootstrap' }, logLoss: { low: 0.37, high: 0.43, method: 'bootstrap' } },
  business: { profit: 120 },
  slices: [
    {
      column: 'city',
      metric: 'auc',
      values: [
        { value: 'Oslo', rows: 150, metric: 0.6, metrics: { auc: 0.6 } },
        { value: 'Rome', rows: 400, metric: 0.68, metrics: { auc: 0.68 } },
        { value: 'Bern', rows: 900, metric: 0.82, metrics: { auc: 0.82 } },
      ],
      tooSmall: 0,
      withoutValue: 0,
    },
  ],
  tests: [],
  champion: { model: 'm', version: 3, metrics: { auc: 0.78, logLoss: 0.42 }, comparison },
  isChampion: false,
  ...changes,
});
const problemsOf = (accept: z.input<typeof AcceptSchema>, changes: Partial<Found> = {}) => verdictOf(AcceptSchema.parse(accept), found(changes)).problems;
const beats = (rule: { by?: number; confidence?: number; notWorse?: number }, changes: Partial<Found> = {}) =>
  problemsOf({ beats: { champion: 'm', ...rule } }, changes);

describe('acceptance rules', () => {
  it('that hold say nothing', () => {
    expect(problemsOf({ atLeast: { auc: 0.8, 'business.profit': 100 }, atMost: { logLoss: 0.4 }, slices: { atLeast: { auc: 0.6 } } })).toEqual([]);
  });

  it('that do not hold are named with what was found and how far off it is', () => {
    expect(problemsOf({ atLeast: { auc: 0.85, 'business.profit': 200 }, atMost: { logLoss: 0.3 } })).toEqual([
      { path: 'accept.atLeast.auc', message: 'must be at least 0.85', found: '0.800000', fix: 'It is off by 0.050000.' },
      { path: 'accept.atLeast.business.profit', message: 'must be at least 200', found: '120.000000', fix: 'It is off by 80.000000.' },
      { path: 'accept.atMost.logLoss', message: 'must be at most 0.3', found: '0.400000', fix: 'It is off by 0.100000.' },
    ]);
  });

  it('may ask the whole interval', () => {
    expect(problemsOf({ atLeast: { auc: 0.78 }, judge: 'interval' })).toEqual([
      {
        path: 'accept.atLeast.auc',
        message: 'must be at least 0.78 with its whole interval',
        found: '0.800000 (0.770000 to 0.830000)',
        fix: 'It is off by 0.010000.',
      },
    ]);
    expect(problemsOf({ atMost: { logLoss: 0.44 }, judge: 'interval' })).toEqual([]);
  });

  it('about metrics that are not there say which ones are', () => {
    expect(problemsOf({ atLeast: { rmse: 1, 'business.margin': 1 } }).map(({ path, message }) => [path, message])).toEqual([
      ['accept.atLeast.rmse', 'is no metric of this task, or has no value on these rows; there are auc, logLoss'],
      ['accept.atLeast.business.margin', 'is no metric of this task, or has no value on these rows; there are business.profit'],
    ]);
  });

  it('about slices name the worst one', () => {
    expect(problemsOf({ slices: { atLeast: { auc: 0.7 } } })).toEqual([
      {
        path: 'accept.slices.atLeast.auc',
        message: 'must be at least 0.7 in every slice of city',
        found: '0.600000 where it is Oslo (150 rows), and 1 more',
        fix: 'It is off by 0.100000.',
      },
    ]);
  });

  it('may only warn, as tests of behaviour may', () => {
    const test = { test: 1, kind: 'direction', what: 'price + 1 moves the score down', tried: 10, failed: 4, worst: 0.3, passed: false, examples: [] } as const;
    const verdict = verdictOf(
      AcceptSchema.parse({ warn: { atLeast: { auc: 0.9 } } }),
      found({
        tests: [
          { ...test, severity: 'warn', examples: [] },
          { ...test, test: 2, severity: 'fail', examples: [] },
        ],
      }),
    );
    expect(verdict.problems).toEqual([{ path: 'tests[2]', message: 'direction: price + 1 moves the score down', found: '4 of 10 fail' }]);
    expect(verdict.warnings.map(({ path }) => path)).toEqual(['accept.warn.atLeast.auc', 'tests[1]']);
  });
});

describe('beating the champion', () => {
  it('plainly is a figure that is not worse, be it by noise', () => {
    expect(beats({})).toEqual([]);
    expect(beats({}, { metrics: { auc: 0.78 } })).toEqual([]);
    expect(beats({}, { metrics: { auc: 0.77 } })).toMatchObject([{ path: 'accept.beats', found: '0.770000', fix: 'It is off by 0.010000.' }]);
    // a loss is better when it is lower
    expect(beats({}, { metric: 'logLoss' })).toEqual([]);
    expect(beats({}, { metric: 'logLoss', metrics: { logLoss: 0.5 } })).toHaveLength(1);
  });

  it('by a margin needs that much', () => {
    expect(beats({ by: 0.02 - 1e-9 })).toEqual([]);
    expect(beats({ by: 0.03 })).toMatchObject([
      { message: 'must be better by 0.03 than the champion (version 3) in auc, which has 0.780000 on the same rows' },
    ]);
  });

  it('with confidence needs the paired test to be sure', () => {
    expect(beats({ confidence: 0.95 })).toMatchObject([{ found: '0.800000: better by 0.020000, surely by -0.005000 (delong, p 0.0950)' }]);
    expect(beats({ confidence: 0.9 })).toEqual([]);
    const sure = { champion: { model: 'm', version: 3, metrics: { auc: 0.78 }, comparison: { ...comparison, atLeast: 0.012, pNoBetter: 0.001 } } };
    expect(beats({ confidence: 0.95, by: 0.01 }, sure)).toEqual([]);
    expect(beats({ confidence: 0.95, by: 0.015 }, sure)).toMatchObject([{ fix: 'It is off by 0.003000.' }]);
  });

  it('may mean to be surely not worse by more than a margin', () => {
    expect(beats({ notWorse: 0.01 })).toEqual([]);
    expect(beats({ notWorse: 0.004 })).toHaveLength(1);
  });

  it('needs no champion, and the champion itself is not better than itself', () => {
    expect(beats({ confidence: 0.95 }, { champion: null })).toEqual([]);
    expect(beats({}, { champion: null, isChampion: true })).toEqual([]);
    expect(beats({ notWorse: 0.01 }, { champion: null, isChampion: true })).toEqual([]);
    expect(beats({ confidence: 0.95 }, { champion: null, isChampion: true })).toMatchObject([{ found: 'it is the champion itself' }]);
  });

  it('cannot be sure where there is no paired test', () => {
    expect(beats({ confidence: 0.95 }, { champion: { model: 'm', version: 3, metrics: { auc: 0.78 }, comparison: null } })).toHaveLength(1);
  });

  it('refuses a margin of both kinds at once', () => {
    expect(AcceptSchema.safeParse({ beats: { champion: 'm', by: 0.1, notWorse: 0.1 } }).success).toBe(false);
  });
});
