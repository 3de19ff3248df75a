import { projectHashKey } from '../../config/hash-key.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { type Accept, type EvaluationReport, EvaluationReportSchema, ExplainOptionsSchema, ImportanceOptionsSchema } from '../../contracts/evaluation.ts';
import { metricDefinition } from '../../contracts/metrics.ts';
import type { EvaluationRef } from '../../contracts/references.ts';
import { requirePredictor } from '../../contracts/required-predictor.ts';
import type { Predictor, Signature } from '../../contracts/signature.ts';
import { EvaluateInputSchema, type Metric } from '../../contracts/stages.ts';
import { datasetFiles, loadManifest, pickColumns } from '../../data/dataset.ts';
import { DEFAULT_CONFIDENCE, verdictOf } from '../acceptance.ts';
import { compute } from '../compute-job.ts';
import type { EvaluatedRows, ScoredModel } from '../evaluate-job.ts';
import { groupOf, loadPredictor } from '../scored-rows.ts';
import { defineStage, type StageContext } from '../stage-definition.ts';

/** Judges the chosen candidate on the test set: metrics, slices, behaviour, acceptance rules, the champion on the same rows. */
export const evaluateStage = defineStage({
  input: EvaluateInputSchema,
  cacheable: true,
  fingerprint: async ({ accept, business }, call, { store, builds }) => ({
    champion: accept.beats ? ((await store.models.champion(accept.beats.champion))?.predictor ?? null) : null,
    ...(business.length === 0
      ? {}
      : { business: await Promise.all(business.map(async ({ pipeline, step }) => (await builds.pipeline(call.buildId, pipeline))?.steps[step] ?? 'unknown')) }),
  }),
  run: async (input, context) => {
    const { candidate: given, on, accept } = input;
    const { deps } = context;
    const candidate = given.kind === 'winner' ? given.candidate : given;
    const predictor = await loadPredictor(deps, candidate.predictor);
    const { task } = predictor.signature;
    const metric: Metric = input.metric ?? (given.kind === 'winner' ? (given.metric as Metric) : usualMetric(task));
    const champion = accept.beats ? await deps.store.models.champion(accept.beats.champion) : null;
    const isChampion = champion?.predictor === candidate.predictor;
    const opponent = champion && !isChampion ? await loadPredictor(deps, requirePredictor(champion)) : null;
    const { champion: against, ...told } = await evaluated(input, metric, predictor, opponent, context);

    const found = { ...told, metric, isChampion, champion: champion && against ? { model: champion.model, version: champion.version, ...against } : null };
    const { problems, warnings } = verdictOf(accept, found);
    const { isChampion: _, ...parts } = found;
    const report: EvaluationReport = {
      format: 'millrace-evaluation/2',
      predictor: candidate.predictor,
      on: on.id,
      confidence: input.intervals === false ? null : input.intervals.confidence,
      ...parts,
      accepted: problems.length === 0,
      problems: problems.map((problem) => ({ ...problem })),
      warnings: warnings.map((problem) => ({ ...problem })),
    };
    const stored = await deps.artifacts.putJson(EvaluationReportSchema.parse(report));
    if (problems.length > 0)
      throw new MillraceError(
        'ACCEPTANCE_FAILED',
        `The ${candidate.trainer} candidate does not meet ${problems.length === 1 ? 'an acceptance rule' : `${String(problems.length)} acceptance rules`}.`,
        { problems },
      );
    const metrics = { ...told.metrics, ...Object.fromEntries(Object.entries(told.business).map(([name, value]) => [`business.${name}`, value])) };
    const output: EvaluationRef = { kind: 'evaluation', candidate, metrics, report: stored.sha256 };
    return {
      output,
      summary: summaryOf(report, accept),
      metrics: [
        ...Object.entries(metrics).map(([key, value]) => ({ key: `test.${key}`, value })),
        ...Object.entries(told.intervals).flatMap(([key, { low, high }]) => [
          { key: `interval.${key}.low`, value: low },
          { key: `interval.${key}.high`, value: high },
        ]),
      ],
      artifacts: [{ sha256: stored.sha256, sizeBytes: stored.sizeBytes, kind: 'evaluation' }],
    };
  },
});

/** What a model is judged by when nothing else is said. */
function usualMetric(task: Signature['task']): Metric {
  if (task.kind !== 'regression') return 'logLoss';
  return task.group === undefined ? 'rmse' : 'ndcg@10';
}

type Input = (typeof EvaluateInputSchema)['_output'];

