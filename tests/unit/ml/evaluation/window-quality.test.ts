import { describe, expect, it } from 'vitest';
import type { RawTable } from '../../../../contracts/columns.ts';
import { WindowQualitySchema } from '../../../../contracts/window-quality.ts';
import { metricIntervals } from '../../../../ml/evaluation/intervals.ts';
import { windowQuality, type WindowQualityOptions, type WindowRows } from '../../../../ml/evaluation/window-quality.ts';
import { createJudge } from '../../../../ml/metrics.ts';
import { createRandom } from '../../../../ml/random.ts';

const intervals = { confidence: 0.95, replicates: 200, seed: 3 };
const options: WindowQualityOptions = { metric: 'accuracy', intervals };

function binaryWindow(scores: readonly number[], labels: readonly number[]): WindowRows {
  return { task: { kind: 'binary' }, y: Float64Array.from(labels), answers: Float64Array.from(scores.flatMap((p) => [1 - p, p])), threshold: 0.5 };
}

function manyRows(rows: number): { readonly scores: number[]; readonly labels: number[] } {
  const random = createRandom(5);
  const scores = Array.from({ length: rows }, () => random.next());
  return { scores, labels: scores.map((p) => (random.next() < p ? 1 : 0)) };
}

describe('the quality of a window', () => {
  it("is the evaluation's figures and intervals of the rows that have labels", () => {
    const { scores, labels } = manyRows(600);
    const late = labels.map((label, row) => (row % 3 === 0 ? Number.NaN : label));
    const found = windowQuality(binaryWindow(scores, late), options);
    const known = binaryWindow(
      scores.filter((_, row) => row % 3 !== 0),
      labels.filter((_, row) => row % 3 !== 0),
    );
    const values = createJudge(known.task, known.y, known.answers, 0.5).values();
    expect(found).toMatchObject({ state: 'judged', rows: 600, labelled: 400, unknownLabels: 0, unusableAnswers: 0, withoutValue: [] });
    expect(found.metrics).toEqual(values);
    expect(found.intervals).toEqual(metricIntervals(known, values, intervals));
    expect(WindowQualitySchema.parse(JSON.parse(JSON.stringify(found)))).toEqual(found);
  });

  it('says what a window without rows, without labels or with few of them is, and tells no figure', () => {
    const { scores, labels } = manyRows(40);
    const none = labels.map(() => Number.NaN);
    const few = labels.map((label, row) => (row < 29 ? label : Number.NaN));
    expect(windowQuality(binaryWindow([], []), options)).toMatchObject({ state: 'noRows', rows: 0, metrics: {}, slices: [] });
    expect(windowQuality(binaryWindow(scores, none), options)).toMatchObject({ state: 'noLabels', rows: 40, labelled: 0, metrics: {} });
    expect(windowQuality(binaryWindow(scores, few), options)).toMatchObject({ state: 'fewLabels', labelled: 29, metrics: {}, intervals: {} });
    expect(windowQuality(binaryWindow(scores, few), { ...options, leastRows: 29 }).state).toBe('judged');
  });

  it.each([
    ['without positives', 0, { recall: 'nonePresent', f1: 'nonePresent', auc: 'oneClass', matthews: 'oneClass' }],
    ['of positives alone', 1, { specificity: 'nonePresent', auc: 'oneClass', averagePrecision: 'oneClass' }],
  ])('%s keeps the figures that mean something, and says of the others why they are missing', (_, label, missing) => {
    const { scores } = manyRows(100);
    const found = windowQuality(
      binaryWindow(
        scores,
        scores.map(() => label),
      ),
      options,
    );
    expect(found.state).toBe('oneClass');
    const reasons = Object.fromEntries(found.withoutValue.map(({ metric, reason }) => [metric, reason]));
    expect(reasons).toMatchObject(missing);
    expect(Object.keys(found.metrics)).toEqual(expect.arrayContaining(['accuracy', 'logLoss', 'brier']));
    expect(Object.values(found.metrics).every(Number.isFinite)).toBe(true);
    for (const metric of Object.keys(reasons)) expect(found.metrics).not.toHaveProperty(metric);
  });

  it('has no precision where nothing is answered positive: 0 would be taken for a bad model', () => {
    const labels = Array.from({ length: 60 }, (_, row) => row % 2);
    const found = windowQuality(
      binaryWindow(
        labels.map((label) => 0.1 + label / 10),
        labels,
      ),
      options,
    );
    expect(found.withoutValue).toEqual([{ metric: 'precision', reason: 'noneAnswered' }]);
    expect(found.metrics).toMatchObject({ recall: 0, accuracy: 0.5 });
  });

  it('counts labels of unknown classes and answers that are no numbers, and judges the rest', () => {
    const { scores, labels } = manyRows(100);
    const window = binaryWindow(scores, [-1, 2, ...labels.slice(2)]);
    window.answers.set([Number.NaN, Number.NaN], 2 * 99);
    expect(windowQuality(window, options)).toMatchObject({ state: 'judged', rows: 100, labelled: 97, unknownLabels: 2, unusableAnswers: 1 });
    const of: WindowRows = {
      task: { kind: 'regression' },
      y: Float64Array.from([1, Number.POSITIVE_INFINITY, 3]),
      answers: Float64Array.from([1, 2, 5]),
      threshold: 0.5,
    };
    const found = windowQuality(of, { metric: 'mae', leastRows: 2, intervals: null });
    expect(found).toMatchObject({ state: 'judged', labelled: 2, unknownLabels: 1, metrics: { mae: 1, maxError: 2 } });
  });

  it('of a target that is always the same has no share of a spread that is not there', () => {
    const y = new Float64Array(50).fill(4);
    const found = windowQuality(
      { task: { kind: 'regression' }, y, answers: y.map((value, row) => value + row / 50), threshold: 0.5 },
      { metric: 'mae', intervals },
    );
    expect(found.state).toBe('judged');
    expect(found.withoutValue).toEqual(expect.arrayContaining([{ metric: 'r2', reason: 'undefined' }]));
    expect(found.metrics['mae']).toBeCloseTo(0.49, 12);
  });

  it('is told by slice, worst first, of the labelled rows; a column that is gone has no slices', () => {
    const rows = 400;
    const labels = Array.from({ length: rows }, (_, row) => row % 2);
    // of the shop b every fourth answer is wrong; the first hundred rows have no label yet
    const shop = labels.map((_, row) => (row % 3 === 0 ? 'b' : 'a'));
    const scores = labels.map((label, row) => (shop[row] === 'b' && row % 4 === 0 ? 1 - label : label) * 0.8 + 0.1);
    const table: RawTable = {
      rows,
      columns: new Map([['shop', { kind: 'string', dictionary: ['a', 'b'], codes: Int32Array.from(shop, (s) => (s === 'a' ? 0 : 1)) }]]),
    };
    const window = binaryWindow(
      scores,
      labels.map((label, row) => (row < 100 ? Number.NaN : label)),
    );
    const found = windowQuality(window, { ...options, metrics: ['accuracy', 'recall'], slices: { table, by: [['shop'], ['country']], leastRows: 50 } });
    const [byShop, byCountry] = found.slices;
    expect(byShop?.values.map(({ value, rows }) => [value, rows])).toEqual([
      ['b', 100],
      ['a', 200],
    ]);
    expect(byShop?.values[0]?.metric).toBe(0.75);
    expect(byShop?.values[0]?.low).toBeLessThan(0.75);
    expect(byShop?.values[1]).toMatchObject({ metric: 1, metrics: { accuracy: 1, recall: 1 } });
    expect(byCountry).toEqual({ column: 'country', metric: 'accuracy', values: [], tooSmall: 0, withoutValue: 0 });
  });

  it('of several classes and one label alone has accuracy and log loss', () => {
    const rows = 60;
    const answers = Float64Array.from({ length: rows * 3 }, (_, i) => (i % 3 === 0 ? 0.6 : 0.2));
    const found = windowQuality({ task: { kind: 'multiclass', classes: 3 }, y: new Float64Array(rows), answers, threshold: 0.5 }, options);
    expect(found).toMatchObject({ state: 'oneClass', metrics: { accuracy: 1 } });
    expect(found.metrics['logLoss']).toBeCloseTo(-Math.log(0.6), 12);
    expect(found.withoutValue.map(({ metric }) => metric)).toEqual(expect.arrayContaining(['matthews', 'cohenKappa', 'aucOvr']));
  });
});
