import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import { weighRows } from '../class-weights.ts';
import { rankingJudge } from '../evaluation/ranking.ts';
import type { DenseMatrix } from '../matrix.ts';
import type { LabelledRows, LearningTask, RankingTask, TrainedTrainer, Trainer, TrainingContext, TrainingProgress } from '../trainer.ts';
import { BIN_SAMPLE_ROWS, BIN_SAMPLE_STREAM, findBounds, sampleRows } from './binning.ts';
import { createCrew, type Crew } from './crew.ts';
import { createGrower, type Grower } from './growth.ts';
import { bindKernels, compileKernels } from './kernels.ts';
import { planLayout, ROW_BLOCK, type Layout } from './layout.ts';
import { decodeTrees, encodeTrees, gainImportance, scoreRows, toDense, toPredictions, type GbdtModel, type Tree } from './model.ts';
import { toOnnxFragment } from './onnx.ts';
import type { GbdtParameters } from './parameters.ts';
import { type GroupedRows, groupRows, type RankingLayout, writeGroups } from './ranking.ts';
import { rocAuc } from './roc-auc.ts';
import { createSeededRandom } from './seeded-random.ts';
import { BIN_BLOCK_ROWS, createTaskRunner, type FeatureColumns, type SplitLimits, TASK } from './tasks.ts';
import { type SharedMemory, wasmRuntime } from './wasm-runtime.ts';

/** Bins are numbered in a byte, and missing values take one. */
const MOST_CATEGORIES = 255;

/** Sparse features with at most so many cells (400 MB) are spread out; more are refused. */
const MOST_DENSE_CELLS = 100_000_000;

/** Below so many feature values, threads cost more than they bring. */
const LEAST_VALUES_FOR_HELPERS = 200_000;

const STATE_FORMAT = 'millrace-gbdt-2';

/** A squared error so many times that of the constant answer is no longer one that is learnt. */
const EXPLODED_ERROR = 1_000;

/** So is a log loss above this, and above so many times that of the constant answer: nearly all rows are answered wrongly, and surely. */
const EXPLODED_LOG_LOSS = 10;

/** Rounds that tell whether the training loss falls at all. */
const TELLING_ROUNDS = 20;

/** What the training loss must have fallen by then, as a share of that of the constant answer. */
const STALLED_SHARE = 1e-6;

/** Rounds that a failure shows. */
const REPORTED_ROUNDS = 5;

/** NDCG at this rank is told of validation rows, as evaluation tells it. */
const WATCHED_NDCG = 'ndcg@10';

/** Above this, 2^relevance would weigh one row more than all others; LightGBM's labels end there too. */
const MOST_RELEVANCE = 31;

type GbdtTask = LearningTask | RankingTask;

/** What an interrupted training goes on from, besides its trees. */
interface TrainingState {
  readonly format: string;
  /** Of data, parameters and seed: a state of another training is not used. */
  readonly fingerprint: string;
  readonly history: readonly TrainingProgress[];
  readonly treesAfterRound: readonly number[];
}

/**
 * Trains gradient-boosted trees on histograms (Friedman 2001; Ke et al., "LightGBM", 2017): leaf-wise trees over at
 * most 255 bins a feature, log loss, squared error, or a ranking's loss over pairs of rows of one group (see ranking.ts). A
 * missing value takes the side that lowers the loss most.
 *
 * Model, ONNX and history depend on rows, parameters and seed alone: not on the count of threads, nor on
 * interruptions. `history` has `trainLoss`, and with validation rows `validationLoss` (and `validationAuc` when
 * that is watched, of a ranking `validationNdcg`, at 10): mean log loss, or mean squared error; of a ranking the mean log loss of
 * a pair (`pairwise`), or a group's log loss of its pairs weighed by their changes of NDCG (`lambdarank`). With early stopping the model ends at its best round.
 * A `resume` state that belongs to other data or parameters is ignored.
 *
 * Features may be dense, or sparse up to 100 million cells. Features on a SharedArrayBuffer are binned by all threads.
 *
 * @throws MillraceError TARGET_ONE_CLASS, TARGET_INVALID, FEATURES_INVALID, INVALID_PARAMETERS for input that cannot be
 * learnt, TRAINING_DIVERGED when the loss stops being finite or explodes and TRAINING_STALLED when 20 rounds do not lower
 * it, both with the last rounds, OUT_OF_MEMORY when training needs more than 4 GiB beside
 * its input. An aborted `signal` throws its reason.
 */
