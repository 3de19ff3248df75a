import { describe, expect, it } from 'vitest';
import { trainLinear } from '../../../ml/linear/linear.ts';
import { LinearParametersSchema } from '../../../ml/linear/parameters.ts';
import type { Matrix } from '../../../ml/matrix.ts';
import { selectRows } from '../../../ml/train-predictor.ts';
import { ONNX_TYPE, encodeModel, valueInfo } from '../../../ml/onnx/graph-builder.ts';
import type { LearningTask, TrainedTrainer } from '../../../ml/trainer.ts';
import { Tensor } from 'onnxruntime-node';
import { runModel } from './raw-tables.ts';
import { sequence } from './sequence.ts';

// The rows that scikit-learn 1.7.2 was given, row-major.
const ROWS = 60;
const COLUMNS = 4;
const scales = [1, 2, 5, 1];
const shifts = [0, 1, 2, 0.5];
const cells = Float32Array.from(sequence(ROWS * COLUMNS, 7), (value, i) => value * (scales[i % COLUMNS] ?? 0) - (shifts[i % COLUMNS] ?? 0));
const cell = (row: number, column: number): number => cells[row * COLUMNS + column] ?? 0;
const dense: Matrix = {
  kind: 'dense',
  rows: ROWS,
  columns: COLUMNS,
  data: Float32Array.from(cells, (_, i) => cell(i % ROWS, Math.floor(i / ROWS))),
};
const sparse: Matrix = {
  kind: 'sparse',
  rows: ROWS,
  columns: COLUMNS,
  rowStart: Uint32Array.from({ length: ROWS + 1 }, (_, row) => row * COLUMNS),
  columnIndex: Uint32Array.from(cells, (_, i) => i % COLUMNS),
  values: cells,
};
const noise = sequence(ROWS, 11);
const signal = Float64Array.from({ length: ROWS }, (_, row) => 1.5 * cell(row, 0) - cell(row, 1) + 0.3 * cell(row, 2));
const binary = signal.map((value, row) => (value + (noise[row] ?? 0) * 2 - 1 > 0.2 ? 1 : 0));
const classes = signal.map((value, row) => (value + (noise[row] ?? 0) >= 1.2 ? 2 : value + (noise[row] ?? 0) >= -0.3 ? 1 : 0));
const values = signal.map((value, row) => value * 10 + (noise[row] ?? 0) * 3 + 100);
const weights = sequence(ROWS, 13).map((value) => 0.5 + value);
const exact = { tolerance: 1e-10 };
const context = { seed: 1, threads: 1 };

/** Coefficients read off the ONNX weights, by what the model answers for the unit vectors. */
async function coefficients(model: TrainedTrainer, kind: 'binary' | 'regression'): Promise<number[]> {
  const unit: Matrix = { kind: 'dense', rows: 5, columns: COLUMNS, data: Float32Array.from({ length: 20 }, (_, i) => (i % 5 === Math.floor(i / 5) ? 1 : 0)) };
  const answers = model.predict(unit);
  const score = (row: number): number => (kind === 'regression' ? (answers[row] ?? 0) : Math.log((answers[2 * row + 1] ?? 0) / (answers[2 * row] ?? 0)));
  return [0, 1, 2, 3].map((row) => score(row) - score(4)).concat(score(4));
}

const expectNear = (found: readonly number[], expected: readonly number[], tolerance: number): void => {
  expect(found).toHaveLength(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs((found[i] ?? Number.NaN) - value), `number ${i}`).toBeLessThan(tolerance);
  });
};

