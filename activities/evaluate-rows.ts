import { pathToFileURL } from 'node:url';
import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { compileRowTransforms } from '../data/row-transforms.ts';
import { runBehaviourTests, type Score } from '../ml/evaluation/behaviour.ts';
import { compareJudges, compareOnRows, type PairedComparison } from '../ml/evaluation/compare.ts';
import { curvesOf } from '../ml/evaluation/curves.ts';
import { explainRows } from '../ml/evaluation/explain.ts';
import { permutationImportance } from '../ml/evaluation/importance.ts';
import { type JudgedAnswers, judgeIntervals, type MetricInterval, metricIntervals, pickRows, positiveScores } from '../ml/evaluation/intervals.ts';
import type { Judge } from '../ml/evaluation/judge.ts';
import { mostProbable } from '../ml/evaluation/multiclass.ts';
import { rankingJudge } from '../ml/evaluation/ranking.ts';
import { sliceMetrics } from '../ml/evaluation/slices.ts';
import { cellOf, takeRows } from '../ml/evaluation/tables.ts';
import { createJudge } from '../ml/metrics.ts';
import { shuffledIndices } from '../ml/random.ts';
import { createScorer, type Scorer } from '../ml/score.ts';
import type { BusinessCall, EvaluatedRows, EvaluateJob } from './evaluate-job.ts';
import { targetsOf } from './judge-rows.ts';
import { type EvaluatedRow, isStep, stepRun } from './steps.ts';
import { usersCode } from './users-code.ts';

type Progress = (fraction: number | null, message: string) => void;

/** JSON has no NaN: a figure that has no value (one class in the rows) is left out. */
const finite = (figures: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(figures).filter(([, value]) => Number.isFinite(value)));

/** Replicates of a paired bootstrap where no intervals were asked for. */
const COMPARISON_REPLICATES = 1_000;

/**
 * Judges a candidate on the rows, and its champion on the same ones. Works in a computing thread, which cancelling ends.
 * @throws TARGET_INVALID, MODEL_INVALID, INVALID_PARAMETERS, USER_CODE_FAILED
 */
export async function evaluateRows(job: EvaluateJob, table: RawTable, progress: Progress): Promise<EvaluatedRows> {
  const { candidate, champion, intervals, metric } = job;
  const { task, threshold } = candidate.signature;
  if (task.kind === 'raw') throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.');
  const scorer = await createScorer(candidate.onnx, candidate.signature.graph);
  try {
    const judged = await answersOf(candidate, scorer, table, job.targetType, (fraction) => {
      progress(fraction, 'scoring');
    });
    progress(null, 'judging');
    const { y, answers } = judged;
    const judge = createJudge(judged.task, y, answers, threshold);
    const metrics = finite(judge.values());
    const found: Record<string, MetricInterval> = intervals === null ? {} : metricIntervals(judged, metrics, intervals);
    if (job.group !== null && !(task.kind === 'regression' && task.group === job.group)) {
      const ranking = rankedGroups(judged, table, job.group);
      const figures = finite(ranking.values());
      Object.assign(metrics, figures);
      if (intervals !== null) Object.assign(found, judgeIntervals(ranking, figures, intervals));
    }
    if (!(metric in metrics)) {
      throw new MillraceError('INVALID_PARAMETERS', `The metric ${metric} has no value for this model on these rows.`, {
        problems: [{ path: 'metric', message: 'does not fit the task, or the rows (of one class alone, say)', found: metric }],
        fix: `Use one of: ${Object.keys(metrics).join(', ')}.`,
      });
    }
    const classes = 'classes' in task ? task.classes : [];
    const curves = curvesOf(judged, classes);
    // of rows that were not learnt to be ranked, a ranking has no figure of a slice or of shuffled rows: those go by the task's first metric
    const rowMetric = judge.names.includes(metric) ? metric : (judge.names[0] ?? metric);
    const sliceOptions = { metric: rowMetric, others: job.sliceMetrics, leastRows: job.leastSliceRows, intervals };
    const slices = job.slices.map((by) => sliceMetrics(judged, table, by, sliceOptions));
    const compared = champion === null ? null : await championOf(job, champion, judged, table, progress);

    const score: Score = async (rows) => Float64Array.from((await scorer.score(rows)).values);
    const { graph } = candidate.signature;
    const columns = [...graph.numbers, ...graph.dates, ...graph.strings];
    const features: RawTable = { rows: table.rows, columns: new Map([...table.columns].filter(([name]) => columns.includes(name))) };
    if (job.tests.length > 0) progress(null, 'testing behaviour');
    const apply = compileRowTransforms(candidate.signature.transforms, candidate.signature.columns, job.hashKey);
    const tests = await runBehaviourTests(job.tests, { signature: candidate.signature, score, table: features, transform: apply });
    const importance = job.importance === null ? null : await importanceOf({ ...job, metric: rowMetric }, judged, features, columns, score, progress);
    const explanations = job.explain === null ? [] : await explained(job.explain, judged, table, features, columns, task.target, score, progress);
    const business: Record<string, number> = {};
    for (const call of job.business) Object.assign(business, await businessFigures(call, job, judged, classes, table, task.target));
    return {
      rows: y.length,
      task: judged.task.kind,
      classes: [...classes],
      threshold: judged.task.kind === 'binary' ? threshold : null,
      metrics,
      intervals: found,
      slices: slices.map((list) => ({ ...list, values: list.values.map((slice) => ({ ...slice, metrics: { ...slice.metrics } })) })),
      // plain copies: what goes to the artifact store is not read only
      curves: structuredClone(curves) as unknown as EvaluatedRows['curves'],
      champion: compared,
      business,
      tests: structuredClone(tests) as unknown as EvaluatedRows['tests'],
      importance,
      explanations,
    };
  } finally {
    await scorer.close();
  }
}

