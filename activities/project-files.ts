import { createHash } from 'node:crypto';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';

const MOST_FILES = 2_000;
const MOST_BYTES = 64 * 1024 * 1024;
/** Folders that hold what is installed or made, not what was written. */
const SKIPPED = new Set(['node_modules', '__pycache__', 'venv', 'site-packages', 'dist', 'build']);

/** The real path of something that lies in the project. @throws SOURCE_NOT_FOUND */
export async function pathInside(projectFolder: string, path: string): Promise<string> {
  try {
    const [root, file] = await Promise.all([realpath(projectFolder), realpath(resolve(projectFolder, path))]);
    const inside = relative(root, file);
    if (!inside.startsWith('..') && !isAbsolute(inside)) return file;
  } catch (error) {
    throw new MillraceError('SOURCE_NOT_FOUND', `There is no ${path} in the project folder.`, { cause: error });
  }
  throw new MillraceError('SOURCE_NOT_FOUND', `${path} leads out of the project folder.`);
}

export async function readInside(projectFolder: string, path: string): Promise<string> {
  const file = await pathInside(projectFolder, path);
  if (!(await stat(file)).isFile()) throw new MillraceError('SOURCE_NOT_FOUND', `${path} is not a file.`);
  return readFile(file, 'utf8');
}

/**
 * Hash of a file, or of a folder's files that `takes` accepts, by their path in it and content: at most 2,000 files and
 * 64 MiB, in the order of their paths; hidden and installed ones do not count.
 */
export async function hashInside(projectFolder: string, path: string, takes: (name: string) => boolean = () => true): Promise<string> {
  const root = await pathInside(projectFolder, path);
  const hash = createHash('sha256');
  if ((await stat(root)).isFile()) return hash.update(await readFile(root)).digest('hex');
  let files = 0;
  let bytes = 0;
  const walk = async (folder: string): Promise<void> => {
    const entries = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) continue;
      const file = join(folder, entry.name);
      if (entry.isDirectory()) await walk(file);
      else if (entry.isFile() && takes(entry.name) && files < MOST_FILES && bytes < MOST_BYTES) {
        const content = await readFile(file);
        files++;
        bytes += content.length;
        hash.update(`${relative(root, file).split(sep).join('/')}\0${String(content.length)}\0`).update(content);
      }
    }
  };
  await walk(root);
  return hash.digest('hex');
}
