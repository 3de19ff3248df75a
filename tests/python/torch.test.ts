/** PyTorch's example of docs/training.md. A file of its own, since its packages take minutes to fetch where they are not in the cache. */
import { beforeAll, describe, expect, it } from 'vitest';
import { detectGpus } from '../../stack/gpus.ts';
import { python } from '../../workflows/trainers.ts';
import { guideProject } from '../support/guide-project.ts';
import { openTraining } from '../support/external-training.ts';
import { goesOnFromItsCheckpoint, learnsNumbers, learnsTwoClasses } from '../support/network-example.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining(await guideProject('docs/training.md'));
});

describe('PyTorch', () => {
  const trainer = (epochs: number) =>
    python({ script: 'trainers/with_torch.py', requirements: 'trainers/torch.txt', parameters: { epochs, batch: 32, rate: 0.01 } });

  it('learns two classes, and its network is served behind the features', async () => {
    await learnsTwoClasses(training, trainer);
  });

  it('goes on from its checkpoint', async () => {
    await goesOnFromItsCheckpoint(training, trainer);
  });

  const [gpu] = detectGpus();
  it.skipIf(gpu === undefined)('learns on the device that its stage holds [needs GPU]', async () => {
    training.forgetCheckpoint();
    const device = { index: gpu?.index ?? 0, ordinal: 0, name: gpu?.name ?? '', figures: () => undefined, shown: () => '', release: () => Promise.resolve() };
    const { trained } = await training.train(trainer(6), { device });
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
  });

  it('learns numbers', async () => {
    await learnsNumbers(training, trainer);
  });
});
