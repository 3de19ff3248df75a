/**
 * Which rows of a dataset go to which part.
 *
 * Invariants:
 * 1. Exactly one part's condition holds for a row.
 * 2. The same data, plan and shares give the same conditions: nothing depends on threads, or on an engine's random numbers.
 * 3. By group, rows whose key columns agree satisfy the same condition. By time, every instant of a part is earlier than
 *    every instant of the part before it.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import { columnsMissing, pickColumns } from './dataset.ts';
import { type DuckDb, toCount, toNumber } from './duckdb.ts';
import { keyHash } from './key-hash.ts';
import { ROW_RANK, rankBound, rankedRelation, type RankedFile } from './row-rank.ts';
import { identifier, parquetRelation } from './sql-text.ts';

export type PartitionPlan =
  | { readonly by: 'random'; readonly seed: number }
  | { readonly by: 'stratified'; readonly column: string; readonly seed: number }
  | { readonly by: 'group'; readonly column: string | readonly string[]; readonly seed: number }
  | { readonly by: 'time'; readonly column: string };

/** A relation with the dataset's columns, and for each part the condition of its rows. */
export interface Partition {
  readonly relation: string;
  readonly where: readonly string[];
}

export const impossible = (message: string, fix?: string): MillraceError => new MillraceError('SPLIT_IMPOSSIBLE', message, fix === undefined ? {} : { fix });
export const listOf = (columns: string | readonly string[]): readonly string[] => (typeof columns === 'string' ? [columns] : columns);

/**
 * Parts a dataset's rows. `shares` of the rows, one a part, add up to 1. By time the first part is the latest.
 * @throws MillraceError SPLIT_IMPOSSIBLE where a part would have no row, COLUMN_MISSING, COLUMN_TYPE
 */
export async function partitionRows(
  db: DuckDb,
  files: readonly RankedFile[],
  manifest: Pick<DatasetManifest, 'columns' | 'rows'>,
  plan: PartitionPlan,
  shares: readonly number[],
): Promise<Partition> {
  const { columns, rows } = manifest;
  if (rows < shares.length) throw impossible(`The dataset has ${rows} rows; ${shares.length} parts need at least ${shares.length}.`);
  const names = columns.map(({ name }) => name);
  switch (plan.by) {
    case 'random':
      return random(files, names, rows, plan.seed, shares);
    case 'stratified':
      return stratified(db, files, names, columnOf(columns, plan.column), plan.seed, shares);
    case 'group':
      return grouped(db, files, rows, pickColumns(columns, listOf(plan.column)), plan.seed, shares);
    case 'time':
      return byTime(db, files, columnOf(columns, plan.column), shares);
  }
}

function columnOf(columns: readonly Column[], name: string): Column {
  const column = columns.find((there) => there.name === name);
  if (column === undefined) throw columnsMissing(columns, [name]);
  return column;
}

/** The shares of the first part, of the first two, and so on; all but the whole. */
function upTo(shares: readonly number[]): readonly number[] {
  let sum = 0;
  return shares.slice(0, -1).map((share) => (sum += share));
}

/** Conditions that include one another: the first part, the first two, and so on. */
const nested = (relation: string, conditions: readonly string[]): Partition => ({
  relation,
  where: [...conditions, 'true'].map((condition, at) => (at === 0 ? condition : `${condition} AND NOT (${conditions[at - 1] ?? 'true'})`)),
});

function random(files: readonly RankedFile[], names: readonly string[], rows: number, seed: number, shares: readonly number[]): Partition {
  let before = 0;
  const counts = upTo(shares).map((share) => (before = Math.max(before + 1, Math.round(rows * share))));
  if (before >= rows) throw impossible(`${rows} rows are too few for ${shares.length} parts of these shares.`);
  return nested(
    rankedRelation(files, names, seed),
    counts.map((count) => `${ROW_RANK} < ${rankBound(rows, seed, count)}`),
  );
}

