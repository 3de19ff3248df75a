/**
 * What is the matter in a window, from its figures and from what the windows before it showed. Pure.
 *
 * Invariants:
 * 1. A streak counts windows of one version in which a thing was measured and was the matter: one in which it could not be
 *    measured (no labels yet) neither ends it nor is counted.
 * 2. The same figures and earlier findings give the same findings.
 */
import type { Expectation, ValidationResult } from '../contracts/expectations.ts';
import { METRICS } from '../contracts/evaluation.ts';
import type { AlertKind } from '../contracts/alerts.ts';
import type { Bound, Finding, MonitorOptions, MonitorRules, WindowFigures } from '../contracts/monitoring.ts';
import { pathOf } from '../data/expectations.ts';

export interface FoundWindow {
  /** UTC ISO. */
  readonly from: string;
  readonly to: string;
  readonly figures: WindowFigures;
}

/** PSI from which on a feature counts as drifted, where the pipeline states windows alone. */
const DEFAULT_WINDOWS = 2;

/** How drift is told by these rules; undefined where they say nothing of it. */
export function driftRule(rules: MonitorRules | undefined): { readonly by: 'calibrated' | number; readonly windows: number } | undefined {
  if (rules === undefined) return undefined;
  const { drift, psi, windows, ...others } = rules;
  const fixed = psi ?? (typeof drift === 'object' ? drift.psi : undefined);
  if (fixed === undefined && drift === undefined && windows === undefined && Object.values(others).some((rule) => rule !== undefined)) return undefined;
  return { by: fixed ?? 'calibrated', windows: windows ?? (fixed === undefined && drift === 'calibrated' ? 1 : DEFAULT_WINDOWS) };
}

const KIND: Readonly<Record<Finding['check'], AlertKind>> = {
  drift: 'drift',
  quality: 'quality',
  estimated: 'quality',
  outcome: 'quality',
  skew: 'skew',
  data: 'data',
  schema: 'data',
  detector: 'drift',
  system: 'system',
};

/** What a rule says of a thing that is the matter or not: alerted after so many windows, and asked for a retraining after so many. */
interface Judged {
  readonly check: Finding['check'];
  readonly subject: string;
  readonly what: string;
  readonly value: number | null;
  readonly limit: number | null;
  readonly against: string | null;
  readonly sure: string | null;
  readonly alertAfter: number | null;
  readonly retrainAfter: number | null;
}

/** `past`: the windows before it of the same version, newest first. The surest and most pressing drift first. */
export function findingsOf(window: FoundWindow, past: readonly FoundWindow[], options: MonitorOptions): Finding[] {
  const { figures } = window;
  const judged = [
    ...driftOf(figures, options),
    ...dataOf(figures, options),
    ...skewOf(figures, options),
    ...boundsOf(figures, options),
    ...detectorsOf(figures, options),
  ];
  return judged.map(({ alertAfter, retrainAfter, ...found }) => {
    const before = streakBefore(found, past);
    const windowsInARow = 1 + (before?.windowsInARow ?? 0);
    return {
      ...found,
      kind: KIND[found.check],
      since: before?.since ?? window.from,
      windowsInARow,
      firing: alertAfter !== null && windowsInARow >= alertAfter,
      retrain: retrainAfter !== null && windowsInARow >= retrainAfter,
    };
  });
}

function streakBefore(found: Pick<Finding, 'check' | 'subject'>, past: readonly FoundWindow[]): Finding | undefined {
  const last = past.find(({ figures }) => isMeasured(found, figures));
  return last?.figures.findings?.find(({ check, subject }) => check === found.check && subject === found.subject);
}

/** Whether a window could show it. */
export function isMeasured({ check, subject }: Pick<Finding, 'check' | 'subject'>, figures: WindowFigures): boolean {
  switch (check) {
    case 'quality':
      return figures.quality?.metrics[subject] !== undefined;
    case 'estimated':
      return figures.estimated?.metrics[metricOf(subject)] !== undefined;
    case 'outcome':
      return figures.outcomes?.[subject] !== undefined;
    case 'skew':
      return (figures.skew?.rows ?? 0) > 0;
    case 'drift':
    case 'schema':
      return figures.drift !== undefined;
    case 'data':
      return figures.data != null;
    case 'detector':
      return (figures.detectors?.[subject]?.values ?? 0) > 0;
    case 'system':
      return figures.system !== undefined;
  }
}

const ESTIMATED = 'estimated ';
const metricOf = (subject: string): string => subject.slice(ESTIMATED.length);

