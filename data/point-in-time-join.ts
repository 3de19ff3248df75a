/**
 * Finds, for labels, the rows of a history that count at each label's instant, and aggregates over trailing windows.
 *
 * Rows and labels are put in one order: by entity, instant, rows before labels, row number. One pass over that order knows at
 * each label the entity's last row and what its windows hold. For what is a row's own value (values, `last`, `min`, `max`) it
 * gives row numbers: only few and narrow columns are put in order, and values of any type are fetched once it is known which
 * are wanted.
 *
 * Invariants:
 * 1. What a label gets depends on its own entity's rows alone: on no other label, no number of threads, no order of reading.
 * 2. Only rows that can count are put in order: of entities that labels ask for, not after the entity's last label, and no
 *    longer before its first than the features look back.
 */
import type { Column } from '../contracts/columns.ts';
import type { Aggregate, ViewFeature } from '../contracts/feature-views.ts';
import type { DuckDb } from './duckdb.ts';
import { createHistoryPass, createRowSink, FLAGS_PER_COLUMN, LABELS_FROM, type PassPlan, type WindowOutput, type WindowPlan } from './history-pass.ts';
import { ROW_NUMBER } from './row-rank.ts';
import { DUCKDB_TYPE, identifier } from './sql-text.ts';

/** Labels or rows: a relation with its row numbers, and the column (TIMESTAMP or DATE) of their instants. */
export interface TimedRows {
  readonly relation: string;
  readonly eventTime: string;
}

export interface SoughtFeature {
  readonly column: Column;
  readonly feature: ViewFeature;
  /** A column of the history; null where rows are counted. */
  readonly operand: Column | null;
}

export interface History extends TimedRows {
  /** The same columns name the entity in the labels. */
  readonly entity: readonly string[];
  readonly ttlMs: number | null;
  readonly features: readonly SoughtFeature[];
}

export interface FoundFeatures {
  /** `LEFT JOIN`s to labels with the alias `l`. */
  readonly joins: string;
  /** Expressions over those joins, by feature. */
  readonly columns: ReadonlyMap<string, string>;
}

const US_PER_MS = 1000n;
const AT = '__millrace_us';
const ENTITY = '__millrace_entity';