/** Each stratum's rows of least rank go to the first part, the next ones to the second; a join gives every row its stratum's bounds. */
async function stratified(
  db: DuckDb,
  files: readonly RankedFile[],
  names: readonly string[],
  column: Column,
  seed: number,
  shares: readonly number[],
): Promise<Partition> {
  const stratum = identifier(column.name);
  const numbered = `SELECT ${stratum} AS stratum, ${ROW_RANK} AS rank, row_number() OVER (PARTITION BY ${stratum} ORDER BY ${ROW_RANK}) AS place, count(*) OVER (PARTITION BY ${stratum}) AS n FROM ${rankedRelation(files, [column.name], seed)}`;
  const bounds = upTo(shares).map((share, at) => `coalesce(max(rank) FILTER (WHERE place <= round(n * ${share})) + 1, 0) AS __bound_${at}`);
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_strata AS SELECT stratum, ${bounds.join(', ')} FROM (${numbered}) GROUP BY stratum`);
  const list = names.map((name) => `r.${identifier(name)}`).join(', ');
  const relation = `(SELECT ${list}, ${ROW_RANK}, ${bounds.map((_, at) => `__bound_${at}`).join(', ')} FROM ${rankedRelation(files, names, seed)} AS r JOIN millrace_strata AS s ON r.${stratum} IS NOT DISTINCT FROM s.stratum)`;
  const partition = nested(
    relation,
    bounds.map((_, at) => `${ROW_RANK} < __bound_${at}`),
  );
  const counts = partition.where.map((where, at) => `count(*) FILTER (WHERE ${where}) AS n${at}`);
  const found = await db.row(`SELECT ${counts.join(', ')}, count(*) AS total, (SELECT count(*) FROM millrace_strata) AS strata FROM ${relation}`);
  if (partition.where.some((_, at) => toCount(found[`n${at}`]) === 0)) {
    throw impossible(
      `The column ${column.name} has ${toCount(found['strata'])} values in ${toCount(found['total'])} rows: they are too few rows a value to be in all ${shares.length === 3 ? 'three' : shares.length} parts.`,
      'Stratify by a column with fewer values, or split at random.',
    );
  }
  return partition;
}

/**
 * So many of the largest groups are given to parts one by one; the others, small beside them, fill what is left by ranges of their hash.
 * They stand in lists, not behind IN: that would be a join, which does not keep rows in order.
 */
const GROUPS_ONE_BY_ONE = 200;
const GROUP = '__millrace_group';

interface Group {
  readonly hash: bigint;
  readonly rows: number;
}

async function grouped(
  db: DuckDb,
  files: readonly RankedFile[],
  rows: number,
  columns: readonly Column[],
  seed: number,
  shares: readonly number[],
): Promise<Partition> {
  const rowsAsTheyAre = parquetRelation(files.map(({ path }) => path));
  // By all threads and once: parts are written by one thread each, and the hash is most of the work.
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_hashes AS SELECT ${keyHash(columns, seed)} AS ${GROUP} FROM ${rowsAsTheyAre}`);
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_groups AS SELECT ${GROUP} AS hash, count(*) AS n FROM millrace_hashes GROUP BY ALL`);
  const groups = toCount((await db.row('SELECT count(*) AS n FROM millrace_groups'))['n']);
  if (groups < shares.length) {
    const names = columns.map(({ name }) => name).join(', ');
    throw impossible(`There ${groups === 1 ? 'is one group' : `are ${groups} groups`} by ${names}; ${shares.length} parts need at least ${shares.length}.`);
  }
  const largest = await db.rows(`SELECT hash, n FROM millrace_groups ORDER BY n DESC, hash LIMIT ${GROUPS_ONE_BY_ONE}`);
  const single = largest.map(({ hash, n }): Group => ({ hash: BigInt(String(hash)), rows: toCount(n) })).sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const parts = allot(
    single,
    shares.map((share) => share * rows),
    groups > single.length,
  );
  const cases = parts.flatMap(({ members }, part) =>
    members.length === 0 ? [] : [`WHEN list_contains([${members.map(ubigint).join(', ')}], ${GROUP}) THEN ${part}`],
  );
  if (groups > single.length) {
    const left = rows - single.reduce((sum, group) => sum + group.rows, 0);
    const free = parts.map((part) => Math.max(0, part.free));
    const wholly = free.reduce((sum, value) => sum + value, 0);
    const ends = upTo(free.map((value) => value / wholly)).map((share) => `max(hash) FILTER (WHERE middle <= ${share * left})`);
    const running = `SELECT hash, sum(n) OVER (ORDER BY hash ROWS UNBOUNDED PRECEDING) - n / 2.0 AS middle FROM millrace_groups WHERE hash NOT IN (${single.map(({ hash }) => ubigint(hash)).join(', ')})`;
    const found = await db.row(`SELECT ${ends.map((end, at) => `${end} AS e${at}`).join(', ')} FROM (${running})`);
    ends.forEach((_, part) => {
      const end = found[`e${part}`];
      if (end !== null && end !== undefined) cases.push(`WHEN ${GROUP} <= ${ubigint(BigInt(String(end)))} THEN ${part}`);
    });
  }
  const part = `CAST(CASE ${cases.join(' ')} ELSE ${shares.length - 1} END AS UTINYINT)`;
  // By one thread: how the table lies in memory decides where row groups of the parts are cut.
  const threads = toCount((await db.row("SELECT current_setting('threads') AS n"))['n']);
  await db.run('SET threads = 1');
  await db.run(`CREATE OR REPLACE TEMPORARY TABLE millrace_parts AS SELECT ${part} AS ${GROUP} FROM millrace_hashes`);
  await db.run(`SET threads = ${threads}`);
  await db.run('DROP TABLE millrace_hashes');
  return { relation: `(SELECT * FROM ${rowsAsTheyAre} POSITIONAL JOIN millrace_parts)`, where: shares.map((_, at) => `${GROUP} = ${at}`) };
}

const ubigint = (value: bigint): string => `CAST(${value} AS UBIGINT)`;

/**
 * Each group, in the order of its hash, goes to the part that is least full for its size and has room for half of it.
 * Where no more groups follow than there are empty parts, it goes to one of these.
 */
function allot(
  groups: readonly Group[],
  capacities: readonly number[],
  moreFollow: boolean,
): readonly { readonly members: readonly bigint[]; readonly free: number }[] {
  const parts = capacities.map((capacity) => ({ capacity, free: capacity, members: [] as bigint[] }));
  groups.forEach((group, at) => {
    const empty = parts.filter(({ members }) => members.length === 0);
    const needed = !moreFollow && groups.length - at <= empty.length;
    const fitting = (needed ? empty : parts).filter(({ free }) => free >= group.rows / 2);
    const measure = (part: (typeof parts)[number]): number => (fitting.length === 0 ? part.free : part.free / part.capacity);
    const [first, ...others] = fitting.length > 0 ? fitting : needed ? empty : parts;
    if (first === undefined) return;
    const chosen = others.reduce((best, part) => {
      const more = measure(part) - measure(best);
      return more > 1e-9 || (Math.abs(more) <= 1e-9 && part.capacity > best.capacity) ? part : best;
    }, first);
    chosen.members.push(group.hash);
    chosen.free -= group.rows;
  });
  return parts;
}

async function byTime(db: DuckDb, files: readonly RankedFile[], column: Column, shares: readonly number[]): Promise<Partition> {
  const relation = parquetRelation(files.map(({ path }) => path));
  const name = identifier(column.name);
  const instant = instantOf(column);
  const first = await db.rows(
    `SELECT CAST(v AS VARCHAR) AS v FROM (SELECT DISTINCT ${instant} AS v FROM ${relation} WHERE ${name} IS NOT NULL ORDER BY v LIMIT ${shares.length}) AS e ORDER BY e.v`,
  );
  const earliest = first.map(({ v }) => BigInt(String(v)));
  if (earliest.length < shares.length) {
    throw impossible(
      `The column ${column.name} has ${earliest.length} different instants; ${shares.length === 3 ? 'three' : shares.length} parts need at least ${shares.length === 3 ? 'three' : shares.length}.`,
      'Split by another column, or at random.',
    );
  }
  const present = toCount((await db.row(`SELECT count(${name}) AS n FROM ${relation}`))['n']);
  const froms: bigint[] = [];
  const where: string[] = [];
  for (const [at, share] of shares.slice(0, -1).entries()) {
    const until = froms.at(-1);
    const below = until === undefined ? 'true' : `${instant} < ${until}`;
    // The parts still to come need an instant each.
    const from = await cut(db, relation, instant, below, present * share, earliest[shares.length - 2 - at] ?? 0n);
    froms.push(from);
    where.push(until === undefined ? `${instant} >= ${from}` : `${instant} >= ${from} AND ${below}`);
  }
  where.push(`(${name} IS NULL OR ${instant} < ${froms.at(-1) ?? 0n})`);
  return { relation, where };
}

/**
 * Microseconds since 1970, or the integer itself: whole numbers, so that "later than x" is "at least x + 1".
 * @throws MillraceError COLUMN_TYPE
 */
export function instantOf({ name, type }: Column): string {
  if (type !== 'timestamp' && type !== 'date' && type !== 'integer') {
    throw new MillraceError('COLUMN_TYPE', `A split by time needs a column of type timestamp, date or integer; ${name} is of type ${type}.`);
  }
  return type === 'integer' ? identifier(name) : `epoch_us(CAST(${identifier(name)} AS TIMESTAMP))`;
}

/** The instant from which on about `wantedRows` of the rows lie; never at or before `after`, and such that some row lies there. */
async function cut(db: DuckDb, relation: string, instant: string, where: string, wantedRows: number, after: bigint): Promise<bigint> {
  const { n } = await db.row(`SELECT count(${instant}) AS n FROM ${relation} WHERE ${where}`);
  const share = Math.min(1, Math.max(0, 1 - wantedRows / toCount(n)));
  const { v, latest } = await db.row(
    `SELECT CAST(quantile_disc(${instant}, ${share}) AS VARCHAR) AS v, CAST(max(${instant}) AS VARCHAR) AS latest FROM ${relation} WHERE ${where}`,
  );
  const at = BigInt(String(v));
  const last = BigInt(String(latest));
  const candidates = [at, at + 1n].map((from) => (from <= after ? after + 1n : from)).filter((from) => from <= last);
  let best = last;
  let distance = Infinity;
  for (const from of new Set(candidates)) {
    const found = toNumber((await db.row(`SELECT count(*) AS n FROM ${relation} WHERE ${where} AND ${instant} >= ${from}`))['n']) ?? 0;
    if (Math.abs(found - wantedRows) < distance) [best, distance] = [from, Math.abs(found - wantedRows)];
  }
  return best;
}
