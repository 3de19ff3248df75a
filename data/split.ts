/**
 * Training, validation and test parts of a dataset.
 *
 * Invariants:
 * 1. Every row is in exactly one part, and rows keep their order within it.
 * 2. The same data, options and seed give the same parts, byte for byte.
 * 3. By time, every instant of a part is later than every instant of the part before it.
 * 4. Only the training part has a profile: no statistic sees the other two.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { SplitOptions } from '../contracts/split.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { columnsMissing, datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, toCount, toNumber, withDuckDb } from './duckdb.ts';
import { finishProfile, planProfile } from './profile.ts';
import { createColumnScan } from './column-scan.ts';
import { ROW_RANK, rankBound, rankedRelation, type RankedFile } from './row-rank.ts';
import { identifier, parquetRelation } from './sql-text.ts';

export interface SplitDatasetOptions extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the parts' parent. */
  readonly id: string;
  readonly options: SplitOptions;
  readonly artifacts: ArtifactPort;
}

export interface SplitDatasets {
  readonly train: StoredDataset;
  readonly validation: StoredDataset;
  readonly test: StoredDataset;
}

const PARTS = ['train', 'validation', 'test'] as const;
type Part = (typeof PARTS)[number];

/** A relation with the dataset's columns, and for each part the condition of its rows. Exactly one holds for a row. */
interface Partition {
  readonly relation: string;
  readonly where: Readonly<Record<Part, string>>;
}

/**
 * Splits a dataset into snapshots of its own.
 * @throws MillraceError SPLIT_IMPOSSIBLE where a part would have no row, COLUMN_MISSING, COLUMN_TYPE
 */
