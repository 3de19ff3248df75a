/**
 * Cleaning by a recipe.
 *
 * Invariants:
 * 1. Figures that a rule uses come from the rows that it is fitted on, as they are at that point of the recipe.
 * 2. What is done to a row alone is remembered in the manifest as row transforms, fitted figures and all: a request is treated the same.
 * 3. Rules over many rows change the main dataset only. A column whose values they change is unserved.
 * 4. Rows keep their order; the same data and recipe give the same bytes.
 */
import type { Column } from '../contracts/columns.ts';
import { type CleanReport, type CleanRule, isFitted, isForTraining, type RuleReport } from '../contracts/clean-rules.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import { type RowTransform, RowTransformSchema } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type Fitted, type FittedColumn, ruleColumns, ruleTransforms } from './clean-rules.ts';
import { datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, toNumber, toText, withDuckDb } from './duckdb.ts';
import { sensitiveAfter } from './personal-data.ts';
import { numberedRelation, ROW_NUMBER } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { voteTable } from './source-votes.ts';
import { identifier, numberLiteral } from './sql-text.ts';
import { unservedAfter } from './unserved.ts';

export interface CleanOptions extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the result's parent. */
  readonly id: string;
  readonly rules: readonly (CleanRule | RowTransform)[];
  /** Rows that fitted rules take their figures from; `id` of the dataset itself: its own rows. Default: fitted rules are refused. */
  readonly fitOn?: { readonly manifest: DatasetManifest; readonly id: string };
  /** Datasets that get the row-wise rules alike. */
  readonly alongside?: Readonly<Record<string, { readonly manifest: DatasetManifest; readonly id: string }>>;
  readonly artifacts: ArtifactPort;
  /** Needed where a transform hashes. */
  readonly hashKey?: string;
}

export interface CleanedDatasets {
  readonly dataset: StoredDataset;
  readonly alongside: Readonly<Record<string, StoredDataset>>;
  readonly report: CleanReport;
}

const isRule = (rule: CleanRule | RowTransform): rule is CleanRule => 'rule' in rule;
const numberColumn: Column = { name: ROW_NUMBER, type: 'integer' };
/** A group's column with more values than this cannot be imputed by. */
const MOST_GROUPS = 900;

/** A dataset on its way through the recipe. */
interface Way {
  readonly manifest: DatasetManifest;
  relation: string;
  columns: readonly Column[];
  unserved: Record<string, string>;
  sensitive: DatasetManifest['sensitive'];
  transforms: RowTransform[];
  /** Whether rows may have been left out or moved. */
  filtered: boolean;
}

/**
 * Cleans a dataset, and others alongside.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS with every problem of a rule; SOURCE_EMPTY where no row is kept
 */
