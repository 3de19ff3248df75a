/**
 * The key of an entity in the online store: the same for a row of a snapshot and for a request that names the entity.
 *
 * Invariants:
 * 1. Two entities have the same key only when their values are equal as the point-in-time join has it: texts unit for
 *    unit, numbers by value, instants to the microsecond.
 * 2. A request's values go through the row transforms that the labels' went through: what is hashed, trimmed or renamed
 *    there is so here.
 */
import { createHash } from 'node:crypto';
import type { Column, ColumnType } from '../contracts/columns.ts';
import type { Problem } from '../contracts/errors.ts';
import type { FeatureLookup } from '../contracts/feature-lookup.ts';
import { coerceValue, expectedValue } from './request-row.ts';
import { compileRowProgram, type RowValue } from './row-transforms.ts';

/** Half of a SHA-256: no two of any number of entities that a table can hold share one. */
const KEY_DIGITS = 32;
const INTEGER = /^-?\d{1,19}$/;
const INT64 = { least: -(2n ** 63n), greatest: 2n ** 63n - 1n };

/** The key of an entity whose values were made text, each in the one way of its type. */
export function entityKey(texts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(texts)).digest('hex').slice(0, KEY_DIGITS);
}

/** SQL that gives a column of an entity as its text. Doubles are told apart by JavaScript's shortest form, so they stay numbers. */
export function entityTextSql(sql: string, type: ColumnType): string {
  if (type === 'timestamp' || type === 'date') return `CAST(epoch_us(CAST(${sql} AS TIMESTAMP)) AS VARCHAR)`;
  return type === 'string' || type === 'number' ? sql : `CAST(${sql} AS VARCHAR)`;
}

function textOf(type: ColumnType, value: string | number | boolean): string {
  if (type === 'timestamp' || type === 'date') return String(BigInt(value) * 1_000n);
  return String(value === 0 ? 0 : value);
}

/** The text of a value that `entityTextSql` gave. */
export const entityText = (value: unknown): string => (typeof value === 'number' ? textOf('number', value) : String(value));

export interface EntityReader {
  /** Key of the entity that a request's row names; null when one of its columns is. Gives problems for columns that are missing or do not fit. */
  read(row: Readonly<Record<string, unknown>>, index: number): { readonly key: string | null } | { readonly problems: readonly Problem[] };
}

/** Compiles a lookup into a reader of its entities. Undefined where requests cannot name them. */
export function createEntityReader({ view, entity, key }: Pick<FeatureLookup, 'view' | 'entity' | 'key'>, hashKey?: string): EntityReader | undefined {
  if (key === null) return undefined;
  const program = compileRowProgram(key.transforms, key.columns, hashKey);
  const slots = entity.map(({ name, type }) => ({ type, slot: program.columns.find((column) => column.name === name)?.slot ?? -1 }));
  const row = new Array<RowValue>(program.slotCount).fill(null);
  /** Integers beyond 2^53 come as text; they reach the key as they are, where no transform has to compute with them. */
  const wide = new Map<number, string>();
  return {
    read(values, index) {
      const problems: Problem[] = [];
      wide.clear();
      for (const [at, column] of key.columns.entries()) {
        const given = Object.hasOwn(values, column.name) ? values[column.name] : undefined;
        const integer = column.type === 'integer' ? integerText(given) : undefined;
        const value = integer === undefined ? coerceValue(column.type, given) : Number(integer);
        if (integer !== undefined && !Number.isSafeInteger(value)) {
          if (typeof given === 'number' || key.transforms.length > 0) problems.push(tooWide(view, index, column));
          wide.set(at, integer);
        }
        if (value === undefined) problems.push(problemOf(view, index, column, given));
        else row[at] = value;
      }
      if (problems.length > 0) return { problems };
      program.run(row);
      const texts: string[] = [];
      for (const { type, slot } of slots) {
        const value = row[slot];
        if (value === null || value === undefined) return { key: null };
        texts.push(wide.get(slot) ?? textOf(type, value));
      }
      return { key: entityKey(texts) };
    },
  };
}

/** An integer's own text, of a number or of decimal digits; undefined for anything else. */
function integerText(value: unknown): string | undefined {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value).toString() : undefined;
  if (typeof value !== 'string' || !INTEGER.test(value)) return undefined;
  const integer = BigInt(value);
  return integer < INT64.least || integer > INT64.greatest ? undefined : integer.toString();
}

function problemOf(view: string, row: number, { name, type }: Column, value: unknown): Problem {
  const place = { path: `rows[${String(row)}].${name}`, row, column: name };
  return value === undefined
    ? { ...place, message: `The column ${name} is missing: features of ${view} are looked up by it.`, fix: 'Send it, or send the features themselves.' }
    : { ...place, message: `${name} has to be ${expectedValue(type)}.`, found: typeof value };
}

const tooWide = (view: string, row: number, { name }: Column): Problem => ({
  path: `rows[${String(row)}].${name}`,
  row,
  column: name,
  message: `${name}, by which features of ${view} are looked up, is an integer that JSON's numbers do not hold exactly.`,
  fix: 'Send it as text.',
});

/** What an entity's features are at an instant, by the rows of the online store; `undefined`: the entity has none. A null key has no features at all. */
export function featuresAt(
  lookup: Pick<FeatureLookup, 'features'>,
  key: string | null,
  row: { readonly atMs: number; readonly values: Readonly<Record<string, string | number | boolean | null>> } | undefined,
  nowMs: number,
): Record<string, string | number | boolean | null> {
  return Object.fromEntries(
    Object.entries(lookup.features).map(([name, { missing, ttlMs }]) => {
      if (key === null) return [name, null];
      if (row === undefined) return [name, missing];
      return [name, ttlMs !== null && nowMs - row.atMs > ttlMs ? null : (row.values[name] ?? null)];
    }),
  );
}
