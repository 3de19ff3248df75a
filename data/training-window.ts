/**
 * The rows of a dataset that are trained on, by a rule.
 *
 * Invariants:
 * 1. The same data and rule give the same rows in the same order, byte for byte; time is counted back from the newest row,
 *    never from a clock.
 * 2. Rows at one instant are in or out together, but where a number of rows is asked for: then the later ones in the
 *    dataset's order count as newer.
 * 3. Rows without a value in the column are in no window but `all`, and their number is told.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { WindowRule } from '../contracts/training-window.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { createColumnScan } from './column-scan.ts';
import { datasetFiles, pickColumns, type StoredDataset, storeManifest, type WrittenFile, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { finishProfile, planProfile } from './profile.ts';
import type { RankedFile } from './row-rank.ts';
import { DUCKDB_TYPE, identifier, parquetRelation, textLiteral } from './sql-text.ts';

export interface TrainingWindowOptions extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the window's parent. */
  readonly id: string;
  readonly rule: WindowRule;
  readonly artifacts: ArtifactPort;
}

export interface TrainingWindow {
  readonly dataset: StoredDataset;
  /** Rows that have no value in the rule's column, and were left out. */
  readonly undated: number;
  /** The oldest and the newest value in the window, as text; null for the rule `all`. */
  readonly from: string | null;
  readonly to: string | null;
}

type Ruled = Exclude<WindowRule, { readonly rule: 'all' }>;

const ROW = '__millrace_row';
const MS = 1_000;

/**
 * Makes the window a snapshot of its own. A column of weights is added by the rule `weighted`: 2^(−age ÷ half-life), 1 for
 * the newest row; of a half-life in rows, age is how many rows are newer.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE, INVALID_PARAMETERS (a column of the weights' name is there, or a change
 * point that is none), SOURCE_EMPTY where no row is in the window
 */
