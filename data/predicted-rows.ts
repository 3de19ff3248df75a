/**
 * A dataset's rows in parts, and files in which predictions stand beside them.
 *
 * Invariants:
 * 1. A part is read alone: only its row groups are touched.
 * 2. A file's bytes follow from its rows and predictions, whatever ran beside it: one thread writes it.
 */
import { rm } from 'node:fs/promises';
import type { Column, RawTable } from '../contracts/columns.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { ROW_GROUP_ROWS, type WrittenFile } from './dataset.ts';
import { type DuckDb, toCount, withDuckDb } from './duckdb.ts';
import { openPartReader } from './read-columns.ts';
import type { RankedFile } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { identifier, parquetRelation, textLiteral } from './sql-text.ts';
import { type WrittenColumn, writeColumns } from './write-columns.ts';

export interface PartsOfDataset {
  readonly files: readonly RankedFile[];
  /** The dataset's. */
  readonly columns: readonly Column[];
  /** Still to be done to its rows. */
  readonly transforms: readonly RowTransform[];
  readonly hashKey: string;
  /** To be read, as they are after the transforms. */
  readonly wanted: readonly string[];
}

/** A part: rows `from` … `to - 1`. */
export interface Part {
  readonly from: number;
  readonly to: number;
}

/** Cells of one part at most: what memory holds of it. */
const MOST_CELLS = 12_000_000;

/** Rows of a part: a row group, or less of very wide rows. */
export const partRows = (columns: number): number => Math.max(8_192, Math.min(ROW_GROUP_ROWS, Math.floor(MOST_CELLS / Math.max(1, columns))));

/** Rows of a dataset's files, in order. */
function partRelation(files: readonly RankedFile[], columns: readonly string[], { from, to }: Part): string {
  const names = columns.length === 0 ? '1 AS __millrace_one' : columns.map(identifier).join(', ');
  const selects: string[] = [];
  let offset = 0;
  for (const { path, rows } of files) {
    const [first, end] = [Math.max(0, from - offset), Math.min(rows, to - offset)];
    if (first < end)
      selects.push(
        `SELECT ${names} FROM read_parquet(${textLiteral(path)}, file_row_number = true) WHERE file_row_number >= ${first} AND file_row_number < ${end}`,
      );
    offset += rows;
  }
  return selects.length === 0 ? `(SELECT ${names} FROM ${parquetRelation(files.map(({ path }) => path))} LIMIT 0)` : `(${selects.join(' UNION ALL ')})`;
}

/** Prepares reading parts of a dataset's rows as a predictor's graph takes them. */
export async function openParts(db: DuckDb, dataset: PartsOfDataset): Promise<(part: Part) => Promise<RawTable>> {
  const { files, columns, transforms, wanted } = dataset;
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  if (transforms.length > 0) await bindHashKey(db, dataset.hashKey);
  const needed = transforms.length > 0 ? columns.map(({ name }) => name) : wanted;
  const transformed = (relation: string): { readonly sql: string; readonly columns: readonly Column[] } =>
    transforms.length === 0 ? { sql: relation, columns } : transformedRelation(relation, transforms, columns);
  const whole = transformed(parquetRelation(files.map(({ path }) => path)));
  const read = await openPartReader(
    db,
    whole.sql,
    wanted.flatMap((name) => whole.columns.filter((column) => column.name === name)),
    rows,
  );
  return (part) => read(transformed(partRelation(files, needed, part)).sql);
}

export interface PredictedFile extends Part {
  readonly files: readonly RankedFile[];
  /** Columns of the dataset that are kept. */
  readonly kept: readonly string[];
  readonly predicted: readonly WrittenColumn[];
}

/** Writes rows of a dataset with their predictions as a file of a new snapshot. */
export async function writePredicted(artifacts: ArtifactPort, file: PredictedFile, signal?: AbortSignal): Promise<WrittenFile> {
  const { from, to, kept, predicted } = file;
  const beside = await artifacts.temporaryFile('.parquet');
  const path = await artifacts.temporaryFile('.parquet');
  try {
    await writeColumns(beside, to - from, predicted);
    const names = predicted.map((column) =>
      column.kind === 'float64'
        ? `CASE WHEN isfinite(p.${identifier(column.name)}) THEN p.${identifier(column.name)} END AS ${identifier(column.name)}`
        : `p.${identifier(column.name)}`,
    );
    const relation =
      kept.length === 0
        ? `SELECT ${names.join(', ')} FROM read_parquet(${textLiteral(beside)}) p`
        : `SELECT ${[...kept.map((name) => `d.${identifier(name)}`), ...names].join(', ')} FROM ${partRelation(file.files, kept, file)} d POSITIONAL JOIN read_parquet(${textLiteral(beside)}) p`;
    const rows = await withDuckDb({ threads: 1, ...(signal === undefined ? {} : { signal }) }, async (db) =>
      toCount((await db.row(`COPY (${relation}) TO ${textLiteral(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${ROW_GROUP_ROWS})`))['Count']),
    );
    const stored = await artifacts.putFile(path);
    return { sha256: stored.sha256, rows, sizeBytes: stored.sizeBytes };
  } finally {
    await rm(beside, { force: true });
    await rm(path, { force: true });
  }
}
