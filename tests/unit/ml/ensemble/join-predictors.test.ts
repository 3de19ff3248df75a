import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { categorical, datetime, numeric, text } from '../../../../contracts/features.ts';
import { joinPredictors } from '../../../../ml/ensemble/join-predictors.ts';
import { fitMetaModel, metaMatrix } from '../../../../ml/ensemble/meta-model.ts';
import type { PredictorGraph } from '../../../../ml/predictor.ts';
import { createRandom } from '../../../../ml/random.ts';
import { createScorer, type Scorer } from '../../../../ml/score.ts';
import { type TrainedPredictor, trainPredictor } from '../../../../ml/train-predictor.ts';
import { type Cell, rawTable } from '../raw-tables.ts';

const WORDS = ['free', 'money', 'hello', 'Straße', 'lunch', '賞品', 'report'];

function rowsOf(rows: number, seed: number) {
  const random = createRandom(seed);
  const columns: Record<string, (Cell | Date)[]> = { distance: [], origin: [], at: [], body: [], late: [], grade: [], minutes: [] };
  for (let row = 0; row < rows; row++) {
    const distance = random.below(2_000);
    const origin = ['JFK', 'LAX', 'Zürich'][random.below(3)] ?? '';
    const words = Array.from({ length: 4 }, () => WORDS[random.below(WORDS.length)] ?? '');
    const score = distance / 1_000 + (origin === 'JFK' ? 1 : 0) + (words.includes('free') ? 1.5 : 0) + random.normal() / 3;
    columns['distance']?.push(random.next() < 0.05 ? null : distance);
    columns['origin']?.push(random.next() < 0.05 ? null : origin);
    columns['at']?.push(new Date(Date.UTC(2001, 0, 1 + random.below(300), random.below(24))));
    columns['body']?.push(words.join(' '));
    columns['late']?.push(score > 1.8);
    columns['grade']?.push(score > 2.4 ? 'high' : score > 1.4 ? 'middle' : 'low');
    columns['minutes']?.push(score * 10);
  }
  return rawTable(columns);
}

/** Any row: nulls, unknown values, extreme numbers, Unicode. */
const anyRows = fc.array(
  fc.record({
    distance: fc.oneof(fc.constant(null), fc.double({ noNaN: true, min: -1e30, max: 1e30 }), fc.integer({ min: 0, max: 2_000 })),
    origin: fc.oneof(fc.constant(null), fc.constantFrom('JFK', 'LAX', 'Zürich'), fc.string({ unit: 'grapheme', maxLength: 8 })),
    at: fc.date({ min: new Date('1900-01-01'), max: new Date('2100-01-01'), noInvalidDate: true }),
    body: fc.oneof(
      fc.constantFrom(...WORDS),
      fc.string({ unit: 'grapheme', maxLength: 30 }).filter((body) => !body.includes('\0')),
    ),
  }),
  { minLength: 1, maxLength: 12 },
);

const TRAINERS = {
  gbdt: { features: { distance: numeric(), at: datetime({ parts: ['hour', 'month'] }), origin: categorical() }, parameters: { trees: 8, leaves: 6 } },
  linear: { features: { body: text(), distance: numeric() }, parameters: {} },
  mlp: { features: { origin: categorical(), distance: numeric() }, parameters: { epochs: 2, hidden: [8] } },
} as const;
const TASKS = { late: 2, grade: 3, minutes: 1 } as const;
const union = (members: readonly TrainedPredictor[]): PredictorGraph => ({
  numbers: [...new Set(members.flatMap(({ graph }) => graph.numbers))],
  dates: [...new Set(members.flatMap(({ graph }) => graph.dates))],
  strings: [...new Set(members.flatMap(({ graph }) => graph.strings))].reverse(),
});

