import { describe, expect, it } from 'vitest';
import { categorical, datetime, numeric, text } from '../../../contracts/features.ts';
import type { SignatureSchema } from '../../../contracts/signature.ts';
import { transformFeatures } from '../../../ml/features/transform-features.ts';
import { fitFeatures } from '../../../ml/features/fit-features.ts';
import { createRandom } from '../../../ml/random.ts';
import { createScorer, samplePredictions } from '../../../ml/score.ts';
import { trainPredictor, type TrainPredictorInput } from '../../../ml/train-predictor.ts';
import { type Cell, rawTable } from './raw-tables.ts';
import type { z } from 'zod';

type SignatureColumns = z.output<typeof SignatureSchema>['columns'];
const WORDS = ['free', 'money', 'hello', 'meeting', 'lunch', 'prize', 'report'];

/** Rows with every kind of column, and targets that depend on them. */
function table(rows: number, seed: number) {
  const random = createRandom(seed);
  const columns: Record<string, (Cell | Date)[]> = { distance: [], origin: [], at: [], body: [], late: [], grade: [], minutes: [] };
  const push = (name: string, cell: Cell | Date): unknown => columns[name]?.push(cell);
  for (let row = 0; row < rows; row++) {
    const distance = random.below(2000);
    const origin = ['JFK', 'LAX', 'Zürich', 'ORD'][random.below(4)] ?? '';
    const hour = random.below(24);
    const words = Array.from({ length: 5 }, () => WORDS[random.below(WORDS.length)] ?? '');
    const score = distance / 1000 + (origin === 'JFK' ? 1 : 0) + (hour > 17 ? 1 : 0) + (words.includes('free') ? 1.5 : 0) + random.normal() / 4;
    push('distance', random.next() < 0.05 ? null : distance);
    push('origin', random.next() < 0.05 ? null : origin);
    push('at', random.next() < 0.05 ? null : new Date(Date.UTC(1969, 6, 1 + random.below(400), hour, random.below(60))));
    push('body', random.next() < 0.05 ? null : words.join(' '));
    push('late', score > 2.2);
    push('grade', score > 3 ? 'high' : score > 2 ? 'middle' : 'low');
    push('minutes', score * 10);
  }
  return rawTable(columns);
}

const features = { distance: numeric(), origin: categorical(), at: datetime({ parts: ['hour', 'month'] }), body: text() };
const train = table(1500, 1);
const validation = table(500, 2);
const parametersOf = { gbdt: { trees: 20, leaves: 8 }, linear: {}, mlp: { epochs: 4, hidden: [16], batchSize: 64, learningRate: 0.01 } } as const;
const inputFor = (trainer: keyof typeof parametersOf, target: string): TrainPredictorInput => ({
  trainer: { name: trainer, parameters: parametersOf[trainer] },
  features,
  train,
  validation,
  target,
  seed: 11,
  threads: 1,
});

describe.each(['gbdt', 'linear', 'mlp'] as const)('trainPredictor with %s', (trainer) => {
  it.each([
    ['late', 'binary', 'auc', 0.9],
    ['grade', 'multiclass', 'accuracy', 0.7],
    ['minutes', 'regression', 'r2', 0.6],
  ] as const)('makes one ONNX file for %s that answers as the trainer does', async (target, kind, metric, atLeast) => {
    const trained = await trainPredictor(inputFor(trainer, target));
    expect(trained.task.kind).toBe(kind);
    expect(trained.validation?.metrics[metric]).toBeGreaterThan(atLeast);
    const scorer = await createScorer(trained.onnx, trained.graph);
    try {
      const scores = await scorer.score(validation, { batchRows: 128 });
      const expected = trained.validation?.predictions ?? new Float64Array(0);
      expect(scores.values).toHaveLength(expected.length);
      const worst = expected.reduce((max, value, i) => Math.max(max, Math.abs(value - (scores.values[i] ?? Number.NaN)) / Math.max(1, Math.abs(value))), 0);
      expect(worst).toBeLessThan(2e-5);
    } finally {
      await scorer.close();
    }
    expect(trained.importance.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5);
  });

  it('gives the same bytes again, and from a checkpoint', async () => {
    const states: Uint8Array[] = [];
    const first = await trainPredictor({
      ...inputFor(trainer, 'late'),
      ...(trainer === 'linear' ? { trainer: { name: trainer, parameters: { checkpointEvery: 4 } } } : {}),
      checkpoint: (_, state) => {
        if (states.length < 2) states.push(state());
      },
    });
    const [, second] = states;
    if (second === undefined) throw new Error('no checkpoint was made');
    const again = await trainPredictor({
      ...inputFor(trainer, 'late'),
      ...(trainer === 'linear' ? { trainer: { name: trainer, parameters: { checkpointEvery: 4 } } } : {}),
      resume: second,
    });
    expect(Buffer.from(again.onnx).equals(first.onnx)).toBe(true);
    expect(again.history).toEqual(first.history);
  });
});

