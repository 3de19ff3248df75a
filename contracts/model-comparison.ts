import type { Comparison, EvaluationReport } from './evaluation.ts';
import { METRIC_TABLE, metricDefinition } from './metrics.ts';
import type { ModelCard } from './model-card.ts';

/** What is known of a version, for setting it beside another one. */
export interface ComparedVersion {
  readonly model: string;
  readonly version: number;
  readonly status: string;
  readonly aliases: readonly string[];
  /** UTC ISO. */
  readonly createdAt: string;
  /** The run that made it; null where none did. */
  readonly run: {
    readonly id: string;
    readonly pipeline: string;
    readonly parameters: unknown;
    readonly commit: string | null;
    readonly clean: boolean | null;
  } | null;
  /** Metrics of the registry; the card's evaluation has more of them. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Null for a version without one. */
  readonly card: ModelCard | null;
  /** What prediction servers measured, over all endpoints; null where none answered with it. */
  readonly serving: ServingFigures | null;
}

export interface ServingFigures {
  readonly requests: number;
  readonly errors: number;
  readonly meanMs: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

export interface Figure {
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
}

/** `same`: not told apart by what is stored. */
export type Verdict = 'better' | 'worse' | 'same';

export interface ComparedMetric {
  readonly metric: string;
  /** Null for a metric that the contract does not know, as a figure of one's own. */
  readonly better: 'higher' | 'lower' | null;
  readonly a: Figure | null;
  readonly b: Figure | null;
  /** B less A; null where one lacks it. */
  readonly difference: number | null;
  /** Of B against A: by the paired test where there is one, else where the intervals do not meet. Null where nothing can be said. */
  readonly verdict: Verdict | null;
}

export interface ModelComparison {
  readonly a: ComparedVersion;
  readonly b: ComparedVersion;
  /** Those that differ: `trainer.trees`, `run.source`. */
  readonly parameters: readonly { readonly name: string; readonly a: unknown; readonly b: unknown }[];
  readonly data: readonly { readonly role: string; readonly a: DataPart | null; readonly b: DataPart | null; readonly same: boolean }[];
  /** Whether both were judged on the same rows; null where one was not judged. */
  readonly sameRows: boolean | null;
  readonly metrics: readonly ComparedMetric[];
  /** The paired test of B against A, where B was judged against A on the same rows, or A against B: then turned round. */
  readonly paired: Comparison | null;
  /** By the metric of B's slices; where they differ most first. */
  readonly slices: readonly ComparedSlice[];
}

export type DataPart = ModelCard['data'][number];

export interface ComparedSlice {
  readonly column: string;
  readonly value: string;
  readonly metric: string;
  readonly rows: { readonly a: number | null; readonly b: number | null };
  readonly a: Figure | null;
  readonly b: Figure | null;
  readonly difference: number | null;
  readonly verdict: Verdict | null;
}

/** A paired test says that the two differ from this p value on. */
const SURE = 0.05;

/** Sets B beside A: what differs between them, and where B is better or worse. */
export function compareVersions(a: ComparedVersion, b: ComparedVersion): ModelComparison {
  const [reportA, reportB] = [a.card?.evaluation ?? null, b.card?.evaluation ?? null];
  const sameRows = reportA === null || reportB === null ? null : reportA.on === reportB.on;
  const paired = pairedTest(a, b);
  return {
    a,
    b,
    parameters: differing(parametersOf(a), parametersOf(b)),
    data: dataOf(a.card, b.card),
    sameRows,
    metrics: metricsOf(a, b, paired),
    paired,
    slices: reportA === null || reportB === null ? [] : slicesOf(reportA, reportB),
  };
}

/** What was chosen by hand or by a search, by dotted names. */
function parametersOf({ card, run }: ComparedVersion): ReadonlyMap<string, unknown> {
  const found = new Map<string, unknown>();
  if (card !== null) {
    found.set('trainer', card.trainer.name);
    flatten('trainer', card.trainer.parameters, found);
    if (card.threshold !== null) found.set('threshold', card.threshold);
    if (card.training !== null) {
      found.set('seed', card.training.seed);
      found.set('training rows', card.training.rows);
      for (const { name, kind, columns } of card.training.features) found.set(`feature.${name}`, `${kind}(${columns.join(', ')})`);
    }
  }
  if (run !== null) flatten('run', run.parameters, found);
  return found;
}

function flatten(prefix: string, value: unknown, into: Map<string, unknown>): void {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    into.set(prefix, value);
    return;
  }
  for (const [key, inner] of Object.entries(value)) flatten(`${prefix}.${key}`, inner, into);
}

