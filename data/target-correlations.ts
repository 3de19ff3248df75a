/**
 * How strongly each column goes along with the target: Pearson's r, the correlation ratio η or Cramér's V, by the types.
 *
 * Invariants:
 * 1. All columns are read in one aggregate query, or two where numbers and categories both occur; only thousands of
 *    columns take more, each of which reads other columns.
 * 2. Sums are sums of integers: products of values, in standard deviations, are rounded to a fixed fraction of one.
 *    They do not depend on the order of rows, hence not on the number of threads. The fraction is so small that figures
 *    agree with those of doubles to ten digits.
 */
import type { ColumnProfile, Profile, TargetCorrelation, TargetCorrelations } from '../contracts/profile.ts';
import { createColumnScan } from './column-scan.ts';
import { columnsMissing } from './dataset.ts';
import { type DuckDb, toCount } from './duckdb.ts';
import type { RankedFile } from './row-rank.ts';
import { identifier, numberLiteral, parquetRelation } from './sql-text.ts';

/** A text of more values is no category. */
const MOST_VALUES = 500;
/** With fewer rows a value, chance alone makes columns look related. */
const LEAST_ROWS_A_VALUE = 10;
/** Grouping sets of one query; DuckDB can tell 64 apart. */
const SETS_A_QUERY = 32;
const COLUMNS_A_QUERY = 500;
/** Grouped rows that one query gives at most. */
const MOST_CELLS = 400_000;
/** A spread below this part of the mean is that of rounding. */
const LEAST_SPREAD = 1e-11;
/** Variances of standardised values below this are those of a constant. */
const LEAST_VARIANCE = 1e-12;
const INTEGER_BITS = 61;

type Gap = TargetCorrelations['skipped'][number]['reason'];
type Figures = ReadonlyMap<string, Omit<TargetCorrelation, 'column'>>;

interface Correlated {
  readonly name: string;
  readonly isText: boolean;
  readonly isBoolean: boolean;
  readonly hasNulls: boolean;
  readonly distinct: number;
  /** SQL: the value in standard deviations from the mean; of instants in parts of their range. */
  readonly standard: string;
}

/** @throws MillraceError COLUMN_MISSING where there is no such target */
export async function correlateWithTarget(
  db: DuckDb,
  files: readonly RankedFile[],
  profile: Profile,
  target: string,
  masked: ReadonlySet<string>,
): Promise<TargetCorrelations> {
  const found = profile.columns.find(({ name }) => name === target);
  if (found === undefined) throw columnsMissing(profile.columns, [target]);
  const y = correlatedOf(found, profile.rows, masked);
  if (typeof y === 'string') return { target, columns: [], skipped: [{ column: target, reason: y }] };
  const others = profile.columns.filter(({ name }) => name !== target);
  const given = others.map((column) => ({ column: column.name, as: correlatedOf(column, profile.rows, masked) }));
  const columns = given.flatMap(({ as }) => (typeof as === 'string' ? [] : [as]));
  const query: Query = { db, relation: parquetRelation(files.map(({ path }) => path)), y, scale: scaleFor(profile.rows) };
  const isCategory = ({ isText, isBoolean }: Correlated): boolean => isText || (isBoolean && y.isText);
  const [categories, numbers] = [columns.filter(isCategory), columns.filter((column) => !isCategory(column))];
  const figures: Figures = new Map([
    ...(await (y.isText ? ratiosByTarget : pearson)(query, numbers)),
    ...(await (y.isText || y.isBoolean ? associations : ratiosByColumn)(query, categories)),
  ]);
  const skipped = given.flatMap(({ column, as }) =>
    typeof as === 'string' ? [{ column, reason: as }] : figures.has(column) ? [] : [{ column, reason: 'constant' as const }],
  );
  return {
    target,
    columns: given.flatMap(({ column }) => {
      const figure = figures.get(column);
      return figure === undefined ? [] : [{ column, ...figure }];
    }),
    skipped,
  };
}

/** A column as it is correlated, or why it is not. */
function correlatedOf({ name, type, values, nulls, distinct }: ColumnProfile, rows: number, masked: ReadonlySet<string>): Correlated | Gap {
  if (masked.has(name)) return 'personal';
  if (distinct <= 1) return 'constant';
  const sql = identifier(name);
  const base = { name, isText: type === 'string', isBoolean: type === 'boolean', hasNulls: nulls > 0, distinct };
  if (values.kind === 'string') return distinct > MOST_VALUES || distinct * LEAST_ROWS_A_VALUE > rows - nulls ? 'manyValues' : { ...base, standard: '' };
  if (values.kind === 'timestamp') {
    const [from, to] = [Date.parse(values.min ?? ''), Date.parse(values.max ?? '')];
    if (!(to > from)) return 'constant';
    const ms = `epoch_us(CAST(${sql} AS TIMESTAMP)) / 1000.0::DOUBLE`;
    return { ...base, standard: standardised(ms, (from + to) / 2, to - from) };
  }
  const { mean, standardDeviation: deviation } = values;
  if (mean === null || deviation === null || !Number.isFinite(deviation) || !(deviation > LEAST_SPREAD * Math.abs(mean))) return 'constant';
  return { ...base, standard: standardised(`CAST(${sql} AS DOUBLE)`, mean, deviation) };
}

