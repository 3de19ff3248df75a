/** Curves, slices, behaviour, importance and explanations of models whose right figures are known. */
import { describe, expect, it } from 'vitest';
import { BehaviourTestSchema, type BehaviourTestInput, direction, invariance, mustPass } from '../../../../contracts/behaviour-tests.ts';
import type { RawColumn, RawTable } from '../../../../contracts/columns.ts';
import type { Signature } from '../../../../contracts/signature.ts';
import { type BehaviourSubject, runBehaviourTests, type Score } from '../../../../ml/evaluation/behaviour.ts';
import { curvesOf } from '../../../../ml/evaluation/curves.ts';
import { explainRows } from '../../../../ml/evaluation/explain.ts';
import { permutationImportance } from '../../../../ml/evaluation/importance.ts';
import type { JudgedAnswers } from '../../../../ml/evaluation/intervals.ts';
import { sliceMetrics } from '../../../../ml/evaluation/slices.ts';
import { createJudge } from '../../../../ml/metrics.ts';
import { createRandom } from '../../../../ml/random.ts';

const ROWS = 2_000;
const random = createRandom(3);
const uniform = (): Float64Array => Float64Array.from({ length: ROWS }, () => random.next());
const [a, b] = [uniform(), uniform()];
const cities = ['Bern', 'Oslo', 'Rome'];
const city: RawColumn = { kind: 'string', codes: Int32Array.from({ length: ROWS }, () => random.below(4) - 1), dictionary: cities };
const table: RawTable = {
  rows: ROWS,
  columns: new Map<string, RawColumn>([
    ['a', { kind: 'number', values: a }],
    ['b', { kind: 'number', values: b }],
    ['city', city],
  ]),
};
const numbers = (of: RawTable, name: string): Float64Array => (of.columns.get(name) as Extract<RawColumn, { kind: 'number' }>).values;
/** A model whose worth is known: p = 0.1 + 0.6 a - 0.2 b + 0.3 [city is Oslo], held in 0 … 1. */
const chance = (of: RawTable): Float64Array => {
  const place = of.columns.get('city') as Extract<RawColumn, { kind: 'string' }>;
  return Float64Array.from({ length: of.rows }, (_, row) => {
    const oslo = place.dictionary[place.codes[row] ?? -1] === 'Oslo' ? 0.3 : 0;
    return Math.min(1, Math.max(0, 0.1 + 0.6 * (numbers(of, 'a')[row] ?? 0) - 0.2 * (numbers(of, 'b')[row] ?? 0) + oslo));
  });
};
const pairs = (p: Float64Array): Float64Array => Float64Array.from([...p].flatMap((value) => [1 - value, value]));
const score: Score = (of) => Promise.resolve(pairs(chance(of)));
const y = chance(table).map((p) => (random.next() < p ? 1 : 0));
const judged: JudgedAnswers = { task: { kind: 'binary' }, y, answers: pairs(chance(table)), threshold: 0.5 };
const signature: Signature = {
  columns: [],
  transforms: [],
  graph: { numbers: ['a', 'b'], dates: [], strings: ['city'] },
  task: { kind: 'binary', target: 'y', classes: ['no', 'yes'] },
  threshold: 0.5,
};
const subject: BehaviourSubject = { signature, score, table, transform: (row) => row };
const behave = async (test: BehaviourTestInput) => (await runBehaviourTests([BehaviourTestSchema.parse(test)], subject))[0];

