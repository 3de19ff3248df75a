import { z } from 'zod';
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

/** Kinds of personal values that are looked for. `dni` is Spain's (NIE too), `nir` France's, `nino` the United Kingdom's, `ssn` the United States'. */
export const PERSONAL_KINDS = ['email', 'phone', 'card', 'iban', 'ssn', 'nino', 'dni', 'codiceFiscale', 'nir'] as const;
export type PersonalKind = (typeof PERSONAL_KINDS)[number];

/** A column that no one declared personal and whose values look it. */
export const PersonalFindingSchema = z.lazy(() =>
  z.object({
    column: z.string(),
    kind: z.enum(PERSONAL_KINDS),
    /** Of the distinct values that were looked at, 0–1. */
    share: z.number().min(0).max(1),
    /** The values are texts with such a value somewhere in them. */
    contains: z.boolean(),
  }),
);
export type PersonalFinding = z.infer<typeof PersonalFindingSchema>;

const PLURALS: Readonly<Record<PersonalKind, string>> = {
  email: 'e-mail addresses',
  phone: 'phone numbers',
  card: 'payment cards',
  iban: 'bank accounts (IBAN)',
  ssn: 'national ids (SSN)',
  nino: 'national ids (NINO)',
  dni: 'national ids (DNI)',
  codiceFiscale: 'national ids (codice fiscale)',
  nir: 'national ids (NIR)',
};

/** A finding in words: `contact contains e-mail addresses`, `card looks like payment cards`. */
export const personalFindingText = ({ column, kind, contains }: PersonalFinding): string =>
  `${column} ${contains ? 'contains' : 'looks like'} ${PLURALS[kind]}`;
