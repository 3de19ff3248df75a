import type { FastifyInstance, FastifyRequest } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import { coversAll, coversName, type Identity, type Role } from '../contracts/identity.ts';
import { actAs } from '../store/acting.ts';
import type { TokenBook } from '../store/token-book.ts';
import { requireMay } from '../store/tokens.ts';
import type { Store } from '../store/store.ts';
import { requireMlflowProjects } from './mlflow-projects.ts';
import type { Page, Resource } from './resource.ts';

/**
 * Who asks, and whether they may.
 *
 * Invariants:
 * 1. Where tokens are needed nothing but `/healthz` and `/readyz` is answered without a good one.
 * 2. A route says which role it needs; one that says nothing needs `viewer` to read and `editor` for everything else.
 * 3. A token of some projects is shown nothing of the others: what cannot be told to belong to one of them is not shown.
 * 4. What is done is written down under the name of the token, whatever the request says.
 */
declare module 'fastify' {
  interface FastifyRequest {
    /** Null before the request was looked at. */
    identity: Identity | null;
  }
  interface FastifyContextConfig {
    /** The role that the route needs. */
    readonly role?: Role;
    readonly access?: 'read' | 'write';
  }
}

const OPEN_PATHS = new Set(['/healthz', '/readyz', '/health']);
/** Where nobody has to show a token. */
const ANYONE: Identity = { who: 'anyone', tokenId: null, roles: ['admin'], projects: ['*'] };

const pathOf = (url: string): string => (url.split('?')[0] ?? '').replace(/\/+$/, '') || '/';

function roleOf(request: FastifyRequest): Role {
  const { role, access } = request.routeOptions.config;
  if (role !== undefined) return role;
  if (access !== undefined) return access === 'read' ? 'viewer' : 'editor';
  return request.method === 'GET' || request.method === 'HEAD' ? 'viewer' : 'editor';
}

/** Recognises who asks, and refuses those who may not. Register it before the routes. */
export function addAuthorization(app: FastifyInstance, store: Store, book: TokenBook | undefined): void {
  app.decorateRequest('identity', null);
  app.addHook('onRequest', async (request) => {
    request.identity = ANYONE;
    if (book === undefined || book.isOpen() || OPEN_PATHS.has(pathOf(request.url))) return;
    const identity = await book.findFresh(request.headers.authorization);
    if (identity === null)
      throw new MillraceError('TOKEN_NEEDED', request.headers.authorization === undefined ? undefined : 'The token is not known, has expired or was revoked.');
    request.identity = identity;
    // paths that are not there are answered alike, whatever the role
    if (!request.is404) requireMay(identity, roleOf(request));
  });
  app.addHook('preHandler', async (request) => {
    // `access` is what MLflow's routes say; the others look at projects when they know what they are asked for
    if (request.routeOptions.config.access === undefined) return;
    const values = { ...fieldsOf(request.query), ...fieldsOf(request.body), ...fieldsOf(request.params) };
    await requireMlflowProjects(store, identityOf(request), pathOf(request.url), values);
  });
  // what is awaited from here on is done in the caller's name
  app.addHook('preHandler', (request, _reply, done) => {
    actAs(identityOf(request).who, done);
  });
}

/** The fields of a query, of parameters or of a JSON body, which MLflow's clients may send as text; none of a file's bytes. */
function fieldsOf(part: unknown): Readonly<Record<string, unknown>> {
  if (typeof part === 'string') {
    try {
      return fieldsOf(JSON.parse(part) as unknown);
    } catch {
      return {};
    }
  }
  return typeof part !== 'object' || part === null || 'pipe' in part || Buffer.isBuffer(part) ? {} : { ...part };
}

/** Who asks. */
export function identityOf(request: FastifyRequest): Identity {
  return request.identity ?? ANYONE;
}

/** The values of a request's body, with the caller's name as `by`: nobody decides in another's. */
export function inCallersName(identity: Identity, resource: Resource, body: unknown): unknown {
  if (identity.tokenId === null || resource.body === undefined || !('by' in resource.body.shape) || typeof body !== 'object') return body;
  return { ...body, by: identity.who };
}

/**
 * Refuses what is of another project, before anything is done.
 * @throws NOT_ALLOWED
 */
export async function requireProjects(store: Store, identity: Identity, resource: Resource, values: Readonly<Record<string, unknown>>): Promise<void> {
  if (coversAll(identity) || resource.everyProject === false) return;
  const body = (values['body'] ?? {}) as Readonly<Record<string, unknown>>;
  const name = (await nameOf(store, values)) ?? (await nameOf(store, body));
  if (name !== null) requireMay(identity, 'viewer', name);
  else if (resource.method === 'post' || resource.everyProject === true)
    throw new MillraceError('NOT_ALLOWED', `${identity.who} has a token of some projects, and this is of all of them.`);
}

/** What of an answer the identity may see. @throws NOT_ALLOWED for one thing that is not of its projects */
export async function shownTo(store: Store, identity: Identity, resource: Resource, answer: unknown): Promise<unknown> {
  if (coversAll(identity) || resource.method === 'post') return answer;
  // its path named what it is of, and that was looked at
  if (/\{(?:run|pipeline|model|endpoint)\}/.test(resource.path)) return answer;
  const isNamed = /^\/(?:pipelines|models|endpoints)$/.test(resource.path);
  const covered = async (item: unknown): Promise<boolean> => {
    const record = (item ?? {}) as Readonly<Record<string, unknown>>;
    const name = isNamed && typeof record['name'] === 'string' ? record['name'] : await nameOf(store, record);
    return name !== null && coversName(identity, name);
  };
  if (resource.answers === 'page') {
    const { items, next } = answer as Page<unknown>;
    const seen = await Promise.all(items.map(covered));
    return { items: items.filter((_item, i) => seen[i] === true), next };
  }
  if (await covered(answer)) return answer;
  throw new MillraceError('NOT_ALLOWED', `This does not belong to the projects of ${identity.who} (${identity.projects.join(', ')}).`);
}

/** The pipeline, model or endpoint that something is of; null when it says none. */
async function nameOf(store: Store, record: Readonly<Record<string, unknown>>): Promise<string | null> {
  for (const key of ['pipeline', 'endpoint', 'model', 'workflowName']) {
    const value = record[key];
    if (typeof value === 'string') return value;
  }
  const run = record['run'] ?? record['runId'];
  return typeof run === 'string' ? ((await store.runs.find(run))?.pipeline ?? null) : null;
}
