/**
 * Files of text as DuckDB can read them: UTF-8 without NUL bytes.
 *
 * Invariants:
 * 1. A file that is UTF-8 is looked through and read where it lies, packed or not. One of another encoding is brought to
 *    UTF-8 in a temporary file, by streams: memory does not grow with it. `close` removes these.
 * 2. What is unpacked is bounded: a small file that unpacks without end is refused.
 * 3. An encoding that nobody named is told in `notes` where it is not UTF-8. A file that is partly UTF-8 and partly not is
 *    refused at the first byte that is not.
 */
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type { Encoding } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { type DuckDb, DuckDbFailure } from './duckdb.ts';
import { createQuoteScan } from './quote-scan.ts';
import { malformed } from './source-errors.ts';
import { isWholeZstd } from './zstd-frames.ts';
import type { SourceFile } from './source-files.ts';
import { textLiteral } from './sql-text.ts';
import { createDecoder, createSingleByteCensus, createUtf8Scan, encodingByHead, type ExactEncoding } from './text-encoding.ts';

export interface ReadableOptions {
  readonly artifacts: Pick<ArtifactPort, 'temporaryFile'>;
  /** Default: looked for in each file. */
  readonly encoding?: Encoding;
  /** Most bytes that one packed file may unpack to. Default: a hundred times its size, at least 1 GiB. */
  readonly maxUnpackedBytes?: number;
  /** The column that a place lies in: of the first line, and the line of the place up to it. */
  readonly columnOf?: (firstLine: string, upToPlace: string) => string | undefined;
  /** Files that begin with a byte order mark are written anew without it. */
  readonly withoutMark?: boolean;
  readonly signal?: AbortSignal;
}

export interface ReadableFiles {
  /** In the order given; the label is that of the original. */
  readonly files: readonly SourceFile[];
  /** What people should know: files in an encoding that was not named. */
  readonly notes: readonly string[];
  readonly close: () => Promise<void>;
}

const CHUNK_BYTES = 1 << 20;
/** So much of a line is kept, to tell the column that a place lies in. */
const MOST_OF_A_LINE = 1 << 20;
const LEAST_UNPACKED_BYTES = 1 << 30;
const MOST_RATIO = 100;
const NAMES: Readonly<Record<ExactEncoding, string>> = {
  'utf-8': 'UTF-8',
  'latin-1': 'latin-1',
  'windows-1252': 'windows-1252',
  'utf-16le': 'UTF-16',
  'utf-16be': 'UTF-16, high byte first',
};

type Packing = 'gzip' | 'zstd' | undefined;
/** The file's bytes, unpacked; from the start each time that it is called. */
type Read = () => AsyncIterable<Buffer>;

/**
 * Looks through files of text and makes them readable.
 * @throws MillraceError SOURCE_MALFORMED at a NUL byte or a byte of another encoding (with row and column), for a damaged or
 * unbounded packed file; DISK_FULL
 */
