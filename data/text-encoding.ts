/** Which encoding bytes are in, and texts of any of them as UTF-8. */
import { isUtf8 } from 'node:buffer';
import type { Encoding } from '../contracts/source.ts';

/** Encodings by their one name: `utf-16` is one of two, said by its first bytes. */
export type ExactEncoding = Exclude<Encoding, 'utf-16'>;

const UTF16_SAMPLE_BYTES = 4096;
/** Latin text in UTF-16 has a NUL in every second byte; that two in five are enough leaves room for words of other scripts. */
const UTF16_LEAST_SHARE = 0.4;

/** What the first bytes say for certain: a byte order mark, or the NULs that UTF-16 puts on one side of Latin text. */
export function encodingByHead(head: Buffer): ExactEncoding | undefined {
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) return 'utf-8';
  if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le';
  if (head[0] === 0xfe && head[1] === 0xff) return 'utf-16be';
  const sample = head.subarray(0, Math.min(head.length, UTF16_SAMPLE_BYTES) & ~1);
  const pairs = sample.length / 2;
  if (pairs < 2) return undefined;
  let [even, odd] = [0, 0];
  for (let at = 0; at < sample.length; at += 2) {
    if (sample[at] === 0) even++;
    if (sample[at + 1] === 0) odd++;
  }
  if (odd / pairs >= UTF16_LEAST_SHARE && even === 0) return 'utf-16le';
  if (even / pairs >= UTF16_LEAST_SHARE && odd === 0) return 'utf-16be';
  return undefined;
}

/** How many bytes at the end of a chunk begin a UTF-8 sequence that goes on in the next one: 0 to 3. */
function unfinished(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) > back ? back : 0;
  }
  return 0;
}

/** The length of a valid UTF-8 sequence at a place that begins with a byte of 0x80 or more; 0 where it is none. */
function sequenceAt(bytes: Buffer, at: number): number {
  const byte = bytes[at] ?? 0;
  const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 0;
  return length > 0 && at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

export interface Utf8Scan {
  /** Takes the next bytes; gives the offset, over all of them, of the first NUL or of the first byte that is not UTF-8. */
  readonly take: (chunk: Buffer) => { readonly kind: 'nul' | 'invalid'; readonly offset: number } | undefined;
  readonly end: () => { readonly kind: 'invalid'; readonly offset: number } | undefined;
}

/** Looks through bytes, chunk by chunk, at the speed of memory. */
export function createUtf8Scan(): Utf8Scan {
  let carried: Buffer = Buffer.alloc(0);
  let offset = 0;
  return {
    take(chunk) {
      const bytes = carried.length === 0 ? chunk : Buffer.concat([carried, chunk]);
      const start = offset - carried.length;
      offset += chunk.length;
      const whole = bytes.subarray(0, bytes.length - unfinished(bytes));
      const nul = whole.indexOf(0);
      if (!isUtf8(whole)) {
        let at = 0;
        while (at < whole.length) {
          if ((whole[at] ?? 0) < 0x80) at++;
          else {
            const length = sequenceAt(whole, at);
            if (length === 0) break;
            at += length;
          }
        }
        return nul !== -1 && nul < at ? { kind: 'nul', offset: start + nul } : { kind: 'invalid', offset: start + at };
      }
      if (nul !== -1) return { kind: 'nul', offset: start + nul };
      carried = Buffer.from(bytes.subarray(whole.length));
      return undefined;
    },
    end: () => (carried.length === 0 ? undefined : { kind: 'invalid', offset: offset - carried.length }),
  };
}

/** What bytes that are not UTF-8 are made of. */
export interface SingleByteCensus {
  readonly take: (chunk: Buffer) => void;
  /**
   * `latin-1` where no two bytes together would be UTF-8 and none is a control of latin-1; `windows-1252` where there
   * are such, as Windows writes quotes and dashes; `mixed` where some of it is UTF-8 and some is not.
   */
  readonly verdict: () => 'latin-1' | 'windows-1252' | 'mixed';
}

export function createSingleByteCensus(): SingleByteCensus {
  let carried: Buffer = Buffer.alloc(0);
  let [sequences, controls] = [0, 0];
  return {
    take(chunk) {
      const bytes = Buffer.concat([carried, chunk]);
      const whole = bytes.length - unfinished(bytes);
      for (let at = 0; at < whole; ) {
        const byte = bytes[at] ?? 0;
        const length = byte < 0x80 ? 1 : sequenceAt(bytes, at);
        if (byte >= 0x80 && length > 0) sequences++;
        if (byte >= 0x80 && byte < 0xa0 && length === 0) controls++;
        at += Math.max(1, length);
      }
      carried = Buffer.from(bytes.subarray(whole));
    },
    verdict: () => (sequences > 0 ? 'mixed' : controls > 0 ? 'windows-1252' : 'latin-1'),
  };
}

export interface Utf8Decoder {
  /** @throws TypeError where the bytes are not of the encoding */
  readonly take: (chunk: Buffer) => string;
  readonly end: () => string;
}

/** Bytes of an encoding as text, chunk by chunk. A byte order mark is left out. */
export function createDecoder(encoding: ExactEncoding): Utf8Decoder {
  if (encoding === 'latin-1') return { take: (chunk) => chunk.toString('latin1'), end: () => '' };
  const decoder = new TextDecoder(encoding, { fatal: true });
  return { take: (chunk) => decoder.decode(chunk, { stream: true }), end: () => decoder.decode() };
}
