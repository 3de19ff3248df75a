/**
 * Suites of Great Expectations, as that library writes them to JSON: 0.x (`expectation_type`) and 1.x (`type`).
 *
 * Invariant: an expectation is taken over only where this library's verdict is the same on the same data; where it may differ in a
 * corner, the corner is named (`remarks`), and what cannot be said here is named with the reason (`notImported`). Nothing is dropped
 * silently.
 */
import { z } from 'zod';
import { MillraceError } from './errors.ts';
import { type Expectations, ExpectationsSchema } from './expectations.ts';

export interface ImportedSuite {
  readonly expectations: Expectations;
  /** What could not be taken over, by its place in the suite. */
  readonly notImported: readonly { readonly index: number; readonly type: string; readonly column: string | null; readonly reason: string }[];
  /** What was taken over and judges differently in a corner. */
  readonly remarks: readonly { readonly index: number; readonly type: string; readonly column: string | null; readonly remark: string }[];
  /** For each expectation of `expectations`, the place in the suite that it came from. */
  readonly from: readonly number[];
}

type Rule = Readonly<Record<string, unknown>>;
interface Mapped {
  readonly rules: readonly Rule[];
  readonly remark?: string;
}
type Mapping = (kwargs: Kwargs) => Mapped | Rule | string;

const EntrySchema = z.looseObject({
  type: z.string().optional(),
  expectation_type: z.string().optional(),
  kwargs: z.record(z.string(), z.unknown()).default({}),
  severity: z.string().optional(),
});
const SuiteSchema = z.looseObject({ expectations: z.array(EntrySchema) });

/** Raised by the readers of kwargs below; its text is the reason that is told. */
class NotSaid extends Error {}

class Kwargs {
  readonly values: Readonly<Record<string, unknown>>;
  constructor(values: Readonly<Record<string, unknown>>) {
    this.values = values;
  }
  has(name: string): boolean {
    return this.values[name] !== undefined && this.values[name] !== null;
  }
  text(name: string): string {
    const value = this.values[name];
    if (typeof value !== 'string' || value === '') throw new NotSaid(`It does not say its ${name}.`);
    return value;
  }
  number(name: string): number | null {
    const value = this.values[name] ?? null;
    if (value === null || typeof value === 'number') return value;
    throw new NotSaid(`${name} is not a number.`);
  }
  needed(name: string): number {
    const value = this.number(name);
    if (value === null) throw new NotSaid(`It does not say its ${name}.`);
    return value;
  }
  texts(name: string): readonly string[] {
    const value = this.values[name];
    if (!Array.isArray(value) || value.length === 0 || !value.every((entry): entry is string => typeof entry === 'string'))
      throw new NotSaid(`Its ${name} is not a list of texts.`);
    return value;
  }
  scalars(name: string): readonly (string | number | boolean)[] {
    const value = this.values[name];
    if (!Array.isArray(value)) throw new NotSaid(`Its ${name} is not a list.`);
    const present = value.filter((entry: unknown) => entry !== null);
    if (present.length === 0 || !present.every((entry): entry is string | number | boolean => ['string', 'number', 'boolean'].includes(typeof entry)))
      throw new NotSaid(`Its ${name} holds other things than texts, numbers or booleans, or nothing.`);
    return present;
  }
  get column(): string {
    return this.text('column');
  }
  get mostly(): { readonly mostly: number } {
    return { mostly: this.number('mostly') ?? 1 };
  }
  range(): { readonly min: number | null; readonly max: number | null } {
    for (const side of ['min', 'max'] as const) {
      const strict = this.values[`strict_${side}`] === true;
      if (strict && this.has(`${side}_value`)) throw new NotSaid(`A figure that has to be strictly inside (strict_${side}) cannot be said; move the bound.`);
    }
    return { min: this.number('min_value'), max: this.number('max_value') };
  }
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const literal = (value: string | number | boolean): string => (typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value));
const ISO = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/;

/** Names of types as pandas, NumPy, Python and SQL databases say them. */
const TYPES: Readonly<Record<string, string>> = Object.fromEntries(
  [
    ['integer', 'int int8 int16 int32 int64 uint8 uint16 uint32 uint64 integer bigint smallint tinyint hugeint integertype longtype shorttype biginteger'],
    ['number', 'float float16 float32 float64 double real decimal numeric number doubletype floattype decimaltype double_precision'],
    ['string', 'str string object object_ char varchar text nvarchar stringtype string_ str_ bpchar'],
    ['boolean', 'bool boolean bool_ booleantype'],
    ['timestamp', 'datetime datetime64 datetime64[ns] datetime64[us] datetime64[ms] datetime64[s] timestamp timestamptype timestamp_ntz timestamptz'],
    ['date', 'date datetype'],
  ].flatMap(([type = '', names = '']) => names.split(' ').map((name) => [name, type] as const)),
);

