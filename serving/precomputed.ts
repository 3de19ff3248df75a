/**
 * Answers by key that were computed before.
 *
 * Invariants:
 * 1. All answers of a request are of one set, and the set's version is told with them.
 * 2. A key is hashed by the columns of the set that answers: where another set has come meanwhile, the question is asked again.
 */
import { createHash } from 'node:crypto';
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { keyText } from '../contracts/prediction-keys.ts';
import { coerceValue, expectedValue } from '../data/request-row.ts';
import type { PrecomputedSource } from './ports.ts';

export interface FoundAnswers {
  readonly model: string;
  readonly version: number;
  readonly predictor: string;
  /** JSON, in the order of the keys; null where a key is not there. */
  readonly answers: readonly (string | null)[];
}

export interface Precomputed {
  /** @throws MillraceError INVALID_REQUEST with every key that does not fit; NOT_FOUND where nothing was precomputed for the endpoint; DATABASE_UNAVAILABLE */
  find(endpoint: string, keys: readonly unknown[]): Promise<FoundAnswers>;
}

/** A set may be replaced between two questions; by so many in a row, it is somebody's mistake. */
const MOST_TRIES = 5;

function hashesOf(keys: readonly unknown[], columns: readonly Column[]): readonly string[] {
  const problems: Problem[] = [];
  const names = columns.map(({ name }) => name).join(', ');
  const hashes = keys.map((key, index) => {
    const values = Array.isArray(key) ? (key as readonly unknown[]) : [key];
    if (values.length !== columns.length) {
      problems.push({ path: `keys[${index}]`, row: index, message: `A key has the ${columns.length} values ${names}.`, found: `${values.length} values` });
      return '';
    }
    const coerced = columns.map(({ name, type }, at) => {
      const value = values[at] === null ? undefined : coerceValue(type, values[at]);
      if (value === undefined)
        problems.push({ path: `keys[${index}]`, row: index, column: name, message: `${name} has to be ${expectedValue(type).replace(/,? or null$/, '')}.` });
      return value ?? null;
    });
    return createHash('sha256')
      .update(keyText(coerced) ?? '')
      .digest('hex');
  });
  if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', 'The keys do not fit.', { problems: problems.slice(0, 100) });
  return hashes;
}

export function createPrecomputed(source: PrecomputedSource): Precomputed {
  /** Columns of the keys, by endpoint, as last seen. */
  const known = new Map<string, readonly Column[]>();
  return {
    async find(endpoint, keys) {
      for (let tries = 0; tries < MOST_TRIES; tries += 1) {
        const columns = known.get(endpoint);
        const hashes = columns === undefined ? [] : hashesOf(keys, columns);
        const found = await source.answers(endpoint, hashes);
        if (found === null) {
          known.delete(endpoint);
          throw new MillraceError('NOT_FOUND', `Nothing was precomputed for the endpoint ${endpoint}.`, {
            fix: 'Send rows; or precompute(version, dataset, { endpoint, key }).',
          });
        }
        const { model, version, predictor, answers } = found;
        if (columns !== undefined && JSON.stringify(columns) === JSON.stringify(found.columns))
          return { model, version, predictor, answers: hashes.map((hash) => answers.get(hash) ?? null) };
        known.set(endpoint, found.columns);
      }
      throw new MillraceError('CONFLICT', 'The keys of the endpoint change with every question.');
    },
  };
}