describe.each([
  ['dense', dense],
  ['sparse', sparse],
])('the trainer linear on %s rows', (_, x) => {
  it("finds scikit-learn's LogisticRegression(C=1)", async () => {
    const model = await trainLinear({ kind: 'binary' }, LinearParametersSchema.parse(exact), { x, y: binary }, undefined, context);
    expectNear(
      await coefficients(model, 'binary'),
      [1.8785867720324687, -1.4304429956454983, 0.5249761160364452, -0.053532231861950996, -0.13589829986322638],
      2e-6,
    );
  });

  it("finds scikit-learn's LogisticRegression(C=0.1, class_weight='balanced') with row weights", async () => {
    const parameters = LinearParametersSchema.parse({ ...exact, l2: 10, classWeight: 'balanced' });
    const model = await trainLinear({ kind: 'binary' }, parameters, { x, y: binary, weights }, undefined, context);
    expectNear(
      await coefficients(model, 'binary'),
      [0.39284398799031356, -0.48288726419422845, 0.29362524152574876, -0.006597353062195109, -0.2522325704851963],
      2e-6,
    );
  });

  it("finds scikit-learn's multinomial LogisticRegression(C=2)", async () => {
    const model = await trainLinear(
      { kind: 'multiclass', classes: 3 },
      LinearParametersSchema.parse({ ...exact, l2: 0.5 }),
      { x, y: classes },
      undefined,
      context,
    );
    expectNear(
      [...model.predict(x).slice(0, 9)],
      [
        0.009810770614726917, 0.3493770948784191, 0.6408121345068538, 3.3443778250553642e-6, 0.004436100435293624, 0.9955605551868812, 0.0190463320392097,
        0.6886738212466398, 0.2922797468141506,
      ],
      1e-6,
    );
  });

  it("finds scikit-learn's Ridge(alpha=3)", async () => {
    const model = await trainLinear({ kind: 'regression' }, LinearParametersSchema.parse({ ...exact, l2: 3 }), { x, y: values }, undefined, context);
    expectNear(
      await coefficients(model, 'regression'),
      [9.60631714454638, -9.458569230536325, 3.1433447360214966, 0.15102725515798573, 104.07970909512014],
      2e-5,
    );
  });

  // scikit-learn 1.9.1
  it.each([
    [
      "LogisticRegression(l1_ratio=1, C=1/3), the lasso's",
      { l1: 3, l2: 0 },
      [0.5100982116030514, -0.8890127207328141, 0.37155371135238335, 0, 0.47632363996692123],
    ],
    ['LogisticRegression(l1_ratio=0.4, C=0.5)', { l1: 0.8, l2: 1.2 }, [1.2737549426250392, -1.1385997850038776, 0.4567846902968818, 0, 0.12212208927524754]],
    [
      'LogisticRegression(class_weight={0: 3, 1: 0.5})',
      { classWeight: { '0': 3, '1': 0.5 } },
      [2.2192898098271248, -1.6749976457091176, 0.5303364068398952, -0.16992451386041585, -1.8160478022247553],
    ],
  ])("finds scikit-learn's %s", async (_name, options, expected) => {
    const model = await trainLinear({ kind: 'binary' }, LinearParametersSchema.parse({ ...exact, ...options }), { x, y: binary }, undefined, context);
    expectNear(await coefficients(model, 'binary'), expected, 3e-6);
  });

  it.each([
    ['Lasso(alpha=1)', { l1: 60, l2: 0 }, [3.9034999315735597, -8.544457846589852, 2.9610525421445506, 0, 107.15852463884853]],
    ['ElasticNet(alpha=1, l1_ratio=0.5)', { l1: 30, l2: 30 }, [1.822921190513862, -3.8947429495635904, 2.6026521717277666, 0, 108.57365406705173]],
  ])("finds scikit-learn's %s", async (_name, options, expected) => {
    const parameters = LinearParametersSchema.parse({ ...exact, ...options });
    const model = await trainLinear({ kind: 'regression' }, parameters, { x, y: values }, undefined, context);
    expectNear(await coefficients(model, 'regression'), expected, 3e-5);
  });

  // (AᵀA + P)⁻¹ (Aᵀy + P·m) in NumPy, with m and the diagonal of P from the first 30 rows
  it.each([
    [1, [9.42960181739367, -9.970714446724513, 3.168059468657547, 0.4683253436619582, 104.39702802274294]],
    [0.5, [9.856166077939513, -10.290389872759798, 3.1222222373524287, 0.457251224755799, 104.2080646407927]],
    [0, [12.1612031151828, -10.503483089401142, 3.0236050507022285, 0.32219312234835396, 102.8546330647022]],
  ])('goes on with other rows as the closed form of ridge does, earlier rows counting %d', async (memory, expected) => {
    const [first, second] = [0, 30].map((from) => ({
      x: selectRows(
        x,
        Uint32Array.from({ length: 30 }, (_, i) => from + i),
      ),
      y: values.slice(from, from + 30),
    }));
    if (first === undefined || second === undefined) throw new Error('no halves');
    const parameters = LinearParametersSchema.parse({ ...exact, l2: 2, memory });
    const { learnt } = await trainLinear({ kind: 'regression' }, parameters, first, undefined, context);
    if (learnt === undefined) throw new Error('nothing was learnt');
    const model = await trainLinear({ kind: 'regression' }, parameters, second, undefined, { ...context, from: learnt });
    expectNear(await coefficients(model, 'regression'), expected, 3e-5);
  });

  it.each([
    [{ kind: 'binary' }, binary],
    [{ kind: 'multiclass', classes: 3 }, classes],
    [{ kind: 'regression' }, values],
  ] as const)('answers as its ONNX fragment does for %j', async (task: LearningTask, y) => {
    const model = await trainLinear(task, LinearParametersSchema.parse({}), { x, y }, undefined, context);
    const fragment = model.toOnnx('x', 'm_');
    const outputs = model.predict(x).length / ROWS;
    const nodes = [...fragment.nodes, { opType: 'Identity', domain: '', name: 'end', input: [fragment.output], output: ['output'] }];
    const bytes = encodeModel({
      graphName: 'g',
      nodes,
      initializers: fragment.initializers,
      inputs: [valueInfo('x', ONNX_TYPE.float, COLUMNS)],
      outputs: [valueInfo('output', ONNX_TYPE.float, outputs)],
      opset: { ai: fragment.opset.ai, ml: 3 },
      metadata: {},
    });
    const { data } = await runModel(bytes, { x: new Tensor('float32', cells, [ROWS, COLUMNS]) });
    const scale = task.kind === 'regression' ? 100 : 1;
    expectNear([...data], [...model.predict(x)], 1e-6 * scale);
  });
});

