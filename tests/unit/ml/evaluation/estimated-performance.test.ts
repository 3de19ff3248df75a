import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EvaluationReportSchema } from '../../../../contracts/evaluation.ts';
import { EstimatedPerformanceSchema, type ScoreBin } from '../../../../contracts/window-quality.ts';
import { isotonicShares, placesOf, scoreBinsOf, sharesAt } from '../../../../ml/evaluation/calibration.ts';
import { curvesOf } from '../../../../ml/evaluation/curves.ts';
import { calibrationOf, ESTIMATED_METRICS, estimatePerformance } from '../../../../ml/evaluation/estimated-performance.ts';
import { binomial } from '../../../../ml/evaluation/resample.ts';
import { createJudge } from '../../../../ml/metrics.ts';
import { createRandom, type Random } from '../../../../ml/random.ts';

type Figures = Readonly<Record<string, number>>;
interface Adult {
  readonly scores: string;
  readonly labels: string;
  readonly ages: string;
  readonly asTheyAre: Figures;
  readonly isotonic: { readonly bins: readonly [number, number, number][]; readonly at: readonly number[]; readonly shares: readonly number[] };
}

// scores of a model on adult's test rows, written by tests/fixtures/estimated/write.py with NannyML 0.13.1
const adult = JSON.parse(readFileSync(new URL('../../../fixtures/estimated/adult.json', import.meta.url), 'utf8')) as Adult;
const [steps, bits, ages] = [adult.scores, adult.labels, adult.ages].map((text) => Buffer.from(text, 'base64')) as [Buffer, Buffer, Buffer];
const scores = Float64Array.from({ length: ages.length }, (_, row) => steps.readUInt16LE(2 * row) / 65535);
const labels = Float64Array.from({ length: ages.length }, (_, row) => ((bits[row >> 3] ?? 0) >> (7 - (row & 7))) & 1);
const HALF = ages.length >> 1;

const intervals = { confidence: 0.95, replicates: 200, seed: 4 };
const BINARY = { task: 'binary', threshold: 0.5, intervals } as const;
const answersOf = (of: Float64Array): Float64Array => Float64Array.from([...of].flatMap((p) => [1 - p, p]));
const realised = (p: Float64Array, y: Float64Array): Record<string, number> => createJudge({ kind: 'binary' }, y, answersOf(p), 0.5).values();

/** So many rows of the second half, each taken with its chance. */
function windowOf(rows: number, random: Random, chance: (row: number) => number): { readonly p: Float64Array; readonly y: Float64Array } {
  const taken = new Set<number>();
  while (taken.size < rows) {
    const row = HALF + random.below(HALF);
    if (random.next() < chance(row)) taken.add(row);
  }
  return { p: Float64Array.from(taken, (row) => scores[row] as number), y: Float64Array.from(taken, (row) => labels[row] as number) };
}