export async function readableFiles(db: DuckDb, files: readonly SourceFile[], options: ReadableOptions): Promise<ReadableFiles> {
  const spooled: string[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(spooled.splice(0).map((path) => rm(path, { force: true })));
  };
  const found = new Map<ExactEncoding, string[]>();
  try {
    const readable: SourceFile[] = [];
    for (const file of files) {
      options.signal?.throwIfAborted();
      const read: Read = () => bytesOf(db, file, options);
      const encoding = await encodingOf(read, file, options);
      if (encoding === 'utf-8' && !(options.withoutMark === true && startsWithMark(await firstBytes(read, MARK.length)))) {
        readable.push(file);
        continue;
      }
      if (options.encoding === undefined && encoding !== 'utf-8') found.set(encoding, [...(found.get(encoding) ?? []), file.label]);
      const path = await options.artifacts.temporaryFile('.txt');
      spooled.push(path);
      await transcode(read, file, encoding, path, options);
      readable.push({ ...file, path });
    }
    const notes = [...found].map(([encoding, labels]) => {
      const more = labels.length > 1 ? ` and ${labels.length - 1} more` : '';
      return `${labels[0] ?? ''}${more} read as ${NAMES[encoding]}, which was found and not named`;
    });
    return { files: readable, notes, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const MARK = Buffer.from('\ufeff');
const startsWithMark = (head: Buffer): boolean => head.subarray(0, MARK.length).equals(MARK);

/** The text of one small file, in any encoding, packed or not. */
export async function readText(db: DuckDb, file: SourceFile, options: ReadableOptions): Promise<{ readonly text: string; readonly encoding: ExactEncoding }> {
  const chunks: Buffer[] = [];
  for await (const chunk of bytesOf(db, file, options)) chunks.push(chunk);
  const read: Read = async function* () {
    yield* await Promise.resolve(chunks);
  };
  const encoding = await encodingOf(read, file, options);
  const reader = placedDecoder(file, encoding, options);
  return { text: chunks.map((chunk) => reader.take(chunk)).join('') + reader.end(), encoding };
}

/** The first 1 MiB of a readable file as text. */
export async function headOf(db: DuckDb, file: SourceFile, options: ReadableOptions): Promise<string> {
  const head = await firstBytes(() => bytesOf(db, file, options), CHUNK_BYTES);
  return new TextDecoder('utf-8').decode(head, { stream: true });
}

/**
 * The first row that is longer than it may be, quoted line ends being part of it; the row is the line that it begins on.
 * Without a delimiter each line is a row.
 */
export async function findLongRow(
  db: DuckDb,
  file: SourceFile,
  options: ReadableOptions,
  mostBytes: number,
  delimiter: string | undefined,
): Promise<{ readonly row: number; readonly firstLine: string; readonly upToPlace: string } | undefined> {
  let [line, row, length, quoted] = [1, 1, 0, false];
  let firstLine: Buffer | undefined;
  let kept: Buffer[] = [];
  let keptBytes = 0;
  const text = (): string => Buffer.concat(kept).toString('utf8');
  for await (const chunk of bytesOf(db, file, options)) {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte === 0x22 && delimiter !== undefined) quoted = !quoted;
      if (byte === 0x0a) line++;
      if (byte === 0x0a && !quoted) {
        firstLine ??= Buffer.concat([...kept, chunk.subarray(from, at)]);
        [row, length, kept, keptBytes, from] = [line, 0, [], 0, at + 1];
      } else if (++length > mostBytes) {
        if (keptBytes < MOST_OF_A_LINE) kept.push(chunk.subarray(from, at));
        const upToPlace = text();
        return { row, firstLine: firstLine?.toString('utf8') ?? upToPlace, upToPlace };
      }
    }
    if (keptBytes < MOST_OF_A_LINE) kept.push(Buffer.from(chunk.subarray(from)));
    keptBytes += chunk.length - from;
  }
  return undefined;
}

/** One line of a file, counted from 1; undefined where it has fewer, or the line is longer than 1 MiB. */
export async function lineAt(db: DuckDb, file: SourceFile, options: ReadableOptions, row: number): Promise<string | undefined> {
  let line = 1;
  const kept: Buffer[] = [];
  let keptBytes = 0;
  const text = (): string | undefined => (keptBytes > MOST_OF_A_LINE ? undefined : Buffer.concat(kept).toString('utf8'));
  for await (const chunk of bytesOf(db, file, options)) {
    let from = 0;
    for (let end = chunk.indexOf(10); line <= row; end = chunk.indexOf(10, from)) {
      if (line === row) {
        const part = chunk.subarray(from, end === -1 ? chunk.length : end);
        if (keptBytes <= MOST_OF_A_LINE) kept.push(Buffer.from(part));
        keptBytes += part.length;
        if (end !== -1) return text();
      }
      if (end === -1) break;
      line++;
      from = end + 1;
    }
  }
  return line === row ? text() : undefined;
}

/**
 * DuckDB, reading by one thread, ends with the file where a quote was left open, and leaves out all that the quote holds.
 * @throws MillraceError SOURCE_MALFORMED where the field begins that does not end
 */
export async function refuseOpenQuote(db: DuckDb, file: SourceFile, options: ReadableOptions, delimiter: string): Promise<void> {
  const read: Read = () => bytesOf(db, file, options);
  const scan = createQuoteScan(delimiter);
  for await (const chunk of read()) scan.take(chunk);
  const open = scan.open();
  if (open !== undefined)
    throw await malformedAt(read, file, options, open, 'A quoted field does not end', 'Close the quote, or double quotes that belong to the text.');
}

async function firstBytes(read: Read, most: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of read()) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= most) break;
  }
  return Buffer.concat(chunks).subarray(0, most);
}

/** What the file is packed with; its name and its first bytes have to agree, for DuckDB goes by the name. */
async function packingOf(file: SourceFile): Promise<Packing> {
  const named: Packing = file.path.endsWith('.gz') ? 'gzip' : file.path.endsWith('.zst') ? 'zstd' : undefined;
  const handle = await open(file.path);
  let magic: Buffer;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    magic = buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
  const really: Packing = magic[0] === 0x1f && magic[1] === 0x8b ? 'gzip' : magic.equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd])) ? 'zstd' : undefined;
  if (named === really) return named;
  if (named === undefined) {
    throw malformed(`The file is packed with ${really ?? ''}, and its name does not say so`, {
      file: file.label,
      fix: `Have its name end with ${really === 'gzip' ? '.gz' : '.zst'}.`,
    });
  }
  throw malformed(`The file is not ${named}, as its name says`, {
    file: file.label,
    fix: 'Is it cut off, or not packed? Fetch it again, or correct its name.',
  });
}