export async function cleanDataset(options: CleanOptions): Promise<CleanedDatasets> {
  const { manifest, id, rules, fitOn, alongside = {}, artifacts, hashKey } = options;
  const fitted = rules.filter((rule): rule is CleanRule => isRule(rule) && isFitted(rule));
  if (fitted.length > 0 && fitOn === undefined) {
    throw new MillraceError(
      'INVALID_PARAMETERS',
      `The rules ${[...new Set(fitted.map(({ rule }) => rule))].join(', ')} take figures from rows: those have to be training rows.`,
      {
        fix: 'Split first and clean the parts together, clean(parts, rules): figures then come from the training part. Or name the rows with fitOn.',
      },
    );
  }
  if (fitted.length > 0 && fitOn !== undefined && fitOn.manifest.reserved !== null) {
    throw new MillraceError('INVALID_PARAMETERS', `Rules take no figures from ${fitOn.manifest.name}: its rows are kept from sight.`, {
      fix: 'Name the training part with fitOn.',
    });
  }
  return withDuckDb(options, async (db) => {
    if (hashKey !== undefined) await bindHashKey(db, hashKey);
    const wayOf = async (of: DatasetManifest): Promise<Way> => {
      const names = of.columns.map(({ name }) => name);
      return {
        manifest: of,
        relation: numberedRelation(await datasetFiles(artifacts, of), names),
        columns: [...of.columns, numberColumn],
        unserved: of.unserved,
        sensitive: of.sensitive,
        transforms: [],
        filtered: false,
      };
    };
    const main = await wayOf(manifest);
    const others = new Map<string, Way>();
    for (const [name, other] of Object.entries(alongside)) others.set(name, await wayOf(other.manifest));
    const fit = fitOn === undefined || fitOn.id === id ? main : await wayOf(fitOn.manifest);
    const ways = [...new Set([main, fit, ...others.values()])];
    const reports: RuleReport[] = [];
    for (const [index, rule] of rules.entries()) {
      const rowsBefore = await rowCount(db, main);
      const before = { relation: main.relation, columns: main.columns };
      const figures = isRule(rule) ? await figuresOf(db, rule, fit) : new Map<string, FittedColumn>();
      if (isRule(rule) && isForTraining(rule)) {
        const touched = await overRows(db, main, rule, figures, `millrace_clean_${index}`);
        reports.push({ rule, rowsBefore, rowsAfter: await rowCount(db, main), columns: touched });
        continue;
      }
      const columns = main.columns.filter((column) => column !== numberColumn);
      const transforms = isRule(rule) ? ruleTransforms(rule, columns, figures) : [rule];
      for (const way of ways) apply(way, transforms);
      reports.push({
        rule,
        rowsBefore,
        rowsAfter: isRule(rule) ? rowsBefore : await rowCount(db, main),
        columns: await changes(db, before, transforms, figures),
      });
    }
    const write = async (way: Way, parent: string): Promise<StoredDataset> => {
      const columns = way.columns.filter(({ name }) => name !== ROW_NUMBER).map(({ name, type }) => ({ name, type }));
      const order = way.filtered ? ` ORDER BY ${ROW_NUMBER}` : '';
      const written = await writeSnapshot(db, artifacts, `SELECT ${columns.map(({ name }) => identifier(name)).join(', ')} FROM ${way.relation}${order}`, {
        filtered: way.filtered,
        whenEmpty: () =>
          new MillraceError('SOURCE_EMPTY', `No row of the dataset ${way.manifest.name} is kept.`, {
            fix: 'Loosen the condition of keep, or the bounds of dropOutliers.',
          }),
      });
      const there = (name: string): boolean => columns.some((column) => column.name === name);
      return storeManifest(artifacts, {
        ...way.manifest,
        rows: written.rows,
        columns,
        files: [written],
        transforms: [...way.manifest.transforms, ...way.transforms],
        profile: null,
        parents: [parent],
        unserved: Object.fromEntries(Object.entries(way.unserved).filter(([name]) => there(name))),
        sensitive: Object.fromEntries(Object.entries(way.sensitive).filter(([name]) => there(name))),
      });
    };
    const dataset = await write(main, id);
    const written: Record<string, StoredDataset> = {};
    for (const [name, way] of others) written[name] = await write(way, alongside[name]?.id ?? id);
    return { dataset, alongside: written, report: { format: 'millrace-clean/1', rules: reports } };
  });
}

function apply(way: Way, transforms: readonly RowTransform[]): void {
  const { sql, columns } = transformedRelation(way.relation, transforms, way.columns);
  way.relation = sql;
  way.columns = columns;
  way.unserved = unservedAfter(way.unserved, transforms);
  way.sensitive = sensitiveAfter(way.sensitive, transforms);
  way.transforms.push(...transforms.map((transform) => RowTransformSchema.parse(transform)));
  if (transforms.some(({ kind }) => kind === 'keep')) way.filtered = true;
}

const rowCount = async (db: DuckDb, { relation }: Pick<Way, 'relation'>): Promise<number> =>
  toCount((await db.row(`SELECT count(*) AS n FROM ${relation}`))['n']);

/** How the values of each column that the transforms set differ before and after. */
async function changes(
  db: DuckDb,
  before: Pick<Way, 'relation' | 'columns'>,
  transforms: readonly RowTransform[],
  figures: Fitted,
): Promise<RuleReport['columns']> {
  const set = new Set(transforms.flatMap((transform) => (transform.kind === 'set' ? [transform.column] : [])));
  const names = [...set].filter((name) => before.columns.some((column) => column.name === name));
  if (names.length === 0) return [];
  const numeric = (type: Column['type'] | undefined): boolean => type === 'number' || type === 'integer';
  const typeBefore = (name: string): Column['type'] | undefined => before.columns.find((column) => column.name === name)?.type;
  // numbers are compared as such: a whole one that becomes a double is the same
  const copies = names.map((name, index): Column => ({ name: `__millrace_before_${index}`, type: numeric(typeBefore(name)) ? 'number' : 'string' }));
  const cast = (name: string, type: Column['type']): string => `CAST(${name} AS ${type === 'number' ? 'DOUBLE' : 'VARCHAR'})`;
  const list = names.map((name, index) => `${cast(identifier(name), copies[index]?.type ?? 'string')} AS ${copies[index]?.name ?? ''}`).join(', ');
  const both = transformedRelation(`(SELECT *, ${list} FROM ${before.relation})`, transforms, [...before.columns, ...copies]);
  const counts = names.flatMap((name, index) => {
    const [then, now] = [copies[index]?.name ?? '', identifier(name)];
    const bothNumbers = numeric(typeBefore(name)) && numeric(both.columns.find((column) => column.name === name)?.type);
    const [a, b] = bothNumbers ? [then, cast(now, 'number')] : [cast(then, 'string'), cast(now, 'string')];
    return [
      `count(*) FILTER (WHERE ${a} IS DISTINCT FROM ${b}) AS c${index}`,
      `count(*) FILTER (WHERE ${then} IS NOT NULL AND ${now} IS NULL) AS n${index}`,
      `count(*) FILTER (WHERE ${then} IS NULL AND ${now} IS NOT NULL) AS f${index}`,
    ];
  });
  const row = await db.row(`SELECT ${counts.join(', ')} FROM ${both.sql}`);
  return names.map((column, index) => ({
    column,
    changed: toCount(row[`c${index}`]),
    madeNull: toCount(row[`n${index}`]),
    filled: toCount(row[`f${index}`]),
    ...fittedText(figures.get(column)),
  }));
}

