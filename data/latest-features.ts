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
import type { ArtifactPort } from './artifact-port.ts';
import { type DuckDb, type DuckDbOptions, toNumber, withDuckDb } from './duckdb.ts';
import { entityKey, entityText, entityTextSql } from './row-entity.ts';
import { AT, type CompiledView, compileView, type JoinedView } from './feature-views.ts';
import { findFeatures } from './point-in-time-join.ts';
import { ROW_NUMBER } from './row-rank.ts';
import { bindHashKey } from './row-transforms-sql.ts';
import { identifier } from './sql-text.ts';

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

const ASKED = '__millrace_asked';
const AS_OF = '__millrace_as_of';
const NEWEST = '__millrace_newest';

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
  for await (const chunk of db.chunks(await latestSql(db, compiled, asOfMs))) {
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

/**
 * Entity texts, the instant of the last row, and each feature in the order of `columns`; instants in milliseconds. They are
 * found as for a label of each entity at `asOf`: by the very pass that makes training sets.
 */
async function latestSql(db: DuckDb, compiled: CompiledView, asOfMs: number): Promise<string> {
  const { view, relation, columns, lookup, sought } = compiled;
  const entity = view.entity.map(identifier);
  const asOfUs = `${String(asOfMs)}::BIGINT * 1000`;
  await db.run(
    `CREATE TEMP TABLE ${ASKED} AS SELECT *, row_number() OVER () - 1 AS ${ROW_NUMBER}, make_timestamp(${asOfUs}) AS ${AS_OF} FROM (SELECT ${entity.join(', ')}, max(epoch_us(${AT})) AS ${NEWEST} FROM ${relation} WHERE ${present(compiled)} AND epoch_us(${AT}) <= ${asOfUs} GROUP BY ${entity.join(', ')})`,
  );
  // How old a row may be is asked when it is read.
  const history = { relation, eventTime: AT, entity: view.entity, ttlMs: null, features: sought };
  const found = await findFeatures(db, { relation: ASKED, eventTime: AS_OF }, history, 'latest');
  const values = columns.map(({ name, type }) => {
    const value = found.columns.get(name) ?? 'NULL';
    return type === 'timestamp' || type === 'date' ? `CAST(floor(epoch_us(CAST(${value} AS TIMESTAMP)) / 1000.0) AS BIGINT)` : value;
  });
  const texts = lookup.entity.map(({ type }, index) => entityTextSql(`l.${entity[index] ?? ''}`, type));
  const list = [...texts, `CAST(floor(l.${NEWEST} / 1000.0) AS BIGINT)`, ...values];
  return `SELECT ${list.map((sql, index) => `${sql} AS c${String(index)}`).join(', ')} FROM ${ASKED} l${found.joins}`;
}
