// Makes package-lock.json name every platform's optional package, also those the registry in use did not list when
// the lockfile was made: npm writes only what it could find, and `npm ci` then refuses the file ("Missing … from lock
// file"). Run it after each change of a dependency:  npm run lockfile
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const OS = {
  darwin: 'darwin',
  win32: 'win32',
  windows: 'win32',
  linux: 'linux',
  linuxmusl: 'linux',
  android: 'android',
  freebsd: 'freebsd',
  openbsd: 'openbsd',
  netbsd: 'netbsd',
  sunos: 'sunos',
  aix: 'aix',
  openharmony: 'openharmony',
};
const CPU = ['arm64', 'x64', 'ia32', 'arm', 'riscv64', 'ppc64', 's390x', 'loong64', 'mips64el', 'wasm32'];

function platformOf(name) {
  const words = name.split('/').pop().split(/[-_.]/);
  const os = words.map((w) => OS[w]).find(Boolean);
  const cpu = words.map((w) => (w === 'ppc64le' || w === 'powerpc64le' ? 'ppc64' : CPU.includes(w) ? w : undefined)).find(Boolean);
  return { ...(os ? { os: [os] } : {}), ...(cpu ? { cpu: [cpu] } : {}) };
}

/** Adds what is missing and returns the names added. */
export function completeLockfile(lock) {
  const added = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (path === '') continue;
    for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
      let at = path;
      let found = false;
      for (;;) {
        if (lock.packages[`${at}/node_modules/${name}`]) found = true;
        const up = at.lastIndexOf('/node_modules/');
        if (up < 0) break;
        at = at.slice(0, up);
      }
      if (found || lock.packages[`node_modules/${name}`] || !/^\d/.test(range.replace(/^[~^]/, ''))) continue;
      const platform = platformOf(name);
      if (!platform.os && !platform.cpu) continue;
      lock.packages[`node_modules/${name}`] = { version: range.replace(/^[~^]/, ''), ...platform, ...(entry.dev ? { dev: true } : {}), optional: true };
      added.push(name);
    }
  }
  const { '': root, ...rest } = lock.packages;
  lock.packages = { '': root, ...Object.fromEntries(Object.entries(rest).sort(([a], [b]) => a.localeCompare(b, 'en'))) };
  return added;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const dir = mkdtempSync(join(tmpdir(), 'lockfile-'));
  for (const file of ['package.json', '.npmrc']) cpSync(file, join(dir, file));
  execFileSync('npm', ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: dir, stdio: 'inherit' });
  const lock = JSON.parse(readFileSync(join(dir, 'package-lock.json'), 'utf8'));
  const added = completeLockfile(lock);
  writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`);
  rmSync(dir, { recursive: true });
  console.log(`package-lock.json: ${Object.keys(lock.packages).length} packages, ${added.length} platform packages added that the registry did not list`);
}