export const gbdt: Trainer<GbdtParameters, GbdtTask> = async (task, parameters, train, validation, context) => {
  const { model, history } = await trainGbdtModel(task, parameters, train, validation, context);
  return {
    predict: predictionsOf(model),
    toOnnx: (input, prefix) => toOnnxFragment(model, input, prefix),
    importance: gainImportance(model),
    history,
  };
};

const predictionsOf =
  (model: GbdtModel): TrainedTrainer['predict'] =>
  (x) =>
    toPredictions(model, scoreRows(model, toDense(x, MOST_DENSE_CELLS)), x.rows);

/** The bare model of `gbdt`, and its history. */
export async function trainGbdtModel(
  task: GbdtTask,
  parameters: GbdtParameters,
  train: LabelledRows,
  validation: LabelledRows | undefined,
  context: TrainingContext,
): Promise<{ readonly model: GbdtModel; readonly history: readonly TrainingProgress[] }> {
  context.signal?.throwIfAborted();
  if (parameters.classWeight !== 'none' && (task.kind === 'binary' || task.kind === 'multiclass')) {
    const weights = weighRows(task, parameters.classWeight, train, task.kind === 'binary' ? 2 : task.classes);
    return trainGbdtModel(task, { ...parameters, classWeight: 'none' }, { ...train, weights }, validation, context);
  }
  checkParameters(task, parameters, train, validation);
  checkRows(task, train, validation);
  const grouped = task.kind === 'ranking' ? [train, ...(validation === undefined ? [] : [validation])].map(groupedRows) : [];
  const ranking = task.kind === 'ranking' ? rankingLayout(parameters, grouped) : undefined;
  const x = toDense(train.x, MOST_DENSE_CELLS);
  const xValidation = validation === undefined ? undefined : toDense(validation.x, MOST_DENSE_CELLS);
  const { features, bounds } = findFeatureBounds(x, parameters.maxBins, context.seed, train.categories);
  const categorical = features.map((column) => (train.categories?.[column] ?? 0) > 0);
  const outputs = task.kind === 'multiclass' ? task.classes : 1;
  const allRows = x.rows + (xValidation?.rows ?? 0);
  const helpers = allRows * features.length * outputs < LEAST_VALUES_FOR_HELPERS ? 0 : Math.max(0, Math.floor(context.threads) - 1);
  const layout = planLayout({
    rows: x.rows,
    validationRows: xValidation?.rows ?? 0,
    outputs,
    features,
    binCounts: bounds.map((b) => b.length),
    categorical,
    leaves: Math.max(2, Math.min(parameters.leaves, x.rows)),
    threads: helpers + 1,
    classification: task.kind === 'binary' || task.kind === 'multiclass',
    ranking,
    weighted: train.weights !== undefined || validation?.weights !== undefined,
  });
  const memory = allocate(layout.pages);
  const module = compileKernels(layout.pages);
  const columns: FeatureColumns = { train: x.data, validation: xValidation?.data };
  const shared = x.data.buffer instanceof SharedArrayBuffer && (xValidation === undefined || xValidation.data.buffer instanceof SharedArrayBuffer);
  const limits: SplitLimits = { ...parameters, directions: directionsOf(parameters.monotone, features, train.names ?? []) };
  const runner = createTaskRunner(memory, layout, bindKernels(module, memory), limits, columns);
  const crew = createCrew(runner, helpers, {
    memory,
    module,
    layout,
    limits,
    columns: shared ? columns : undefined,
  });
  try {
    writeInputs(memory, layout, bounds, train, validation);
    if (ranking !== undefined) writeGroups(memory, layout, ranking, grouped);
    const blocks = Math.ceil(layout.rows / BIN_BLOCK_ROWS) + Math.ceil(layout.validationRows / BIN_BLOCK_ROWS);
    crew.run(TASK.bin, layout.groups.length * blocks, [], !shared);
    const grower = createGrower(memory, layout, crew, parameters, limits, bounds, helpers);
    return await boost({ task, parameters, train, validation, context, x, layout, memory, crew, grower, bounds });
  } finally {
    await crew.dismiss();
  }
}

