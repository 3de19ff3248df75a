/**
 * The prediction server: obeys the routes of the store, answers from memory.
 *
 * Invariants:
 * 1. An answer needs no store: routes and models are here, and kept on disk for a start without the store.
 * 2. Every answer names its request, and its version where one was chosen.
 * 3. A stop says so to readiness checks and clients, answers what is under way, writes the logs, then ends.
 * 4. Who asks is looked at before anything else (authorize.ts).
 */
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import Fastify, { type FastifyInstance } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import { compileHash, hashKeys } from '../data/row-hash.ts';
import type { TokenBook } from '../store/token-book.ts';
import { addAuthorization } from './authorize.ts';
import { createEndpointTable } from './endpoint-table.ts';
import { addFeedbackRoute } from './feedback-route.ts';
import { markReply, sendError, toMillraceError } from './http-errors.ts';
import { addInferenceProtocolRoutes } from './inference-protocol-routes.ts';
import { loadPredictor, type RunnerThreads } from './loaded-predictor.ts';
import { mergeMetrics } from './merge-metrics.ts';
import type { RunnerOptions } from './model-runner.ts';
import type { ArtifactBytes, FeatureSource, FeedbackSource, PrecomputedSource, RouteSource, ServerRegistry, ServingLog, StatsSink } from './ports.ts';
import { createOnlineFeatures } from './online-features.ts';
import { addPredictRoute } from './predict-route.ts';
import { createPredictor, DEFAULT_LIMITS, type ServingLimits } from './prediction.ts';
import { createPrecomputed } from './precomputed.ts';
import { createPredictionLog } from './prediction-log.ts';
import type { Blame } from './process-messages.ts';
import { createRequestIds, isRequestId } from './request-id.ts';
import { readRouteFile, writeRouteFile } from './route-file.ts';
import type { MarkWriter } from './running-mark.ts';
import { createSegmentLog } from './segment-log.ts';
import { createServingFigures, type Gauge } from './serving-figures.ts';
import { createShadow } from './shadow.ts';
import { createStoreLink } from './store-link.ts';

export interface PredictionServerDeps {
  /** Names this server in the store and in its files: letters, digits, `.`, `_`, `-`. */
  readonly serverId: string;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** The state folder: `serving/routes.json`, `predictions/` and `feedback/` lie under it. */
  readonly home: string;
  /** Asked of each request when given. Needed when `host` is not loopback. */
  readonly token?: string | undefined;
  /** Who may ask, by tokens that the store knows. Left out: everyone. */
  readonly tokens?: TokenBook | undefined;
  /** Certificate and key, PEM. Left out: no TLS. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly serverVersion: string;
  readonly routes: RouteSource;
  readonly registry: ServerRegistry;
  readonly stats: StatsSink;
  readonly artifacts: ArtifactBytes;
  /** Where features are looked up that requests leave out. Left out: requests have to bring them. */
  readonly features?: FeatureSource | undefined;
  /** Where it is told what became of feedback. Left out: nowhere. */
  readonly feedback?: FeedbackSource | undefined;
  /** Where predictions by key are found. Left out: requests have to bring rows. */
  readonly precomputed?: PrecomputedSource | undefined;
  readonly log: ServingLog;
  /** The key of hashed columns, when a served signature hashes. */
  readonly hashKey?: string | undefined;
  readonly limits?: Partial<ServingLimits>;
  readonly runner?: RunnerOptions;
  /** Whether this process writes the routes to disk for the next start; of several processes one does. Default true. */
  readonly keepsRoutes?: boolean;
  /** Told which predictor's native code is about to run. */
  readonly mark?: MarkWriter | undefined;
  /** Where large models are loaded and run. Left out: on this thread, as all are. */
  readonly threads?: RunnerThreads | undefined;
  /** Predictors that ended processes of this server before this one started. */
  readonly blames?: readonly Blame[];
  /** The figures of the other processes behind the same port. */
  readonly otherMetrics?: (() => Promise<readonly string[]>) | undefined;
  /** Most bytes of models in memory, as estimated from their files; endpoints that nobody asked for a while make room. Default: no bound. */
  readonly maxModelBytes?: number | undefined;
  /** Most models in memory. Default: no bound. */
  readonly maxModels?: number | undefined;
  /** How the server is reached from outside. Default: by host and port. */
  readonly url?: string;
  /** Default 1,000. */
  readonly pollEveryMs?: number;
  /** A stop takes requests until none has come for so long, and tells clients to go elsewhere. Default 300, at most 5,000 in all. */
  readonly drainMs?: number;
}

export interface PredictionServer {
  readonly app: FastifyInstance;
  /** Brings the known routes into service and listens. @throws MillraceError PORT_IN_USE */
  start(): Promise<{ readonly url: string; readonly port: number }>;
  stop(): Promise<void>;
  /** Takes a predictor out of traffic for a while. */
  blame(blame: Blame): void;
  /** This process's own figures, as Prometheus reads them. */
  metrics(): string;
}

