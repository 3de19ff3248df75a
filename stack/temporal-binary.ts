/**
 * Finding the program of Temporal's server: named by the user, on PATH, cached, downloaded, or built. What was
 * downloaded or built goes into the cache whole, by a rename, under a lock: two stacks that start at once make it once.
 */
import { execFileSync, spawn } from 'node:child_process';
import { accessSync, chmodSync, constants, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { acquireFileLock } from './file-lock.ts';
import { nodeProgram } from './node-program.ts';
import { tieToParent } from './tied-command.ts';

/** Newer tags carry a `replace` directive, which `go install` refuses. */
export const TEMPORAL_CLI_VERSION = '1.5.1';
/** What that release of the program brings; docker-compose.yml runs the same. */
export const TEMPORAL_SERVER_VERSION = '1.29.1';
export const TEMPORAL_UI_VERSION = '2.42.1';
const GO_MODULE = `github.com/temporalio/cli/cmd/temporal@v${TEMPORAL_CLI_VERSION}`;
const DOWNLOAD_HOST = 'https://temporal.download';

export interface TemporalBinary {
  readonly path: string;
  readonly source: 'TEMPORAL_CLI' | 'PATH' | 'cache' | 'download' | 'go';
}

export interface FindTemporalOptions {
  readonly cacheFolder: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Told what is happening, and every few seconds how long it has taken. */
  readonly onProgress?: (message: string) => void;
  /** Default true. With false only what is there already is looked for. */
  readonly fetch?: boolean;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function onPath(name: string, env: NodeJS.ProcessEnv): string | undefined {
  return (env['PATH'] ?? '')
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/** Where the cached program is kept. */
export function cachedTemporalPath(cacheFolder: string): string {
  return join(cacheFolder, 'bin', `temporal-${TEMPORAL_CLI_VERSION}`);
}

/** Runs a program that ends with us; resolves to its exit code and the end of what it printed. */
function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  timeoutMs: number,
  onTick: (elapsedSeconds: number) => void,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const tied = tieToParent(command, args, 'SIGKILL');
    const child = spawn(tied.command, tied.args, { env, detached: true, stdio: [tied.stdinPipe ? 'pipe' : 'ignore', 'pipe', 'pipe'] });
    let output = '';
    const began = Date.now();
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-4_000);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    const ticker = setInterval(() => {
      onTick(Math.round((Date.now() - began) / 1_000));
    }, 5_000);
    const timer = setTimeout(() => {
      output += `\nstopped after ${timeoutMs / 1_000} s`;
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    const end = (code: number): void => {
      clearInterval(ticker);
      clearTimeout(timer);
      resolve({ code, output: output.trim() });
    };
    child.once('error', (error) => {
      output += error.message;
      end(127);
    });
    child.once('exit', (code) => {
      end(code ?? 1);
    });
  });
}

async function downloadHostAnswers(): Promise<string | undefined> {
  try {
    const response = await fetch(
      `${DOWNLOAD_HOST}/cli/v${TEMPORAL_CLI_VERSION}?arch=${process.arch === 'x64' ? 'amd64' : process.arch}&platform=${process.platform}&format=tar.gz`,
      { signal: AbortSignal.timeout(5_000), redirect: 'manual' },
    );
    return response.status < 400 ? undefined : `${DOWNLOAD_HOST} answers ${response.status}`;
  } catch {
    return `${DOWNLOAD_HOST} does not answer`;
  }
}

/** The last line says what went wrong; the lines before, how it came to it. */
const lastLine = (output: string): string => output.split('\n').at(-1) ?? '';

/**
 * Finds Temporal's program by the first of these that works: `TEMPORAL_CLI`; `temporal` on PATH; the cache; the SDK's
 * own download; `go install`.
 *
 * @throws MillraceError PROGRAM_MISSING with each way that was tried and why it failed.
 */
export async function findTemporalBinary(options: FindTemporalOptions): Promise<TemporalBinary> {
  const env = options.env ?? process.env;
  const progress = options.onProgress ?? (() => undefined);
  const problems: Problem[] = [];
  const failed = (path: string, message: string): void => {
    problems.push({ path, message });
  };

  const named = env['TEMPORAL_CLI'];
  if (named) {
    if (isExecutable(named)) return { path: named, source: 'TEMPORAL_CLI' };
    failed('TEMPORAL_CLI', `${named} is not a program that can be run`);
  } else failed('TEMPORAL_CLI', 'is not set');
  const found = onPath('temporal', env);
  if (found) return { path: found, source: 'PATH' };
  failed('PATH', 'there is no program `temporal`');
  const cached = cachedTemporalPath(options.cacheFolder);
  if (isExecutable(cached)) return { path: cached, source: 'cache' };
  failed('cache', `there is no ${cached}`);

  if (options.fetch !== false) {
    const folder = join(options.cacheFolder, 'bin');
    mkdirSync(folder, { recursive: true });
    let lock = acquireFileLock(`${cached}.lock`);
    for (let waited = 0; !lock.acquired; waited++) {
      if (waited % 10 === 0) progress(`waiting for process ${lock.owner.pid}, which fetches Temporal's server already (${waited} s)`);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      lock = acquireFileLock(`${cached}.lock`);
    }
    const temporary = mkdtempSync(join(folder, 'fetch-'));
    try {
      if (isExecutable(cached)) return { path: cached, source: 'cache' };
      const keep = (file: string, source: TemporalBinary['source']): TemporalBinary => {
        chmodSync(file, 0o755);
        renameSync(file, cached);
        return { path: cached, source };
      };

      progress(`asking ${DOWNLOAD_HOST} for Temporal's server ${TEMPORAL_CLI_VERSION}`);
      const silent = await downloadHostAnswers();
      if (silent === undefined) {
        const { code, output } = await run(process.execPath, [...nodeProgram('download-temporal', import.meta.url), temporary], env, 300_000, (s) => {
          progress(`downloading Temporal's server, about 100 MB: ${s} s`);
        });
        const file = readdirSync(temporary).find((name) => isExecutable(join(temporary, name)));
        if (code === 0 && file !== undefined) return keep(join(temporary, file), 'download');
        failed('download', lastLine(output) || `ended with exit code ${code}`);
      } else failed('download', silent);

      const go = onPath('go', env);
      if (go !== undefined) {
        progress("building Temporal's server with Go; this takes 2 to 4 minutes, once");
        const { code, output } = await run(go, ['install', GO_MODULE], { ...env, GOBIN: temporary }, 1_200_000, (s) => {
          progress(`building Temporal's server with Go (2 to 4 minutes, once): ${s} s`);
        });
        const file = join(temporary, process.platform === 'win32' ? 'temporal.exe' : 'temporal');
        if (code === 0 && existsSync(file)) return keep(file, 'go');
        failed('go install', lastLine(output) || `ended with exit code ${code}`);
      } else failed('go install', 'there is no program `go`');
    } finally {
      rmSync(temporary, { recursive: true, force: true });
      lock.release();
    }
  }
  throw new MillraceError('PROGRAM_MISSING', "Temporal's server was not found, and could not be fetched.", {
    problems,
    fix: `Install Temporal's CLI (https://docs.temporal.io/cli) or Go 1.24+ (https://go.dev/dl), name the program with TEMPORAL_CLI, or use a server that runs already with TEMPORAL_ADDRESS.`,
  });
}

/** What the program says about itself, for instance `temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)`. */
export function temporalVersion(path: string): string {
  return execFileSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 }).trim();
}