interface Boosting {
  readonly task: GbdtTask;
  readonly parameters: GbdtParameters;
  readonly train: LabelledRows;
  readonly validation: LabelledRows | undefined;
  readonly context: TrainingContext;
  readonly x: DenseMatrix;
  readonly layout: Layout;
  readonly memory: SharedMemory;
  readonly crew: Crew;
  readonly grower: Grower;
  readonly bounds: readonly Float32Array[];
}

/** The rounds: grow, add, measure, hand out the state. */
async function boost(run: Boosting): Promise<{ readonly model: GbdtModel; readonly history: readonly TrainingProgress[] }> {
  const { task, parameters, train, validation, context, x, layout, memory, crew, grower } = run;
  const { outputs, rows, validationRows } = layout;
  const allRows = rows + validationRows;
  const baseScores = findBaseScores(task, train);
  const scores = new Float64Array(memory.buffer, layout.scores, outputs * allRows);
  for (let k = 0; k < outputs; k += 1) scores.fill(baseScores[k] ?? 0, k * allRows, (k + 1) * allRows);

  const trainWeight = lossWeight(train, layout);
  const validationWeight = validation === undefined ? 0 : lossWeight(validation, layout);
  const trainBlocks = Math.ceil(rows / ROW_BLOCK);
  const blocks = trainBlocks + Math.ceil(validationRows / ROW_BLOCK);
  const losses = new Float64Array(memory.buffer, layout.losses, blocks);
  const measure = (): Record<string, number> => {
    crew.run(TASK.derive, blocks, []);
    let trainLoss = 0;
    let validationLoss = 0;
    losses.forEach((loss, block) => {
      if (block < trainBlocks) trainLoss += loss;
      else validationLoss += loss;
    });
    const metrics: Record<string, number> = { trainLoss: trainLoss / trainWeight };
    if (validation !== undefined) {
      metrics['validationLoss'] = validationLoss / validationWeight;
      if (parameters.metric === 'auc') metrics['validationAuc'] = rocAuc(validation.y, scores.subarray(rows, allRows), validation.weights);
      if (validation.groups !== undefined && task.kind === 'ranking')
        metrics['validationNdcg'] = rankingJudge(validation.y, scores.subarray(rows, allRows), validation.groups).values([WATCHED_NDCG])[WATCHED_NDCG] ?? 0;
    }
    return metrics;
  };

  const start = measure();
  const fingerprint = lazily(() => findFingerprint(run));
  const state = context.resume === undefined ? undefined : readState(context.resume, fingerprint());
  const trees: Tree[] = [...(state?.trees ?? [])];
  const history: TrainingProgress[] = [...(state?.history ?? [])];
  const treesAfterRound: number[] = [...(state?.treesAfterRound ?? [])];
  const startLoss = start['trainLoss'] ?? Number.NaN;
  checkLosses(task, layout, startLoss, history, trees.length);
  for (const tree of trees) grower.replay(tree);
  if (trees.length > 0) measure();

  const selectFeatures = (tree: number): void => {
    const selected = new Uint8Array(memory.buffer, layout.selected, layout.features.length);
    if (parameters.featureFraction === 1) {
      selected.fill(1);
      return;
    }
    selected.fill(0);
    const random = createSeededRandom(context.seed, BIN_SAMPLE_STREAM + 1 + 2 * tree);
    const rest = Array.from(layout.features.keys());
    for (let wanted = Math.max(1, Math.round(parameters.featureFraction * rest.length)); wanted > 0 && rest.length > 0; wanted -= 1) {
      const [chosen] = rest.splice(Math.floor(random() * rest.length), 1);
      if (chosen !== undefined) selected[chosen] = 1;
    }
  };

  /** Puts a drawn part of the rows at the front of the order, both parts ascending; gives its size. */
  const drawBag = (round: number): number => {
    const order = new Int32Array(memory.buffer, layout.order, rows);
    const random = createSeededRandom(context.seed, BIN_SAMPLE_STREAM + 2 + 2 * round);
    const size = Math.max(1, Math.floor(parameters.baggingFraction * rows));
    let inside = 0;
    let outside = size;
    for (let row = 0; row < rows; row += 1) {
      // Knuth, "The Art of Computer Programming", vol. 2, algorithm S: every part of this size is equally likely.
      if (random() * (rows - row) < size - inside) {
        order[inside] = row;
        inside += 1;
      } else {
        order[outside] = row;
        outside += 1;
      }
    }
    return size;
  };

  const drawn = parameters.baggingFraction < 1 || parameters.featureFraction < 1;
  const modelSoFar = (): GbdtModel => {
    const kept = parameters.earlyStoppingRounds > 0 ? (treesAfterRound[bestRound(parameters, history)] ?? 0) : trees.length;
    return { kind: task.kind === 'ranking' ? 'regression' : task.kind, columns: x.columns, outputs, baseScores, trees: trees.slice(0, kept) };
  };
  let exhausted = false;
  for (let round = history.length; round < parameters.trees && !exhausted && !shouldStop(parameters, history); round += 1) {
    await setImmediate();
    context.signal?.throwIfAborted();
    const grownBefore = trees.length;
    for (let output = 0; output < outputs; output += 1) {
      selectFeatures(round * outputs + output);
      // Drawn for each tree of a round: the same rows each time, since growing reorders them.
      const bag = parameters.baggingFraction < 1 ? drawBag(round) : undefined;
      const tree = grower.grow(output, bag);
      if (tree === undefined) continue;
      trees.push(tree);
      grower.addScores(output, bag);
    }
    // Without anything drawn, the next round would find no split either.
    exhausted = trees.length === grownBefore && !drawn;
    const progress: TrainingProgress = { fraction: (round + 1) / parameters.trees, step: round + 1, metrics: measure() };
    history.push(progress);
    treesAfterRound.push(trees.length);
    checkLosses(task, layout, startLoss, history, trees.length);
    context.onProgress?.(progress);
    context.look?.(progress, () => ({ predict: predictionsOf(modelSoFar()) }));
    await context.checkpoint?.(round + 1, () =>
      encodeTrees({ format: STATE_FORMAT, fingerprint: fingerprint(), history, treesAfterRound } satisfies TrainingState, trees),
    );
  }
  return { model: modelSoFar(), history };
}

