import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MillraceError } from '../contracts/errors.ts';

const execute = promisify(execFile);

/** Longest that the packages of one environment may take to install. */
const INSTALL_TIMEOUT_MS = 15 * 60_000;

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
  const python = join(folder, 'bin', 'python');
  const complete = join(folder, '.complete');
  if (existsSync(complete)) return python;
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
  await writeFile(complete, requirements.join('\n'));
  return python;
}