const standardised = (value: string, middle: number, spread: number): string => `((${value} - ${numberLiteral(middle)}) / ${numberLiteral(spread)})`;

interface Query {
  readonly db: DuckDb;
  readonly relation: string;
  readonly y: Correlated;
  /** Products are counted in parts of this many to one. A product of two standardised values is at most the number of rows. */
  readonly scale: number;
}

const scaleFor = (rows: number): number => 2 ** (INTEGER_BITS - Math.ceil(Math.log2(Math.max(2, rows))));
/** The sum of an expression as an integer of `scale` parts to one. */
const exactSum = (expression: string, scale: number): string => `sum(CAST(${expression} * ${numberLiteral(scale)} AS BIGINT))`;
const rounded = (value: number): number => Number(value.toFixed(10));
const inBatches = <Item>(items: readonly Item[], size: number): Item[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));

async function pearson({ db, relation, y, scale }: Query, columns: readonly Correlated[]): Promise<Figures> {
  const scan = createColumnScan(`${relation} WHERE ${identifier(y.name)} IS NOT NULL`);
  const total = (expression: string): number => scan.add(exactSum(expression, scale));
  const planned = columns.map(({ name, standard: x, hasNulls }) => {
    const there = `${identifier(name)} IS NOT NULL`;
    // Where no value is missing, what is said of the target alone is the same for all columns and computed once.
    const w = hasNulls ? `CASE WHEN ${there} THEN ${y.standard} END` : y.standard;
    return {
      name,
      n: scan.add(hasNulls ? `count(*) FILTER (WHERE ${there})` : 'count(*)'),
      sums: { x: total(x), y: total(w), xx: total(`${x} * ${x}`), yy: total(`${w} * ${y.standard}`), xy: total(`${x} * ${y.standard}`) },
    };
  });
  if (planned.length === 0) return new Map();
  const values = await scan.run(db);
  const figures = new Map<string, Omit<TargetCorrelation, 'column'>>();
  for (const { name, n: place, sums } of planned) {
    const n = toCount(values[place]);
    const sum = (at: number): number => toCount(values[at]) / scale;
    const spread = (of: number, a: number, b: number): number => sum(of) / n - (sum(a) / n) * (sum(b) / n);
    const [xx, yy] = [spread(sums.xx, sums.x, sums.x), spread(sums.yy, sums.y, sums.y)];
    if (n < 2 || xx < LEAST_VARIANCE || yy < LEAST_VARIANCE) continue;
    const r = spread(sums.xy, sums.x, sums.y) / Math.sqrt(xx * yy);
    figures.set(name, { measure: 'pearson', value: rounded(Math.max(-1, Math.min(1, r))), rows: n });
  }
  return figures;
}

interface Group {
  readonly n: number;
  readonly sum: number;
  readonly squares: number;
}

/** η² is the part of the sum of squares that lies between the groups. */
function ratioOf(groups: readonly Group[]): Omit<TargetCorrelation, 'column'> | undefined {
  const filled = groups.filter(({ n }) => n > 0);
  const n = filled.reduce((sum, group) => sum + group.n, 0);
  const mean = filled.reduce((sum, group) => sum + group.sum, 0) / n;
  const whole = filled.reduce((sum, group) => sum + group.squares, 0) / n - mean * mean;
  if (filled.length < 2 || !(whole >= LEAST_VARIANCE)) return undefined;
  const between = filled.reduce((sum, group) => sum + group.n * (group.sum / group.n - mean) ** 2, 0) / n;
  return { measure: 'correlationRatio', value: rounded(Math.sqrt(Math.min(1, between / whole))), rows: n };
}

/** Of a column that is a category, as a number: its values may be long texts. Null stays null. */
const category = (name: string): string => `CASE WHEN ${identifier(name)} IS NOT NULL THEN hash(${identifier(name)}) END`;

