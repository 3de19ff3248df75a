import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import type { Matrix } from '../../../ml/matrix.ts';
import { createJudge } from '../../../ml/metrics.ts';
import { denseRows, trainMlp } from '../../../ml/mlp/mlp.ts';
import { MlpParametersSchema } from '../../../ml/mlp/parameters.ts';
import { ONNX_TYPE, encodeModel, valueInfo } from '../../../ml/onnx/graph-builder.ts';
import { createRandom } from '../../../ml/random.ts';
import { selectRows } from '../../../ml/train-predictor.ts';
import type { LearningTask, TrainedTrainer } from '../../../ml/trainer.ts';
import { runModel } from './raw-tables.ts';

const ROWS = 600;
const random = createRandom(5);
const x: Matrix = { kind: 'dense', rows: ROWS, columns: 2, data: Float32Array.from({ length: 2 * ROWS }, () => random.normal()) };
const at = (row: number, column: number): number => x.data[column * ROWS + row] ?? 0;
/** Exclusive or of the signs: no linear model can tell these classes apart. */
const crossed = Float64Array.from({ length: ROWS }, (_, row) => (at(row, 0) * at(row, 1) > 0 ? 1 : 0));
const thirds = Float64Array.from({ length: ROWS }, (_, row) => (at(row, 0) > 0.4 ? 2 : at(row, 0) > -0.4 ? 1 : 0));
const curve = Float64Array.from({ length: ROWS }, (_, row) => 1000 + 50 * Math.abs(at(row, 0)));
const quick = MlpParametersSchema.parse({ hidden: [16], epochs: 12, batchSize: 32, learningRate: 0.02 });
const context = { seed: 3, threads: 1 };

async function graphAnswers(model: TrainedTrainer, outputs: number): Promise<Float32Array> {
  const fragment = model.toOnnx('x', 'm_');
  const bytes = encodeModel({
    graphName: 'g',
    nodes: [...fragment.nodes, { opType: 'Identity', domain: '', name: 'end', input: [fragment.output], output: ['output'] }],
    initializers: fragment.initializers,
    inputs: [valueInfo('x', ONNX_TYPE.float, 2)],
    outputs: [valueInfo('output', ONNX_TYPE.float, outputs)],
    opset: { ai: fragment.opset.ai, ml: 3 },
    metadata: {},
  });
  const rows = Uint32Array.from({ length: ROWS }, (_, row) => row);
  return (await runModel(bytes, { x: new Tensor('float32', denseRows(x, rows), [ROWS, 2]) })).data;
}

