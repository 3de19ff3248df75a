import { describe, expect, test } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { gbdt, trainGbdtModel } from '../../../ml/gbdt/gbdt.ts';
import { encodeTrees, type GbdtModel } from '../../../ml/gbdt/model.ts';
import { toOnnxFragment } from '../../../ml/gbdt/onnx.ts';
import { GbdtParametersSchema, type GbdtParameters } from '../../../ml/gbdt/parameters.ts';
import { rocAuc } from '../../../ml/gbdt/roc-auc.ts';
import { createSeededRandom } from '../../../ml/gbdt/seeded-random.ts';
import type { DenseMatrix, SparseMatrix } from '../../../ml/matrix.ts';
import type { LabelledRows, LearningTask, TrainedTrainer, TrainingContext } from '../../../ml/trainer.ts';
import { fragmentModel, runFragment } from './fragment-model.ts';

const parameters = (given: Partial<GbdtParameters> = {}): GbdtParameters => GbdtParametersSchema.parse(given);
const context = (given: Partial<TrainingContext> = {}): TrainingContext => ({ seed: 7, threads: 1, ...given });
const BINARY: LearningTask = { kind: 'binary' };
const REGRESSION: LearningTask = { kind: 'regression' };

function dense(columns: readonly (readonly number[])[], shared = false): DenseMatrix {
  const rows = columns[0]?.length ?? 0;
  const data = new Float32Array(shared ? new SharedArrayBuffer(rows * columns.length * 4) : new ArrayBuffer(rows * columns.length * 4));
  columns.forEach((column, c) => {
    data.set(column, c * rows);
  });
  return { kind: 'dense', rows, columns: columns.length, data };
}

/** Four features that matter in different ways, some values missing; a class or a value that depends on them. */
function sample(rows: number, kind: LearningTask['kind'], seed = 1, shared = false): LabelledRows {
  const random = createSeededRandom(seed, 99);
  const columns: number[][] = [[], [], [], []];
  const y = new Float64Array(rows);
  for (let row = 0; row < rows; row += 1) {
    const a = random() * 10 - 5;
    const b = Math.floor(random() * 7);
    const c = random() < 0.2 ? Number.NaN : random();
    const d = random() ** 3 * 1e6;
    columns[0]?.push(a);
    columns[1]?.push(b);
    columns[2]?.push(c);
    columns[3]?.push(d);
    const signal = Math.sin(a) + (b === 3 ? 1 : 0) + (Number.isNaN(c) ? -1 : c) + random() - 0.5;
    y[row] = kind === 'regression' ? 100 + 10 * signal : kind === 'binary' ? (signal > 0.5 ? 1 : 0) : signal > 1 ? 2 : signal > 0 ? 1 : 0;
  }
  return { x: dense(columns, shared), y };
}

const runOnnx = (trained: Pick<TrainedTrainer, 'toOnnx'>, x: DenseMatrix, outputs: number): Promise<Float32Array> =>
  runFragment(trained.toOnnx('x', 'gbdt_'), x, outputs);

const serialise = (model: GbdtModel): Buffer => Buffer.from(encodeTrees({ baseScores: [...model.baseScores] }, model.trees));
const onnxBytes = (model: GbdtModel): Buffer =>
  Buffer.from(fragmentModel(toOnnxFragment(model, 'x', 'p_'), model.columns, model.kind === 'binary' ? 2 : model.outputs));

/** Rows that a model may meet: usual ones, and every edge of float32 in every column. */
function hardRows(columns: number): DenseMatrix {
  const random = createSeededRandom(5, 1);
  const edges = [Number.NaN, 3e38, -3e38, 0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-45, -1e-45, 3, 2.5];
  return dense(
    Array.from({ length: columns }, () =>
      Array.from({ length: 3000 }, () => (random() < 0.4 ? (edges[Math.floor(random() * edges.length)] ?? 0) : random() * 20 - 10)),
    ),
  );
}

