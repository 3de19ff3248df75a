const BLOCK_BYTES = 128 * 1024;

/** Bytes as one zstd frame of raw blocks (RFC 8878): what every decoder reads, and no packer is needed for. */
export function zstdFrame(input: string | Buffer): Buffer {
  const bytes = Buffer.from(input);
  // One segment, the size of its content in four bytes, no checksum.
  const head = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0]);
  head.writeUInt32LE(bytes.length, 5);
  const parts = [head];
  for (let at = 0; at === 0 || at < bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const header = Buffer.alloc(3);
    header.writeUIntLE((block.length << 3) | (at + BLOCK_BYTES >= bytes.length ? 1 : 0), 0, 3);
    parts.push(header, block);
  }
  return Buffer.concat(parts);
}
