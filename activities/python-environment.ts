import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { readInside } from './project-files.ts';
import { type ProgramEnd, runProgram } from './run-program.ts';

/**
 * Python interpreters with exactly what a requirements file asks for.
 *
 * Invariants:
 * 1. An environment is named by the hash of the requirements (with what they include) and the interpreter's version: other
 *    requirements get another one, and one that is there is never changed.
 * 2. It is used only when it is whole: it is made in a folder of its own, and then pointed to by a file, which is renamed
 *    into place. What was left half made is removed by the next one who makes it.
 * 3. One process makes it, others wait: a lock that its holder touches, and that anyone may break once it is not touched.
 */
export interface PythonEnvironment {
  /** Path of the interpreter. */
  readonly python: string;
  /** `3.11.7` */
  readonly version: string;
  /** `name==version`, sorted: all that can be imported from packages. */
  readonly packages: readonly string[];
}

export interface PythonEnvironmentOptions {
  readonly cacheFolder: string;
  readonly projectFolder: string;
  /** Path in the project; undefined: the interpreter as it is. */
  readonly requirements: string | undefined;
  /** A name on PATH, or a path. Default `python3`. */
  readonly python: string | undefined;
  readonly signal: AbortSignal;
  readonly progress: (fraction: number | null, message: string) => void;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const execute = promisify(execFile);
/** To say its version: long, since a machine may be busy. */
const ASK_TIMEOUT_MS = 60_000;
const LEAST_VERSION = [3, 9] as const;
const LOCK_TOUCHED_EVERY_MS = 3_000;
const LOCK_STALE_AFTER_MS = 30_000;
const LOOK_EVERY_MS = 500;
const MOST_INCLUDED_FILES = 20;
const LOG_LINES = 15;

const ASK = `
import json, sys, platform
import importlib.metadata as m
names = {(d.metadata["Name"] or "").lower() + "==" + (d.version or "") for d in m.distributions()}
print(json.dumps({"version": platform.python_version(), "implementation": platform.python_implementation(), "machine": platform.machine(), "prefix": sys.base_prefix, "packages": sorted(names)}))
`;

const InstallHint =
  'Install Python 3.9 or later where the worker runs (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python; Windows: python.org), or name one by python({ python: … }).';

interface Interpreter {
  readonly path: string;
  readonly version: string;
  readonly implementation: string;
  readonly machine: string;
  readonly prefix: string;
  readonly packages: readonly string[];
}

/** What pip needs to reach an index as the machine is set up for it. */
const PIP_VARIABLES = /^(?:PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$|https?_proxy$|no_proxy$|UV_)/i;

/** The few variables that every program gets: none of them is a secret of ours. */
export function plainEnvironment(env: Readonly<Record<string, string | undefined>> = process.env): Record<string, string> {
  const kept =
    /^(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|LD_LIBRARY_PATH|DYLD_\w+|SYSTEMROOT|CUDA_HOME|CUDA_PATH|NVIDIA_\w+|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE)$/;
  return Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined && kept.test(pair[0])));
}

/** @throws PYTHON_UNAVAILABLE, PYTHON_ENVIRONMENT_FAILED with pip's last lines, SOURCE_NOT_FOUND, INVALID_PARAMETERS; the signal's reason */
export async function ensurePythonEnvironment(options: PythonEnvironmentOptions): Promise<PythonEnvironment> {
  const { cacheFolder, projectFolder, requirements, signal, progress, env = process.env } = options;
  const interpreter = await findInterpreter(options.python, projectFolder, env, signal);
  if (requirements === undefined) return { python: interpreter.path, version: interpreter.version, packages: interpreter.packages };
  const content = await requirementsContent(projectFolder, requirements);
  const hash = createHash('sha256')
    .update(JSON.stringify([content, interpreter.version, interpreter.implementation, interpreter.machine, interpreter.prefix]))
    .digest('hex')
    .slice(0, 16);
  const folder = join(cacheFolder, 'venvs');
  const pointer = join(folder, `python-${hash}.json`);
  await mkdir(folder, { recursive: true });
  for (;;) {
    const made = await readPointer(pointer);
    if (made !== undefined) return made;
    signal.throwIfAborted();
    const release = await takeLock(join(folder, `python-${hash}.lock`));
    if (release === undefined) {
      progress(null, 'waits for the Python environment that another worker makes');
      await sleep(LOOK_EVERY_MS, undefined, { signal });
      continue;
    }
    try {
      // who held the lock before may have made it
      const meanwhile = await readPointer(pointer);
      if (meanwhile !== undefined) return meanwhile;
      for (const name of await readdir(folder)) if (name.startsWith(`python-${hash}-`)) await rm(join(folder, name), { recursive: true, force: true });
      const environment = await make(join(folder, `python-${hash}-${randomUUID().slice(0, 8)}`), interpreter, resolve(projectFolder, requirements), options);
      const temporary = `${pointer}.${randomUUID()}`;
      await writeFile(temporary, JSON.stringify(environment));
      await rename(temporary, pointer);
      return environment;
    } finally {
      await release();
    }
  }
}

