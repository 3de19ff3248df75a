// The prediction server: configuration, store and artifacts put together, until SIGTERM. With more than one process this file
// is the parent's, which only watches, and each child's.
import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isLoopback, loadConfig, type MillraceConfig } from '../config/config.ts';
import { projectHashKey } from '../config/hash-key.ts';
import { packageVersion } from '../config/package-root.ts';
import { announceReady } from '../config/ready.ts';
import { databaseUrl, servingUrl } from '../config/service-addresses.ts';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { listenRoutes } from '../store/listen-routes.ts';
import { openStore } from '../store/store.ts';
import { createTokenBook } from '../store/token-book.ts';
import type { ServingLog } from './ports.ts';
import type { ToParent, ToProcess } from './process-messages.ts';
import { superviseProcesses } from './process-supervisor.ts';
import { openMark } from './running-mark.ts';
import { createPredictionServer } from './server.ts';
import { startThreadedRunner } from './threaded-runner.ts';

/** Requests under way get this long after SIGTERM. */
const STOP_WITHIN_MS = 10_000;
const PARENT_EXTRA_MS = 1_000;
const DATABASE_CONNECTIONS = 5;
const ALIVE_EVERY_MS = 250;
const GATHER_MS = 2_000;
/** Models that take so much memory are loaded and run on threads of their own. */
const LARGE_MODEL_BYTES = 24 * 1024 * 1024;

const LEVELS = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 } as const;

type Place = Extract<ToProcess, { type: 'start' }>;

const send = (message: ToParent): void => {
  process.send?.(message);
};

/** Where this process stands among those of its server, as its parent says. */
function placeOf(): Promise<Place> {
  return new Promise((resolve) => {
    process.on('message', function told(message: ToProcess) {
      if (message.type !== 'start') return;
      process.off('message', told);
      resolve(message);
    });
    send({ type: 'hello' });
  });
}

/** Asks the parent for the figures of the other processes; none when it does not answer in time. */
function createGather(): { readonly ask: () => Promise<readonly string[]>; readonly told: (id: number, texts: readonly string[]) => void } {
  const waiting = new Map<number, (texts: readonly string[]) => void>();
  let last = 0;
  return {
    ask() {
      last += 1;
      const id = last;
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          waiting.delete(id);
          resolve([]);
        }, GATHER_MS);
        waiting.set(id, (texts) => {
          clearTimeout(timer);
          resolve(texts);
        });
        send({ type: 'gather', id });
      });
    },
    told(id, texts) {
      waiting.get(id)?.(texts);
      waiting.delete(id);
    },
  };
}

/** Stops on the first SIGTERM or SIGINT, and ends the process. */
function stopOnSignal(log: ServingLog, stop: () => Promise<void>, withinMs: number): void {
  let stopping = false;
  const onSignal = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log('info', 'stopping', { signal });
    setTimeout(() => {
      log('error', 'requests under way did not end in time', { withinMs });
      process.exit(1);
    }, withinMs).unref();
    stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log('error', 'the stop failed', { error: String(error) });
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => {
    onSignal('SIGTERM');
  });
  process.on('SIGINT', () => {
    onSignal('SIGINT');
  });
}

const newServerId = (): string => `serving-${randomBytes(6).toString('hex')}`;

/** Answers requests in this process: the only one, or one of several. */
async function serve(config: MillraceConfig, log: ServingLog, place: Place | undefined): Promise<void> {
  const address = databaseUrl(config);
  const store = openStore({ databaseUrl: address, poolSize: DATABASE_CONNECTIONS });
  const mark = place === undefined ? undefined : openMark(place.markPath);
  const gather = createGather();
  const tokens = createTokenBook({
    tokens: store.tokens,
    adminToken: config.adminToken,
    loopback: isLoopback(config.host),
    keepAt: join(config.home, 'serving', 'tokens.json'),
    log,
  });
  await tokens.start();
  const server = createPredictionServer({
    serverId: place?.serverId ?? newServerId(),
    host: config.host,
    port: config.ports.serving,
    url: servingUrl(config),
    home: config.home,
    tokens,
    tls: config.tls && { cert: readFileSync(config.tls.certFile), key: readFileSync(config.tls.keyFile) },
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
    limits: { timeoutMs: config.serving.timeoutMs },
    maxModelBytes: Math.floor(config.serving.maxModelBytes / (place?.processes ?? 1)),
    mark,
    threads: {
      fromBytes: LARGE_MODEL_BYTES,
      start: startThreadedRunner,
      onLost: (predictor) => {
        log('error', 'the thread of a model has ended', { predictor });
      },
    },
    ...(place === undefined ? {} : { keepsRoutes: place.slot === 1, blames: place.blames, otherMetrics: gather.ask }),
  });
  // The store is not asked to wait for one that has ended.
  if (place?.replaces !== undefined) store.servers.leave(place.replaces).catch(() => undefined);
  stopOnSignal(
    log,
    async () => {
      await server.stop();
      tokens.stop();
      await store.close();
      mark?.close();
    },
    STOP_WITHIN_MS,
  );
  if (place !== undefined) {
    process.on('message', (message: ToProcess) => {
      if (message.type === 'blame') server.blame(message.blame);
      else if (message.type === 'metrics') send({ type: 'metrics', id: message.id, text: server.metrics() });
      else if (message.type === 'gathered') gather.told(message.id, message.texts);
    });
    // a model that hangs on its thread is told by silence, as one that hangs on this thread is
    setInterval(() => {
      if (mark?.isOverdue !== true) send({ type: 'alive' });
    }, ALIVE_EVERY_MS);
  }
  const { url, port } = await server.start();
  if (place === undefined) announceReady({ name: 'serving', url, port });
  else send({ type: 'ready', url, port });
}

/** Keeps several processes behind one port. */
async function supervise(config: MillraceConfig, log: ServingLog): Promise<void> {
  const supervisor = superviseProcesses({
    processes: config.serving.processes,
    serverId: newServerId(),
    home: config.home,
    hangMs: config.serving.hangMs,
    stopMs: STOP_WITHIN_MS + PARENT_EXTRA_MS,
    log,
  });
  stopOnSignal(
    log,
    async () => {
      if (!(await supervisor.stop())) process.exit(1);
    },
    STOP_WITHIN_MS + 2 * PARENT_EXTRA_MS,
  );
  try {
    const { url, port } = await supervisor.start();
    announceReady({ name: 'serving', url, port, processes: config.serving.processes });
  } catch (error) {
    // The process that could not start has said why.
    log('error', 'the prediction server could not start', { error: String(error) });
    await supervisor.stop();
    process.exit(1);
  }
}

async function main(): Promise<void> {
  const config = loadConfig();
  const log: ServingLog = (level, message, details) => {
    if (LEVELS[level] >= LEVELS[config.logLevel]) process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...details })}\n`);
  };
  if (cluster.isWorker) await serve(config, log, await placeOf());
  else if (config.serving.processes > 1) await supervise(config, log);
  else await serve(config, log, undefined);
}

main().catch((error: unknown) => {
  const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The prediction server could not start.', { cause: error });
  process.stderr.write(`${describeError(known.report())}\n`);
  if (known.code === 'INTERNAL') process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
