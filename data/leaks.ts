/**
 * What training knows of the rows that it is judged by, and should not: rows and groups in two parts, an overlap in
 * time, a column that says the target by itself.
 *
 * Invariants:
 * 1. The power of columns is measured on training rows only.
 * 2. A column's power is measured out of sample: a column of ids, each of its own, has none.
 * 3. No value of the data is in what is reported.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { LEAK_KINDS, type LeakFinding, type LeakKind, type LeakOptions, type LeakReport, type LeakSeverity } from '../contracts/split.ts';
import { pickColumns } from './dataset.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import { instantOf, listOf } from './partition.ts';
import { leakingColumns, POWER_OF } from './target-power.ts';
import type { RankedFile } from './row-rank.ts';
import { identifier, parquetRelation } from './sql-text.ts';

/** One part of a split, or one fold. */
export interface LeakPart {
  /** As messages name it. */
  readonly name: string;
  /** A fold is held against the other folds, whatever their order. */
  readonly fold?: boolean;
  readonly files: readonly RankedFile[];
}

export interface LeakInput {
  /** In the order of their use: training, validation, test. */
  readonly parts: readonly LeakPart[];
  readonly columns: readonly Column[];
  readonly options: LeakOptions;
  /** What the way of splitting says by itself. */
  readonly groups?: string | readonly string[];
  readonly time?: string;
}

type Settings = Exclude<LeakOptions, string>;

/**
 * Looks for leaks between the parts of a split; null where all checks are off.
 * @throws MillraceError SPLIT_LEAKS with every find where one of them is of severity `fail`; COLUMN_MISSING, COLUMN_TYPE
 */
export async function findLeaks(db: DuckDb, input: LeakInput): Promise<LeakReport | null> {
  const { options, columns, parts } = input;
  const settings: Settings = typeof options === 'string' ? { severity: options, ignore: [], threshold: 0.99 } : options;
  const { target, ignore } = settings;
  const groups = settings.groups ?? input.groups;
  const time = settings.time ?? input.time;
  pickColumns(columns, [...(target === undefined ? [] : [target]), ...(groups === undefined ? [] : listOf(groups)), ...(time === undefined ? [] : [time])]);
  const severityOf = (kind: LeakKind): LeakSeverity => (typeof settings.severity === 'string' ? settings.severity : (settings.severity[kind] ?? 'warn'));
  const find: Record<LeakKind, (() => Promise<readonly Found[]>) | undefined> = {
    rows: (() => {
      const compared = columns.filter(({ name }) => name !== target && !ignore.includes(name));
      return compared.length === 0 ? undefined : () => sameRows(db, parts, compared, target);
    })(),
    groups: groups === undefined ? undefined : () => sameGroups(db, parts, pickColumns(columns, listOf(groups))),
    time: time === undefined ? undefined : () => overlapInTime(db, parts, pickColumns(columns, [time])[0]),
    target: target === undefined ? undefined : () => sayTheTarget(db, parts, columns, target, settings),
  };
  const checked: LeakKind[] = [];
  const findings: LeakFinding[] = [];
  for (const kind of LEAK_KINDS) {
    const severity = severityOf(kind);
    const look = find[kind];
    if (severity === 'off' || look === undefined) continue;
    checked.push(kind);
    for (const found of await look()) findings.push({ kind, severity, ...found });
  }
  const fatal = findings.filter(({ severity }) => severity === 'fail');
  if (fatal.length > 0) {
    throw new MillraceError('SPLIT_LEAKS', `The parts of the split know of each other: ${fatal.map(({ message }) => message).join('; ')}.`, {
      problems: fatal.map(({ kind, message, column, fix }) => ({ path: `split.${kind}`, message, fix, ...(column === undefined ? {} : { column }) })),
    });
  }
  return checked.length === 0 ? null : { format: 'millrace-leaks/1', checked, findings };
}

type Found = Omit<LeakFinding, 'kind' | 'severity'>;

/** What a run's summary says of the finds; empty where there are none. */
export function leakSummary(report: LeakReport | null): string {
  if (report === null || report.findings.length === 0) return '';
  return `; leaks: ${report.findings.map(({ message }) => message).join('; ')}`;
}

