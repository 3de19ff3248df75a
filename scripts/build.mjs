// Builds dist/: what every process of Millrace runs, and what the package ships. Without --types it transpiles only
// (seconds); types are checked by `npm run verify`. Skips the work when no source is newer than the last build.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { SOURCE_FOLDERS } from './source-folders.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const withTypes = process.argv.includes('--types');

function newest(dir) {
  let time = statSync(dir).mtimeMs;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    time = Math.max(time, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs);
  }
  return time;
}

const sourceFiles = (dir) =>
  readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return sourceFiles(path);
    return path.endsWith('.ts') && !path.endsWith('.d.ts') && !path.endsWith('.test.ts') ? [path] : [];
  });

/** esbuild keeps the names of imports: those of our own files end in .ts and are .js in dist. */
const toBuiltImports = (code) => code.replace(/(from\s*|import\s*\(?\s*)(["'])(\.{1,2}\/[^"']+)\.ts\2/g, '$1$2$3.js$2');

async function transpile(out) {
  await Promise.all(
    SOURCE_FOLDERS.filter((f) => existsSync(join(root, f)))
      .flatMap(sourceFiles)
      .map(async (file) => {
        const target = join(out, file.replace(/\.ts$/, '.js'));
        const { code } = await transform(readFileSync(join(root, file), 'utf8'), {
          loader: 'ts',
          format: 'esm',
          target: 'node20',
          sourcefile: file,
          sourcemap: 'inline',
          sourcesContent: false,
        });
        mkdirSync(dirname(target), { recursive: true });
        writeFileSync(target, toBuiltImports(code));
      }),
  );
}

const stamp = join(root, 'dist', withTypes ? '.built-types' : '.built');
const sources = Math.max(
  ...SOURCE_FOLDERS.map((f) => join(root, f))
    .filter(existsSync)
    .map(newest),
  ...['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', 'scripts/build.mjs', 'scripts/source-folders.mjs'].map(
    (f) => statSync(join(root, f)).mtimeMs,
  ),
);
if (!existsSync(stamp) || statSync(stamp).mtimeMs < sources) {
  const started = Date.now() / 1000;
  const out = join(root, `dist.${process.pid}`);
  if (withTypes)
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json'), '--noCheck', '--outDir', out], {
      stdio: 'inherit',
      cwd: root,
    });
  else await transpile(out);
  for (const name of ['.built', ...(withTypes ? ['.built-types'] : [])]) {
    writeFileSync(join(out, name), '');
    utimesSync(join(out, name), started, started);
  }
  // whole at once: a process that starts meanwhile finds the one or the other
  const old = `${out}.old`;
  if (existsSync(join(root, 'dist'))) renameSync(join(root, 'dist'), old);
  renameSync(out, join(root, 'dist'));
  rmSync(old, { recursive: true, force: true });
}
