/** Expectations as the TypeScript that a person would write with the builders. */
import type { ColumnType } from './columns.ts';
import type { Expectation, Expectations } from './expectations.ts';

export interface ExpectationsSource {
  /** What the constant is called. */
  readonly name: string;
  /** Lines of the comment at the top. */
  readonly comment: readonly string[];
  /** Columns and their types, for `typedExpectations`; left out: `expectations`. */
  readonly columns?: Readonly<Record<string, ColumnType>>;
}

const LINE_CHARACTERS = 120;

const quoted = (text: string): string =>
  `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'").replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')}'`;
const key = (name: string): string => (/^[A-Za-z_$][\w$]*$/.test(name) && name !== '__proto__' ? name : name === '__proto__' ? "['__proto__']" : quoted(name));

function value(of: unknown): string {
  if (typeof of === 'string') return quoted(of);
  if (Array.isArray(of)) return `[${of.map(value).join(', ')}]`;
  if (typeof of === 'object' && of !== null)
    return `{ ${Object.entries(of)
      .map(([name, inner]) => `${key(name)}: ${value(inner)}`)
      .join(', ')} }`;
  return Object.is(of, -0) ? '-0' : String(of);
}

/** A builder's name and its arguments; what has its default is left out at the end. */
function call(expectation: Expectation): { readonly builder: string; readonly args: readonly unknown[] } {
  const options: Record<string, unknown> = {};
  if (expectation.severity === 'warn') options['severity'] = 'warn';
  if ('mostly' in expectation && expectation.mostly !== 1) options['mostly'] = expectation.mostly;
  const written = (builder: string, ...args: readonly unknown[]): { builder: string; args: readonly unknown[] } => ({
    builder,
    args: Object.keys(options).length === 0 ? args : [...args, options],
  });
  const range = (of: { readonly min: number | null; readonly max: number | null }): Record<string, number> => ({
    ...(of.min === null ? {} : { min: of.min }),
    ...(of.max === null ? {} : { max: of.max }),
  });
  switch (expectation.kind) {
    case 'notNull':
    case 'isNull':
    case 'unique':
      return written(expectation.kind);
    case 'json':
      return written('isJson');
    case 'inSet':
    case 'notInSet':
    case 'distinctInclude':
    case 'mostCommonIn':
      return written(expectation.kind, expectation.values);
    case 'between':
    case 'lengthBetween':
    case 'minBetween':
    case 'maxBetween':
    case 'meanBetween':
    case 'sumBetween':
    case 'standardDeviationBetween':
    case 'distinctBetween':
    case 'distinctFractionBetween':
      return written(expectation.kind, expectation.min, expectation.max);
    case 'quantileBetween':
      return written(expectation.kind, expectation.q, expectation.min, expectation.max);
    case 'dateBetween':
      return written(expectation.kind, expectation.from, expectation.to);
    case 'matches':
    case 'notMatches':
      return written(expectation.kind, expectation.pattern);
    case 'dateFormat':
      return written(expectation.kind, expectation.formats);
    case 'zScoreAtMost':
      return written(expectation.kind, expectation.deviations);
    case 'increasing':
    case 'decreasing':
      if (expectation.strictly) options['strictly'] = true;
      return written(expectation.kind);
    case 'foreignKey':
      return written(expectation.kind, { dataset: expectation.dataset, column: expectation.key });
    case 'customFunction':
      if (Object.keys(expectation.parameters).length > 0) options['parameters'] = expectation.parameters;
      return written(expectation.kind, expectation.step);
    case 'type':
      return written('hasType', expectation.type);
    case 'nullFractionAtMost':
      return written(expectation.kind, expectation.fraction);
    case 'psiAtMost':
      return written(expectation.kind, expectation.reference, expectation.psi);
    case 'kolmogorovSmirnov':
      return written(expectation.kind, expectation.reference, {
        ...(expectation.statisticAtMost === null ? {} : { statisticAtMost: expectation.statisticAtMost }),
        ...(expectation.pValueAtLeast === null ? {} : { pValueAtLeast: expectation.pValueAtLeast }),
      });
    case 'chiSquare':
      return written(expectation.kind, expectation.reference, expectation.pValueAtLeast);
    case 'freshness':
      return written(expectation.kind, { hours: expectation.maxAgeHours });
    case 'columnsExist':
    case 'exactColumns':
    case 'uniqueTogether':
      return written(expectation.kind, expectation.columns);
    case 'rowCount':
    case 'columnCount':
      return written(expectation.kind, range(expectation));
    case 'sumEquals':
      if (expectation.within !== 1e-9) options['within'] = expectation.within;
      return written(expectation.kind, expectation.columns, expectation.total);
    case 'compareColumns':
      return written(expectation.kind, expectation.left, expectation.is, expectation.right);
    case 'customSql':
      return written(expectation.kind, expectation.name, expectation.sql);
  }
}

