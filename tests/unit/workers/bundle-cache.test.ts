import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { cachedBundle } from '../../../workers/bundle-cache.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-bundles-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const ID = 'a'.repeat(32);
let made = 0;
const make =
  (code: string): (() => Promise<Buffer>) =>
  () => {
    made++;
    return Promise.resolve(Buffer.from(code));
  };
const bundled = async (id: string, code: string): Promise<string> => (await cachedBundle(folder, id, make(code))).toString();

it('makes the bundle of a build once, and that of another build for itself', async () => {
  made = 0;
  expect(await bundled(ID, 'first')).toBe('first');
  expect(await bundled(ID, 'never made')).toBe('first');
  expect(await bundled('b'.repeat(32), 'second')).toBe('second');
  expect(made).toBe(2);
});

it('does not use a file that was cut or changed', async () => {
  await bundled(ID, 'first');
  const [name] = await readdir(folder);
  await writeFile(join(folder, name ?? ''), 'fir');
  expect(await bundled(ID, 'first')).toBe('first');
  expect((await readdir(folder)).filter((file) => file.startsWith('half-'))).toEqual([]);
});

it('makes the bundle where the folder cannot be made', async () => {
  await writeFile(join(folder, 'file'), '');
  expect((await cachedBundle(join(folder, 'file', 'inside'), ID, make('code'))).toString()).toBe('code');
});

it('keeps the newest ones only', async () => {
  await bundled(ID, 'oldest');
  const [oldest] = await readdir(folder);
  await utimes(join(folder, oldest ?? ''), 1, 1);
  for (let index = 0; index < 21; index++) await bundled(index.toString(16).padStart(32, '0'), String(index));
  const left = await readdir(folder);
  expect(left).toHaveLength(20);
  expect(left).not.toContain(oldest);
});