describe('estimated performance', () => {
  it("of probabilities is NannyML's", () => {
    const found = estimatePerformance({ ...BINARY, scores: scores.subarray(0, 500), calibration: 'exact' });
    const tolerances: Figures = { auc: 1e-6, averagePrecision: 5e-5 };
    for (const [name, value] of Object.entries(adult.asTheyAre)) {
      // NannyML rounds the curves of these two to 5 digits, and adds up equal scores one by one
      expect(Math.abs((found.metrics[name]?.value ?? Number.NaN) - value), name).toBeLessThan(tolerances[name] ?? 1e-12);
    }
  });

  it("of more rows than are looked at one by one is the same within NannyML's rounding", () => {
    const random = createRandom(8);
    const rows = 60_000;
    const p = Float64Array.from({ length: rows }, () => random.next() ** 1.5);
    const found = estimatePerformance({ ...BINARY, scores: p, calibration: 'exact', intervals: { ...intervals, replicates: 20 } });
    const both = new Float64Array(2 * rows).fill(1, 0, rows);
    const weights = Float64Array.from(both, (label, row) => (label === 1 ? (p[row] as number) : 1 - (p[row - rows] as number)));
    const exact = createJudge({ kind: 'binary' }, both, answersOf(Float64Array.from([...p, ...p])), 0.5).values(undefined, weights);
    expect(Object.keys(found.metrics)).toEqual([...ESTIMATED_METRICS.binary]);
    for (const [name, { value }] of Object.entries(found.metrics)) expect(Math.abs(value - (exact[name] ?? Number.NaN)), name).toBeLessThan(5e-5);
  });

  it('has the closed form of its figures and of their sampling error', () => {
    // 40 rows that are hits with 0.9, 60 with 0.2
    const p = Float64Array.from({ length: 100 }, (_, row) => (row < 40 ? 0.9 : 0.2));
    const found = estimatePerformance({ ...BINARY, scores: p, calibration: 'exact', intervals: { ...intervals, replicates: 2_000 } });
    const { accuracy, precision, recall, logLoss } = found.metrics;
    expect(found.confusion?.truePositives).toBeCloseTo(36, 10);
    expect(found.confusion?.falseNegatives).toBeCloseTo(12, 10);
    expect(accuracy?.value).toBeCloseTo(0.84, 12);
    expect(precision?.value).toBeCloseTo(0.9, 12);
    expect(recall?.value).toBeCloseTo(36 / 48, 12);
    const entropy = (share: number): number => -share * Math.log(share) - (1 - share) * Math.log(1 - share);
    expect(logLoss?.value).toBeCloseTo(0.4 * entropy(0.9) + 0.6 * entropy(0.2), 12);
    const deviation = Math.sqrt(40 * 0.09 + 60 * 0.16) / 100;
    expect((accuracy?.samplingDeviation ?? 0) / deviation).toBeGreaterThan(0.95);
    expect((accuracy?.samplingDeviation ?? 0) / deviation).toBeLessThan(1.05);
    expect(accuracy?.calibrationDeviation).toBe(0);
    expect((accuracy?.high ?? 0) - (accuracy?.low ?? 0)).toBeGreaterThan(3.5 * deviation);
    expect((accuracy?.high ?? 0) - (accuracy?.low ?? 0)).toBeLessThan(4.3 * deviation);
  });

  it.each([
    ['as the evaluation', () => 1],
    ['of old people', (row: number) => (ages[row] ?? 0) / 90],
    ['of doubtful cases', (row: number) => 1 - Math.abs(2 * (scores[row] as number) - 1) * 0.9],
  ])('on real rows %s holds what labels show about as often as it says', (_, chance) => {
    const calibration = scoreBinsOf(scores.slice(0, HALF), labels.slice(0, HALF));
    const random = createRandom(17);
    const windows = 40;
    const held: Record<string, number> = { auc: 0, accuracy: 0, f1: 0, logLoss: 0 };
    for (let i = 0; i < windows; i++) {
      const { p, y } = windowOf(400, random, chance);
      const shown = realised(p, y);
      const { metrics } = estimatePerformance({
        ...BINARY,
        scores: p,
        calibration,
        metrics: Object.keys(held),
        intervals: { ...intervals, replicates: 120, seed: i },
      });
      for (const name of Object.keys(held)) {
        const [figure, value] = [metrics[name], shown[name] ?? Number.NaN];
        if (figure !== undefined && figure.low <= value && value <= figure.high) held[name] = (held[name] ?? 0) + 1;
      }
    }
    // of 40 windows 38 are expected, and four standard deviations are 5.5
    for (const [name, count] of Object.entries(held)) expect(count, name).toBeGreaterThanOrEqual(33);
  });

  it('states an error of the calibration that shrinks with the rows of the evaluation', () => {
    const deviationWith = (rows: number): number => {
      const calibration = scoreBinsOf(scores.slice(0, rows), labels.slice(0, rows));
      return estimatePerformance({ ...BINARY, scores: scores.slice(HALF), calibration, metrics: ['accuracy'] }).metrics['accuracy']?.calibrationDeviation ?? 0;
    };
    const [few, many] = [deviationWith(400), deviationWith(6_400)];
    // sixteen times the rows: a quarter of the error
    expect(few / many).toBeGreaterThan(2.5);
    expect(few / many).toBeLessThan(6.5);
  });

  it('corrects scores that are too sure', () => {
    const random = createRandom(3);
    const truth = Float64Array.from({ length: 6_000 }, () => random.next());
    const y = truth.map((p) => (random.next() < p ? 1 : 0));
    const sure = truth.map((p) => p ** 4 / (p ** 4 + (1 - p) ** 4));
    const calibration = scoreBinsOf(sure.slice(0, 3_000), y.slice(0, 3_000));
    const shown = realised(sure.slice(3_000), y.slice(3_000));
    const [corrected, believed] = [calibration, 'exact' as const].map((how) => estimatePerformance({ ...BINARY, scores: sure.slice(3_000), calibration: how }));
    expect(corrected?.metrics['accuracy']?.low).toBeLessThan(shown['accuracy'] ?? 0);
    expect(corrected?.metrics['accuracy']?.high).toBeGreaterThan(shown['accuracy'] ?? 1);
    expect(believed?.metrics['accuracy']?.low).toBeGreaterThan(shown['accuracy'] ?? 1);
  });

  it('of several classes estimates the share of right answers', () => {
    const random = createRandom(6);
    const confidence = Float64Array.from({ length: 2_000 }, () => 0.4 + 0.6 * random.next());
    const right = confidence.map((p) => (random.next() < p - 0.1 ? 1 : 0));
    const calibration = scoreBinsOf(confidence.slice(0, 1_000), right.slice(0, 1_000));
    const found = estimatePerformance({ task: 'multiclass', threshold: 0.5, scores: confidence.slice(1_000), calibration, intervals });
    const shown = right.slice(1_000).reduce((sum, hit) => sum + hit, 0) / 1_000;
    expect(Object.keys(found.metrics)).toEqual(['accuracy']);
    expect(found.confusion).toBeNull();
    expect(found.metrics['accuracy']?.low).toBeLessThan(shown);
    expect(found.metrics['accuracy']?.high).toBeGreaterThan(shown);
  });

  it('says what a window is of which nothing can be told', () => {
    const calibration = scoreBinsOf(scores.slice(0, 1_000), labels.slice(0, 1_000));
    const of = (given: readonly number[], bins: readonly ScoreBin[]) => estimatePerformance({ ...BINARY, scores: Float64Array.from(given), calibration: bins });
    expect(of([], calibration)).toMatchObject({ state: 'noRows', rows: 0, metrics: {} });
    expect(of([0.3, Number.NaN, 0.6], calibration)).toMatchObject({ state: 'fewRows', rows: 2, unusableAnswers: 1, metrics: {} });
    expect(of(new Array<number>(100).fill(0.5), [])).toMatchObject({ state: 'noCalibration', metrics: {} });
    // all scores alike, and none answered positive
    const alike = of(new Array<number>(100).fill(0.3), calibration);
    expect(alike.state).toBe('estimated');
    expect(alike.metrics).not.toHaveProperty('precision');
    expect(alike.metrics['auc']?.value).toBeCloseTo(0.5, 12);
    for (const { value, low, high } of Object.values(alike.metrics)) {
      expect(low).toBeLessThanOrEqual(value);
      expect(high).toBeGreaterThanOrEqual(value);
    }
    expect(EstimatedPerformanceSchema.parse(JSON.parse(JSON.stringify(alike)))).toEqual(alike);
  });

  it('tells the share of scores that the evaluation never saw', () => {
    const calibration = scoreBinsOf(
      Float64Array.from({ length: 100 }, (_, row) => 0.2 + row / 200),
      new Float64Array(100),
    );
    const found = estimatePerformance({ ...BINARY, scores: Float64Array.from({ length: 100 }, (_, row) => row / 100), calibration });
    expect(found.beyond).toBeCloseTo(0.5, 1);
  });

  it('of many rows is that of the rows, and draws labels for bins of them', () => {
    const random = createRandom(2);
    const many = Float64Array.from({ length: 50_000 }, () => random.next() ** 2);
    const found = estimatePerformance({ ...BINARY, scores: many, calibration: 'exact', metrics: ['accuracy', 'auc', 'ece'] });
    expect(Object.keys(found.metrics)).toEqual(['accuracy', 'auc']);
    const accuracy = many.reduce((sum, p) => sum + Math.max(p, 1 - p), 0) / many.length;
    const deviation = Math.sqrt(many.reduce((sum, p) => sum + p * (1 - p), 0)) / many.length;
    expect(found.metrics['accuracy']?.value).toBeCloseTo(accuracy, 10);
    expect((found.metrics['accuracy']?.samplingDeviation ?? 0) / deviation).toBeGreaterThan(0.85);
    expect((found.metrics['accuracy']?.samplingDeviation ?? 0) / deviation).toBeLessThan(1.15);
  });

  it('names figures that the evaluation has too', () => {
    const names = createJudge({ kind: 'binary' }, labels.slice(0, 100), answersOf(scores.slice(0, 100))).names;
    expect(names).toEqual(expect.arrayContaining([...ESTIMATED_METRICS.binary]));
  });
});

