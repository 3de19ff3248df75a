import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { type MillraceConfig, PORT_VARIABLES, type Ports } from '../config/config.ts';
import { MillraceError } from '../contracts/errors.ts';
import { detectGpus } from './gpus.ts';
import { isPortFree } from './ports.ts';
import { findPostgresBinaries } from './postgres.ts';
import { stackStatus } from './stack.ts';
import { findTemporalBinary, temporalVersion } from './temporal-binary.ts';

export interface Check {
  readonly name: string;
  /** `missing` keeps the stack from working; `optional` only costs what `found` says. */
  readonly state: 'ok' | 'missing' | 'optional';
  readonly found: string;
  /** How to get what is missing. */
  readonly fix?: string;
}

const GIB = 1024 ** 3;
const LEAST_DISK_BYTES = 2 * GIB;

function firstLine(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', timeout: 20_000, stdio: ['ignore', 'pipe', 'ignore'] })
      .trim()
      .split('\n')[0];
  } catch {
    return undefined;
  }
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const fits = major > 20 || (major === 20 && minor >= 19);
  return {
    name: 'node',
    state: fits ? 'ok' : 'missing',
    found: `Node ${process.versions.node}`,
    ...(fits ? {} : { fix: 'Install Node 20.19 or newer: https://nodejs.org.' }),
  };
}

function checkPostgres(config: MillraceConfig): Check {
  if (config.database.kind === 'external') return { name: 'postgres', state: 'ok', found: 'the server of DATABASE_URL' };
  try {
    const { version, postgres } = findPostgresBinaries();
    const runs = firstLine(postgres, ['--version']);
    return runs === undefined
      ? {
          name: 'postgres',
          state: 'missing',
          found: `Postgres ${version} does not run here`,
          fix: 'It needs glibc: use a Debian or Ubuntu based system, or set DATABASE_URL to a Postgres of your own.',
        }
      : { name: 'postgres', state: 'ok', found: runs };
  } catch (error) {
    return {
      name: 'postgres',
      state: 'missing',
      found: 'no binaries for this platform',
      fix: error instanceof MillraceError ? error.fix : 'Set DATABASE_URL to a Postgres of your own.',
    };
  }
}

async function checkTemporal(config: MillraceConfig, env: NodeJS.ProcessEnv): Promise<Check> {
  if (config.temporal.kind === 'external') return { name: 'temporal', state: 'ok', found: `the server at ${config.temporal.address}` };
  try {
    const binary = await findTemporalBinary({ cacheFolder: config.cacheFolder, env, fetch: false });
    return { name: 'temporal', state: 'ok', found: `${temporalVersion(binary.path)} (${binary.source}: ${binary.path})` };
  } catch {
    const go = firstLine('go', ['version']);
    return go === undefined
      ? {
          name: 'temporal',
          state: 'missing',
          found: 'no program `temporal`, and no Go to build it with',
          fix: "`millrace up` tries to download it; else install Temporal's CLI (https://docs.temporal.io/cli) or Go 1.24+ (https://go.dev/dl), or set TEMPORAL_ADDRESS.",
        }
      : {
          name: 'temporal',
          state: 'optional',
          found: `not there yet; the first \`millrace up\` builds it with ${go}, in 2 to 4 minutes`,
          fix: "Install Temporal's CLI to be faster: https://docs.temporal.io/cli.",
        };
  }
}

async function checkOnnxRuntime(): Promise<Check> {
  try {
    const { listSupportedBackends } = await import('onnxruntime-node');
    const backends = listSupportedBackends()
      .filter((backend) => backend.bundled)
      .map((backend) => backend.name);
    return { name: 'onnxruntime', state: 'ok', found: `loads; brings ${backends.join(', ')}` };
  } catch {
    return {
      name: 'onnxruntime',
      state: 'missing',
      found: 'onnxruntime-node does not load',
      fix: 'Run `npm ci` again; it needs glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8).',
    };
  }
}

function checkDisk(config: MillraceConfig): Check {
  let folder = config.home;
  while (!existsSync(folder)) folder = dirname(folder);
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    return { name: 'disk', state: 'missing', found: `${folder} cannot be written to`, fix: 'Set MILLRACE_HOME to a folder of yours.' };
  }
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  return {
    name: 'disk',
    state: free < LEAST_DISK_BYTES ? 'missing' : 'ok',
    found: `${(free / GIB).toFixed(1)} GiB free for ${config.home}`,
    ...(free < LEAST_DISK_BYTES ? { fix: 'Free at least 2 GiB, or move MILLRACE_HOME.' } : {}),
  };
}

async function checkPorts(config: MillraceConfig): Promise<Check> {
  if (stackStatus(config.home) !== undefined) return { name: 'ports', state: 'ok', found: 'the stack of this state folder is running on them' };
  const taken: string[] = [];
  for (const name of Object.keys(PORT_VARIABLES) as (keyof Ports)[]) {
    const embedded =
      name === 'postgres'
        ? config.database.kind === 'embedded'
        : name === 'temporal' || name === 'temporalUi'
          ? config.temporal.kind === 'embedded'
          : undefined;
    if (embedded === false) continue;
    if (!(await isPortFree(config.ports[name], embedded === true ? '127.0.0.1' : config.host)))
      taken.push(`${config.ports[name]} (${PORT_VARIABLES[name].variable})`);
  }
  return taken.length === 0
    ? { name: 'ports', state: 'ok', found: `${Object.values(config.ports).join(', ')} are free` }
    : {
        name: 'ports',
        state: 'missing',
        found: `taken: ${taken.join(', ')}`,
        fix: 'Move each by the variable named with it, or stop the program that has it.',
      };
}

function checkOptional(name: string, found: string | undefined, without: string, fix: string): Check {
  return found === undefined ? { name, state: 'optional', found: `not found: ${without}`, fix } : { name, state: 'ok', found };
}

function pythonVersion(): string | undefined {
  const version = firstLine('python3', ['-c', 'import sys; print("Python %d.%d.%d" % sys.version_info[:3] if sys.version_info >= (3, 10) else "")']);
  return version === undefined || version === '' ? undefined : version;
}

/** Looks at everything that a stack needs or can use, changes nothing, and never throws for what is missing. */
export async function doctor(config: MillraceConfig, env: NodeJS.ProcessEnv = process.env): Promise<readonly Check[]> {
  const gpus = detectGpus(env);
  return [
    checkNode(),
    { name: 'machine', state: 'ok', found: `${availableParallelism()} cores, ${(totalmem() / GIB).toFixed(1)} GiB memory` },
    checkPostgres(config),
    await checkTemporal(config, env),
    await checkOnnxRuntime(),
    checkDisk(config),
    await checkPorts(config),
    checkOptional('go', firstLine('go', ['version']), "needed only to build Temporal's server where it cannot be downloaded", 'https://go.dev/dl'),
    checkOptional(
      'python',
      pythonVersion(),
      'the benchmarks have no Python peers to run beside',
      'Install Python 3.10 or newer: https://www.python.org/downloads.',
    ),
    checkOptional(
      'gpu',
      gpus.length === 0 ? undefined : gpus.map((gpu) => gpu.name).join(', '),
      'stages that prefer a GPU run on the CPU',
      'docs/gpu.md says how to turn one on.',
    ),
  ];
}
