import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PORT_VARIABLES } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';
import { freePort } from '../stack/ports.ts';
import type { Benchmark } from './figure.ts';
import { followMemory } from './process-memory.ts';

const MOST_SECONDS = 90;
const MOST_MIB = 4_096;
/** A smaller run for a first look. */
const QUICK = ['--set', 'trees=10', '--set', 'treeRows=50000', '--set', 'networkRows=5000'];

async function freePorts(): Promise<Readonly<Record<string, string>>> {
  const ports = await Promise.all(Object.values(PORT_VARIABLES).map(async ({ variable }) => [variable, String(await freePort())] as const));
  return Object.fromEntries(ports);
}

interface Measured {
  readonly seconds: number;
  readonly peakMib: number;
}

/** `millrace quickstart --exit` as a user starts it, in a new state folder, from the command to its exit. */
async function runQuickstart(quick: boolean): Promise<Measured> {
  const home = mkdtempSync(join(tmpdir(), 'millrace-quickstart-'));
  // An embedded Postgres of root's runs as another user, who has to pass through.
  chmodSync(home, 0o711);
  const startedMs = performance.now();
  const child = spawn(process.execPath, [join(packageRoot, 'bin', 'millrace.js'), 'quickstart', '--exit', '--json', ...(quick ? QUICK : [])], {
    cwd: packageRoot,
    env: { ...process.env, ...(await freePorts()), MILLRACE_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stopMemory = followMemory(child.pid ?? 0);
  let said = '';
  const keep = (chunk: Buffer): void => {
    said = (said + chunk.toString('utf8')).slice(-20_000);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', resolve);
    });
    if (code !== 0) throw new MillraceError('INTERNAL', `The quickstart ended with exit code ${code ?? 'none'}:\n${said.slice(-4_000)}`);
    return { seconds: (performance.now() - startedMs) / 1000, peakMib: stopMemory() };
  } finally {
    stopMemory();
    rmSync(home, { recursive: true, force: true });
  }
}

/** One run: a minute and a half of the whole machine says what a user sees, and a median of several would say no more. */
export const benchmark: Benchmark = {
  name: 'quickstart',
  summary: 'the quickstart from the command to its exit, in a new state folder: seconds, and peak memory of all its processes',
  run: async ({ quick, emit }) => {
    const { seconds, peakMib } = await runQuickstart(quick);
    const shared = { bench: 'quickstart', n: 1, better: 'lower', ...(quick ? { quick } : {}) } as const;
    emit({ ...shared, metric: 'seconds', value: seconds, min: seconds, max: seconds, unit: 's', bar: MOST_SECONDS });
    emit({ ...shared, metric: 'peak_mib', value: peakMib, min: peakMib, max: peakMib, unit: 'MiB', bar: MOST_MIB });
  },
};
