import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { MillraceError } from '../contracts/errors.ts';
import { acquireFileLock } from '../stack/file-lock.ts';

const execute = promisify(execFile);

/** Longest that the packages of one environment may take to install. */
const INSTALL_TIMEOUT_MS = 15 * 60_000;
const LOOK_EVERY_MS = 500;

const pythonOf = (folder: string): string => join(folder, 'bin', 'python');
const completeIn = (folder: string): string => join(folder, '.complete');

/** The folder for what is slow to build: `MILLRACE_CACHE`, else `~/.cache/millrace`. */
export function cacheFolder(): string {
  return process.env['MILLRACE_CACHE'] ?? join(homedir(), '.cache', 'millrace');
}

/**
 * A Python interpreter that has exactly the pinned `requirements` (`name==version`) and what they need. Its virtual
 * environment is made on the first call, in the cache folder as `venvs/NAME-HASH`, and kept: other requirements get
 * another one. One that was left half made is made again.
 *
 * @returns The path of the interpreter.
 * @throws MillraceError PROGRAM_MISSING when there is no `python3` with venv, or the packages cannot be installed.
 */
export async function ensurePythonEnvironment(name: string, requirements: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(requirements.join('\n')).digest('hex').slice(0, 12);
  const folder = join(cacheFolder(), 'venvs', `${name}-${hash}`);
  const python = pythonOf(folder);
  const complete = completeIn(folder);
  // files of tests that run at the same time may ask for the same one
  for (;;) {
    if (existsSync(complete)) return python;
    const lock = acquireFileLock(`${folder}.lock`);
    if (lock.acquired) {
      try {
        if (!existsSync(complete)) await makeEnvironment(folder, requirements);
        return python;
      } finally {
        lock.release();
      }
    }
    await sleep(LOOK_EVERY_MS);
  }
}

async function makeEnvironment(folder: string, requirements: readonly string[]): Promise<void> {
  const python = pythonOf(folder);
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, '..'), { recursive: true });
  try {
    await execute('python3', ['-m', 'venv', folder]);
  } catch (cause) {
    throw new MillraceError('PROGRAM_MISSING', 'This benchmark needs python3 with its venv module.', {
      fix: 'Install Python 3.10 or later with venv (Debian: python3-venv).',
      cause,
    });
  }
  try {
    await execute(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...requirements], {
      timeout: INSTALL_TIMEOUT_MS,
      maxBuffer: 64 * 2 ** 20,
    });
  } catch (cause) {
    throw new MillraceError('PROGRAM_MISSING', `The Python packages of this benchmark could not be installed: ${requirements.join(', ')}.`, {
      fix: 'Check that pip can reach a package index, and run the benchmark again.',
      cause,
    });
  }
  // last, so that what was left half made is made anew
  await writeFile(completeIn(folder), requirements.join('\n'));
}
