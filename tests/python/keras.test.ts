/** Keras' example of docs/training.md. A file of its own, since its packages take a minute to fetch where they are not in the cache. */
import { beforeAll, describe, expect, it } from 'vitest';
import { python } from '../../workflows/trainers.ts';
import { guideProject } from '../support/guide-project.ts';
import { openTraining } from '../support/external-training.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining(await guideProject('docs/training.md'));
});

describe('Keras', () => {
  const trainer = (epochs: number) =>
    python({ script: 'trainers/with_keras.py', requirements: 'trainers/keras.txt', parameters: { epochs, batch: 32, rate: 0.01 } });

  it('learns two classes, and its network is served behind the features', async () => {
    const { trained, sample } = await training.train(trainer(6));
    expect(trained.history.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
    // the same figure from Keras and from the joined graph
    expect(trained.history.at(-1)?.metrics['val_loss']).toBeCloseTo(trained.validation?.metrics['logLoss'] ?? 0, 4);
    expect(sample.output[0]?.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 5);
  });

  it('goes on from its checkpoint', async () => {
    expect(training.checkpoint()?.step).toBe(6);
    const { trained } = await training.train(trainer(8));
    expect(trained.history.map(({ step }) => step)).toEqual([7, 8]);
  });

  it('learns numbers', async () => {
    training.forgetCheckpoint();
    const { trained } = await training.train(trainer(8), { job: { target: 'minutes', targetType: 'number' } });
    expect(trained.task).toEqual({ kind: 'regression', target: 'minutes' });
    const losses = trained.history.map(({ metrics }) => metrics['loss'] ?? Number.NaN);
    expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
  });
});
