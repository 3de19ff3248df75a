/**
 * The files of an endpoint's logs: lines as servers append them, and Parquet files that stand for lines.
 *
 * Invariants:
 * 1. `NAME.jsonl` is appended to. `NAME.BYTES.parquet` holds its first BYTES bytes, and appears whole.
 * 2. Of a segment exactly one file is read: the Parquet file where it holds all of the lines' file, or where that is
 *    gone; else the lines' file.
 * 3. A segment is called the same whichever of its files is read, so that a source's fingerprint does not change when
 *    its log is compacted.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface LogSegment {
  readonly path: string;
  readonly format: 'jsonl' | 'parquet';
  /** Name and length of the lines that it holds. */
  readonly identity: string;
}

/** The files of a log by segment, as the folder is now. */
export interface SegmentFiles {
  /** `2026-01-01T00-SERVER`. */
  readonly name: string;
  readonly lines: { readonly path: string; readonly sizeBytes: number; readonly mtimeMs: number } | undefined;
  /** Most bytes first. */
  readonly parquet: readonly { readonly path: string; readonly holdsBytes: number; readonly mtimeMs: number; readonly madeMs: number }[];
}

/**
 * The segments of an endpoint's prediction log that may hold lines of the window [from, …): those last written after its
 * start. Empty when nothing was logged.
 */
export const predictionSegments = (home: string, endpoint: string, from: string): Promise<readonly LogSegment[]> =>
  segmentsSince(join(home, 'predictions', endpoint), from);

/** As `predictionSegments`, of the labels and outcomes that came for the endpoint's predictions. */
export const feedbackSegments = (home: string, endpoint: string, from: string): Promise<readonly LogSegment[]> =>
  segmentsSince(join(home, 'feedback', endpoint), from);

async function segmentsSince(folder: string, from: string): Promise<readonly LogSegment[]> {
  const since = Date.parse(from);
  return (await listSegments(folder)).flatMap(({ name, lines, parquet: [newest] }): LogSegment[] => {
    if (lines !== undefined && newest?.holdsBytes !== lines.sizeBytes)
      return lines.mtimeMs < since ? [] : [{ path: lines.path, format: 'jsonl', identity: `${name}.jsonl ${lines.sizeBytes}` }];
    return newest === undefined || newest.mtimeMs < since ? [] : [{ path: newest.path, format: 'parquet', identity: `${name}.jsonl ${newest.holdsBytes}` }];
  });
}

/** What lies in a log's folder, by segment, in the order of their names. A folder that is not there is empty. */
export async function listSegments(folder: string): Promise<readonly SegmentFiles[]> {
  for (;;) {
    const names = await readdir(folder).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const segments = await readSegments(folder, names);
    // a file went between the listing and the look at it: what stands for it now is in another listing
    if (segments !== undefined) return segments;
  }
}

async function readSegments(folder: string, names: readonly string[]): Promise<readonly SegmentFiles[] | undefined> {
  const found = new Map<string, { lines: SegmentFiles['lines']; parquet: SegmentFiles['parquet'][number][] }>();
  for (const file of names.toSorted()) {
    const match = /^([^.].*)\.(?:jsonl|(\d+)\.parquet)$/.exec(file);
    if (match === null) continue;
    const [, name = '', bytes] = match;
    const path = join(folder, file);
    const is = await stat(path).catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    if (is === undefined) return undefined;
    const segment = found.get(name) ?? { lines: undefined, parquet: [] };
    if (bytes === undefined) segment.lines = { path, sizeBytes: is.size, mtimeMs: is.mtimeMs };
    else segment.parquet.push({ path, holdsBytes: Number(bytes), mtimeMs: is.mtimeMs, madeMs: is.ctimeMs });
    found.set(name, segment);
  }
  return [...found].map(([name, { lines, parquet }]) => ({ name, lines, parquet: parquet.sort((a, b) => b.holdsBytes - a.holdsBytes) }));
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';
