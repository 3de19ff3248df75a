import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { packageName, writeProject } from '../../../cli/init-command.ts';
import { packageRoot, packageVersion } from '../../../config/package-root.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-init-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface PackageFile {
  readonly name?: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly overrides: Readonly<Record<string, string>>;
  readonly allowScripts: Readonly<Record<string, boolean>>;
}
const packageAt = (path: string): PackageFile => JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) as PackageFile;

test('a project has what npm does not take over from a dependency: overrides, permissions for scripts, .npmrc', () => {
  const path = join(folder, 'Rainy Days');
  const files = writeProject(path);
  const own = packageAt(packageRoot);
  const written = packageAt(path);
  expect(written).toMatchObject({
    name: 'rainy-days',
    dependencies: { millrace: packageVersion, zod: own.dependencies['zod'] },
    overrides: own.overrides,
    allowScripts: own.allowScripts,
  });
  expect(readFileSync(join(path, '.npmrc'), 'utf8')).toContain('onnxruntime-node-install=skip');
  expect(files).toEqual(expect.arrayContaining(['.gitignore', '.npmrc', 'README.md', 'millrace.config.ts', 'tsconfig.json', 'data/seattle-weather.csv']));
  expect(files.every((file) => existsSync(join(path, file)))).toBe(true);
  expect(readFileSync(join(path, 'README.md'), 'utf8')).toMatch(/^# rainy-days\n/);
});

test('no file of the project holds a placeholder or the suffix of the starter', () => {
  const path = join(folder, 'clean');
  const files = writeProject(path);
  expect(files.filter((file) => file.endsWith('.template') || file.split('/').some((part) => part.startsWith('_')))).toEqual([]);
  expect(files.filter((file) => readFileSync(join(path, file), 'utf8').includes('{{'))).toEqual([]);
});

test('a path of a packed millrace becomes npm’s spelling of it, a version stays', () => {
  const tarball = join(folder, 'millrace-0.1.0.tgz');
  writeFileSync(tarball, '');
  writeProject(join(folder, 'packed'), { millrace: 'millrace-0.1.0.tgz', cwd: folder });
  expect(packageAt(join(folder, 'packed')).dependencies['millrace']).toBe(`file:${tarball}`);
  writeProject(join(folder, 'ranged'), { millrace: '^0.1.0' });
  expect(packageAt(join(folder, 'ranged')).dependencies['millrace']).toBe('^0.1.0');
});

test('a folder that is not empty is refused, and stays as it is; one that holds a repository alone is taken', () => {
  const full = join(folder, 'full');
  mkdirSync(full);
  writeFileSync(join(full, 'notes.txt'), 'mine');
  expect(() => writeProject(full)).toThrow(expect.objectContaining({ code: 'CONFLICT', problems: [expect.objectContaining({ path: 'notes.txt' })] }));
  expect(existsSync(join(full, 'package.json'))).toBe(false);
  const cloned = join(folder, 'cloned');
  mkdirSync(join(cloned, '.git'), { recursive: true });
  expect(writeProject(cloned)).toContain('package.json');
});

test.each([
  ['/work/Rainy Days', 'rainy-days'],
  ['/work/.hidden', 'hidden'],
  ['/work/millrace', 'millrace-project'],
  ['/', 'millrace-project'],
])('the package of %s is named %s', (path, name) => {
  expect(packageName(path)).toBe(name);
});
