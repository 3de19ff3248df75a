/**
 * Datasets as a user's own step sees them: a danfojs DataFrame in memory, or a DuckDB relation and a query over it.
 *
 * Invariants:
 * 1. In a frame, instants are ISO texts (UTC), dates are `YYYY-MM-DD`, and what is missing is null.
 * 2. What a step makes or changes has no counterpart when a request is served, unless the step declares one: see
 *    step-lineage.ts.
 */
import type * as Danfo from 'danfojs-node';
import type { DataFrame } from 'danfojs-node';
import type { Column, ColumnType, RawColumn } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, DuckDbFailure, type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { readColumns } from './read-columns.ts';
import { parseTimestamp } from './row-text.ts';
import { bindHashKey } from './row-transforms-sql.ts';
import { canonicalRelation } from './source-relation.ts';
import { stepLineage } from './step-lineage.ts';
import { DUCKDB_TYPE, identifier, parquetRelation } from './sql-text.ts';

export interface FrameOptions extends DuckDbOptions {
  readonly artifacts: ArtifactPort;
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256. */
  readonly id: string;
  /** Rows × columns above which a frame is refused. Default 10,000,000, about 1 GiB in danfojs. */
  readonly maxCells?: number;
}

/** What made the rows that are to be stored. */
export interface StepOrigin {
  readonly step: string;
  /** Row transforms that do to a request's row what the step did. */
  readonly serving: readonly RowTransform[];
  /** The project's key for hashed columns. Needed where a transform of `serving` hashes. */
  readonly hashKey?: string;
}

/** The dataset as a view in DuckDB. */
export interface DatasetRelation {
  readonly name: string;
  readonly columns: readonly Column[];
}

const MAX_CELLS = 10_000_000;
const VIEW = 'dataset';
const FRAME_TABLE = 'millrace_frame';

type Cell = number | string | boolean | null;

/**
 * The whole dataset as a DataFrame.
 * @throws MillraceError OUT_OF_MEMORY where it has more cells than a frame takes; the fix names the step that works in DuckDB
 */
export async function frameFromDataset({ artifacts, manifest, maxCells = MAX_CELLS, ...options }: FrameOptions): Promise<DataFrame> {
  const cells = manifest.rows * manifest.columns.length;
  if (cells > maxCells) {
    throw new MillraceError(
      'OUT_OF_MEMORY',
      `The dataset ${manifest.name} has ${manifest.rows} rows of ${manifest.columns.length} columns: that is more than a DataFrame in memory takes (${maxCells} cells).`,
      { fix: 'Make the step a relationStep: it works on the same data in DuckDB, whatever its size. Or ingest a sample.' },
    );
  }
  const files = await datasetFiles(artifacts, manifest);
  const table = await readColumns(
    files.map(({ path }) => path),
    manifest.columns.map(({ name }) => name),
    options,
  );
  const danfo = await danfojs();
  const data = Object.fromEntries(manifest.columns.map(({ name, type }) => [name, cellsOf(table.columns.get(name), type)]));
  return new danfo.DataFrame(data);
}

/** Loaders differ in where they put what a CommonJS package exports: on the module, or on its default. */
async function danfojs(): Promise<typeof Danfo> {
  const module = await import('danfojs-node');
  return 'DataFrame' in module ? module : (module as { readonly default: typeof Danfo }).default;
}

function cellsOf(column: RawColumn | undefined, type: ColumnType): Cell[] {
  if (column === undefined) return [];
  if (column.kind === 'string') return Array.from(column.codes, (code) => column.dictionary[code] ?? null);
  return Array.from(column.values, (value): Cell => {
    if (Number.isNaN(value)) return null;
    if (type === 'boolean') return value === 1;
    if (column.kind === 'number') return value;
    const text = new Date(value).toISOString();
    return type === 'date' ? text.slice(0, 10) : text;
  });
}

/**
 * Stores a DataFrame as a dataset. Columns that the given dataset has keep their type where their values still fit it.
 * @throws MillraceError SOURCE_EMPTY, COLUMN_TYPE, SOURCE_MALFORMED where two columns have one name
 */
export async function datasetFromFrame(frame: DataFrame, options: FrameOptions & StepOrigin): Promise<StoredDataset> {
  const names = frame.columns.map(String);
  const repeated = names.filter((name, index) => names.findIndex((other) => other.toLowerCase() === name.toLowerCase()) !== index);
  if (repeated.length > 0)
    throw new MillraceError('SOURCE_MALFORMED', `The DataFrame names columns twice: ${repeated.join(', ')}.`, { fix: 'Give each column a name of its own.' });
  const rows = frame.values as readonly (readonly unknown[])[];
  const columns = names.map(
    (name, index): Column => ({ name, type: typeOfCells(name, rows, index, options.manifest.columns.find((there) => there.name === name)?.type) }),
  );
  return withDuckDb(options, async (db) => {
    await appendCells(db, columns, rows);
    return store(db, FRAME_TABLE, columns, options);
  });
}

const isMissing = (value: unknown): boolean => value === null || value === undefined || (typeof value === 'number' && !Number.isFinite(value));