export async function trainingWindow(input: TrainingWindowOptions): Promise<TrainingWindow> {
  const { manifest, rule } = input;
  if (rule.rule === 'all' || (rule.rule === 'sinceChange' && rule.changePoint === null)) {
    return { dataset: { ref: { kind: 'dataset', id: input.id, name: manifest.name, rows: manifest.rows }, manifest }, undated: 0, from: null, to: null };
  }
  return withDuckDb(input, async (db) => {
    const column = timeColumn(manifest.columns, rule.column);
    const files = await datasetFiles(input.artifacts, manifest);
    const name = identifier(column.name);
    const list = manifest.columns.map((one) => identifier(one.name));
    await db.run(`CREATE TEMP VIEW dated AS ${numbered(files, list)}`);
    const { undated } = await db.row(`SELECT count(*) FILTER (WHERE ${name} IS NULL) AS undated FROM dated`);
    const weights = rule.rule === 'weighted' ? { name: freeName(manifest.columns, rule.weightColumn), type: 'number' as const } : undefined;
    const sql = await windowSql(db, rule, column, list, weights?.name);
    const file = await writeSnapshot(db, input.artifacts, sql, {
      filtered: true,
      whenEmpty: () =>
        new MillraceError('SOURCE_EMPTY', `No row of ${manifest.name} is in the training window.`, {
          problems: [{ path: 'trainingWindow', column: column.name, message: 'no row has a value in it that the rule takes', found: JSON.stringify(rule) }],
        }),
    });
    const written = parquetRelation([await input.artifacts.pathOf(file.sha256)]);
    const { oldest, newest } = await db.row(`SELECT CAST(min(${name}) AS VARCHAR) AS oldest, CAST(max(${name}) AS VARCHAR) AS newest FROM ${written}`);
    const columns = weights === undefined ? manifest.columns : [...manifest.columns, weights];
    const dataset = await storeManifest(input.artifacts, {
      ...manifest,
      name: `${manifest.name}-window`,
      rows: file.rows,
      files: [file],
      columns,
      profile: manifest.reserved === null ? await profileOf(db, input.artifacts, file, columns, manifest) : null,
      parents: [input.id],
      ...(weights === undefined ? {} : { unserved: { ...manifest.unserved, [weights.name]: 'a training window' } }),
    });
    return { dataset, undated: toCount(undated), from: textOf(oldest), to: textOf(newest) };
  });
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** The rows of several files, numbered in their order. */
function numbered(files: readonly RankedFile[], list: readonly string[]): string {
  let offset = 0;
  const parts = files.map(({ path, rows }) => {
    const part = `SELECT ${list.join(', ')}, file_row_number + ${offset} AS ${ROW} FROM read_parquet(${textLiteral(path)}, file_row_number = true)`;
    offset += rows;
    return part;
  });
  return parts.join(' UNION ALL ');
}

function timeColumn(columns: readonly Column[], name: string): Column {
  const [column] = pickColumns(columns, [name]);
  if (column === undefined || column.type === 'string' || column.type === 'boolean')
    throw new MillraceError('COLUMN_TYPE', `The column ${name} cannot order rows by age: it holds ${column?.type === 'boolean' ? 'truth values' : 'texts'}.`, {
      problems: [
        { path: 'trainingWindow.column', column: name, message: 'A window needs an instant, a date or a number that grows.', found: column?.type ?? '' },
      ],
    });
  return column;
}

function freeName(columns: readonly Column[], name: string): string {
  if (!columns.some((column) => column.name === name)) return name;
  throw new MillraceError('INVALID_PARAMETERS', `There is a column ${name} already.`, {
    problems: [{ path: 'trainingWindow.weightColumn', column: name, message: 'is the name of a column of the data', found: name, fix: 'Give another name.' }],
  });
}

async function windowSql(db: DuckDb, rule: Ruled, column: Column, list: readonly string[], weights: string | undefined): Promise<string> {
  const name = identifier(column.name);
  const rows = (where: string, more = ''): string => `SELECT ${list.join(', ')}${more} FROM dated WHERE ${where} ORDER BY ${ROW}`;
  const newest = (count: number): string =>
    rows(`${ROW} IN (SELECT ${ROW} FROM dated WHERE ${name} IS NOT NULL ORDER BY ${name} DESC, ${ROW} DESC LIMIT ${count})`);
  switch (rule.rule) {
    case 'sliding':
      return 'rows' in rule.length ? newest(rule.length.rows) : rows(`${ageMs(column)} < ${rule.length.ms}`);
    case 'sinceChange': {
      const since = `${name} >= ${await changePointLiteral(db, column, rule.changePoint ?? '')}`;
      const { n } = await db.row(`SELECT count(*) FILTER (WHERE ${since}) AS n FROM dated`);
      return toCount(n) < rule.leastRows ? newest(rule.leastRows) : rows(since);
    }
    case 'weighted': {
      const age = 'rows' in rule.halfLife ? `(row_number() OVER (ORDER BY ${name} DESC, ${ROW} DESC) - 1)` : ageMs(column);
      const halfLife = 'rows' in rule.halfLife ? rule.halfLife.rows : rule.halfLife.ms;
      const weight = identifier(weights ?? '');
      const weighed = `(SELECT *, pow(CAST(2 AS DOUBLE), -CAST(${age} AS DOUBLE) / ${halfLife}) AS ${weight} FROM dated WHERE ${name} IS NOT NULL)`;
      return `SELECT ${[...list, weight].join(', ')} FROM ${weighed} WHERE ${weight} >= ${rule.leastWeight} ORDER BY ${ROW}`;
    }
  }
}

/** Milliseconds before the newest row; of a column of numbers, its own unit. */
function ageMs({ name, type }: Column): string {
  const quoted = identifier(name);
  const greatest = `(SELECT max(${quoted}) FROM dated)`;
  if (type === 'number' || type === 'integer') return `(${greatest} - ${quoted})`;
  const epoch = (value: string): string => `epoch_us(CAST(${value} AS TIMESTAMP))`;
  return `((${epoch(greatest)} - ${epoch(quoted)}) / ${MS}.0)`;
}

async function changePointLiteral(db: DuckDb, column: Column, text: string): Promise<string> {
  // an instant with an offset is brought to UTC, as columns are
  const value = column.type === 'timestamp' || column.type === 'date' ? instantText(text) : text;
  const literal = `CAST(${textLiteral(value)} AS ${DUCKDB_TYPE[column.type === 'date' ? 'timestamp' : column.type]})`;
  const { ok } = await db.row(`SELECT TRY_CAST(${textLiteral(value)} AS ${DUCKDB_TYPE[column.type === 'date' ? 'timestamp' : column.type]}) IS NOT NULL AS ok`);
  if (ok === true) return literal;
  throw new MillraceError('INVALID_PARAMETERS', `${text} is no value of the column ${column.name}.`, {
    problems: [{ path: 'trainingWindow.changePoint', column: column.name, message: `is no ${column.type}`, found: text }],
  });
}

function instantText(text: string): string {
  const ms = Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/.test(text) || !text.includes('T') ? text : `${text}Z`);
  return Number.isNaN(ms) ? text : new Date(ms).toISOString().replace('T', ' ').replace('Z', '');
}

async function profileOf(db: DuckDb, artifacts: ArtifactPort, file: WrittenFile, columns: readonly Column[], { sensitive }: DatasetManifest): Promise<string> {
  const files = [{ path: await artifacts.pathOf(file.sha256), rows: file.rows }];
  const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
  const plan = planProfile(scan, columns);
  return (await artifacts.putJson(await finishProfile(db, files, plan, await scan.run(db), { masked: new Set(Object.keys(sensitive)) }))).sha256;
}
