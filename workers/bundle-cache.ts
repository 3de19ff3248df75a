import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Of each a few MB. Projects and versions of a project that are worked on at the same time. */
const MOST_KEPT = 20;

/**
 * Workflow bundles that were made before, by their build's id: a store that is new does not know the build, the machine
 * may. Bundling takes seconds, and every test environment of a project begins with an empty store.
 *
 * Invariants:
 * 1. A file is whole or not there, and its name holds its hash: one that was changed is not used.
 * 2. A folder that cannot be written or read is no failure: the bundle is made.
 */
export async function cachedBundle(folder: string, buildId: string, make: () => Promise<Buffer>): Promise<Buffer> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((other) => other.startsWith(`${buildId}-`))) {
    const code = await readFile(join(folder, name)).catch(() => undefined);
    if (code !== undefined && name === fileName(buildId, code)) return code;
  }
  const code = await make();
  await keep(folder, fileName(buildId, code), code).catch(() => undefined);
  return code;
}

const fileName = (buildId: string, code: Buffer): string => `${buildId}-${createHash('sha256').update(code).digest('hex')}.js`;

async function keep(folder: string, name: string, code: Buffer): Promise<void> {
  await mkdir(folder, { recursive: true });
  const half = join(folder, `half-${randomBytes(8).toString('hex')}`);
  await writeFile(half, code);
  await rename(half, join(folder, name));
  const dated = await Promise.all((await readdir(folder)).map(async (file) => ({ file, atMs: (await stat(join(folder, file))).mtimeMs })));
  const tooMany = dated.sort((a, b) => b.atMs - a.atMs).slice(MOST_KEPT);
  await Promise.all(tooMany.map(({ file }) => rm(join(folder, file), { force: true })));
}