function listed(name: string, expectations: readonly Expectation[], indent: string): string {
  const calls = expectations.map((expectation) => {
    const { builder, args } = call(expectation);
    return `${builder}(${args.map(value).join(', ')})`;
  });
  const line = `${indent}${name}: [${calls.join(', ')}],`;
  return line.length <= LINE_CHARACTERS ? line : [`${indent}${name}: [`, ...calls.map((one) => `${indent}  ${one},`), `${indent}],`].join('\n');
}

/** A module of TypeScript that exports the expectations as a constant, grouped by column. It compiles against `millrace`. */
export function expectationsSource({ expectations }: Expectations, { name, comment, columns }: ExpectationsSource): string {
  const ofTable = expectations.filter((expectation) => !('column' in expectation));
  const byColumn = new Map<string, Expectation[]>();
  for (const expectation of expectations)
    if ('column' in expectation) byColumn.set(expectation.column, [...(byColumn.get(expectation.column) ?? []), expectation]);
  // A column that is called `table` stands in a list of its own, which the typed form does not have.
  const typed = columns !== undefined && !byColumn.has('table') && !Object.hasOwn(columns, 'table');
  const clashing = byColumn.get('table');
  byColumn.delete('table');
  const maker = typed ? 'typedExpectations' : 'expectations';
  const builders = [...new Set(expectations.map((expectation) => call(expectation).builder))].sort();
  const lists = [...(ofTable.length === 0 ? [] : [listed('table', ofTable, '  ')]), ...[...byColumn].map(([column, list]) => listed(key(column), list, '  '))];
  const body = lists.length === 0 ? '{}' : `{\n${lists.join('\n')}\n}`;
  const tail = clashing === undefined ? '' : `, {\n${listed('table', clashing, '  ')}\n}`;
  const head = typed
    ? `typedExpectations({\n${Object.entries(columns)
        .map(([column, type]) => `  ${key(column)}: '${type}',`)
        .join('\n')}\n})`
    : 'expectations';
  const imports = `import { ${[...builders, maker].sort().join(', ')} } from 'millrace';`;
  const wrapped =
    imports.length <= LINE_CHARACTERS
      ? imports
      : `import {\n${[...builders, maker]
          .sort()
          .map((one) => `  ${one},`)
          .join('\n')}\n} from 'millrace';`;
  return `${comment.map((line) => `// ${line.replaceAll(/[\r\n\u2028\u2029]/g, ' ')}`.trimEnd()).join('\n')}\n${wrapped}\n\nexport const ${name} = ${head}(${body}${tail});\n`;
}

/** A name of a file or dataset as that of a constant: `flights-2001` → `flights2001Expectations`. */
export function constantName(of: string): string {
  const words = of.split(/[^A-Za-z0-9]+/).filter(Boolean);
  const joined = words.map((word, index) => (index === 0 ? word.charAt(0).toLowerCase() : word.charAt(0).toUpperCase()) + word.slice(1)).join('');
  return `${/^[A-Za-z]/.test(joined) ? joined : `of${joined}`}Expectations`;
}
