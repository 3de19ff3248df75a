import type { RawTable } from '../../contracts/columns.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { Features } from '../../contracts/features.ts';
import { fitFeatures } from '../features/fit-features.ts';
import { categoriesOf } from '../features/fitted-features.ts';
import { transformFeatures, transformTrainingFeatures } from '../features/transform-features.ts';
import { createJudge, higherIsBetter } from '../metrics.ts';
import { encodeLike, encodeTarget, type EncodedTarget, type TaskKind } from '../target.ts';
import { targetColumn } from '../train-predictor.ts';
import { bindTrainer } from '../trainers.ts';
import { rowsOf } from './blocks.ts';

/**
 * Versions trained on windows of one table, and what they answer on its other rows.
 *
 * Invariants:
 * 1. A version knows the rows of its window alone: features, classes and model are fitted on them.
 * 2. A window is trained once, whoever asks: the same rows and seed give the same version.
 * 3. Few answers are kept; memory does not grow with blocks × versions × rows.
 */
export interface TrainedVersion {
  /** Names the version within its replay. */
  readonly key: string;
  readonly fromRow: number;
  readonly toRow: number;
  readonly trainingSeconds: number;
  /** Row-major [rows × K] probabilities of the data's classes, or values. */
  answers(fromRow: number, toRow: number): Float64Array;
}

export interface VersionsOptions {
  readonly table: RawTable;
  readonly target: string;
  readonly task: TaskKind;
  readonly features: Features;
  readonly trainer: { readonly name: string; readonly parameters?: unknown };
  /** Default: accuracy of classes, rmse of values. */
  readonly metric: string | undefined;
  readonly seed: number;
  readonly threads: number;
}

export interface Versions {
  readonly metric: string;
  /** All rows' targets: class indices, or values. */
  readonly encoded: EncodedTarget;
  train(fromRow: number, toRow: number): Promise<TrainedVersion>;
  /** The metric of these rows; NaN where it has no value. */
  quality(version: TrainedVersion, fromRow: number, toRow: number): number;
  /** How long it took to answer these rows and judge the answers. */
  secondsOf(version: TrainedVersion, fromRow: number, toRow: number): number;
  /** The metric of given answers. */
  judged(answers: Float64Array, fromRow: number, toRow: number): number;
  /** 1 for a wrong class and 0 for the right one, or the absolute error of a value; row by row. */
  errors(version: TrainedVersion, fromRow: number, toRow: number): Float64Array;
}

/** Numbers of answers that are kept: 64 MiB. */
const KEPT_ANSWERS = 8_388_608;

