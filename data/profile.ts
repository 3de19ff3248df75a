/**
 * What the data is like. One pass gives counts, extremes and the approximate number of different values of all columns;
 * a second one over the columns that need it a better number of different values, and the lengths of long texts;
 * then each column with few different values is counted value by value, from which all else follows exactly.
 *
 * Invariants:
 * 1. The same rows give the same profile, whatever the number of threads: sums of doubles are added up per block of rows,
 *    the blocks in order, and rounded to 12 digits.
 * 2. Quantiles are values of the data: the least value with at least the share q at or below it.
 */
import type { DuckDBValue } from '@duckdb/node-api';
import type { Column } from '../contracts/columns.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';
import { type ColumnScan, createColumnScan } from './column-scan.ts';
import { type DistinctCount, planDistinct } from './distinct-count.ts';
import { type DuckDb, type DuckDbOptions, toCount, toNumber, toText, withDuckDb } from './duckdb.ts';
import { numberedRelation, ROW_NUMBER, type RankedFile } from './row-rank.ts';
import { ROW_GROUP_ROWS } from './dataset.ts';
import { countIntoBins, roundBins, roundBinSql } from './round-bins.ts';
import { identifier, numberLiteral, parquetRelation } from './sql-text.ts';
import { correlateWithTarget } from './target-correlations.ts';
import { countedLengths, lengthSql, type LengthCount } from './text-lengths.ts';

export const PROFILE_QUANTILES = [0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99] as const;
const BINS = 20;
const TOP_VALUES = 100;
export const TOP_VALUE_CHARACTERS = 200;
/** Up to so many different values are counted one by one; a table of that size is small in memory. */
const COUNTED_VALUES = 65_536;
/** Up to so many rows quantiles are exact; DuckDB holds a column's values for them. */
const EXACT_QUANTILE_ROWS = 20_000_000;

/** The base figures of a column, by their places in a scan. */
interface BasePlaces {
  readonly present: number;
  readonly distinct: number;
  readonly min: number;
  readonly max: number;
  readonly lengthMin: number;
  readonly lengthMean: number;
  readonly lengthMax: number;
}

export interface ProfilePlan {
  readonly rows: number;
  readonly columns: readonly { readonly column: Column; readonly places: BasePlaces }[];
}

export interface ProfileOptions extends DuckDbOptions {
  /** The column that is to be predicted: the profile then says how strongly the others go along with it. */
  readonly target?: string;
  /** Personal columns: nothing is correlated with them. */
  readonly masked?: ReadonlySet<string>;
}

/**
 * Profiles snapshot files. The result is the same for any number of threads, but for the approximate figures that the schema names.
 * @throws MillraceError COLUMN_MISSING where there is no such target
 */
export async function profileDataset(files: readonly RankedFile[], columns: readonly Column[], options: ProfileOptions = {}): Promise<Profile> {
  return withDuckDb(options, async (db) => {
    const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
    const plan = planProfile(scan, columns);
    return finishProfile(db, files, plan, await scan.run(db), options);
  });
}

/** Adds to a scan what a profile needs of it. */
export function planProfile(scan: ColumnScan, columns: readonly Column[]): ProfilePlan {
  const rows = scan.add('count(*)');
  return {
    rows,
    columns: columns.map((column) => {
      const name = identifier(column.name);
      const text = column.type === 'string';
      const value = ordered(column);
      const present = scan.add(`count(${name})`);
      return {
        column,
        places: {
          present,
          distinct: scan.add(`approx_count_distinct(${name})`),
          min: text ? present : scan.add(`min(${value})`),
          max: text ? present : scan.add(`max(${value})`),
          lengthMin: text ? scan.add(`min(length(${name}))`) : present,
          lengthMean: text ? scan.add(`sum(length(${name}))`) : present,
          lengthMax: text ? scan.add(`max(length(${name}))`) : present,
        },
      };
    }),
  };
}

/** A column as a DOUBLE: numbers as they are, booleans 0 and 1, instants in milliseconds. */
const ordered = ({ name, type }: Column): string =>
  type === 'timestamp' || type === 'date' ? `floor(epoch_us(CAST(${identifier(name)} AS TIMESTAMP)) / 1000.0::DOUBLE)` : `CAST(${identifier(name)} AS DOUBLE)`;