/**
 * @throws MillraceError TRAINING_DIVERGED, TRAINING_STALLED. The loss of `lambdarank` weighs its pairs anew each round: it
 * need not fall.
 */
function checkLosses(task: GbdtTask, { ranking }: Layout, startLoss: number, history: readonly TrainingProgress[], trees: number): void {
  const losses = [startLoss, ...history.map(({ metrics }) => metrics['trainLoss'] ?? Number.NaN)];
  const rounds = history.length;
  const last = losses[rounds] ?? Number.NaN;
  const failure = (code: 'TRAINING_DIVERGED' | 'TRAINING_STALLED', message: string): MillraceError => {
    const reported = losses.map((loss, round) => ({ path: round === 0 ? 'start' : `round ${round}`, message: `loss ${loss}` })).slice(-REPORTED_ROUNDS);
    return new MillraceError(code, message, { problems: reported });
  };
  if (!Number.isFinite(last)) throw failure('TRAINING_DIVERGED', `The loss became ${last} after ${rounds} rounds.`);
  if (ranking?.objective === 'lambdarank') return;
  const most = task.kind === 'regression' ? EXPLODED_ERROR * startLoss : EXPLODED_LOG_LOSS * Math.max(1, startLoss);
  if (last > most) throw failure('TRAINING_DIVERGED', `The loss has exploded: after ${rounds} rounds it is far above that of a constant answer.`);
  if (rounds === TELLING_ROUNDS && trees > 0 && losses.slice(1).every((loss) => loss >= startLoss * (1 - STALLED_SHARE)))
    throw failure('TRAINING_STALLED', `The loss of ${rounds} rounds never fell below that of a constant answer.`);
}

/** Index of the round with the best value of the watched metric; of equal ones the first. */
function bestRound(parameters: GbdtParameters, history: readonly TrainingProgress[]): number {
  let best = 0;
  const ranked = history[0]?.metrics['validationNdcg'] !== undefined && parameters.metric === 'auto';
  const watched = parameters.metric === 'auc' ? 'validationAuc' : ranked || parameters.metric === 'ndcg' ? 'validationNdcg' : 'validationLoss';
  const value = (round: number): number => (watched === 'validationLoss' ? (history[round]?.metrics[watched] ?? 0) : -(history[round]?.metrics[watched] ?? 0));
  for (let round = 1; round < history.length; round += 1) if (value(round) < value(best)) best = round;
  return best;
}

function shouldStop(parameters: GbdtParameters, history: readonly TrainingProgress[]): boolean {
  return parameters.earlyStoppingRounds > 0 && history.length > 0 && history.length - 1 - bestRound(parameters, history) >= parameters.earlyStoppingRounds;
}

