/**
 * Named child processes, kept alive.
 *
 * Invariants:
 * 1. A child that dies is started again after a back-off (0.25 s, doubling to 10 s; back to the start once it was ready for 30 s), until `stop` is called.
 * 2. No child outlives this process, whatever ends it: each is tied to its parent's death.
 * 3. A child is a process group of its own: a Ctrl-C meant for this process does not reach it, and what it left behind is killed with its group.
 * 4. `stop` ends children in the reverse order of their start, one after the other: the polite signal, then SIGKILL after the child's grace.
 * 5. A child is `ready` only after its own probe said so in this life of it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseReadyLine } from '../config/ready.ts';
import { type ErrorCode, MillraceError } from '../contracts/errors.ts';
import { lastLogLines, openLogFile } from './log-file.ts';
import { identifyProcess, type ProcessIdentity } from './process-identity.ts';
import { tieToParent } from './tied-command.ts';

export interface ChildSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The child's whole environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** The user to run as, when this process is root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Sent by the kernel when this process dies. */
  readonly deathSignal: NodeJS.Signals;
  readonly stopSignal: NodeJS.Signals;
  /** How long `stopSignal` has before SIGKILL. */
  readonly stopGraceMs: number;
  /** Run before each start: clears what a dead predecessor left. */
  readonly beforeStart?: () => Promise<void>;
  /** `announcement`: the child prints a ready line (config/ready.ts). A function is asked every 50 ms until it says true; it must not throw. */
  readonly readiness: 'announcement' | (() => Promise<boolean>);
  /** Run each time the child became ready, before anybody is told. */
  readonly afterReady?: () => Promise<void>;
  readonly readyTimeoutMs: number;
  /** Code of the error when it cannot be started. Default SERVER_UNAVAILABLE. */
  readonly errorCode?: ErrorCode;
  /** Default `<logsFolder>/<name>.log`. */
  readonly logFile?: string;
}

export type ChildState = 'starting' | 'ready' | 'restarting' | 'stopping' | 'stopped';

export interface ChildStatus {
  readonly name: string;
  readonly state: ChildState;
  readonly process: ProcessIdentity | undefined;
  readonly restarts: number;
  readonly logFile: string;
}

export type SupervisorEvent =
  | { readonly type: 'starting'; readonly name: string }
  | { readonly type: 'ready'; readonly name: string; readonly tookMs: number; readonly restarts: number }
  | { readonly type: 'died'; readonly name: string; readonly exit: string; readonly nextStartInMs: number }
  | { readonly type: 'stopped'; readonly name: string };

export interface Supervisor {
  /** Starts a child and waits until it is ready. Rejects when three starts in a row failed or the time is over; the child is then stopped. */
  start(spec: ChildSpec): Promise<void>;
  /** Stops all children, last started first. May be called more than once. */
  stop(): Promise<void>;
  /** Kills everything at once. */
  kill(): void;
  status(): readonly ChildStatus[];
}

export interface SupervisorOptions {
  readonly logsFolder: string;
  /** Default true. With false a child that dies stays dead. */
  readonly restart?: boolean;
  readonly onEvent?: (event: SupervisorEvent) => void;
  /** Called after every change of any child's state or process. */
  readonly onChange?: () => void;
}

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 10_000;
const HEALTHY_AFTER_MS = 30_000;
const FIRST_STARTS = 3;
const PROBE_EVERY_MS = 50;

/** Lines of a crash that do not say what is wrong: stack frames, carets, braces, the version of Node. */
const NOT_TELLING = /^\s*(at .*|\^+|[{}]?|Node\.js v.*)\s*$/;

interface Child {
  readonly spec: ChildSpec;
  readonly logFile: string;
  state: ChildState;
  process: ChildProcess | undefined;
  identity: ProcessIdentity | undefined;
  /** Resolves when the present process has ended and what was left of its group is killed. */
  ended: Promise<string>;
  restarts: number;
  stopRequested: boolean;
  wake: () => void;
  loop: Promise<void>;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // nobody of the group is left
  }
}

