/**
 * Fills in the columns that a request's rows leave out and that the online store has.
 *
 * Invariants:
 * 1. What a request brings is never replaced, a null neither.
 * 2. A row that brings all columns needs no store and no entity.
 * 3. What is filled in is what training rows had: the same keys, the same values for an entity that is not known.
 */
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { FeatureLookup } from '../contracts/feature-lookup.ts';
import { createEntityReader, type EntityReader, featuresAt } from '../data/row-entity.ts';
import type { OnlineFeatures } from './online-features.ts';

export interface RowCompleter {
  /** Whether a row leaves out a column that can be looked up. */
  lacks(rows: readonly unknown[]): boolean;
  /**
   * The rows with such columns filled in; those that bring all are the same objects.
   * @throws MillraceError INVALID_REQUEST where an entity is not named, and as `OnlineFeatures.find` does
   */
  complete(rows: readonly unknown[], online: OnlineFeatures, nowMs: number): Promise<readonly unknown[]>;
}

const MAX_PROBLEMS = 100;

type Row = Readonly<Record<string, unknown>>;
const isRow = (value: unknown): value is Row => typeof value === 'object' && value !== null && !Array.isArray(value);

interface Plan {
  readonly lookup: FeatureLookup;
  readonly names: readonly string[];
  readonly entity: EntityReader;
}

const leavesOut = (row: Row, names: readonly string[]): boolean => {
  for (const name of names) if (!Object.hasOwn(row, name)) return true;
  return false;
};

/** Compiles a predictor's lookups; undefined when it has none. */
export function createRowCompleter(lookups: readonly FeatureLookup[], hashKey?: string): RowCompleter | undefined {
  const plans = lookups.flatMap((lookup): readonly Plan[] => {
    const entity = createEntityReader(lookup, hashKey);
    return entity === undefined ? [] : [{ lookup, names: Object.keys(lookup.features), entity }];
  });
  if (plans.length === 0) return undefined;
  const all = plans.flatMap(({ names }) => names);

  return {
    lacks(rows) {
      for (const row of rows) if (isRow(row) && leavesOut(row, all)) return true;
      return false;
    },
    async complete(rows, online, nowMs) {
      const problems: Problem[] = [];
      const asked = plans.map(({ names, entity }) =>
        rows.map((row, index): string | null | undefined => {
          if (problems.length >= MAX_PROBLEMS || !isRow(row) || !leavesOut(row, names)) return undefined;
          const read = entity.read(row, index);
          if ('key' in read) return read.key;
          problems.push(...read.problems);
          return undefined;
        }),
      );
      if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', undefined, { problems: problems.slice(0, MAX_PROBLEMS) });
      const found = await Promise.all(plans.map(({ lookup }, plan) => online.find(lookup, new Set(asked[plan]?.filter((key) => typeof key === 'string')))));
      return rows.map((row, index) => {
        if (!isRow(row)) return row;
        let completed: Record<string, unknown> | undefined;
        for (const [plan, { lookup, names }] of plans.entries()) {
          const key = asked[plan]?.[index];
          if (key === undefined) continue;
          const values = featuresAt(lookup, key, key === null ? undefined : found[plan]?.get(key), nowMs);
          completed ??= { ...row };
          for (const name of names) if (!Object.hasOwn(row, name)) completed[name] = values[name];
        }
        return completed ?? row;
      });
    },
  };
}
