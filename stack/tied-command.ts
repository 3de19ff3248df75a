import { execFileSync } from 'node:child_process';
import { nodeProgram } from './node-program.ts';

export interface TiedCommand {
  readonly command: string;
  readonly args: readonly string[];
  /** Whether the child's stdin must be a pipe that nobody writes to and only the parent's death closes. */
  readonly stdinPipe: boolean;
}

let parentDeathSignal: boolean | undefined;

function hasParentDeathSignal(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    execFileSync('setpriv', ['--pdeathsig', 'KILL', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

// Between fork and prctl the parent may die unseen, so the child looks once more, with the signal in place.
const STILL_THERE = 'test "$PPID" = "$1" || exit 1; shift; exec "$@"';

/**
 * The command, changed so that the program is sent `deathSignal` when this process dies in whatever way, `kill -9`
 * included. By the kernel's parent-death signal through util-linux's `setpriv` where there is one, else by a launcher
 * that watches for the end of its stdin. Start it from the main thread: the kernel means the thread that forked.
 */
export function tieToParent(command: string, args: readonly string[], deathSignal: NodeJS.Signals, mechanism?: 'kernel' | 'launcher'): TiedCommand {
  const kernel = mechanism === undefined ? (parentDeathSignal ??= hasParentDeathSignal()) : mechanism === 'kernel';
  if (kernel) {
    return {
      command: 'setpriv',
      args: ['--pdeathsig', deathSignal.slice(3), '/bin/sh', '-c', STILL_THERE, 'sh', String(process.pid), command, ...args],
      stdinPipe: false,
    };
  }
  return {
    command: process.execPath,
    args: [...nodeProgram('launcher', import.meta.url), deathSignal, '10000', command, ...args],
    stdinPipe: true,
  };
}
