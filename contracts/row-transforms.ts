import { z } from 'zod';

/**
 * Row transforms: one syntax tree, applied by DuckDB when data is prepared and by the prediction server on requests.
 * A transform sees one row; what looks at many rows (de-duplicate, fill by majority) is not one of these.
 *
 * Semantics are SQL's: an operation on a null gives null; `and`, `or` are three-valued; a failed `toNumber` gives null.
 */
export const FUNCTIONS = [
  'add',
  'subtract',
  'multiply',
  'divide',
  'modulo',
  'abs',
  'floor',
  'ceil',
  'round',
  'ln',
  'exp',
  'sqrt',
  'least',
  'greatest',
  'equal',
  'notEqual',
  'less',
  'lessOrEqual',
  'greater',
  'greaterOrEqual',
  'isNull',
  'and',
  'or',
  'not',
  'if',
  'coalesce',
  'nullIf',
  'in',
  'lower',
  'upper',
  'trim',
  'length',
  'concat',
  'substring',
  'replace',
  'regexReplace',
  'contains',
  'startsWith',
  'endsWith',
  'normalizeUnicode',
  'toNumber',
  'toText',
  'toTimestamp',
  'year',
  'month',
  'day',
  'hour',
  'minute',
  'dayOfWeek',
  'dayOfYear',
] as const; // prettier-ignore
export type FunctionName = (typeof FUNCTIONS)[number];

export type Expression =
  | { readonly op: 'column'; readonly name: string }
  | { readonly op: 'literal'; readonly value: number | string | boolean | null }
  | { readonly op: 'call'; readonly fn: FunctionName; readonly args: readonly Expression[] }
  /** Keyed hash (HMAC-like, SHA-256, hex) of the text of `value`; null stays null. The key never stands in the tree. */
  | { readonly op: 'hash'; readonly value: Expression };

export const ExpressionSchema: z.ZodType<Expression> = z.lazy(() =>
  z.discriminatedUnion('op', [
    z.object({ op: z.literal('column'), name: z.string().min(1) }),
    z.object({ op: z.literal('literal'), value: z.union([z.number(), z.string(), z.boolean(), z.null()]) }),
    z.object({ op: z.literal('call'), fn: z.enum(FUNCTIONS), args: z.array(ExpressionSchema).max(1000) }),
    z.object({ op: z.literal('hash'), value: ExpressionSchema }),
  ]),
);

export type RowTransform =
  /** Adds the column, or replaces it. */
  | { readonly kind: 'set'; readonly column: string; readonly to: Expression }
  | { readonly kind: 'drop'; readonly columns: readonly string[] }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  /** Keeps rows where the condition is true. For training only: a request's row is never dropped. */
  | { readonly kind: 'keep'; readonly where: Expression };

export const RowTransformSchema: z.ZodType<RowTransform> = z.lazy(() =>
  z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('set'), column: z.string().min(1), to: ExpressionSchema }),
    z.object({ kind: z.literal('drop'), columns: z.array(z.string().min(1)).min(1) }),
    z.object({ kind: z.literal('rename'), from: z.string().min(1), to: z.string().min(1) }),
    z.object({ kind: z.literal('keep'), where: ExpressionSchema }),
  ]),
);

/** Builders, as pipeline authors write them: `set('delayed', call('greater', col('delay'), 15))`. */
type Operand = Expression | number | string | boolean | null;
const operand = (value: Operand): Expression => (value !== null && typeof value === 'object' ? value : { op: 'literal', value });

export const col = (name: string): Expression => ({ op: 'column', name });
export const call = (fn: FunctionName, ...args: readonly Operand[]): Expression => ({ op: 'call', fn, args: args.map(operand) });
export const hashed = (value: Operand): Expression => ({ op: 'hash', value: operand(value) });
export const set = (column: string, to: Operand): RowTransform => ({ kind: 'set', column, to: operand(to) });
export const drop = (...columns: readonly string[]): RowTransform => ({ kind: 'drop', columns });
export const rename = (from: string, to: string): RowTransform => ({ kind: 'rename', from, to });
export const keep = (where: Expression): RowTransform => ({ kind: 'keep', where });
