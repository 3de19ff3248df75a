// The process that serves one exported model: what `millrace models export --docker` puts into the image, and load tests start.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { createFolderServer } from './folder-server.ts';

/** Requests under way get this long after SIGTERM. */
const STOP_WITHIN_MS = 10_000;
const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);
const OPEN = 'none';

async function main(): Promise<void> {
  const {
    HOST: host = '127.0.0.1',
    PORT: port = '8080',
    MODEL_FOLDER: folder,
    SERVER_TOKEN: token,
    MILLRACE_HASH_KEY: hashKey,
    STATE_FOLDER: home,
  } = process.env;
  if (!LOOPBACK.has(host) && !token)
    throw new MillraceError('INVALID_CONFIG', `Whoever reaches ${host} could ask for predictions.`, {
      problems: [{ path: 'SERVER_TOKEN', message: 'is needed where the address is not that of this machine alone' }],
      fix: `Set SERVER_TOKEN to a secret; or to ${OPEN}, where something else keeps strangers out.`,
    });
  const server = await createFolderServer({
    folder: folder ?? fileURLToPath(new URL('./model', import.meta.url)),
    host,
    port: Number(port),
    home: home ?? mkdtempSync(join(tmpdir(), 'millrace-model-')),
    token: LOOPBACK.has(host) || token === OPEN ? undefined : token,
    hashKey,
    log: (level, message, details) => {
      process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...details })}\n`);
    },
  });
  const stop = (): void => {
    setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref();
    server.stop().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  // whoever started this and is gone, however it ended, needs no answers any more
  if (process.env['STOP_WITH_INPUT'] === '1') process.stdin.resume().once('end', stop).once('error', stop);
  const { url, port: taken } = await server.start();
  process.stdout.write(`${JSON.stringify({ ready: true, name: 'model', url, port: taken })}\n`);
}

main().catch((error: unknown) => {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', `The server could not start: ${String(error)}`);
  process.stderr.write(`${describeError(known.report())}\n`);
  process.exit(1);
});
