/**
 * Looks for columns of personal data that no one declared.
 *
 * Invariants:
 * 1. Only the first rows are read, a bounded number of cells: the time does not grow with the data.
 * 2. A finding tells a column, a kind and a share; no value is in it.
 * 3. The same data gives the same findings.
 */
import type { Column } from '../contracts/columns.ts';
import type { PersonalFinding, PersonalKind } from '../contracts/personal-data.ts';
import { type DuckDb, type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { containsEmail, PERSONAL_PATTERNS, type PersonalPattern, wordsOf } from './personal-kinds.ts';
import type { RankedFile } from './row-rank.ts';
import { identifier, parquetRelation } from './sql-text.ts';

const MOST_CELLS = 400_000;
const MOST_ROWS = 8_192;
const FEWEST_ROWS = 100;
/** Rows of a dataset of many files come from the first of them. */
const MOST_FILES = 8;
const MOST_DISTINCT = 2_000;
/** A longer text is looked at from its start. */
const MOST_CHARACTERS = 4_000;
/** DuckDB takes four times as long for one query of 10,000 columns as for five of 2,000. */
const COLUMNS_AT_A_TIME = 2_000;

/** Share of a column's distinct values that has to be of a kind: of any column, and of one whose name says the kind. */
const LEAST_SHARE = 0.5;
const LEAST_SHARE_NAMED = 0.1;
/** Of kinds that chance gives as well: every tenth number passes the check of cards. */
const LEAST_SHARE_NAMED_BY_CHANCE = 0.3;
const LEAST_VALUES = 3;
/** Texts with an e-mail address in them: this many, or this share. */
const LEAST_CONTAINING = 3;
const LEAST_SHARE_CONTAINING = 0.01;

export interface DetectOptions extends DuckDbOptions {
  /** Columns that are dealt with already. Default: none. */
  readonly declared?: ReadonlySet<string>;
}

/** Undeclared columns whose values look personal, in the order of the columns. Each column has one finding at most. */
export async function detectPersonalData(
  files: readonly RankedFile[],
  columns: readonly Column[],
  options: DetectOptions = {},
): Promise<readonly PersonalFinding[]> {
  const { declared = new Set() } = options;
  const looked = columns.filter(({ name, type }) => !declared.has(name) && (type === 'string' || type === 'integer' || type === 'number'));
  if (looked.length === 0 || files.length === 0) return [];
  return withDuckDb(options, async (db) => {
    const found: PersonalFinding[] = [];
    for (let from = 0; from < looked.length; from += COLUMNS_AT_A_TIME) {
      const some = looked.slice(from, from + COLUMNS_AT_A_TIME);
      const values = await sampledValues(db, files, some, looked.length);
      found.push(...some.flatMap((column, index) => findingOf(column, values[index] ?? []) ?? []));
    }
    return found;
  });
}

/** The distinct values of each column among the first rows, in the order in which they come. */
async function sampledValues(db: DuckDb, files: readonly RankedFile[], columns: readonly Column[], all: number): Promise<readonly (readonly string[])[]> {
  const first = files.slice(0, MOST_FILES);
  const rows = Math.ceil(Math.max(FEWEST_ROWS, Math.min(MOST_ROWS, MOST_CELLS / all)) / first.length);
  const list = columns.map(textSql).join(', ');
  const parts = first.map(({ path }) => `(SELECT ${list} FROM ${parquetRelation([path])} LIMIT ${rows})`);
  const found = columns.map(() => new Set<string>());
  for await (const chunk of db.chunks(parts.join(' UNION ALL '))) {
    for (const [index, values] of found.entries()) {
      for (const value of chunk.getColumnValues(index)) {
        const text = typeof value === 'string' ? value.trim() : '';
        if (text !== '' && values.size < MOST_DISTINCT) values.add(text);
      }
    }
  }
  return found.map((values) => [...values]);
}

/** A value as text. A number that is not whole is no value of any kind, but it counts. */
function textSql({ name, type }: Column): string {
  const value = identifier(name);
  if (type === 'string') return `left(${value}, ${MOST_CHARACTERS})`;
  if (type === 'integer') return `CAST(${value} AS VARCHAR)`;
  return `CASE WHEN ${value} = trunc(${value}) AND abs(${value}) < 1e18 THEN CAST(CAST(${value} AS BIGINT) AS VARCHAR) ELSE CAST(${value} AS VARCHAR) END`;
}

function findingOf({ name, type }: Column, values: readonly string[]): PersonalFinding | undefined {
  if (values.length === 0) return undefined;
  const words = wordsOf(name);
  const counts = new Map<PersonalKind, number>();
  let containing = 0;
  for (const value of values) {
    const pattern = PERSONAL_PATTERNS.find((one) => (named(one, words) ? (one.isWhenNamed ?? one.is) : one.is)(value));
    if (pattern !== undefined) counts.set(pattern.kind, (counts.get(pattern.kind) ?? 0) + 1);
    if (pattern?.kind === 'email' || (type === 'string' && pattern === undefined && containsEmail(value))) containing++;
  }
  const enough = PERSONAL_PATTERNS.flatMap((pattern) => {
    const count = counts.get(pattern.kind) ?? 0;
    const expected = named(pattern, words);
    const share = count / values.length;
    const least = !expected ? LEAST_SHARE : pattern.byChance ? LEAST_SHARE_NAMED_BY_CHANCE : LEAST_SHARE_NAMED;
    return count > 0 && share >= least && (expected || !pattern.byChance || count >= LEAST_VALUES)
      ? [{ column: name, kind: pattern.kind, share, contains: false }]
      : [];
  }).sort((a, b) => b.share - a.share);
  if (enough[0] !== undefined) return enough[0];
  const share = containing / values.length;
  return containing >= LEAST_CONTAINING || (containing > 0 && share >= LEAST_SHARE_CONTAINING)
    ? { column: name, kind: 'email', share, contains: true }
    : undefined;
}

const named = ({ words }: PersonalPattern, of: ReadonlySet<string>): boolean => words.some((word) => of.has(word));
