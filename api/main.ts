// The process of the API: configuration and store put together, until SIGTERM.
import { readFileSync } from 'node:fs';
import { isLoopback, loadConfig } from '../config/config.ts';
import { packageVersion } from '../config/package-root.ts';
import { announceReady } from '../config/ready.ts';
import { apiUrl, databaseUrl } from '../config/service-addresses.ts';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { openStore } from '../store/store.ts';
import { createTokenBook } from '../store/token-book.ts';
import { createApiServer } from './server.ts';
import { createUpdateSender } from './update-sender.ts';

/** Requests under way get this long after SIGTERM. */
const STOP_WITHIN_MS = 10_000;
const DATABASE_CONNECTIONS = 5;

function writeLog(level: string, message: string, details: Readonly<Record<string, unknown>>): void {
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...details })}\n`);
}

async function main(): Promise<void> {
  const config = loadConfig();
  const store = openStore({
    databaseUrl: databaseUrl(config),
    poolSize: DATABASE_CONNECTIONS,
    log: (operation, error) => {
      writeLog('error', `database: ${operation}`, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    },
  });
  const tokens = createTokenBook({
    tokens: store.tokens,
    adminToken: config.adminToken,
    loopback: isLoopback(config.host),
    log: writeLog,
  });
  await tokens.start();
  const sender = createUpdateSender(config);
  const app = createApiServer({
    store,
    artifacts: createArtifacts({ root: config.artifacts.folder }),
    version: packageVersion,
    tokens,
    update: sender.update,
    findRequest: async (requestId, endpoint) => (await import('../data/answered-request.ts')).findAnsweredRequest(config.home, requestId, endpoint),
    tls: config.tls && { cert: readFileSync(config.tls.certFile), key: readFileSync(config.tls.keyFile) },
    log: writeLog,
  });

  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    writeLog('info', 'stopping', { signal });
    setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref();
    tokens.stop();
    app
      .close()
      .then(() => Promise.all([store.close(), sender.close()]))
      .then(
        () => process.exit(0),
        (error: unknown) => {
          writeLog('error', 'the stop failed', { error: String(error) });
          process.exit(1);
        },
      );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));

  try {
    await app.listen({ host: config.host, port: config.ports.api });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
      throw new MillraceError('PORT_IN_USE', `Port ${config.ports.api} is taken by another program.`, {
        problems: [{ path: 'MILLRACE_API_PORT', message: 'names a port that is taken', found: String(config.ports.api) }],
      });
    throw error;
  }
  announceReady({ name: 'api', url: apiUrl(config), port: config.ports.api });
}

main().catch((error: unknown) => {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The API could not start.', { cause: error });
  process.stderr.write(`${describeError(known.report())}\n`);
  if (known.code === 'INTERNAL') process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
