import { expect } from 'vitest';
import type { python } from '../../workflows/trainers.ts';
import type { openTraining } from './external-training.ts';

type Training = Awaited<ReturnType<typeof openTraining>>;
type Trainer = (epochs: number) => ReturnType<typeof python>;
type Trained = Awaited<ReturnType<Training['train']>>;

/** Six epochs over two classes, from the beginning. */
export async function learnsTwoClasses(training: Training, trainer: Trainer): Promise<Trained> {
  const found = await training.train(trainer(6));
  const { trained, sample } = found;
  expect(trained.history.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
  expect(sample.output[0]?.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 5);
  return found;
}

/** Two epochs more, from the checkpoint that the six have left. */
export async function goesOnFromItsCheckpoint(training: Training, trainer: Trainer): Promise<void> {
  expect(training.checkpoint()?.step).toBe(6);
  const { trained } = await training.train(trainer(8));
  expect(trained.history.map(({ step }) => step)).toEqual([7, 8]);
}

export async function learnsNumbers(training: Training, trainer: Trainer): Promise<void> {
  training.forgetCheckpoint();
  const { trained } = await training.train(trainer(8), { job: { target: 'minutes', targetType: 'number' } });
  expect(trained.task).toEqual({ kind: 'regression', target: 'minutes' });
  const losses = trained.history.map(({ metrics }) => metrics['loss'] ?? Number.NaN);
  expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
}
