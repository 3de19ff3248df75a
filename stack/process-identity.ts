import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A process, told from a later one with the same pid by the moment it was started. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque: on Linux the boot's id and the start in clock ticks, elsewhere what `ps` prints. */
  readonly started: string;
}

let bootId: string | undefined;

function linuxStart(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command's name may hold spaces and brackets: fields are counted from after its last bracket.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended; it only waits for its parent to look.
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
  bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return `${bootId} ${fields[19] ?? ''}`;
}

function otherStart(pid: number): string | undefined {
  try {
    const [state, ...started] = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .trim()
      .split(/\s+/);
    return state === undefined || state.startsWith('Z') || started.length === 0 ? undefined : started.join(' ');
  } catch {
    return undefined;
  }
}

/** The process that has this pid now, or undefined when none runs. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const started = process.platform === 'linux' ? linuxStart(pid) : otherStart(pid);
  return started === undefined ? undefined : { pid, started };
}

/** Whether that very process still runs; another one that was given its pid does not count. */
export function isRunning(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.started === identity.started;
}
