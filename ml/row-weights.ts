import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { featureColumns, type Features } from '../contracts/features.ts';

/**
 * The rows' weights from a column: how much each counts in what is learnt, relative to the others.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE; INVALID_PARAMETERS where a weight is missing or below 0, none is above 0, or
 * the column is a feature too
 */
export function rowWeights(table: RawTable, name: string, features: Features): Float64Array {
  const column = table.columns.get(name);
  if (column === undefined) {
    throw new MillraceError('COLUMN_MISSING', `The column of weights ${name} is not in the data.`, {
      problems: [{ path: 'weight', column: name, message: 'the column is not in the data', fix: `use one of ${[...table.columns.keys()].join(', ')}` }],
    });
  }
  if (column.kind !== 'number') {
    throw new MillraceError('COLUMN_TYPE', `The column ${name} holds no weights: weights are numbers.`, {
      problems: [{ path: 'weight', column: name, message: 'weights are numbers', found: column.kind }],
    });
  }
  const refuse = (message: string, fix: string): MillraceError =>
    new MillraceError('INVALID_PARAMETERS', `The column ${name} cannot be the rows' weights: ${message}.`, {
      problems: [{ path: 'weight', column: name, message, fix }],
    });
  if (featureColumns(features).includes(name)) throw refuse('it is a feature', 'leave it out of the features: a request has no weight');
  const weights = Float64Array.from(column.values);
  const bad = weights.reduce((count, weight) => count + (weight >= 0 && weight < Number.POSITIVE_INFINITY ? 0 : 1), 0);
  if (bad > 0) throw refuse(`${bad.toLocaleString('en')} rows have no weight of at least 0`, 'fill or correct them');
  if (!weights.some((weight) => weight > 0)) throw refuse('every row has the weight 0', 'give at least one row a weight above 0');
  return weights;
}
