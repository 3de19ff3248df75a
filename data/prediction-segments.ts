import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The files of an endpoint's prediction log that may hold lines of the window [from, to): those last written after its
 * start. Empty when nothing was logged.
 */
export const predictionSegments = (home: string, endpoint: string, from: string): Promise<readonly string[]> =>
  segmentsOf(join(home, 'predictions', endpoint), from);

/** As `predictionSegments`, of the labels that came for the endpoint's predictions. */
export const feedbackSegments = (home: string, endpoint: string, from: string): Promise<readonly string[]> =>
  segmentsOf(join(home, 'feedback', endpoint), from);

async function segmentsOf(folder: string, from: string): Promise<readonly string[]> {
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