const shown = (n: number): string => n.toLocaleString('en');
const relationOf = (part: LeakPart): string => parquetRelation(part.files.map(({ path }) => path));
const rowsOf = (part: LeakPart): number => part.files.reduce((sum, { rows }) => sum + rows, 0);

interface Overlap {
  /** Bit i: part i has it. */
  readonly mask: number;
  readonly keys: number;
  /** Rows in each part. */
  readonly rows: readonly number[];
}

/** DuckDB's own hash, 64 bits: not stored, only compared within one query. Arguments are few at a time, for tables of many columns. */
const HASHED_AT_ONCE = 100;
function rowHash(columns: readonly Column[]): string {
  const names = columns.map(({ name }) => identifier(name));
  const blocks: string[] = [];
  for (let start = 0; start < names.length; start += HASHED_AT_ONCE) blocks.push(`hash(${names.slice(start, start + HASHED_AT_ONCE).join(', ')})`);
  return blocks.length === 1 ? (blocks[0] ?? '') : `hash(${blocks.join(', ')})`;
}

/** Keys that are in more than one part, gathered by the parts that they are in. */
async function overlaps(db: DuckDb, parts: readonly LeakPart[], key: string): Promise<readonly Overlap[]> {
  const all = parts.map((part, at) => `SELECT ${key} AS h, ${2 ** at} AS bit FROM ${relationOf(part)}`).join(' UNION ALL ');
  const counts = parts.map((_, at) => `count(*) FILTER (WHERE bit = ${2 ** at}) AS n${at}`).join(', ');
  const sums = parts.map((_, at) => `sum(n${at}) AS n${at}`).join(', ');
  const found = await db.rows(
    `SELECT mask, count(*) AS keys, ${sums} FROM (SELECT bit_or(bit) AS mask, ${counts} FROM (${all}) GROUP BY h) WHERE bit_count(mask) > 1 GROUP BY mask ORDER BY mask`,
  );
  return found.map((row) => ({ mask: toCount(row['mask']), keys: toCount(row['keys']), rows: parts.map((_, at) => toCount(row[`n${at}`])) }));
}

interface Crossing {
  readonly part: LeakPart | null;
  readonly with: string;
  readonly rows: number;
  readonly of: number;
  readonly keys: number;
}

/** Overlaps as people ask for them: of folds together, of any other part with those before it. */
function crossings(parts: readonly LeakPart[], found: readonly Overlap[]): readonly Crossing[] {
  const out: Crossing[] = [];
  const bitsOf = (some: readonly LeakPart[]): number => some.reduce((mask, part) => mask | (2 ** parts.indexOf(part)), 0);
  const folds = parts.filter(({ fold }) => fold === true);
  const several = found.filter(({ mask }) => bitCount(mask & bitsOf(folds)) > 1);
  if (several.length > 0) {
    const rows = several.reduce((sum, overlap) => sum + folds.reduce((within, fold) => within + (overlap.rows[parts.indexOf(fold)] ?? 0), 0), 0);
    out.push({
      part: null,
      with: 'more than one fold',
      rows,
      of: folds.reduce((sum, fold) => sum + rowsOf(fold), 0),
      keys: several.reduce((sum, { keys }) => sum + keys, 0),
    });
  }
  parts.forEach((part, at) => {
    const before = parts.slice(0, at);
    if (part.fold === true || before.length === 0) return;
    const both = found.filter(({ mask }) => (mask & (2 ** at)) !== 0 && (mask & bitsOf(before)) !== 0);
    const names = before.some(({ fold }) => fold === true) ? ['the folds'] : before.map(({ name }) => name);
    if (both.length === 0) return;
    const rows = both.reduce((sum, overlap) => sum + (overlap.rows[at] ?? 0), 0);
    out.push({ part, with: names.join(' or '), rows, of: rowsOf(part), keys: both.reduce((sum, { keys }) => sum + keys, 0) });
  });
  return out;
}

