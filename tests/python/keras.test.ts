/** Keras' example of docs/training.md. A file of its own, since its packages take a minute to fetch where they are not in the cache. */
import { beforeAll, describe, expect, it } from 'vitest';
import { python } from '../../workflows/trainers.ts';
import { guideProject } from '../support/guide-project.ts';
import { openTraining } from '../support/external-training.ts';
import { goesOnFromItsCheckpoint, learnsNumbers, learnsTwoClasses } from '../support/network-example.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining(await guideProject('docs/training.md'));
});

describe('Keras', () => {
  const trainer = (epochs: number) =>
    python({ script: 'trainers/with_keras.py', requirements: 'trainers/keras.txt', parameters: { epochs, batch: 32, rate: 0.01 } });

  it('learns two classes, and its network is served behind the features', async () => {
    const { trained } = await learnsTwoClasses(training, trainer);
    // the same figure from Keras and from the joined graph
    expect(trained.history.at(-1)?.metrics['val_loss']).toBeCloseTo(trained.validation?.metrics['logLoss'] ?? 0, 4);
  });

  it('goes on from its checkpoint', async () => {
    await goesOnFromItsCheckpoint(training, trainer);
  });

  it('learns numbers', async () => {
    await learnsNumbers(training, trainer);
  });
});