export async function finishProfile(
  db: DuckDb,
  files: readonly RankedFile[],
  plan: ProfilePlan,
  values: readonly DuckDBValue[],
  { target, masked }: Pick<ProfileOptions, 'target' | 'masked'> = {},
): Promise<Profile> {
  const rows = toCount(values[plan.rows]);
  const second = createColumnScan(parquetRelation(files.map(({ path }) => path)));
  const planned = plan.columns.map(({ column, places }) => {
    const present = toCount(values[places.present]);
    const estimate = toCount(values[places.distinct]);
    const lengths = { min: toNumber(values[places.lengthMin]), sum: toNumber(values[places.lengthMean]), max: toNumber(values[places.lengthMax]) };
    const text = column.type === 'string';
    // Texts are counted value by value, unless most of them occur once: then the most frequent ones say nothing, and counting them would cost the most.
    const counted = text
      ? estimate <= COUNTED_VALUES || estimate <= present / 2
      : column.type !== 'timestamp' && column.type !== 'date' && estimate <= COUNTED_VALUES;
    // Values that differ only behind the cut are counted as one.
    const cut = text && (lengths.max ?? 0) > TOP_VALUE_CHARACTERS;
    return {
      column,
      present,
      min: toNumber(values[places.min]),
      max: toNumber(values[places.max]),
      lengths,
      counted,
      distinct: present === 0 || (counted && !cut) ? undefined : planDistinct(second, column, estimate, COUNTED_VALUES),
      lengthCounts: text && present > 0 && (!counted || cut) ? second.add(`histogram(${lengthSql(identifier(column.name))})`) : undefined,
    };
  });
  const more = planned.some(({ distinct, lengthCounts }) => distinct !== undefined || lengthCounts !== undefined) ? await second.run(db) : [];
  const columns: ColumnProfile[] = [];
  for (const { column, distinct: known, lengthCounts, lengths, ...figures } of planned) {
    const base: Base = { files, column, rows, ...figures };
    const said =
      column.type === 'string'
        ? await textProfile(db, base, lengths, lengthCounts === undefined ? undefined : lengthsOf(more[lengthCounts]))
        : column.type === 'timestamp' || column.type === 'date'
          ? await timeProfile(db, base)
          : await numberProfile(db, base);
    const { distinct, error }: DistinctCount = known?.(more) ?? { distinct: said.distinct };
    columns.push({
      name: column.name,
      type: column.type,
      nulls: rows - base.present,
      distinct: Math.min(distinct, base.present),
      ...(error === undefined ? {} : { distinctError: error }),
      values: said.values,
    });
  }
  const profile: Profile = { format: 'millrace-profile/1', rows, columns };
  return target === undefined ? profile : { ...profile, correlations: await correlateWithTarget(db, files, profile, target, masked ?? new Set()) };
}

/** What DuckDB's `histogram` gave, shortest first. */
const lengthsOf = (value: DuckDBValue | undefined): readonly LengthCount[] =>
  ((value as { readonly entries?: readonly { readonly key: DuckDBValue; readonly value: DuckDBValue }[] } | null | undefined)?.entries ?? [])
    .map((entry) => ({ value: toCount(entry.key), count: toCount(entry.value) }))
    .sort((a, b) => a.value - b.value);

interface Base {
  readonly files: readonly RankedFile[];
  readonly column: Column;
  readonly rows: number;
  readonly present: number;
  readonly min: number | null;
  readonly max: number | null;
  /** Whether the values are few enough to be counted one by one. */
  readonly counted: boolean;
}
interface Said {
  /** 0 where it was not counted. */
  readonly distinct: number;
  readonly values: ColumnProfile['values'];
}

const relationOf = ({ files }: Base): string => parquetRelation(files.map(({ path }) => path));
const rounded = (value: number): number => Number(value.toPrecision(12));