function fittedText(figures: FittedColumn | undefined): Pick<RuleReport['columns'][number], 'fitted'> {
  if (figures === undefined) return {};
  const { groups, ...one } = figures;
  return { fitted: { ...one, ...Object.fromEntries((groups ?? []).map(({ group, value }) => [String(group), value])) } };
}

/** What a rule takes from the rows that it is fitted on. */
async function figuresOf(db: DuckDb, rule: CleanRule, { relation, columns }: Way): Promise<Fitted> {
  const found = new Map<string, FittedColumn>();
  if (rule.rule !== 'impute' && rule.rule !== 'clip' && rule.rule !== 'dropOutliers') return found;
  for (const column of ruleColumns(rule, columns))
    found.set(column.name, rule.rule === 'impute' ? await imputed(db, rule, column, relation, columns) : await bounds(db, rule.bounds, column, relation));
  return found;
}

async function bounds(db: DuckDb, how: (CleanRule & { rule: 'clip' })['bounds'], column: Column, relation: string): Promise<FittedColumn> {
  if (how.by === 'range') return { min: how.min, max: how.max };
  const name = `CAST(${identifier(column.name)} AS DOUBLE)`;
  if (how.by === 'iqr') {
    const row = await db.row(`SELECT quantile_disc(${name}, 0.25) AS a, quantile_disc(${name}, 0.75) AS b FROM ${relation}`);
    const [low, high] = [toNumber(row['a']), toNumber(row['b'])];
    if (low === null || high === null) return { min: null, max: null };
    return { min: low - how.k * (high - low), max: high + how.k * (high - low) };
  }
  const row = await db.row(`SELECT avg(${name}) AS m, stddev_samp(${name}) AS s FROM ${relation}`);
  const [mean, deviation] = [toNumber(row['m']), toNumber(row['s'])];
  if (mean === null || deviation === null) return { min: null, max: null };
  // Sums of doubles depend on their order in the last digits: twelve digits do not.
  return { min: Number((mean - how.k * deviation).toPrecision(12)), max: Number((mean + how.k * deviation).toPrecision(12)) };
}

async function imputed(db: DuckDb, rule: CleanRule & { rule: 'impute' }, column: Column, relation: string, columns: readonly Column[]): Promise<FittedColumn> {
  if (typeof rule.with !== 'string') return { value: rule.with.value };
  const numeric = column.type === 'number' || column.type === 'integer';
  if (rule.with !== 'mode' && !numeric)
    throw new MillraceError('COLUMN_TYPE', `The ${rule.with} is for numbers; ${column.name} is of type ${column.type}.`, {
      fix: "Use 'mode', or name a value.",
    });
  const name = identifier(column.name);
  const counted = (by: string): string => `SELECT ${by}${name} AS v, count(*) AS n FROM ${relation} WHERE ${name} IS NOT NULL GROUP BY ALL`;
  const figure = rule.with === 'mean' ? `avg(CAST(${name} AS DOUBLE))` : `quantile_disc(CAST(${name} AS DOUBLE), 0.5)`;
  const one = (value: unknown): string | number | boolean | null =>
    value === null || value === undefined
      ? null
      : numeric
        ? Number(toCount(value as never).toPrecision(12))
        : typeof value === 'boolean'
          ? value
          : (toText(value as never) ?? null);
  const all =
    rule.with === 'mode'
      ? (await db.rows(`SELECT v FROM (${counted('')}) ORDER BY n DESC, v LIMIT 1`))[0]?.['v']
      : (await db.row(`SELECT ${figure} AS v FROM ${relation}`))['v'];
  if (rule.by === undefined) return { value: one(all) };
  const group = columns.find(({ name: there }) => there === rule.by);
  if (group === undefined || group.type === 'timestamp' || group.type === 'date' || group.type === 'number')
    throw new MillraceError('COLUMN_TYPE', `Values are imputed by groups of a column of type string, integer or boolean; ${rule.by} is not one.`);
  const key = identifier(group.name);
  const rows =
    rule.with === 'mode'
      ? await db.rows(
          `SELECT g, v FROM (SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY n DESC, v) AS place FROM (${counted(`${key} AS g, `)})) WHERE place = 1 AND g IS NOT NULL ORDER BY g`,
        )
      : await db.rows(`SELECT ${key} AS g, ${figure} AS v FROM ${relation} WHERE ${name} IS NOT NULL AND ${key} IS NOT NULL GROUP BY ALL ORDER BY g`);
  if (rows.length > MOST_GROUPS)
    throw new MillraceError('INVALID_PARAMETERS', `${rule.by} has ${rows.length} values: at most ${MOST_GROUPS} groups can be imputed by.`, {
      fix: 'Impute by a column with fewer values.',
    });
  const groups = rows.flatMap(({ g, v }) => {
    const value = one(v);
    const named = group.type === 'integer' ? toCount(g) : typeof g === 'boolean' ? g : (toText(g ?? null) ?? '');
    return value === null ? [] : [{ group: named, value }];
  });
  return { value: one(all), groups };
}