/** The rows scored and judged in a computing thread. */
async function evaluated(input: Input, metric: string, predictor: Predictor, opponent: Predictor | null, context: StageContext): Promise<EvaluatedRows> {
  const { deps, call, signal, progress } = context;
  const { signature } = predictor;
  const { task } = signature;
  if (task.kind === 'raw') {
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  }
  const manifest = await loadManifest(deps.artifacts, input.on);
  const group = input.group ?? groupOf(signature)[0];
  const slices = input.slices.map((by) => (typeof by === 'string' ? [by] : [...by]));
  const reads = (of: Predictor): readonly string[] => [...of.signature.graph.numbers, ...of.signature.graph.dates, ...of.signature.graph.strings];
  const columns = [
    ...new Set([
      ...reads(predictor),
      ...(opponent === null ? [] : reads(opponent)),
      task.target,
      ...(opponent !== null && opponent.signature.task.kind !== 'raw' ? [opponent.signature.task.target] : []),
      ...slices.flat(),
      ...(group === undefined ? [] : [group]),
      ...(opponent === null ? [] : groupOf(opponent.signature)),
      ...input.business.flatMap((call) => call.columns),
    ]),
  ];
  pickColumns(manifest.columns, columns);
  const model = async ({ onnx, signature }: Predictor): Promise<ScoredModel> => ({ onnx: await deps.artifacts.pathOf(onnx), signature });
  const rules = [input.accept, ...(input.accept.warn ? [input.accept.warn] : [])].flatMap(({ slices: bounds }) =>
    bounds ? [bounds.atLeast, bounds.atMost] : [],
  );
  return compute<EvaluatedRows>(
    {
      kind: 'evaluate',
      files: (await datasetFiles(deps.artifacts, manifest)).map((file) => file.path),
      columns,
      candidate: await model(predictor),
      champion: opponent === null ? null : await model(opponent),
      targetType: manifest.columns.find((column) => column.name === task.target)?.type ?? null,
      metric,
      sliceMetrics: [...new Set(rules.flatMap((bounds) => Object.keys(bounds)))],
      slices,
      leastSliceRows: input.leastSliceRows,
      intervals: input.intervals === false ? null : input.intervals,
      confidence: input.accept.beats?.confidence ?? DEFAULT_CONFIDENCE,
      group: group ?? null,
      business: await Promise.all(
        input.business.map(async ({ pipeline, step, parameters, columns }) => ({
          module: await deps.builds.stepModule(call.buildId, pipeline, step),
          step,
          parameters,
          columns,
        })),
      ),
      tests: input.tests,
      importance: chosen(input.importance, ImportanceOptionsSchema.parse({})),
      explain: chosen(input.explain, ExplainOptionsSchema.parse({})),
      runId: call.runId,
      pipeline: call.pipeline,
      hashKey: projectHashKey(deps.config.home),
    },
    {
      signal,
      heapMib: deps.config.pools[call.pool]?.heapMib,
      progress,
      log: (message) => {
        deps.log('error', `evaluating for ${call.stage}`, { run: call.runId, error: message });
      },
    },
  );
}

const chosen = <T>(given: boolean | T, whole: T): T | null => (given === true ? whole : given === false ? null : given);

/** `auc 0.7012 (0.6951 to 0.7070) on 1,000 rows, champion 0.6900 (+0.0112, p 0.031)`. */
function summaryOf({ metric, metrics, intervals, rows, champion, warnings }: EvaluationReport, { beats }: Accept): string {
  const figure = (value: number | undefined): string => (value ?? Number.NaN).toFixed(4);
  const interval = intervals[metric];
  const range = interval ? ` (${figure(interval.low)} to ${figure(interval.high)})` : '';
  const test = champion?.comparison
    ? ` (${champion.comparison.improvement < 0 ? 'worse' : 'better'} by ${figure(Math.abs(champion.comparison.improvement))}, p ${champion.comparison.pValue.toPrecision(2)})`
    : '';
  const against = champion ? `, champion ${figure(champion.metrics[metric])}${test}` : beats ? ', no champion yet' : '';
  const told =
    warnings.length === 0
      ? ''
      : `, ${String(warnings.length)} ${warnings.length === 1 ? 'warning' : 'warnings'}: ${warnings.map(({ path }) => path).join(', ')}`;
  return `${metricDefinition(metric) ? metric : 'metric'} ${figure(metrics[metric])}${range} on ${rows.toLocaleString('en')} rows${against}${told}`;
}
