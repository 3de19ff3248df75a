/**
 * The files that a source means.
 *
 * Invariants:
 * 1. Files come sorted by their path's code points, so that row order does not depend on the file system.
 * 2. A relative path, and one into a package, never leads out of its folder, neither by `..` nor by a link. An absolute
 *    path is taken as it is: whoever wrote it meant it.
 * 3. A label, not a path of the machine, is what errors, fingerprints and columns show.
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { isAbsolute, join, posix, relative, resolve, sep } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { FileSource } from '../contracts/source.ts';

export interface SourceFile {
  readonly path: string;
  /** As the source names it, with forward slashes. */
  readonly label: string;
  /** Path relative to the part of the source's path that holds no glob. */
  readonly relativePath: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

export const GLOB = /[*?[{]/;

/** How the files of a folder end that are taken, where the source names the folder. Of texts all are. */
const ENDINGS: Readonly<Record<FileSource['format'], readonly string[]>> = {
  parquet: ['parquet', 'pq'],
  csv: ['csv'],
  tsv: ['tsv', 'tab'],
  json: ['json'],
  jsonl: ['jsonl', 'ndjson'],
  text: [],
};
const PACKED = ['', '.gz', '.zst'];

function inFolder(format: FileSource['format']): string {
  const endings = ENDINGS[format].flatMap((ending) => (format === 'parquet' ? [ending] : PACKED.map((packed) => ending + packed)));
  return endings.length === 0 ? '*' : `*.{${endings.join(',')}}`;
}

/**
 * Finds the files of a source: one, those that a glob matches, or all of the format in a folder and the folders in it.
 * @throws MillraceError SOURCE_NOT_FOUND where nothing matches, a file cannot be read or the path leads out of its folder.
 */
export async function findSourceFiles(source: Pick<FileSource, 'format'> & { readonly path: string }, projectFolder: string): Promise<readonly SourceFile[]> {
  const { root, rest, shown, fenced } = startOf(source.path, projectFolder);
  const named = rest.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (fenced && named.includes('..')) throw outside(source.path);
  const isFolder = !named.some((segment) => GLOB.test(segment)) && (await stat(join(root, ...named)).catch(() => undefined))?.isDirectory() === true;
  const segments = isFolder ? [...named, '**', inFolder(source.format)] : named;
  const fixedCount = segments.findIndex((segment) => GLOB.test(segment));
  const fixed = fixedCount === -1 ? segments.slice(0, -1) : segments.slice(0, fixedCount);
  const base = join(root, ...fixed);
  const rootReal = await realpath(root).catch(() => undefined);
  if (rootReal === undefined) throw missing(source.path, 'The folder that it starts from does not exist.');
  const found: string[] = [];
  if (fixedCount === -1) {
    const plain = join(root, ...segments);
    const stats = await stat(plain).catch(() => undefined);
    if (stats !== undefined) found.push(plain);
  } else {
    await walk(base, segments.slice(fixedCount), new Set(), found);
  }
  if (found.length === 0)
    throw missing(
      source.path,
      fixedCount === -1 ? 'There is no such file.' : isFolder ? `The folder holds no file ${inFolder(source.format)}.` : 'No file matches.',
    );
  const files = await Promise.all(
    [...new Set(found)].map(async (path): Promise<SourceFile> => {
      const [real, stats] = await Promise.all([realpath(path), stat(path)]);
      if (fenced && !real.startsWith(rootReal + sep)) throw outside(source.path);
      const relativePath = relative(base, path).split(sep).join('/');
      return { path: real, label: posix.join(shown, ...fixed, relativePath), relativePath, sizeBytes: stats.size, modifiedMs: stats.mtimeMs };
    }),
  );
  return files.sort((a, b) => Buffer.compare(Buffer.from(a.relativePath), Buffer.from(b.relativePath)));
}

interface Start {
  readonly root: string;
  readonly rest: string;
  /** What labels begin with. */
  readonly shown: string;
  readonly fenced: boolean;
}

function startOf(path: string, projectFolder: string): Start {
  if (path.startsWith('package:')) {
    const match = /^package:((?:@[^/]+\/)?[^/]+)\/(.+)$/.exec(path);
    const [, name, rest] = match ?? [];
    if (name === undefined || rest === undefined) throw missing(path, 'It does not have the form package:NAME/path.');
    return { root: packageFolder(name, projectFolder, path), rest, shown: `package:${name}`, fenced: true };
  }
  const slashed = sep === '\\' ? path.replaceAll('\\', '/') : path;
  if (isAbsolute(path)) return { root: '/', rest: slashed, shown: '/', fenced: false };
  return { root: resolve(projectFolder), rest: slashed, shown: '', fenced: true };
}

/** The folder of an installed package. Its package.json need not be among its exports, so the search paths are asked, not the export map. */
function packageFolder(name: string, projectFolder: string, path: string): string {
  const require = createRequire(join(resolve(projectFolder), 'package.json'));
  for (const folder of require.resolve.paths(name) ?? []) {
    const candidate = join(folder, name);
    try {
      require.resolve(join(candidate, 'package.json'));
      return candidate;
    } catch {
      // Not in this folder: the next one up may have it.
    }
  }
  throw missing(path, `The package ${name} is not installed.`, `Install it: npm install ${name}.`);
}

async function walk(folder: string, segments: readonly string[], visited: Set<string>, found: string[]): Promise<void> {
  const [segment = '', ...rest] = segments;
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  if (segment === '**') {
    const real = await realpath(folder).catch(() => folder);
    // A link to a folder above would be walked for ever.
    if (visited.has(real)) return;
    visited.add(real);
    await walk(folder, rest.length === 0 ? ['*'] : rest, new Set(), found);
  }
  const pattern = segment === '**' ? undefined : globPattern(segment);
  for (const entry of entries) {
    if (entry.name.startsWith('.') && !segment.startsWith('.')) continue;
    if (pattern !== undefined && !pattern.test(entry.name)) continue;
    const path = join(folder, entry.name);
    const stats = entry.isSymbolicLink() ? await stat(path).catch(() => undefined) : entry;
    if (stats === undefined) continue;
    if (segment === '**') {
      if (stats.isDirectory()) await walk(path, segments, visited, found);
    } else if (rest.length === 0) {
      if (stats.isFile()) found.push(path);
    } else if (stats.isDirectory()) {
      await walk(path, rest, visited, found);
    }
  }
}

/** One segment of a glob as a pattern: `*`, `?`, `[…]` and `{a,b}`. */
export function globPattern(segment: string): RegExp {
  let out = '';
  let braces = 0;
  for (let i = 0; i < segment.length; i++) {
    const sign = segment.charAt(i);
    if (sign === '*') out += '[^/]*';
    else if (sign === '?') out += '[^/]';
    else if (sign === '{') {
      braces++;
      out += '(?:';
    } else if (sign === '}' && braces > 0) {
      braces--;
      out += ')';
    } else if (sign === ',' && braces > 0) out += '|';
    else if (sign === '[' && segment.includes(']', i + 2)) {
      const end = segment.indexOf(']', i + 2);
      out += `[${segment
        .slice(i + 1, end)
        .replace(/^!/, '^')
        .replaceAll('\\', '\\\\')}]`;
      i = end;
    } else out += sign.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  }
  return new RegExp(`^${out}${')'.repeat(braces)}$`, 'u');
}

const missing = (path: string, why: string, fix?: string): MillraceError =>
  new MillraceError('SOURCE_NOT_FOUND', `The source ${path} cannot be read: ${why}`, {
    problems: [{ path: 'source.path', message: why, found: path, ...(fix === undefined ? {} : { fix }) }],
  });
const outside = (path: string): MillraceError =>
  missing(path, 'It leads out of the folder that it starts from.', 'Name a file inside the project folder or the package, or give an absolute path.');
