/** PyTorch's example of docs/training.md. A file of its own, since its packages take minutes to fetch where they are not in the cache. */
import { beforeAll, describe, expect, it } from 'vitest';
import { detectGpus } from '../../stack/gpus.ts';
import { python } from '../../workflows/trainers.ts';
import { guideProject } from '../support/guide-project.ts';
import { openTraining } from '../support/external-training.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining(await guideProject('docs/training.md'));
});

describe('PyTorch', () => {
  const trainer = (epochs: number) =>
    python({ script: 'trainers/with_torch.py', requirements: 'trainers/torch.txt', parameters: { epochs, batch: 32, rate: 0.01 } });

  it('learns two classes, and its network is served behind the features', async () => {
    const { trained, sample } = await training.train(trainer(6));
    expect(trained.history.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
    expect(sample.output[0]?.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 5);
  });

  it('goes on from its checkpoint', async () => {
    expect(training.checkpoint()?.step).toBe(6);
    const { trained } = await training.train(trainer(8));
    expect(trained.history.map(({ step }) => step)).toEqual([7, 8]);
  });

  const [gpu] = detectGpus();
  it.skipIf(gpu === undefined)('learns on the device that its stage holds [needs GPU]', async () => {
    training.forgetCheckpoint();
    const device = { index: gpu?.index ?? 0, ordinal: 0, name: gpu?.name ?? '', figures: () => undefined, shown: () => '', release: () => Promise.resolve() };
    const { trained } = await training.train(trainer(6), { device });
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
  });

  it('learns numbers', async () => {
    training.forgetCheckpoint();
    const { trained } = await training.train(trainer(8), { job: { target: 'minutes', targetType: 'number' } });
    expect(trained.task).toEqual({ kind: 'regression', target: 'minutes' });
    const losses = trained.history.map(({ metrics }) => metrics['loss'] ?? Number.NaN);
    expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
  });
});
