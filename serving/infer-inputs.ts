import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import type { WriteRow } from './batcher.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { InputTensor } from './tensors.ts';

/** The datatype under which a raw column is announced; others are taken where they can be read as one. */
export const COLUMN_DATATYPES = { number: 'FP64', integer: 'INT64', boolean: 'BOOL', string: 'BYTES', timestamp: 'BYTES', date: 'BYTES' } as const;

const GROUPS = ['numbers', 'dates', 'strings'] as const;
type Group = (typeof GROUPS)[number];
const isGroup = (name: string): name is Group => (GROUPS as readonly string[]).includes(name);

export interface InferRows {
  readonly rows: number;
  /** Whether it brought the graph's own inputs. */
  readonly packed: boolean;
  readonly write: WriteRow;
  /** A row's raw columns by name; undefined when the request brought packed inputs. */
  readonly valuesOf: (row: number) => Readonly<Record<string, unknown>> | undefined;
}

const invalid = (problems: readonly Problem[]): MillraceError => new MillraceError('INVALID_REQUEST', undefined, { problems });

/** The row count that all tensors must share. */
function countRows(inputs: readonly InputTensor[], problems: Problem[]): number {
  const [first] = inputs;
  const rows = first?.shape[0] ?? 0;
  for (const input of inputs) {
    if (input.shape[0] !== rows)
      problems.push({ path: `inputs.${input.name}`, message: `${rows} rows expected, as ${first?.name ?? ''} has`, found: String(input.shape[0]) });
  }
  return rows;
}

/** A tensor's element as a JSON body would bring it: a raw column takes numbers, texts, booleans and nulls. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  // A float tensor has no other way to say that a value is missing.
  return typeof value === 'number' && Number.isNaN(value) ? null : value;
}

function rawRows(inputs: readonly InputTensor[], predictor: LoadedPredictor): InferRows {
  const problems: Problem[] = [];
  const rows = countRows(inputs, problems);
  for (const { name, shape } of inputs) {
    if (shape.length > 2 || (shape.length === 2 && shape[1] !== 1))
      problems.push({ path: `inputs.${name}`, message: 'shape [N] or [N, 1] expected', found: `[${shape.join(', ')}]` });
  }
  if (problems.length > 0) throw invalid(problems);
  const valuesOf = (row: number): Record<string, unknown> => Object.fromEntries(inputs.map(({ name, values }) => [name, plain(values[row])]));
  return { rows, packed: false, valuesOf, write: (row, packed, at) => predictor.row.read(valuesOf(row), row, packed, at) };
}

const NULL_DATE = -(2n ** 63n);
const NULL_TEXT = '\u0000';

/** An element for a group of the graph; undefined when it does not fit. */
function packedValue(group: Group, value: unknown): number | bigint | string | undefined {
  if (group === 'numbers')
    return typeof value === 'number'
      ? value
      : typeof value === 'bigint' || typeof value === 'boolean'
        ? Number(value)
        : value === null
          ? Number.NaN
          : undefined;
  if (group === 'dates')
    return typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : value === null ? NULL_DATE : undefined;
  return typeof value === 'string' ? value : value === null ? NULL_TEXT : undefined;
}

const EXPECTED: Readonly<Record<Group, string>> = { numbers: 'a number', dates: 'whole milliseconds since 1970 UTC', strings: 'a text' };

function packedRows(inputs: readonly InputTensor[], signature: Signature): InferRows {
  const problems: Problem[] = [];
  const rows = countRows(inputs, problems);
  for (const group of GROUPS) {
    const columns = signature.graph[group].length;
    const input = inputs.find((i) => i.name === group);
    if (input === undefined) {
      if (columns > 0) problems.push({ path: `inputs.${group}`, message: `is missing: a tensor of shape [N, ${columns}]` });
    } else if (input.shape.length !== 2 || input.shape[1] !== columns) {
      problems.push({ path: `inputs.${group}`, message: `shape [N, ${columns}] expected`, found: `[${input.shape.join(', ')}]` });
    }
  }
  if (problems.length > 0) throw invalid(problems);
  return {
    rows,
    packed: true,
    valuesOf: () => undefined,
    write(row, packed, at) {
      const bad: Problem[] = [];
      for (const { name, values } of inputs) {
        if (!isGroup(name)) continue;
        const columns = signature.graph[name];
        for (let column = 0; column < columns.length; column += 1) {
          const value = packedValue(name, values[row * columns.length + column]);
          if (value === undefined) bad.push({ path: `inputs.${name}`, message: `${EXPECTED[name]} expected`, row, column: columns[column] ?? '' });
          else (packed[name] as (number | bigint | string)[])[at * columns.length + column] = value;
        }
      }
      return bad.length === 0 ? undefined : bad;
    },
  };
}

/**
 * Reads the tensors of a request as rows: one tensor a raw column, or the graph's own packed inputs (`numbers`, `dates`,
 * `strings`), which skip the row transforms.
 *
 * @throws MillraceError INVALID_REQUEST with each tensor that does not fit.
 */
export function readInferRows(inputs: readonly InputTensor[], predictor: LoadedPredictor): InferRows {
  const { signature } = predictor;
  const columns = new Set(signature.columns.map((column) => column.name));
  const twice = inputs.filter(({ name }, i) => inputs.findIndex((other) => other.name === name) !== i);
  if (twice.length > 0) throw invalid(twice.map(({ name }) => ({ path: `inputs.${name}`, message: 'is given twice' })));
  const packed = inputs.every(({ name }) => isGroup(name) && !columns.has(name));
  return packed ? packedRows(inputs, signature) : rawRows(inputs, predictor);
}
