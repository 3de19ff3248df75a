/**
 * The stack of one machine: Postgres, Temporal, and Millrace's own processes, from one call.
 *
 * Invariants:
 * 1. One stack a state folder: who holds `stack.lock` runs it, and the lock is free when its holder is gone.
 * 2. A part that the environment names is used, never started or stopped.
 * 3. `startStack` resolves when every part answered; when it rejects, nothing that it started is left.
 * 4. State is in the folder, not in the processes: a stack that was killed comes up with all that it had.
 */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import pg from 'pg';
import { type MillraceConfig, PORT_VARIABLES, type Ports } from '../config/config.ts';
import { packageRoot, packageVersion } from '../config/package-root.ts';
import { postgresFolder, postgresPasswordFile } from '../config/service-addresses.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { acquireFileLock } from './file-lock.ts';
import { detectGpus } from './gpus.ts';
import { answersOk } from './answers-ok.ts';
import { builtEntry, builtEntryPath, childEnvironment, NODE_PARTS, type NodePart, PART_NAMES, type PartName, readyUrl } from './parts.ts';
import { isPortFree } from './ports.ts';
import { preparePostgres } from './postgres.ts';
import { identifyProcess, isRunning } from './process-identity.ts';
import { readStackState, removeStackState, type StackState, type StackUrls, stackLockFile, survivors, writeStackState } from './stack-state.ts';
import { type ChildSpec, createSupervisor, type Supervisor, type SupervisorEvent } from './supervisor.ts';
import { findTemporalBinary } from './temporal-binary.ts';
import { temporalChild } from './temporal.ts';
import { prepareNamespace } from './temporal-namespace.ts';

export type StackEvent =
  | SupervisorEvent
  | { readonly type: 'progress'; readonly name: string; readonly message: string }
  | { readonly type: 'external'; readonly name: string }
  | { readonly type: 'skipped'; readonly name: string; readonly reason: string };

export interface StartStackOptions {
  readonly config: MillraceConfig;
  /** Which parts to run. Default all; the GPU worker only where a GPU is found. */
  readonly parts?: readonly PartName[];
  readonly onEvent?: (event: StackEvent) => void;
  /** Whether SIGINT, SIGTERM and SIGHUP stop the stack, and a second one kills it. Default true; `millrace down` sends SIGTERM. */
  readonly stopOnSignals?: boolean;
}

export interface RunningStack {
  readonly urls: StackUrls;
  /** Holds the password of the embedded Postgres: not for logs. */
  readonly databaseUrl: string;
  status(): StackState;
  /** Stops all parts, last started first; resolves when none is left. */
  stop(): Promise<void>;
  /** Resolves when the stack has stopped, whoever asked for it. */
  readonly stopped: Promise<void>;
}

const STOPPED_EARLY = 'The stack was stopped while it was starting.';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function partPorts(config: MillraceConfig, parts: ReadonlySet<PartName>): readonly { readonly name: keyof Ports; readonly host: string }[] {
  const ports: { name: keyof Ports; host: string }[] = [];
  if (parts.has('postgres') && config.database.kind === 'embedded') ports.push({ name: 'postgres', host: '127.0.0.1' });
  if (parts.has('temporal') && config.temporal.kind === 'embedded')
    ports.push({ name: 'temporal', host: '127.0.0.1' }, { name: 'temporalUi', host: '127.0.0.1' });
  for (const part of NODE_PARTS) if (part.port !== undefined && parts.has(part.name)) ports.push({ name: part.port, host: config.host });
  return ports;
}

async function checkPorts(config: MillraceConfig, parts: ReadonlySet<PartName>): Promise<void> {
  const problems: Problem[] = [];
  for (const { name, host } of partPorts(config, parts)) {
    const port = config.ports[name];
    const { variable } = PORT_VARIABLES[name];
    if (!(await isPortFree(port, host)))
      problems.push({ path: variable, message: `port ${port} on ${host} is taken`, fix: `Set ${variable} to another port, or stop the program that has it.` });
  }
  if (problems.length > 0)
    throw new MillraceError('PORT_IN_USE', `${problems.map((p) => p.message).join('; ')}.`.replace(/^p/, 'P'), {
      problems,
      fix: `Move ${problems.map((p) => p.path).join(', ')}, or stop the program that is there.`,
    });
}

async function checkDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
  } catch (error) {
    throw new MillraceError('DATABASE_UNAVAILABLE', 'The Postgres of DATABASE_URL does not answer, or refuses us.', { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function checkTemporal(config: MillraceConfig): Promise<void> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ ...(config.temporal.connection as Parameters<typeof Connection.connect>[0]), connectTimeout: 10_000 });
    await prepareNamespace(connection, config.temporal.namespace);
  } catch (error) {
    throw new MillraceError('TEMPORAL_UNAVAILABLE', `The Temporal at ${config.temporal.address} does not answer, or refuses us.`, { cause: error });
  } finally {
    await connection?.close();
  }
}

