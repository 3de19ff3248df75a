import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The files of an endpoint's prediction log that may hold lines of the window [from, to): those last written after its
 * start. Empty when nothing was logged.
 */
export async function predictionSegments(home: string, endpoint: string, from: string): Promise<readonly string[]> {
  const folder = join(home, 'predictions', endpoint);
  const names = await readdir(folder).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  });
  const segments: string[] = [];
  for (const name of names.filter((n) => n.endsWith('.jsonl')).sort()) {
    const path = join(folder, name);
    if ((await stat(path)).mtimeMs >= Date.parse(from)) segments.push(path);
  }
  return segments;
}
