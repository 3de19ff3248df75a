import { scoreOfMeans, type ValueSums } from '../ml/sequential/means.ts';
import { normalTail } from '../ml/evaluation/normal.ts';
import type { EndpointActivities } from './types.ts';

type JudgeInput = Parameters<EndpointActivities['judgeTest']>[0];
type Judgement = Awaited<ReturnType<EndpointActivities['judgeTest']>>;

/** What became known of one version's predictions of a minute. */
export interface KnownSums extends ValueSums {
  readonly model: string;
  readonly version: number;
  /** UTC ISO */
  readonly from: string;
}

const LOWER_IS_BETTER: readonly string[] = ['absoluteError', 'squaredError', 'logLoss'];
const NONE: ValueSums = { n: 0, sum: 0, sumSquares: 0, min: 0, max: 0 };

const joined = (a: ValueSums, b: ValueSums): ValueSums =>
  a.n === 0 ? b : { n: a.n + b.n, sum: a.sum + b.sum, sumSquares: a.sumSquares + b.sumSquares, min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) };

/**
 * Who is better at the stated end of a test of two versions: a permutation test of the metric's means, one-sided to either
 * side, stratified by the day of the prediction (UTC), so that a day with other visitors counts for neither. It looks once,
 * at an end that was stated before: no correction for looking often is needed.
 */
export function judgeTest(known: readonly KnownSums[], { champion, challenger, metric, better, alpha }: Omit<JudgeInput, 'endpoint' | 'since'>): Judgement {
  const days = new Map<string, { readonly tried: ValueSums; readonly ruling: ValueSums }>();
  const total = { tried: { n: 0, sum: 0 }, ruling: { n: 0, sum: 0 } };
  for (const sums of known) {
    const is = (v: { readonly model: string; readonly version: number }): boolean => v.model === sums.model && v.version === sums.version;
    const side = is(challenger) ? 'tried' : is(champion) ? 'ruling' : undefined;
    if (side === undefined) continue;
    const day = sums.from.slice(0, 10);
    const before = days.get(day) ?? { tried: NONE, ruling: NONE };
    days.set(day, { ...before, [side]: joined(before[side], sums) });
    total[side] = { n: total[side].n + sums.n, sum: total[side].sum + sums.sum };
  }
  const scores = [...days.values()].map(scoreOfMeans);
  const variance = scores.reduce((sum, s) => sum + s.variance, 0);
  const sign = (better ?? (LOWER_IS_BETTER.includes(metric) ? 'lower' : 'higher')) === 'higher' ? 1 : -1;
  const z = variance === 0 ? 0 : (sign * scores.reduce((sum, s) => sum + s.score, 0)) / Math.sqrt(variance);
  const [pBetter, pWorse] = [normalTail(z), normalTail(-z)];
  const winner = pBetter <= alpha ? 'challenger' : pWorse <= alpha ? 'champion' : null;
  const mean = ({ n, sum }: { readonly n: number; readonly sum: number }): number => (n === 0 ? 0 : sum / n);
  const told = (name: string, of: { readonly n: number; readonly sum: number }): string => `${name} ${mean(of).toPrecision(4)} of ${String(of.n)}`;
  const said = winner === null ? 'neither is shown to be better' : `the ${winner} is better (p = ${Math.min(pBetter, pWorse).toPrecision(2)})`;
  return {
    winner,
    sentence: `${metric}: ${told('challenger', total.tried)}, ${told('champion', total.ruling)}; ${said}`,
    figures: {
      [`${metric}.challenger`]: mean(total.tried),
      [`${metric}.challenger.n`]: total.tried.n,
      [`${metric}.champion`]: mean(total.ruling),
      [`${metric}.champion.n`]: total.ruling.n,
      p: Math.min(pBetter, pWorse),
    },
  };
}
