/**
 * Turns the closed segments of a log into Parquet, and takes away what is older than it is kept.
 *
 * Invariants:
 * 1. Each step is one rename or one removal, and may be the last one before a death: a Parquet file appears whole under
 *    the name that says what it holds; the lines go only when a Parquet file of all of them has stood for a while.
 * 2. Two processes that do it at once do the same twice: they write the same content under the same name.
 * 3. A reader that listed the folder has the lines' file at least `graceMs` long after it was replaced.
 */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { FULL_SEGMENT_BYTES } from '../contracts/log-segments.ts';
import { type DuckDbOptions, toCount, withDuckDb } from './duckdb.ts';
import { feedbackRelation, predictionRelation } from './log-relations.ts';
import { listSegments, type SegmentFiles } from './prediction-segments.ts';
import { textLiteral } from './sql-text.ts';

export interface CompactOptions {
  /** The state folder. */
  readonly home: string;
  /** Older segments are removed. Default: none. */
  readonly keepMs?: number | undefined;
  readonly now?: () => number;
  /** A segment's hour has to be over for so long, or the segment full, and its file unwritten for so long. Default 5 minutes. */
  readonly settledMs?: number;
  /** What a full segment has. Default `FULL_SEGMENT_BYTES`. */
  readonly fullBytes?: number;
  /** How long lines stay after their Parquet file appeared. Default 10 minutes. */
  readonly graceMs?: number;
  /** Whether everybody who reads a segment's lines as they come (`feedback/ENDPOINT/SEGMENT`) has read so many bytes. Default: nobody does. */
  readonly isRead?: (file: string, sizeBytes: number) => Promise<boolean>;
  readonly duckDb?: DuckDbOptions;
  readonly signal?: AbortSignal;
  readonly log?: (level: 'info' | 'warn', message: string, details?: Readonly<Record<string, unknown>>) => void;
}

export interface Compacted {
  /** Segments whose Parquet file was made. */
  readonly made: number;
  /** Lines' files that were taken away, Parquet files standing for them. */
  readonly replaced: number;
  /** Segments that were older than they are kept. */
  readonly expired: number;
}

const LOGS = [
  { folder: 'predictions', relationOf: predictionRelation },
  { folder: 'feedback', relationOf: feedbackRelation },
] as const;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const ROWS_A_GROUP = 122_880;
/** A temporary file that nobody has written to for so long belongs to a process that died. */
const ABANDONED_MS = HOUR_MS;
const DUCKDB: DuckDbOptions = { threads: 1, memoryLimitBytes: 512 * 1024 ** 2 };

/** Compacts the logs of all endpoints once. */
export async function compactLogs(options: CompactOptions): Promise<Compacted> {
  const total = { made: 0, replaced: 0, expired: 0 };
  for (const { folder, relationOf } of LOGS) {
    const root = join(options.home, folder);
    for (const endpoint of await foldersIn(root)) {
      const at = join(root, endpoint);
      await clearAbandoned(at, options.now?.() ?? Date.now());
      for (const segment of await listSegments(at)) {
        options.signal?.throwIfAborted();
        const did = await compactSegment(at, `${folder}/${endpoint}/${segment.name}`, segment, relationOf, options);
        if (did !== undefined) total[did] += 1;
      }
    }
  }
  return total;
}

async function foldersIn(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  });
  return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort();
}

async function clearAbandoned(folder: string, nowMs: number): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!/^\..*\.tmp$/.test(name)) continue;
    const path = join(folder, name);
    const is = await stat(path).catch(() => undefined);
    if (is !== undefined && nowMs - is.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
  }
}

/** The hour that a segment is named after, in milliseconds; undefined where the name has none. */
function hourOf(name: string): number | undefined {
  const text = /^(\d{4}-\d\d-\d\dT\d\d)-/.exec(name)?.[1];
  const ms = text === undefined ? Number.NaN : Date.parse(`${text}:00:00Z`);
  return Number.isNaN(ms) ? undefined : ms;
}

type RelationOf = (typeof LOGS)[number]['relationOf'];

async function compactSegment(
  folder: string,
  file: string,
  segment: SegmentFiles,
  relationOf: RelationOf,
  options: CompactOptions,
): Promise<keyof Compacted | undefined> {
  const nowMs = options.now?.() ?? Date.now();
  const settledMs = options.settledMs ?? 5 * MINUTE_MS;
  const graceMs = options.graceMs ?? 10 * MINUTE_MS;
  const hour = hourOf(segment.name);
  if (hour === undefined) return undefined;
  const { lines, parquet } = segment;
  const writtenMs = Math.max(lines?.mtimeMs ?? 0, ...parquet.map(({ mtimeMs }) => mtimeMs));
  if (options.keepMs !== undefined && Math.max(hour + HOUR_MS, writtenMs) < nowMs - options.keepMs) {
    // the newest last: while any of its files is there, the segment is whole
    for (const { path } of parquet.slice(1)) await rm(path, { force: true });
    if (lines !== undefined && parquet[0]?.holdsBytes === lines.sizeBytes) await rm(lines.path, { force: true });
    for (const path of [parquet[0]?.path, lines?.path]) if (path !== undefined) await rm(path, { force: true });
    return 'expired';
  }
  const [newest, ...older] = parquet;
  if (lines === undefined || newest?.holdsBytes === lines.sizeBytes) {
    if (newest === undefined || nowMs - newest.madeMs < graceMs) return undefined;
    for (const { path } of older) await rm(path, { force: true });
    if (lines === undefined || (await options.isRead?.(file, lines.sizeBytes)) === false) return undefined;
    await rm(lines.path, { force: true });
    return 'replaced';
  }
  const over = nowMs >= hour + HOUR_MS + settledMs || lines.sizeBytes >= (options.fullBytes ?? FULL_SEGMENT_BYTES);
  if (!over || nowMs < lines.mtimeMs + settledMs) return undefined;
  await writeParquet(folder, segment.name, lines, relationOf, options);
  return 'made';
}

async function writeParquet(
  folder: string,
  name: string,
  lines: NonNullable<SegmentFiles['lines']>,
  relationOf: RelationOf,
  { duckDb, signal, log }: CompactOptions,
): Promise<void> {
  const temporary = join(folder, `.${name}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const rows = await withDuckDb({ ...DUCKDB, ...duckDb, ...(signal === undefined ? {} : { signal }) }, async (db) => {
      const relation = relationOf([{ path: lines.path, format: 'jsonl', identity: name }]);
      const { Count: written } = await db.row(
        `COPY (SELECT * FROM ${relation}) TO ${textLiteral(temporary)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${ROWS_A_GROUP})`,
      );
      return toCount(written);
    });
    const whole = await countLines(lines.path);
    if (whole > rows) log?.('warn', 'lines of a log could not be read and are left out', { segment: name, lines: whole - rows });
    const handle = await open(temporary, 'r+');
    await handle.sync();
    await handle.close();
    // readers choose segments by when their last line was written
    await utimes(temporary, new Date(lines.mtimeMs), new Date(lines.mtimeMs));
    await rename(temporary, join(folder, `${name}.${lines.sizeBytes}.parquet`));
    await syncFolder(folder);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function countLines(path: string): Promise<number> {
  let count = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>)
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) count += 1;
  return count;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
