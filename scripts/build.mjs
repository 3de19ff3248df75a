// Builds dist/: what every process of Millrace runs, and what the package ships. Without --types it transpiles only
// (seconds); types are checked by `npm run verify`. Skips the work when no source is newer than the last build.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const withTypes = process.argv.includes('--types');
const FOLDERS = [
  'contracts',
  'config',
  'data',
  'ml',
  'store',
  'workflows',
  'activities',
  'workers',
  'pipelines',
  'serving',
  'api',
  'cli',
  'stack',
  'testing',
  'bench',
];

function newest(dir) {
  let time = statSync(dir).mtimeMs;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    time = Math.max(time, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs);
  }
  return time;
}

const stamp = join(root, 'dist', withTypes ? '.built-types' : '.built');
const sources = Math.max(
  ...FOLDERS.map((f) => join(root, f))
    .filter(existsSync)
    .map(newest),
  ...['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'].map((f) => statSync(join(root, f)).mtimeMs),
);
if (!existsSync(stamp) || statSync(stamp).mtimeMs < sources) {
  const started = Date.now() / 1000;
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json'), ...(withTypes ? [] : ['--noCheck', '--declaration', 'false'])],
    { stdio: 'inherit', cwd: root },
  );
  writeFileSync(stamp, '');
  utimesSync(stamp, started, started);
}