async function errorOf(work: Promise<unknown>): Promise<MillraceError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('what is learnt', () => {
  test('a stump of a regression puts the split and the means where least squares puts them', async () => {
    const x = dense([[1, 2, 3, 4, 5, 6, 7, 8]]);
    const y = Float64Array.of(1, 1, 1, 1, 9, 9, 9, 9);
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees: 1, leaves: 2, learningRate: 1, minDataInLeaf: 1 }), { x, y }, undefined, context());
    const [tree] = model.trees;
    expect([...(tree?.threshold ?? [])]).toEqual([4.5]);
    expect(model.baseScores[0]).toBe(5);
    expect([...(tree?.leafValue ?? [])]).toEqual([-4, 4]);
    // Gain: G²/H of both sides less that of the root = 16²/4 + 16²/4 - 0.
    expect([...(tree?.gain ?? [])]).toEqual([128]);
  });

  test('L2 regularisation shrinks a leaf by H / (H + l2)', async () => {
    const x = dense([[1, 2, 3, 4]]);
    const { model } = await trainGbdtModel(
      REGRESSION,
      parameters({ trees: 1, leaves: 2, learningRate: 1, minDataInLeaf: 1, l2: 2 }),
      { x, y: Float64Array.of(0, 0, 8, 8) },
      undefined,
      context(),
    );
    expect([...(model.trees[0]?.leafValue ?? [])]).toEqual([-2, 2]);
  });

  test('a first binary leaf is the Newton step from the log odds', async () => {
    const x = dense([[0, 0, 0, 0, 1, 1, 1, 1]]);
    const { model } = await trainGbdtModel(
      BINARY,
      parameters({ trees: 1, leaves: 2, learningRate: 1, minDataInLeaf: 1 }),
      { x, y: Float64Array.of(0, 0, 0, 1, 1, 1, 1, 0) },
      undefined,
      context(),
    );
    expect(model.baseScores[0]).toBe(0);
    // Left: G = 4 · 0.5 - 1 = 1, H = 4 · 0.25 = 1.
    expect([...(model.trees[0]?.leafValue ?? [])]).toEqual([-1, 1]);
  });

  test('an integer weight counts as that many rows', async () => {
    const columns = [Array.from({ length: 400 }, (_, i) => (i * 37) % 100)];
    const y = Float64Array.from({ length: 400 }, (_, i) => ((i * 37) % 100 > 40 !== (i % 7 === 0) ? 1 : 0));
    const weights = Float64Array.from({ length: 400 }, (_, i) => 1 + (i % 3));
    const repeated = Array.from(weights).flatMap((weight, i) => Array.from({ length: weight }, () => i));
    const settings = parameters({ trees: 10, leaves: 4, minDataInLeaf: 1 });
    const weighted = await gbdt(BINARY, settings, { x: dense(columns), y, weights }, undefined, context());
    const counted = await gbdt(
      BINARY,
      settings,
      { x: dense(columns.map((column) => repeated.map((i) => column[i] ?? 0))), y: Float64Array.from(repeated, (i) => y[i] ?? 0) },
      undefined,
      context(),
    );
    const expected = counted.predict(dense(columns));
    weighted.predict(dense(columns)).forEach((p, i) => {
      expect(p).toBeCloseTo(expected[i] ?? 0, 5);
    });
    expect(weighted.history.at(-1)?.metrics['trainLoss']).toBeCloseTo(counted.history.at(-1)?.metrics['trainLoss'] ?? 0, 5);
  });

  test('missing values go to the side that lowers the loss, whichever it is', async () => {
    const x = dense([[1, 2, 3, 4, Number.NaN, Number.NaN]]);
    for (const [y, missing] of [[[0, 0, 10, 10, 10, 10], 10] as const, [[10, 10, 0, 0, 10, 10], 10] as const, [[5, 5, 5, 5, 9, 9], 9] as const]) {
      const trained = await gbdt(
        REGRESSION,
        parameters({ trees: 1, leaves: 2, learningRate: 1, minDataInLeaf: 1 }),
        { x, y: Float64Array.from(y) },
        undefined,
        context(),
      );
      expect(trained.predict(dense([[Number.NaN]]))[0]).toBeCloseTo(missing, 5);
      expect([...trained.predict(x)].map((value) => Math.round(value))).toEqual([...y]);
    }
  });

  test('losses fall, and the history counts its rounds', async () => {
    const trained = await gbdt(BINARY, parameters({ trees: 40, leaves: 8 }), sample(3000, 'binary'), sample(1000, 'binary', 2), context());
    expect(trained.history.map((progress) => progress.step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    const losses = trained.history.map((progress) => progress.metrics['trainLoss'] ?? 0);
    losses.slice(1).forEach((loss, i) => {
      expect(loss).toBeLessThan(losses[i] ?? 0);
    });
    expect(trained.history.at(-1)?.metrics['validationLoss']).toBeLessThan(0.35);
    expect(trained.history.at(-1)?.fraction).toBe(1);
  });

  test('the reported losses are those of the predictions', async () => {
    const validation = sample(1000, 'multiclass', 2);
    const trained = await gbdt({ kind: 'multiclass', classes: 3 }, parameters({ trees: 15 }), sample(3000, 'multiclass'), validation, context());
    const predictions = trained.predict(validation.x);
    let loss = 0;
    validation.y.forEach((y, row) => {
      loss -= Math.log(predictions[row * 3 + y] ?? 0) / 1000;
    });
    expect(trained.history.at(-1)?.metrics['validationLoss']).toBeCloseTo(loss, 9);
    const binaryRows = sample(1000, 'binary', 2);
    const binary = await gbdt(BINARY, parameters({ trees: 15, metric: 'auc' }), sample(3000, 'binary'), binaryRows, context());
    const own = binary.predict(binaryRows.x);
    let binaryLoss = 0;
    binaryRows.y.forEach((y, row) => {
      binaryLoss -= Math.log(own[row * 2 + y] ?? 0) / 1000;
    });
    expect(binary.history.at(-1)?.metrics['validationLoss']).toBeCloseTo(binaryLoss, 9);
    expect(binary.history.at(-1)?.metrics['validationAuc']).toBeCloseTo(
      rocAuc(
        binaryRows.y,
        own.filter((_, i) => i % 2 === 1),
      ),
      9,
    );
  });

  test('importance is the share of gain, and a feature without signal gets next to none', async () => {
    const trained = await gbdt(REGRESSION, parameters({ trees: 20, leaves: 8 }), sample(4000, 'regression'), undefined, context());
    expect(trained.importance.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    expect(trained.importance).toHaveLength(4);
    expect(trained.importance[0]).toBeGreaterThan(0.3);
    expect(trained.importance[3]).toBeLessThan(0.02);
  });

  test('maxDepth bounds the splits above each leaf, and leaves their number', async () => {
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees: 3, leaves: 31, maxDepth: 3 }), sample(4000, 'regression'), undefined, context());
    for (const tree of model.trees) {
      const depthOf = (node: number): number => (node < 0 ? 0 : 1 + Math.max(depthOf(tree.left[node] ?? -1), depthOf(tree.right[node] ?? -1)));
      expect(depthOf(0)).toBe(3);
      expect(tree.leafValue.length).toBeLessThanOrEqual(8);
    }
  });

  test('no leaf of an unweighted regression has fewer rows than minDataInLeaf', async () => {
    const rows = sample(2000, 'regression');
    const { model } = await trainGbdtModel(REGRESSION, parameters({ trees: 3, leaves: 64, minDataInLeaf: 25 }), rows, undefined, context());
    const x = rows.x as DenseMatrix;
    for (const tree of model.trees) {
      const counts = new Array<number>(tree.leafValue.length).fill(0);
      for (let row = 0; row < x.rows; row += 1) {
        let node = 0;
        do {
          const value = x.data[(tree.feature[node] ?? 0) * x.rows + row] ?? 0;
          node = (value <= (tree.threshold[node] ?? 0) || (Number.isNaN(value) && tree.missingLeft[node] === 1) ? tree.left[node] : tree.right[node]) ?? 0;
        } while (node >= 0);
        counts[~node] = (counts[~node] ?? 0) + 1;
      }
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(25);
      expect(counts.length).toBeGreaterThan(31);
    }
  });

  test('bagging and feature fractions change the model, and the same seed gives the same one', async () => {
    const rows = sample(3000, 'binary');
    const train = async (given: Partial<GbdtParameters>, seed: number): Promise<Buffer> =>
      serialise((await trainGbdtModel(BINARY, parameters({ trees: 10, ...given }), rows, undefined, context({ seed }))).model);
    const plain = await train({}, 1);
    const bagged = await train({ baggingFraction: 0.5, featureFraction: 0.5 }, 1);
    expect(bagged.equals(plain)).toBe(false);
    expect(bagged.equals(await train({ baggingFraction: 0.5, featureFraction: 0.5 }, 1))).toBe(true);
    expect(bagged.equals(await train({ baggingFraction: 0.5, featureFraction: 0.5 }, 2))).toBe(false);
  });
});

