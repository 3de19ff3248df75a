import { chmod, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { externalFingerprint } from '../../../activities/external-trainer.ts';
import { numeric, text } from '../../../contracts/features.ts';
import { command, python } from '../../../workflows/trainers.ts';
import { openTraining, processesWith, refusal, sigmoidOfFirst } from '../../support/external-training.ts';

/** Plain Python: what a script does is tested here, what its packages do in tests/python. */
let training: Awaited<ReturnType<typeof openTraining>>;
beforeAll(async () => {
  training = await openTraining();
  for (const [name, bytes] of Object.entries({
    made: sigmoidOfFirst(4),
    broken: sigmoidOfFirst(4).slice(0, 90),
    // the logarithm of what is below 0
    diverged: sigmoidOfFirst(4, 'Log'),
  }))
    await writeFile(join(training.project, 'trainers', `${name}.onnx`), bytes);
});

const HEAD = `
import json, os, sys, shutil, signal, subprocess, time
task = json.load(open(os.environ["MILLRACE_TASK"]))
def tell(**line): print(json.dumps(line), flush=True)
def give(name="made"): shutil.copy("trainers/" + name + ".onnx", task["output"] + "/model.onnx")
`;
let scripts = 0;
/** A trainer that is this script. */
async function scripted(code: string, more: object = {}) {
  const name = `script-${String(scripts++)}.py`;
  await training.script(name, `${HEAD}${code}`);
  return python({ script: `trainers/${name}`, ...more });
}

describe('a script', { timeout: 120_000 }, () => {
  it('is told its data by the task file, tells its progress, and its model is joined to the features', async () => {
    const trainer = await scripted(
      `
json.dump([task, dict(os.environ), sys.argv[1:]], open("told.json", "w"))
tell(progress=0.5, step=1, metrics={"loss": 0.7})
print("hello from the script")
print('{"not": "a message"}')
print("token=abcdefgh and s3cret-value")
tell(progress=1, step=2, metrics={"loss": None}, importance=[3, 1, 0, 0])
give()
`,
      { parameters: { depth: 3 }, args: ['--fast'], env: ['OF_THE_USER'] },
    );
    vi.stubEnv('MILLRACE_ADMIN_TOKEN', 'admin-token-value');
    vi.stubEnv('DATABASE_URL', 'postgres://millrace:hidden@127.0.0.1/db');
    vi.stubEnv('OF_THE_USER', 's3cret-value');
    const { trained, columns, sample, log } = await training.train(trainer).finally(() => vi.unstubAllEnvs());

    const [task, env, args] = (await import(join(training.project, 'told.json'), { with: { type: 'json' } }).then((m: { default: unknown }) => m.default)) as [
      Record<string, unknown>,
      Record<string, string>,
      string[],
    ];
    expect(task).toMatchObject({
      format: 'millrace-task/1',
      input: 'features',
      layout: 'dense',
      task: { kind: 'binary', classes: ['no', 'yes'] },
      test: null,
      rows: { train: 400, validation: 100 },
      target: 'target',
      parameters: { depth: 3 },
      seed: 5,
      threads: 1,
      device: 'cpu',
    });
    expect(task['features']).toContainEqual({ column: 'f0', name: 'distance', type: 'number' });
    expect(args).toEqual(['--fast']);
    expect(env).toMatchObject({
      MLFLOW_TRACKING_URI: `http://127.0.0.1:7400/stages/${'0'.repeat(32)}/train`,
      MLFLOW_RUN_ID: '0'.repeat(32),
      CUDA_VISIBLE_DEVICES: '',
      OMP_NUM_THREADS: '1',
      OF_THE_USER: 's3cret-value',
    });
    expect(JSON.stringify(env)).not.toMatch(/admin-token-value|postgres:/);

    expect(trained.history).toEqual([
      { fraction: 0.5, step: 1, metrics: { loss: 0.7 } },
      { fraction: 1, step: 2, metrics: { loss: Number.NaN } },
    ]);
    expect(training.progress).toContainEqual({ fraction: 0.5, message: 'step 1, loss 0.7000' });
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('hello from the script\n{"not": "a message"}\ntoken=*** and ***\n');
    expect(trained.importance[0]).toEqual({ feature: 'distance', share: 0.75 });
    expect(columns.map(({ name }) => name)).toEqual(['distance', 'carrier']);
    expect(sample.output[0]).toHaveLength(2);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.8);
    expect(await training.leftFiles()).toEqual([]);
    expect(await readdir(join(training.project, 'trainers'))).not.toContain('__pycache__');
  });

  it('gets sparse rows where a text gives many columns, and learns numbers as a regression', async () => {
    const trainer =
      await scripted(`print(open(task["train"], "rb").read(4), task["layout"], task["task"], task["targets"]["train"] != task["train"], len(task["features"]))
sys.exit(3)`);
    const error = await refusal(
      training.train(trainer, { job: { features: { distance: numeric(), carrier: text({ minDocuments: 1 }) }, target: 'minutes', targetType: 'number' } }),
    );
    expect(error.problems.map(({ message }) => message)).toEqual(["b'PAR1' sparse {'kind': 'regression', 'classes': None} True 5"]);
  });

  it('may take the raw columns, each by its name', async () => {
    const trainer = await scripted(`give("raw")`, { input: 'raw' });
    const { onnx } = (await import('onnx-proto')).default;
    const { floatTensor, valueInfo } = await import('../../../ml/onnx/graph-builder.ts');
    const raw = onnx.ModelProto.encode({
      irVersion: 8,
      opsetImport: [{ domain: '', version: 19 }],
      graph: {
        name: 'raw',
        input: [valueInfo('distance', 1, 1), valueInfo('carrier', 8, 1)],
        output: [valueInfo('p', 1, 1)],
        initializer: [
          floatTensor('w', [1], [0.001]),
          { name: 'air', dims: [1], dataType: 8, stringData: [Buffer.from('Zürich Air')] },
          floatTensor('half', [1], [0.5]),
        ],
        node: [
          { opType: 'Mul', input: ['distance', 'w'], output: ['d'], name: 'a' },
          { opType: 'Equal', input: ['carrier', 'air'], output: ['e'], name: 'b' },
          { opType: 'Cast', input: ['e'], output: ['f'], name: 'c', attribute: [{ name: 'to', type: 2, i: 1 }] },
          { opType: 'Mul', input: ['f', 'half'], output: ['g'], name: 'd' },
          { opType: 'Add', input: ['d', 'g'], output: ['z'], name: 'e' },
          { opType: 'Sigmoid', input: ['z'], output: ['p'], name: 'f' },
        ],
      },
    }).finish();
    await writeFile(join(training.project, 'trainers', 'raw.onnx'), raw);
    const { trained, sample } = await training.train(trainer);
    expect(trained.graph).toEqual({ numbers: ['distance'], dates: [], strings: ['carrier'] });
    expect(trained.task).toEqual({ kind: 'binary', target: 'late', classes: ['no', 'yes'] });
    const [row] = sample.rows;
    const z = (row?.['distance'] as number) / 1000 + (row?.['carrier'] === 'Zürich Air' ? 0.5 : 0);
    expect(sample.output[0]?.[1]).toBeCloseTo(1 / (1 + Math.exp(-z)), 5);
    expect(trained.validation?.metrics['auc']).toBeGreaterThan(0.9);
  });

  it.each([
    ['exits with 0 and no model', 'print("all done")', 'MODEL_INVALID', /no model\.onnx/],
    ['writes half of an ONNX file', 'give("broken"); print("all done")', 'MODEL_INVALID', /not an ONNX file|no graph/],
    ['gives a model that answers NaN', 'tell(metrics={"loss": None}); print("all done"); give("diverged")', 'MODEL_INVALID', /not finite/],
    ['throws', 'print("all done"); raise ValueError("the reason")', 'TRAINER_FAILED', /exit code 1/],
    ['ends itself by a signal', 'print("all done", flush=True); os.kill(os.getpid(), signal.SIGSEGV)', 'TRAINER_FAILED', /SIGSEGV/],
    ['is killed', 'print("all done", flush=True); os.kill(os.getpid(), signal.SIGKILL)', 'TRAINER_KILLED', /SIGKILL/],
    ['runs out of memory', 'print("all done", flush=True); raise MemoryError()', 'OUT_OF_MEMORY', /out of memory/],
    ['runs out of memory on a GPU', 'print("all done\\nRuntimeError: CUDA out of memory. Tried", flush=True); sys.exit(1)', 'OUT_OF_MEMORY', /out of memory/],
  ])('that %s ends with a clear error and its last lines', async (_what, code, expected, message) => {
    const error = await refusal(training.train(await scripted(code)));
    expect(error.code).toBe(expected);
    expect(error.message).toMatch(message);
    expect(error.problems.some((problem) => problem.path === 'log' && problem.message === 'all done')).toBe(true);
    expect(await training.leftFiles()).toEqual([]);
  });

  it('is told how much smaller its batches must be, and what it used is charged to its stage', async () => {
    const trainer = await scripted(`
while time.process_time() < 0.4: pass
kept = bytearray(150 * 2 ** 20)
print(task["batchShare"], flush=True)
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"])
# its memory is looked at every second
time.sleep(2)
give()`);
    const before = training.used.length;
    const { log } = await training.train(trainer, { batchShare: 0.25 });
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('0.25\n');
    expect(training.used).toHaveLength(before + 1);
    // shorter than a look at its processes: the kernel's count of those that have ended is there all the same
    expect(training.used.at(-1)?.cpuSeconds).toBeGreaterThan(0.5);
    expect(training.used.at(-1)?.peakMib).toBeGreaterThan(100);
  });

  it('that is a trial is stopped where its metric is not good enough, and leaves nothing', async () => {
    training.forgetCheckpoint();
    const mark = `trial-${String(process.pid)}`;
    const code = (slowly: boolean) => `
path = task["checkpoint"] + "/state.txt"
first = int(open(path).read()) if os.path.exists(path) else 0
for step in range(first, 4):
    tell(progress=(step + 1) / 4, metrics={"loss": 1, "auc": [0.6, 0.7, 0.65, 0.8][step]})
    if step == 1 and first == 0 and ${slowly ? 'True' : 'False'}:
        open(path, "w").write("2"); tell(checkpoint=True); time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)
    if step == 2: time.sleep(${slowly ? '600' : '0'}) # ${mark}
give()`;
    const rung = (fraction: number, limit: number | null) => ({ fraction, limit });
    const how = { metric: 'auc', direction: 'maximize', by: 'last' } as const;
    const passes = await training.trial(await scripted(code(false)), { ...how, rungs: [rung(0.25, null), rung(0.5, 0.7), rung(0.75, 0.6)] });
    expect(passes.rungs).toEqual([
      { fraction: 0.25, value: 0.6 },
      { fraction: 0.5, value: 0.7 },
      { fraction: 0.75, value: 0.65 },
    ]);
    expect(passes).toHaveProperty('trained');

    // killed on its way, it goes on with what was seen before
    const trainer = await scripted(code(true));
    const limits = { ...how, rungs: [rung(0.25, null), rung(0.5, 0.7), rung(0.75, 0.66)] };
    expect((await refusal(training.trial(trainer, limits))).code).toBe('TRAINER_KILLED');
    expect(await training.trial(trainer, limits)).toEqual({ stoppedAt: 0.75, rungs: passes.rungs });
    expect(processesWith(mark)).toEqual([]);
    expect(await training.leftFiles()).toEqual([]);
    training.forgetCheckpoint();
  });

  it('sees the one device that its stage holds, as the first', async () => {
    const trainer = await scripted(`
print(task["device"], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"])
give()`);
    const device = { index: 3, ordinal: 1, name: 'NVIDIA A10', figures: () => undefined, shown: () => '', release: () => Promise.resolve() };
    const { log } = await training.train(trainer, { device });
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('cuda:0 3 PCI_BUS_ID\n');
  });

  it('that prints a gigabyte fills neither memory nor disk, and its last lines are kept', async () => {
    const before = process.memoryUsage().rss;
    const error = await refusal(
      training.train(
        await scripted(`
line = b"x" * 199 + b"\\n"
block = line * 5000
for i in range(1000): sys.stdout.buffer.write(block)
print("the last word", flush=True)
sys.exit(4)`),
      ),
    );
    expect(error.problems.at(-1)?.message).toBe('the last word');
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(300);
  });

  it('that hangs is caught, with its children', async () => {
    const mark = `hanging-${String(process.pid)}`;
    const error = await refusal(
      training.train(
        await scripted(`
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600) # ${mark}"])
tell(progress=0.1)
time.sleep(600)`),
        { stallAfterMs: 1_500 },
      ),
    );
    expect(error).toMatchObject({ code: 'TRAINER_STALLED', retryable: true });
    expect(processesWith(mark)).toEqual([]);
    expect(await training.leftFiles()).toEqual([]);
  });

  it('that is cancelled and ignores SIGTERM, with children in sessions of their own, leaves nothing', async () => {
    const mark = `stubborn-${String(process.pid)}`;
    const trainer = await scripted(`
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600) # ${mark}"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
# a grandchild whose parent is gone
subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.Popen([sys.executable, '-c', '''" + child + "'''], start_new_session=True)"]).wait()
tell(progress=0.2, message="started")
time.sleep(600) # ${mark}`);
    const stop = new AbortController();
    const running = training.train(trainer, { signal: stop.signal });
    const ended = running.then(
      () => 'it completed',
      (error: unknown) => error,
    );
    await vi.waitUntil(() => training.progress.some(({ message }) => message === 'started'), { timeout: 60_000 });
    expect(processesWith(mark).length).toBeGreaterThanOrEqual(2);
    stop.abort(new Error('cancelled by a person'));
    expect(await ended).toMatchObject({ message: 'cancelled by a person' });
    expect(processesWith(mark)).toEqual([]);
    expect(await training.leftFiles()).toEqual([]);
  });

  it('that ends and leaves children running: they end too', async () => {
    const mark = `left-${String(process.pid)}`;
    await training.train(
      await scripted(`
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600) # ${mark}"], start_new_session=True)
give()`),
    );
    expect(processesWith(mark)).toEqual([]);
    expect(training.logged.some((line) => line.includes('left 1 processes'))).toBe(true);
  });

  it('finds its checkpoint folder as the last attempt left it when it said so', async () => {
    training.forgetCheckpoint();
    const trainer = await scripted(`
path = task["checkpoint"] + "/deep/state.txt"
if os.path.exists(path):
    print("goes on from " + open(path).read() + ", " + str(os.path.exists(task["checkpoint"] + "/torn.txt")))
    give(); sys.exit(0)
os.makedirs(os.path.dirname(path))
for step in (1, 2):
    open(path + ".new", "w").write("step %d" % step); os.replace(path + ".new", path)
    tell(step=step, checkpoint=True)
    time.sleep(0.5)
open(task["checkpoint"] + "/torn.txt", "w").write("not said to be whole")
os.kill(os.getpid(), signal.SIGKILL)`);
    expect((await refusal(training.train(trainer))).code).toBe('TRAINER_KILLED');
    expect(training.checkpoint()?.step).toBe(2);
    const { log } = await training.train(trainer);
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('goes on from step 2, False\n');
    training.forgetCheckpoint();
  });
});

