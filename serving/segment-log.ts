/**
 * Lines that are appended to hourly files, off the path of requests.
 *
 * Invariants:
 * 1. `append` copies into memory and returns; it never waits and never throws.
 * 2. Memory is bounded: past `maxBufferedBytes` a line is dropped and counted.
 * 3. After `flush` resolves, each line appended before is in its file or counted as dropped.
 * 4. A file's lines are whole, unless the process or the disk died while one was written: then the next write to the
 *    file starts with a line end, so that one line is torn and not two.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { FULL_SEGMENT_BYTES } from '../contracts/log-segments.ts';
import type { ServingLog } from './ports.ts';

export interface SegmentLogOptions {
  /** Files are `<folder>/<name>/<UTC hour>-<serverId>.jsonl`, further ones of an hour `…-2.jsonl`, `…-3.jsonl`. */
  readonly folder: string;
  readonly serverId: string;
  /** Default 64 MiB. */
  readonly maxBufferedBytes?: number;
  /** Default 250. */
  readonly flushEveryMs?: number;
  /** A file that has as many bytes is not written to any more: it can be compacted before its hour is over. Default 256 MiB. */
  readonly maxFileBytes?: number;
  readonly log: ServingLog;
}

export interface SegmentLog {
  /** Takes a line that ends in a line end. False when it was dropped. */
  append(name: string, line: string): boolean;
  flush(): Promise<void>;
  /** Writes what is there and closes the files. */
  close(): Promise<void>;
  readonly droppedLines: number;
  readonly writtenLines: number;
  readonly bufferedBytes: number;
}

const CHUNK_BYTES = 256 * 1024;
/** UTF-8 needs at most three bytes for one UTF-16 unit. */
const MAX_BYTES_A_UNIT = 3;
const SPARE_CHUNKS = 16;
/** A file not written for so long is closed; it is opened again when needed. */
const IDLE_FILE_MS = 60_000;

interface Chunk {
  readonly bytes: Buffer;
  used: number;
  lines: number;
}

interface Stream {
  readonly name: string;
  chunks: Chunk[];
  file: { readonly hour: string; readonly part: number; readonly handle: FileHandle; sizeBytes: number; writtenAtMs: number } | undefined;
  torn: boolean;
}

const utcHour = (ms: number): string => new Date(ms).toISOString().slice(0, 13);

export function createSegmentLog(options: SegmentLogOptions): SegmentLog {
  const maxBufferedBytes = options.maxBufferedBytes ?? 64 * 1024 * 1024;
  const maxFileBytes = options.maxFileBytes ?? FULL_SEGMENT_BYTES;
  const streams = new Map<string, Stream>();
  const spare: Buffer[] = [];
  let bufferedBytes = 0;
  let droppedLines = 0;
  let writtenLines = 0;
  let failing = false;
  let writing: Promise<void> = Promise.resolve();

  function takeChunk(bytes: number): Chunk {
    const buffer = bytes <= CHUNK_BYTES ? (spare.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES)) : Buffer.allocUnsafeSlow(bytes);
    return { bytes: buffer, used: 0, lines: 0 };
  }

  async function fileOf(stream: Stream, nowMs: number): Promise<FileHandle> {
    const hour = utcHour(nowMs);
    const before = stream.file;
    if (before?.hour === hour && before.sizeBytes < maxFileBytes) return before.handle;
    await before?.handle.close();
    stream.file = undefined;
    const folder = join(options.folder, stream.name);
    await mkdir(folder, { recursive: true });
    for (let part = before?.hour === hour ? before.part + 1 : 1; ; part += 1) {
      const handle = await open(join(folder, `${hour}-${options.serverId}${part === 1 ? '' : `-${part}`}.jsonl`), 'a');
      const { size } = await handle.stat();
      if (size >= maxFileBytes) {
        await handle.close();
        continue;
      }
      stream.file = { hour, part, handle, sizeBytes: size, writtenAtMs: nowMs };
      stream.torn = false;
      return handle;
    }
  }

  async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) from += (await handle.write(bytes, from, bytes.length - from)).bytesWritten;
  }

  async function writeStream(stream: Stream): Promise<void> {
    const nowMs = Date.now();
    const chunks = stream.chunks;
    stream.chunks = [];
    for (const chunk of chunks) {
      try {
        const handle = await fileOf(stream, nowMs);
        if (stream.torn) await writeAll(handle, Buffer.from('\n'));
        stream.torn = true;
        await writeAll(handle, chunk.bytes.subarray(0, chunk.used));
        stream.torn = false;
        if (stream.file !== undefined) {
          stream.file.writtenAtMs = nowMs;
          stream.file.sizeBytes += chunk.used;
        }
        writtenLines += chunk.lines;
        if (failing) options.log('info', 'lines can be written again', { folder: options.folder });
        failing = false;
      } catch (error) {
        droppedLines += chunk.lines;
        if (!failing) options.log('error', 'lines cannot be written; they are dropped and counted', { folder: options.folder, error: String(error) });
        failing = true;
      }
      bufferedBytes -= chunk.used;
      if (chunk.bytes.length === CHUNK_BYTES && spare.length < SPARE_CHUNKS) spare.push(chunk.bytes);
    }
    if (chunks.length === 0 && stream.file !== undefined && nowMs - stream.file.writtenAtMs > IDLE_FILE_MS) {
      await stream.file.handle.close();
      stream.file = undefined;
    }
  }

  function flush(): Promise<void> {
    writing = writing.then(async () => {
      await Promise.all([...streams.values()].map(writeStream));
    });
    return writing;
  }

  let idle = true;
  const timer = setInterval(() => {
    if (!idle) return;
    idle = false;
    void flush().finally(() => {
      idle = true;
    });
  }, options.flushEveryMs ?? 250);
  timer.unref();

  return {
    append(name, line) {
      const most = line.length * MAX_BYTES_A_UNIT;
      if (bufferedBytes + most > maxBufferedBytes) {
        droppedLines += 1;
        return false;
      }
      let stream = streams.get(name);
      if (stream === undefined) {
        stream = { name, chunks: [], file: undefined, torn: false };
        streams.set(name, stream);
      }
      let chunk = stream.chunks[stream.chunks.length - 1];
      if (chunk === undefined || chunk.bytes.length - chunk.used < most) {
        chunk = takeChunk(most);
        stream.chunks.push(chunk);
      }
      const bytes = chunk.bytes.write(line, chunk.used);
      chunk.used += bytes;
      chunk.lines += 1;
      bufferedBytes += bytes;
      return true;
    },
    flush,
    async close() {
      clearInterval(timer);
      await flush();
      for (const stream of streams.values()) await stream.file?.handle.close();
      streams.clear();
    },
    get droppedLines() {
      return droppedLines;
    },
    get writtenLines() {
      return writtenLines;
    },
    get bufferedBytes() {
      return bufferedBytes;
    },
  };
}