describe('beside LightGBM', () => {
  /** Rows that both sides can make by themselves; a feature has missing values. */
  const rows = 2000;
  const x = dense([
    Array.from({ length: rows }, (_, i) => (i * 37) % 50),
    Array.from({ length: rows }, (_, i) => (i % 11 === 0 ? Number.NaN : (i * 101) % 23)),
    Array.from({ length: rows }, (_, i) => (i * i) % 17),
  ]);
  const signal = Float64Array.from({ length: rows }, (_, i) => ((i * 37) % 50) * 3 + ((i * 101) % 23) * 5 + ((i * i) % 17) * 7 + ((i * 29) % 31));

  // LightGBM 4.6.0: num_leaves=8, learning_rate=0.1, 30 rounds, deterministic, force_col_wise; multiclass with min_data_in_leaf=1.
  test.each([
    ['binary', BINARY, signal.map((s) => (s % 97 > 48 ? 1 : 0)), 20, [0.412668, 0.486519, 0.522674, 0.46471, 0.385557, 0.520403, 0.477161, 0.434664]],
    ['regression', REGRESSION, signal, 20, [97.883667, 190.223975, 197.121251, 132.477432, 311.351288, 269.293545, 134.795393, 233.162045]],
    [
      'multiclass',
      { kind: 'multiclass', classes: 3 },
      signal.map((s) => s % 3),
      1,
      [0.569953, 0.281598, 0.148449, 0.392251, 0.294648, 0.313101, 0.33009, 0.34753, 0.32238, 0.325586, 0.335592, 0.338821],
    ],
  ] as const)('the same rows and settings give the same predictions: %s', async (kind, task, y, minDataInLeaf, expected) => {
    const trained = await gbdt(task, parameters({ trees: 30, leaves: 8, minDataInLeaf }), { x, y }, undefined, context());
    const predictions = trained.predict(x);
    expected.forEach((value, i) => {
      expect(predictions[kind === 'binary' ? 2 * i + 1 : i]).toBeCloseTo(value, 5);
    });
  });
});

