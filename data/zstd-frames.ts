import { type FileHandle, open } from 'node:fs/promises';

const FRAME = 0xfd2fb528;
/** Sixteen magic numbers begin frames whose content is skipped. */
const SKIPPABLE = 0x184d2a50;
const BLOCK_TYPE_RLE = 1;
const BLOCK_TYPE_RESERVED = 3;

/**
 * Whether a zstd file ends where its frames do. Reads the headers of its blocks, and decodes nothing
 * (RFC 8878, sections 3.1.1 and 3.1.2).
 */
export async function isWholeZstd(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    let at = 0;
    while (at < size) {
      const end = await frameEnd(file, at);
      if (end === undefined || end > size) return false;
      at = end;
    }
    return true;
  } finally {
    await file.close();
  }
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer | undefined> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
  return bytesRead === length ? buffer : undefined;
}

async function frameEnd(file: FileHandle, start: number): Promise<number | undefined> {
  const magic = (await bytesAt(file, start, 4))?.readUInt32LE();
  if (magic === undefined) return undefined;
  if ((magic & ~0xf) >>> 0 === SKIPPABLE) {
    const length = (await bytesAt(file, start + 4, 4))?.readUInt32LE();
    return length === undefined ? undefined : start + 8 + length;
  }
  const descriptor = (await bytesAt(file, start + 4, 1))?.[0];
  if (magic !== FRAME || descriptor === undefined) return undefined;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let at = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryIdBytes + contentSizeBytes;
  for (;;) {
    const header = (await bytesAt(file, at, 3))?.readUIntLE(0, 3);
    if (header === undefined) return undefined;
    const type = (header >> 1) & 3;
    if (type === BLOCK_TYPE_RESERVED) return undefined;
    at += 3 + (type === BLOCK_TYPE_RLE ? 1 : header >> 3);
    if ((header & 1) !== 0) return at + ((descriptor & 4) !== 0 ? 4 : 0);
  }
}
