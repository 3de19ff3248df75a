import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Source } from '../contracts/source.ts';
import { findSourceFiles } from './source-files.ts';

export interface SourceFingerprint {
  /** Over the files' labels and content, and the source's own settings. */
  readonly sha256: string;
  readonly files: number;
  readonly sizeBytes: number;
}

/**
 * The content of a source as one hash: the same files read the same way give the same one, wherever the project lies.
 * Streams; reads each file once.
 */
export async function fingerprintSource(source: Source, projectFolder: string, signal?: AbortSignal): Promise<SourceFingerprint> {
  const files = await findSourceFiles(source, projectFolder);
  const whole = createHash('sha256').update(JSON.stringify(Object.entries(source).sort(([a], [b]) => (a < b ? -1 : 1))));
  let sizeBytes = 0;
  for (const file of files) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file.path, { highWaterMark: 1 << 20, ...(signal === undefined ? {} : { signal }) })) {
      hash.update(chunk as Buffer);
      sizeBytes += (chunk as Buffer).length;
    }
    whole.update(`\n${file.relativePath}\n${hash.digest('hex')}`);
  }
  return { sha256: whole.digest('hex'), files: files.length, sizeBytes };
}
