/** What runs are looked for by. */
export const RUN_FIELDS = [
  'run',
  'pipeline',
  'status',
  'created',
  'started',
  'ended',
  'took',
  'trigger',
  'reason',
  'workflow',
  'commit',
  'build',
  'cpu',
  'cost',
  'versions',
] as const;
export type RunField = (typeof RUN_FIELDS)[number];
export const RUN_VALUES = ['param', 'metric', 'tag'] as const;

/** A figure or text of a run: one of its fields, or a parameter, metric or tag by its name. */
export type RunColumn = { readonly of: 'run'; readonly key: RunField } | { readonly of: (typeof RUN_VALUES)[number]; readonly key: string };

export const COMPARISONS = ['<=', '>=', '!=', '=', '<', '>', '~'] as const;

/** `metric.auc >= 0.8`. `~`: holds the text, in capitals or not. */
export interface RunCondition {
  readonly column: RunColumn & { readonly of: (typeof RUN_VALUES)[number] };
  readonly is: (typeof COMPARISONS)[number];
  readonly value: string;
}

/** The column that a name means: `started`, `metric.auc`, `param.split.seed`, `tag.team`; null where it means none. */
export function runColumn(name: string): RunColumn | null {
  const [, of, key] = /^(param|metric|tag)s?\.(.+)$/.exec(name) ?? [];
  const value = RUN_VALUES.find((one) => one === of);
  if (value !== undefined && key !== undefined) return { of: value, key };
  const field = RUN_FIELDS.find((one) => one === name);
  return field === undefined ? null : { of: 'run', key: field };
}

/** As `runColumn` reads it. */
export const columnName = ({ of, key }: RunColumn): string => (of === 'run' ? key : `${of}.${key}`);

/** `KEY>=VALUE`; null where it is no comparison. Of the comparison signs the first counts. */
export function runCondition(of: RunCondition['column']['of'], text: string): RunCondition | null {
  const [, key = '', is, value = ''] = /^\s*([^<>=!~]+?)\s*(<=|>=|!=|==?|<|>|~)\s*([^]*?)\s*$/.exec(text) ?? [];
  const sign = COMPARISONS.find((one) => one === (is === '==' ? '=' : is));
  return key === '' || sign === undefined ? null : { column: { of, key }, is: sign, value };
}