/** A number as target, texts as columns: one grouping set a column. */
async function ratiosByColumn({ db, relation, y, scale }: Query, columns: readonly Correlated[]): Promise<Figures> {
  const figures = new Map<string, Omit<TargetCorrelation, 'column'>>();
  for (const batch of inBatches(columns, SETS_A_QUERY)) {
    const keys = batch.map((_, index) => `k${String(index)}`);
    const projected = batch.map(({ name }, index) => `${category(name)} AS k${String(index)}`);
    const found = await db.rows(
      `SELECT grouping_id(${keys.join(', ')}) AS g, count(*) AS n, ${exactSum('w', scale)} AS s, ${exactSum('w * w', scale)} AS ss
      FROM (SELECT ${y.standard} AS w, ${projected.join(', ')} FROM ${relation} WHERE ${identifier(y.name)} IS NOT NULL)
      GROUP BY GROUPING SETS (${keys.map((key) => `(${key})`).join(', ')}) HAVING coalesce(${keys.join(', ')}) IS NOT NULL`,
    );
    batch.forEach(({ name }, index) => {
      const own = setId(index, batch.length);
      const groups = found
        .filter(({ g }) => toCount(g) === own)
        .map(({ n, s, ss }) => ({ n: toCount(n), sum: toCount(s) / scale, squares: toCount(ss) / scale }));
      const figure = ratioOf(groups);
      if (figure !== undefined) figures.set(name, figure);
    });
  }
  return figures;
}

/** What `grouping_id` of so many keys is for the set that holds the one at `index`: a bit for each key that is left out, the first one highest. */
const setId = (index: number, keys: number): number => 2 ** keys - 1 - 2 ** (keys - 1 - index);

/** A category as target, numbers as columns: one group a class. */
async function ratiosByTarget({ db, relation, y, scale }: Query, columns: readonly Correlated[]): Promise<Figures> {
  const figures = new Map<string, Omit<TargetCorrelation, 'column'>>();
  for (const batch of inBatches(columns, COLUMNS_A_QUERY)) {
    const sums = batch.map(
      ({ name, standard: x }, index) =>
        `count(${identifier(name)}) AS n${String(index)}, ${exactSum(x, scale)} AS s${String(index)}, ${exactSum(`${x} * ${x}`, scale)} AS ss${String(index)}`,
    );
    const found = await db.rows(`SELECT ${sums.join(', ')} FROM ${relation} WHERE ${identifier(y.name)} IS NOT NULL GROUP BY ${category(y.name)}`);
    batch.forEach(({ name }, index) => {
      const at = String(index);
      const figure = ratioOf(
        found.map((row) => ({ n: toCount(row[`n${at}`]), sum: toCount(row[`s${at}`]) / scale, squares: toCount(row[`ss${at}`]) / scale })),
      );
      if (figure !== undefined) figures.set(name, figure);
    });
  }
  return figures;
}

/** A category as target, categories as columns: the cells of each table of counts. */
async function associations({ db, relation, y }: Query, columns: readonly Correlated[]): Promise<Figures> {
  const figures = new Map<string, Omit<TargetCorrelation, 'column'>>();
  const largest = Math.max(2, ...columns.map(({ distinct }) => distinct)) * y.distinct;
  for (const batch of inBatches(columns, Math.max(1, Math.min(SETS_A_QUERY, Math.floor(MOST_CELLS / largest))))) {
    const keys = batch.map((_, index) => `k${String(index)}`);
    const projected = batch.map(({ name }, index) => `${category(name)} AS k${String(index)}`);
    const found = await db.rows(
      `SELECT grouping_id(${keys.join(', ')}) AS g, t, coalesce(${keys.join(', ')}) AS k, count(*) AS n
      FROM (SELECT ${category(y.name)} AS t, ${projected.join(', ')} FROM ${relation} WHERE ${identifier(y.name)} IS NOT NULL)
      GROUP BY GROUPING SETS (${keys.map((key) => `(t, ${key})`).join(', ')}) HAVING k IS NOT NULL`,
    );
    batch.forEach(({ name }, index) => {
      const own = setId(index, batch.length);
      const cells = found.filter(({ g }) => toCount(g) === own).map(({ t, k, n }) => ({ row: String(t), column: String(k), n: toCount(n) }));
      const figure = associationOf(cells);
      if (figure !== undefined) figures.set(name, figure);
    });
  }
  return figures;
}

/** Cramér's V with Bergsma's correction. */
function associationOf(cells: readonly { readonly row: string; readonly column: string; readonly n: number }[]): Omit<TargetCorrelation, 'column'> | undefined {
  const [rows, columns] = [new Map<string, number>(), new Map<string, number>()];
  let total = 0;
  for (const { row, column, n } of cells) {
    rows.set(row, (rows.get(row) ?? 0) + n);
    columns.set(column, (columns.get(column) ?? 0) + n);
    total += n;
  }
  if (rows.size < 2 || columns.size < 2) return undefined;
  // χ² / n, where empty cells need not be looked at.
  const square = cells.reduce((sum, { row, column, n }) => sum + (n / (rows.get(row) ?? n)) * (n / (columns.get(column) ?? n)), 0) - 1;
  const [r, k] = [rows.size, columns.size];
  const corrected = (count: number): number => count - (count - 1) ** 2 / (total - 1);
  const least = Math.min(corrected(r), corrected(k)) - 1;
  if (!(least > 0)) return undefined;
  const value = Math.sqrt(Math.max(0, square - ((k - 1) * (r - 1)) / (total - 1)) / least);
  return { measure: 'cramersV', value: rounded(Math.min(1, value)), rows: total };
}
