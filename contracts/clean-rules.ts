import { z } from 'zod';

/**
 * Rules of a cleaning recipe, as plain JSON. Those that look at one row become row transforms, so that requests are treated alike;
 * those whose figures come from the data (impute, clip) are fitted on training rows and become row transforms with the fitted figures;
 * those that look at many rows are for training only.
 */
const Bounds = z.discriminatedUnion('by', [
  /** Outside of [Q1 − k·IQR, Q3 + k·IQR]. Quartiles are values of the data. */
  z.object({ by: z.literal('iqr'), k: z.number().positive().default(1.5) }),
  /** More than k standard deviations (of the sample) from the mean. */
  z.object({ by: z.literal('zScore'), k: z.number().positive().default(3) }),
  z.object({ by: z.literal('range'), min: z.number().nullable().default(null), max: z.number().nullable().default(null) }),
]);

export const CleanRuleSchema = z.lazy(() => {
  const names = z.array(z.string().min(1)).min(1);
  /** Columns by name, or all of type string that are there. */
  const texts = z.union([z.literal('text'), names]);
  const scalar = z.union([z.string(), z.number(), z.boolean()]);
  return z.discriminatedUnion('rule', [
    // one row at a time
    z.object({ rule: z.literal('trim'), columns: texts }),
    z.object({ rule: z.literal('lowerCase'), columns: texts }),
    z.object({ rule: z.literal('upperCase'), columns: texts }),
    z.object({ rule: z.literal('normalizeUnicode'), columns: texts }),
    z.object({ rule: z.literal('nullIf'), columns: texts, values: z.array(z.string()).min(1).max(500) }),
    z.object({ rule: z.literal('replaceText'), columns: texts, pattern: z.string().min(1), with: z.string() }),
    z.object({
      rule: z.literal('parseNumber'),
      columns: names,
      /** Unit at the end of the text → what its number is multiplied by. Matched without regard to case. */
      units: z.record(z.string().min(1), z.number()).default({}),
      /** What `5 %` is: `fraction` 0.05, `number` 5. */
      percent: z.enum(['fraction', 'number']).default('fraction'),
      /** The sign between thousands, which is left out. */
      thousands: z.enum([',', '.', ' ', "'"]).nullable().default(','),
      decimal: z.enum(['.', ',']).default('.'),
    }),
    z.object({ rule: z.literal('parseDate'), columns: names, formats: z.array(z.string().min(1)).min(1).max(20) }),
    z.object({
      rule: z.literal('mapValues'),
      columns: names,
      values: z.record(z.string(), z.string().nullable()),
      /** What is not listed stays as it is, or becomes null. */
      others: z.enum(['keep', 'null']).default('keep'),
    }),
    z.object({
      rule: z.literal('extract'),
      from: z.string().min(1),
      /** RE2; its first group is what is taken. */
      pattern: z.string().min(1),
      into: z.string().min(1),
      /** Whether what matched is taken off `from`. */
      remove: z.boolean().default(false),
    }),
    // with figures of the training rows
    z.object({
      rule: z.literal('impute'),
      columns: names,
      with: z.union([z.enum(['mean', 'median', 'mode']), z.object({ value: scalar })]),
      /** Figures for each value of this column; a value that training did not have gets those of all rows. */
      by: z.string().min(1).optional(),
    }),
    z.object({ rule: z.literal('clip'), columns: names, bounds: Bounds }),
    // many rows: training only
    z.object({ rule: z.literal('dropOutliers'), columns: names, bounds: Bounds }),
    z.object({
      rule: z.literal('deduplicate'),
      /** Rows that are alike in these are one. Default: in all columns. */
      by: names.optional(),
      keep: z.union([z.enum(['first', 'last']), z.object({ latest: z.string().min(1) })]).default('first'),
    }),
    z.object({
      rule: z.literal('fillFromMajority'),
      /** Rows that are about the same thing. */
      by: names,
      columns: names,
      /** Who said it. With it a source's votes weigh by how reliable it is, as learnt from what the sources say; without it all count alike. */
      source: z.string().min(1).optional(),
      /** Sources that are known to be right mostly, such as an airline for its own flights: the others are judged by how they agree with them. */
      trusted: z.array(z.string().min(1)).min(1).optional(),
    }),
  ]);
});
export type CleanRule = z.infer<typeof CleanRuleSchema>;
type RuleInput<Kind extends CleanRule['rule']> = Extract<z.input<typeof CleanRuleSchema>, { readonly rule: Kind }>;
type Options<Kind extends CleanRule['rule'], Named extends string = never> = Omit<RuleInput<Kind>, 'rule' | 'columns' | Named>;
type Texts = 'text' | readonly string[];

const rule = (value: unknown): CleanRule => CleanRuleSchema.parse(value);