function checkParameters(task: GbdtTask, parameters: GbdtParameters, train: LabelledRows, validation: LabelledRows | undefined): void {
  const problems: Problem[] = [];
  if (parameters.earlyStoppingRounds > 0 && (validation === undefined || validation.x.rows === 0)) {
    problems.push({
      path: 'earlyStoppingRounds',
      message: 'early stopping needs validation rows',
      found: String(parameters.earlyStoppingRounds),
      fix: 'set it to 0, or split off validation rows',
    });
  }
  const names = train.names ?? [];
  for (const [name, direction] of Object.entries(parameters.monotone)) {
    const column = names.indexOf(name);
    const problem = { path: `monotone.${name}`, found: String(direction) };
    if (column < 0) problems.push({ ...problem, message: 'is no column of the matrix', fix: `use one of ${names.slice(0, 50).join(', ')}` });
    else if ((train.categories?.[column] ?? 0) > 0) problems.push({ ...problem, message: 'categories have no order', fix: 'leave it out' });
    if (task.kind === 'multiclass') problems.push({ ...problem, message: 'probabilities of several classes cannot all rise', fix: 'leave monotone out' });
  }
  if (parameters.classWeight !== 'none' && (task.kind === 'regression' || task.kind === 'ranking'))
    problems.push({ path: 'classWeight', message: `a ${task.kind} has no classes`, fix: 'leave it out' });
  if (parameters.objective !== 'auto' && task.kind !== 'ranking') {
    problems.push({
      path: 'objective',
      message: `${parameters.objective} ranks rows within groups, and this is a ${task.kind} task`,
      found: parameters.objective,
      fix: "name the column of the groups: train(rows, { group: '…' })",
    });
  }
  if (parameters.metric === 'ndcg' && task.kind !== 'ranking') {
    problems.push({ path: 'metric', message: 'ndcg is for rankings', found: task.kind, fix: 'use loss' });
  }
  if (parameters.metric === 'auc' && task.kind !== 'binary') {
    problems.push({ path: 'metric', message: 'auc is for a target of two classes', found: task.kind, fix: task.kind === 'ranking' ? 'use ndcg' : 'use loss' });
  }
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'The parameters of gbdt do not fit the data.', { problems });
}

