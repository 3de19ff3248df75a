import type { FastifyReply, FastifyRequest } from 'fastify';
import { ERRORS, MillraceError } from '../contracts/errors.ts';
import type { ServingVersion } from './endpoint-table.ts';

const RETRY_AFTER_SECONDS = 1;

/** What a failure is to a client: Fastify's own refusals become entries of the error table, anything unknown INTERNAL. */
export function toMillraceError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new MillraceError('REQUEST_TOO_LARGE');
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'request', message: error instanceof Error ? error.message : 'cannot be read' }],
    });
  }
  return new MillraceError('INTERNAL', undefined, { cause: error });
}

/** Marks an answer with its request and, where one was chosen, with the version that gave it. */
export function markReply(reply: FastifyReply, requestId: string, version: ServingVersion | undefined): void {
  void reply.header('x-request-id', requestId);
  if (version === undefined) return;
  void reply.header('millrace-model', version.served.model).header('millrace-version', String(version.served.version));
}

/** Sends a failure: `error` as Open Inference Protocol clients read it, the rest as an error report. */
export function sendError(request: FastifyRequest, reply: FastifyReply, error: MillraceError, version: ServingVersion | undefined): void {
  markReply(reply, request.id, version);
  const { http } = ERRORS[error.code];
  if (http === 429 || http === 503) void reply.header('retry-after', String(RETRY_AFTER_SECONDS));
  if (http === 401) void reply.header('www-authenticate', 'Bearer');
  const report = error.report();
  void reply.code(http).send({
    error: [report.message, ...report.problems.map((p) => `${p.path}: ${p.message}`)].join(' '),
    ...report,
    requestId: request.id,
    ...(version === undefined ? {} : { model: version.served.model, version: version.served.version }),
  });
}
