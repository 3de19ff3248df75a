import type { RawColumn } from '../../contracts/columns.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { EvaluationRef } from '../../contracts/references.ts';
import { EvaluateInputSchema, type Metric } from '../../contracts/stages.ts';
import { higherIsBetter } from '../../ml/metrics.ts';
import { metricsOf, type ScoredRows, scoreRows } from '../scored-rows.ts';
import { defineStage } from '../stage-definition.ts';

/** Slices smaller than this say too little to be listed. */
const LEAST_SLICE_ROWS = 100;
const MOST_SLICES = 50;

/** Judges the chosen candidate on the test set: metrics, slices, acceptance rules, the champion on the same rows. */
export const evaluateStage = defineStage({
  input: EvaluateInputSchema,
  cacheable: true,
  fingerprint: async ({ accept }, _call, { store }) => ({
    champion: accept.beats ? ((await store.models.champion(accept.beats.champion))?.predictor ?? null) : null,
  }),
  run: async ({ candidate: given, on, slices, accept, metric }, context) => {
    const { deps } = context;
    const candidate = given.kind === 'winner' ? given.candidate : given;
    const scored = await scoreRows(context, candidate.predictor, on, slices, 'test set');
    const metrics = metricsOf(scored);
    const main: Metric =
      metric ?? (given.kind === 'winner' ? (given.metric as Metric) : scored.predictor.signature.task.kind === 'regression' ? 'rmse' : 'logLoss');

    const champion = accept.beats ? await deps.store.models.champion(accept.beats.champion) : null;
    const championMetrics =
      champion && champion.predictor !== candidate.predictor ? metricsOf(await scoreRows(context, champion.predictor, on, [], 'champion')) : null;
    const problems = [
      ...Object.entries(accept.atLeast).flatMap(([name, bound]) => rule(metrics, name, bound, 'at least', (value) => value >= bound)),
      ...Object.entries(accept.atMost).flatMap(([name, bound]) => rule(metrics, name, bound, 'at most', (value) => value <= bound)),
      ...(championMetrics && champion ? beats(metrics, championMetrics, main, champion.version) : []),
    ];
    const report = await deps.artifacts.putJson({
      format: 'millrace-evaluation/1',
      predictor: candidate.predictor,
      on: on.id,
      rows: scored.rows,
      metrics: finite(metrics),
      champion: championMetrics && champion ? { model: champion.model, version: champion.version, metrics: finite(championMetrics) } : null,
      slices: slices.map((column) => ({ column, metric: main, values: sliceMetrics(scored, column, main) })),
      accepted: problems.length === 0,
      problems,
    });
    if (problems.length > 0)
      throw new MillraceError(
        'ACCEPTANCE_FAILED',
        `The ${candidate.trainer} candidate does not meet ${problems.length === 1 ? 'an acceptance rule' : `${String(problems.length)} acceptance rules`}.`,
        { problems },
      );
    const output: EvaluationRef = { kind: 'evaluation', candidate, metrics: finite(metrics), report: report.sha256 };
    const against = championMetrics && champion ? `, champion ${(championMetrics[main] ?? Number.NaN).toFixed(4)}` : accept.beats ? ', no champion yet' : '';
    return {
      output,
      summary: `${main} ${(metrics[main] ?? Number.NaN).toFixed(4)} on ${scored.rows.toLocaleString('en')} rows${against}`,
      metrics: Object.entries(metrics).map(([key, value]) => ({ key: `test.${key}`, value })),
      artifacts: [{ sha256: report.sha256, sizeBytes: report.sizeBytes, kind: 'evaluation' }],
    };
  },
});

function rule(metrics: Readonly<Record<string, number>>, name: string, bound: number, word: string, holds: (value: number) => boolean): Problem[] {
  const value = metrics[name];
  if (value === undefined) return [{ path: `accept.${name}`, message: `is no metric of this task; there are ${Object.keys(metrics).join(', ')}` }];
  return holds(value)
    ? []
    : [
        {
          path: `accept.${name}`,
          message: `must be ${word} ${String(bound)}`,
          found: value.toFixed(6),
          fix: `It is off by ${Math.abs(value - bound).toFixed(6)}.`,
        },
      ];
}

function beats(mine: Readonly<Record<string, number>>, champions: Readonly<Record<string, number>>, metric: string, version: number): Problem[] {
  const [a, b] = [mine[metric] ?? Number.NaN, champions[metric] ?? Number.NaN];
  const holds = higherIsBetter(metric) ? a >= b : a <= b;
  return holds
    ? []
    : [
        {
          path: 'accept.beats',
          message: `must not be worse than the champion (version ${String(version)}) in ${metric}, which has ${b.toFixed(6)} on the same rows`,
          found: a.toFixed(6),
        },
      ];
}

/** JSON has no NaN: a metric that has no value (one class in the rows) is left out. */
const finite = (metrics: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(metrics).filter(([, value]) => Number.isFinite(value)));

/** The metric of each value of the column, the worst first. */
function sliceMetrics(scored: ScoredRows, column: string, metric: string): { value: string; rows: number; metric: number }[] {
  const values = scored.columns.get(column);
  if (!values) return [];
  const rowsOf = new Map<string, number[]>();
  for (let row = 0; row < scored.rows; row++) {
    const text = valueText(values, row);
    const rows = rowsOf.get(text);
    if (rows) rows.push(row);
    else rowsOf.set(text, [row]);
  }
  return [...rowsOf]
    .filter(([, rows]) => rows.length >= LEAST_SLICE_ROWS)
    .sort((a, b) => b[1].length - a[1].length)
    .slice(0, MOST_SLICES * 4)
    .map(([value, rows]) => ({ value, rows: rows.length, metric: metricsOf(scored, rows)[metric] ?? Number.NaN }))
    .filter((slice) => Number.isFinite(slice.metric))
    .sort((a, b) => (higherIsBetter(metric) ? a.metric - b.metric : b.metric - a.metric))
    .slice(0, MOST_SLICES);
}

function valueText(column: RawColumn, row: number): string {
  if (column.kind === 'string') return column.dictionary[column.codes[row] ?? -1] ?? 'null';
  const value = column.values[row] ?? Number.NaN;
  if (Number.isNaN(value)) return 'null';
  return column.kind === 'timestamp' ? new Date(value).toISOString() : String(value);
}
