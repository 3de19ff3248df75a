import type { ColumnType, RawColumn } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { LearningTask } from './trainer.ts';

export type TaskKind = 'auto' | 'binary' | 'multiclass' | 'regression';

/** The target of training rows as numbers: class indices, or values. */
export interface EncodedTarget {
  readonly task: LearningTask;
  readonly y: Float64Array;
  /** Text of each class in the order of its index; undefined for regression. */
  readonly classes?: readonly string[];
}

/** A number column with at most so many different whole numbers is taken as classes. */
const MOST_NUMBER_CLASSES = 20;
const MOST_CLASSES = 1_000;
const NUMBER = /^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$/;

export interface TargetOptions {
  /** Name of the column, for messages. */
  readonly name: string;
  /** Default auto: texts, booleans, and few whole numbers are classes; other numbers are a regression. */
  readonly kind?: TaskKind;
  /** `boolean` gives the classes `false` and `true` in place of 0 and 1. */
  readonly type?: ColumnType;
}

/**
 * Classes are sorted: numbers by value, texts by code unit; for binary the second one is the positive class.
 * @throws TARGET_INVALID with counts (missing or infinite values, a timestamp, texts to regress on, texts among numbers, other than two
 * classes for binary, more than 1,000 classes), TARGET_ONE_CLASS.
 */
export function encodeTarget(column: RawColumn, options: TargetOptions): EncodedTarget {
  const { name, kind = 'auto', type } = options;
  const invalid = (message: string, found?: string, fix?: string): MillraceError => {
    const problem: Problem = { path: name, column: name, message, ...(found === undefined ? {} : { found }), ...(fix === undefined ? {} : { fix }) };
    return new MillraceError('TARGET_INVALID', `The target ${name} cannot be learnt: ${message}.`, { problems: [problem] });
  };
  if (column.kind === 'timestamp') throw invalid('it is a timestamp', undefined, 'make a number or a category of it with a row transform');
  const missing = column.kind === 'string' ? count(column.codes, (code) => code < 0) : count(column.values, Number.isNaN);
  if (missing > 0)
    throw invalid(`${missing} rows have no value`, undefined, `drop those rows with a clean rule such as keep(call('not', call('isNull', col('${name}'))))`);
  if (column.kind === 'string') {
    if (kind === 'regression') throw invalid('a regression needs numbers, and these are texts');
    const used = new Set(column.codes);
    const classes = [...new Set([...used].map((code) => column.dictionary[code] ?? ''))].sort(byCodeUnit);
    const texts = classes.filter((text) => !NUMBER.test(text));
    if (kind === 'auto' && texts.length > 0 && texts.length < classes.length) {
      const rows = count(column.codes, (code) => !NUMBER.test(column.dictionary[code] ?? ''));
      throw invalid(
        'some of its values are numbers and some are texts',
        `${rows} of ${column.codes.length} rows are no numbers: ${texts.slice(0, 5).join(', ')}`,
        "make numbers of it with the row transform toNumber and drop the rest, or say task: 'multiclass' (or 'binary') if these are classes",
      );
    }
    return classification(classes, column, kind, invalid);
  }
  const infinite = count(column.values, (value) => !Number.isFinite(value));
  if (infinite > 0) throw invalid(`${infinite} rows have an infinite value`);
  const distinct = distinctNumbers(column.values, kind === 'auto' ? MOST_NUMBER_CLASSES : MOST_CLASSES);
  const isClasses = distinct !== undefined && distinct.every(Number.isInteger);
  if (kind === 'regression' || (kind === 'auto' && type !== 'boolean' && !isClasses)) return { task: { kind: 'regression' }, y: column.values };
  if (distinct === undefined) throw invalid(`it has more than ${MOST_CLASSES} different values`, undefined, 'use a regression');
  return classification(
    distinct.map((value) => classText(value, type)),
    column,
    kind,
    invalid,
    type,
  );
}

function classification(
  classes: readonly string[],
  column: RawColumn,
  kind: TaskKind,
  invalid: (message: string, found?: string, fix?: string) => MillraceError,
  type?: ColumnType,
): EncodedTarget {
  if (classes.length < 2) throw new MillraceError('TARGET_ONE_CLASS', `All rows of the target are ${classes[0] ?? 'missing'}.`);
  if (classes.length > MOST_CLASSES) throw invalid(`it has ${classes.length} classes, and at most ${MOST_CLASSES} can be learnt`);
  if (kind === 'binary' && classes.length !== 2) throw invalid('a binary target has two classes', `${classes.length}: ${classes.slice(0, 10).join(', ')}`);
  const task: LearningTask = classes.length === 2 && kind !== 'multiclass' ? { kind: 'binary' } : { kind: 'multiclass', classes: classes.length };
  return { task, classes, y: encodeLike(column, classes, type) };
}

/** The rows' class indices by the classes of training; NaN for a missing value and for a class that training never saw. */
export function encodeLike(column: RawColumn, classes: readonly string[] | undefined, type?: ColumnType): Float64Array {
  if (column.kind !== 'string') {
    if (classes === undefined) return column.values;
    const indexOf = new Map(classes.map((text, index) => [text, index]));
    return column.values.map((value) => indexOf.get(classText(value, type)) ?? Number.NaN);
  }
  const indexOf = new Map((classes ?? []).map((text, index) => [text, index]));
  const indices = column.dictionary.map((text) => indexOf.get(text) ?? Number.NaN);
  return Float64Array.from(column.codes, (code) => indices[code] ?? Number.NaN);
}

const classText = (value: number, type: ColumnType | undefined): string => (type === 'boolean' ? (value === 0 ? 'false' : 'true') : String(value));
const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function count(values: Float64Array | Int32Array, matches: (value: number) => boolean): number {
  let found = 0;
  for (const value of values) if (matches(value)) found++;
  return found;
}

/** The different values in ascending order, or undefined when there are more than `most`. */
function distinctNumbers(values: Float64Array, most: number): number[] | undefined {
  const seen = new Set<number>();
  for (const value of values) {
    seen.add(value === 0 ? 0 : value);
    if (seen.size > most) return undefined;
  }
  return [...seen].sort((a, b) => a - b);
}
