import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { z } from 'zod';
import { packageRoot, packageVersion } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';

const SUFFIX = '.template';
/** Files that a folder may hold and still count as empty. */
const HARMLESS = new Set(['.git', '.DS_Store']);

/** What of millrace's own package.json a project needs: npm ignores a dependency's overrides and its permissions for scripts. */
const OwnPackageSchema = z.object({
  engines: z.record(z.string(), z.string()),
  dependencies: z.looseObject({ zod: z.string() }),
  devDependencies: z.looseObject({ typescript: z.string(), vitest: z.string(), '@types/node': z.string() }),
  overrides: z.record(z.string(), z.string()),
  allowScripts: z.record(z.string(), z.boolean()),
});

/** A folder's name as npm takes a package's. */
export function packageName(folder: string): string {
  const name = basename(folder)
    .toLowerCase()
    .replaceAll(/[^a-z0-9-_.]+/g, '-')
    .replaceAll(/^[-_.]+|[-_.]+$/g, '');
  return name === '' || name === 'millrace' ? 'millrace-project' : name;
}

/** The version of `millrace` to depend on; a path of a packed tarball becomes npm's spelling of it. */
function dependencySpec(spec: string | undefined, cwd: string): string {
  if (spec === undefined) return packageVersion;
  const path = resolve(cwd, spec);
  return existsSync(path) ? `file:${path}` : spec;
}

function projectPackage(name: string, spec: string): object {
  const own = OwnPackageSchema.parse(JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')));
  const { typescript, vitest } = own.devDependencies;
  return {
    name,
    version: '0.1.0',
    private: true,
    type: 'module',
    engines: own.engines,
    scripts: { up: 'millrace up', dev: 'millrace up --watch', test: 'vitest run', types: 'tsc --noEmit' },
    dependencies: { millrace: spec, zod: own.dependencies.zod },
    devDependencies: { '@types/node': own.devDependencies['@types/node'], typescript, vitest },
    overrides: own.overrides,
    allowScripts: own.allowScripts,
  };
}

/** The starter's files by their path in the project: `_name` stands for `.name`, and the suffix keeps them out of our own build. */
function starterFiles(folder: string): readonly { readonly from: string; readonly to: string }[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => statSync(join(folder, path)).isFile())
    .map((path) => {
      const name = basename(path).replace(/^_/, '.');
      return { from: join(folder, path), to: join(dirname(path), name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : name) };
    })
    .sort((a, b) => a.to.localeCompare(b.to, 'en'));
}

/**
 * Writes a new project: one pipeline with its data, its test, and a configuration.
 *
 * @returns The paths of the files, relative to the project.
 * @throws CONFLICT when the folder is there and not empty.
 */
export function writeProject(folder: string, options: { readonly millrace?: string; readonly cwd?: string } = {}): readonly string[] {
  const cwd = options.cwd ?? process.cwd();
  const target = resolve(cwd, folder);
  const there = existsSync(target) ? readdirSync(target).filter((name) => !HARMLESS.has(name)) : [];
  if (there.length > 0) {
    throw new MillraceError('CONFLICT', `${target} is not empty.`, {
      problems: there.slice(0, 10).map((name) => ({ path: name, message: 'is there already' })),
      fix: 'Name a folder that does not exist, or empty this one.',
    });
  }
  const name = packageName(target);
  const starter = join(packageRoot, 'stack', 'starter');
  const files = starterFiles(starter);
  for (const { from, to } of files) {
    const path = join(target, to);
    mkdirSync(dirname(path), { recursive: true });
    if (from.endsWith(SUFFIX)) writeFileSync(path, readFileSync(from, 'utf8').replaceAll('{{name}}', name));
    else cpSync(from, path);
  }
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(projectPackage(name, dependencySpec(options.millrace, cwd)), null, 2)}\n`);
  return ['package.json', ...files.map((f) => f.to)];
}

export function addInitCommand(program: Program): void {
  addCommand(program, program.root, 'init <folder>', 'write a new project with one pipeline, its data, its test and a configuration')
    .option('--millrace <version>', 'the version to depend on, or the path of a packed millrace (default: this one)')
    .action((folder: string, options: { millrace?: string; json?: boolean }) => {
      const invocation = invocationOf(program, options);
      const files = writeProject(folder, options.millrace === undefined ? {} : { millrace: options.millrace });
      const path = resolve(folder);
      print(invocation, { folder: path, files }, () =>
        [
          `Wrote a project to ${path}:\n`,
          ...files.map((f) => `  ${f}\n`),
          `\nNext:\n  cd ${relative(process.cwd(), path) || '.'}\n  npm install\n  npx millrace up --detach\n  npx millrace run seattleRain\n`,
        ].join(''),
      );
    });
}