export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { restart = true } = options;
  const children: Child[] = [];
  let stopping: Promise<void> | undefined;

  const setState = (child: Child, state: ChildState): void => {
    child.state = state;
    options.onChange?.();
  };

  /** Starts the process; resolves to whether it became ready. */
  async function startOnce(child: Child): Promise<boolean> {
    const { spec } = child;
    await spec.beforeStart?.();
    if (child.stopRequested) return false;
    const began = performance.now();
    options.onEvent?.({ type: 'starting', name: spec.name });
    const tied = tieToParent(spec.command, spec.args, spec.deathSignal);
    const log = openLogFile(child.logFile);
    const started = spawn(tied.command, tied.args, {
      cwd: spec.cwd,
      env: spec.env,
      detached: true,
      stdio: [tied.stdinPipe ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      ...(spec.user ?? {}),
    });
    child.process = started;
    let announced = false;
    let line = '';
    started.stdout?.on('data', (chunk: Buffer) => {
      log.write(chunk);
      if (announced || spec.readiness !== 'announcement') return;
      const lines = (line + chunk.toString('utf8')).split('\n');
      line = lines.pop()?.slice(-65_536) ?? '';
      announced = lines.some((text) => parseReadyLine(text) !== undefined);
    });
    started.stderr?.on('data', (chunk: Buffer) => {
      log.write(chunk);
    });
    let gone = false;
    child.ended = new Promise((resolve) => {
      const end = (how: string): void => {
        if (gone) return;
        gone = true;
        // Its own children (a Python trainer, say) must not go on without it.
        if (started.pid !== undefined) killGroup(started.pid, 'SIGKILL');
        child.process = undefined;
        child.identity = undefined;
        log.close();
        options.onChange?.();
        resolve(how);
      };
      started.once('error', (error: NodeJS.ErrnoException) => {
        end(`could not be started (${error.code ?? error.message})`);
      });
      started.once('exit', (code, signal) => {
        end(signal === null ? `exit code ${code}` : `signal ${signal}`);
      });
    });
    child.identity = started.pid === undefined ? undefined : identifyProcess(started.pid);
    setState(child, 'starting');
    const isGone = (): boolean => gone;

    for (;;) {
      if (isGone() || stopRequested(child)) return false;
      if (typeof spec.readiness === 'function' ? await spec.readiness() : announced) break;
      if (performance.now() - began > spec.readyTimeoutMs) {
        await end(child, 'SIGKILL');
        return false;
      }
      await sleep(PROBE_EVERY_MS);
    }
    await spec.afterReady?.();
    if (isGone()) return false;
    setState(child, 'ready');
    options.onEvent?.({ type: 'ready', name: spec.name, tookMs: performance.now() - began, restarts: child.restarts });
    return true;
  }

  async function end(child: Child, firstSignal: NodeJS.Signals): Promise<void> {
    const pid = child.process?.pid;
    if (pid === undefined) return;
    child.process?.kill(firstSignal);
    const timer = setTimeout(() => {
      killGroup(pid, 'SIGKILL');
    }, child.spec.stopGraceMs);
    await child.ended;
    clearTimeout(timer);
  }

  /** Keeps the child alive from the moment its present process ends. */
  async function keepAlive(child: Child): Promise<void> {
    let failures = 0;
    let readyAt = performance.now();
    for (;;) {
      const exit = await child.ended;
      if (child.stopRequested || !restart) return;
      if (readyAt > 0 && performance.now() - readyAt > HEALTHY_AFTER_MS) failures = 0;
      const nextStartInMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures);
      failures++;
      readyAt = 0;
      setState(child, 'restarting');
      options.onEvent?.({ type: 'died', name: child.spec.name, exit, nextStartInMs });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, nextStartInMs);
        child.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (stopRequested(child)) return;
      child.restarts++;
      try {
        if (await startOnce(child)) readyAt = performance.now();
      } catch (error) {
        // What prepares a start failed (a full disk, say): that is one more failed start, not the end of supervision.
        child.ended = Promise.resolve(`could not be prepared (${error instanceof Error ? error.message : String(error)})`);
      }
    }
  }

  // A function, so that the compiler does not take the flag for unchanged across an await.
  const stopRequested = (child: Child): boolean => child.stopRequested;

  async function stopChild(child: Child): Promise<void> {
    child.stopRequested = true;
    child.wake();
    if (child.state !== 'stopped') setState(child, 'stopping');
    await end(child, child.spec.stopSignal);
    await child.loop;
    // A start that was under way when the stop came may have made one more process.
    await end(child, child.spec.stopSignal);
    setState(child, 'stopped');
    options.onEvent?.({ type: 'stopped', name: child.spec.name });
  }

  return {
    async start(spec) {
      if (stopping !== undefined) throw new MillraceError('NOT_RUNNING', `${spec.name} was not started: everything is being stopped.`);
      const logFile = spec.logFile ?? join(options.logsFolder, `${spec.name}.log`);
      const child: Child = {
        spec,
        logFile,
        state: 'starting',
        process: undefined,
        identity: undefined,
        ended: Promise.resolve(''),
        restarts: 0,
        stopRequested: false,
        wake: () => undefined,
        loop: Promise.resolve(),
      };
      children.push(child);
      let ready = false;
      let settle = (): void => undefined;
      // A stop that comes now waits for this start to notice it.
      child.loop = new Promise((resolve) => {
        settle = resolve;
      });
      try {
        for (let attempt = 1; attempt <= FIRST_STARTS && !ready && !child.stopRequested; attempt++) {
          if (attempt > 1) await sleep(FIRST_BACKOFF_MS * attempt);
          ready = await startOnce(child);
        }
      } finally {
        if (!ready) {
          settle();
          children.splice(children.indexOf(child), 1);
          await stopChild(child);
        }
      }
      if (!ready) {
        const exit = await child.ended;
        const problems = lastLogLines(logFile, 60)
          .filter((text) => !NOT_TELLING.test(text))
          .slice(-8)
          .map((message) => ({ path: `${spec.name}.log`, message }));
        throw new MillraceError(spec.errorCode ?? 'SERVER_UNAVAILABLE', `${spec.name} could not be started${exit === '' ? '' : `: it ended with ${exit}`}.`, {
          problems,
          fix: `Look at ${logFile}; \`millrace doctor\` checks what it needs.`,
        });
      }
      child.loop = keepAlive(child);
      settle();
    },
    stop() {
      stopping ??= (async () => {
        for (const child of children) {
          child.stopRequested = true;
          child.wake();
        }
        for (const child of children.toReversed()) await stopChild(child);
      })();
      return stopping;
    },
    kill() {
      for (const child of children) {
        child.stopRequested = true;
        child.wake();
        const pid = child.process?.pid;
        if (pid !== undefined) killGroup(pid, 'SIGKILL');
      }
    },
    status: () => children.map(({ spec, state, identity, restarts, logFile }) => ({ name: spec.name, state, process: identity, restarts, logFile })),
  };
}