/** The file's bytes, unpacked. */
async function* bytesOf(db: DuckDb, file: SourceFile, options: ReadableOptions): AsyncGenerator<Buffer> {
  const packing = await packingOf(file);
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  if (packing === undefined) {
    for await (const chunk of createReadStream(file.path, { highWaterMark: CHUNK_BYTES, ...signal })) yield chunk as Buffer;
    return;
  }
  if (packing === 'zstd') await refuseTornZstd(file);
  const most = options.maxUnpackedBytes ?? Math.max(LEAST_UNPACKED_BYTES, file.sizeBytes * MOST_RATIO);
  let bytes = 0;
  for await (const chunk of packing === 'gzip' ? gunzipped(file, signal) : zstdLines(db, file)) {
    bytes += chunk.length;
    if (bytes > most) {
      throw malformed(`The file of ${file.sizeBytes.toLocaleString('en')} bytes unpacks to more than ${most.toLocaleString('en')}`, {
        file: file.label,
        fix: 'If that is as it should be, allow more in the source: maxUnpackedBytes.',
      });
    }
    yield chunk;
  }
}

/** DuckDB takes a zstd file that is cut off for one that ends there. */
async function refuseTornZstd(file: SourceFile): Promise<void> {
  if (!(await isWholeZstd(file.path))) throw malformed('The zstd file is cut off or damaged', { file: file.label, fix: 'Fetch it again.' });
}

async function* gunzipped(file: SourceFile, signal: { readonly signal?: AbortSignal }): AsyncGenerator<Buffer> {
  const unpacked = createGunzip({ chunkSize: CHUNK_BYTES });
  const reading = pipeline(createReadStream(file.path, { highWaterMark: CHUNK_BYTES }), unpacked, signal).catch((error: unknown) => error);
  try {
    for await (const chunk of unpacked) yield chunk as Buffer;
  } catch (error) {
    signal.signal?.throwIfAborted();
    throw malformed(/unexpected end/.test(String(error)) ? 'The gzip file is cut off' : 'The gzip file is damaged', {
      file: file.label,
      fix: 'Fetch it again.',
    });
  } finally {
    unpacked.destroy();
    await reading;
  }
}

/** DuckDB unpacks zstd, Node 20 does not: the file as its lines, each a row of one column that nothing ends but the line. */
async function* zstdLines(db: DuckDb, file: SourceFile): AsyncGenerator<Buffer> {
  const lines = `read_csv(${textLiteral(file.path)}, auto_detect = false, columns = {'line': 'VARCHAR'}, delim = ${textLiteral('\u0001')}, quote = '', escape = '', header = false, comment = '', nullstr = ${textLiteral('\u0002')}, null_padding = true, strict_mode = false, max_line_size = 16777216, parallel = false)`;
  try {
    for await (const chunk of db.chunks(`SELECT line FROM ${lines}`)) {
      yield Buffer.from(
        `${chunk
          .getColumnValues(0)
          .map((line) => (typeof line === 'string' ? line : ''))
          .join('\n')}\n`,
      );
    }
  } catch (error) {
    if (!(error instanceof DuckDbFailure)) throw error;
    if (/utf-?8|unicode/i.test(error.detail)) {
      throw malformed('The text is not UTF-8', { file: file.label, fix: 'Files packed with zstd are read as UTF-8 only: unpack it, or pack it with gzip.' });
    }
    throw malformed('The zstd file is damaged, or a line of it is longer than 16 MiB', { file: file.label, fix: 'Fetch it again, or unpack it.' });
  }
}

