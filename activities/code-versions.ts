import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, extname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Loader, type Metafile, type Plugin, transform } from 'esbuild';
import { STAGE_KINDS } from './stage-activities.ts';
import * as stepsPackage from './steps.ts';

/**
 * Code versions: a hash of a module's bundled graph. An edited helper counts, an edited comment does not, and neither
 * does the name of a folder, or another step of the file; of a package outside it is the installed version that counts.
 */
export async function hashModule(entry: string, exportName?: string): Promise<string> {
  if (exportName === undefined) return (await hashModules([entry])).get(entry) ?? '';
  const own = await ownHash(entry, exportName);
  return withThreads(own, entry, await hashModules(own.threads));
}

/** Hash of the code behind each kind of stage, as this process runs it. */
export async function stageCodeVersions(): Promise<ReadonlyMap<string, string>> {
  const here = fileURLToPath(import.meta.url);
  const folder = join(dirname(here), 'stages');
  const moduleOf = (kind: string): string => join(folder, `${kind.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}${extname(here)}`);
  const hashes = await hashModules(STAGE_KINDS.map(moduleOf));
  return new Map(STAGE_KINDS.map((kind) => [kind, hashes.get(moduleOf(kind)) ?? '']));
}

/** A module's hash without that of the threads that it starts. */
interface OwnHash {
  readonly hash: string;
  /** Modules that are started as threads by name: no import leads to them, and much of the work is done there. */
  readonly threads: readonly string[];
}

const BUNDLED = {
  bundle: true,
  write: false,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  // not the names: which short ones are given depends on code that is left out
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'none',
  treeShaking: true,
  metafile: true,
  logLevel: 'silent',
} as const;

/** Hashes of several modules, of which each file is read once: a worker asks for all kinds of stages when it starts. */
async function hashModules(entries: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const own = new Map<string, OwnHash>();
  for (let missing = [...new Set(entries)]; missing.length > 0; ) {
    for (const [entry, found] of await ownHashes(missing)) own.set(entry, found);
    missing = [...new Set([...own.values()].flatMap(({ threads }) => threads))].filter((thread) => !own.has(thread));
  }
  const ownOnly = new Map([...own].map(([path, { hash }]) => [path, hash]));
  const closed = new Map<string, string>();
  for (const [entry, found] of own) {
    const threads = new Set<string>();
    for (const waiting = [...found.threads]; waiting.length > 0; ) {
      const thread = waiting.pop() ?? '';
      if (threads.has(thread)) continue;
      threads.add(thread);
      waiting.push(...(own.get(thread)?.threads ?? []));
    }
    closed.set(entry, withThreads({ hash: found.hash, threads: [...threads] }, entry, ownOnly));
  }
  return closed;
}

function withThreads({ hash, threads }: OwnHash, entry: string, hashes: ReadonlyMap<string, string>): string {
  const all = createHash('sha256').update(hash);
  for (const thread of [...threads].sort()) if (thread !== entry) all.update(`\n${hashes.get(thread) ?? ''}`);
  return all.digest('hex');
}

/** One bundle an entry; none holds anything of another one's. */
async function ownHashes(entries: readonly string[]): Promise<ReadonlyMap<string, OwnHash>> {
  const names = new Map(entries.map((entry, index) => [`entry-${String(index)}`, entry]));
  const result = await build({ ...BUNDLED, entryPoints: Object.fromEntries([...names].map(([name, entry]) => [name, entry])), outdir: 'out' });
  const outputs = new Map(Object.entries(result.metafile.outputs).map(([path, output]) => [basename(path, '.js'), output]));
  const found = result.outputFiles.map(async ({ path, contents }): Promise<[string, OwnHash]> => {
    const name = basename(path, '.js');
    const entry = names.get(name) ?? '';
    return [entry, await hashOf(entry, contents, outputs.get(name))];
  });
  return new Map(await Promise.all(found));
}

async function ownHash(entry: string, exportName: string): Promise<OwnHash> {
  const result = await build({
    ...BUNDLED,
    stdin: { contents: `export { ${exportName} } from ${JSON.stringify(entry)};`, resolveDir: dirname(entry), sourcefile: 'entry.js' },
    plugins: [unusedStepsGo],
  });
  return hashOf(entry, result.outputFiles[0]?.contents ?? new Uint8Array(), Object.values(result.metafile.outputs)[0]);
}

async function hashOf(entry: string, contents: Uint8Array, output: Metafile['outputs'][string] | undefined): Promise<OwnHash> {
  const hash = createHash('sha256').update(contents);
  for (const version of externalVersions(output, entry)) hash.update(`\n${version}`);
  return { hash: hash.digest('hex'), threads: await threadModules(output) };
}

async function threadModules(output: Metafile['outputs'][string] | undefined): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const input of Object.keys(output?.inputs ?? {})) {
    const path = resolve(input);
    if (path.includes(`${sep}node_modules${sep}`) || !existsSync(path)) continue;
    for (const [, name] of (await readFile(path, 'utf8')).matchAll(/startModuleWorker\(['"]([\w-]+)['"]/g))
      found.add(join(dirname(path), `${name ?? ''}${extname(path)}`));
  }
  return [...found].sort();
}

/** Calls that make a step. */
const MADE = new RegExp(
  `(?<=[=(,:])(?:${Object.keys(stepsPackage)
    .filter((name) => name.endsWith('Step'))
    .join('|')})(?=\\()`,
  'g',
);

/** Making a step has no effect of its own: one that is not asked for, with all that only it uses, is no part of the hash. */
const unusedStepsGo: Plugin = {
  name: 'unused-steps-go',
  setup: (hashed) => {
    // what makes a step stands for itself: an import from outside would keep the names that only other steps use
    hashed.onResolve({ filter: /^millrace\/steps$/ }, ({ path }) => ({ path, namespace: 'millrace' }));
    hashed.onLoad({ filter: /./, namespace: 'millrace' }, () => ({
      contents: Object.keys(stepsPackage)
        .map((name) => `export const ${name} = (...given) => ['${name}', ...given];`)
        .join('\n'),
    }));
    hashed.onLoad({ filter: /\.[cm]?[jt]s$/ }, async ({ path }) => {
      const loader = extname(path).replace(/^\.[cm]?/, '') as Loader;
      // without its comments, so that the mark cannot end one
      const { code } = await transform(await readFile(path, 'utf8'), { loader, minifyWhitespace: true, legalComments: 'none' });
      return {
        contents: code.replaceAll(MADE, '/* @__PURE__ */ $&'),
        loader: 'js',
        resolveDir: dirname(path),
      };
    });
  },
};

/** The packages that a bundle leaves outside, each with its installed version as `from` finds it. */
export function externalVersions(output: Metafile['outputs'][string] | undefined, entry: string): string[] {
  const names = new Set<string>();
  for (const { path, external } of output?.imports ?? []) if (external && !path.startsWith('node:')) names.add(packageOf(path));
  return [...names].sort().map((name) => `${name}@${installedVersion(name, entry)}`);
}

const packageOf = (path: string): string =>
  path
    .split('/')
    .slice(0, path.startsWith('@') ? 2 : 1)
    .join('/');

function installedVersion(name: string, from: string): string {
  for (const folder of createRequire(from).resolve.paths(name) ?? []) {
    const file = join(folder, name, 'package.json');
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version?: string }).version ?? '';
  }
  return '';
}