/** Applies a rule over many rows. The relation becomes a table: later rules need not do it again. */
async function overRows(db: DuckDb, way: Way, rule: CleanRule, figures: Fitted, name: string): Promise<RuleReport['columns']> {
  const columns = way.columns.filter(({ name: there }) => there !== ROW_NUMBER);
  const affected = ruleColumns(rule, columns);
  const adopt = async (sql: string): Promise<void> => {
    await db.run(`CREATE TEMPORARY TABLE ${name} AS ${sql}`);
    way.relation = name;
    way.filtered = true;
  };
  if (rule.rule === 'dropOutliers') {
    const outside = affected.flatMap((column) => {
      const { min = null, max = null } = figures.get(column.name) ?? {};
      const value = identifier(column.name);
      return [...(min === null ? [] : [`${value} < ${numberLiteral(min)}`]), ...(max === null ? [] : [`${value} > ${numberLiteral(max)}`])];
    });
    await adopt(`SELECT * FROM ${way.relation} WHERE NOT coalesce(${outside.length === 0 ? 'false' : outside.join(' OR ')}, false)`);
    return affected.map((column) => ({ column: column.name, changed: 0, madeNull: 0, filled: 0, ...fittedText(figures.get(column.name)) }));
  }
  if (rule.rule === 'deduplicate') {
    const alike = (rule.by === undefined ? columns : affected).map((column) => identifier(column.name)).join(', ');
    const order =
      typeof rule.keep === 'object' ? `${identifier(rule.keep.latest)} DESC NULLS LAST, ${ROW_NUMBER}` : `${ROW_NUMBER}${rule.keep === 'last' ? ' DESC' : ''}`;
    await adopt(`SELECT * FROM ${way.relation} QUALIFY row_number() OVER (PARTITION BY ${alike} ORDER BY ${order}) = 1`);
    return [];
  }
  if (rule.rule !== 'fillFromMajority') return [];
  await db.run(`CREATE TEMPORARY TABLE ${name}_rows AS SELECT * FROM ${way.relation}`);
  const reports: RuleReport['columns'][number][] = [];
  let filled = `${name}_rows AS r`;
  const replaced: string[] = [];
  for (const [index, column] of affected.entries()) {
    const { groups, votes } = await voteTable(
      db,
      {
        relation: `${name}_rows`,
        by: rule.by,
        column: column.name,
        ...(rule.source === undefined ? {} : { source: rule.source }),
        ...(rule.trusted === undefined ? {} : { trusted: rule.trusted }),
      },
      `${name}_${index}`,
    );
    const same = rule.by.map((key) => `r.${identifier(key)} IS NOT DISTINCT FROM k${index}.${identifier(key)}`).join(' AND ');
    filled += ` LEFT JOIN ${groups} AS k${index} ON ${same} LEFT JOIN ${votes} AS v${index} ON v${index}.g = k${index}.g`;
    replaced.push(`coalesce(v${index}.v, r.${identifier(column.name)}) AS ${identifier(column.name)}`);
    way.unserved = { ...way.unserved, [column.name]: 'the rule fillFromMajority' };
  }
  await adopt(`SELECT r.* REPLACE (${replaced.join(', ')}) FROM ${filled}`);
  for (const column of affected) {
    const value = identifier(column.name);
    const row = await db.row(
      `SELECT count(*) FILTER (WHERE b.${value} IS DISTINCT FROM a.${value}) AS c, count(*) FILTER (WHERE b.${value} IS NULL AND a.${value} IS NOT NULL) AS f FROM ${name}_rows AS b JOIN ${name} AS a USING (${ROW_NUMBER})`,
    );
    reports.push({ column: column.name, changed: toCount(row['c']), madeNull: 0, filled: toCount(row['f']) });
  }
  return reports;
}
