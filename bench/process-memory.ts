import { readdirSync, readFileSync } from 'node:fs';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process has ended meanwhile, or is not ours to look at
  }
}

/** Parent of each process that runs now. */
function parents(): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(`/proc/${name}/stat`);
    // The name stands in brackets and may hold anything; the parent is the second field after it.
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
    if (parent !== undefined) found.set(Number(name), Number(parent));
  }
  return found;
}

/** A process and everything that descends from it. */
export function processTree(root: number): readonly number[] {
  const parentOf = parents();
  const belongs = (pid: number): boolean => {
    for (let at: number | undefined = pid, depth = 0; at !== undefined && at > 1 && depth < 64; at = parentOf.get(at), depth++) if (at === root) return true;
    return false;
  };
  return [...parentOf.keys()].filter(belongs);
}

const field = (text: string, name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);

/** Resident memory of the processes in MiB, each page that is shared counted in each of them: an upper bound. */
function residentMib(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + field(read(`/proc/${pid}/status`), 'VmRSS'), 0) / 1024;
}

/** Proportional memory (PSS) in MiB: a page that n processes share counts 1/n in each. Falls back to resident memory where the kernel does not tell. */
function proportionalMib(pids: readonly number[]): number {
  return (
    pids.reduce((sum, pid) => {
      const rollup = read(`/proc/${pid}/smaps_rollup`);
      return sum + (rollup === '' ? field(read(`/proc/${pid}/status`), 'VmRSS') : field(rollup, 'Pss'));
    }, 0) / 1024
  );
}

/**
 * Follows the memory of a process tree (Linux) until it is stopped.
 *
 * @returns A function that stops it and gives the peak of the summed PSS in MiB.
 */
export function followMemory(root: number, everyMs = 200): () => number {
  let peakMib = 0;
  const timer = setInterval(() => {
    const pids = processTree(root);
    // Asking the kernel for PSS walks every page: only where it can be a new peak, which resident memory bounds from above.
    if (residentMib(pids) > peakMib) peakMib = Math.max(peakMib, proportionalMib(pids));
  }, everyMs);
  return () => {
    clearInterval(timer);
    return peakMib;
  };
}
