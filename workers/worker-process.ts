import { hostname } from 'node:os';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { createBuildFiles } from '../activities/build-files.ts';
import { stageCodeVersions } from '../activities/code-versions.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import type { MillraceConfig } from '../config/config.ts';
import { loadProjectConfig } from '../config/load-project-config.ts';
import { databaseUrl } from '../config/service-addresses.ts';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { openStore } from '../store/store.ts';
import { createProcessLog, type ProcessLog } from './process-log.ts';

export interface WorkerProcess {
  readonly config: MillraceConfig;
  readonly deps: ActivityDependencies;
  readonly connection: NativeConnection;
  readonly clientConnection: Connection;
  readonly log: ProcessLog;
  /** Fires on the first SIGTERM or SIGINT: stop taking work, end what runs. */
  readonly stopped: AbortSignal;
}

/** What every worker process shares: configuration, connections, dependencies, a clean end. */
export async function runWorkerProcess(name: string, work: (process: WorkerProcess) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  try {
    const config = await loadProjectConfig();
    const log = createProcessLog(name, config.logLevel);
    Runtime.install({
      shutdownSignals: [],
      logger: new DefaultLogger('WARN', (entry) => {
        log(entry.level === 'ERROR' ? 'error' : 'warn', entry.message, { sdk: true });
      }),
    });
    const store = openStore({
      databaseUrl: databaseUrl(config),
      log: (operation, error) => {
        log('error', `database: ${operation}`, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      },
    });
    const artifacts = await openArtifacts(config.artifacts.folder);
    const left = await artifacts.cleanAbandoned();
    if (left > 0) log('info', 'temporary files of attempts that were killed are gone', { files: left });
    const clientConnection = await Connection.connect(config.temporal.connection);
    const client = new Client({ connection: clientConnection, namespace: config.temporal.namespace });
    const connection = await NativeConnection.connect(config.temporal.connection);
    const deps: ActivityDependencies = {
      config,
      store,
      artifacts,
      client,
      builds: createBuildFiles({ store, artifacts, home: config.home, projectFolder: config.projectFolder }),
      codeVersions: await stageCodeVersions(),
      worker: `${name}@${hostname()}:${String(process.pid)}`,
      log,
    };
    try {
      await work({ config, deps, connection, clientConnection, log, stopped: stop.signal });
    } finally {
      await connection.close().catch((error: unknown) => {
        log('warn', 'the connection to Temporal did not close', { error: String(error) });
      });
      await clientConnection.close();
      await store.close();
    }
  } catch (error) {
    const known = error instanceof MillraceError ? describeError(error.report()) : error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`${known}\n`);
    process.exitCode = 1;
  }
}