export async function splitDataset(input: SplitDatasetOptions): Promise<SplitDatasets> {
  const { manifest, id, options, artifacts } = input;
  if (manifest.rows < PARTS.length) throw impossible(`The dataset has ${manifest.rows} rows; three parts need at least three.`);
  const column = options.by === 'random' ? undefined : columnOf(manifest, options.column);
  const files = await datasetFiles(artifacts, manifest);
  return withDuckDb(input, async (db) => {
    const names = manifest.columns.map(({ name }) => name);
    const list = names.map(identifier).join(', ');
    const partition = await partitionOf(db, files, names, manifest, options, column);
    const store = async (part: Part): Promise<StoredDataset> => {
      const written = await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${partition.relation} WHERE ${partition.where[part]}`, {
        filtered: true,
        whenEmpty: () => impossible(`No row falls to the ${part} part of the ${manifest.rows} rows.`),
      });
      const profile = part === 'train' ? await profileOf(db, artifacts, written.sha256, written.rows, manifest.columns) : null;
      return storeManifest(artifacts, { ...manifest, name: `${manifest.name}-${part}`, rows: written.rows, files: [written], profile, parents: [id] });
    };
    return { train: await store('train'), validation: await store('validation'), test: await store('test') };
  });
}

async function profileOf(db: DuckDb, artifacts: ArtifactPort, sha256: string, rows: number, columns: readonly Column[]): Promise<string> {
  const path = await artifacts.pathOf(sha256);
  const scan = createColumnScan(parquetRelation([path]));
  const plan = planProfile(scan, columns);
  return (await artifacts.putJson(await finishProfile(db, [{ path, rows }], plan, await scan.run(db)))).sha256;
}

function columnOf(manifest: DatasetManifest, name: string): Column {
  const column = manifest.columns.find((there) => there.name === name);
  if (column === undefined) throw columnsMissing(manifest.columns, [name]);
  return column;
}

const impossible = (message: string, fix?: string): MillraceError => new MillraceError('SPLIT_IMPOSSIBLE', message, fix === undefined ? {} : { fix });

function partitionOf(
  db: DuckDb,
  files: readonly RankedFile[],
  names: readonly string[],
  { rows }: DatasetManifest,
  options: SplitOptions,
  column: Column | undefined,
): Promise<Partition> | Partition {
  if (column === undefined || options.by === 'random') {
    const seed = options.by === 'time' ? 0 : options.seed;
    const testRows = Math.max(1, Math.round(rows * options.testFraction));
    const validationRows = Math.max(1, Math.round(rows * options.validationFraction));
    if (testRows + validationRows >= rows)
      throw impossible(`Of ${rows} rows, ${testRows} for test and ${validationRows} for validation leave none for training.`);
    const [test, validation] = [rankBound(rows, seed, testRows), rankBound(rows, seed, testRows + validationRows)];
    return ranked(rankedRelation(files, names, seed), `${ROW_RANK} < ${test}`, `${ROW_RANK} < ${validation}`);
  }
  return options.by === 'time' ? byTime(db, files, options, column) : stratified(db, files, names, options, column);
}

/** Conditions that include one another: test, then test or validation, then all. */
const ranked = (relation: string, test: string, validation: string): Partition => ({
  relation,
  where: { test, validation: `${validation} AND NOT (${test})`, train: `NOT (${validation})` },
});

/** Each stratum's rows of least rank go to test, the next ones to validation; a join gives every row its stratum's bounds. */
async function stratified(
  db: DuckDb,
  files: readonly RankedFile[],
  names: readonly string[],
  options: SplitOptions & { by: 'stratified' },
  column: Column,
): Promise<Partition> {
  const { testFraction, validationFraction, seed } = options;
  const stratum = identifier(column.name);
  const numbered = `SELECT ${stratum} AS stratum, ${ROW_RANK} AS rank, row_number() OVER (PARTITION BY ${stratum} ORDER BY ${ROW_RANK}) AS place, count(*) OVER (PARTITION BY ${stratum}) AS n FROM ${rankedRelation(files, [column.name], seed)}`;
  await db.run(`CREATE TEMPORARY TABLE millrace_strata AS SELECT stratum,
    coalesce(max(rank) FILTER (WHERE place <= round(n * ${testFraction})) + 1, 0) AS test_bound,
    coalesce(max(rank) FILTER (WHERE place <= round(n * ${testFraction + validationFraction})) + 1, 0) AS validation_bound
    FROM (${numbered}) GROUP BY stratum`);
  const list = names.map((name) => `r.${identifier(name)}`).join(', ');
  const relation = `(SELECT ${list}, ${ROW_RANK}, test_bound, validation_bound FROM ${rankedRelation(files, names, seed)} AS r JOIN millrace_strata AS s ON r.${stratum} IS NOT DISTINCT FROM s.stratum)`;
  const { test, validation, total, strata } = await db.row(
    `SELECT count(*) FILTER (WHERE ${ROW_RANK} < test_bound) AS test, count(*) FILTER (WHERE ${ROW_RANK} >= test_bound AND ${ROW_RANK} < validation_bound) AS validation, count(*) AS total, (SELECT count(*) FROM millrace_strata) AS strata FROM ${relation}`,
  );
  if (toCount(test) === 0 || toCount(validation) === 0 || toCount(test) + toCount(validation) >= toCount(total)) {
    throw impossible(
      `The column ${column.name} has ${toCount(strata)} values in ${toCount(total)} rows: they are too few rows a value to be in all three parts.`,
      'Stratify by a column with fewer values, or split at random.',
    );
  }
  return ranked(relation, `${ROW_RANK} < test_bound`, `${ROW_RANK} < validation_bound`);
}

async function byTime(db: DuckDb, files: readonly RankedFile[], options: SplitOptions & { by: 'time' }, column: Column): Promise<Partition> {
  if (column.type !== 'timestamp' && column.type !== 'date' && column.type !== 'integer') {
    throw new MillraceError('COLUMN_TYPE', `A split by time needs a column of type timestamp, date or integer; ${column.name} is of type ${column.type}.`);
  }
  const relation = parquetRelation(files.map(({ path }) => path));
  const name = identifier(column.name);
  // Microseconds, or the integer itself: whole numbers, so that "later than x" is "at least x + 1".
  const instant = column.type === 'integer' ? name : `epoch_us(CAST(${name} AS TIMESTAMP))`;
  const first = await db.rows(`SELECT DISTINCT ${instant} AS v FROM ${relation} WHERE ${name} IS NOT NULL ORDER BY v LIMIT 3`);
  const [earliest, second] = first.map(({ v }) => BigInt(toCount(v)));
  if (earliest === undefined || second === undefined || first.length < PARTS.length) {
    throw impossible(
      `The column ${column.name} has ${first.length} different instants; three parts need at least three.`,
      'Split by another column, or at random.',
    );
  }
  const present = toCount((await db.row(`SELECT count(${name}) AS n FROM ${relation}`))['n']);
  const testFrom = await cut(db, relation, instant, 'true', present * options.testFraction, second);
  const validationFrom = await cut(db, relation, instant, `${instant} < ${testFrom}`, present * options.validationFraction, earliest);
  return {
    relation,
    where: {
      test: `${instant} >= ${testFrom}`,
      validation: `${instant} >= ${validationFrom} AND ${instant} < ${testFrom}`,
      train: `(${name} IS NULL OR ${instant} < ${validationFrom})`,
    },
  };
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
