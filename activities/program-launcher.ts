/**
 * Stands between a worker and a program that it runs, as a process of its own.
 *
 * Invariants:
 * 1. When the worker is gone (its end of our input closes), the program, all that it started, and its scratch folder go.
 * 2. When the program ends, what it left running ends too, before we do.
 * 3. Output goes straight from the program to the worker; we say on descriptor 3 how it ended.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, rmSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LaunchOrder, LaunchReport } from './run-program.ts';
import { endedChildrenSeconds, killTree, type ProcessTree, signalTree, treeUsage } from './process-tree.ts';

const REPORT_DESCRIPTOR = 3;
const USAGE_EVERY_MS = 1_000;
/** A program's first moments are looked at more often: most that end soon end then. */
const FIRST_LOOK_AFTER_MS = 50;
/** The program dies with us even when we are killed ourselves. */
const DIES_WITH_US = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path));

// signals to the worker's group or terminal are the worker's business
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('uncaughtException', () => process.exit(1));

let order: LaunchOrder | undefined;
let child: ChildProcess | undefined;
let tree: ProcessTree | undefined;
let ending = false;
const cpuSecondsByPid = new Map<number, number>();
let peakMib = 0;

const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  if (order === undefined) {
    order = JSON.parse(line) as LaunchOrder;
    start(order);
  } else if (line === 'stop') void stop(order);
});
input.on('close', () => void abandoned());

function start({ command, args, cwd, env, mark }: LaunchOrder): void {
  const under = DIES_WITH_US === undefined ? [command, ...args] : [DIES_WITH_US, '--pdeathsig', 'KILL', command, ...args];
  child = spawn(under[0] ?? command, under.slice(1), { cwd, env, detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
  tree = { mark, ...(child.pid === undefined ? {} : { rootPid: child.pid }) };
  child.on('error', (error) => void finish({ code: null, signal: null, error: 'code' in error ? String(error.code) : 'unknown' }));
  child.on('exit', (code, signal) => void finish({ code, signal }));
  lookAgain(FIRST_LOOK_AFTER_MS);
}

function lookAgain(afterMs: number): void {
  setTimeout(() => {
    void measure().finally(() => {
      lookAgain(Math.min(USAGE_EVERY_MS, 2 * afterMs));
    });
  }, afterMs).unref();
}

async function measure(): Promise<void> {
  if (tree === undefined || ending) return;
  const used = await treeUsage(tree);
  for (const [pid, seconds] of used.cpuSecondsByPid) cpuSecondsByPid.set(pid, seconds);
  peakMib = Math.max(peakMib, used.residentMib, used.mostOfOneMib);
}

async function finish(end: Pick<LaunchReport, 'code' | 'signal' | 'error'>): Promise<void> {
  if (ending) return;
  ending = true;
  const left = tree === undefined ? 0 : await killTree(tree);
  // processes that left their parents are in the first sum alone, short ones in the second alone
  const cpuSeconds = Math.max(
    [...cpuSecondsByPid.values()].reduce((sum, seconds) => sum + seconds, 0),
    await endedChildrenSeconds(),
  );
  const report: LaunchReport = { ...end, left, cpuSeconds, peakMib };
  writeSync(REPORT_DESCRIPTOR, `${JSON.stringify(report)}\n`);
  process.exit(0);
}

async function stop({ graceMs }: LaunchOrder): Promise<void> {
  if (tree === undefined) return;
  await signalTree(tree, 'SIGTERM');
  await sleep(graceMs);
  // the group leader's end is heard by `finish`; one that ignores the signal is killed here, with all others
  if (!ending) await killTree(tree);
}

async function abandoned(): Promise<void> {
  ending = true;
  if (tree !== undefined) await killTree(tree);
  if (order !== undefined && order.scratch !== null) rmSync(order.scratch, { recursive: true, force: true });
  process.exit(0);
}
