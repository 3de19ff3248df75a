import { canonicalJson } from '../../contracts/canonical-json.ts';
import type { JsonValue } from '../../contracts/search-space.ts';

/** How one parameter is drawn. Of a categorical one, `keys` are its options as canonical JSON, by which values are found again. */
export type Distribution =
  | { readonly kind: 'float'; readonly low: number; readonly high: number; readonly log: boolean }
  | { readonly kind: 'int'; readonly low: number; readonly high: number; readonly log: boolean }
  | { readonly kind: 'categorical'; readonly options: readonly JsonValue[]; readonly keys: readonly string[] };

/** A parameter of the search. It exists in a trial only where each parameter of `when` has the value that stands there. */
export interface SearchParameter {
  readonly name: string;
  readonly distribution: Distribution;
  readonly when: readonly { readonly parameter: string; readonly is: string }[];
}

/** A trial's values by parameter; those that do not exist in it are left out. */
export type TrialValues = Readonly<Record<string, JsonValue>>;

export interface RungValue {
  /** How far training was, 0 … 1. */
  readonly fraction: number;
  readonly value: number;
}

/** A trial that has ended, as the search sees it. */
export interface Observation {
  readonly values: TrialValues;
  /** `stopped`: ended at a rung, since it was worse than others there. */
  readonly state: 'completed' | 'stopped' | 'failed';
  /** Of the metric; null unless completed. */
  readonly value: number | null;
  readonly rungs: readonly RungValue[];
}

export type Direction = 'minimize' | 'maximize';

export function isActive(parameter: SearchParameter, values: TrialValues): boolean {
  return parameter.when.every(({ parameter: name, is }) => values[name] === is);
}

/** The number that stands for a value: itself, or the place among the options. Undefined where the distribution has no such value. */
export function encodeValue(distribution: Distribution, value: JsonValue | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (distribution.kind === 'categorical') {
    const at = distribution.keys.indexOf(canonicalJson(value));
    return at < 0 ? undefined : at;
  }
  if (typeof value !== 'number' || value < distribution.low || value > distribution.high) return undefined;
  return distribution.kind === 'int' && !Number.isInteger(value) ? undefined : value;
}

export function decodeValue(distribution: Distribution, encoded: number): JsonValue {
  return distribution.kind === 'categorical' ? (distribution.options[encoded] ?? null) : encoded;
}

/** The range in which a numeric parameter is searched: logarithms where it is so; a whole number owns half a step to each side. */
export function searchRange(distribution: Exclude<Distribution, { kind: 'categorical' }>): { readonly low: number; readonly high: number } {
  const half = distribution.kind === 'int' ? 0.5 : 0;
  const low = distribution.low - half;
  const high = distribution.high + half;
  return distribution.log ? { low: Math.log(low), high: Math.log(high) } : { low, high };
}

/** The value of a point of the search range. */
export function fromSearchRange(distribution: Exclude<Distribution, { kind: 'categorical' }>, point: number): number {
  const value = distribution.log ? Math.exp(point) : point;
  const snapped = distribution.kind === 'int' ? Math.round(value) : value;
  return Math.min(distribution.high, Math.max(distribution.low, snapped));
}