/** The encoding that a file is in, once all of it was looked through where it is UTF-8. */
async function encodingOf(read: Read, file: SourceFile, options: ReadableOptions): Promise<ExactEncoding> {
  const { encoding: named } = options;
  const head = await firstBytes(read, 1 << 16);
  const byHead = encodingByHead(head);
  if (named === 'utf-16') {
    if (byHead === 'utf-8') throw contradiction(file, 'UTF-16', 'UTF-8');
    return byHead ?? 'utf-16le';
  }
  if (named !== undefined && named !== 'utf-8') {
    if (byHead === 'utf-8' || (byHead !== undefined && byHead !== named)) throw contradiction(file, NAMES[named], NAMES[byHead]);
    return named;
  }
  if (byHead !== undefined && byHead !== 'utf-8') {
    if (named === 'utf-8') throw contradiction(file, 'UTF-8', NAMES[byHead]);
    return byHead;
  }
  const bad = await firstBad(read);
  if (bad === undefined) return 'utf-8';
  if (bad.kind === 'nul') {
    throw await malformedAt(read, file, options, bad.offset, 'The file holds NUL bytes', 'Remove them; if the file is UTF-16, name it: encoding.');
  }
  if (named === 'utf-8' || byHead === 'utf-8') {
    throw await malformedAt(read, file, options, bad.offset, 'The text is not UTF-8', "Name the encoding of the source: encoding: 'latin-1'.");
  }
  const census = createSingleByteCensus();
  for await (const chunk of read()) census.take(chunk);
  const verdict = census.verdict();
  if (verdict !== 'mixed') return verdict;
  throw await malformedAt(
    read,
    file,
    options,
    bad.offset,
    'The text is UTF-8 in some places and another encoding in others; this is not UTF-8',
    "Write the file anew in one encoding, or take it byte by byte: encoding: 'latin-1'.",
  );
}

const contradiction = (file: SourceFile, named: string, found: string) =>
  malformed(`The source is said to be ${named}, and the file begins as ${found} does`, {
    file: file.label,
    fix: 'Correct the encoding of the source, or leave it out.',
  });

async function firstBad(read: Read): Promise<{ readonly kind: 'nul' | 'invalid'; readonly offset: number } | undefined> {
  const scan = createUtf8Scan();
  for await (const chunk of read()) {
    const bad = scan.take(chunk);
    if (bad !== undefined) return bad;
  }
  return scan.end();
}

/** Where in a text one is: the line, and what of it went by. */
interface PlaceTracker {
  readonly take: (text: string) => void;
  readonly place: () => { readonly row: number; readonly firstLine: string; readonly upToPlace: string };
}

function createPlaceTracker(): PlaceTracker {
  let row = 1;
  let firstLine = '';
  let line = '';
  return {
    take(text) {
      let from = 0;
      for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', from)) {
        if (row === 1) firstLine = (line + text.slice(from, end)).slice(0, MOST_OF_A_LINE);
        row++;
        line = '';
        from = end + 1;
      }
      line = (line + text.slice(from)).slice(0, MOST_OF_A_LINE);
    },
    place: () => ({ row, firstLine: row === 1 ? line : firstLine, upToPlace: line }),
  };
}

function refusedAt(file: SourceFile, options: ReadableOptions, tracker: PlaceTracker, message: string, fix: string) {
  const { row, firstLine, upToPlace } = tracker.place();
  const column = options.columnOf?.(firstLine, upToPlace);
  return malformed(message, { file: file.label, row, ...(column === undefined ? {} : { column }), fix });
}

/** Lines are counted only when there is something to report. */
async function malformedAt(read: Read, file: SourceFile, options: ReadableOptions, offset: number, message: string, fix: string) {
  const tracker = createPlaceTracker();
  const decoder = new TextDecoder('utf-8');
  let left = offset;
  for await (const chunk of read()) {
    tracker.take(decoder.decode(chunk.subarray(0, left), { stream: true }));
    left -= chunk.length;
    if (left <= 0) break;
  }
  return refusedAt(file, options, tracker, message, fix);
}

/** A decoder that refuses NULs and what is not of the encoding, with the place. */
function placedDecoder(
  file: SourceFile,
  encoding: ExactEncoding,
  options: ReadableOptions,
): { readonly take: (chunk: Buffer) => string; readonly end: () => string } {
  const decoder = createDecoder(encoding);
  const tracker = createPlaceTracker();
  const checked = (decode: () => string): string => {
    let text: string;
    try {
      text = decode();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw refusedAt(
        file,
        options,
        tracker,
        `The text is not ${NAMES[encoding]} after this row`,
        'Correct the encoding of the source, or the file: is it cut off?',
      );
    }
    const nul = text.indexOf('\0');
    tracker.take(nul === -1 ? text : text.slice(0, nul));
    if (nul !== -1) throw refusedAt(file, options, tracker, 'The file holds NUL bytes', 'Remove them, or leave the file out by a narrower glob.');
    return text;
  };
  return { take: (chunk) => checked(() => decoder.take(chunk)), end: () => checked(() => decoder.end()) };
}

async function transcode(read: Read, file: SourceFile, encoding: ExactEncoding, path: string, options: ReadableOptions): Promise<void> {
  const reader = placedDecoder(file, encoding, options);
  const spool = await open(path, 'wx', 0o600);
  try {
    for await (const chunk of read()) await spool.writeFile(reader.take(chunk));
    await spool.writeFile(reader.end());
  } finally {
    await spool.close();
  }
}