function ourTypes(names: readonly string[]): readonly string[] {
  const known = names.map((name) => TYPES[name.toLowerCase()]);
  if (known.includes(undefined)) throw new NotSaid(`The type ${names.filter((_, index) => known[index] === undefined).join(', ')} has no counterpart.`);
  return [...new Set(known.filter((type) => type !== undefined))];
}

/** A pattern of Python's `re` in RE2's syntax. */
function pattern(text: string): string {
  if (/\(\?(?:=|!|<=|<!|>|\()/.test(text)) throw new NotSaid('The pattern looks ahead or behind, which RE2 cannot do.');
  if (/(?:^|[^\\])(?:\\\\)*(?:\\[1-9]|\(\?P=)/.test(text)) throw new NotSaid('The pattern refers back to a group, which RE2 cannot do.');
  return text.replaceAll('\\Z', '\\z');
}
const likePattern = (like: string): string =>
  `^(?s:${like
    .replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')
    .replaceAll('%', '.*')
    .replaceAll('_', '.')})$`;
const both = (patterns: readonly string[]): string => patterns.map((one) => `(?:${one})`).join('|');

const bounds =
  (kind: string): Mapping =>
  (kwargs) => ({ kind, column: kwargs.column, ...kwargs.range() });
const table =
  (kind: string): Mapping =>
  (kwargs) => ({ kind, ...kwargs.range() });
const cannot =
  (reason: string): Mapping =>
  () =>
    reason;

function valuesBetween(kwargs: Kwargs): Mapped | Rule {
  const { column, mostly } = kwargs;
  const sides = ['min', 'max'].map((side) => ({ value: kwargs.values[`${side}_value`] ?? null, strict: kwargs.values[`strict_${side}`] === true }));
  const [min, max] = [sides[0] ?? { value: null, strict: false }, sides[1] ?? { value: null, strict: false }];
  const given = sides.map(({ value }) => value).filter((value) => value !== null);
  const timed = given.length > 0 && given.every((value) => typeof value === 'string' && ISO.test(value));
  if (!timed && !given.every((value) => typeof value === 'number')) throw new NotSaid('Its bounds are neither numbers nor ISO dates.');
  if (min.strict || max.strict) {
    const bound = (value: unknown): string => (timed ? `TIMESTAMP ${literal(String(value))}` : String(value));
    const name = quoted(column);
    const conditions = [
      min.value === null ? '' : `${name} ${min.strict ? '>' : '>='} ${bound(min.value)}`,
      max.value === null ? '' : `${name} ${max.strict ? '<' : '<='} ${bound(max.value)}`,
    ].filter(Boolean);
    return conditions.length === 0
      ? { kind: 'between', column, min: null, max: null, ...mostly }
      : { kind: 'customSql', name: `${column} is strictly between`, sql: conditions.join(' AND '), ...mostly };
  }
  if (timed) return { kind: 'dateBetween', column, from: min.value, to: max.value, ...mostly };
  return { kind: 'between', column, min: min.value, max: max.value, ...mostly };
}

/** The least or greatest value within bounds; that of instants can be held on one side. */
function extreme(kind: 'minBetween' | 'maxBetween', open: 'from' | 'to'): Mapping {
  return (kwargs) => {
    const [min, max] = [kwargs.values['min_value'] ?? null, kwargs.values['max_value'] ?? null];
    if (typeof min !== 'string' && typeof max !== 'string') return { kind, column: kwargs.column, ...kwargs.range() };
    const [held, other] = open === 'from' ? [min, max] : [max, min];
    if (other !== null || typeof held !== 'string' || !ISO.test(held) || kwargs.values['strict_min'] === true || kwargs.values['strict_max'] === true)
      throw new NotSaid(
        `The ${open === 'from' ? 'least' : 'greatest'} instant can be held ${open === 'from' ? 'from below' : 'from above'} only, by an ISO date.`,
      );
    return { kind: 'dateBetween', column: kwargs.column, from: open === 'from' ? held : null, to: open === 'to' ? held : null };
  };
}

/** What a row with missing values counts as, as a SQL condition of which null is left out. */
function withMissing(condition: string, columns: readonly string[], ignored: string): string {
  const missing = columns.map((name) => `${quoted(name)} IS NULL`);
  switch (ignored) {
    case 'both_values_are_missing':
    case 'all_values_are_missing':
      return `CASE WHEN ${missing.join(' AND ')} THEN NULL ELSE coalesce(${condition}, false) END`;
    case 'either_value_is_missing':
    case 'any_value_is_missing':
      return `CASE WHEN ${missing.join(' OR ')} THEN NULL ELSE ${condition} END`;
    case 'never':
    case 'neither':
      return `coalesce(${condition}, false)`;
    default:
      throw new NotSaid(`ignore_row_if ${ignored} is not known.`);
  }
}

const pair =
  (is: (kwargs: Kwargs) => '>' | '>=' | '='): Mapping =>
  (kwargs) => {
    const [left, right] = [kwargs.text('column_A'), kwargs.text('column_B')];
    const ignored = kwargs.has('ignore_row_if') ? kwargs.text('ignore_row_if') : 'both_values_are_missing';
    if (ignored === 'either_value_is_missing') return { kind: 'compareColumns', left, is: is(kwargs), right, ...kwargs.mostly };
    const sql = withMissing(`${quoted(left)} ${is(kwargs)} ${quoted(right)}`, [left, right], ignored);
    return { kind: 'customSql', name: `${left} ${is(kwargs)} ${right}`, sql, ...kwargs.mostly };
  };

const columnList = (kwargs: Kwargs): { readonly columns: readonly string[]; readonly ignored: string } => ({
  columns: kwargs.texts('column_list'),
  ignored: kwargs.has('ignore_row_if') ? kwargs.text('ignore_row_if') : 'all_values_are_missing',
});

function uniqueWithinRecord(kwargs: Kwargs): Rule {
  const { columns, ignored } = columnList(kwargs);
  const pairs = columns.flatMap((left, index) => columns.slice(index + 1).map((right) => `${quoted(left)} IS DISTINCT FROM ${quoted(right)}`));
  if (pairs.length === 0) throw new NotSaid('It needs two columns or more.');
  return { kind: 'customSql', name: `${columns.join(', ')} differ within a row`, sql: withMissing(pairs.join(' AND '), columns, ignored), ...kwargs.mostly };
}

function compoundUnique(kwargs: Kwargs): Mapped {
  const { columns, ignored } = columnList(kwargs);
  return {
    rules: [{ kind: 'uniqueTogether', columns, ...kwargs.mostly }],
    ...(ignored === 'any_value_is_missing' ? {} : { remark: 'Rows with a missing value in one of the columns are left out; there they count.' }),
  };
}

const regexList =
  (negated: boolean, read: (text: string) => string, name: string): Mapping =>
  (kwargs) => {
    const patterns = kwargs.texts(name).map(read);
    const { column, mostly } = kwargs;
    if (negated) return { kind: 'notMatches', column, pattern: both(patterns), ...mostly };
    if (kwargs.values['match_on'] !== 'all' || patterns.length === 1) return { kind: 'matches', column, pattern: both(patterns), ...mostly };
    const sql = patterns.map((one) => `regexp_matches(${quoted(column)}, ${literal(one)})`).join(' AND ');
    return { kind: 'customSql', name: `${column} matches all patterns`, sql, ...mostly };
  };

function quantiles(kwargs: Kwargs): Mapped {
  const parsed = z
    .object({ quantiles: z.array(z.number().min(0).max(1)).min(1), value_ranges: z.array(z.tuple([z.number().nullable(), z.number().nullable()])) })
    .safeParse(kwargs.values['quantile_ranges']);
  if (!parsed.success || parsed.data.quantiles.length !== parsed.data.value_ranges.length)
    throw new NotSaid('quantile_ranges has to hold as many value_ranges of numbers as quantiles.');
  const { quantiles: wanted, value_ranges: ranges } = parsed.data;
  return {
    rules: wanted.map((q, index) => ({ kind: 'quantileBetween', column: kwargs.column, q, min: ranges[index]?.[0] ?? null, max: ranges[index]?.[1] ?? null })),
    remark: 'A quantile is the least value with at least that share at or below it; there it may be the neighbouring value.',
  };
}

const MAPPINGS: Readonly<Record<string, Mapping>> = {
  expect_column_to_exist: (kwargs) => ({ kind: 'columnsExist', columns: [kwargs.column] }),
  expect_table_columns_to_match_set: (kwargs) => ({
    kind: kwargs.values['exact_match'] === false ? 'columnsExist' : 'exactColumns',
    columns: kwargs.texts('column_set'),
  }),
  expect_table_columns_to_match_ordered_list: (kwargs) => ({
    rules: [{ kind: 'exactColumns', columns: kwargs.texts('column_list') }],
    remark: 'The order of the columns is not held.',
  }),
  expect_table_row_count_to_be_between: table('rowCount'),
  expect_table_row_count_to_equal: (kwargs) => ({ kind: 'rowCount', min: kwargs.needed('value'), max: kwargs.needed('value') }),
  expect_table_row_count_to_equal_other_table: cannot('It compares with another table by its name; say rowCount with a number.'),
  expect_table_column_count_to_be_between: table('columnCount'),
  expect_table_column_count_to_equal: (kwargs) => ({ kind: 'columnCount', min: kwargs.needed('value'), max: kwargs.needed('value') }),
  expect_column_values_to_not_be_null: (kwargs) => ({ kind: 'notNull', column: kwargs.column, ...kwargs.mostly }),
  expect_column_values_to_be_null: (kwargs) => ({ kind: 'isNull', column: kwargs.column, ...kwargs.mostly }),
  expect_column_proportion_of_non_null_values_to_be_between: (kwargs) => {
    const { min, max } = kwargs.range();
    if (max !== null && max < 1) throw new NotSaid('A greatest share of values that are there cannot be said.');
    return { kind: 'nullFractionAtMost', column: kwargs.column, fraction: 1 - (min ?? 0) };
  },
  expect_column_values_to_be_unique: (kwargs) => ({ kind: 'unique', column: kwargs.column, ...kwargs.mostly }),
  expect_compound_columns_to_be_unique: compoundUnique,
  expect_multicolumn_values_to_be_unique: uniqueWithinRecord,
  expect_select_column_values_to_be_unique_within_record: uniqueWithinRecord,
  expect_column_values_to_be_in_set: (kwargs) => ({ kind: 'inSet', column: kwargs.column, values: kwargs.scalars('value_set'), ...kwargs.mostly }),
  expect_column_values_to_not_be_in_set: (kwargs) => ({ kind: 'notInSet', column: kwargs.column, values: kwargs.scalars('value_set'), ...kwargs.mostly }),
  expect_column_values_to_be_between: valuesBetween,
  expect_column_value_lengths_to_be_between: (kwargs) => ({ kind: 'lengthBetween', column: kwargs.column, ...kwargs.range(), ...kwargs.mostly }),
  expect_column_value_lengths_to_equal: (kwargs) => ({
    kind: 'lengthBetween',
    column: kwargs.column,
    min: kwargs.needed('value'),
    max: kwargs.needed('value'),
    ...kwargs.mostly,
  }),
  expect_column_values_to_match_regex: (kwargs) => ({ kind: 'matches', column: kwargs.column, pattern: pattern(kwargs.text('regex')), ...kwargs.mostly }),
  expect_column_values_to_not_match_regex: (kwargs) => ({
    kind: 'notMatches',
    column: kwargs.column,
    pattern: pattern(kwargs.text('regex')),
    ...kwargs.mostly,
  }),
  expect_column_values_to_match_regex_list: regexList(false, pattern, 'regex_list'),
  expect_column_values_to_not_match_regex_list: regexList(true, pattern, 'regex_list'),
  expect_column_values_to_match_like_pattern: (kwargs) => ({
    kind: 'matches',
    column: kwargs.column,
    pattern: likePattern(kwargs.text('like_pattern')),
    ...kwargs.mostly,
  }),
  expect_column_values_to_not_match_like_pattern: (kwargs) => ({
    kind: 'notMatches',
    column: kwargs.column,
    pattern: likePattern(kwargs.text('like_pattern')),
    ...kwargs.mostly,
  }),
  expect_column_values_to_match_like_pattern_list: regexList(false, likePattern, 'like_pattern_list'),
  expect_column_values_to_not_match_like_pattern_list: regexList(true, likePattern, 'like_pattern_list'),
  expect_column_values_to_match_strftime_format: (kwargs) => ({
    kind: 'dateFormat',
    column: kwargs.column,
    formats: [kwargs.text('strftime_format')],
    ...kwargs.mostly,
  }),
  expect_column_values_to_be_dateutil_parseable: cannot("dateutil guesses at formats; name them with dateFormat('%Y-%m-%d', …)."),
  expect_column_values_to_be_json_parseable: (kwargs) => ({ kind: 'json', column: kwargs.column, ...kwargs.mostly }),
  expect_column_values_to_match_json_schema: cannot('JSON schemas are not checked; customFunction can.'),
  expect_column_values_to_be_increasing: (kwargs) => ({
    kind: 'increasing',
    column: kwargs.column,
    strictly: kwargs.values['strictly'] === true,
    ...kwargs.mostly,
  }),
  expect_column_values_to_be_decreasing: (kwargs) => ({
    kind: 'decreasing',
    column: kwargs.column,
    strictly: kwargs.values['strictly'] === true,
    ...kwargs.mostly,
  }),
  expect_column_values_to_be_of_type: (kwargs) => ({ kind: 'type', column: kwargs.column, type: ourTypes([kwargs.text('type_')]) }),
  expect_column_values_to_be_in_type_list: (kwargs) => ({ kind: 'type', column: kwargs.column, type: ourTypes(kwargs.texts('type_list')) }),
  expect_column_min_to_be_between: extreme('minBetween', 'from'),
  expect_column_max_to_be_between: extreme('maxBetween', 'to'),
  expect_column_mean_to_be_between: bounds('meanBetween'),
  expect_column_sum_to_be_between: bounds('sumBetween'),
  expect_column_stdev_to_be_between: bounds('standardDeviationBetween'),
  expect_column_median_to_be_between: (kwargs) => ({
    rules: [{ kind: 'quantileBetween', column: kwargs.column, q: 0.5, ...kwargs.range() }],
    remark: 'Of an even number of values the median is the lower of the two in the middle; there it is their mean.',
  }),
  expect_column_quantile_values_to_be_between: quantiles,
  expect_column_unique_value_count_to_be_between: bounds('distinctBetween'),
  expect_column_proportion_of_unique_values_to_be_between: bounds('distinctFractionBetween'),
  expect_column_distinct_values_to_be_in_set: (kwargs) => ({ kind: 'inSet', column: kwargs.column, values: kwargs.scalars('value_set') }),
  expect_column_distinct_values_to_contain_set: (kwargs) => ({ kind: 'distinctInclude', column: kwargs.column, values: kwargs.scalars('value_set') }),
  expect_column_distinct_values_to_equal_set: (kwargs) => {
    const [column, values] = [kwargs.column, kwargs.scalars('value_set')];
    return {
      rules: [
        { kind: 'inSet', column, values },
        { kind: 'distinctInclude', column, values },
      ],
    };
  },
  expect_column_most_common_value_to_be_in_set: (kwargs) => ({
    rules: [{ kind: 'mostCommonIn', column: kwargs.column, values: kwargs.scalars('value_set') }],
    remark: 'Where several values are equally common, each of them has to be in the set.',
  }),
  expect_column_value_z_scores_to_be_less_than: (kwargs) => {
    if (kwargs.values['double_sided'] !== true) throw new NotSaid('Deviations to one side only cannot be said; zScoreAtMost looks at both.');
    return { kind: 'zScoreAtMost', column: kwargs.column, deviations: kwargs.needed('threshold'), ...kwargs.mostly };
  },
  expect_column_pair_values_a_to_be_greater_than_b: pair((kwargs) => (kwargs.values['or_equal'] === true ? '>=' : '>')),
  expect_column_pair_values_to_be_equal: pair(() => '='),
  expect_column_pair_values_to_be_in_set: (kwargs) => {
    const [left, right] = [kwargs.text('column_A'), kwargs.text('column_B')];
    const scalar = z.union([z.string(), z.number(), z.boolean()]);
    const parsed = z
      .array(z.tuple([scalar, scalar]))
      .min(1)
      .safeParse(kwargs.values['value_pairs_set']);
    if (!parsed.success) throw new NotSaid('value_pairs_set is not a list of pairs of texts, numbers or booleans.');
    const pairs = parsed.data.map(([a, b]) => `(${quoted(left)} = ${literal(a)} AND ${quoted(right)} = ${literal(b)})`).join(' OR ');
    const ignored = kwargs.has('ignore_row_if') ? kwargs.text('ignore_row_if') : 'both_values_are_missing';
    return { kind: 'customSql', name: `${left} and ${right} are one of the pairs`, sql: withMissing(pairs, [left, right], ignored), ...kwargs.mostly };
  },
  expect_multicolumn_sum_to_equal: (kwargs) => {
    const { columns, ignored } = columnList(kwargs);
    const total = kwargs.needed('sum_total');
    const sql = withMissing(`${columns.map(quoted).join(' + ')} = ${total}`, columns, ignored);
    return { kind: 'customSql', name: `${columns.join(' + ')} = ${total}`, sql, ...kwargs.mostly };
  },
  expect_column_kl_divergence_to_be_less_than: cannot('It compares with a partition of its own; psiAtMost compares with another dataset.'),
  expect_column_chisquare_test_p_value_to_be_greater_than: cannot('It compares with a partition of its own; chiSquare compares with another dataset.'),
  expect_column_bootstrapped_ks_test_p_value_to_be_greater_than: cannot(
    'It compares with a partition of its own; kolmogorovSmirnov compares with another dataset.',
  ),
  expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than: cannot(
    'It compares with a distribution of SciPy; kolmogorovSmirnov compares with another dataset.',
  ),
  expect_column_pair_cramers_phi_value_to_be_less_than: cannot('The association of two columns is not checked.'),
  unexpected_rows_expectation: cannot('It is a whole query; customSql takes a condition over the columns of a row.'),
  expect_query_results_to_match_comparison: cannot('It compares two queries of databases.'),
};

/** Keywords that change what an expectation is about; there is no counterpart of any. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  row_condition: 'It is about a part of the rows (row_condition); say it as customSql, such as `other <> 1 OR this > 0`.',
  filter_nan: 'It leaves out NaN (filter_nan), which has no counterpart.',
};

/**
 * A suite of Great Expectations as expectations of this library, with what could not be taken over.
 *
 * @param suite The suite's JSON, parsed: as 0.x or 1.x of Great Expectations write it. `mostly` stays; severity `critical` becomes `fail`,
 * `warning` and `info` become `warn`.
 * @throws MillraceError INVALID_REQUEST when it is not such a suite.
 * @example importGreatExpectations(suite).notImported.map(({ type, reason }) => `${type}: ${reason}`)
 */
export function importGreatExpectations(suite: unknown): ImportedSuite {
  const parsed = SuiteSchema.safeParse(suite);
  if (!parsed.success)
    throw new MillraceError('INVALID_REQUEST', 'This is not a suite of Great Expectations: it has no list `expectations` of objects with `type` and `kwargs`.');
  const rules: Rule[] = [];
  const from: number[] = [];
  const notImported: ImportedSuite['notImported'][number][] = [];
  const remarks: ImportedSuite['remarks'][number][] = [];
  for (const [index, entry] of parsed.data.expectations.entries()) {
    const type = entry.type ?? entry.expectation_type ?? 'an expectation without a type';
    const column = typeof entry.kwargs['column'] === 'string' ? entry.kwargs['column'] : null;
    const mapped = mapEntry(type, new Kwargs(entry.kwargs));
    if (typeof mapped === 'string') {
      notImported.push({ index, type, column, reason: mapped });
      continue;
    }
    const severity = entry.severity === 'warning' || entry.severity === 'info' ? { severity: 'warn' } : {};
    const accepted = ExpectationsSchema.safeParse({ format: 'millrace-expectations/1', expectations: mapped.rules.map((rule) => ({ ...rule, ...severity })) });
    if (!accepted.success) {
      notImported.push({ index, type, column, reason: accepted.error.issues.map(({ path, message }) => `${path.slice(2).join('.')}: ${message}`).join('; ') });
      continue;
    }
    rules.push(...accepted.data.expectations);
    from.push(...accepted.data.expectations.map(() => index));
    if (mapped.remark !== undefined) remarks.push({ index, type, column, remark: mapped.remark });
  }
  return { expectations: ExpectationsSchema.parse({ format: 'millrace-expectations/1', expectations: rules }), notImported, remarks, from };
}

function mapEntry(type: string, kwargs: Kwargs): Mapped | string {
  const mapping = Object.hasOwn(MAPPINGS, type) ? MAPPINGS[type] : undefined;
  if (mapping === undefined) return 'This expectation is not known here.';
  const elsewhere = Object.entries(ELSEWHERE).find(([name]) => kwargs.has(name));
  if (elsewhere !== undefined) return elsewhere[1];
  const parameter = Object.entries(kwargs.values).find(([, value]) => typeof value === 'object' && value !== null && '$PARAMETER' in value);
  if (parameter !== undefined) return `${parameter[0]} is a parameter that is given at run time ($PARAMETER); write the figure.`;
  try {
    const mapped = mapping(kwargs);
    return typeof mapped === 'string' || 'rules' in mapped ? (mapped as Mapped | string) : { rules: [mapped] };
  } catch (error) {
    if (error instanceof NotSaid) return error.message;
    throw error;
  }
}
