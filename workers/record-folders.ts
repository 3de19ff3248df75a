import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** The endpoints that have a folder of that kind in the state folder. */
export async function endpointFolders(home: string, kind: 'feedback' | 'reviews'): Promise<readonly string[]> {
  const entries = await readdir(join(home, kind), { withFileTypes: true }).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  });
  return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort();
}