function driftOf({ drift, decision, reference }: WindowFigures, { alertOn, retrainOn, drift: settings }: MonitorOptions): readonly Judged[] {
  if (drift === undefined) return [];
  const [alert, retrain] = [driftRule(alertOn), driftRule(retrainOn)];
  const told = alert ?? (retrain === undefined ? { by: 'calibrated' as const, windows: 1 } : { ...retrain, windows: 1 });
  const against = reference?.label ?? null;
  const gone = drift.skipped
    .filter((column) => drift.reasons?.[column] === 'missing')
    .map(
      (column): Judged => ({
        check: 'schema',
        subject: column,
        what: `${column} is in no request any more`,
        value: null,
        limit: null,
        against,
        sure: null,
        alertAfter: 1,
        retrainAfter: null,
      }),
    );
  const isAfter = (by: 'calibrated' | number, rule: typeof told | undefined): number | null => (rule?.by === by ? rule.windows : null);
  const fixed = [...new Set([told.by, retrain?.by])].flatMap((by) =>
    typeof by !== 'number'
      ? []
      : drift.columns
          // answers against an evaluation's few rows are for calibrated tests: by chance alone their index is high
          .filter(({ psi, of, exact }) => psi > by && !(of === 'output' && exact === false))
          .map(
            ({ column, psi, expectedPsi }): Judged => ({
              check: 'drift',
              subject: column,
              what: `${column} drifted: PSI ${psi.toFixed(3)} over ${String(by)}`,
              value: psi,
              limit: by,
              against,
              sure: `a fixed limit; by chance alone PSI would be ${expectedPsi.toFixed(4)} on average`,
              alertAfter: isAfter(by, told),
              retrainAfter: isAfter(by, retrain),
            }),
          ),
  );
  const calibrated =
    told.by !== 'calibrated' && retrain?.by !== 'calibrated'
      ? []
      : (decision?.columns ?? [])
          .filter(({ exceeded }) => exceeded)
          .map((column): Judged => {
            const test = column.tests.find((one) => one.exceeded);
            const least = settings.windowsInARow;
            return {
              check: 'drift',
              subject: column.column,
              what: column.message.replace(/\.$/, ''),
              value: test?.effect ?? null,
              limit: test?.threshold ?? null,
              against,
              sure:
                test === undefined
                  ? null
                  : `p = ${test.adjustedPValue.toPrecision(2)} after correction for ${String(decision?.columns.length ?? 0)} columns, by ${test.calibration === 'theory' ? 'the distribution under no drift' : `${String(test.historyWindows)} earlier windows`}`,
              alertAfter: told.by === 'calibrated' ? Math.max(least, told.windows) : null,
              retrainAfter: retrain?.by === 'calibrated' ? Math.max(least, retrain.windows) : null,
            };
          });
  // of one column the fixed limit is told where both are asked for
  const named = new Set(fixed.map(({ subject }) => subject));
  return [...fixed, ...calibrated.filter(({ subject }) => !named.has(subject)), ...gone];
}

const windowsOf = (rule: MonitorRules['data']): number | null => (rule === undefined ? null : rule === true ? 1 : rule.windows);

function dataOf({ data }: WindowFigures, { alertOn, retrainOn }: MonitorOptions): readonly Judged[] {
  return (data?.results ?? [])
    .filter(({ success, severity }) => !success && severity === 'fail')
    .map(
      (result: ValidationResult['results'][number]): Judged => ({
        check: 'data',
        subject: pathOf(result.expectation),
        what: result.message.replace(/\.$/, ''),
        value: result.fraction === null ? null : 1 - result.fraction,
        limit: leastPassing(result.expectation),
        against: 'the expectations of the training data',
        sure: result.checked === null ? null : `${String(result.failing ?? 0)} of ${String(result.checked)} values`,
        alertAfter: windowsOf(alertOn?.data) ?? 1,
        retrainAfter: windowsOf(retrainOn?.data),
      }),
    );
}

const leastPassing = (expectation: Expectation): number | null => ('mostly' in expectation ? expectation.mostly : null);