async function numberProfile(db: DuckDb, base: Base): Promise<Said> {
  const { column, min, max, present } = base;
  if (present === 0 || min === null || max === null) {
    return {
      distinct: 0,
      values: { kind: 'number', min: null, max: null, mean: null, standardDeviation: null, quantiles: [], histogram: { edges: [], counts: [] } },
    };
  }
  if (!base.counted) return manyNumbers(db, base, min, max);
  const value = ordered(column);
  const found = await db.rows(
    `SELECT ${value} AS v, count(*) AS n FROM ${relationOf(base)} WHERE ${identifier(column.name)} IS NOT NULL GROUP BY ALL ORDER BY v`,
  );
  const counted = found.map(({ v, n }) => ({ value: toCount(v), count: toCount(n) }));
  const mean = counted.reduce((sum, entry) => sum + entry.value * entry.count, 0) / present;
  const squares = counted.reduce((sum, entry) => sum + (entry.value - mean) ** 2 * entry.count, 0);
  const edges = binEdges(min, max);
  const counts = new Array<number>(edges.length - 1).fill(0);
  for (const entry of counted) {
    const bin = binOf(entry.value, min, max);
    counts[bin] = (counts[bin] ?? 0) + entry.count;
  }
  const quantiles = countedQuantiles(counted, present);
  const bulk = { min, max, low: valueAt(quantiles, 0.01), high: valueAt(quantiles, 0.99) };
  return {
    distinct: counted.length,
    values: {
      kind: 'number',
      min,
      max,
      mean: rounded(mean),
      standardDeviation: present > 1 ? rounded(Math.sqrt(squares / (present - 1))) : null,
      quantiles,
      histogram: { edges, counts },
      display: countIntoBins(roundBins(bulk, column.type !== 'number'), counted),
    },
  };
}

const valueAt = (quantiles: readonly { readonly q: number; readonly value: number }[], q: number): number =>
  quantiles.find((entry) => entry.q === q)?.value ?? 0;

function countedQuantiles(
  counted: readonly { readonly value: number; readonly count: number }[],
  present: number,
): { q: number; value: number; atOrBelow: number }[] {
  const quantiles: { q: number; value: number; atOrBelow: number }[] = [];
  let below = 0;
  let next = 0;
  for (const { value, count } of counted) {
    below += count;
    for (let q = PROFILE_QUANTILES[next]; q !== undefined && below >= Math.ceil(q * present); q = PROFILE_QUANTILES[++next])
      quantiles.push({ q, value, atOrBelow: rounded(below / present) });
  }
  return quantiles;
}

async function manyNumbers(db: DuckDb, base: Base, min: number, max: number): Promise<Said> {
  const { column, files, present } = base;
  const value = ordered(column);
  const approximate = base.rows > EXACT_QUANTILE_ROWS;
  const shares = `[${PROFILE_QUANTILES.join(', ')}]`;
  const { list } = await db.row(`SELECT unnest([${approximate ? 'approx_quantile' : 'quantile_disc'}(${value}, ${shares})]) AS list FROM ${relationOf(base)}`);
  const items = (list as { readonly items?: readonly DuckDBValue[] } | null)?.items ?? [];
  const quantiles = PROFILE_QUANTILES.map((q, index) => ({ q, value: toCount(items[index]) }));
  const round = roundBins({ min, max, low: valueAt(quantiles, 0.01), high: valueAt(quantiles, 0.99) }, column.type !== 'number');
  const numbered = `(SELECT ${value} AS v, ${ROW_NUMBER} // ${ROW_GROUP_ROWS} AS block FROM ${numberedRelation(files, [column.name])} WHERE ${identifier(column.name)} IS NOT NULL)`;
  const sums = await db.rows(`SELECT block, sum(v) AS s FROM ${numbered} GROUP BY block ORDER BY block`);
  const mean = sums.reduce((sum, { s }) => sum + toCount(s), 0) / present;
  const bins = await db.rows(
    `SELECT block, ${binSql('v', min, max)} AS bin, ${roundBinSql('v', round)} AS shown, count(*) AS n, sum((v - ${numberLiteral(mean)}) * (v - ${numberLiteral(mean)})) AS s FROM ${numbered} GROUP BY ALL ORDER BY block, bin, shown`,
  );
  const edges = binEdges(min, max);
  const counts = new Array<number>(edges.length - 1).fill(0);
  const display = countIntoBins(round, []);
  let squares = 0;
  for (const { bin, shown, n, s } of bins) {
    const [place, more] = [toCount(shown), toCount(n)];
    counts[toCount(bin)] = (counts[toCount(bin)] ?? 0) + more;
    if (place < 0) display.below += more;
    else if (place >= display.counts.length) display.above += more;
    else display.counts[place] = (display.counts[place] ?? 0) + more;
    squares += toCount(s);
  }
  return {
    distinct: 0,
    values: {
      kind: 'number',
      min,
      max,
      mean: rounded(mean),
      standardDeviation: present > 1 ? rounded(Math.sqrt(squares / (present - 1))) : null,
      quantiles,
      ...(approximate ? { approximate } : {}),
      histogram: { edges, counts },
      display,
    },
  };
}

