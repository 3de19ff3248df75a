import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';

/**
 * For each row a number that is the same for all rows of its group.
 * @throws COLUMN_MISSING; TARGET_INVALID where rows have none
 */
export function groupNumbers(table: RawTable, group: string, what: string): Int32Array {
  const column = table.columns.get(group);
  if (column === undefined) {
    throw new MillraceError('COLUMN_MISSING', `The column ${group} of the groups is not in the data.`, {
      problems: [{ path: 'group', column: group, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` }],
    });
  }
  const numberOf = new Map<number, number>();
  const numbers =
    column.kind === 'string'
      ? column.codes
      : Int32Array.from(column.values, (value) => {
          if (Number.isNaN(value)) return -1;
          const known = numberOf.get(value) ?? numberOf.size;
          numberOf.set(value, known);
          return known;
        });
  const missing = numbers.reduce((count, number) => count + (number < 0 ? 1 : 0), 0);
  if (missing > 0) {
    throw new MillraceError('TARGET_INVALID', `${missing} ${what} rows belong to no group.`, {
      problems: [{ path: 'group', column: group, message: 'has no value', found: `${missing} of ${numbers.length} rows`, fix: 'drop those rows' }],
    });
  }
  return numbers;
}
