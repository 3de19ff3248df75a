import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ensurePythonEnvironment } from '../../activities/python-environment.ts';
import { refusal } from '../support/external-training.ts';

let folder: string;
let cacheFolder: string;
let projectFolder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-environments-'));
  projectFolder = join(folder, 'project');
  cacheFolder = join(folder, 'cache');
  await mkdir(projectFolder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
const messages: string[] = [];
beforeEach(() => {
  messages.length = 0;
});

const ensure = (requirements: string | undefined, more: { readonly python?: string; readonly signal?: AbortSignal } = {}) =>
  ensurePythonEnvironment({
    cacheFolder,
    projectFolder,
    requirements,
    python: more.python,
    signal: more.signal ?? new AbortController().signal,
    progress: (_fraction, message) => messages.push(message),
  });
const write = (name: string, text: string) => writeFile(join(projectFolder, name), text);
const environments = async () => (await readdir(join(cacheFolder, 'venvs'))).filter((name) => !name.endsWith('.json'));

describe('a Python environment', () => {
  it('is the interpreter itself where nothing is required', async () => {
    const { python, version, packages } = await ensure(undefined);
    expect(python).toMatch(/python3?$/);
    expect(version).toMatch(/^3\.\d+\.\d+/);
    expect(packages).toEqual([...packages].sort());
  });

  it('is made once for its requirements, also by several at the same time, and again for others', async () => {
    await write('one.txt', '# nothing is needed\n');
    const [first, second] = await Promise.all([ensure('one.txt'), ensure('one.txt')]);
    expect(second).toEqual(first);
    expect(await environments()).toHaveLength(1);
    messages.length = 0;
    expect(await ensure('one.txt')).toEqual(first);
    expect(messages).toEqual([]);
    await write('more.txt', '-r one.txt\n');
    expect((await ensure('more.txt')).python).not.toBe(first.python);
    await write('one.txt', '# nothing at all is needed\n');
    // what it includes counts too
    await ensure('more.txt');
    expect(await environments()).toHaveLength(3);
  });

  it('that was left half made is not used, and a lock whose holder is gone is broken', async () => {
    await write('half.txt', '# half\n');
    const made = await ensure('half.txt');
    const name = /python-[0-9a-f]{16}/.exec(made.python)?.[0] ?? '';
    const venvs = join(cacheFolder, 'venvs');
    await rm(join(venvs, `${name}.json`));
    await mkdir(join(venvs, `${name}-halfmade`, 'bin'), { recursive: true });
    await writeFile(join(venvs, `${name}.lock`), `${(await import('node:os')).hostname()} 999999999\n`);
    const again = await ensure('half.txt');
    expect(again.python).not.toBe(made.python);
    expect((await environments()).filter((found) => found.startsWith(name))).toHaveLength(1);
  });

  it('whose requirements pip refuses is told with its last lines, and leaves nothing', async () => {
    await write('bad.txt', 'this is no requirement ==== at all\n');
    const before = await readdir(join(cacheFolder, 'venvs'));
    const error = await refusal(ensure('bad.txt'));
    expect(error).toMatchObject({ code: 'PYTHON_ENVIRONMENT_FAILED', message: 'pip could not install bad.txt.' });
    expect(error.problems.some(({ message }) => /invalid requirement/i.test(message))).toBe(true);
    expect(await readdir(join(cacheFolder, 'venvs'))).toEqual(before);
  });

  it('refuses code of this machine, whose version nobody knows', async () => {
    await write('local.txt', 'six\n-e ./mine\n./wheel.whl\nother @ file:///x\n');
    const error = await refusal(ensure('local.txt'));
    expect(error.code).toBe('INVALID_PARAMETERS');
    expect(error.problems.map(({ row }) => row)).toEqual([2, 3, 4]);
  });

  it('of an interpreter that is not there, or is no Python, says how to get one', async () => {
    const missing = await refusal(ensure(undefined, { python: 'python3.99' }));
    expect(missing).toMatchObject({ code: 'PYTHON_UNAVAILABLE', message: 'There is no Python interpreter python3.99.' });
    expect(missing.fix).toContain('apt install python3');
    expect((await refusal(ensure(undefined, { python: '/bin/sh' }))).code).toBe('PYTHON_UNAVAILABLE');
  });

  it('is given up when its stage is cancelled', async () => {
    await write('cancelled.txt', '# cancelled\n');
    const stop = new AbortController();
    const making = ensure('cancelled.txt', { signal: stop.signal }).catch((error: unknown) => error);
    const look = setInterval(() => {
      if (messages.includes('makes a Python environment')) stop.abort(new Error('cancelled by a person'));
    }, 20);
    expect(await making).toMatchObject({ message: 'cancelled by a person' });
    clearInterval(look);
    expect((await readdir(join(cacheFolder, 'venvs'))).filter((name) => name.endsWith('.lock'))).toEqual([]);
  });
});