/** Takes white space off both ends. `'text'`: of all text columns. */
export const trim = (columns: Texts): CleanRule => rule({ rule: 'trim', columns });
export const lowerCase = (columns: Texts): CleanRule => rule({ rule: 'lowerCase', columns });
export const upperCase = (columns: Texts): CleanRule => rule({ rule: 'upperCase', columns });
/** Unicode's form NFC: one sign for a letter with its accents. */
export const normalizeUnicode = (columns: Texts): CleanRule => rule({ rule: 'normalizeUnicode', columns });
/** These texts mean that the value is missing: `nullIf('text', ['?', 'N/A', ''])`. */
export const nullIf = (columns: Texts, values: readonly string[]): CleanRule => rule({ rule: 'nullIf', columns, values });
/** Replaces what the pattern (RE2) matches; `\1` in the replacement is its first group. */
export const replaceText = (columns: Texts, pattern: string | RegExp, replacement: string): CleanRule =>
  rule({ rule: 'replaceText', columns, pattern: typeof pattern === 'string' ? pattern : pattern.source, with: replacement });
/** Texts to numbers: `12.0 oz.`, `0.05%`, `$1,200`. What is none becomes null. */
export const parseNumber = (columns: readonly string[], options: Options<'parseNumber'> = {}): CleanRule => rule({ rule: 'parseNumber', columns, ...options });
/**
 * Texts to instants (UTC), by the first format that fits: `%Y` `%m` `%d` `%H` `%I` `%M` `%S` `%p` (am, pm) `%b` `%B` (English months)
 * and plain signs. What fits none becomes null.
 */
export const parseDate = (columns: readonly string[], formats: string | readonly string[]): CleanRule =>
  rule({ rule: 'parseDate', columns, formats: typeof formats === 'string' ? [formats] : formats });
/** Text → text, or null for a missing value. */
export const mapValues = (
  columns: readonly string[],
  values: Readonly<Record<string, string | null>>,
  options: { readonly others?: 'keep' | 'null' } = {},
): CleanRule => rule({ rule: 'mapValues', columns, values, ...options });
/** Where `into` is missing and the pattern is found in `from`: `into` becomes its first group; with `remove`, the match is taken off `from`. */
export const extract = (options: Omit<RuleInput<'extract'>, 'rule' | 'pattern'> & { readonly pattern: string | RegExp }): CleanRule =>
  rule({ ...options, rule: 'extract', pattern: typeof options.pattern === 'string' ? options.pattern : options.pattern.source });
/** What a missing value becomes: the training rows' mean, median or most frequent value (of all, or of the row's group), or one you name. */
export const impute = (
  columns: readonly string[],
  value: 'mean' | 'median' | 'mode' | { readonly value: string | number | boolean },
  options: { readonly by?: string } = {},
): CleanRule => rule({ rule: 'impute', columns, with: value, ...options });
/** Brings values to the nearest bound: `clip(['delay'], { by: 'iqr' })`. Bounds come from training rows. */
export const clip = (columns: readonly string[], bounds: z.input<typeof Bounds>): CleanRule => rule({ rule: 'clip', columns, bounds });
/** Leaves out training rows with a value outside of the bounds. */
export const dropOutliers = (columns: readonly string[], bounds: z.input<typeof Bounds>): CleanRule => rule({ rule: 'dropOutliers', columns, bounds });
/** One of the rows that are alike: the first, the last, or the one with the greatest value of a column. */
export const deduplicate = (options: Omit<RuleInput<'deduplicate'>, 'rule'> = {}): CleanRule => rule({ rule: 'deduplicate', ...options });
/**
 * Where rows about the same thing contradict each other, each gets the value with most votes; ties go to the value that is least in
 * order. With `source`, a source's votes weigh by how reliable it is. That is learnt from the agreement with the `trusted` sources where
 * some are named, else from the agreement of all: where most sources share a mistake, only trusted ones help.
 */
export const fillFromMajority = (columns: readonly string[], options: Options<'fillFromMajority'>): CleanRule =>
  rule({ rule: 'fillFromMajority', columns, ...options });

/** Whether a rule takes figures from rows. */
export const isFitted = (candidate: CleanRule): boolean =>
  (candidate.rule === 'impute' && typeof candidate.with === 'string') ||
  (candidate.rule === 'clip' && candidate.bounds.by !== 'range') ||
  (candidate.rule === 'dropOutliers' && candidate.bounds.by !== 'range');
/** Whether a rule looks at many rows at once, and so has no counterpart for one request. */
export const isForTraining = (candidate: CleanRule): boolean =>
  candidate.rule === 'dropOutliers' || candidate.rule === 'deduplicate' || candidate.rule === 'fillFromMajority';

/** What a rule did, as the stage's report tells it. */
export interface RuleReport {
  /** As it was written. */
  readonly rule: unknown;
  readonly rowsBefore: number;
  readonly rowsAfter: number;
  readonly columns: readonly {
    readonly column: string;
    /** Values that are others now, missing ones among them. */
    readonly changed: number;
    /** Values that were there and are missing now. */
    readonly madeNull: number;
    /** Missing values that have one now. */
    readonly filled: number;
    /** Figures that the rule took from training rows. */
    readonly fitted?: Readonly<Record<string, string | number | boolean | null>>;
  }[];
}
export interface CleanReport {
  readonly format: 'millrace-clean/1';
  readonly rules: readonly RuleReport[];
}
