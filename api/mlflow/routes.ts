import type { FastifyInstance, FastifyReply } from 'fastify';
import type { MillraceError } from '../../contracts/errors.ts';
import { projectsOf } from '../../contracts/identity.ts';
import { identityOf } from '../authorize.ts';
import { toMillraceError } from '../http-errors.ts';
import { ARTIFACT_OPERATIONS, registerArtifactFiles } from './artifacts.ts';
import { MLFLOW_ERRORS, MlflowError, toMlflowError } from './errors.ts';
import { EXPERIMENT_OPERATIONS } from './experiments.ts';
import { LOGGED_MODEL_OPERATIONS } from './logged-models.ts';
import type { MlflowDeps, Operation } from './operation.ts';
import { REGISTRY_OPERATIONS } from './registry.ts';
import { RUN_OPERATIONS } from './runs.ts';
import { STAGE_PREFIX, storeOf } from './stage-store.ts';

/**
 * MLflow's REST protocol, which its Python client speaks when MLFLOW_TRACKING_URI names this API.
 *
 * Invariants:
 * 1. Every failure leaves as `{error_code, message}` with the status that MLflow's server gives that code.
 * 2. What this server does not do answers with ENDPOINT_NOT_FOUND and says what is missing.
 */
const PREFIXES = ['/api/2.0', '/ajax-api/2.0', STAGE_PREFIX];
const OPERATIONS: readonly Operation[] = [
  ...EXPERIMENT_OPERATIONS,
  ...RUN_OPERATIONS,
  ...LOGGED_MODEL_OPERATIONS,
  ...REGISTRY_OPERATIONS,
  ...ARTIFACT_OPERATIONS,
];

/** A request may carry the schema and profile of a dataset; MLflow's own limits are below this. */
const BODY_LIMIT_BYTES = 32 * 2 ** 20;

/** The release of MLflow whose protocol this is; its clients warn when a server is older than they are. */
const PROTOCOL_VERSION = '3.17.2';

/** Parts of MLflow that Millrace leaves out, by the first word of their path. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  gateway: 'the AI gateway',
  traces: 'traces',
  'unified-traces': 'traces',
  'get-online-trace-details': 'traces',
  scorers: 'scorers',
  issues: 'issues',
  datasets: 'evaluation datasets',
  'label-schemas': 'label schemas',
  'review-queues': 'review queues',
  'prompt-optimization': 'prompts',
  workspaces: 'workspaces',
};

function send(reply: FastifyReply, error: MlflowError): FastifyReply {
  const status = MLFLOW_ERRORS[error.code];
  if (status === 429 || status === 503) void reply.header('retry-after', '1');
  if (status === 401) void reply.header('www-authenticate', 'Basic realm="mlflow"');
  return reply.code(status).send({ error_code: error.code, message: error.message });
}

function parse(operation: Operation, value: Readonly<Record<string, unknown>>): unknown {
  const quick = operation.quick?.(value);
  if (quick !== undefined) return quick;
  const result = operation.schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.length === 0 ? 'the request' : `'${issue.path.join('.')}'`} ${issue.message}`);
  throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid value for the request: ${problems.join('; ')}.`);
}

/** Old clients send JSON twice over, as a text that holds it. */
function bodyOf(body: unknown): object {
  let value: unknown = body ?? {};
  if (typeof value === 'string')
    try {
      value = JSON.parse(value);
    } catch {
      value = null;
    }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MlflowError('BAD_REQUEST', 'The body of a request must be a JSON object.');
  return value;
}

function leftOut(url: string): MlflowError {
  const path = url.split('?')[0] ?? '';
  const word = /\/mlflow\/([^/]+)/.exec(path)?.[1] ?? '';
  const what = LEFT_OUT[word];
  return new MlflowError(
    'ENDPOINT_NOT_FOUND',
    what === undefined ? `There is no ${path} on this server.` : `This server does not do ${what} (${path}): Millrace leaves that part of MLflow out.`,
  );
}

export interface MlflowRoutesDeps extends MlflowDeps {
  /** Told of failures that are not the client's. */
  readonly onFailure: (requestId: string, error: MillraceError) => void;
}

/** Registers the protocol under `/api/2.0/mlflow` and `/ajax-api/2.0/mlflow`, with `/health` and `/version` as MLflow has them. */
export function registerMlflow(app: FastifyInstance, { store, artifacts, onFailure }: MlflowRoutesDeps): void {
  void app.register((scope, _options, done) => {
    scope.setErrorHandler((cause, request, reply) => {
      if (cause instanceof MlflowError) return send(reply, cause);
      const error = toMillraceError(cause);
      if (error.code === 'INTERNAL') onFailure(request.id, error);
      return send(reply, toMlflowError(error));
    });
    for (const operation of OPERATIONS)
      for (const prefix of PREFIXES)
        scope.route({
          method: operation.method,
          url: `${prefix}${operation.path}`,
          bodyLimit: BODY_LIMIT_BYTES,
          config: { access: operation.access },
          handler: async (request, reply) => {
            const sent = operation.method === 'get' ? (request.query as object) : bodyOf(request.body);
            const value = parse(operation, { ...sent, ...(request.params as object) });
            // `parse` has just made it what this operation takes.
            return operation.handle(
              {
                store: storeOf(store, request.params),
                ...(artifacts === undefined ? {} : { artifacts }),
                request,
                reply,
                projects: projectsOf(identityOf(request)),
              },
              value as never,
            );
          },
        });
    registerArtifactFiles(scope, PREFIXES, { store, ...(artifacts === undefined ? {} : { artifacts }) });
    for (const prefix of ['/api/2.0/mlflow', '/api/3.0/mlflow', '/ajax-api'])
      scope.all(`${prefix}/*`, (request) => {
        throw leftOut(request.url);
      });
    for (const prefix of ['/api/3.0', '/ajax-api/3.0'])
      scope.get(`${prefix}/mlflow/server-info`, () => ({
        store_type: 'SqlStore',
        workspaces_enabled: false,
        trace_archival_enabled: false,
        multipart_uploads_enabled: false,
        multipart_downloads_enabled: false,
        features_enabled: { gateway: false },
      }));
    scope.get('/health', (_request, reply) => reply.type('text/plain; charset=utf-8').send('OK'));
    scope.get('/version', (_request, reply) => reply.type('text/plain; charset=utf-8').send(PROTOCOL_VERSION));
    done();
  });
}