async function readPointer(pointer: string): Promise<PythonEnvironment | undefined> {
  try {
    const found = JSON.parse(await readFile(pointer, 'utf8')) as PythonEnvironment;
    await access(found.python, constants.X_OK);
    return found;
  } catch {
    // none yet, or its folder was cleared away
    return undefined;
  }
}

async function make(folder: string, interpreter: Interpreter, requirements: string, options: PythonEnvironmentOptions): Promise<PythonEnvironment> {
  const { signal, progress, env = process.env } = options;
  const python = join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  const pipVariables = Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined && PIP_VARIABLES.test(pair[0]));
  const secrets = pipVariables.map(([, value]) => value).filter((value) => /:\/\/[^/@]*@/.test(value));
  const run = (command: string, args: readonly string[], message: string): Promise<ProgramEnd> => {
    progress(null, message);
    return runProgram({
      command,
      args,
      cwd: options.projectFolder,
      env: {
        ...plainEnvironment(env),
        ...Object.fromEntries(pipVariables),
        PYTHONUNBUFFERED: '1',
        PIP_NO_INPUT: '1',
        PIP_PROGRESS_BAR: 'off',
        PIP_DISABLE_PIP_VERSION_CHECK: '1',
      },
      scratch: folder,
      signal,
      secrets,
      onOutput: () => {
        progress(null, message);
      },
    });
  };
  // large packages download and unpack for minutes without a word
  const alive = setInterval(() => {
    progress(null, 'installing Python packages');
  }, LOCK_TOUCHED_EVERY_MS);
  try {
    const made = await run(interpreter.path, ['-m', 'venv', folder], 'makes a Python environment');
    signal.throwIfAborted();
    if (made.report?.code !== 0) {
      throw new MillraceError('PYTHON_UNAVAILABLE', `${interpreter.path} cannot make a virtual environment.`, {
        problems: lastWords(made),
        fix: 'Install its venv module (Debian, Ubuntu: apt install python3-venv).',
      });
    }
    const installed = await run(python, ['-m', 'pip', 'install', '--requirement', requirements], 'installs Python packages');
    signal.throwIfAborted();
    if (installed.report?.code !== 0) {
      throw new MillraceError('PYTHON_ENVIRONMENT_FAILED', `pip could not install ${options.requirements ?? ''}.`, { problems: lastWords(installed) });
    }
    const asked = await ask(python, env, signal);
    if (asked === undefined) throw new MillraceError('PYTHON_ENVIRONMENT_FAILED', 'The Python environment that was made does not start.');
    return { python, version: asked.version, packages: asked.packages };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  } finally {
    clearInterval(alive);
  }
}

const lastWords = ({ log }: ProgramEnd): Problem[] => log.lastLines(LOG_LINES).map((message) => ({ path: 'log', message }));