function skewOf({ skew }: WindowFigures, { alertOn, retrainOn, skew: settings }: MonitorOptions): readonly Judged[] {
  if (skew == null || skew.differing === 0) return [];
  const columns = skew.columns.map(({ column }) => column);
  const subject = columns[0] ?? 'model';
  return [
    {
      check: 'skew',
      subject,
      what: `the training path answers ${String(skew.differing)} of ${String(skew.rows)} logged requests differently, by up to ${skew.greatest.toPrecision(3)}: ${columns.length === 0 ? 'no single column explains it' : `because of ${columns.slice(0, 5).join(', ')}`}`,
      value: skew.greatest,
      limit: settings === false ? null : settings.tolerance,
      against: 'the training path on the same requests',
      sure: 'both paths are computed: it is no estimate',
      alertAfter: windowsOf(alertOn?.skew) ?? 1,
      retrainAfter: windowsOf(retrainOn?.skew),
    },
  ];
}

interface Figure {
  readonly check: Finding['check'];
  readonly subject: string;
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
  readonly rows: string;
}

const isPast = ({ below, above, judge }: Bound, { value, low, high }: Figure): boolean => {
  const [best, least] = judge === 'interval' ? [high ?? value, low ?? value] : [value, value];
  return (below !== undefined && best < below) || (above !== undefined && least > above);
};

function boundsOf(figures: WindowFigures, { alertOn, retrainOn }: MonitorOptions): readonly Judged[] {
  const judge = (figure: Figure, alert: Bound | undefined, retrain: Bound | undefined): readonly Judged[] => {
    const past = [alert, retrain].map((bound) => (bound !== undefined && isPast(bound, figure) ? bound : undefined));
    const bound = past[1] ?? past[0];
    if (bound === undefined) return [];
    const isBelow = bound.below !== undefined && figure.value < bound.below;
    const limit = isBelow ? bound.below : bound.above;
    return [
      {
        check: figure.check,
        subject: figure.subject,
        what: `${figure.subject} is ${figure.value.toPrecision(4)}, ${isBelow ? 'below' : 'above'} ${String(limit)}`,
        value: figure.value,
        limit: limit ?? null,
        against: `the bound ${String(limit)}`,
        sure:
          figure.low === null || figure.high === null ? figure.rows : `interval ${figure.low.toPrecision(4)} to ${figure.high.toPrecision(4)}, ${figure.rows}`,
        alertAfter: past[0]?.windows ?? past[1]?.windows ?? null,
        retrainAfter: past[1]?.windows ?? null,
      },
    ];
  };
  const { quality, estimated, outcomes, system } = figures;
  const found: Judged[] = [];
  for (const metric of METRICS) {
    const value = quality?.metrics[metric];
    const { low = null, high = null } = quality?.intervals[metric] ?? {};
    if (value !== undefined)
      found.push(
        ...judge(
          { check: 'quality', subject: metric, value, low, high, rows: `${String(quality?.labelled ?? 0)} labelled rows` },
          alertOn?.[metric],
          retrainOn?.[metric],
        ),
      );
    const guess = estimated?.metrics[metric];
    if (guess !== undefined)
      found.push(
        ...judge(
          {
            check: 'estimated',
            subject: `${ESTIMATED}${metric}`,
            value: guess.value,
            low: guess.low,
            high: guess.high,
            rows: `estimated without labels from ${String(estimated?.rows ?? 0)} rows`,
          },
          alertOn?.estimated?.[metric],
          retrainOn?.estimated?.[metric],
        ),
      );
  }
  for (const [name, { mean, low, high, rows }] of Object.entries(outcomes ?? {}))
    found.push(
      ...judge(
        { check: 'outcome', subject: name, value: mean, low, high, rows: `${String(rows)} rows` },
        alertOn?.outcomes?.[name],
        retrainOn?.outcomes?.[name],
      ),
    );
  for (const name of ['errorRate', 'latencyMsP99'] as const) {
    const value = system?.[name];
    if (value != null)
      found.push(
        ...judge(
          { check: 'system', subject: name, value, low: null, high: null, rows: `${String(system?.requests ?? 0)} requests` },
          alertOn?.[name],
          retrainOn?.[name],
        ),
      );
  }
  return found;
}

function detectorsOf({ detectors }: WindowFigures, { alertOn, retrainOn }: MonitorOptions): readonly Judged[] {
  return Object.entries(detectors ?? {}).flatMap(([name, { state, values, changes }]): Judged[] =>
    changes === 0
      ? []
      : [
          {
            check: 'detector',
            subject: name,
            what: `${name} has changed: ${state.kind} saw ${changes === 1 ? 'a change' : `${String(changes)} changes`} in ${String(values)} values`,
            value: changes,
            limit: null,
            against: 'the stream before',
            sure: `the detector ${state.kind} with its settings`,
            alertAfter: alertOn?.detectors === false ? null : 1,
            retrainAfter: retrainOn?.detectors === true ? 1 : null,
          },
        ],
  );
}