describe('early stopping', () => {
  test('keeps the rounds up to the best on the validation rows', async () => {
    const settings = parameters({ trees: 500, learningRate: 0.5, earlyStoppingRounds: 5 });
    const { model, history } = await trainGbdtModel(BINARY, settings, sample(600, 'binary'), sample(600, 'binary', 3), context());
    const losses = history.map((progress) => progress.metrics['validationLoss'] ?? 0);
    const best = losses.indexOf(Math.min(...losses));
    expect(history.length).toBe(best + 6);
    expect(model.trees.length).toBe(best + 1);
  });

  test('can watch the area under the ROC curve', async () => {
    const settings = parameters({ trees: 500, learningRate: 0.5, earlyStoppingRounds: 5, metric: 'auc' });
    const { model, history } = await trainGbdtModel(BINARY, settings, sample(600, 'binary'), sample(600, 'binary', 3), context());
    const areas = history.map((progress) => progress.metrics['validationAuc'] ?? 0);
    expect(model.trees.length).toBe(areas.indexOf(Math.max(...areas)) + 1);
  });

  test('is refused without validation rows, together with every other wrong parameter', async () => {
    const error = await errorOf(gbdt(REGRESSION, parameters({ earlyStoppingRounds: 5, metric: 'auc' }), sample(100, 'regression'), undefined, context()));
    expect(error.code).toBe('INVALID_PARAMETERS');
    expect(error.problems.map((problem) => problem.path)).toEqual(['earlyStoppingRounds', 'metric']);
  });
});