async function answersOf(
  { signature }: EvaluateJob['candidate'],
  scorer: Scorer,
  table: RawTable,
  targetType: EvaluateJob['targetType'],
  onProgress: (fraction: number) => void,
): Promise<JudgedAnswers> {
  const { task, y } = targetsOf(signature, targetType, table);
  const scores = await scorer.score(table, {
    onProgress: (done) => {
      onProgress(done / table.rows);
    },
  });
  return { task, y, answers: Float64Array.from(scores.values), threshold: signature.threshold };
}

async function championOf(job: EvaluateJob, champion: NonNullable<EvaluateJob['champion']>, mine: JudgedAnswers, table: RawTable, progress: Progress) {
  const scorer = await createScorer(champion.onnx, champion.signature.graph);
  try {
    const theirs = await answersOf(champion, scorer, table, job.targetType, (fraction) => {
      progress(fraction, 'scoring the champion');
    });
    const { replicates, seed } = job.intervals ?? { replicates: COMPARISON_REPLICATES, seed: 0 };
    const options = { confidence: job.confidence, replicates: Math.max(replicates, COMPARISON_REPLICATES), seed };
    const metrics = finite(createJudge(theirs.task, theirs.y, theirs.answers, theirs.threshold).values());
    progress(null, 'comparing with the champion');
    let comparison: PairedComparison | null = null;
    if (job.group !== null && theirs.task.kind !== 'multiclass') {
      const [own, other] = [rankedGroups(mine, table, job.group), rankedGroups(theirs, table, job.group)];
      Object.assign(metrics, finite(other.values()));
      if (own.names.includes(job.metric)) comparison = compareJudges(job.metric, own, other, [Uint32Array.from({ length: own.rows }, (_, i) => i)], options);
    }
    comparison ??= mine.task.kind === theirs.task.kind && job.metric in metrics ? compareOnRows(job.metric, mine, theirs, options) : null;
    const isKnown = comparison !== null && Object.values(comparison).every((value) => typeof value === 'string' || Number.isFinite(value));
    return { metrics, comparison: isKnown ? comparison : null };
  } finally {
    await scorer.close();
  }
}

function rankedGroups({ task, y, answers }: JudgedAnswers, table: RawTable, by: string): Judge {
  const column = table.columns.get(by);
  if (!column) throw new MillraceError('COLUMN_MISSING', `The data has no column ${by} to group by.`);
  if (task.kind === 'multiclass') {
    throw new MillraceError('INVALID_PARAMETERS', 'Rows are ranked by one score, and a model of several classes has several.', {
      problems: [{ path: 'group', message: 'does not fit the task', found: by, fix: 'Leave it out.' }],
    });
  }
  const codeOf = new Map<number, number>();
  const groups =
    column.kind === 'string' ? column.codes : Int32Array.from(column.values, (value) => codeOf.get(value) ?? (codeOf.set(value, codeOf.size), codeOf.size - 1));
  return rankingJudge(y, task.kind === 'binary' ? positiveScores(answers) : answers, groups);
}

