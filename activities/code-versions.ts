import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Loader, type Metafile, type Plugin, transform } from 'esbuild';
import { STAGE_KINDS } from './stage-activities.ts';
import * as stepsPackage from './steps.ts';

/**
 * Code versions: a hash of a module's bundled graph. An edited helper counts, an edited comment does not, and neither
 * does the name of a folder, or another step of the file; of a package outside it is the installed version that counts.
 */
export async function hashModule(entry: string, exportName?: string): Promise<string> {
  const result = await build({
    ...(exportName === undefined
      ? { entryPoints: [entry] }
      : { stdin: { contents: `export { ${exportName} } from ${JSON.stringify(entry)};`, resolveDir: dirname(entry), sourcefile: 'entry.js' } }),
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    plugins: exportName === undefined ? [] : [unusedStepsGo],
    // not the names: which short ones are given depends on code that is left out
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    treeShaking: true,
    metafile: true,
    logLevel: 'silent',
  });
  const hash = createHash('sha256');
  for (const file of result.outputFiles) hash.update(file.contents);
  for (const version of externalVersions(result.metafile, entry)) hash.update(`\n${version}`);
  for (const thread of await threadModules(result.metafile)) if (thread !== entry) hash.update(`\n${await hashModule(thread)}`);
  return hash.digest('hex');
}

/** Modules that are started as threads by name: no import leads to them, and much of the work is done there. */
async function threadModules(metafile: Metafile): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const input of Object.keys(metafile.inputs)) {
    const path = resolve(input);
    if (path.includes(`${sep}node_modules${sep}`) || !existsSync(path)) continue;
    for (const [, name] of (await readFile(path, 'utf8')).matchAll(/startModuleWorker\(['"]([\w-]+)['"]/g))
      found.add(join(dirname(path), `${name ?? ''}${extname(path)}`));
  }
  return [...found].sort();
}

/** Hash of the code behind each kind of stage, as this process runs it. */
export async function stageCodeVersions(): Promise<ReadonlyMap<string, string>> {
  const here = fileURLToPath(import.meta.url);
  const extension = here.endsWith('.ts') ? '.ts' : '.js';
  const folder = join(dirname(here), 'stages');
  const hashes = await Promise.all(
    STAGE_KINDS.map(async (kind) => [kind, await hashModule(join(folder, `${kind.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}${extension}`))] as const),
  );
  return new Map(hashes);
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

function externalVersions(metafile: Metafile, entry: string): string[] {
  const names = new Set<string>();
  for (const output of Object.values(metafile.outputs)) {
    for (const { path, external } of output.imports) if (external && !path.startsWith('node:')) names.add(packageOf(path));
  }
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