describe('tests of behaviour', () => {
  it('find a column that changes the answer, and by how much at most', async () => {
    const found = await behave(invariance({ column: 'city', to: ['Oslo', null], atMost: 0.1 }));
    expect(found).toMatchObject({ passed: false, tried: 2_000 });
    expect(found?.worst).toBeCloseTo(0.3, 12);
    expect(found?.examples).toHaveLength(5);
    expect(await behave(invariance({ column: 'city', to: ['Oslo', null], atMost: 0.3000001 }))).toMatchObject({ passed: true, failed: 0 });
    expect(await behave(invariance({ column: 'city', to: ['Rome', 'Paris'], atMost: 0, allow: 0.5 }))).toMatchObject({ passed: true });
  });

  it('find a direction that is wrong', async () => {
    expect(await behave(direction({ column: 'a', add: 0.1, expect: 'up' }))).toMatchObject({ passed: true, failed: 0 });
    const wrong = await behave(direction({ column: 'b', add: 0.1, expect: 'up', rows: 500 }));
    expect(wrong).toMatchObject({ passed: false, tried: 500, what: 'b + 0.1 moves the score up, or not at all' });
    expect(wrong?.worst).toBeCloseTo(0.02, 10);
    expect(await behave(direction({ column: 'b', times: 2, expect: 'down' }))).toMatchObject({ passed: true });
    expect(await behave(direction({ column: 'b', add: 0.1, expect: 'up', tolerance: 0.0200001 }))).toMatchObject({ passed: true });
  });

  it('hold rows against their answers', async () => {
    const rows = [
      { row: { a: 1, b: 0, city: 'Oslo' }, answer: 'yes', between: [0.9, 1] as [number, number] },
      { row: { a: 0, b: 1, city: null }, answer: 'no' },
    ];
    expect(await behave(mustPass(rows))).toMatchObject({ passed: true, tried: 2, failed: 0 });
    const found = await behave(mustPass([...rows, { row: { a: 0.5, b: 0.5, city: 'Rome' }, answer: 'yes' }]));
    expect(found).toMatchObject({ passed: false, failed: 1, examples: [{ found: 'no (0.300000)', expected: 'yes' }] });
  });

  it('that do not fit the model are refused, all at once', async () => {
    const tests = [
      invariance({ column: 'c' }),
      direction({ column: 'city', add: 1, expect: 'up' }),
      direction({ column: 'a', expect: 'up' }),
      mustPass([{ row: {}, answer: 'maybe' }, { row: {} }]),
    ];
    await expect(
      runBehaviourTests(
        tests.map((test) => BehaviourTestSchema.parse(test)),
        subject,
      ),
    ).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [
        { path: 'tests[0].column' },
        { path: 'tests[1].column' },
        { path: 'tests[2]' },
        { path: 'tests[3].rows[0].answer' },
        { path: 'tests[3].rows[1]' },
      ],
    });
  });
});

describe('importance', () => {
  it('is what shuffling a column costs, and nothing for one that is not read', async () => {
    const more: RawTable = { rows: ROWS, columns: new Map([...table.columns, ['noise', { kind: 'number', values: uniform() }]]) };
    const found = await permutationImportance({
      score,
      table: more,
      y,
      task: judged.task,
      threshold: 0.5,
      columns: ['noise', 'b', 'a', 'city'],
      metric: 'auc',
      repeats: 5,
      seed: 1,
      onProgress: () => undefined,
    });
    expect(found.map(({ column }) => column)).toEqual(['a', 'city', 'b', 'noise']);
    expect(found.at(-1)).toEqual({ column: 'noise', loss: 0, deviation: 0 });
    expect(found[0]?.deviation).toBeGreaterThan(0);
  });

  it('of a squared error is twice the variance that a linear model gives the column', async () => {
    const target = a.map((value, row) => 3 * value - (b[row] ?? 0));
    const linear: Score = (of) => Promise.resolve(numbers(of, 'a').map((value, row) => 3 * value - (numbers(of, 'b')[row] ?? 0)));
    const found = await permutationImportance({
      score: linear,
      table,
      y: target,
      task: { kind: 'regression' },
      threshold: 0.5,
      columns: ['a', 'b'],
      metric: 'rmse',
      repeats: 10,
      seed: 1,
      onProgress: () => undefined,
    });
    const variance = (values: Float64Array): number =>
      values.reduce((sum, value) => sum + (value - values.reduce((all, one) => all + one, 0) / ROWS) ** 2, 0) / ROWS;
    expect((found[0]?.loss ?? 0) ** 2 / (2 * 9 * variance(a))).toBeCloseTo(1, 1);
    expect((found[1]?.loss ?? 0) ** 2 / (2 * variance(b))).toBeCloseTo(1, 1);
  });
});

describe('explanations', () => {
  it('of an additive model are each column against its mean, and add up', async () => {
    const linear: Score = (of) => Promise.resolve(numbers(of, 'a').map((value, row) => 3 * value - (numbers(of, 'b')[row] ?? 0)));
    const [found] = await explainRows({
      score: linear,
      table,
      rows: [{ row: 7, output: 0 }],
      columns: ['a', 'b'],
      permutations: 2_000,
      seed: 1,
      onProgress: () => undefined,
    });
    const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / ROWS;
    const of = (name: string) => found?.contributions.find(({ column }) => column === name);
    expect(Math.abs((of('a')?.contribution ?? 0) - 3 * ((a[7] ?? 0) - mean(a)))).toBeLessThan(4 * (of('a')?.error ?? 0));
    expect(Math.abs((of('b')?.contribution ?? 0) + ((b[7] ?? 0) - mean(b)))).toBeLessThan(4 * (of('b')?.error ?? 0));
    expect(of('a')?.value).toBe(a[7]);
    expect((found?.base ?? 0) + (of('a')?.contribution ?? 0) + (of('b')?.contribution ?? 0)).toBeCloseTo(found?.answer ?? Number.NaN, 10);
    expect(found?.answer).toBeCloseTo(3 * (a[7] ?? 0) - (b[7] ?? 0), 12);
  });
});

