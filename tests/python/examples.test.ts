/** The complete examples of docs/training.md, run by the real libraries on real processes. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { python } from '../../workflows/trainers.ts';
import { guideProject } from '../support/guide-project.ts';
import { openTraining, refusal } from '../support/external-training.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining(await guideProject('docs/training.md'));
});
beforeEach(() => training.forgetCheckpoint());
const requirements = 'trainers/requirements.txt';

/** The script, dying by its own hand when it has said so many lines. */
async function dyingAfter(script: string, lines: number): Promise<void> {
  const path = join(training.project, script);
  const code = await readFile(path, 'utf8');
  await rename(path, `${path}.whole`);
  await writeFile(
    path,
    `import builtins, os, signal, time
said = 0
def dying_print(*given, _print=print, **more):
    global said
    _print(*given, **more)
    said += 1
    if said == ${String(lines)}:
        time.sleep(3)
        os.kill(os.getpid(), signal.SIGKILL)
builtins.print = dying_print
${code}`,
  );
}
const wholeAgain = (script: string) => rename(join(training.project, `${script}.whole`), join(training.project, script));

describe('LightGBM', () => {
  it.each([
    ['two classes', {}, 'auc', 0.85],
    ['several classes', { target: 'carrier', features: 'distance' }, 'accuracy', 0.2],
    ['numbers', { target: 'minutes', targetType: 'number' as const }, 'r2', 0.9],
  ])('learns %s', async (_what, { features, ...changes }: { target?: string; targetType?: 'number'; features?: string }, metric, least) => {
    const trainer = python({ script: 'trainers/with_lightgbm.py', requirements, featuresFor: 'trees', parameters: { rounds: 40, leaves: 8 } });
    const { distance, carrier } = training.job(trainer).features;
    const { trained, sample } = await training.train(trainer, {
      job: {
        ...changes,
        features: { ...(distance === undefined ? {} : { distance }), ...(features === 'distance' || carrier === undefined ? {} : { carrier }) },
      },
    });
    expect(trained.validation?.metrics[metric]).toBeGreaterThan(least);
    expect(trained.history).toHaveLength(40);
    expect(trained.importance[0]?.feature).toBe('distance');
    expect(sample.output).toHaveLength(5);
  });

  it('goes on from its last checkpoint when it was killed, and ends with the same trees as undisturbed', async () => {
    const script = 'trainers/with_lightgbm.py';
    const trainer = python({ script, requirements, featuresFor: 'trees', parameters: { rounds: 60, leaves: 8 } });
    const undisturbed = await training.train(trainer);
    training.forgetCheckpoint();
    await dyingAfter(script, 45);
    expect((await refusal(training.train(trainer))).code).toBe('TRAINER_KILLED');
    expect(training.checkpoint()?.step).toBe(40);
    await wholeAgain(script);
    const resumed = await training.train(trainer);
    expect(resumed.trained.history[0]?.step).toBe(41);
    expect(resumed.trained.validation?.metrics['auc']).toBeCloseTo(undisturbed.trained.validation?.metrics['auc'] ?? 0, 2);
  });
});

describe('scikit-learn', () => {
  it('learns two classes and several', async () => {
    const trainer = python({ script: 'trainers/with_sklearn.py', requirements, parameters: { C: 0.5 } });
    const { trained } = await training.train(trainer);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.85);
    // the same figure from scikit-learn's own probabilities and from the joined graph
    expect(trained.history.at(-1)?.metrics['log_loss']).toBeCloseTo(trained.validation?.metrics['logLoss'] ?? 0, 4);
    const { distance } = training.job(trainer).features;
    const several = await training.train(trainer, { job: { target: 'carrier', features: distance === undefined ? {} : { distance } } });
    expect(several.trained.task).toEqual({ kind: 'multiclass', target: 'carrier', classes: ['AA', 'UA', 'Zürich Air'] });
    expect(several.trained.history.at(-1)?.metrics['log_loss']).toBeCloseTo(several.trained.validation?.metrics['logLoss'] ?? 0, 4);
  });
});
