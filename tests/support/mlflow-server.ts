import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ensureMlflowPython } from '../../bench/mlflow-python.ts';
import { freePort } from '../../stack/ports.ts';

const START_WITHIN_MS = 180_000;

export interface MlflowServer {
  /** Stays the same when it is stopped and started again. */
  readonly url: string;
  /** An interpreter with MLflow's client. */
  readonly python: string;
  /** Kills it as it is; what it has committed stays. */
  readonly kill: () => Promise<void>;
  /** Starts it again on what it had; resolves when it answers. */
  readonly start: () => Promise<void>;
  /** Kills it and removes its folder. */
  readonly stop: () => Promise<void>;
}

/** MLflow's own server, pinned, on SQLite and a folder of its own; resolves when it answers. The first call installs it, which takes minutes. */
export async function startMlflowServer(): Promise<MlflowServer> {
  const python = await ensureMlflowPython();
  const folder = await mkdtemp(join(tmpdir(), 'millrace-mlflow-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess | undefined;

  const kill = async (): Promise<void> => {
    const running = child;
    child = undefined;
    if (running?.pid === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = once(running, 'exit');
    // its workers are in its group
    process.kill(-running.pid, 'SIGKILL');
    await gone;
  };
  const start = async (): Promise<void> => {
    const log = join(folder, 'server.log');
    const output = openSync(log, 'w');
    const started = spawn(
      python,
      [
        ...['-m', 'mlflow', 'server', '--backend-store-uri', `sqlite:///${join(folder, 'mlflow.db')}`],
        ...['--artifacts-destination', join(folder, 'artifacts'), '--host', '127.0.0.1', '--port', String(port), '--workers', '1'],
      ],
      {
        detached: true,
        cwd: folder,
        stdio: ['ignore', output, output],
        env: {
          PATH: `${dirname(python)}:${process.env['PATH'] ?? ''}`,
          HOME: folder,
          MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false',
          MLFLOW_DISABLE_TELEMETRY: 'true',
        },
      },
    );
    closeSync(output);
    child = started;
    for (const until = Date.now() + START_WITHIN_MS; ; ) {
      const answer = await fetch(`${url}/health`).catch(() => null);
      if (answer?.ok === true) return;
      if (started.exitCode !== null || Date.now() > until) {
        await kill();
        throw new Error(`MLflow's server did not start: ${readFileSync(log, 'utf8').slice(-2_000)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, python, kill, start, stop };
}
