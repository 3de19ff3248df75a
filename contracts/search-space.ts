/**
 * What a tuning searches. A space names parameters of a trainer by their paths (`leaves`, `args.depth`) and says for each
 * which values it may take. Anything that is not a dimension is a constant.
 */
export interface UniformDimension {
  readonly dimension: 'uniform';
  readonly low: number;
  readonly high: number;
}
export interface LogUniformDimension {
  readonly dimension: 'logUniform';
  readonly low: number;
  readonly high: number;
}
export interface IntDimension {
  readonly dimension: 'int';
  readonly low: number;
  readonly high: number;
  readonly log: boolean;
}
export interface ChoiceDimension {
  readonly dimension: 'choice';
  readonly options: readonly JsonValue[];
}
/** One of several named things; what belongs to one exists only when it is chosen. */
export interface BranchDimension<Option> {
  readonly dimension: 'branch';
  readonly options: Readonly<Record<string, Option>>;
}

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };
export type Dimension = UniformDimension | LogUniformDimension | IntDimension | ChoiceDimension | BranchDimension<SearchSpace>;
export interface SearchSpace {
  readonly [path: string]: Dimension | JsonValue;
}

/** Any number from `low` to `high`, each as likely. */
export const uniform = (low: number, high: number): UniformDimension => ({ dimension: 'uniform', low, high });

/** A number from `low` to `high`, each order of magnitude as likely; `low` is above 0. */
export const logUniform = (low: number, high: number): LogUniformDimension => ({ dimension: 'logUniform', low, high });

/** A whole number from `low` to `high`, both included; with `log` each order of magnitude is as likely. */
export const int = (low: number, high: number, { log = false }: { readonly log?: boolean } = {}): IntDimension => ({ dimension: 'int', low, high, log });

/**
 * One of several values; or, given a record, one of several named parts of a space, of which only the chosen one exists:
 * `choice({ none: { earlyStoppingRounds: 0 }, early: { earlyStoppingRounds: int(5, 50) } })`. Given feature recipes, one of them.
 */
export function choice(options: readonly JsonValue[]): ChoiceDimension;
export function choice<Option extends object>(options: Readonly<Record<string, Option>>): BranchDimension<Option>;
export function choice<Option extends object>(options: readonly JsonValue[] | Readonly<Record<string, Option>>): ChoiceDimension | BranchDimension<Option> {
  return Array.isArray(options)
    ? { dimension: 'choice', options: options as readonly JsonValue[] }
    : { dimension: 'branch', options: options as Readonly<Record<string, Option>> };
}