describe('the ONNX graph', () => {
  test.each([
    ['binary', BINARY, 2],
    ['multiclass', { kind: 'multiclass', classes: 3 }, 3],
    ['regression', REGRESSION, 1],
  ] as const)('predicts what predict does on missing and extreme values: %s', async (kind, task, outputs) => {
    const rows = sample(3000, kind);
    const trained = await gbdt(task, parameters({ trees: 60 }), rows, undefined, context());
    for (const x of [hardRows(4), rows.x as DenseMatrix]) {
      const expected = trained.predict(x);
      const found = await runOnnx(trained, x, outputs);
      expect(found).toHaveLength(expected.length);
      found.forEach((value, i) => {
        expect(Math.abs(value - (expected[i] ?? 0))).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(expected[i] ?? 0)));
      });
    }
  });

  test('decides as the bins did when training values lie at every edge of float32', async () => {
    const edges = [Number.NEGATIVE_INFINITY, -3.4e38, -1, -1e-45, -0, 0, 1e-45, 1, Math.fround(1 + 2 ** -23), 3.4e38, Number.POSITIVE_INFINITY, Number.NaN];
    const values = Array.from({ length: 1200 }, (_, i) => edges[i % edges.length] ?? 0);
    const y = Float64Array.from(values, (_, i) => ((i % edges.length) * 7) % 5);
    // -0 and 0 are the same value, with targets 3 and 0 here.
    const { model } = await trainGbdtModel(
      REGRESSION,
      parameters({ trees: 200, leaves: 12, learningRate: 0.5 }),
      { x: dense([values]), y },
      undefined,
      context(),
    );
    const trained = await gbdt(REGRESSION, parameters({ trees: 200, leaves: 12, learningRate: 0.5 }), { x: dense([values]), y }, undefined, context());
    expect(model.trees.length).toBeGreaterThan(5);
    const predictions = trained.predict(dense([edges]));
    edges.forEach((edge, i) => {
      const wanted = edge === 0 ? (((4 * 7) % 5) + ((5 * 7) % 5)) / 2 : (i * 7) % 5;
      expect(predictions[i]).toBeCloseTo(wanted, 4);
    });
    const found = await runOnnx(trained, dense([edges]), 1);
    found.forEach((value, i) => {
      expect(value).toBeCloseTo(predictions[i] ?? 0, 5);
    });
  });

  test('is valid for a model without any split', async () => {
    const x = dense([[1, 1, 1, 1]]);
    const trained = await gbdt(BINARY, parameters(), { x, y: Float64Array.of(0, 1, 1, 1) }, undefined, context());
    expect([...(await runOnnx(trained, x, 2))].map((p) => Number(p.toFixed(6)))).toEqual([0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75]);
    expect(trained.importance).toHaveLength(0);
  });
});