describe('the trainer mlp', () => {
  it('learns what no linear model can', async () => {
    const model = await trainMlp({ kind: 'binary' }, quick, { x, y: crossed }, undefined, context);
    const answers = model.predict(x);
    expect(createJudge({ kind: 'binary' }, crossed, answers).values(['auc'])['auc']).toBeGreaterThan(0.98);
  });

  it('learns a curve in the unit of its target', async () => {
    const model = await trainMlp({ kind: 'regression' }, quick, { x, y: curve }, undefined, context);
    expect(createJudge({ kind: 'regression' }, curve, model.predict(x)).values(['r2'])['r2']).toBeGreaterThan(0.97);
    expect(model.importance[0]).toBeGreaterThan(model.importance[1] ?? 1);
  });

  it.each([
    [{ kind: 'binary' }, crossed, 2],
    [{ kind: 'multiclass', classes: 3 }, thirds, 3],
    [{ kind: 'regression' }, curve, 1],
  ] as const)('answers as its ONNX fragment does for %j', async (task: LearningTask, y, outputs) => {
    const model = await trainMlp(task, { ...quick, epochs: 2 }, { x, y }, undefined, context);
    const answers = model.predict(x);
    const graph = await graphAnswers(model, outputs);
    expect(graph).toHaveLength(answers.length);
    const worst = answers.reduce((max, value, i) => Math.max(max, Math.abs(value - (graph[i] ?? Number.NaN)) / Math.max(1, Math.abs(value))), 0);
    expect(worst).toBeLessThan(1e-5);
  });

  it('goes on from a checkpoint to the same bytes and history', async () => {
    const states: Uint8Array[] = [];
    const parameters = { ...quick, epochs: 4 };
    const validation = {
      x: selectRows(
        x,
        Uint32Array.from({ length: 100 }, (_, i) => i),
      ),
      y: crossed.slice(0, 100),
    };
    const whole = await trainMlp({ kind: 'binary' }, parameters, { x, y: crossed }, validation, {
      ...context,
      checkpoint: (_, state) => {
        states.push(state());
      },
    });
    const second = states[1];
    if (second === undefined) throw new Error('no checkpoint was made');
    const resumed = await trainMlp({ kind: 'binary' }, parameters, { x, y: crossed }, validation, { ...context, resume: second });
    expect(resumed.toOnnx('x', 'm_')).toEqual(whole.toOnnx('x', 'm_'));
    expect(resumed.history).toEqual(whole.history);
    expect(resumed.history).toHaveLength(4);
  });

  it('reads sparse rows as it reads dense ones', async () => {
    const cells = denseRows(
      x,
      Uint32Array.from({ length: ROWS }, (_, row) => row),
    );
    const sparse: Matrix = {
      kind: 'sparse',
      rows: ROWS,
      columns: 2,
      rowStart: Uint32Array.from({ length: ROWS + 1 }, (_, row) => 2 * row),
      columnIndex: Uint32Array.from(cells, (_, i) => i % 2),
      values: cells,
    };
    const one = { ...quick, epochs: 1 };
    const fromSparse = await trainMlp({ kind: 'binary' }, one, { x: sparse, y: crossed }, undefined, context);
    const fromDense = await trainMlp({ kind: 'binary' }, one, { x, y: crossed }, undefined, context);
    expect(fromSparse.toOnnx('x', 'm_')).toEqual(fromDense.toOnnx('x', 'm_'));
  });

  it('runs in a worker thread', async () => {
    // A thread of a TypeScript source has to register tsx by itself.
    const source = new URL('./mlp-thread.ts', import.meta.url);
    const bootstrap = `import { register } from ${JSON.stringify(import.meta.resolve('tsx/esm/api'))}; register(); await import(${JSON.stringify(source.href)});`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(bootstrap)}`));
    const [answers] = (await once(worker, 'message')) as [Float64Array];
    await worker.terminate();
    expect(answers[1]).toBeLessThan(0.5);
    expect(answers[7]).toBeGreaterThan(0.5);
  });

  it('stops early and keeps the best epoch', async () => {
    const unrelated = crossed.map((_, row) => row % 2);
    const validation = { x, y: unrelated };
    const model = await trainMlp({ kind: 'binary' }, { ...quick, epochs: 30, earlyStoppingEpochs: 2 }, { x, y: crossed }, validation, context);
    const losses = model.history.map(({ metrics }) => metrics['validationLoss'] ?? Number.NaN);
    expect(losses.indexOf(Math.min(...losses))).toBe(losses.length - 3);
    expect(losses.length).toBeLessThan(30);
  });

  it('says that it diverged, with the losses', async () => {
    const broken: Matrix = { ...x, data: x.data.with(7, Number.NaN) };
    await expect(trainMlp({ kind: 'binary' }, quick, { x: broken, y: crossed }, undefined, context)).rejects.toMatchObject({ code: 'TRAINING_DIVERGED' });
  });

  it('says that it stalled, with the last losses, where no epoch lowers the loss', async () => {
    // Steps too small for float32 to see change nothing.
    const still = { ...quick, learningRate: 1e-30, epochs: 4 };
    await expect(trainMlp({ kind: 'binary' }, still, { x, y: crossed }, undefined, context)).rejects.toMatchObject({
      code: 'TRAINING_STALLED',
      problems: [1, 2, 3, 4].map((epoch) => ({ path: `epoch ${epoch}`, message: expect.stringContaining('loss 1.237') as string })),
    });
  });

  it('says that the loss exploded, with the last losses', async () => {
    const wild = { ...quick, hidden: [16, 16, 16], learningRate: 10, epochs: 3 };
    await expect(trainMlp({ kind: 'regression' }, wild, { x, y: crossed }, undefined, context)).rejects.toMatchObject({
      code: 'TRAINING_DIVERGED',
      message: expect.stringContaining('exploded') as string,
    });
  });
});