const binEdges = (min: number, max: number): number[] =>
  min === max ? [min, max] : Array.from({ length: BINS + 1 }, (_, index) => (index === BINS ? max : min + ((max - min) / BINS) * index));
const binOf = (value: number, min: number, max: number): number => (min === max ? 0 : Math.min(BINS - 1, Math.floor((value - min) / ((max - min) / BINS))));
const binSql = (value: string, min: number, max: number): string =>
  min === max ? '0' : `CAST(least(${BINS - 1}, floor((${value} - ${numberLiteral(min)}) / ${numberLiteral((max - min) / BINS)})) AS INTEGER)`;

async function timeProfile(db: DuckDb, base: Base): Promise<Said> {
  const { column, min, max, present } = base;
  if (present === 0 || min === null || max === null)
    return { distinct: 0, values: { kind: 'timestamp', min: null, max: null, histogram: { edges: [], counts: [] } } };
  const found = await db.rows(
    `SELECT ${binSql(ordered(column), min, max)} AS bin, count(*) AS n FROM ${relationOf(base)} WHERE ${identifier(column.name)} IS NOT NULL GROUP BY ALL`,
  );
  const edges = binEdges(min, max);
  const counts = new Array<number>(edges.length - 1).fill(0);
  for (const { bin, n } of found) counts[toCount(bin)] = toCount(n);
  return { distinct: 0, values: { kind: 'timestamp', min: isoText(min), max: isoText(max), histogram: { edges: edges.map(isoText), counts } } };
}

const isoText = (ms: number): string => new Date(Math.floor(ms)).toISOString();

async function textProfile(
  db: DuckDb,
  base: Base,
  lengths: { readonly min: number | null; readonly sum: number | null; readonly max: number | null },
  measured: readonly LengthCount[] | undefined,
): Promise<Said> {
  const { column, present } = base;
  const name = identifier(column.name);
  const said = (distinct: number, top: { value: string; count: number }[], counts: readonly LengthCount[]): Said => ({
    distinct,
    values: {
      kind: 'string',
      lengthMin: lengths.min,
      lengthMean: lengths.sum === null ? null : rounded(lengths.sum / present),
      lengthMax: lengths.max,
      ...(counts.length === 0 ? {} : { lengths: countedLengths(counts) }),
      top,
    },
  });
  if (present === 0) return said(0, [], []);
  if (!base.counted) return said(0, [], measured ?? []);
  const counted = `SELECT left(${name}, ${TOP_VALUE_CHARACTERS}) AS v, count(*) AS n FROM ${relationOf(base)} WHERE ${name} IS NOT NULL GROUP BY ALL`;
  // Values and lengths from the same counts: rows with a value are the most frequent ones, rows with a length all others together.
  const found = await db.rows(
    `WITH counted AS MATERIALIZED (${counted}),
      top AS (SELECT v, n, count(*) OVER () AS d FROM counted ORDER BY n DESC, v LIMIT ${TOP_VALUES})
    SELECT v, n, d, NULL AS l FROM top UNION ALL SELECT NULL, CAST(sum(n) AS BIGINT), NULL, length(v) AS l FROM counted GROUP BY l
    ORDER BY l NULLS FIRST, n DESC, v`,
  );
  const top = found.filter(({ l }) => l === null);
  return said(
    toCount(top[0]?.['d']),
    top.map(({ v, n }) => ({ value: toText(v) ?? '', count: toCount(n) })),
    measured ?? found.filter(({ l }) => l !== null).map(({ l, n }) => ({ value: toCount(l), count: toCount(n) })),
  );
}