function checkRows(task: GbdtTask, train: LabelledRows, validation: LabelledRows | undefined): void {
  const features: Problem[] = [];
  const targets: Problem[] = [];
  const sets = [['train', train] as const, ...(validation === undefined ? [] : [['validation', validation] as const])];
  for (const [name, set] of sets) {
    if (set.x.columns !== train.x.columns)
      features.push({
        path: name,
        message: 'the columns differ from those of the training rows',
        found: String(set.x.columns),
        fix: `give ${train.x.columns} columns`,
      });
    set.categories?.forEach((codes, column) => {
      if (codes > MOST_CATEGORIES)
        features.push({
          path: set.names?.[column] ?? `column ${String(column)}`,
          message: `gbdt tells at most ${String(MOST_CATEGORIES)} categories apart`,
          found: String(codes),
          fix: "give it maxCategories, or encode: 'target'",
        });
    });
    if (set.y.length !== set.x.rows) targets.push({ path: name, message: 'there must be one target a row', found: `${set.y.length} for ${set.x.rows} rows` });
    if (set.weights !== undefined) {
      if (set.weights.length !== set.x.rows)
        features.push({ path: `${name}.weights`, message: 'there must be one weight a row', found: `${set.weights.length} for ${set.x.rows} rows` });
      const bad = set.weights.findIndex((weight) => !(weight >= 0 && weight < Number.POSITIVE_INFINITY));
      if (bad >= 0) features.push({ path: `${name}.weights`, message: 'a weight must be a number of at least 0', found: String(set.weights[bad]), row: bad });
      else if (totalWeight(set) <= 0) features.push({ path: `${name}.weights`, message: 'all weights are 0' });
    }
    if (task.kind === 'ranking') {
      if (set.groups?.length !== set.x.rows)
        targets.push({ path: `${name}.groups`, message: 'there must be one group a row', found: `${set.groups?.length ?? 0} for ${set.x.rows} rows` });
      if (set.weights !== undefined) features.push({ path: `${name}.weights`, message: 'rows of a ranking have no weights', fix: 'leave them out' });
    }
    const classes = task.kind === 'binary' ? 2 : task.kind === 'multiclass' ? task.classes : undefined;
    const fits = (y: number): boolean =>
      task.kind === 'ranking' ? y >= 0 && y <= MOST_RELEVANCE : classes === undefined ? Number.isFinite(y) : Number.isInteger(y) && y >= 0 && y < classes;
    const bad = set.y.findIndex((y) => !fits(y));
    if (bad >= 0) {
      const wanted =
        task.kind === 'ranking' ? `a relevance from 0 to ${MOST_RELEVANCE}` : classes === undefined ? 'a finite number' : `a class from 0 to ${classes - 1}`;
      targets.push({
        path: `${name}.y`,
        message: `a target must be ${wanted}`,
        found: String(set.y[bad]),
        row: bad,
        fix: 'remove the row, or correct its target',
      });
    }
  }
  if (train.x.rows === 0) targets.push({ path: 'train', message: 'there are no rows to learn from', found: '0 rows', fix: 'check the filter and the split' });
  if (task.kind === 'multiclass' && (task.classes < 2 || task.classes > 65_535)) {
    targets.push({ path: 'classes', message: 'a multiclass target has 2 to 65,535 classes', found: String(task.classes) });
  }
  if (targets.length > 0) throw new MillraceError('TARGET_INVALID', undefined, { problems: [...targets, ...features] });
  if (features.length > 0) throw new MillraceError('FEATURES_INVALID', undefined, { problems: features });
  if (task.kind === 'ranking' && train.groups !== undefined && !hasPairs(train.y, train.groups)) {
    throw new MillraceError('TARGET_INVALID', 'There is no order to learn: within each group all rows are equally relevant.', {
      problems: [
        {
          path: 'train.y',
          message: 'no group has rows of different relevance',
          found: `${new Set(train.groups).size} groups of ${train.x.rows} rows`,
          fix: 'look at the columns of the target and of the groups: one group is what one query shows',
        },
      ],
    });
  }
  if ((task.kind === 'binary' || task.kind === 'multiclass') && train.y.every((y) => y === train.y[0])) {
    throw new MillraceError('TARGET_ONE_CLASS', undefined, {
      problems: [{ path: 'train.y', message: 'all training rows have the same class', found: String(train.y[0]) }],
    });
  }
}

/** Whether two rows of one group differ in relevance. */
function hasPairs(y: Float64Array, groups: Int32Array): boolean {
  const first = new Map<number, number>();
  return groups.some((group, row) => {
    const known = first.get(group);
    if (known === undefined) first.set(group, y[row] ?? 0);
    return known !== undefined && known !== y[row];
  });
}

type RankedRows = GroupedRows & { readonly y: Float64Array };

const groupedRows = ({ groups, y }: LabelledRows): RankedRows => ({ ...groupRows(groups ?? new Int32Array(y.length)), y });

function rankingLayout({ objective, rankingDepth }: GbdtParameters, sets: readonly GroupedRows[]): RankingLayout {
  const sizes = sets.flatMap(({ starts }) => Array.from(starts.subarray(1), (end, group) => end - (starts[group] ?? 0)));
  return {
    objective: objective === 'pairwise' ? 'pairwise' : 'lambdarank',
    depth: rankingDepth,
    groups: sizes.length,
    largestGroup: sizes.reduce((most, size) => Math.max(most, size), 1),
  };
}

/** For each used feature whether the output may only rise or fall in it; empty when nothing is bound. */
function directionsOf(monotone: GbdtParameters['monotone'], features: readonly number[], names: readonly string[]): readonly number[] {
  return Object.keys(monotone).length === 0 ? [] : features.map((column) => monotone[names[column] ?? ''] ?? 0);
}

/** The columns that can be split, and the bounds of their bins. */
function findFeatureBounds(
  x: DenseMatrix,
  maxBins: number,
  seed: number,
  categories: LabelledRows['categories'],
): { readonly features: readonly number[]; readonly bounds: readonly Float32Array[] } {
  const features: number[] = [];
  const bounds: Float32Array[] = [];
  const sample = sampleRows(x.rows, seed);
  const values = new Float32Array(Math.min(x.rows, BIN_SAMPLE_ROWS));
  for (let column = 0; column < x.columns; column += 1) {
    const codes = categories?.[column] ?? 0;
    if (codes > 0) {
      // each code is a bin, those of no row in the training data included
      features.push(column);
      bounds.push(Float32Array.from({ length: codes }, (_, code) => (code === codes - 1 ? Number.POSITIVE_INFINITY : code + 0.5)));
      continue;
    }
    let missing = false;
    const start = column * x.rows;
    for (let i = 0; i < sample.length; i += 1) {
      const value = x.data[start + (sample[i] as number)] as number;
      values[i] = value;
      if (value !== value) missing = true;
    }
    const found = findBounds(values, maxBins);
    // One bin and no missing value: nothing to tell rows apart by. Nor when all are missing.
    if (found.length >= 2 || (found.length === 1 && missing)) {
      features.push(column);
      bounds.push(found);
    }
  }
  return { features, bounds };
}

