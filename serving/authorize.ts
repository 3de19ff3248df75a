import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import { tokenOfHeader } from '../contracts/identity.ts';
import type { TokenBook } from '../store/token-book.ts';
import { requireMay } from '../store/tokens.ts';

/** Of `/predict/NAME`, `/feedback/NAME` and `/v2/models/NAME…`. */
const ENDPOINT_PATH = /^\/(?:predict|feedback|v2\/models)\/([^/?]+)/;

/** Whether a header has the one token, in a time that does not depend on how much of it is right. */
function isToken(token: string): (header: string | undefined) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const expected = digest(token);
  return (header) => timingSafeEqual(digest(tokenOfHeader(header) ?? ''), expected);
}

/**
 * Refuses requests that show no good token: with `token` any that does not show that one; with `book` those whose token is not
 * known there, or is not of a project that the endpoint belongs to. Health is answered to everyone. While the book is open
 * a request is let through by one look at a boolean; a token is looked up in memory.
 */
export function addAuthorization(app: FastifyInstance, { token, book }: { readonly token?: string | undefined; readonly book?: TokenBook | undefined }): void {
  if (token !== undefined) {
    const isRight = isToken(token);
    app.addHook('onRequest', (request, _reply, done) => {
      if (request.url.startsWith('/v2/health/') || isRight(request.headers.authorization)) done();
      else done(new MillraceError('TOKEN_NEEDED'));
    });
  }
  if (book === undefined) return;
  app.addHook('onRequest', (request, _reply, done) => {
    if (book.isOpen() || request.url.startsWith('/v2/health/')) {
      done();
      return;
    }
    const letThrough = (identity: ReturnType<TokenBook['find']>): void => {
      if (identity === null) {
        done(new MillraceError('TOKEN_NEEDED'));
        return;
      }
      try {
        const endpoint = ENDPOINT_PATH.exec(request.url)?.[1];
        requireMay(identity, 'viewer', endpoint === undefined ? undefined : decodeURIComponent(endpoint));
        done();
      } catch (error) {
        done(error instanceof MillraceError ? error : new MillraceError('NOT_ALLOWED'));
      }
    };
    const known = book.find(request.headers.authorization);
    if (known === null) void book.findFresh(request.headers.authorization).then(letThrough);
    else letThrough(known);
  });
}