describe('interruption', () => {
  test.each([
    ['binary with bagging and validation', BINARY, { baggingFraction: 0.7, featureFraction: 0.6 }],
    ['multiclass', { kind: 'multiclass', classes: 3 }, {}],
    ['regression with early stopping', REGRESSION, { earlyStoppingRounds: 3, learningRate: 0.2 }],
  ] as const)('a training that goes on from round 11 ends with the same bytes: %s', async (_, task, given) => {
    const rows = sample(3000, task.kind);
    const validation = sample(800, task.kind, 2);
    const settings = parameters({ trees: 30, ...given });
    const straight = await trainGbdtModel(task, settings, rows, validation, context());
    const stop = new AbortController();
    let resume: Uint8Array | undefined;
    const aborted = trainGbdtModel(
      task,
      settings,
      rows,
      validation,
      context({
        signal: stop.signal,
        checkpoint: (step, state) => {
          if (step !== 11) return;
          resume = state();
          stop.abort(new Error('stopped by the test'));
        },
      }),
    );
    await expect(aborted).rejects.toThrow('stopped by the test');
    expect(resume).toBeDefined();
    const steps: number[] = [];
    const resumed = await trainGbdtModel(
      task,
      settings,
      rows,
      validation,
      context({ ...(resume === undefined ? {} : { resume }), onProgress: ({ step }) => steps.push(step) }),
    );
    expect(steps[0]).toBe(12);
    expect(serialise(resumed.model).equals(serialise(straight.model))).toBe(true);
    expect(onnxBytes(resumed.model).equals(onnxBytes(straight.model))).toBe(true);
    expect(resumed.history).toEqual(straight.history);
  });

  test('a state of other data, or one that is cut off, is not used', async () => {
    const rows = sample(1000, 'binary');
    const settings = parameters({ trees: 5 });
    let state: Uint8Array = new Uint8Array(0);
    await trainGbdtModel(BINARY, settings, sample(1000, 'binary', 9), undefined, context({ checkpoint: (_, make) => void (state = make()) }));
    const straight = serialise((await trainGbdtModel(BINARY, settings, rows, undefined, context())).model);
    for (const resume of [state, state.subarray(0, state.length - 3), Uint8Array.of(1, 2, 3), new Uint8Array(0)]) {
      expect(serialise((await trainGbdtModel(BINARY, settings, rows, undefined, context({ resume }))).model).equals(straight)).toBe(true);
    }
  });

  test('an aborted signal ends the training with its reason before the next tree', async () => {
    const stop = new AbortController();
    let rounds = 0;
    const training = gbdt(
      BINARY,
      parameters(),
      sample(1000, 'binary'),
      undefined,
      context({
        signal: stop.signal,
        onProgress: () => {
          rounds += 1;
          if (rounds === 3) stop.abort(new Error('enough'));
        },
      }),
    );
    await expect(training).rejects.toThrow('enough');
    expect(rounds).toBe(3);
  });
});

describe('threads', () => {
  test('one thread and three give the same bytes, whether or not the features are shared', async () => {
    const settings = parameters({ trees: 6, baggingFraction: 0.8 });
    const train = async (threads: number, shared: boolean): Promise<Buffer> =>
      serialise(
        (await trainGbdtModel(BINARY, settings, sample(120_000, 'binary', 1, shared), sample(20_000, 'binary', 2, shared), context({ threads }))).model,
      );
    const alone = await train(1, false);
    expect((await train(3, true)).equals(alone)).toBe(true);
    expect((await train(3, false)).equals(alone)).toBe(true);
  });

  test('many features, in many groups, give the same bytes on one thread and on two, and the one that matters is found', async () => {
    const random = createSeededRandom(11, 1);
    const columns = Array.from({ length: 150 }, () => Array.from({ length: 1500 }, () => (random() < 0.1 ? Number.NaN : random())));
    const y = Float64Array.from({ length: 1500 }, (_, row) => ((columns[137]?.[row] ?? 0) > 0.6 ? 5 : 1));
    const train = async (threads: number): Promise<GbdtModel> =>
      (
        await trainGbdtModel(
          REGRESSION,
          parameters({ trees: 5, leaves: 6, featureFraction: 0.9 }),
          { x: dense(columns, true), y },
          undefined,
          context({ threads }),
        )
      ).model;
    const alone = await train(1);
    expect(serialise(await train(2)).equals(serialise(alone))).toBe(true);
    const used = alone.trees.flatMap((tree) => [...tree.feature]);
    expect(used).toContain(137);
  });

  test('helpers are gone when the training is aborted', async () => {
    const stop = new AbortController();
    const training = gbdt(
      BINARY,
      parameters(),
      sample(120_000, 'binary', 1, true),
      undefined,
      context({ threads: 2, signal: stop.signal, onProgress: () => stop.abort(new Error('enough')) }),
    );
    await expect(training).rejects.toThrow('enough');
    expect(process.getActiveResourcesInfo().filter((resource) => resource === 'Worker' || resource === 'MessagePort')).toHaveLength(before.length);
  });

  const before = process.getActiveResourcesInfo().filter((resource) => resource === 'Worker' || resource === 'MessagePort');
});

