import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { python } from '../../../workflows/trainers.ts';
import { openTraining, sigmoidOfFirst } from '../../support/external-training.ts';

let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining();
  await writeFile(join(training.project, 'trainers', 'made.onnx'), sigmoidOfFirst(4));
});

const HEAD = `
import json, os, sys, shutil, time
task = json.load(open(os.environ["MILLRACE_TASK"]))
def tell(**line): print(json.dumps(line))
def give(name="made.onnx"): shutil.copy("trainers/" + name, task["output"] + "/model.onnx")
`;

describe('a script', () => {
  it('is told its data by the task file, tells its progress, and its model is joined to the features', async () => {
    await training.script(
      'good.py',
      `${HEAD}
tell(message=json.dumps(task))
tell(progress=0.5, step=1, metrics={"loss": 0.7})
print("hello from the script")
tell(progress=1, step=2, metrics={"loss": 0.5})
give()
`,
    );
    const { trained, columns, sample, log } = await training.train(python({ script: 'trainers/good.py', parameters: { depth: 3 } }));
    expect(trained.history).toEqual([
      { fraction: 0.5, step: 1, metrics: { loss: 0.7 } },
      { fraction: 1, step: 2, metrics: { loss: 0.5 } },
    ]);
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('hello from the script\n');
    expect(columns.map(({ name }) => name)).toEqual(['distance', 'carrier']);
    expect(sample.output[0]).toHaveLength(2);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.8);
    expect(await training.leftFiles()).toEqual([]);
    console.log(training.progress.find(({ message }) => message.includes('millrace-task'))?.message);
  });
});
