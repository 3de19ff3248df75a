import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { EvaluationRef } from '../../contracts/references.ts';
import { EvaluateInputSchema, type Metric } from '../../contracts/stages.ts';
import { higherIsBetter } from '../../ml/metrics.ts';
import { judge, loadPredictor } from '../scored-rows.ts';
import { defineStage } from '../stage-definition.ts';

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
    const { signature } = await loadPredictor(deps, candidate.predictor);
    const main: Metric = metric ?? (given.kind === 'winner' ? (given.metric as Metric) : signature.task.kind === 'regression' ? 'rmse' : 'logLoss');
    const judged = await judge(
      context,
      candidate.predictor,
      on,
      slices.map((column) => ({ column, metric: main })),
      'test set',
    );
    const { metrics } = judged;

    const champion = accept.beats ? await deps.store.models.champion(accept.beats.champion) : null;
    const championMetrics =
      champion && champion.predictor !== candidate.predictor ? (await judge(context, champion.predictor, on, [], 'champion')).metrics : null;
    const problems = [
      ...Object.entries(accept.atLeast).flatMap(([name, bound]) => rule(metrics, name, bound, 'at least', (value) => value >= bound)),
      ...Object.entries(accept.atMost).flatMap(([name, bound]) => rule(metrics, name, bound, 'at most', (value) => value <= bound)),
      ...(championMetrics && champion ? beats(metrics, championMetrics, main, champion.version) : []),
    ];
    const report = await deps.artifacts.putJson({
      format: 'millrace-evaluation/1',
      predictor: candidate.predictor,
      on: on.id,
      rows: judged.rows,
      metrics: finite(metrics),
      champion: championMetrics && champion ? { model: champion.model, version: champion.version, metrics: finite(championMetrics) } : null,
      slices: judged.slices,
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
      summary: `${main} ${(metrics[main] ?? Number.NaN).toFixed(4)} on ${judged.rows.toLocaleString('en')} rows${against}`,
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