describe('input that does not fit', () => {
  const x = dense([[1, 2, 3, 4]]);

  test('a single class', async () => {
    const error = await errorOf(gbdt(BINARY, parameters(), { x, y: Float64Array.of(1, 1, 1, 1) }, undefined, context()));
    expect(error.code).toBe('TARGET_ONE_CLASS');
  });

  test.each([
    ['a value that is not finite', REGRESSION, [1, Number.NaN, 3, 4]],
    ['an infinite value', REGRESSION, [1, 2, 3, Number.POSITIVE_INFINITY]],
    ['a class that does not exist', BINARY, [0, 1, 2, 1]],
    ['a class that is no whole number', { kind: 'multiclass', classes: 4 }, [0, 1, 1.5, 1]],
    ['fewer targets than rows', REGRESSION, [1, 2, 3]],
  ] as const)('a target with %s', async (_, task, y) => {
    const error = await errorOf(gbdt(task, parameters(), { x, y: Float64Array.from(y) }, undefined, context()));
    expect(error.code).toBe('TARGET_INVALID');
    expect(error.problems.length).toBeGreaterThan(0);
  });

  test('no rows', async () => {
    const error = await errorOf(gbdt(REGRESSION, parameters(), { x: dense([[]]), y: new Float64Array(0) }, undefined, context()));
    expect(error.code).toBe('TARGET_INVALID');
    expect(error.problems[0]?.message).toContain('no rows');
  });

  test('negative weights, and validation rows of another width: all problems at once', async () => {
    const error = await errorOf(
      gbdt(
        REGRESSION,
        parameters(),
        { x, y: Float64Array.of(1, 2, 3, 4), weights: Float64Array.of(1, -1, 1, 1) },
        { x: dense([[1], [2]]), y: Float64Array.of(1) },
        context(),
      ),
    );
    expect(error.code).toBe('FEATURES_INVALID');
    expect(error.problems.map((problem) => problem.path)).toEqual(['train.weights', 'validation']);
  });

  test('values that overflow the loss', async () => {
    const error = await errorOf(gbdt(REGRESSION, parameters({ minDataInLeaf: 1 }), { x, y: Float64Array.of(1e300, -1e300, 1e300, 5) }, undefined, context()));
    expect(error.code).toBe('TRAINING_DIVERGED');
  });

  test('a learning rate that makes the loss explode: a failure that shows the last rounds', async () => {
    const rounds: number[] = [];
    const settings = parameters({ learningRate: 2.6, trees: 200, minDataInLeaf: 1 });
    const training = gbdt(REGRESSION, settings, sample(500, 'regression'), undefined, context({ onProgress: ({ step }) => rounds.push(step) }));
    const error = await errorOf(training);
    expect(error.code).toBe('TRAINING_DIVERGED');
    expect(error.message).toMatch(/^The loss has exploded: after \d+ rounds it is far above that of a constant answer\.$/);
    const last = (rounds.at(-1) ?? 0) + 1;
    expect(error.problems.map(({ path }) => path)).toEqual(Array.from({ length: 5 }, (_, i) => `round ${last - 4 + i}`));
    const losses = error.problems.map(({ message }) => Number(message.replace('loss ', '')));
    expect(losses).toEqual([...losses].sort((a, b) => a - b));
    // long before it is infinite
    expect(losses.at(-1)).toBeLessThan(1e12);
  });

  test('a log loss of answers that are wrong and sure', async () => {
    const settings = parameters({ learningRate: 10, trees: 200, minDataInLeaf: 1, minSumHessian: 0 });
    const random = createSeededRandom(4, 4);
    // the same cell has rows of both classes: one of them is always wrong
    const rows = { x: dense([Array.from({ length: 600 }, (_, i) => i % 3)]), y: Float64Array.from({ length: 600 }, () => (random() < 0.5 ? 0 : 1)) };
    const error = await errorOf(gbdt(BINARY, settings, rows, undefined, context()));
    expect(error.code).toBe('TRAINING_DIVERGED');
    expect(error.problems.map(({ path }) => path)).toEqual(['start', 'round 1', 'round 2', 'round 3']);
    expect(Number(error.problems[3]?.message.replace('loss ', ''))).toBeGreaterThan(10);
  });

  test('a loss that 20 rounds do not lower, and one that an interrupted training goes on with', async () => {
    // each step goes twice as far as to the best value: the loss swings between two equal heights
    const rows = { x: dense([[0, 0, 1, 1]]), y: Float64Array.of(-1, -1, 1, 1) };
    const settings = parameters({ learningRate: 2, trees: 100, minDataInLeaf: 1, leaves: 2 });
    const states: Uint8Array[] = [];
    const checkpoint = (step: number, state: () => Uint8Array): void => {
      if (step === 15) states.push(state());
    };
    const straight = await errorOf(gbdt(REGRESSION, settings, rows, undefined, context({ checkpoint })));
    expect(straight.code).toBe('TRAINING_STALLED');
    expect(straight.message).toBe('The loss of 20 rounds never fell below that of a constant answer.');
    expect(straight.problems.map(({ path, message }) => `${path}: ${message}`)).toEqual([16, 17, 18, 19, 20].map((round) => `round ${round}: loss 1`));
    const resumed = await errorOf(gbdt(REGRESSION, settings, rows, undefined, context({ resume: states[0] ?? new Uint8Array(0) })));
    expect(resumed.report()).toEqual(straight.report());
  });

  test('values that overflow the loss of the first round show that round', async () => {
    const error = await errorOf(gbdt(REGRESSION, parameters({ minDataInLeaf: 1 }), { x, y: Float64Array.of(1e300, -1e300, 1e300, 5) }, undefined, context()));
    expect(error.problems).toEqual([{ path: 'start', message: 'loss Infinity' }]);
  });

  test('but not rows in which there is nothing to find', async () => {
    const noise = createSeededRandom(3, 3);
    const rows = { x: dense([Array.from({ length: 400 }, () => noise())]), y: Float64Array.from({ length: 400 }, () => (noise() < 0.5 ? 0 : 1)) };
    for (const given of [{ minDataInLeaf: 300 }, { baggingFraction: 0.3, learningRate: 0.05 }]) {
      const trained = await gbdt(BINARY, parameters({ trees: 40, ...given }), rows, undefined, context());
      expect(trained.predict(rows.x).every(Number.isFinite)).toBe(true);
    }
  });

  test('sparse features that are too wide, while small ones train as their dense form', async () => {
    const wide: SparseMatrix = {
      kind: 'sparse',
      rows: 4,
      columns: 50_000_000,
      rowStart: new Uint32Array(5),
      columnIndex: new Uint32Array(0),
      values: new Float32Array(0),
    };
    const y = Float64Array.of(0, 1, 0, 1);
    expect((await errorOf(gbdt(BINARY, parameters(), { x: wide, y }, undefined, context()))).code).toBe('FEATURES_INVALID');
    const narrow: SparseMatrix = {
      kind: 'sparse',
      rows: 4,
      columns: 2,
      rowStart: Uint32Array.of(0, 0, 1, 1, 3),
      columnIndex: Uint32Array.of(1, 0, 1),
      values: Float32Array.of(5, 2, 7),
    };
    const settings = parameters({ trees: 3, minDataInLeaf: 1 });
    const sparse = await gbdt(BINARY, settings, { x: narrow, y }, undefined, context());
    const spread = dense([
      [0, 0, 0, 2],
      [0, 5, 0, 7],
    ]);
    expect([...sparse.predict(narrow)]).toEqual([...(await gbdt(BINARY, settings, { x: spread, y }, undefined, context())).predict(spread)]);
  });

  test('constant columns and columns without any value are left out, and do no harm', async () => {
    const rows = sample(1000, 'binary');
    const x0 = rows.x as DenseMatrix;
    const column = (c: number): number[] => [...x0.data.subarray(c * 1000, (c + 1) * 1000)];
    const padded = dense([new Array<number>(1000).fill(3), column(0), new Array<number>(1000).fill(Number.NaN), column(1), column(2), column(3)]);
    const settings = parameters({ trees: 10 });
    const plain = await gbdt(BINARY, settings, rows, undefined, context());
    const withPadding = await gbdt(BINARY, settings, { x: padded, y: rows.y }, undefined, context());
    expect([...withPadding.predict(padded)]).toEqual([...plain.predict(x0)]);
    expect(withPadding.importance[0]).toBe(0);
    expect(withPadding.importance[2]).toBe(0);
  });
});