function typeOfCells(name: string, rows: readonly (readonly unknown[])[], index: number, before: ColumnType | undefined): ColumnType {
  const kinds = new Set<string>();
  let whole = true;
  let instants = true;
  for (const row of rows) {
    const value = row[index];
    if (isMissing(value)) continue;
    kinds.add(typeof value);
    if (typeof value === 'number' && !Number.isSafeInteger(value)) whole = false;
    if (typeof value !== 'string' || parseTimestamp(value) === null) instants = false;
  }
  const [kind] = kinds;
  if (kinds.size > 1 || kind === 'object' || kind === 'function' || kind === 'symbol' || kind === 'bigint') {
    throw new MillraceError('COLUMN_TYPE', `The column ${name} of the DataFrame holds ${[...kinds].join(' and ')} values.`, {
      fix: 'A column holds numbers, texts or booleans, and null for what is missing.',
    });
  }
  if (kind === undefined) return before ?? 'string';
  if (kind === 'boolean') return 'boolean';
  if (kind === 'string') return instants && (before === 'timestamp' || before === 'date') ? before : 'string';
  return whole && before !== 'number' ? 'integer' : 'number';
}

async function appendCells(db: DuckDb, columns: readonly Column[], rows: readonly (readonly unknown[])[]): Promise<void> {
  // Instants travel as texts, which the query over the table casts.
  const types = columns.map(({ type }) => (type === 'timestamp' || type === 'date' ? 'VARCHAR' : DUCKDB_TYPE[type]));
  await db.run(`CREATE TEMPORARY TABLE ${FRAME_TABLE} (${columns.map(({ name }, index) => `${identifier(name)} ${types[index] ?? 'VARCHAR'}`).join(', ')})`);
  const appender = await db.connection.createAppender(FRAME_TABLE);
  try {
    for (const row of rows) {
      columns.forEach(({ type }, index) => {
        const value = row[index];
        if (isMissing(value)) appender.appendNull();
        else if (type === 'number') appender.appendDouble(Number(value));
        else if (type === 'integer') appender.appendBigInt(BigInt(Number(value)));
        else if (type === 'boolean') appender.appendBoolean(value === true);
        else if (type === 'timestamp' || type === 'date') appender.appendVarchar(new Date(parseTimestamp(String(value)) ?? 0).toISOString().replace('Z', ''));
        else appender.appendVarchar(String(value));
      });
      appender.endRow();
    }
  } finally {
    appender.closeSync();
  }
}

async function store(db: DuckDb, relation: string, columns: readonly Column[], options: FrameOptions & StepOrigin): Promise<StoredDataset> {
  const { artifacts, manifest, id, step, serving, hashKey } = options;
  const list = columns.map(({ name, type }) =>
    type === 'timestamp' || type === 'date' ? `CAST(CAST(${identifier(name)} AS TIMESTAMP) AS ${DUCKDB_TYPE[type]}) AS ${identifier(name)}` : identifier(name),
  );
  const written = await writeSnapshot(db, artifacts, `SELECT ${list.join(', ')} FROM ${relation}`, {
    filtered: true,
    whenEmpty: () => new MillraceError('SOURCE_EMPTY', 'The step gave no rows.'),
  });
  const plain = columns.map(({ name, type }) => ({ name, type }));
  if (hashKey !== undefined) await bindHashKey(db, hashKey);
  const lineage = await stepLineage(db, {
    step,
    parent: manifest,
    before: parquetRelation((await datasetFiles(artifacts, manifest)).map(({ path }) => path)),
    after: parquetRelation([await artifacts.pathOf(written.sha256)]),
    rows: written.rows,
    columns: plain,
    serving,
  });
  return storeManifest(artifacts, { ...manifest, rows: written.rows, columns: plain, files: [written], profile: null, parents: [id], ...lineage });
}

/**
 * Stores the rows of a query over the dataset. Memory does not grow with the data.
 * @param query Gets the view's name and columns, and gives the SELECT.
 * @throws MillraceError USER_CODE_FAILED where the query cannot be run, COLUMN_TYPE, SOURCE_EMPTY
 */
export async function datasetFromQuery(
  query: (relation: DatasetRelation) => string | Promise<string>,
  options: FrameOptions & StepOrigin,
): Promise<StoredDataset> {
  const { manifest, artifacts } = options;
  const files = await datasetFiles(artifacts, manifest);
  return withDuckDb(options, async (db) => {
    await db.run(`CREATE TEMPORARY VIEW ${VIEW} AS SELECT * FROM ${parquetRelation(files.map(({ path }) => path))}`);
    const sql = await query({ name: VIEW, columns: manifest.columns });
    try {
      const { sql: relation, columns } = await canonicalRelation(db, `(${sql.trim().replace(/;$/, '')}\n)`);
      return await store(db, relation, columns, options);
    } catch (error) {
      throw error instanceof DuckDbFailure ? queryError(error, manifest.columns) : error;
    }
  });
}

function queryError({ detail }: DuckDbFailure, columns: readonly Column[]): MillraceError {
  const column =
    /(?:Referenced column|column named) "(.+?)" (?:not found|was not found)/.exec(detail)?.[1] ?? /does not have a column named "(.+?)"/.exec(detail)?.[1];
  const near = /syntax error at or near "(.+?)"/.exec(detail)?.[1];
  const message =
    column === undefined
      ? near === undefined
        ? 'The query of the step could not be run.'
        : `The query of the step has a syntax error at ${near}.`
      : `The query of the step reads ${column}, which is not there.`;
  return new MillraceError('USER_CODE_FAILED', message, { fix: `The view ${VIEW} has the columns ${columns.map(({ name }) => name).join(', ')}.` });
}
