import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { createLineReader, createProgramLog, type ProgramLog } from './program-log.ts';
import { killTree } from './process-tree.ts';

/** What the launcher is told, as the first line of its input. */
export interface LaunchOrder {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** A folder that is removed when the worker dies. */
  readonly scratch: string | null;
  /** See `ProcessTree`. */
  readonly mark: string;
  readonly graceMs: number;
}

/** How the program ended. */
export interface LaunchReport {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it did not even start: a system error's code. */
  readonly error?: string;
  /** Processes that it had left running; they are gone. */
  readonly left: number;
  /** Of all its processes, as the kernel counts them. */
  readonly cpuSeconds: number;
  readonly peakMib: number;
}

export interface ProgramOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** The whole environment, but for the mark. */
  readonly env: Readonly<Record<string, string>>;
  readonly scratch?: string;
  readonly signal: AbortSignal;
  /** Texts that must not be seen in its log. */
  readonly secrets: readonly string[];
  /** Ends it when it has written nothing for so long. Default: it may be silent. */
  readonly stallAfterMs?: number;
  /** Whether its silence counts for nothing yet. */
  readonly mayBeSilent?: () => boolean;
  /** A line that begins with `{` and is JSON. True: it was a message, and is no part of the log. */
  readonly onObject?: (value: unknown) => boolean;
  /** Any output. */
  readonly onOutput?: () => void;
}

export interface ProgramEnd {
  readonly outcome: 'exited' | 'stalled' | 'aborted' | 'lost';
  /** Missing when the launcher itself was killed. */
  readonly report: LaunchReport | undefined;
  readonly log: ProgramLog;
}

/** From being asked to end to being killed. */
const GRACE_MS = 2_000;
/** From asking the launcher to end the program to ending the launcher too. */
const LAUNCHER_GRACE_MS = GRACE_MS + 1_500;
const LOOK_EVERY_MS = 250;

/**
 * Runs a program to its end, and leaves none of its processes. Aborting asks it to end, and kills it after 2 s. It dies
 * with this process too, whatever ends that.
 */
export async function runProgram(options: ProgramOptions): Promise<ProgramEnd> {
  const { command, args, cwd, env, scratch = null, signal, stallAfterMs } = options;
  const id = randomUUID();
  const mark = `MILLRACE_PROGRAM=${id}`;
  const log = createProgramLog(options.secrets);
  let lastSign = Date.now();
  const launcher = startLauncher();
  const order: LaunchOrder = { command, args, cwd, env: { ...env, MILLRACE_PROGRAM: id }, scratch, mark, graceMs: GRACE_MS };
  // a launcher that is gone before it reads shows by its end
  launcher.stdin?.on('error', () => undefined);
  launcher.stdin?.write(`${JSON.stringify(order)}\n`);

  const onOther = (bytes: Uint8Array): void => {
    log.add(bytes);
  };
  for (const stream of [launcher.stdout, launcher.stderr]) {
    const reader = createLineReader((line) => {
      if (stream !== launcher.stdout || options.onObject === undefined || !isMessage(line, options.onObject)) {
        log.add(line);
        log.add(Buffer.from('\n'));
      }
    }, onOther);
    stream?.on('data', (chunk: Buffer) => {
      lastSign = Date.now();
      options.onOutput?.();
      reader.write(chunk);
    });
    stream?.on('end', () => {
      reader.end();
    });
  }
  let said = '';
  (launcher.stdio[3] as NodeJS.ReadableStream).on('data', (chunk: Buffer) => (said += chunk.toString()));

  const state: { outcome: ProgramEnd['outcome'] } = { outcome: 'exited' };
  let lastResort: NodeJS.Timeout | undefined;
  const end = (why: 'stalled' | 'aborted'): void => {
    if (state.outcome !== 'exited') return;
    state.outcome = why;
    launcher.stdin?.write('stop\n');
    lastResort = setTimeout(() => launcher.kill('SIGKILL'), LAUNCHER_GRACE_MS);
  };
  const onAbort = (): void => {
    end('aborted');
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort);
  const watch = setInterval(() => {
    if (options.mayBeSilent?.() === true) lastSign = Date.now();
    if (stallAfterMs !== undefined && Date.now() - lastSign >= stallAfterMs) end('stalled');
  }, LOOK_EVERY_MS);
  try {
    await ended(launcher, mark);
  } finally {
    clearInterval(watch);
    clearTimeout(lastResort);
    signal.removeEventListener('abort', onAbort);
  }
  const line = said.split('\n')[0] ?? '';
  const report = line === '' ? undefined : (JSON.parse(line) as LaunchReport);
  return { outcome: report === undefined && state.outcome === 'exited' ? 'lost' : state.outcome, report, log };
}

/** Resolves when launcher and program are gone and all output is read. */
async function ended(launcher: ChildProcess, mark: string): Promise<void> {
  const closed = new Promise<void>((resolve) =>
    launcher.on('close', () => {
      resolve();
    }),
  );
  await new Promise<void>((resolve, reject) => {
    launcher.on('exit', () => {
      resolve();
    });
    launcher.on('error', reject);
  });
  // killed itself, it leaves the program to us; otherwise there is nothing any more
  await killTree({ mark });
  await closed;
}

function isMessage(line: Buffer, onObject: (value: unknown) => boolean): boolean {
  try {
    return onObject(JSON.parse(line.toString('utf8')));
  } catch {
    // begins like an object, and is a line of the log
    return false;
  }
}

/** The launcher beside this module: built, or the source through tsx, as `startModuleWorker` does it. */
function startLauncher(): ChildProcess {
  const source = import.meta.url.endsWith('.ts');
  const module = fileURLToPath(new URL(`./program-launcher${source ? '.ts' : '.js'}`, import.meta.url));
  const tsx = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  return spawn(process.execPath, [...(source ? ['--import', tsx()] : []), module], {
    // beside the worker, not below it: what is sent to the worker's group does not reach it
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '' },
  });
}
