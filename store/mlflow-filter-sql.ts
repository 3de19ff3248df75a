import type { FilterOperator } from '../contracts/mlflow-filter.ts';

/** The parameters of a statement that is put together: what is added stands in it as $1, $2 … */
export interface SqlParameters {
  readonly values: readonly unknown[];
  readonly add: (value: unknown) => string;
}

export function sqlParameters(): SqlParameters {
  const values: unknown[] = [];
  return { values, add: (value) => `$${values.push(value)}` };
}

/** A comparison of a column (an expression of our own, never of a client) with a value of a filter, which becomes a parameter. */
export function comparison(column: string, operator: FilterOperator, value: unknown, parameters: SqlParameters): string {
  switch (operator) {
    case 'IS NULL':
    case 'IS NOT NULL':
      return `${column} ${operator}`;
    case 'IN':
      return `${column} = any(${parameters.add(value)}::text[])`;
    case 'NOT IN':
      return `${column} <> all(${parameters.add(value)}::text[])`;
    case 'LIKE':
    case 'ILIKE':
      // Without an escape character every pattern is a valid one.
      return `${column} ${operator} ${parameters.add(value)} escape ''`;
    default:
      return `${column} ${operator === '!=' ? '<>' : operator} ${parameters.add(value)}${typeof value === 'number' ? '::double precision' : ''}`;
  }
}