function nodeChild(part: NodePart, config: MillraceConfig, env: NodeJS.ProcessEnv, pool: string | undefined): ChildSpec {
  const url = readyUrl(part, config);
  return {
    name: pool === undefined || pool === part.pool ? part.name : `${part.name}-${pool}`,
    command: process.execPath,
    args: [builtEntryPath(part)],
    env: pool === undefined ? env : { ...env, MILLRACE_POOL: pool },
    cwd: config.projectFolder,
    deathSignal: 'SIGKILL',
    stopSignal: 'SIGTERM',
    stopGraceMs: 20_000,
    readyTimeoutMs: 120_000,
    readiness: url === undefined ? 'announcement' : () => answersOk(url),
  };
}

/** The workers of every pool: `cpu` and `gpu`, and those that the project's configuration adds, on the program of their kind. */
function nodeChildren(
  config: MillraceConfig,
  parts: ReadonlySet<PartName>,
  env: NodeJS.ProcessEnv,
  onEvent: (event: StackEvent) => void,
): readonly ChildSpec[] {
  const hasGpu = parts.has('gpu-worker') && detectGpus().length > 0;
  return NODE_PARTS.filter((part) => parts.has(part.name)).flatMap((part) => {
    if (part.pool === undefined) return [nodeChild(part, config, env, undefined)];
    const isGpu = part.pool === 'gpu';
    if (isGpu && !hasGpu) {
      onEvent({ type: 'skipped', name: part.name, reason: 'no NVIDIA GPU was found' });
      return [];
    }
    return Object.values(config.pools)
      .filter((pool) => pool.gpu === isGpu)
      .map((pool) => nodeChild(part, config, env, pool.name));
  });
}

function killSurvivors(state: StackState): void {
  for (const { pid } of survivors(state)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it ended by itself meanwhile
    }
  }
}

/** Waits for what a killed supervisor's children are still doing (Postgres writes its last pages), then ends what will not. */
async function awaitFormerStack(home: string): Promise<void> {
  const former = readStackState(home);
  if (former === undefined) return;
  for (let waitedMs = 0; survivors(former).length > 0; waitedMs += 100) {
    if (waitedMs >= 15_000) killSurvivors(former);
    await sleep(100);
  }
  removeStackState(home);
}

/**
 * Brings the stack up in this process, which supervises it until it is stopped.
 *
 * @throws MillraceError ALREADY_RUNNING; PORT_IN_USE with every port and its variable; PROGRAM_MISSING; DATABASE_UNAVAILABLE,
 *   TEMPORAL_UNAVAILABLE or SERVER_UNAVAILABLE for the part that could not be started.
 */
