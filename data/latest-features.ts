/**
 * Each entity's features as of one instant: what the online store is filled with.
 *
 * Invariants:
 * 1. At `asOf` they are what a point-in-time join gives a label of that instant (contracts/feature-views.ts). The time to
 *    live is left to whoever reads: it depends on the instant of the question, so the instant of the row goes with it.
 * 2. Rows after `asOf` count for nothing, and an entity that has no others is not there.
 * 3. Memory does not grow with the entities: they are handed on in batches.
 */
import type { DuckDBValue } from '@duckdb/node-api';
import type { ColumnType } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { ViewFeature } from '../contracts/feature-views.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type DuckDb, type DuckDbOptions, toNumber, withDuckDb } from './duckdb.ts';
import { entityKey, entityText, entityTextSql } from './row-entity.ts';
import { AT, type CompiledView, compileView, type JoinedView } from './feature-views.ts';
import { ROW_NUMBER } from './row-rank.ts';
import { bindHashKey } from './row-transforms-sql.ts';
import { DUCKDB_TYPE, identifier } from './sql-text.ts';

export interface LatestFeaturesOptions extends DuckDbOptions {
  readonly source: JoinedView;
  /** Milliseconds since 1970 UTC. Default: the newest event time of the snapshot, but not later than `nowMs`. */
  readonly asOfMs?: number;
  readonly nowMs: number;
  readonly artifacts: ArtifactPort;
  /** Needed where an expression hashes. */
  readonly hashKey?: string;
}

/** One entity. */
export interface LatestRow {
  readonly key: string;
  /** Instant of its last row, rounded down. */
  readonly atMs: number;
  /** JSON: feature → value. */
  readonly values: string;
}

export interface LatestFeatures {
  readonly asOfMs: number;
  readonly batches: () => AsyncGenerator<readonly LatestRow[]>;
}

const MS = '1000::HUGEINT';
/** A row's key is `instant · 2^40 + its number`: rows of one instant have the snapshot's order. */
const KEY_SCALE = '1099511627776::HUGEINT';

/**
 * Opens the view's snapshot, gives the instant and the entities to `work`, and closes it.
 * @throws MillraceError COLUMN_MISSING or COLUMN_TYPE with every problem of one kind; SOURCE_EMPTY where no row has an entity and an instant
 */
export async function withLatestFeatures<Result>(options: LatestFeaturesOptions, work: (found: LatestFeatures) => Promise<Result>): Promise<Result> {
  const { source, artifacts, hashKey, nowMs } = options;
  const compiled = await compileView(source, Object.entries(source.view.features), { artifacts });
  return withDuckDb(options, async (db) => {
    if (hashKey !== undefined) await bindHashKey(db, hashKey);
    const asOfMs = options.asOfMs ?? Math.min(await newestMs(db, compiled), nowMs);
    return work({ asOfMs, batches: () => batches(db, compiled, asOfMs) });
  });
}

const present = ({ view }: CompiledView): string => [...view.entity.map(identifier), AT].map((name) => `${name} IS NOT NULL`).join(' AND ');

/** Rounded up to the millisecond, so that the newest row is among the rows at it. */
async function newestMs(db: DuckDb, compiled: CompiledView): Promise<number> {
  const { newest } = await db.row(`SELECT CAST(ceil(max(epoch_us(${AT})) / 1000.0) AS BIGINT) AS newest FROM ${compiled.relation} WHERE ${present(compiled)}`);
  const found = toNumber(newest);
  if (found === null) throw new MillraceError('SOURCE_EMPTY', `No row for the view ${compiled.view.name} has an entity and an event time.`);
  return found;
}

