import { describe, expect, it } from 'vitest';
import { categorical, numeric } from '../../../contracts/features.ts';
import { MillraceError } from '../../../contracts/errors.ts';
import { createJudge } from '../../../ml/metrics.ts';
import { createRandom } from '../../../ml/random.ts';
import { createScorer } from '../../../ml/score.ts';
import { trainPredictor, type TrainPredictorInput } from '../../../ml/train-predictor.ts';
import { type Cell, rawTable } from './raw-tables.ts';

/** Searches with what they showed: cheap and well rated things are relevant, by what else was shown. */
function searches(count: number, seed: number) {
  const random = createRandom(seed);
  const columns: Record<string, Cell[]> = { search: [], searchNumber: [], price: [], rating: [], brand: [], relevance: [] };
  for (let search = 0; search < count; search++) {
    const level = random.normal() * 20;
    for (let i = 0; i < 6 + random.below(8); i++) {
      const [price, rating, brand] = [50 + level + random.normal() * 10, random.below(50) / 10, ['a', 'b', 'c'][random.below(3)] ?? ''];
      const appeal = rating - (price - 50 - level) / 10 + (brand === 'a' ? 1 : 0) + random.normal() / 2;
      columns['search']?.push(`search ${String(search)}`);
      columns['searchNumber']?.push(search * 1.5);
      columns['price']?.push(random.next() < 0.03 ? null : price);
      columns['rating']?.push(rating);
      columns['brand']?.push(random.next() < 0.03 ? null : brand);
      columns['relevance']?.push(appeal > 5 ? 2 : appeal > 3.5 ? 1 : 0);
    }
  }
  return columns;
}

const [train, validation] = [searches(150, 1), searches(60, 2)];
const features = { price: numeric(), rating: numeric(), brand: categorical() };
const input = (given: Partial<TrainPredictorInput> = {}): TrainPredictorInput => ({
  trainer: { name: 'gbdt', parameters: { trees: 40, leaves: 8 } },
  features,
  train: rawTable(train),
  validation: rawTable(validation),
  target: 'relevance',
  taskKind: 'regression',
  group: 'search',
  seed: 3,
  threads: 1,
  ...given,
});

async function errorOf(work: Promise<unknown>): Promise<MillraceError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('a ranking', () => {
  it('becomes one ONNX file of scores, judged by rankings alone, that asks for no group', async () => {
    const trained = await trainPredictor(input());
    expect(trained.task).toEqual({ kind: 'regression', target: 'relevance', group: 'search' });
    expect([...trained.graph.numbers, ...trained.graph.strings].sort()).toEqual(['brand', 'price', 'rating']);
    const { metrics = {}, predictions = new Float64Array(0) } = trained.validation ?? {};
    expect(Object.keys(metrics)).toEqual(['ndcg', 'ndcg@5', 'ndcg@10', 'map', 'map@10', 'mrr']);
    expect(metrics['ndcg@10']).toBeGreaterThan(0.85);
    expect(trained.history.at(-1)?.metrics['validationNdcg']).toBeCloseTo(metrics['ndcg@10'] ?? 0, 12);
    const scorer = await createScorer(trained.onnx, trained.graph);
    const { values } = await scorer.score(rawTable(validation));
    await scorer.close();
    expect(values).toHaveLength(predictions.length);
    values.forEach((value, row) => {
      expect(value).toBeCloseTo(predictions[row] ?? Number.NaN, 4);
    });
  });

  it('is the same whether texts or numbers name the groups, and beats a regression on the same target', async () => {
    const named = await trainPredictor(input());
    const numbered = await trainPredictor(input({ group: 'searchNumber' }));
    expect(Buffer.from(numbered.onnx).equals(Buffer.from(named.onnx))).toBe(true);
    const { group: _, ...alone } = input();
    const regression = await trainPredictor(alone);
    const [y, groups] = [
      Float64Array.from(validation['relevance'] ?? [], Number),
      Int32Array.from((validation['searchNumber'] ?? []).map((n) => Number(n) / 1.5)),
    ];
    const found = createJudge({ kind: 'ranking', groups }, y, regression.validation?.predictions ?? new Float64Array(0)).values(['ndcg@10'])['ndcg@10'] ?? 1;
    expect(named.validation?.metrics['ndcg@10']).toBeGreaterThan(found);
  });

  it('is looked at on its way by the same metrics', async () => {
    const seen: [number, number][] = [];
    await trainPredictor(
      input({
        rungs: {
          fractions: [0.25, 0.5],
          judge: (fraction, metrics) => seen.push([fraction, metrics['ndcg@10'] ?? Number.NaN]),
        },
      }),
    );
    expect(seen.map(([fraction]) => fraction)).toEqual([0.25, 0.5]);
    expect(seen.every(([, ndcg]) => ndcg > 0.7 && ndcg <= 1)).toBe(true);
  });

  it('names the column of groups that is missing, and rows that have no group', async () => {
    const absent = await errorOf(trainPredictor(input({ group: 'query' })));
    expect(absent).toMatchObject({ code: 'COLUMN_MISSING', problems: [{ path: 'group', column: 'query' }] });
    for (const [group, what] of [
      ['search', 'training'],
      ['searchNumber', 'training'],
    ] as const) {
      const holes = { ...train, [group]: (train[group] ?? []).map((cell, row) => (row < 3 ? null : cell)) };
      const error = await errorOf(trainPredictor(input({ group, train: rawTable(holes) })));
      expect(error).toMatchObject({ code: 'TARGET_INVALID', message: `3 ${what} rows belong to no group.` });
      expect(error.problems).toMatchObject([{ path: 'group', column: group, found: `3 of ${String(train['price']?.length)} rows` }]);
    }
  });

  it.each(['linear', 'mlp'])('is refused by %s', async (name) => {
    const error = await errorOf(trainPredictor(input({ trainer: { name } })));
    expect(error).toMatchObject({ code: 'INVALID_PARAMETERS', problems: [{ path: 'group', message: 'is for the trainer gbdt' }] });
  });

  it('says that relevances are numbers from 0', async () => {
    const negative = { ...train, relevance: (train['relevance'] ?? []).map((cell) => Number(cell) - 1) };
    const error = await errorOf(trainPredictor(input({ train: rawTable(negative) })));
    expect(error).toMatchObject({ code: 'TARGET_INVALID', problems: [{ message: 'a target must be a relevance from 0 to 31' }] });
  });
});