describe('the calibration', () => {
  it("of bins is scikit-learn's isotonic regression", () => {
    const bins = adult.isotonic.bins.map(([meanScore, rows, hits]) => ({ meanScore, rows, hits }));
    const shares = isotonicShares(bins);
    const found = sharesAt(placesOf(Float64Array.from(adult.isotonic.at), bins), shares);
    found.forEach((share, i) => {
      expect(share).toBeCloseTo(adult.isotonic.shares[i] ?? Number.NaN, 12);
    });
  });

  it('has bins for a rare class too, each with 20 rows, equal scores in one', () => {
    const random = createRandom(9);
    const p = Float64Array.from({ length: 40_000 }, () => (random.next() < 0.01 ? Math.round(random.next() * 500) / 500 : 0.001 * random.next()));
    const bins = scoreBinsOf(
      p,
      p.map((score) => (random.next() < score ? 1 : 0)),
    );
    expect(bins.reduce((sum, bin) => sum + bin.rows, 0)).toBe(40_000);
    expect(bins.length).toBeLessThanOrEqual(100);
    expect(bins.filter(({ from }) => from > 0.001).length).toBeGreaterThan(15);
    expect(bins.every(({ rows }) => rows >= 20)).toBe(true);
    bins.slice(1).forEach(({ from }, i) => {
      expect(from).toBeGreaterThan(bins[i]?.to ?? 1);
    });
  });

  it("is kept in the evaluation's report, and read from one of an earlier version", () => {
    const curves = curvesOf({ task: { kind: 'binary' }, y: labels.slice(0, HALF), answers: answersOf(scores.slice(0, HALF)), threshold: 0.5 }, [
      '<=50K',
      '>50K',
    ]);
    const kept = EvaluationReportSchema.options[0].shape.curves.parse(JSON.parse(JSON.stringify(curves)));
    expect(calibrationOf({ task: 'binary', curves: kept })).toEqual(scoreBinsOf(scores.slice(0, HALF), labels.slice(0, HALF)));
    const earlier = calibrationOf({ task: 'binary', curves: { calibration: kept.calibration } });
    expect(earlier).toHaveLength(15);
    expect(earlier.reduce((sum, { hits }) => sum + hits, 0)).toBe(labels.slice(0, HALF).reduce((sum, label) => sum + label, 0));
    expect(calibrationOf({ task: 'regression', curves: {} })).toEqual([]);
  });

  it.each([
    [7, 0.3],
    [400, 0.02],
    [1_000, 0.9],
    [5_000, 0.0001],
    [30, 0],
    [30, 1],
  ])('draws of %i rows and a share of %d have the mean and the variance of the binomial distribution', (rows, p) => {
    const random = createRandom(12);
    const drawn = Array.from({ length: 20_000 }, () => binomial(rows, p, random));
    const mean = drawn.reduce((sum, k) => sum + k, 0) / drawn.length;
    const variance = drawn.reduce((sum, k) => sum + (k - mean) ** 2, 0) / drawn.length;
    expect(drawn.every((k) => Number.isInteger(k) && k >= 0 && k <= rows)).toBe(true);
    expect(Math.abs(mean - rows * p)).toBeLessThanOrEqual(5 * Math.sqrt((rows * p * (1 - p)) / drawn.length));
    expect(Math.abs(variance - rows * p * (1 - p))).toBeLessThanOrEqual(0.08 * rows * p * (1 - p) + 1e-9);
  });
});