async function* batches(db: DuckDb, compiled: CompiledView, asOfMs: number): AsyncGenerator<readonly LatestRow[]> {
  const { view, columns } = compiled;
  const width = view.entity.length;
  for await (const chunk of db.chunks(latestSql(compiled, asOfMs))) {
    yield chunk.getRows().map((row) => ({
      key: entityKey(row.slice(0, width).map(entityText)),
      atMs: toNumber(row[width]) ?? 0,
      values: JSON.stringify(Object.fromEntries(columns.map(({ name, type }, index) => [name, jsonValue(type, row[width + 1 + index])]))),
    }));
  }
}

function jsonValue(type: ColumnType, value: DuckDBValue | undefined): string | number | boolean | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'boolean' || typeof value === 'string') return value;
  const number = toNumber(value);
  if (number === null || !Number.isFinite(number)) return null;
  return type === 'timestamp' || type === 'date' ? new Date(number).toISOString() : number;
}

/** Entity texts, the instant of the last row, and each feature in the order of `columns`; instants in milliseconds. */
function latestSql({ view, relation, features, columns, lookup }: CompiledView, asOfMs: number): string {
  const entity = view.entity.map(identifier);
  const asOfUs = `(${String(asOfMs)}::HUGEINT * ${MS})`;
  const rows = `(SELECT *, epoch_us(${AT})::HUGEINT AS __millrace_us, epoch_us(${AT})::HUGEINT * ${KEY_SCALE} + ${ROW_NUMBER} AS __millrace_key FROM ${relation})`;
  const known = `(SELECT * FROM ${rows} WHERE ${[...entity, AT].map((name) => `${name} IS NOT NULL`).join(' AND ')} AND __millrace_us <= ${asOfUs})`;
  const lasts = features.flatMap(([, { kind }], index) => (kind === 'value' ? [`v${String(index)} := __millrace_v${String(index)}`] : []));
  const aggregates = features.flatMap(([, feature], index) =>
    feature.kind === 'aggregate' ? [`${aggregateSql(feature, `__millrace_v${String(index)}`, asOfUs)} AS a${String(index)}`] : [],
  );
  const grouped = [
    ...entity.map((name, index) => `${name} AS e${String(index)}`),
    'max(__millrace_us) AS newest',
    ...(lasts.length > 0 ? [`arg_max(struct_pack(${lasts.join(', ')}), __millrace_key) AS newest_row`] : []),
    ...aggregates,
  ];
  const values = features.map(([, { kind }], index) => {
    const type = columns[index]?.type ?? 'number';
    const value = `CAST(${kind === 'value' ? `newest_row.v${String(index)}` : `a${String(index)}`} AS ${DUCKDB_TYPE[type]})`;
    return type === 'timestamp' || type === 'date' ? `CAST(floor(epoch_us(CAST(${value} AS TIMESTAMP)) / 1000.0) AS BIGINT)` : value;
  });
  const list = [...lookup.entity.map(({ type }, index) => entityTextSql(`e${String(index)}`, type)), 'CAST(floor(newest / 1000.0) AS BIGINT)', ...values];
  return `SELECT ${list.map((sql, index) => `${sql} AS c${String(index)}`).join(', ')} FROM (SELECT ${grouped.join(', ')} FROM ${known} GROUP BY ${entity.join(', ')})`;
}

function aggregateSql({ fn, of, windowMs }: ViewFeature & { readonly kind: 'aggregate' }, operand: string, asOfUs: string): string {
  const within = `__millrace_us > ${asOfUs} - ${String(windowMs)}::HUGEINT * ${MS}`;
  if (fn === 'count') return `count(${of === null ? '*' : operand}) FILTER (WHERE ${within})`;
  const value = of === null ? 'NULL' : operand;
  if (fn === 'last') return `arg_max(${value}, __millrace_key) FILTER (WHERE ${within} AND ${value} IS NOT NULL)`;
  const call = fn === 'sum' || fn === 'mean' ? `${fn === 'sum' ? 'fsum' : 'favg'}(CAST(${value} AS DOUBLE))` : `${fn}(${value})`;
  return `${call} FILTER (WHERE ${within})`;
}
