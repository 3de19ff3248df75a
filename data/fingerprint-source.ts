import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Source } from '../contracts/source.ts';
import { findSourceFiles } from './source-files.ts';

export interface SourceFingerprint {
  /** Over the files' labels and content, and the source's own settings. */
  readonly sha256: string;
  readonly files: number;
  readonly sizeBytes: number;
}

/** Sources of many small files wait for the disk, not for the hash. */
const FILES_AT_ONCE = 16;
const CHUNK_BYTES = 1 << 20;

async function hashFile(path: string, signal: AbortSignal | undefined): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  const hash = createHash('sha256');
  const file = await open(path);
  try {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, (await file.stat()).size + 1));
    let sizeBytes = 0;
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(chunk, 0, chunk.length);
      if (bytesRead === 0) return { sha256: hash.digest('hex'), sizeBytes };
      hash.update(chunk.subarray(0, bytesRead));
      sizeBytes += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/**
 * The content of a source as one hash: the same files read the same way give the same one, wherever the project lies.
 * Streams; reads each file once.
 */
export async function fingerprintSource(source: Source, projectFolder: string, signal?: AbortSignal): Promise<SourceFingerprint> {
  const files = await findSourceFiles(source, projectFolder);
  const whole = createHash('sha256').update(JSON.stringify(Object.entries(source).sort(([a], [b]) => (a < b ? -1 : 1))));
  let sizeBytes = 0;
  for (let from = 0; from < files.length; from += FILES_AT_ONCE) {
    const batch = await Promise.all(files.slice(from, from + FILES_AT_ONCE).map((file) => hashFile(file.path, signal)));
    batch.forEach((hashed, index) => {
      sizeBytes += hashed.sizeBytes;
      whole.update(`\n${files[from + index]?.relativePath ?? ''}\n${hashed.sha256}`);
    });
  }
  return { sha256: whole.digest('hex'), files: files.length, sizeBytes };
}