async function findInterpreter(
  wanted: string | undefined,
  projectFolder: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<Interpreter> {
  const names = wanted === undefined ? ['python3', 'python'] : [wanted];
  const tooOld: string[] = [];
  for (const name of names) {
    const path = await programPath(name, projectFolder, env);
    const found = path === undefined ? undefined : await ask(path, env, signal);
    if (path === undefined || found === undefined) continue;
    const [major = 0, minor = 0] = found.version.split('.').map(Number);
    if (major > LEAST_VERSION[0] || (major === LEAST_VERSION[0] && minor >= LEAST_VERSION[1])) return { path, ...found };
    tooOld.push(`${name} is ${found.version}`);
  }
  throw new MillraceError(
    'PYTHON_UNAVAILABLE',
    tooOld.length > 0 ? `Python ${LEAST_VERSION.join('.')} or later is needed: ${tooOld.join(', ')}.` : `There is no Python interpreter ${names.join(' or ')}.`,
    { fix: InstallHint },
  );
}

async function ask(path: string, env: Readonly<Record<string, string | undefined>>, signal: AbortSignal): Promise<Omit<Interpreter, 'path'> | undefined> {
  try {
    const { stdout } = await execute(path, ['-c', ASK], { env: plainEnvironment(env), signal, timeout: ASK_TIMEOUT_MS, maxBuffer: 1 << 24 });
    return JSON.parse(stdout) as Omit<Interpreter, 'path'>;
  } catch {
    signal.throwIfAborted();
    // no Python, or one that does not start
    return undefined;
  }
}

/** The program's path: looked up on PATH by its name, or in the project where it has a slash. Undefined: it is not there, or cannot be run. */
export async function programPath(
  name: string,
  projectFolder: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string | undefined> {
  const candidates = isAbsolute(name)
    ? [name]
    : name.includes('/')
      ? [join(projectFolder, name)]
      : (env['PATH'] ?? '')
          .split(delimiter)
          .filter(Boolean)
          .map((folder) => join(folder, name));
  for (const path of candidates) {
    const usable = await access(path, constants.X_OK).then(
      async () => (await stat(path)).isFile(),
      () => false,
    );
    if (usable) return path;
  }
  return undefined;
}

/** The file and what it includes by -r and -c. What has no version that could be hashed is refused. */
async function requirementsContent(projectFolder: string, path: string): Promise<readonly (readonly [string, string])[]> {
  const found = new Map<string, string>();
  const problems: Problem[] = [];
  const read = async (file: string): Promise<void> => {
    if (found.has(file) || found.size >= MOST_INCLUDED_FILES) return;
    const text = await readInside(projectFolder, file);
    found.set(file, text);
    for (const [index, raw] of text.split(/\r?\n/).entries()) {
      const line = raw.replace(/(?:^|\s)#.*$/, '').trim();
      const included = /^(?:-r|--requirement|-c|--constraint)[ =]\s*(\S+)$/.exec(line)?.[1];
      if (included !== undefined) await read(join(dirname(file), included));
      else if (/^(?:-e|--editable)\b/.test(line) || /^(?:\.{0,2}\/|file:)/.test(line) || /@\s*file:/.test(line))
        problems.push({
          path: 'requirements',
          file,
          row: index + 1,
          message: 'is code of this machine, whose version is not known',
          found: line,
          fix: 'put the code beside the script, or name a published version',
        });
    }
  };
  await read(path);
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', `The requirements in ${path} cannot be used.`, { problems });
  return [...found].map(([file, text]) => [file === path ? '' : file, text] as const);
}

/** The function that gives the lock back; undefined while someone else has it. */
async function takeLock(path: string): Promise<(() => Promise<void>) | undefined> {
  try {
    const handle = await open(path, 'wx');
    await handle.writeFile(`${hostname()} ${String(process.pid)}\n`);
    await handle.close();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    const touched = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    );
    const [host, pid] = (await readFile(path, 'utf8').catch(() => '')).trim().split(' ');
    const holderIsGone = host === hostname() && pid !== undefined && pid !== String(process.pid) && !isAlive(Number(pid));
    if (holderIsGone || Date.now() - touched > LOCK_STALE_AFTER_MS) await rm(path, { force: true });
    return undefined;
  }
  const touch = setInterval(() => {
    const now = new Date();
    // it was broken: who broke it makes an environment of its own, and the last to end is used
    utimes(path, now, now).catch(() => undefined);
  }, LOCK_TOUCHED_EVERY_MS);
  return async () => {
    clearInterval(touch);
    await rm(path, { force: true });
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