describe('slices', () => {
  const options = { metric: 'accuracy', others: ['auc'], leastRows: 100, intervals: { confidence: 0.95, replicates: 200, seed: 1 } };

  it('stand from the worst to the best, missing values among them, with rows and intervals', () => {
    const list = sliceMetrics(judged, table, ['city'], options);
    expect(list.values.map(({ value }) => value).sort()).toEqual(['Bern', 'Oslo', 'Rome', 'null']);
    expect(list.values.reduce((sum, { rows }) => sum + rows, 0)).toBe(ROWS);
    const metrics = list.values.map(({ metric }) => metric);
    expect(metrics).toEqual([...metrics].sort((x, z) => x - z));
    const rows = [...y.keys()].filter((row) => city.codes[row] === 1);
    const oslo = createJudge(
      judged.task,
      Float64Array.from(rows, (row) => y[row] ?? 0),
      Float64Array.from(rows.flatMap((row) => [...judged.answers.subarray(2 * row, 2 * row + 2)])),
    );
    expect(list.values.find(({ value }) => value === 'Oslo')).toMatchObject({ rows: rows.length, metrics: oslo.values(['accuracy', 'auc']) });
    for (const { metric, low = 1, high = 0 } of list.values) expect(low < metric && metric < high).toBe(true);
  });

  it('cut numbers at their deciles, cross two columns, and count what is too small', () => {
    const byNumber = sliceMetrics(judged, table, ['a'], { ...options, intervals: null });
    expect(byNumber.values).toHaveLength(10);
    expect(byNumber.values.every(({ rows, value }) => rows >= 195 && rows <= 205 && /^\[\d.*, .*[)\]]$/.test(value))).toBe(true);
    const crossed = sliceMetrics(judged, table, ['city', 'a'], { ...options, leastRows: 50 });
    expect(crossed.column).toBe('city × a');
    expect(crossed.values.length + crossed.tooSmall).toBe(40);
    expect(crossed.values.every(({ rows }) => rows >= 50)).toBe(true);
  });

  it('of one class alone are left out and counted where the metric needs two', () => {
    const zeros = { ...judged, y: y.map((label, row) => (city.codes[row] === 0 ? 0 : label)) };
    const list = sliceMetrics(zeros, table, ['city'], { ...options, metric: 'auc' });
    expect(list).toMatchObject({ withoutValue: 1, tooSmall: 0 });
    expect(list.values.map(({ value }) => value)).not.toContain('Bern');
  });
});

describe('curves', () => {
  it('of a binary task have the areas of its metrics', () => {
    const { roc = [], calibration = [], brierParts, confusion } = curvesOf(judged, ['no', 'yes']);
    const { auc, brier = 0 } = createJudge(judged.task, y, judged.answers).values();
    expect(roc.length).toBeLessThanOrEqual(200);
    expect(roc.at(-1)).toMatchObject({ falsePositiveRate: 1, truePositiveRate: 1 });
    const area = roc.reduce(
      (sum, point, i) =>
        sum + (point.falsePositiveRate - (roc[i - 1]?.falsePositiveRate ?? 0)) * ((point.truePositiveRate + (roc[i - 1]?.truePositiveRate ?? 0)) / 2),
      0,
    );
    expect(Math.abs(area - (auc ?? 0))).toBeLessThan(0.002);
    expect(calibration.reduce((sum, { rows }) => sum + rows, 0)).toBe(ROWS);
    expect((brierParts?.reliability ?? 0) - (brierParts?.resolution ?? 0) + (brierParts?.uncertainty ?? 0) + (brierParts?.within ?? 0)).toBeCloseTo(brier, 12);
    expect(Math.abs(brierParts?.within ?? 1)).toBeLessThan(0.001);
    expect(confusion?.counts.flat().reduce((sum, count) => sum + count, 0)).toBe(ROWS);
  });

  it('of a regression show residuals in few points, and of many classes the frequent ones', () => {
    const answers = a.map((value, row) => value + ((b[row] ?? 0) - 0.5));
    const { residuals } = curvesOf({ task: { kind: 'regression' }, y: a, answers, threshold: 0.5 }, []);
    expect(residuals?.points).toHaveLength(200);
    expect(residuals?.histogram.reduce((sum, { rows }) => sum + rows, 0)).toBe(ROWS);
    expect(residuals?.quantiles['50%']).toBeCloseTo(0, 1);
    const classes = Array.from({ length: 60 }, (_, k) => `c${k}`);
    const labels = Float64Array.from({ length: ROWS }, (_, row) => row % 60);
    const answered = new Float64Array(ROWS * 60).fill(1 / 60);
    const { confusion } = curvesOf({ task: { kind: 'multiclass', classes: 60 }, y: labels, answers: answered, threshold: 0.5 }, classes);
    expect(confusion?.classes).toHaveLength(51);
    expect(confusion?.classes.at(-1)).toBe('(others)');
    expect(confusion?.counts.flat().reduce((sum, count) => sum + count, 0)).toBe(ROWS);
  });
});
