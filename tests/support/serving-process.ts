import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseReadyLine } from '../../config/ready.ts';
import { freePort } from '../../stack/ports.ts';

const MAIN = fileURLToPath(new URL('../../serving/main.ts', import.meta.url));

export interface ServingProcess {
  readonly child: ChildProcess;
  readonly url: string;
  /** What it logged, warnings and errors, one JSON object a line. */
  readonly lines: readonly string[];
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

/** Starts the prediction server as users do: `serving/main.ts` as a process, on a free port. */
export async function startServingProcess(options: {
  readonly databaseUrl: string;
  readonly home: string;
  readonly env?: Readonly<Record<string, string>>;
}): Promise<ServingProcess> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    env: {
      ...process.env,
      MILLRACE_SERVING_PROCESSES: '1',
      DATABASE_URL: options.databaseUrl,
      MILLRACE_HOME: options.home,
      MILLRACE_SERVING_PORT: String(await freePort()),
      MILLRACE_LOG_LEVEL: 'warn',
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = parseReadyLine(line);
    if (ready === undefined) continue;
    return {
      child,
      url: String(ready['url']),
      lines,
      async stop() {
        if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
        const closed = once(child, 'exit') as Promise<[number | null]>;
        child.kill('SIGTERM');
        return (await closed)[0];
      },
    };
  }
  throw new Error(`the process ended before it was ready: ${lines.join('\n')}`);
}

/** The processes behind the port of a server of several: its children that run its own file. tsx has a child too. */
export function childrenOf(pid: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      if (!readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(MAIN)) return [];
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}