describe('the trainer linear', () => {
  it('learns from halves nearly what it learns from all rows, and goes on with rows of one class too', async () => {
    const parameters = LinearParametersSchema.parse(exact);
    const part = (wanted: (row: number) => boolean) => {
      const rows = Uint32Array.from({ length: ROWS }, (_, row) => row).filter(wanted);
      return { x: selectRows(dense, rows), y: Float64Array.from(rows, (row) => binary[row] ?? 0) };
    };
    const agreement = (model: Pick<TrainedTrainer, 'predict'>): number => {
      const answers = model.predict(dense);
      return binary.reduce((right, label, row) => right + ((answers[2 * row + 1] ?? 0) > 0.5 === (label === 1) ? 1 : 0), 0) / ROWS;
    };
    const first = await trainLinear(
      { kind: 'binary' },
      parameters,
      part((row) => row < 30),
      undefined,
      context,
    );
    const from = first.learnt ?? new Uint8Array();
    const second = await trainLinear(
      { kind: 'binary' },
      parameters,
      part((row) => row >= 30),
      undefined,
      { ...context, from },
    );
    const whole = await trainLinear({ kind: 'binary' }, parameters, { x: dense, y: binary }, undefined, context);
    expect(agreement(second)).toBeGreaterThanOrEqual(agreement(whole) - 0.05);
    const oneClass = await trainLinear(
      { kind: 'binary' },
      parameters,
      part((row) => row >= 30 && binary[row] === 1),
      undefined,
      { ...context, from },
    );
    expect(agreement(oneClass)).toBeGreaterThan(0.7);
  });

  it('refuses what another model learnt', async () => {
    const training = trainLinear({ kind: 'binary' }, LinearParametersSchema.parse({}), { x: dense, y: binary }, undefined, {
      ...context,
      from: new Uint8Array(12),
    });
    await expect(training).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });

  it('refuses weights of classes that are none, with those that are', async () => {
    const parameters = LinearParametersSchema.parse({ classWeight: { spam: 2, spma: 3 } });
    const train = { x: dense, y: binary, classes: ['ham', 'spam'] };
    await expect(trainLinear({ kind: 'binary' }, parameters, train, undefined, context)).rejects.toMatchObject({
      code: 'INVALID_PARAMETERS',
      problems: [{ path: 'trainer.parameters.classWeight.spma', fix: 'use one of ham, spam' }],
    });
  });

  it('goes on from a checkpoint of an L1 penalty to the same weights', async () => {
    const parameters = LinearParametersSchema.parse({ ...exact, l1: 1, checkpointEvery: 3 });
    const states: Uint8Array[] = [];
    const whole = await trainLinear({ kind: 'binary' }, parameters, { x: dense, y: binary }, undefined, {
      ...context,
      checkpoint: (_, state) => void states.push(state()),
    });
    const resumed = await trainLinear({ kind: 'binary' }, parameters, { x: dense, y: binary }, undefined, {
      ...context,
      resume: states[0] ?? new Uint8Array(),
    });
    expect(resumed.toOnnx('x', 'm_')).toEqual(whole.toOnnx('x', 'm_'));
  });

  it('goes on from a checkpoint to the same weights and history', async () => {
    const parameters = LinearParametersSchema.parse({ ...exact, checkpointEvery: 3 });
    const states: Uint8Array[] = [];
    const whole = await trainLinear({ kind: 'multiclass', classes: 3 }, parameters, { x: dense, y: classes }, undefined, {
      ...context,
      checkpoint: (_, state) => {
        states.push(state());
      },
    });
    const second = states[1];
    if (second === undefined) throw new Error('no checkpoint was made');
    const resumed = await trainLinear({ kind: 'multiclass', classes: 3 }, parameters, { x: dense, y: classes }, undefined, { ...context, resume: second });
    expect(resumed.toOnnx('x', 'm_')).toEqual(whole.toOnnx('x', 'm_'));
    expect(resumed.history).toEqual(whole.history);
    const other = await trainLinear({ kind: 'multiclass', classes: 3 }, { ...parameters, l2: 5 }, { x: dense, y: classes }, undefined, {
      ...context,
      resume: second,
    });
    const fresh = await trainLinear({ kind: 'multiclass', classes: 3 }, { ...parameters, l2: 5 }, { x: dense, y: classes }, undefined, context);
    expect(other.history).toEqual(fresh.history);
  });

  it('says where a value is missing when the loss is not a number', async () => {
    const broken: Matrix = { ...dense, data: dense.data.with(ROWS * 2 + 5, Number.NaN) };
    await expect(trainLinear({ kind: 'binary' }, LinearParametersSchema.parse({}), { x: broken, y: binary }, undefined, context)).rejects.toMatchObject({
      code: 'TRAINING_DIVERGED',
      message: expect.stringContaining('Column 2') as string,
      problems: [{ path: 'iteration 0' }, { path: 'iteration 1', message: 'loss NaN, largest slope NaN' }],
    });
  });

  it('stops when it is aborted', async () => {
    const controller = new AbortController();
    const training = trainLinear({ kind: 'binary' }, LinearParametersSchema.parse({ tolerance: 1e-300 }), { x: dense, y: binary }, undefined, {
      ...context,
      signal: controller.signal,
      onProgress: ({ step }) => {
        if (step === 2) controller.abort(new Error('enough'));
      },
    });
    await expect(training).rejects.toThrow('enough');
  });
});
