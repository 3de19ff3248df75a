import type { RawTable } from '../../contracts/columns.ts';
import type { WindowQuality } from '../../contracts/window-quality.ts';
import { createJudge, type JudgedTask } from '../metrics.ts';
import { confusionAt } from './binary.ts';
import { type IntervalOptions, type JudgedAnswers, metricIntervals, pickRows, positiveScores } from './intervals.ts';
import { sliceMetrics } from './slices.ts';
import { takeRows } from './tables.ts';

export interface WindowRows extends JudgedAnswers {
  readonly task: Exclude<JudgedTask, { readonly kind: 'ranking' }>;
  /** `y`: index of the class, or the value; NaN where no label is known, -1 for one that is none of the classes. */
  readonly y: Float64Array;
}

export interface WindowQualityOptions {
  /** What slices are ordered by, worst first. */
  readonly metric: string;
  /** Figures that are told; default all of the task. */
  readonly metrics?: readonly string[];
  /** Of fewer labelled rows no figure is told. Default 30. */
  readonly leastRows?: number;
  /** Values of columns for each row of the window, and which of them, or which pairs, part it. */
  readonly slices?: { readonly table: RawTable; readonly by: readonly (readonly string[])[]; readonly leastRows: number };
  /** Null: no intervals. */
  readonly intervals: IntervalOptions | null;
}

const LEAST_ROWS = 30;

/**
 * An evaluation's figures, with its intervals, of the labelled rows of one window of predictions, whole and by slice. Never
 * NaN and never an error for what a window may well be: without rows, without labels, with few of them, of one class, with
 * labels of unknown classes; `state` and `withoutValue` say what it is. A share of no rows (the precision where nothing is
 * answered positive) is left out, not 0.
 *
 * Pure computation, about as long as sorting the rows and 500 passes over at most 5,000 of them: 3.5 s for 1,000,000 rows.
 * Call it in a worker thread.
 */
export function windowQuality(window: WindowRows, options: WindowQualityOptions): WindowQuality {
  const { task } = window;
  const rows = window.y.length;
  const width = rows === 0 ? 1 : window.answers.length / rows;
  const classes = task.kind === 'binary' ? 2 : task.kind === 'multiclass' ? task.classes : null;
  const kept: number[] = [];
  let [given, unknownLabels, unusableAnswers] = [0, 0, 0];
  for (let row = 0; row < rows; row++) {
    const label = window.y[row] as number;
    let answered = true;
    for (let k = row * width; k < (row + 1) * width; k++) answered &&= Number.isFinite(window.answers[k]);
    if (!answered) unusableAnswers++;
    if (Number.isNaN(label)) continue;
    given++;
    const known = classes === null ? Number.isFinite(label) : Number.isInteger(label) && label >= 0 && label < classes;
    if (!known) unknownLabels++;
    else if (answered) kept.push(row);
  }
  const told = { rows, labelled: kept.length, unknownLabels, unusableAnswers };
  const nothing = { metrics: {}, intervals: {}, confidence: options.intervals?.confidence ?? null, withoutValue: [], slices: [] };
  if (rows === 0) return { state: 'noRows', ...told, ...nothing };
  if (given === 0) return { state: 'noLabels', ...told, ...nothing };
  if (kept.length < Math.max(1, options.leastRows ?? LEAST_ROWS)) return { state: 'fewLabels', ...told, ...nothing };

  const judged = kept.length === rows ? window : pickRows(window, kept);
  const oneValue = judged.y.every((label) => label === judged.y[0]);
  const judge = createJudge(task, judged.y, judged.answers, judged.threshold);
  const asked = options.metrics?.filter((name) => judge.names.includes(name)) ?? judge.names;
  const whyNot = reasonsOf(judged, oneValue);
  const values = Object.entries(judge.values(asked));
  const metrics = Object.fromEntries(values.filter(([name, value]) => whyNot(name) === null && Number.isFinite(value)));
  return {
    state: classes !== null && oneValue ? 'oneClass' : 'judged',
    ...told,
    ...nothing,
    metrics,
    intervals: options.intervals === null ? {} : metricIntervals(judged, metrics, options.intervals),
    withoutValue: values.flatMap(([metric]) => (metric in metrics ? [] : [{ metric, reason: whyNot(metric) ?? ('undefined' as const) }])),
    slices: options.slices === undefined ? [] : slicesOf(judged, kept, judge.names, options, options.slices),
  };
}

type Reason = WindowQuality['withoutValue'][number]['reason'];

/** What compares classes with each other, or with chance: of one class it would be a constant that says nothing. */
const OF_CLASSES: ReadonlySet<string> = new Set([
  'auc',
  'averagePrecision',
  'ks',
  'balancedAccuracy',
  'matthews',
  'cohenKappa',
  'quadraticKappa',
  'aucOvr',
  'aucOvrWeighted',
  'aucOvo',
  'aucOvoWeighted',
]);
/** What compares errors with the targets' spread. */
const OF_SPREAD: ReadonlySet<string> = new Set(['r2', 'explainedVariance', 'd2Absolute', 'd2Poisson']);

/** Why a metric means nothing on these rows; null where it does. */
function reasonsOf({ task, y, answers, threshold }: JudgedAnswers, oneValue: boolean): (metric: string) => Reason | null {
  if (task.kind === 'regression') return (metric) => (oneValue && OF_SPREAD.has(metric) ? 'undefined' : null);
  if (task.kind !== 'binary') return (metric) => (oneValue && OF_CLASSES.has(metric) ? 'oneClass' : null);
  const { truePositives, falsePositives, falseNegatives, trueNegatives } = confusionAt(y, positiveScores(answers), threshold);
  const none = {
    answered: truePositives + falsePositives === 0,
    positive: truePositives + falseNegatives === 0,
    negative: trueNegatives + falsePositives === 0,
  };
  return (metric) => {
    if (metric === 'precision' && none.answered) return 'noneAnswered';
    if (((metric === 'recall' || metric === 'f1') && none.positive) || (metric === 'specificity' && none.negative)) return 'nonePresent';
    return oneValue && OF_CLASSES.has(metric) ? 'oneClass' : null;
  };
}

function slicesOf(
  judged: JudgedAnswers,
  kept: readonly number[],
  names: readonly string[],
  { metric, metrics = [], intervals }: WindowQualityOptions,
  { table, by, leastRows }: NonNullable<WindowQualityOptions['slices']>,
): WindowQuality['slices'] {
  const rows = kept.length === table.rows ? table : takeRows(table, kept);
  const known = names.includes(metric) ? metric : (names[0] ?? metric);
  return by.map((columns) => {
    // a column that requests do not carry any more
    if (columns.some((name) => !table.columns.has(name))) return { column: columns.join(' × '), metric: known, values: [], tooSmall: 0, withoutValue: 0 };
    const list = sliceMetrics(judged, rows, columns, { metric: known, others: metrics.filter((name) => names.includes(name)), leastRows, intervals });
    return { ...list, values: list.values.map((slice) => ({ ...slice, metrics: { ...slice.metrics } })) };
  });
}
