import { expect, it } from 'vitest';
import { readyTune } from '../../../activities/ready-tune.ts';
import { numeric } from '../../../contracts/features.ts';

const dataset = (name: string) => ({ kind: 'dataset', id: 'a'.repeat(64), name, rows: 100, columns: [{ name: 'x', type: 'number' }] });
const trained = (more: object = {}) => ({
  kind: 'train',
  input: {
    train: dataset('fit'),
    validation: dataset('judged'),
    trainer: { name: 'gbdt', parameters: { trees: 7, maxBins: 63 } },
    target: 'y',
    features: { x: numeric() },
    ...more,
  },
  output: { task: 'regression' },
});

it('searches what is worth it of the trainer, on the data, with the weights and groups of the training', () => {
  const ready = readyTune('dailyPrices', [{ kind: 'ingest', input: {}, output: {} }, trained({ weight: 'recency', group: 'shop', task: 'ranking' })]);
  expect(ready).toMatchObject({
    pipeline: 'dailyPricesExperiment',
    file: 'pipelines/daily-prices-experiment/pipeline.ts',
    command: 'millrace run dailyPricesExperiment',
  });
  for (const line of [`tune(gbdt({"maxBins":63}), {`, `group: "shop",`, `weight: "recency",`, `task: "ranking",`, `metric: "ndcg",`, `trees: int(50, 600)`])
    expect(ready?.code).toContain(line);
  expect(readyTune('p', [trained()])?.code).not.toMatch(/weight:|group:/);
});

it('is none where there are no validation rows, or parameters are those of a program', () => {
  expect(readyTune('p', [])).toBeNull();
  expect(readyTune('p', [trained({ validation: undefined })])).toBeNull();
  expect(readyTune('p', [trained({ trainer: { name: 'python', parameters: { script: 'train.py' } } })])).toBeNull();
});
