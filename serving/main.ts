// The process of the prediction server: configuration, store and artifacts put together, until SIGTERM.
import { randomBytes } from 'node:crypto';
import { isLoopback, loadConfig } from '../config/config.ts';
import { projectHashKey } from '../config/hash-key.ts';
import { packageVersion } from '../config/package-root.ts';
import { announceReady } from '../config/ready.ts';
import { databaseUrl, servingUrl } from '../config/service-addresses.ts';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { listenRoutes } from '../store/listen-routes.ts';
import { openStore } from '../store/store.ts';
import type { ServingLog } from './ports.ts';
import { createPredictionServer } from './server.ts';

/** Requests under way get this long after SIGTERM. */
const STOP_WITHIN_MS = 10_000;
const DATABASE_CONNECTIONS = 5;

const LEVELS = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 } as const;

async function main(): Promise<void> {
  const config = loadConfig();
  const log: ServingLog = (level, message, details) => {
    if (LEVELS[level] >= LEVELS[config.logLevel]) process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...details })}\n`);
  };
  const address = databaseUrl(config);
  const store = openStore({ databaseUrl: address, poolSize: DATABASE_CONNECTIONS });
  const server = createPredictionServer({
    serverId: `serving-${randomBytes(6).toString('hex')}`,
    host: config.host,
    port: config.ports.serving,
    url: servingUrl(config),
    home: config.home,
    token: isLoopback(config.host) ? undefined : config.adminToken,
    serverVersion: packageVersion,
    routes: {
      listRoutes: () => store.endpoints.listRoutes(),
      listen: (onChange) => listenRoutes({ databaseUrl: address, onChange }),
    },
    registry: store.servers,
    stats: store.stats,
    features: store.featureViews,
    precomputed: store.predictionSets,
    feedback: store.feedback,
    artifacts: createArtifacts({ root: config.artifacts.folder }),
    log,
    hashKey: projectHashKey(config.home),
  });

  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log('info', 'stopping', { signal });
    setTimeout(() => {
      log('error', 'requests under way did not end in time', { withinMs: STOP_WITHIN_MS });
      process.exit(1);
    }, STOP_WITHIN_MS).unref();
    server
      .stop()
      .then(() => store.close())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log('error', 'the stop failed', { error: String(error) });
          process.exit(1);
        },
      );
  };
  process.on('SIGTERM', () => {
    stop('SIGTERM');
  });
  process.on('SIGINT', () => {
    stop('SIGINT');
  });

  const { url, port } = await server.start();
  announceReady({ name: 'serving', url, port });
}

main().catch((error: unknown) => {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The prediction server could not start.', { cause: error });
  process.stderr.write(`${describeError(known.report())}\n`);
  if (known.code === 'INTERNAL') process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
