import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';

interface LockEntry {
  readonly version?: string;
  readonly resolved?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
interface Lock {
  packages: Record<string, LockEntry>;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const { completeLockfile } = (await import(new URL('../../scripts/complete-lockfile.mjs', import.meta.url).href)) as {
  readonly completeLockfile: (lock: Lock) => string[];
};
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as LockEntry & { readonly overrides: Readonly<Record<string, string>> };

describe('package-lock.json', () => {
  let lock: Lock;
  beforeEach(() => {
    lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as Lock;
  });

  test('names every platform package that a dependency asks for, so that `npm ci` takes it anywhere', () => {
    expect(completeLockfile(lock)).toEqual([]);
  });

  test('is found out when a platform package is missing, and completed with its platform', () => {
    const [path, removed] =
      Object.entries(lock.packages).find(([at, entry]) => at.startsWith('node_modules/@esbuild/') && entry.os !== undefined && entry.cpu !== undefined) ?? [];
    if (path === undefined || removed === undefined) throw new Error('the lockfile has no esbuild platform package');
    const { [path]: _hole, ...rest } = lock.packages;
    lock.packages = rest;
    expect(completeLockfile(lock)).toEqual([path.replace('node_modules/', '')]);
    expect(lock.packages[path]).toMatchObject({ version: removed.version, os: removed.os, cpu: removed.cpu, optional: true });
  });

  test('asks for what package.json asks for', () => {
    expect(lock.packages['']?.dependencies).toEqual(manifest.dependencies);
    expect(lock.packages['']?.devDependencies).toEqual(manifest.devDependencies);
  });

  test('names no registry of its own: packages come from wherever npm is told to look', () => {
    const hosts = new Set(Object.values(lock.packages).flatMap((entry) => (entry.resolved ? [new URL(entry.resolved).host] : [])));
    expect([...hosts].filter((host) => host !== 'registry.npmjs.org')).toEqual([]);
  });
});