describe('trainPredictor', () => {
  it('names classes by the type of the target', async () => {
    const numbers = await trainPredictor({ ...inputFor('linear', 'late') });
    expect(numbers.task).toEqual({ kind: 'binary', target: 'late', classes: ['0', '1'] });
    const booleans = await trainPredictor({ ...inputFor('linear', 'late'), targetType: 'boolean', thresholdFor: 'f1' });
    expect(booleans.task).toEqual({ kind: 'binary', target: 'late', classes: ['false', 'true'] });
    expect(booleans.threshold).not.toBe(0.5);
    const grades = await trainPredictor(inputFor('linear', 'grade'));
    expect(grades.task).toEqual({ kind: 'multiclass', target: 'grade', classes: ['high', 'low', 'middle'] });
  });

  it('leaves validation rows out whose class training never saw', async () => {
    const odd = rawTable({ distance: [1, 2], origin: ['JFK', 'LAX'], at: [new Date(0), null], body: ['free', 'x'], grade: ['high', 'unseen'] });
    const trained = await trainPredictor({ ...inputFor('linear', 'grade'), validation: odd });
    expect(trained.validation).toMatchObject({ skippedRows: 1, rowIndex: Uint32Array.of(0) });
  });

  it.each([
    ['a target with nulls', { late: [true, null, false, null] }, 'TARGET_INVALID', '2 rows have no value'],
    ['a target of one class', { late: [true, true, true, true] }, 'TARGET_ONE_CLASS', 'All rows of the target are 1'],
    ['a timestamp', { late: [new Date(0), new Date(1), new Date(2), new Date(3)] }, 'TARGET_INVALID', 'timestamp'],
    ['no such column', { other: [1, 2, 3, 4] }, 'COLUMN_MISSING', 'late'],
  ])('refuses %s', async (_, columns, code, message) => {
    const input = { ...inputFor('linear', 'late'), features: { x: numeric() }, train: rawTable({ x: [1, 2, 3, 4], ...columns }) };
    await expect(trainPredictor(input)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
  });

  it('refuses an unknown trainer, and lists every wrong parameter', async () => {
    await expect(trainPredictor({ ...inputFor('linear', 'late'), trainer: { name: 'forest' } })).rejects.toMatchObject({ code: 'INVALID_PARAMETERS' });
    const wrong = trainPredictor({ ...inputFor('linear', 'late'), trainer: { name: 'linear', parameters: { l2: -1, maxIterations: 0 } } });
    await expect(wrong).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ path: 'trainer.parameters.l2' }, { path: 'trainer.parameters.maxIterations' }],
    });
  });

  it('refuses the target as a feature', async () => {
    const input = { ...inputFor('linear', 'late'), features: { late: numeric() } };
    await expect(trainPredictor(input)).rejects.toMatchObject({ code: 'FEATURES_INVALID' });
  });

  it('samples rows as a request carries them, with their outputs', async () => {
    const trained = await trainPredictor(inputFor('gbdt', 'late'));
    const columns: SignatureColumns = [
      { name: 'distance', type: 'number' },
      { name: 'origin', type: 'string' },
      { name: 'at', type: 'timestamp' },
      { name: 'body', type: 'string' },
    ];
    const sample = await samplePredictions({ onnx: trained.onnx, signature: { columns, graph: trained.graph }, table: validation, count: 3 });
    expect(sample.rows).toHaveLength(3);
    for (const row of sample.rows) expect(Object.keys(row)).toEqual(['distance', 'origin', 'at', 'body']);
    sample.output.forEach((probabilities) => {
      expect(probabilities).toHaveLength(2);
      expect((probabilities[0] ?? 0) + (probabilities[1] ?? 0)).toBeCloseTo(1, 6);
    });
    expect(JSON.parse(JSON.stringify(sample))).toEqual(sample);
  });
});

describe('fitFeatures', () => {
  it('lists every feature that does not fit', () => {
    const broken = { distance: text(), nowhere: numeric(), origin: datetime(), body: numeric() };
    expect(() => fitFeatures({ features: broken, table: train, trainer: 'gbdt', seed: 1 })).toThrow(
      expect.objectContaining({
        code: 'FEATURES_INVALID',
        problems: [
          expect.objectContaining({ path: 'features.distance' }),
          expect.objectContaining({ path: 'features.nowhere' }),
          expect.objectContaining({ path: 'features.origin' }),
          expect.objectContaining({ path: 'features.body' }),
        ] as unknown[],
      }) as Error,
    );
  });

  it.each([
    ['COLUMN_MISSING', { nowhere: numeric() }],
    ['COLUMN_TYPE', { origin: numeric() }],
  ])('says %s when nothing else is wrong', (code, wrong) => {
    expect(() => fitFeatures({ features: wrong, table: train, trainer: 'gbdt', seed: 1 })).toThrow(expect.objectContaining({ code }) as Error);
  });

  it('refuses a column without any value', () => {
    const empty = rawTable({ x: [null, null], y: [1, 2] });
    expect(() => fitFeatures({ features: { x: numeric(), y: numeric() }, table: empty, trainer: 'linear', seed: 1 })).toThrow(
      expect.objectContaining({ code: 'FEATURES_INVALID' }) as Error,
    );
  });

  it('puts dense matrices on shared memory, and text for linear models into sparse rows', () => {
    const dense = fitFeatures({ features, table: train, trainer: 'gbdt', seed: 1 });
    const matrix = transformFeatures(dense, train);
    expect(matrix.kind === 'dense' && matrix.data.buffer instanceof SharedArrayBuffer).toBe(true);
    expect(transformFeatures(fitFeatures({ features, table: train, trainer: 'linear', seed: 1 }), train).kind).toBe('sparse');
  });
});