describe('kill -9 of the worker', { timeout: 120_000 }, () => {
  it('ends the program with all its children and files, and the next attempt goes on from its checkpoint', async () => {
    training.forgetCheckpoint();
    const mark = `orphan-${String(process.pid)}`;
    const trainer = await scripted(`
path = task["checkpoint"] + "/state.txt"
if os.path.exists(path):
    print("goes on from step " + open(path).read())
    give(); sys.exit(0)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600) # ${mark}"], start_new_session=True)
open(path, "w").write("7")
tell(step=7, checkpoint=True)
time.sleep(600)`);
    const worker = training.startWorker(trainer);
    await vi.waitUntil(async () => (await training.takeCheckpoint()) === 7, { timeout: 100_000, interval: 100 });
    expect(processesWith(mark)).not.toEqual([]);
    worker.kill('SIGKILL');
    await vi.waitUntil(async () => processesWith(mark).length === 0 && (await training.leftFiles()).length === 0, { timeout: 30_000, interval: 100 });

    const { log } = await training.train(trainer);
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('goes on from step 7\n');
    training.forgetCheckpoint();
  });
});

describe('any other program', { timeout: 60_000 }, () => {
  it('runs under the same contract', async () => {
    const path = join(training.project, 'trainers', 'train.sh');
    await writeFile(
      path,
      '#!/bin/sh\necho "arguments: $*"\ncp trainers/made.onnx "$(sed \'s/.*"output":"\\([^"]*\\)".*/\\1/\' "$MILLRACE_TASK")/model.onnx"\n',
    );
    await chmod(path, 0o755);
    const { trained, log } = await training.train(command({ run: ['trainers/train.sh', 'a b', 'c'] }));
    expect(trained.trainer).toMatchObject({ name: 'command', parameters: { run: ['trainers/train.sh', 'a b', 'c'] } });
    expect((await training.artifacts.getBytes(log.sha256)).toString()).toBe('arguments: a b c\n');
  });

  it('that is not there is named', async () => {
    expect(await refusal(training.train(command({ run: ['no-such-program'] })))).toMatchObject({
      code: 'PROGRAM_MISSING',
      message: 'There is no program no-such-program that could be run.',
    });
    expect((await refusal(training.train(python({ script: 'trainers/none.py' })))).code).toBe('SOURCE_NOT_FOUND');
    expect((await refusal(training.train(python({ script: '../outside.py' })))).code).toBe('SOURCE_NOT_FOUND');
    expect(await refusal(training.train(python({ script: 'x.py', env: ['MILLRACE_HASH_KEY'] })))).toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ path: 'trainer.env.0', message: 'is for Millrace alone' }],
    });
  });
});

describe('what decides a result', () => {
  it('is the script, the modules beside it, the interpreter and its packages', async () => {
    await training.script('fingerprinted.py', 'print(1)\n');
    await training.script('helper.py', 'print(1)\n');
    const { signal } = new AbortController();
    const take = () => externalFingerprint(python({ script: 'trainers/fingerprinted.py' }), { deps: training.deps, signal, progress: () => undefined });
    const first = await take();
    expect(await take()).toEqual(first);
    expect(first['python']).toMatch(/^3\.\d+\.\d+/);
    expect(first['packages']).toEqual(expect.any(Array));
    await training.script('helper.py', 'print(2)\n');
    expect(await take()).not.toEqual(first);
  });
});
