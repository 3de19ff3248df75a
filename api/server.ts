import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyInstance } from 'fastify';
import type { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { FindRequest } from '../store/lineage-subject.ts';
import type { Store } from '../store/store.ts';
import type { TokenBook } from '../store/token-book.ts';
import { addAuthorization, identityOf, inCallersName, requireProjects, shownTo } from './authorize.ts';
import { sendError, toMillraceError } from './http-errors.ts';
import { openApiDocument } from './openapi.ts';
import { mirrorMetrics, type PrometheusMetric, processMetrics, prometheusText } from './prometheus.ts';
import { registerMlflow } from './mlflow/routes.ts';
import type { SendUpdate } from './resource.ts';
import { RESOURCES } from './resources.ts';

/**
 * The HTTP API over the store.
 *
 * Invariants:
 * 1. Who asks is looked at before anything else (authorize.ts).
 * 2. Every failure leaves through one mapper, as an error report; what the cause said goes to the log.
 * 3. Lists are pages of bounded size.
 */
export interface ApiServerDeps {
  readonly store: Store;
  /** Without it no distributions of datasets are compared, and MLflow's clients can neither upload nor read files. */
  readonly artifacts?: Artifacts;
  /** Of the package; stands in the OpenAPI document. */
  readonly version: string;
  /** Who may ask. Left out: everything is open. */
  readonly tokens?: TokenBook | undefined;
  /** Sends updates to workflows. Left out: what needs it is refused. */
  readonly update?: SendUpdate;
  /** Finds predictions by their request ids. Left out: none is found. */
  readonly findRequest?: FindRequest;
  /** Certificate and key, PEM. Left out: no TLS. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly log?: (level: 'info' | 'error', message: string, details: Readonly<Record<string, unknown>>) => void;
}

const PREFIX = '/api/v1';

/** Paths of sources stand in addresses. */
const LONGEST_PARAMETER = 2_000;
const noRequest: FindRequest = () => Promise.resolve(null);
const noUpdates: SendUpdate = () => Promise.reject(new MillraceError('TEMPORAL_UNAVAILABLE', 'This API was started without a Temporal to send messages to.'));

/** Everything that does not fit, in one error. */
function check(schema: z.ZodObject, value: unknown, where: string): Readonly<Record<string, unknown>> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new MillraceError('INVALID_REQUEST', `The ${where} does not fit.`, {
    fix: 'Correct each parameter that is listed; /api/v1/openapi.json describes them.',
    problems: result.error.issues.map((issue) => ({ path: issue.path.length === 0 ? where : issue.path.join('.'), message: issue.message })),
  });
}

/** Creates the server; nothing listens yet. */
export function createApiServer({ store, artifacts, version, tokens, update = noUpdates, findRequest = noRequest, tls, log }: ApiServerDeps): FastifyInstance {
  const options = {
    logger: false,
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: LONGEST_PARAMETER },
  } as const;
  const app: FastifyInstance = Fastify({ ...options, https: tls ?? null });
  const answered = new Map<string, number>();

  app.setErrorHandler((cause, request, reply) => {
    const error = toMillraceError(cause);
    if (error.code === 'INTERNAL')
      log?.('error', 'a request failed', { requestId: request.id, error: error.cause instanceof Error ? error.cause.stack : error.message });
    sendError(reply, request.id, error);
  });
  app.setNotFoundHandler((request, reply) => {
    sendError(
      reply,
      request.id,
      new MillraceError('NOT_FOUND', `There is no ${request.method} ${request.url.split('?')[0] ?? ''} here.`, { fix: 'See /api/v1/openapi.json.' }),
    );
  });
  app.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-request-id', request.id);
    done();
  });
  app.addHook('onResponse', (_request, reply, done) => {
    const status = `${Math.floor(reply.statusCode / 100)}xx`;
    answered.set(status, (answered.get(status) ?? 0) + 1);
    done();
  });
  addAuthorization(app, store, tokens);

  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const health = await store.health();
    const ready = health.reachable && health.schemaCurrent;
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', ...health });
  });
  app.get('/metrics', async (_request, reply) => {
    const [runs, mirror] = await Promise.all([store.runs.counts(), store.mlflowMirror.standing()]);
    const metrics: PrometheusMetric[] = [
      ...processMetrics(),
      {
        name: 'millrace_runs',
        help: 'Runs in the records, by pipeline and status.',
        type: 'gauge',
        values: runs.map(({ pipeline, status, runs: value }) => ({ labels: { pipeline, status }, value })),
      },
      {
        name: 'millrace_api_responses_total',
        help: 'Answers of this process, by class of status.',
        type: 'counter',
        values: [...answered].sort().map(([status, value]) => ({ labels: { status }, value })),
      },
      ...(mirror === null ? [] : mirrorMetrics(mirror)),
    ];
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(prometheusText(metrics));
  });

  const document = openApiDocument(RESOURCES, version);
  app.get(`${PREFIX}/openapi.json`, () => document);
  for (const resource of RESOURCES) {
    app.route({
      method: resource.method ?? 'get',
      url: `${PREFIX}${resource.path.replace(/\{(\w+)\}/g, ':$1')}`,
      ...(resource.role === undefined ? {} : { config: { role: resource.role } }),
      handler: async (request) => {
        const identity = identityOf(request);
        const values = {
          ...check(resource.params, request.params, 'path'),
          ...check(resource.query, request.query, 'query'),
          ...(resource.body === undefined ? {} : { body: check(resource.body, inCallersName(identity, resource, request.body), 'body') }),
        };
        await requireProjects(store, identity, resource, values);
        // `check` has just made them what this resource's `read` takes.
        return shownTo(store, identity, resource, await resource.read(store, values as never, artifacts, { identity, update, findRequest }));
      },
    });
  }

  registerMlflow(app, {
    store,
    ...(artifacts === undefined ? {} : { artifacts }),
    onFailure: (requestId, error) => log?.('error', 'a request failed', { requestId, error: error.cause instanceof Error ? error.cause.stack : error.message }),
  });
  return app;
}