function bitCount(mask: number): number {
  let count = 0;
  for (let left = mask; left > 0; left = Math.floor(left / 2)) count += left % 2;
  return count;
}

async function sameRows(db: DuckDb, parts: readonly LeakPart[], columns: readonly Column[], target: string | undefined): Promise<readonly Found[]> {
  const but = target === undefined ? '' : `, ${target} aside`;
  return crossings(parts, await overlaps(db, parts, rowHash(columns))).map((crossing) => ({
    message: `${shown(crossing.rows)} of ${shown(crossing.of)} ${crossing.part?.name ?? ''}${crossing.part === null ? '' : ' '}rows are also in ${crossing.with}${but}`,
    rows: crossing.rows,
    fix: "Remove duplicates before the split, or split by: 'group' with the columns that make rows the same.",
  }));
}

async function sameGroups(db: DuckDb, parts: readonly LeakPart[], columns: readonly Column[]): Promise<readonly Found[]> {
  const names = columns.map(({ name }) => name).join(', ');
  return crossings(parts, await overlaps(db, parts, rowHash(columns))).map((crossing) => ({
    message: `${shown(crossing.keys)} groups by ${names}, with ${shown(crossing.rows)} of ${shown(crossing.of)} ${crossing.part?.name ?? ''}${crossing.part === null ? '' : ' '}rows, are also in ${crossing.with}`,
    rows: crossing.rows,
    ...(columns.length === 1 && columns[0] !== undefined ? { column: columns[0].name } : {}),
    fix: `Split by: 'group' with the column ${names}.`,
  }));
}

async function overlapInTime(db: DuckDb, parts: readonly LeakPart[], column: Column | undefined): Promise<readonly Found[]> {
  if (column === undefined) return [];
  const instant = instantOf(column);
  const found: Found[] = [];
  let latest: bigint | null = null;
  const early: { readonly part: LeakPart; readonly rows: number }[] = [];
  for (const part of parts) {
    const where: string = latest === null ? 'false' : `${instant} <= ${latest}`;
    const row = await db.row(`SELECT CAST(max(${instant}) AS VARCHAR) AS latest, count(*) FILTER (WHERE ${where}) AS n FROM ${relationOf(part)}`);
    const last = row['latest'] === null ? null : BigInt(String(row['latest']));
    if (last !== null && (latest === null || last > latest)) latest = last;
    if (toCount(row['n']) > 0) early.push({ part, rows: toCount(row['n']) });
  }
  const fix = `Split by: 'time' with the column ${column.name}.`;
  const folds = early.filter(({ part }) => part.fold === true);
  if (folds.length > 0) {
    const rows = folds.reduce((sum, fold) => sum + fold.rows, 0);
    found.push({ message: `${shown(rows)} rows of folds are not later than folds before them (${column.name})`, rows, column: column.name, fix });
  }
  for (const { part, rows } of early) {
    if (part.fold === true) continue;
    found.push({
      message: `${shown(rows)} of ${shown(rowsOf(part))} ${part.name} rows are not later than the rows that are used before them (${column.name})`,
      rows,
      column: column.name,
      fix,
    });
  }
  return found;
}

async function sayTheTarget(
  db: DuckDb,
  parts: readonly LeakPart[],
  columns: readonly Column[],
  target: string,
  { ignore, threshold }: Settings,
): Promise<readonly Found[]> {
  // Folds are all training rows of one another; of a split only the first part is.
  const training = parts.filter(({ fold }, at) => fold === true || at === 0);
  const candidates = columns.filter(({ name }) => name !== target && !ignore.includes(name));
  const [aim] = pickColumns(columns, [target]);
  if (aim === undefined) return [];
  const found = await leakingColumns(
    db,
    training.flatMap(({ files }) => files),
    candidates,
    aim,
    threshold,
  );
  return found.map(({ column, score, measure }) => ({
    message: `the column ${column} alone says ${target} (${POWER_OF[measure]} ${score.toFixed(3)})`,
    column,
    score,
    fix: `Is ${column} known when a prediction is asked for? If not, leave it out of the features; if so, name it in leaks.ignore.`,
  }));
}