function allocate(pages: number): SharedMemory {
  try {
    return new wasmRuntime.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new MillraceError('OUT_OF_MEMORY', `gbdt could not get the ${Math.ceil(pages / 16)} MiB that it needs beside its input.`, { cause });
  }
}

function writeInputs(memory: SharedMemory, layout: Layout, bounds: readonly Float32Array[], train: LabelledRows, validation: LabelledRows | undefined): void {
  bounds.forEach((bound, feature) => {
    new Float32Array(memory.buffer, layout.bounds + feature * 1024, 256).set(bound);
  });
  const allRows = layout.rows + layout.validationRows;
  const targets = !layout.classification
    ? new Float64Array(memory.buffer, layout.targets, allRows)
    : layout.outputs === 1
      ? new Float32Array(memory.buffer, layout.targets, allRows)
      : new Uint16Array(memory.buffer, layout.targets, allRows);
  targets.set(train.y);
  if (validation !== undefined) targets.set(validation.y, layout.rows);
  if (!layout.weighted) return;
  const weights = new Float64Array(memory.buffer, layout.weights, allRows).fill(1);
  if (train.weights !== undefined) weights.set(train.weights);
  if (validation?.weights !== undefined) weights.set(validation.weights, layout.rows);
}

function totalWeight(rows: LabelledRows): number {
  return rows.weights === undefined ? rows.y.length : rows.weights.reduce((sum, weight) => sum + weight, 0);
}

/** What the sum of the losses is divided by: weight of the rows; of `lambdarank`, whose losses are of groups, their number. */
function lossWeight(rows: LabelledRows, { ranking }: Layout): number {
  return ranking?.objective === 'lambdarank' ? new Set(rows.groups).size : totalWeight(rows);
}

/** The constant scores of least loss: log odds, log shares of the classes, or the mean. A class without rows counts as half a row. */
function findBaseScores(task: GbdtTask, train: LabelledRows): Float32Array {
  if (task.kind === 'ranking') return Float32Array.of(0);
  const total = totalWeight(train);
  const weight = (row: number): number => train.weights?.[row] ?? 1;
  if (task.kind === 'regression') {
    let mean = 0;
    train.y.forEach((y, row) => {
      mean += (y * weight(row)) / total;
    });
    return Float32Array.of(mean);
  }
  const shares = new Float64Array(task.kind === 'binary' ? 2 : task.classes);
  train.y.forEach((y, row) => {
    shares[y] = (shares[y] ?? 0) + weight(row) / total;
  });
  const logs = shares.map((share) => Math.log(Math.max(share, 0.5 / train.y.length)));
  return task.kind === 'binary' ? Float32Array.of((logs[1] ?? 0) - (logs[0] ?? 0)) : Float32Array.from(logs);
}

function findFingerprint({ task, parameters, train, validation, context, bounds, layout }: Boosting): string {
  const hash = createHash('sha256').update(
    JSON.stringify([task, parameters, context.seed, layout.rows, layout.validationRows, layout.features, layout.categorical]),
  );
  const add = (array: Float32Array | Float64Array | Int32Array | undefined): void => {
    if (array !== undefined) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  };
  bounds.forEach(add);
  for (const set of [train, validation]) {
    add(set?.y);
    add(set?.weights);
    add(set?.groups);
  }
  return hash.digest('hex');
}

function readState(bytes: Uint8Array, fingerprint: string): (TrainingState & { readonly trees: readonly Tree[] }) | undefined {
  const decoded = decodeTrees(bytes);
  if (decoded === undefined) return undefined;
  const state = decoded.header as TrainingState;
  return state.format === STATE_FORMAT && state.fingerprint === fingerprint ? { ...state, trees: decoded.trees } : undefined;
}

function lazily<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