describe.each(['late', 'grade', 'minutes'] as const)('gbdt, linear on text and mlp, joined for the target %s', (target) => {
  const outputs = TASKS[target];
  const train = rowsOf(400, 1);
  let members: readonly TrainedPredictor[];
  let alone: readonly Scorer[];
  beforeAll(async () => {
    members = await Promise.all(
      (['gbdt', 'linear', 'mlp'] as const).map((name) =>
        trainPredictor({
          trainer: { name, parameters: TRAINERS[name].parameters },
          features: TRAINERS[name].features,
          train,
          target,
          ...(target === 'late' ? { targetType: 'boolean' as const } : {}),
          seed: 1,
          threads: 1,
        }),
      ),
    );
    alone = await Promise.all(members.map(({ onnx, graph }) => createScorer(onnx, graph)));
    return async () => {
      await Promise.all(alone.map((scorer) => scorer.close()));
    };
  }, 60_000);

  const agrees = async (onnx: Uint8Array, expected: (answers: readonly Float32Array[], rows: number) => ArrayLike<number>): Promise<void> => {
    const joined = await createScorer(onnx, union(members));
    try {
      await fc.assert(
        fc.asyncProperty(anyRows, async (rows) => {
          const table = rawTable({
            distance: rows.map((row) => row.distance),
            origin: rows.map((row) => row.origin),
            at: rows.map((row) => row.at),
            body: rows.map((row) => row.body),
          });
          // a column of nulls alone is a text column all the same
          if (table.columns.get('origin')?.kind !== 'string')
            (table.columns as Map<string, unknown>).set('origin', { kind: 'string', codes: new Int32Array(rows.length).fill(-1), dictionary: [] });
          const answers: Float32Array[] = [];
          for (const scorer of alone) answers.push((await scorer.score(table)).values);
          const wanted = expected(answers, rows.length);
          const { values } = await joined.score(table);
          expect(values.length).toBe(rows.length * outputs);
          values.forEach((value, i) => {
            const should = wanted[i] ?? Number.NaN;
            expect(Math.abs(value - should)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(should)));
          });
        }),
        { numRuns: 25, seed: 4 },
      );
    } finally {
      await joined.close();
    }
  };
  const join = (combine: Parameters<typeof joinPredictors>[0]['combine']): Uint8Array => joinPredictors({ members, graph: union(members), outputs, combine });

  it('answers the weighted mean of its members', async () => {
    const weights = [0.5, 0.3, 0.2];
    const onnx = join({ kind: 'mean', weights });
    expect(join({ kind: 'mean', weights })).toEqual(onnx);
    await agrees(onnx, (answers, rows) =>
      Float64Array.from({ length: rows * outputs }, (_, i) => weights.reduce((sum, weight, m) => sum + weight * (answers[m]?.[i] ?? 0), 0)),
    );
  });

  it('leaves a member of no weight out of the file', async () => {
    const onnx = join({ kind: 'mean', weights: [0, 1, 0] });
    expect(onnx.length).toBeLessThan((members[1]?.onnx.length ?? 0) + 2_000);
    await agrees(onnx, (answers) => answers[1] ?? []);
  });

  it('answers what the meta model says of its members', async () => {
    const unseen = rowsOf(200, 2);
    const answers = await Promise.all(alone.map(async (scorer) => (await scorer.score(unseen)).values));
    const column = unseen.columns.get(target);
    const classes = ['high', 'low', 'middle'];
    const y =
      column?.kind === 'string'
        ? Float64Array.from(column.codes, (code) => classes.indexOf(column.dictionary[code] ?? ''))
        : (column?.values ?? new Float64Array(0));
    const meta = await fitMetaModel({
      task: outputs === 1 ? { kind: 'regression' } : outputs === 2 ? { kind: 'binary' } : { kind: 'multiclass', classes: 3 },
      parameters: {},
      answers,
      y,
      outputs,
      members: ['gbdt', 'linear', 'mlp'],
    });
    expect(meta.shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    await agrees(join({ kind: 'meta', toOnnx: (input, prefix) => meta.trained.toOnnx(input, prefix) }), (given, rows) =>
      meta.trained.predict(metaMatrix(given, rows, outputs)),
    );
  });
});
