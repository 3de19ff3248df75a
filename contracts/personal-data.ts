import { call, drop, type Expression, hashed, col, type RowTransform, set } from './row-transforms.ts';

/** What stands for every masked value, whatever it was: neither its characters nor its length can be told from it. */
export const MASK = '***';

export type PersonalDataRule = 'hash' | 'mask' | 'drop';

/** The mask of a value; null stays null, so that missing values can still be counted. */
const masked = (value: Expression): Expression => call('if', call('isNull', value), null, MASK);

/** The value that an expression masks; undefined where it is no mask. */
export function maskedValueOf(expression: Expression): Expression | undefined {
  if (expression.op !== 'call' || expression.fn !== 'if') return undefined;
  const [condition, missing, shown] = expression.args;
  if (condition?.op !== 'call' || condition.fn !== 'isNull') return undefined;
  const masks = missing?.op === 'literal' && missing.value === null && shown?.op === 'literal' && shown.value === MASK;
  return masks ? condition.args[0] : undefined;
}

/** What `pii` of an ingest does, as row transforms: they go in front of all others, for data and for requests. */
export function personalDataTransforms(pii: Readonly<Record<string, PersonalDataRule>>): readonly RowTransform[] {
  return Object.entries(pii).map(([column, rule]) =>
    rule === 'drop' ? drop(column) : set(column, rule === 'hash' ? hashed(col(column)) : masked(col(column))),
  );
}