export async function startStack(options: StartStackOptions): Promise<RunningStack> {
  const { config } = options;
  const { home } = config;
  const parts: ReadonlySet<PartName> = new Set(options.parts ?? PART_NAMES);
  const onEvent = options.onEvent ?? (() => undefined);

  // Root's Postgres runs as another user, who must be able to pass through.
  mkdirSync(home, { recursive: true });
  chmodSync(home, process.getuid?.() === 0 ? 0o711 : 0o700);
  const lock = acquireFileLock(stackLockFile(home));
  if (!lock.acquired) {
    const since = readStackState(home)?.startedAt;
    throw new MillraceError(
      'ALREADY_RUNNING',
      `A stack is already running in ${home} (process ${lock.owner.pid}${since === undefined ? '' : `, since ${since}`}).`,
    );
  }

  const external: string[] = [];
  let phase: StackState['phase'] = 'starting';
  const startedAt = new Date().toISOString();
  const urls: StackUrls = {
    temporal: config.temporal.address,
    temporalUi: config.temporal.kind === 'embedded' ? `http://127.0.0.1:${config.ports.temporalUi}` : undefined,
    api: config.urls.api,
    serving: config.urls.serving,
  };
  const self = identifyProcess(process.pid) ?? { pid: process.pid, started: '' };
  let supervisor: Supervisor | undefined;
  const state = (): StackState => ({
    version: packageVersion,
    supervisor: self,
    startedAt,
    phase,
    ports: config.ports,
    urls,
    parts: [...external.map((name) => ({ name, state: 'external' as const })), ...(supervisor?.status() ?? [])],
  });
  let released = false;
  const record = (): void => {
    if (!released) writeStackState(home, state());
  };

  let resolveStopped = (): void => undefined;
  const stopped = new Promise<void>((resolve) => {
    resolveStopped = resolve;
  });
  let stopping: Promise<void> | undefined;
  const release = (): void => {
    released = true;
    removeStackState(home);
    lock.release();
    for (const signal of SIGNALS) process.off(signal, onSignal);
    resolveStopped();
  };
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      phase = 'stopping';
      await supervisor?.stop();
      release();
    })();
    return stopping;
  };
  function onSignal(): void {
    if (stopping === undefined) void stop();
    else supervisor?.kill();
  }
  if (options.stopOnSignals !== false) for (const signal of SIGNALS) process.on(signal, onSignal);
  const isStopping = (): boolean => stopping !== undefined;

  try {
    await awaitFormerStack(home);
    await checkPorts(config, parts);
    const supervising = createSupervisor({ logsFolder: join(home, 'logs'), onEvent, onChange: record });
    supervisor = supervising;
    record();

    const startPostgresPart = async (): Promise<string> => {
      if (config.database.kind === 'external') {
        await checkDatabase(config.database.url);
        external.push('postgres');
        onEvent({ type: 'external', name: 'postgres' });
        return config.database.url;
      }
      const prepared = await preparePostgres({ dataFolder: postgresFolder(home), passwordFile: postgresPasswordFile(home), port: config.database.port });
      await supervising.start(prepared.child);
      return prepared.url;
    };
    const startTemporalPart = async (): Promise<void> => {
      if (config.temporal.kind === 'external') {
        await checkTemporal(config);
        external.push('temporal');
        onEvent({ type: 'external', name: 'temporal' });
        return;
      }
      const binary = await findTemporalBinary({
        cacheFolder: config.cacheFolder,
        onProgress: (message) => {
          onEvent({ type: 'progress', name: 'temporal', message });
        },
      });
      await supervising.start(
        temporalChild({
          binary: binary.path,
          store: { dbFile: join(home, 'temporal', 'temporal.db') },
          port: config.ports.temporal,
          uiPort: config.ports.temporalUi,
          namespace: config.temporal.namespace,
        }),
      );
    };

    // Both servers at once: neither needs the other. All are awaited before one's failure is told, so that none is left half started.
    // Only a stop does not wait: building Temporal's server takes minutes.
    const stoppedEarly = stopped.then(() => Promise.reject(new MillraceError('NOT_RUNNING', STOPPED_EARLY)));
    stoppedEarly.catch(() => undefined);
    const servers = await Promise.race([
      Promise.allSettled([parts.has('postgres') ? startPostgresPart() : '', parts.has('temporal') ? startTemporalPart() : undefined]),
      stoppedEarly,
    ]);
    const failed = servers.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    const databaseUrl = servers[0].status === 'fulfilled' ? servers[0].value : '';

    const unbuilt = NODE_PARTS.filter((part) => parts.has(part.name) && !existsSync(builtEntryPath(part)));
    if (unbuilt.length > 0)
      throw new MillraceError('PROGRAM_MISSING', 'Millrace is not built.', {
        problems: unbuilt.map((part) => ({ path: part.name, message: `there is no ${builtEntry(part)}` })),
        fix: `Run \`npm run build\` in ${packageRoot}.`,
      });
    const env = childEnvironment(config, { databaseUrl, temporalAddress: config.temporal.address });
    const started = isStopping() ? [] : await Promise.allSettled(nodeChildren(config, parts, env, onEvent).map((child) => supervising.start(child)));
    const failedPart = started.find((result) => result.status === 'rejected');
    if (failedPart) throw failedPart.reason;
    if (isStopping()) throw new MillraceError('NOT_RUNNING', STOPPED_EARLY);

    phase = 'ready';
    record();
    return { urls, databaseUrl, status: state, stop, stopped };
  } catch (error) {
    const wasStopped = isStopping();
    await stop();
    throw wasStopped ? new MillraceError('NOT_RUNNING', STOPPED_EARLY) : error;
  }
}

/** The state of the stack in a folder, or undefined when none runs there. A file left by a killed supervisor does not count. */
export function stackStatus(home: string): StackState | undefined {
  const state = readStackState(home);
  return state !== undefined && isRunning(state.supervisor) ? state : undefined;
}

/**
 * Stops the stack of a state folder from another process, and makes sure that nothing of it is left.
 *
 * @returns Whether there was anything to stop.
 */
export async function stopStack(home: string, options: { readonly graceMs?: number } = {}): Promise<boolean> {
  const { graceMs = 90_000 } = options;
  const state = readStackState(home);
  if (state === undefined) return false;
  const wasRunning = isRunning(state.supervisor);
  if (wasRunning) process.kill(state.supervisor.pid, 'SIGTERM');
  const latest = (): StackState => readStackState(home) ?? state;
  let known = state;
  for (let waitedMs = 0; isRunning(state.supervisor); waitedMs += 100) {
    known = latest();
    // Its children die with it.
    if (waitedMs >= graceMs) process.kill(state.supervisor.pid, 'SIGKILL');
    await sleep(100);
  }
  const hadSurvivors = survivors(known).length > 0;
  for (let waitedMs = 0; survivors(known).length > 0; waitedMs += 100) {
    if (waitedMs >= 15_000) killSurvivors(known);
    await sleep(100);
  }
  // Unless another `up` came in between, whose file this would be.
  if (readStackState(home)?.supervisor.started === state.supervisor.started) removeStackState(home);
  return wasRunning || hadSurvivors;
}
