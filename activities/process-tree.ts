import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The processes that came of one program: its group, its descendants, and whoever carries its mark in the environment,
 * as children do that made a session of their own. What clears its environment *and* leaves its parents is not found.
 * Where there is no /proc, the group is all that is known.
 */
export interface ProcessTree {
  /** `NAME=value`, as it stands in the environment of each. */
  readonly mark: string;
  /** Of the program itself, which leads its group. */
  readonly rootPid?: number;
}

interface Listed {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly state: string;
  readonly cpuTicks: number;
  readonly residentPages: number;
}

const ROUNDS = 100;
const BETWEEN_ROUNDS_MS = 20;
const GONE = new Set(['Z', 'X', 'x']);

async function listProcesses(): Promise<readonly Listed[]> {
  const names = await readdir('/proc').catch(() => []);
  const listed = await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map(async (name): Promise<Listed | undefined> => {
        const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => undefined);
        if (stat === undefined) return undefined;
        // the command's name stands in brackets and may hold anything
        const [state = '', parent, group, , , , , , , , , user, system, , , , , , , , , resident] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return {
          pid: Number(name),
          parent: Number(parent),
          group: Number(group),
          state,
          cpuTicks: Number(user) + Number(system),
          residentPages: Number(resident),
        };
      }),
  );
  return listed.filter((one) => one !== undefined);
}

async function members({ mark, rootPid }: ProcessTree): Promise<readonly Listed[]> {
  const all = (await listProcesses()).filter((one) => one.pid !== process.pid && !GONE.has(one.state));
  const found = new Set<number>();
  for (const one of all) if (rootPid !== undefined && (one.pid === rootPid || one.group === rootPid)) found.add(one.pid);
  await Promise.all(
    all.map(async ({ pid }) => {
      if (found.has(pid)) return;
      const environment = await readFile(`/proc/${String(pid)}/environ`, 'latin1').catch(() => '');
      if (`\0${environment}`.includes(`\0${mark}\0`)) found.add(pid);
    }),
  );
  for (let grown = true; grown; ) {
    grown = false;
    for (const one of all) {
      if (found.has(one.pid) || !found.has(one.parent)) continue;
      found.add(one.pid);
      grown = true;
    }
  }
  return all.filter((one) => found.has(one.pid));
}

const send = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal);
  } catch {
    // gone already, or another's by now
  }
};

/** Asks every process of the tree to end. */
export async function signalTree(tree: ProcessTree, signal: NodeJS.Signals): Promise<void> {
  if (tree.rootPid !== undefined) send(-tree.rootPid, signal);
  for (const { pid } of await members(tree)) send(pid, signal);
}

/** Kills until none is left, and says how many were found at first: processes may be born while others are killed. */
export async function killTree(tree: ProcessTree): Promise<number> {
  let first: number | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    if (tree.rootPid !== undefined) send(-tree.rootPid, 'SIGKILL');
    const left = await members(tree);
    first ??= left.length;
    if (left.length === 0) break;
    for (const { pid } of left) send(pid, 'SIGKILL');
    await sleep(BETWEEN_ROUNDS_MS);
  }
  return first ?? 0;
}

/** What the tree's processes use, by pid, as the kernel counts it: ticks of 10 ms, pages of 4 KiB. */
export async function treeUsage(tree: ProcessTree): Promise<{
  readonly cpuSecondsByPid: ReadonlyMap<number, number>;
  readonly residentMib: number /** What one of them has had at most. */;
  readonly mostOfOneMib: number;
}> {
  const found = await members(tree);
  const peaks = await Promise.all(found.map(({ pid }) => peakMibOf(pid)));
  return {
    cpuSecondsByPid: new Map(found.map(({ pid, cpuTicks }) => [pid, cpuTicks / 100])),
    residentMib: found.reduce((sum, { residentPages }) => sum + residentPages / 256, 0),
    mostOfOneMib: Math.max(0, ...peaks),
  };
}

async function peakMibOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${String(pid)}/status`, 'utf8').catch(() => '');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1_024;
}

/** CPU seconds of this process's children that have ended, and of theirs that they waited for; 0 where there is no /proc. */
export async function endedChildrenSeconds(): Promise<number> {
  const stat = await readFile('/proc/self/stat', 'utf8').catch(() => '');
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(13, 15)
    .map(Number);
  return (user + system) / 100 || 0;
}
