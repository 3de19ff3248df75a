/**
 * A start of expectations from what a profile says.
 *
 * Invariants:
 * 1. The data that the profile is of passes them: each follows from figures that are exact, or keeps a margin beyond the figure's error.
 * 2. No value of a sensitive column is in them.
 */
import { type Expectations, ExpectationsSchema } from './expectations.ts';
import type { ColumnProfile, Profile } from './profile.ts';

/** A text column with at most so many values, each of them seen often, is a set. */
const SET_VALUES = 30;
const ROWS_A_VALUE = 20;
/** Profiles cut values there. */
const WHOLE_CHARACTERS = 200;
/** How far a range goes beyond what was seen, as a share of what was seen. */
const MARGIN = 0.1;
const MISSING_MARGIN = 1.5;
/** The profile's count of different values is off by about 2 %, seldom by more than 6. */
const NEARLY_ALL = 0.93;
const DISTINCT_AT_LEAST = 0.8;
const MEAN_DEVIATIONS = 0.5;

type Rule = Readonly<Record<string, unknown>>;

/** Rounds away from the data, to a number that a person would write: two digits of the range's size. */
function outward(bound: number, span: number, side: 'down' | 'up', whole: boolean): number {
  const unit = span > 0 ? 10 ** (Math.floor(Math.log10(span)) - 1) : Math.abs(bound) > 0 ? 10 ** (Math.floor(Math.log10(Math.abs(bound))) - 1) : 1;
  const step = whole ? Math.max(1, unit) : unit;
  const rounded = Number(((side === 'down' ? Math.floor(bound / step) : Math.ceil(bound / step)) * step).toPrecision(12));
  // Steps that are finer than the digits of the bound change nothing: then the bound itself is held.
  return Number.isFinite(rounded) && (side === 'down' ? rounded <= bound : rounded >= bound) ? rounded : bound;
}

function numberRules(values: Extract<ColumnProfile['values'], { kind: 'number' }>, type: ColumnProfile['type']): readonly Rule[] {
  const { min, max, mean, standardDeviation } = values;
  if (min === null || max === null || type === 'boolean') return [];
  const span = max - min;
  if (!Number.isFinite(span)) return [];
  const whole = type === 'integer';
  // A column that was never negative is taken for one that cannot be.
  const lower = min >= 0 ? Math.max(0, outward(min - span * MARGIN, span, 'down', whole)) : outward(min - span * MARGIN, span, 'down', whole);
  const rules: Rule[] = [{ kind: 'between', min: lower, max: outward(max + span * MARGIN, span, 'up', whole) }];
  if (mean !== null && standardDeviation !== null && Number.isFinite(mean) && Number.isFinite(standardDeviation) && standardDeviation > 0) {
    const reach = standardDeviation * MEAN_DEVIATIONS;
    rules.push({ kind: 'meanBetween', min: outward(mean - reach, reach, 'down', false), max: outward(mean + reach, reach, 'up', false), severity: 'warn' });
  }
  return rules;
}

function textRules(values: Extract<ColumnProfile['values'], { kind: 'string' }>, present: number, shown: boolean): readonly Rule[] {
  const { top, lengthMin, lengthMax } = values;
  const counted = top.reduce((sum, { count }) => sum + count, 0);
  const isSet = top.length > 0 && top.length <= SET_VALUES && counted === present && present >= top.length * ROWS_A_VALUE;
  if (shown && isSet && top.every(({ value }) => value.length < WHOLE_CHARACTERS)) return [{ kind: 'inSet', values: top.map(({ value }) => value).sort() }];
  if (lengthMin === null || lengthMax === null) return [];
  if (lengthMin === lengthMax) return [{ kind: 'lengthBetween', min: lengthMin, max: lengthMax }];
  return [{ kind: 'lengthBetween', min: Math.min(lengthMin, 1), max: outward(lengthMax * (1 + MARGIN), lengthMax, 'up', true) }];
}

function columnRules(column: ColumnProfile, rows: number, shown: boolean): readonly Rule[] {
  const present = rows - column.nulls;
  if (present === 0) return [{ kind: 'isNull', severity: 'warn' }];
  const missing: Rule =
    column.nulls === 0
      ? { kind: 'notNull' }
      : { kind: 'nullFractionAtMost', fraction: Math.min(1, Math.ceil((column.nulls / rows) * MISSING_MARGIN * 100) / 100) };
  const different: readonly Rule[] =
    column.type !== 'number' && present >= ROWS_A_VALUE && column.distinct >= present * NEARLY_ALL
      ? [{ kind: 'distinctFractionBetween', min: DISTINCT_AT_LEAST, max: null }]
      : [];
  const { values } = column;
  const own: readonly Rule[] =
    !shown && values.kind !== 'string'
      ? []
      : values.kind === 'number'
        ? numberRules(values, column.type)
        : values.kind === 'string'
          ? textRules(values, present, shown)
          : values.min === null
            ? []
            : [{ kind: 'dateBetween', from: values.min.slice(0, 10), to: null }];
  return [missing, ...different, ...own];
}

/**
 * Expectations that the profiled data meets, to be read and sharpened by a person: what may be missing, ranges with a margin, sets of
 * few values, lengths, dates, how many values differ, and at least half as many rows.
 *
 * @param sensitive Columns of which no value and no bound is told.
 */
export function suggestExpectations(profile: Profile, { sensitive = new Set() }: { readonly sensitive?: ReadonlySet<string> } = {}): Expectations {
  const rules = [
    ...(profile.rows === 0 ? [] : [{ kind: 'rowCount', min: Math.max(1, Math.floor(profile.rows / 2)) }]),
    ...profile.columns.flatMap((column) => columnRules(column, profile.rows, !sensitive.has(column.name)).map((rule) => ({ ...rule, column: column.name }))),
  ];
  return ExpectationsSchema.parse({ format: 'millrace-expectations/1', expectations: rules });
}