async function importanceOf(job: EvaluateJob, judged: JudgedAnswers, features: RawTable, columns: readonly string[], score: Score, progress: Progress) {
  const { rows, repeats, seed } = job.importance ?? { rows: 0, repeats: 0, seed: 0 };
  const sample = rows >= features.rows ? null : shuffledIndices(features.rows, seed).subarray(0, rows).sort();
  return permutationImportance({
    score,
    table: sample === null ? features : takeRows(features, sample),
    y: sample === null ? judged.y : pickRows(judged, sample).y,
    task: sample === null ? judged.task : pickRows(judged, sample).task,
    threshold: judged.threshold,
    columns,
    metric: job.metric,
    repeats,
    seed,
    onProgress: (fraction) => {
      progress(fraction, 'permutation importance');
    },
  });
}

async function explained(
  { rows, permutations, seed }: NonNullable<EvaluateJob['explain']>,
  { task, y, answers }: JudgedAnswers,
  table: RawTable,
  features: RawTable,
  columns: readonly string[],
  target: string,
  score: Score,
  progress: Progress,
): Promise<EvaluatedRows['explanations']> {
  const width = answers.length / y.length;
  const classless = task.kind === 'regression' || task.kind === 'ranking';
  // of a class the less probable the row's own, of a number the farther off
  const loss = Float64Array.from(y, (value, row) => (classless ? Math.abs(value - (answers[row] as number)) : -(answers[row * width + value] as number)));
  const worst = [...loss.keys()].sort((a, b) => (loss[b] as number) - (loss[a] as number) || a - b).slice(0, rows);
  const answered = task.kind === 'multiclass' ? mostProbable(answers, width) : undefined;
  const explanations = await explainRows({
    score,
    table: features,
    rows: worst.map((row) => ({ row, output: answered?.[row] ?? width - 1 })),
    columns,
    permutations,
    seed,
    onProgress: (fraction) => {
      progress(fraction, 'explaining');
    },
  });
  return explanations.map((explanation) => ({
    ...explanation,
    target: cellOf(table.columns.get(target), explanation.row),
    contributions: explanation.contributions.map((one) => ({ ...one })),
  }));
}

/** Rows for a person's function, made one by one as it goes through them. */
function* evaluatedRows(
  { task, y, answers, threshold }: JudgedAnswers,
  classes: readonly string[],
  table: RawTable,
  target: string,
  columns: readonly string[],
): Iterable<EvaluatedRow> {
  const width = answers.length / y.length;
  const answered = task.kind === 'multiclass' ? mostProbable(answers, width) : undefined;
  const classless = task.kind === 'regression' || task.kind === 'ranking';
  for (let row = 0; row < y.length; row++) {
    const score = answers[row * width + (answered?.[row] ?? width - 1)] as number;
    const prediction = classless ? score : classes[answered?.[row] ?? (score >= threshold ? 1 : 0)];
    yield {
      target: classless ? (y[row] as number) : (classes[y[row] as number] ?? null),
      prediction: prediction ?? null,
      score,
      ...Object.fromEntries(columns.filter((name) => name !== target).map((name) => [name, cellOf(table.columns.get(name), row)])),
    };
  }
}

async function businessFigures(
  call: BusinessCall,
  job: EvaluateJob,
  judged: JudgedAnswers,
  classes: readonly string[],
  table: RawTable,
  target: string,
): Promise<Record<string, number>> {
  const { step, module, columns } = call;
  const found = ((await import(pathToFileURL(module).href)) as Record<string, unknown>)[step];
  const user = isStep(found) ? stepRun(found) : undefined;
  if (user?.kind !== 'metric') throw new MillraceError('USAGE', `The step ${step} turns no judged rows into figures.`, { fix: 'Make it with metricStep.' });
  const context = { runId: job.runId, pipeline: job.pipeline, signal: new AbortController().signal, progress: () => undefined };
  // the types of a step's parameters are the pipeline author's, checked where the step is named
  const figures: unknown = await usersCode(step, () =>
    user.run({ [Symbol.iterator]: () => evaluatedRows(judged, classes, table, target, columns)[Symbol.iterator]() }, call.parameters as never, context),
  );
  const entries = typeof figures === 'object' && figures !== null ? Object.entries(figures) : [];
  const wrong = entries.filter(([, value]) => typeof value !== 'number' || !Number.isFinite(value));
  if (entries.length === 0 || wrong.length > 0) {
    throw new MillraceError('USER_CODE_FAILED', `The step ${step} must give an object of finite numbers.`, {
      problems: wrong.map(([name, value]) => ({ path: `business.${name}`, message: 'must be a finite number', found: String(value) })),
    });
  }
  return Object.fromEntries(entries as [string, number][]);
}
