import type { Expression, RowTransform } from '../contracts/row-transforms.ts';

/** Names of the columns that an expression reads. */
export function columnsRead(expression: Expression): readonly string[] {
  if (expression.op === 'column') return [expression.name];
  if (expression.op === 'call') return expression.args.flatMap(columnsRead);
  return expression.op === 'hash' ? columnsRead(expression.value) : [];
}

/**
 * Which columns are unserved after row transforms: what is made from an unserved column is so too, and what is made anew from
 * served ones no longer is.
 */
export function unservedAfter(unserved: Readonly<Record<string, string>>, transforms: readonly RowTransform[]): Record<string, string> {
  const now = new Map(Object.entries(unserved));
  for (const transform of transforms) {
    if (transform.kind === 'set') {
      const because = columnsRead(transform.to).flatMap((name) => now.get(name) ?? [])[0];
      if (because === undefined) now.delete(transform.column);
      else now.set(transform.column, because);
    } else if (transform.kind === 'drop') {
      for (const name of transform.columns) now.delete(name);
    } else if (transform.kind === 'rename') {
      const because = now.get(transform.from);
      now.delete(transform.from);
      if (because !== undefined) now.set(transform.to, because);
    }
  }
  return Object.fromEntries(now);
}