/** Looks the features up. Leaves tables in the database whose names start with `__millrace_NAME`. */
export async function findFeatures(db: DuckDb, labels: TimedRows, history: History, name: string): Promise<FoundFeatures> {
  const table = (what: string): string => identifier(`__millrace_${name}_${what}`);
  const plan = planFeatures(history);
  const entity = history.entity.map(identifier);
  const timed = ({ relation, eventTime }: TimedRows, more: readonly string[]): string => {
    const present = [...entity, identifier(eventTime)].map((column) => `${column} IS NOT NULL`).join(' AND ');
    const at = `epoch_us(CAST(${identifier(eventTime)} AS TIMESTAMP)) AS ${AT}`;
    return `(SELECT ${[...entity, ...more, at, ROW_NUMBER].join(', ')} FROM ${relation} WHERE ${present})`;
  };
  const asked = timed(labels, []);
  const from = plan.reachUs === null ? '-9223372036854775808' : `greatest(min(${AT})::HUGEINT - ${String(plan.reachUs)}, -9223372036854775808)::BIGINT`;
  await db.run(
    `CREATE TEMP TABLE ${table('entities')} AS SELECT ${entity.join(', ')}, (row_number() OVER () - 1)::INTEGER AS ${ENTITY}, ${from} AS __millrace_from, max(${AT}) AS __millrace_until FROM ${asked} GROUP BY ${entity.join(', ')}`,
  );
  const known = `JOIN ${table('entities')} e ON ${entity.map((column) => `r.${column} = e.${column}`).join(' AND ')}`;
  const list = (columns: readonly string[]): string => columns.map((column) => `, ${column}`).join('');
  const ordered = `SELECT * FROM (
    SELECT e.${ENTITY}, r.${AT}, r.${ROW_NUMBER}::DOUBLE AS ${ROW_NUMBER}${list(plan.streamed.map(({ sql }) => sql))} FROM ${timed(history, plan.operands)} r ${known} WHERE r.${AT} BETWEEN e.__millrace_from AND e.__millrace_until
    UNION ALL SELECT e.${ENTITY}, r.${AT}, r.${ROW_NUMBER} + ${LABELS_FROM}::DOUBLE${list(plan.streamed.map(({ none }) => none))} FROM ${asked} r ${known}
  ) ORDER BY ${ENTITY}, ${AT}, ${ROW_NUMBER}`;
  await db.run(`CREATE TABLE ${table('found')} (${plan.outputs.map((output) => `${output} DOUBLE`).join(', ')})`);
  await db.beside(async (connection) => {
    const sink = createRowSink(await connection.createAppender(`__millrace_${name}_found`), plan.outputs.length);
    try {
      const take = createHistoryPass(plan.pass, sink.append);
      for await (const chunk of db.chunks(ordered)) take(chunk);
    } finally {
      sink.close();
    }
  });
  await db.run(`DROP TABLE ${table('entities')}`);
  if (plan.places.length > 0) {
    const wanted = plan.places.map((output) => `SELECT ${output} AS n FROM ${table('found')} WHERE ${output} >= 0`).join(' UNION ');
    await db.run(
      `CREATE TEMP TABLE ${table('rows')} AS SELECT ${[ROW_NUMBER, ...plan.fetched].join(', ')} FROM ${history.relation} WHERE ${ROW_NUMBER} IN (SELECT CAST(n AS BIGINT) FROM (${wanted}))`,
    );
  }
  const alias = (output: string): string => identifier(`__millrace_${name}_${output}`);
  const found = (output: string): string => `${alias('at')}.${output}`;
  return {
    joins: [
      ` LEFT JOIN ${table('found')} AS ${alias('at')} ON CAST(${found('label')} AS BIGINT) = l.${ROW_NUMBER}`,
      ...plan.places.map((output) => ` LEFT JOIN ${table('rows')} AS ${alias(output)} ON ${alias(output)}.${ROW_NUMBER} = CAST(${found(output)} AS BIGINT)`),
    ].join(''),
    columns: new Map(
      plan.sources.map(({ column, output, fetch, when }) => {
        const value = fetch === null ? found(output) : `${alias(output)}.${fetch}`;
        const sql = when === null ? value : `CASE WHEN ${found(when)} > 0 THEN ${value} END`;
        return [column.name, `CAST(${sql} AS ${DUCKDB_TYPE[column.type]})`];
      }),
    ),
  };
}

/** Where a feature's value comes from. */
interface FeatureSource {
  readonly column: Column;
  readonly output: string;
  /** The column to fetch from the row that the output names; null where the output is the value. */
  readonly fetch: string | null;
  /** The output that has to be above 0 for there to be a value. */
  readonly when: string | null;
}

interface FeaturePlan {
  readonly pass: PassPlan;
  /** What the pass reads of a row, and in its place of a label. */
  readonly streamed: readonly { readonly sql: string; readonly none: string }[];
  readonly operands: readonly string[];
  /** Columns of what the pass finds. */
  readonly outputs: readonly string[];
  /** Those of them that are row numbers. */
  readonly places: readonly string[];
  readonly fetched: readonly string[];
  readonly sources: readonly FeatureSource[];
  /** How long before a label a row can count; null: any time. */
  readonly reachUs: bigint | null;
}

const OUTPUT_OF: Readonly<Record<Aggregate, WindowOutput>> = { count: 'count', sum: 'sum', mean: 'mean', min: 'least', max: 'greatest', last: 'last' };
/** Chunk columns before the streamed ones: entity, instant, place. */
const FIRST_STREAMED = 3;

