import type { FastifyReply } from 'fastify';
import { ERRORS, MillraceError } from '../contracts/errors.ts';

const RETRY_AFTER_SECONDS = 1;

/** What a failure is to a client: Fastify's own refusals become entries of the error table, anything unknown INTERNAL. */
export function toMillraceError(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const { code, statusCode } = (error ?? {}) as { code?: unknown; statusCode?: unknown };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new MillraceError('REQUEST_TOO_LARGE');
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500)
    return new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'request', message: error instanceof Error ? error.message : 'cannot be read' }],
    });
  return new MillraceError('INTERNAL', undefined, { cause: error });
}

/** Sends a failure as its error report, with the request's id. */
export function sendError(reply: FastifyReply, requestId: string, error: MillraceError): void {
  const { http } = ERRORS[error.code];
  if (http === 429 || http === 503) void reply.header('retry-after', String(RETRY_AFTER_SECONDS));
  if (http === 401) void reply.header('www-authenticate', 'Bearer');
  void reply.code(http).send({ ...error.report(), requestId });
}