export function createVersions({ table, target, task: taskKind, features, trainer: spec, metric: named, seed, threads }: VersionsOptions): Versions {
  const trainer = bindTrainer(spec.name, spec.parameters);
  const column = targetColumn(table, target);
  const encoded = encodeTarget(column, { name: target, kind: taskKind });
  const { task, y, classes = [] } = encoded;
  const outputs = Math.max(1, classes.length);
  const metric = named ?? (classes.length === 0 ? 'rmse' : 'accuracy');
  const judge = (answers: Float64Array, fromRow: number, toRow: number) => createJudge(task, y.subarray(fromRow, toRow), answers);
  checkMetric(metric, judge(certain(encoded, Uint32Array.of(0)), 0, 1).names);
  const trained = new Map<string, TrainedVersion>();
  const kept = new Map<string, Float64Array>();
  let keptNumbers = 0;
  const measurements = new Map<string, { readonly value: number; readonly seconds: number }>();

  const remembered = (key: string, answer: () => Float64Array): Float64Array => {
    const there = kept.get(key);
    if (there !== undefined) return there;
    const made = answer();
    kept.set(key, made);
    keptNumbers += made.length;
    for (const [oldest, { length }] of kept) {
      if (keptNumbers <= KEPT_ANSWERS || oldest === key) break;
      kept.delete(oldest);
      keptNumbers -= length;
    }
    return made;
  };

  const learn = async (fromRow: number, toRow: number): Promise<(rows: RawTable) => Float64Array> => {
    const rows = rowsOf(table, fromRow, toRow);
    const there = classes.length === 0 ? [] : [...new Set(y.subarray(fromRow, toRow))].sort((a, b) => a - b);
    // nothing can be learnt of one class: it is answered
    if (there.length === 1) return ({ rows: count }) => certain(encoded, new Uint32Array(count).fill(there[0] ?? 0));
    const names = there.map((at) => classes[at] ?? '');
    const mine: EncodedTarget =
      names.length === 0
        ? { task, y: y.subarray(fromRow, toRow) }
        : {
            task: names.length === 2 && task.kind === 'binary' ? task : names.length === 2 ? { kind: 'binary' } : { kind: 'multiclass', classes: names.length },
            classes: names,
            y: encodeLike(targetColumn(rows, target), names),
          };
    const fitted = fitFeatures({ features, table: rows, target: mine, trainer: trainer.name, seed });
    const categories = categoriesOf(fitted.steps);
    const labelled = {
      x: transformTrainingFeatures(fitted, rows, mine, seed),
      y: mine.y,
      names: fitted.names,
      ...(categories === undefined ? {} : { categories }),
      ...(mine.classes === undefined ? {} : { classes: mine.classes }),
    };
    const model = await trainer.train(mine.task, labelled, undefined, { seed, threads });
    return (asked) => spread(model.predict(transformFeatures(fitted, asked)), there, outputs);
  };

  const measured = (version: TrainedVersion, from: number, to: number): { readonly value: number; readonly seconds: number } => {
    const key = `${version.key}/${String(from)}-${String(to)}`;
    const known = measurements.get(key);
    if (known !== undefined) return known;
    const startedMs = performance.now();
    const value = judge(version.answers(from, to), from, to).values([metric])[metric] ?? Number.NaN;
    const measurement = { value, seconds: (performance.now() - startedMs) / 1000 };
    measurements.set(key, measurement);
    return measurement;
  };

  return {
    metric,
    encoded,
    train: async (fromRow, toRow) => {
      const key = `${String(fromRow)}-${String(toRow)}`;
      const there = trained.get(key);
      if (there !== undefined) return there;
      const startedMs = performance.now();
      const answer = await learn(fromRow, toRow);
      const version: TrainedVersion = {
        key,
        fromRow,
        toRow,
        trainingSeconds: (performance.now() - startedMs) / 1000,
        answers: (from, to) => remembered(`${key}/${String(from)}-${String(to)}`, () => answer(rowsOf(table, from, to))),
      };
      trained.set(key, version);
      return version;
    },
    quality: (version, from, to) => measured(version, from, to).value,
    secondsOf: (version, from, to) => measured(version, from, to).seconds,
    judged: (answers, from, to) => judge(answers, from, to).values([metric])[metric] ?? Number.NaN,
    errors: (version, from, to) => {
      const answers = version.answers(from, to);
      return y.subarray(from, to).map((wanted, row) => {
        if (classes.length === 0) return Math.abs((answers[row] ?? Number.NaN) - wanted);
        let best = 0;
        for (let k = 1; k < outputs; k++) if ((answers[row * outputs + k] ?? 0) > (answers[row * outputs + best] ?? 0)) best = k;
        return best === wanted ? 0 : 1;
      });
    },
  };
}

/** Answers that are sure of these classes, or these values. */
export function certain({ classes }: EncodedTarget, answered: Uint32Array | Float64Array): Float64Array {
  if (classes === undefined) return Float64Array.from(answered);
  const answers = new Float64Array(answered.length * classes.length);
  for (let row = 0; row < answered.length; row++) answers[row * classes.length + (answered[row] ?? 0)] = 1;
  return answers;
}

/** Probabilities of the classes that a version knows, as ones of all classes: 0 for those it never saw. */
function spread(known: Float64Array, there: readonly number[], outputs: number): Float64Array {
  if (there.length === 0 || there.length === outputs) return known;
  const rows = known.length / there.length;
  const all = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row++) there.forEach((to, k) => (all[row * outputs + to] = known[row * there.length + k] ?? 0));
  return all;
}

function checkMetric(metric: string, names: readonly string[]): void {
  if (names.includes(metric)) return;
  throw new MillraceError('INVALID_PARAMETERS', `The metric ${metric} does not fit the target.`, {
    problems: [{ path: 'simulation.metric', message: 'is not one of this task', found: metric, fix: `Use one of ${names.join(', ')}.` }],
  });
}

/** Whether a is better than b by more than `margin`. */
export const betterBy = (metric: string, a: number, b: number, margin = 0): boolean => (higherIsBetter(metric) ? a - b : b - a) > margin;
