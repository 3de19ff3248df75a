import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Connection } from '@temporalio/client';
import { loadConfig } from '../config/config.ts';
import { type ChildSpec, createSupervisor } from './supervisor.ts';
import { findTemporalBinary } from './temporal-binary.ts';
import { dynamicConfigArguments } from './temporal-dynamic-config.ts';
import { prepareNamespace, RETENTION_DAYS } from './temporal-namespace.ts';

/** With write-ahead and `normal` a killed server loses nothing; a power cut may lose the last moments, and corrupts nothing. */
const SQLITE_PRAGMAS = ['journal_mode=wal', 'synchronous=normal'] as const;

export interface TemporalServerOptions {
  /** Temporal's program; see `findTemporalBinary`. */
  readonly binary: string;
  /** The SQLite file of its state, or in memory: then it is lost with the server. */
  readonly store: { readonly dbFile: string } | 'memory';
  readonly port: number;
  /** Without it there is no web page. */
  readonly uiPort?: number;
  readonly namespace?: string;
  readonly logFile?: string;
}

async function withConnection(address: string, use: (connection: Connection) => Promise<void>): Promise<void> {
  const connection = await Connection.connect({ address, connectTimeout: 2_000 });
  try {
    await use(connection);
  } finally {
    await connection.close();
  }
}

/** Says how to run Temporal's development server as a child. It is ready when its namespace can be described and has all that we need. */
export function temporalChild(options: TemporalServerOptions): ChildSpec {
  const { namespace = 'default', port, store } = options;
  const address = `127.0.0.1:${port}`;
  if (store !== 'memory') mkdirSync(dirname(store.dbFile), { recursive: true });
  // Variables that point clients at some server, a user's cloud for instance, are none of this server's business.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_')));
  return {
    name: 'temporal',
    command: options.binary,
    args: [
      'server',
      'start-dev',
      '--ip',
      '127.0.0.1',
      '--port',
      String(port),
      ...(options.uiPort === undefined ? ['--headless'] : ['--ui-port', String(options.uiPort)]),
      ...(store === 'memory' ? [] : ['--db-filename', store.dbFile, ...SQLITE_PRAGMAS.flatMap((pragma) => ['--sqlite-pragma', pragma])]),
      ...(namespace === 'default' ? [] : ['--namespace', namespace]),
      ...dynamicConfigArguments(),
      '--disable-config-file',
      '--disable-config-env',
      '--log-format',
      'json',
    ],
    env,
    // Its store survives that, and nothing can keep it from ending.
    deathSignal: 'SIGKILL',
    stopSignal: 'SIGTERM',
    stopGraceMs: 15_000,
    readyTimeoutMs: 60_000,
    errorCode: 'TEMPORAL_UNAVAILABLE',
    readiness: async () => {
      try {
        await withConnection(address, async (connection) => {
          await prepareNamespace(connection, namespace, { retentionDays: RETENTION_DAYS });
        });
        return true;
      } catch {
        return false;
      }
    },
    ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
  };
}

export interface StartTemporalOptions {
  /** The SQLite file; leave it out, with `inMemory`, for a server whose state ends with it. */
  readonly dbFile?: string;
  readonly inMemory?: boolean;
  readonly port: number;
  readonly uiPort?: number;
  readonly namespace?: string;
  readonly logFile: string;
  /** Default: that of the configuration, ~/.cache/millrace. */
  readonly cacheFolder?: string;
  readonly onProgress?: (message: string) => void;
}

export interface RunningTemporal {
  readonly address: string;
  readonly namespace: string;
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

/**
 * Starts a Temporal server of its own, with Millrace's settings and search attributes, and waits until it answers. It
 * ends with this process, at the latest.
 *
 * @throws MillraceError PROGRAM_MISSING with each way to its program that was tried; TEMPORAL_UNAVAILABLE with the last lines of its log.
 */
export async function startTemporal(options: StartTemporalOptions): Promise<RunningTemporal> {
  const cacheFolder = options.cacheFolder ?? loadConfig().cacheFolder;
  const binary = await findTemporalBinary({ cacheFolder, ...(options.onProgress ? { onProgress: options.onProgress } : {}) });
  const { dbFile, port, uiPort, namespace = 'default', logFile } = options;
  const store = options.inMemory === true ? ('memory' as const) : { dbFile: dbFile ?? join(dirname(logFile), 'temporal.db') };
  const supervisor = createSupervisor({ logsFolder: dirname(logFile), restart: false });
  await supervisor.start(temporalChild({ binary: binary.path, store, port, namespace, logFile, ...(uiPort === undefined ? {} : { uiPort }) }));
  return {
    address: `127.0.0.1:${port}`,
    namespace,
    pid: supervisor.status()[0]?.process?.pid,
    stop: () => supervisor.stop(),
  };
}