/** One window for each length and operand, whatever is asked of it. */
function planFeatures({ features, ttlMs }: History): FeaturePlan {
  const groups = new Map<string, { readonly windowMs: number; readonly operand: Column | null; readonly asked: Set<WindowOutput> }>();
  const sources: FeatureSource[] = [];
  const fetched = new Set<string>();
  const lastRow = features.some(({ feature }) => feature.kind === 'value');
  for (const { column, feature, operand } of features) {
    if (feature.kind === 'value') {
      const fetch = identifier(operand?.name ?? '');
      fetched.add(fetch);
      sources.push({ column, output: 'row', fetch, when: null });
      continue;
    }
    const key = `${String(feature.windowMs)} ${operand?.name ?? ''}`;
    const group = groups.get(key) ?? { windowMs: feature.windowMs, operand, asked: new Set(['count']) };
    groups.set(key, group);
    const output = OUTPUT_OF[feature.fn];
    group.asked.add(output);
    const prefix = `w${String([...groups.keys()].indexOf(key))}`;
    const isPlace = output === 'last' || output === 'least' || output === 'greatest';
    const fetch = isPlace ? identifier(operand?.name ?? '') : null;
    if (fetch !== null) fetched.add(fetch);
    sources.push({ column, output: `${prefix}_${output}`, fetch, when: output === 'sum' || output === 'mean' ? `${prefix}_count` : null });
  }
  const operands = [...new Set([...groups.values()].flatMap(({ operand }) => (operand === null ? [] : [operand.name])))];
  const flags = Array.from({ length: Math.ceil(operands.length / FLAGS_PER_COLUMN) }, (_, at) => {
    const bits = operands.slice(at * FLAGS_PER_COLUMN, (at + 1) * FLAGS_PER_COLUMN);
    return { sql: bits.map((operand, bit) => `(r.${identifier(operand)} IS NOT NULL)::INTEGER * ${1 << bit}`).join(' + '), none: '0' };
  });
  const streamed = [...flags];
  const stream = (sql: string, none: string): number => {
    const there = streamed.findIndex((column) => column.sql === sql);
    return FIRST_STREAMED + (there === -1 ? streamed.push({ sql, none }) - 1 : there);
  };
  const windows = [...groups.values()].map(({ windowMs, operand, asked }): WindowPlan => {
    const [sums, least, greatest] = [asked.has('sum') || asked.has('mean'), asked.has('least'), asked.has('greatest')];
    const { sql, none } = operand === null ? { sql: '0', none: '0' } : orderedSql(operand);
    return {
      lengthUs: BigInt(windowMs) * US_PER_MS,
      sums,
      least,
      greatest,
      flag: operand === null ? null : operands.indexOf(operand.name),
      numberColumn: sums && operand !== null ? stream(`coalesce(CAST(r.${identifier(operand.name)} AS DOUBLE), 0)`, '0::DOUBLE') : null,
      orderedColumn: least || greatest ? stream(sql, none) : null,
      outputs: [...asked],
    };
  });
  const windowOutputs = windows.flatMap(({ outputs }, at) => outputs.map((output) => ({ name: `w${String(at)}_${output}`, output })));
  const reaches = [...windows.map(({ lengthUs }) => lengthUs), ...(lastRow && ttlMs !== null ? [BigInt(ttlMs) * US_PER_MS] : [])];
  return {
    pass: {
      lastRow,
      ttlUs: ttlMs === null ? null : BigInt(ttlMs) * US_PER_MS,
      windows,
      flagColumns: flags.map((_, at) => FIRST_STREAMED + at),
    },
    streamed,
    operands: operands.map(identifier),
    outputs: ['label', ...(lastRow ? ['row'] : []), ...windowOutputs.map(({ name }) => name)],
    places: [
      ...(lastRow ? ['row'] : []),
      ...windowOutputs.flatMap(({ name, output }) => (output === 'last' || output === 'least' || output === 'greatest' ? [name] : [])),
    ],
    fetched: [...fetched],
    sources,
    reachUs: lastRow && ttlMs === null ? null : reaches.reduce((longest, reach) => (reach > longest ? reach : longest), 0n),
  };
}

/** What values are compared by, exactly; a null is marked by its flag. */
function orderedSql({ name, type }: Column): { readonly sql: string; readonly none: string } {
  const column = `r.${identifier(name)}`;
  switch (type) {
    case 'number':
      return { sql: `coalesce(CAST(${column} AS DOUBLE), 0)`, none: '0::DOUBLE' };
    case 'string':
      return { sql: `coalesce(${column}, '')`, none: "''" };
    case 'integer':
    case 'boolean':
      return { sql: `coalesce(CAST(${column} AS BIGINT), 0)`, none: '0::BIGINT' };
    case 'timestamp':
    case 'date':
      return { sql: `coalesce(epoch_us(CAST(${column} AS TIMESTAMP)), 0)`, none: '0::BIGINT' };
  }
}