function differing(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): ModelComparison['parameters'] {
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((name) => JSON.stringify(a.get(name)) !== JSON.stringify(b.get(name)))
    .map((name) => ({ name, a: a.get(name) ?? null, b: b.get(name) ?? null }));
}

function dataOf(a: ModelCard | null, b: ModelCard | null): ModelComparison['data'] {
  const roles = ['snapshot', 'training', 'validation', 'test'] as const;
  return roles.flatMap((role) => {
    const [partA, partB] = [a, b].map((card) => card?.data.find((part) => part.role === role) ?? null);
    return partA == null && partB == null ? [] : [{ role, a: partA ?? null, b: partB ?? null, same: partA?.id === partB?.id }];
  });
}

function pairedTest(a: ComparedVersion, b: ComparedVersion): Comparison | null {
  const against = (judged: ComparedVersion, other: ComparedVersion): Comparison | null => {
    const champion = judged.card?.evaluation?.champion;
    return champion?.model === other.model && champion.version === other.version ? champion.comparison : null;
  };
  const forward = against(b, a);
  if (forward !== null) return forward;
  const back = against(a, b);
  return back === null ? null : { ...back, improvement: -back.improvement, low: -back.high, high: -back.low, pNoBetter: 1 - back.pNoBetter };
}

const figureOf = (value: number | undefined, interval?: { readonly low?: number | undefined; readonly high?: number | undefined }): Figure | null =>
  value === undefined ? null : { value, low: interval?.low ?? null, high: interval?.high ?? null };

const betterOf = (metric: string): 'higher' | 'lower' | null => metricDefinition(metric)?.better ?? null;

function metricsOf(a: ComparedVersion, b: ComparedVersion, paired: Comparison | null): readonly ComparedMetric[] {
  const figures = ({ card, metrics }: ComparedVersion): Readonly<Record<string, number>> => ({
    ...metrics,
    ...(card?.evaluation?.metrics ?? {}),
    ...Object.fromEntries(Object.entries(card?.evaluation?.business ?? {}).map(([name, value]) => [`business.${name}`, value])),
  });
  const [ofA, ofB] = [figures(a), figures(b)];
  // Postgres keeps no order of names; the one of the contract is the one that people know.
  const known = Object.keys(METRIC_TABLE);
  const place = (name: string): number => (known.includes(name) ? known.indexOf(name) : known.length);
  return [...new Set([...Object.keys(ofA), ...Object.keys(ofB)])]
    .sort((x, y) => place(x) - place(y) || (x < y ? -1 : 1))
    .map((metric) => {
      const better = betterOf(metric);
      const [left, right] = [figureOf(ofA[metric], a.card?.evaluation?.intervals[metric]), figureOf(ofB[metric], b.card?.evaluation?.intervals[metric])];
      return { metric, better, ...told(left, right, better, paired?.metric === metric ? paired : null) };
    });
}

function told(a: Figure | null, b: Figure | null, better: 'higher' | 'lower' | null, paired: Comparison | null): Omit<ComparedMetric, 'metric' | 'better'> {
  const difference = a === null || b === null ? null : b.value - a.value;
  if (paired !== null) return { a, b, difference, verdict: paired.pValue >= SURE ? 'same' : paired.improvement > 0 ? 'better' : 'worse' };
  if (a?.low == null || a.high === null || b?.low == null || b.high === null || better === null) return { a, b, difference, verdict: null };
  const above = b.low > a.high;
  const below = b.high < a.low;
  return { a, b, difference, verdict: above || below ? (above === (better === 'higher') ? 'better' : 'worse') : 'same' };
}

function slicesOf(a: EvaluationReport, b: EvaluationReport): readonly ComparedSlice[] {
  const found = b.slices.flatMap(({ column, metric, values }) => {
    const other = a.slices.find((slice) => slice.column === column && slice.metric === metric);
    if (other === undefined) return [];
    return [...new Set([...values, ...other.values].map(({ value }) => value))].map((value): ComparedSlice => {
      const [left, right] = [other.values.find((one) => one.value === value), values.find((one) => one.value === value)];
      const better = betterOf(metric);
      return {
        column,
        value,
        metric,
        rows: { a: left?.rows ?? null, b: right?.rows ?? null },
        ...told(figureOf(left?.metric, left), figureOf(right?.metric, right), better, null),
      };
    });
  });
  return found.sort((x, y) => Math.abs(y.difference ?? 0) - Math.abs(x.difference ?? 0));
}
