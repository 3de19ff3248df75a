import { open } from 'node:fs/promises';

export interface TailedLines {
  readonly lines: readonly string[];
  /** Where the next read begins: after the last whole line. */
  readonly toByte: number;
}

const CHUNK_BYTES = 4 * 1024 ** 2;

/** The whole lines of a growing file from an offset on, about 4 MiB of them at most. A half one at the end is left for later. */
export async function readNewLines(path: string, fromByte: number): Promise<TailedLines> {
  const handle = await open(path, 'r');
  try {
    for (let bytes = CHUNK_BYTES; ; bytes *= 2) {
      const buffer = Buffer.allocUnsafe(bytes);
      const { bytesRead } = await handle.read(buffer, 0, bytes, fromByte);
      const end = buffer.lastIndexOf(10, bytesRead - 1);
      // a line may be longer than a chunk
      if (bytesRead > 0 && end < 0 && bytesRead === bytes) continue;
      if (bytesRead === 0 || end < 0) return { lines: [], toByte: fromByte };
      return {
        lines: buffer
          .toString('utf8', 0, end)
          .split('\n')
          .filter((line) => line !== ''),
        toByte: fromByte + end + 1,
      };
    }
  } finally {
    await handle.close();
  }
}
