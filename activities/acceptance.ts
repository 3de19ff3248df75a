import type { Problem } from '../contracts/errors.ts';
import type { Accept, ChampionOf, EvaluationReport } from '../contracts/evaluation.ts';
import { higherIsBetter } from '../ml/metrics.ts';

/** What rules are held against. */
export type Found = Pick<EvaluationReport, 'metric' | 'metrics' | 'intervals' | 'business' | 'slices' | 'tests' | 'champion'> & {
  /** The champion is the candidate itself. */
  readonly isChampion: boolean;
};

export interface Verdict {
  /** Each names a rule that does not hold, with what was found and how far off it is. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

type Rules = Pick<Accept, 'atLeast' | 'atMost' | 'slices'>;
type Bounds = Readonly<Partial<Record<string, number>>>;

/** Holds every acceptance rule and every test of behaviour against what was found. */
export function verdictOf(accept: Accept, found: Found): Verdict {
  const tested = found.tests.filter((test) => !test.passed).map((test) => ({ severity: test.severity, problem: failedTest(test) }));
  const told = (severity: 'fail' | 'warn'): Problem[] => tested.filter((test) => test.severity === severity).map(({ problem }) => problem);
  return {
    problems: [...boundsOf('accept', accept, accept.judge, found), ...(accept.beats ? beats(accept.beats, found) : []), ...told('fail')],
    warnings: [...(accept.warn ? boundsOf('accept.warn', accept.warn, accept.judge, found) : []), ...told('warn')],
  };
}

function boundsOf(path: string, rules: Rules, judge: Accept['judge'], found: Found): Problem[] {
  const sliceBounds = (side: Side): Problem[] =>
    stated(rules.slices?.[side] ?? {}).flatMap(([name, bound]) => sliceProblems(`${path}.slices.${side}.${name}`, name, bound, side, found));
  const bounds = (side: Side): Problem[] =>
    stated(rules[side]).flatMap(([name, bound]) => boundProblem(`${path}.${side}.${name}`, name, bound, side, judge, found));
  return [...bounds('atLeast'), ...bounds('atMost'), ...sliceBounds('atLeast'), ...sliceBounds('atMost')];
}

type Side = 'atLeast' | 'atMost';
const stated = (bounds: Bounds): [string, number][] =>
  Object.entries(bounds).flatMap(([name, bound]) => (bound === undefined ? [] : [[name, bound] as [string, number]]));
const WORD = { atLeast: 'at least', atMost: 'at most' } as const;
const holds = (value: number, bound: number, side: Side): boolean => (side === 'atLeast' ? value >= bound : value <= bound);
const off = (value: number, bound: number): string => `It is off by ${Math.abs(value - bound).toFixed(6)}.`;

function boundProblem(path: string, name: string, bound: number, side: Side, judge: Accept['judge'], found: Found): Problem[] {
  const own = name.startsWith('business.') ? name.slice('business.'.length) : undefined;
  const figures = own === undefined ? found.metrics : found.business;
  const value = figures[own ?? name];
  if (value === undefined) {
    const there = Object.keys(figures).map((key) => (own === undefined ? key : `business.${key}`));
    return [{ path, message: `is no metric of this task, or has no value on these rows; there are ${there.length === 0 ? 'none' : there.join(', ')}` }];
  }
  const interval = judge === 'interval' && own === undefined ? found.intervals[name] : undefined;
  const end = interval === undefined ? value : side === 'atLeast' ? interval.low : interval.high;
  if (holds(end, bound, side)) return [];
  const message = interval === undefined ? `must be ${WORD[side]} ${String(bound)}` : `must be ${WORD[side]} ${String(bound)} with its whole interval`;
  const range = interval === undefined ? '' : ` (${interval.low.toFixed(6)} to ${interval.high.toFixed(6)})`;
  return [{ path, message, found: `${value.toFixed(6)}${range}`, fix: off(end, bound) }];
}

/** One problem a rule and list of slices: the worst one, and how many there are. */
function sliceProblems(path: string, name: string, bound: number, side: Side, found: Found): Problem[] {
  return found.slices.flatMap(({ column, values }) => {
    const broken = values.flatMap((slice) => {
      const value = slice.metrics[name];
      return value === undefined || holds(value, bound, side) ? [] : [{ ...slice, figure: value }];
    });
    const worst = broken.sort((a, b) => (side === 'atLeast' ? a.figure - b.figure : b.figure - a.figure))[0];
    if (!worst) return [];
    const also = broken.length === 1 ? '' : `, and ${String(broken.length - 1)} more`;
    const message = `must be ${WORD[side]} ${String(bound)} in every slice of ${column}`;
    return [
      { path, message, found: `${worst.figure.toFixed(6)} where it is ${worst.value} (${String(worst.rows)} rows)${also}`, fix: off(worst.figure, bound) },
    ];
  });
}

function failedTest({ test, what, failed, tried, examples, kind }: Found['tests'][number]): Problem {
  const first = examples[0];
  return {
    path: `tests[${String(test)}]`,
    message: `${kind}: ${what}`,
    found: `${String(failed)} of ${String(tried)} fail${first ? `; the worst: ${first.found}, expected ${first.expected}` : ''}`,
  };
}

/** `path`, what was asked for, and what was found. */
function beats({ by, confidence, notWorse }: ChampionOf, { champion, metric, metrics, isChampion }: Found): Problem[] {
  const path = 'accept.beats';
  if (isChampion) {
    return by === undefined && confidence === undefined
      ? []
      : [{ path, message: 'must be better than the champion', found: 'it is the champion itself', fix: 'Nothing to do: the champion stays.' }];
  }
  if (champion === null) return [];
  const [mine, theirs] = [metrics[metric] ?? Number.NaN, champion.metrics[metric] ?? Number.NaN];
  const improvement = higherIsBetter(metric) ? mine - theirs : theirs - mine;
  const against = `the champion (version ${String(champion.version)}) in ${metric}, which has ${theirs.toFixed(6)} on the same rows`;
  const { comparison } = champion;
  if (confidence === undefined && notWorse === undefined) {
    const margin = by ?? 0;
    if (improvement >= margin) return [];
    const message = margin === 0 ? `must not be worse than ${against}` : `must be better by ${String(margin)} than ${against}`;
    return [{ path, message, found: mine.toFixed(6), fix: off(improvement, margin) }];
  }
  const margin = notWorse === undefined ? (by ?? 0) : -notWorse;
  const sure = `${String((confidence ?? DEFAULT_CONFIDENCE) * 100)} % sure`;
  const message =
    notWorse === undefined
      ? `must be better${margin === 0 ? '' : ` by more than ${String(margin)}`}, ${sure}, than ${against}`
      : `must not be worse by more than ${String(notWorse)}, ${sure}, than ${against}`;
  if (comparison === null)
    return [{ path, message, found: mine.toFixed(6), fix: 'There is no paired test: the two have no such metric on the same rows, or not the same task.' }];
  // without a margin it is the test itself that decides, which for few rows is exact
  const isSure = margin === 0 ? comparison.pNoBetter <= 1 - (confidence ?? DEFAULT_CONFIDENCE) : comparison.atLeast > margin;
  if (isSure) return [];
  return [
    {
      path,
      message,
      found: `${mine.toFixed(6)}: better by ${comparison.improvement.toFixed(6)}, surely by ${comparison.atLeast.toFixed(6)} (${comparison.method}, p ${comparison.pNoBetter.toPrecision(3)})`,
      fix: comparison.atLeast > margin ? 'The test is not sure; judge on more rows.' : off(comparison.atLeast, margin),
    },
  ];
}

/** Of a rule that states none. */
export const DEFAULT_CONFIDENCE = 0.95;
