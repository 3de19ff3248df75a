import type { Column } from '../contracts/columns.ts';
import type { Expectation } from '../contracts/expectations.ts';

/** The columns that an expectation needs. */
export function columnsOf(expectation: Expectation): readonly string[] {
  if ('column' in expectation) return [expectation.column];
  switch (expectation.kind) {
    case 'uniqueTogether':
      return expectation.columns;
    case 'sumEquals':
      return [...expectation.columns, expectation.total];
    case 'compareColumns':
      return [expectation.left, expectation.right];
    default:
      return [];
  }
}

const NUMERIC: readonly Column['type'][] = ['number', 'integer', 'boolean'];
const TIMED: readonly Column['type'][] = ['timestamp', 'date'];

/** Why a column's type does not go with an expectation. */
export function wrongType(expectation: Expectation, columns: readonly Column[]): string | undefined {
  const typeOf = (name: string): Column['type'] | undefined => columns.find((column) => column.name === name)?.type;
  const needs = (name: string, types: readonly Column['type'][]): string | undefined => {
    const found = typeOf(name);
    return found === undefined || types.includes(found)
      ? undefined
      : `${expectation.kind} is for columns of type ${types.join(', ')}; ${name} is of type ${found}.`;
  };
  switch (expectation.kind) {
    case 'between':
    case 'zScoreAtMost':
    case 'minBetween':
    case 'maxBetween':
    case 'meanBetween':
    case 'sumBetween':
    case 'standardDeviationBetween':
    case 'quantileBetween':
      return needs(expectation.column, ['number', 'integer']);
    case 'dateBetween':
    case 'freshness':
      return needs(expectation.column, TIMED);
    case 'kolmogorovSmirnov':
      return needs(expectation.column, ['number', 'integer', ...TIMED]);
    case 'lengthBetween':
    case 'matches':
    case 'notMatches':
    case 'dateFormat':
    case 'json':
      return needs(expectation.column, ['string']);
    case 'sumEquals':
      return [...expectation.columns, expectation.total].map((name) => needs(name, ['number', 'integer'])).find((problem) => problem !== undefined);
    case 'inSet':
    case 'notInSet':
    case 'distinctInclude':
    case 'mostCommonIn': {
      const kind = typeof expectation.values[0];
      if (expectation.values.some((value) => typeof value !== kind)) return `The values of ${expectation.kind} have to be of one type.`;
      return kind === 'boolean'
        ? needs(expectation.column, ['boolean'])
        : kind === 'number'
          ? needs(expectation.column, ['number', 'integer'])
          : needs(expectation.column, ['string', ...TIMED]);
    }
    case 'compareColumns': {
      const [left, right] = [typeOf(expectation.left), typeOf(expectation.right)];
      const family = (found: Column['type'] | undefined): string =>
        found === undefined || found === 'string' ? 'text' : TIMED.includes(found) ? 'time' : NUMERIC.includes(found) ? 'number' : 'text';
      return family(left) === family(right)
        ? undefined
        : `${expectation.left} is of type ${left ?? ''} and ${expectation.right} of type ${right ?? ''}: they cannot be compared.`;
    }
    default:
      return undefined;
  }
}
