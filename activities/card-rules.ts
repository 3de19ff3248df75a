import type { Accept, EvaluationReport } from '../contracts/evaluation.ts';
import type { CardRule } from '../contracts/model-card.ts';
import { DEFAULT_CONFIDENCE } from './acceptance.ts';

type Side = 'atLeast' | 'atMost';
const WORD = { atLeast: 'at least', atMost: 'at most' } as const;

/** A figure as rules show it: four decimals below ten, as metrics are read. */
const shown = (value: number): string => (Math.abs(value) < 10 ? value.toFixed(4) : String(Number(value.toPrecision(6))));

/** Every acceptance rule with what was found, in the order in which they are stated. What a slice's value is, is not told. */
export function cardRules(accept: Accept, report: EvaluationReport): CardRule[] {
  const broken = new Set(report.problems.map(({ path }) => path));
  const warned = new Set(report.warnings.map(({ path }) => path));
  const line = (path: string, rule: string, found: string | null): CardRule => ({
    rule,
    found,
    state: broken.has(path) ? 'fails' : warned.has(path) ? 'warns' : 'holds',
  });
  const entries = (bounds: Readonly<Partial<Record<string, number>>> | undefined): [string, number][] =>
    Object.entries(bounds ?? {}).flatMap(([name, bound]) => (bound === undefined ? [] : [[name, bound] as [string, number]]));
  const bounds = (prefix: string, rules: Pick<Accept, 'atLeast' | 'atMost' | 'slices'>): CardRule[] => {
    const figures = (side: Side): CardRule[] =>
      entries(rules[side]).map(([name, bound]) => {
        const own = name.startsWith('business.') ? name.slice('business.'.length) : undefined;
        const value = own === undefined ? report.metrics[name] : report.business[own];
        const interval = accept.judge === 'interval' && own === undefined ? report.intervals[name] : undefined;
        const range = interval === undefined ? '' : ` (${shown(interval.low)} to ${shown(interval.high)})`;
        const whole = interval === undefined ? '' : ' with its whole interval';
        return line(
          `${prefix}.${side}.${name}`,
          `${own ?? name} ${WORD[side]} ${String(bound)}${whole}`,
          value === undefined ? null : `${shown(value)}${range}`,
        );
      });
    const slices = (side: Side): CardRule[] =>
      entries(rules.slices?.[side]).map(([name, bound]) => {
        const values = report.slices.flatMap((list) => list.values.flatMap(({ metrics }) => metrics[name] ?? []));
        const worst = values.length === 0 ? null : side === 'atLeast' ? Math.min(...values) : Math.max(...values);
        return line(
          `${prefix}.slices.${side}.${name}`,
          `${name} ${WORD[side]} ${String(bound)} in every slice`,
          worst === null ? null : `${shown(worst)} in the worst`,
        );
      });
    return [...figures('atLeast'), ...figures('atMost'), ...slices('atLeast'), ...slices('atMost')];
  };
  return [
    ...bounds('accept', accept),
    ...(accept.beats === undefined ? [] : [line('accept.beats', beatsText(accept.beats), beatsFound(report))]),
    ...(accept.warn === undefined ? [] : bounds('accept.warn', accept.warn)),
  ];
}

function beatsText({ champion, by, confidence, notWorse }: NonNullable<Accept['beats']>): string {
  const sure = `, ${String((confidence ?? DEFAULT_CONFIDENCE) * 100)} % sure`;
  if (notWorse !== undefined) return `not worse than the champion of ${champion} by more than ${String(notWorse)}${sure}`;
  const margin = by === undefined ? '' : ` by ${String(by)}`;
  return confidence === undefined && by === undefined
    ? `not worse than the champion of ${champion}`
    : `better than the champion of ${champion}${margin}${confidence === undefined ? '' : sure}`;
}

function beatsFound({ champion, metric, metrics }: EvaluationReport): string {
  if (champion === null) return 'there was no champion yet';
  const [mine, theirs] = [metrics[metric], champion.metrics[metric]];
  return mine === undefined || theirs === undefined
    ? `version ${String(champion.version)}`
    : `${shown(mine)} against ${shown(theirs)} (version ${String(champion.version)})`;
}