const KEEP_ALIVE_MS = 72_000;
const REQUEST_TIMEOUT_MS = 60_000;
const DRAIN_MS = 300;
const DRAIN_STEPS = 6;
const MAX_DRAIN_MS = 5_000;

/** Creates a prediction server; nothing listens and nothing is loaded before `start`. */
export function createPredictionServer(deps: PredictionServerDeps): PredictionServer {
  const { log, home, serverId } = deps;
  const limits: ServingLimits = { ...DEFAULT_LIMITS, ...deps.limits };
  const routeFile = join(home, 'serving', 'routes.json');
  const figures = createServingFigures(serverId);
  const predictions = createSegmentLog({ folder: join(home, 'predictions'), serverId, log });
  const reviews = createSegmentLog({ folder: join(home, 'reviews'), serverId, log });
  const feedback = createSegmentLog({ folder: join(home, 'feedback'), serverId, log });
  const nextRequestId = createRequestIds();
  let started = false;
  let stopping: Promise<void> | undefined;
  let url = deps.url ?? '';
  let keptRoutes = '';
  let keeping: Promise<void> = Promise.resolve();

  const onUnexpected = (cause: unknown): void => {
    log('error', 'an answer could not be sent', { error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) });
  };

  const table = createEndpointTable({
    load: (served, aside) =>
      loadPredictor(served, deps.artifacts, {
        aside,
        threads: deps.threads,
        onUnexpected,
        ...(deps.hashKey === undefined ? {} : { hashKey: deps.hashKey }),
        ...(deps.runner === undefined ? {} : { runner: deps.runner }),
        mark: deps.mark,
      }),
    figures,
    log,
    maxModelBytes: deps.maxModelBytes,
    maxModels: deps.maxModels,
    onChange() {
      // What a stop takes out of service is what the next start wants back.
      if (stopping !== undefined) return;
      link.announce();
      keepRoutes();
    },
  });

  function keepRoutes(): void {
    keeping = keeping.then(async () => {
      if (!started || deps.keepsRoutes === false) return;
      const routes = table.kept();
      const text = JSON.stringify(routes);
      if (text === keptRoutes) return;
      try {
        await writeRouteFile(routeFile, routes);
        keptRoutes = text;
      } catch (error) {
        log('error', 'the routes cannot be kept on disk', { path: routeFile, error: String(error) });
      }
    });
  }

  const link = createStoreLink({
    serverId,
    url: () => url,
    routes: deps.routes,
    registry: deps.registry,
    stats: deps.stats,
    table,
    figures,
    log,
    ...(deps.pollEveryMs === undefined ? {} : { everyMs: deps.pollEveryMs }),
  });

  const predictor = createPredictor({
    limits,
    log: createPredictionLog(predictions, reviews),
    hashKey: deps.hashKey === undefined ? undefined : compileHash(hashKeys(deps.hashKey)),
  });

  const app: FastifyInstance = Fastify({
    https: deps.tls ?? null,
    logger: false,
    bodyLimit: limits.maxBodyBytes,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // A request that came on an open connection while the server drains is answered, with `connection: close`.
    return503OnClosing: false,
    genReqId(request) {
      const given = request.headers['x-request-id'];
      return isRequestId(given) ? given : nextRequestId();
    },
    routerOptions: { maxParamLength: 200 },
    frameworkErrors(error, request, reply) {
      sendError(request, reply, toMillraceError(error), undefined);
    },
  });
  // Bodies stay bytes: the routes parse them once, and the log may copy them.
  app.removeAllContentTypeParsers();
  // By its name JSON is found at once; whatever else a body says it is, it is read as JSON too.
  app.addContentTypeParser(['application/json', '*'], { parseAs: 'buffer' }, (_request, body, done) => {
    done(null, body);
  });

  const onInternal = (error: MillraceError, requestId: string): void => {
    log('error', 'a request failed', { requestId, error: error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : error.message });
  };
  app.setErrorHandler((cause, request, reply) => {
    const error = toMillraceError(cause);
    if (error.code === 'INTERNAL') onInternal(error, request.id);
    sendError(request, reply, error, undefined);
  });
  app.setNotFoundHandler((request, reply) => {
    sendError(request, reply, new MillraceError('NOT_FOUND', `There is no ${request.method} ${request.url.split('?')[0] ?? ''} here.`), undefined);
  });

  addAuthorization(app, { token: deps.token, book: deps.tokens });

  const online = deps.features === undefined ? undefined : createOnlineFeatures({ source: deps.features });
  const shadow = createShadow({ predictor, online });
  const precomputed = deps.precomputed === undefined ? undefined : createPrecomputed(deps.precomputed);
  addPredictRoute(app, { table, predictor, figures, onInternal, online, shadow, precomputed });
  addInferenceProtocolRoutes(app, {
    table,
    predictor,
    figures,
    onInternal,
    online,
    shadow,
    isReady: () => started && stopping === undefined,
    serverVersion: deps.serverVersion,
  });
  addFeedbackRoute(app, { table, segments: feedback, source: deps.feedback });

  function metrics(): string {
    const gauges: Gauge[] = [
      { name: 'millrace_requests_in_flight', help: 'Prediction requests that are being answered.', type: 'gauge', values: [{ value: predictor.inFlight }] },
      {
        name: 'millrace_endpoint_epoch',
        help: 'Epoch of the route in service.',
        type: 'gauge',
        values: table.holding().map(({ endpoint, epoch }) => ({ labels: { endpoint }, value: epoch })),
      },
      {
        name: 'millrace_route_failures',
        help: 'Routes that could not be brought into service.',
        type: 'gauge',
        values: table.failures().map(({ endpoint, error }) => ({ labels: { endpoint, code: error.code }, value: 1 })),
      },
      {
        name: 'millrace_prediction_log_lines_total',
        help: 'Lines of the prediction log that were written.',
        type: 'counter',
        values: [{ value: predictions.writtenLines }],
      },
      {
        name: 'millrace_prediction_log_dropped_total',
        help: 'Lines of the prediction log that were dropped.',
        type: 'counter',
        values: [{ value: predictions.droppedLines }],
      },
      {
        name: 'millrace_prediction_log_buffered_bytes',
        help: 'Bytes of the prediction log that wait to be written.',
        type: 'gauge',
        values: [{ value: predictions.bufferedBytes }],
      },
      {
        name: 'millrace_feedback_lines_total',
        help: 'Labels and outcomes that were written.',
        type: 'counter',
        values: [{ value: feedback.writtenLines }],
      },
      {
        name: 'millrace_feedback_dropped_total',
        help: 'Labels and outcomes that could not be written.',
        type: 'counter',
        values: [{ value: feedback.droppedLines }],
      },
      { name: 'millrace_models_loaded', help: 'Models in memory.', type: 'gauge', values: [{ value: table.memory.models }] },
      { name: 'millrace_models_loaded_bytes', help: 'Bytes of models in memory, as estimated.', type: 'gauge', values: [{ value: table.memory.bytes }] },
      {
        name: 'millrace_shadow_dropped_total',
        help: 'Requests that were not shown to a challenger because there was too much to do.',
        type: 'counter',
        values: [{ value: shadow.dropped }],
      },
      {
        name: 'process_cpu_seconds_total',
        help: 'User and system CPU time in seconds.',
        type: 'counter',
        values: [{ value: (process.cpuUsage().user + process.cpuUsage().system) / 1e6 }],
      },
      { name: 'process_resident_memory_bytes', help: 'Resident memory size in bytes.', type: 'gauge', values: [{ value: process.memoryUsage.rss() }] },
    ];
    return figures.prometheus(gauges);
  }
  app.get('/metrics', async (request, reply) => {
    const others = (await deps.otherMetrics?.()) ?? [];
    const own = metrics();
    markReply(reply, request.id, undefined);
    void reply.header('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    return others.length === 0 ? own : mergeMetrics([own, ...others]);
  });

  async function start(): Promise<{ url: string; port: number }> {
    for (const blame of deps.blames ?? []) table.quarantine(blame);
    // The kept routes first: when the store is down, or a newer version cannot be loaded, they answer.
    await table.restore(await readRouteFile(routeFile, log));
    await link.refresh();
    try {
      await app.listen({ host: deps.host, port: deps.port });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE')
        throw new MillraceError('PORT_IN_USE', `Port ${deps.port} is taken by another program.`, {
          fix: 'Stop that program, or move the port with MILLRACE_SERVING_PORT.',
        });
      throw error;
    }
    const { port } = app.server.address() as AddressInfo;
    url ||= `${deps.tls === undefined ? 'http' : 'https'}://${deps.host.includes(':') ? `[${deps.host}]` : deps.host}:${port}`;
    started = true;
    keepRoutes();
    link.start();
    return { url, port };
  }

  /**
   * A connection closed without warning resets the request that its client may just have sent. So until no request has
   * come for a moment, every answer says that it is the connection's last.
   */
  async function drain(): Promise<void> {
    const quietMs = deps.drainMs ?? DRAIN_MS;
    const startedMs = performance.now();
    let lastRequestMs = startedMs;
    app.server.prependListener('request', (_request, response) => {
      lastRequestMs = performance.now();
      response.setHeader('connection', 'close');
    });
    // In steps, so that the loop reads what lies in the sockets between two looks at the clock.
    while (performance.now() - lastRequestMs < quietMs && performance.now() - startedMs < MAX_DRAIN_MS) {
      await new Promise((resolve) => setTimeout(resolve, quietMs / DRAIN_STEPS));
    }
  }

  async function end(): Promise<void> {
    if (started) await drain();
    await app.close();
    await link.stop();
    await keeping;
    predictor.close();
    await table.close();
    await predictions.close();
    await reviews.close();
    await feedback.close();
  }

  return {
    app,
    start,
    stop() {
      stopping ??= end();
      return stopping;
    },
    blame(blame) {
      table.quarantine(blame);
    },
    metrics,
  };
}
