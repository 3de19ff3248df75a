import { z } from 'zod';
import type { Identity, Role } from '../contracts/identity.ts';
import { NameSchema } from '../contracts/ids.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { FindRequest } from '../store/lineage-subject.ts';
import type { Store } from '../store/store.ts';

/** Reads what lies in the artifact store. @throws MillraceError ARTIFACT_MISSING, ARTIFACT_CORRUPT */
export type ArtifactReader = Pick<Artifacts, 'getJson' | 'getBytes'>;

/** One thing that can be asked of `/api/v1`: the routes and the OpenAPI document are both made from a table of these. */
export interface Resource {
  /** Default `get`. */
  readonly method?: 'get' | 'post';
  /** In OpenAPI's form: `/runs/{run}`. */
  readonly path: string;
  readonly summary: string;
  readonly answers: 'page' | 'object';
  readonly params: z.ZodObject;
  readonly query: z.ZodObject;
  /** What a POST has to send, as JSON. */
  readonly body?: z.ZodObject;
  /** Who may. Default: `viewer` to read, `editor` to do. */
  readonly role?: Role;
  /** True: not for tokens of some projects. False: it looks itself at whose project it is of. */
  readonly everyProject?: boolean;
  /** Given values that fit `params`, `query` and `body`. */
  readonly read: (store: Store, values: never, artifacts: ArtifactReader | undefined, caller: Caller) => Promise<unknown>;
}

/** Who asks, and what it takes to do what was asked. */
export interface Caller {
  readonly identity: Identity;
  /** Sends an update to a workflow. @throws what the workflow refuses it with, TEMPORAL_UNAVAILABLE */
  readonly update: SendUpdate;
  /** Finds a prediction by its request id. */
  readonly findRequest: FindRequest;
}

export type SendUpdate = (workflowId: string, name: string, argument: unknown) => Promise<unknown>;

/** A page of a list. `next` is what to give as `after` for the page that follows; null at the end. */
export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

const MAX_PAGE = 200;
export const limit = z.coerce.number().int().min(1).max(MAX_PAGE).default(50).describe(`Items of a page, 1 to ${MAX_PAGE}.`);
export const afterNumber = z.coerce.number().int().nonnegative().optional().describe('`next` of the page before.');
export const afterName = NameSchema.optional().describe('`next` of the page before.');

/** One item more than asked for is read, to know whether there is a page after this one. */
export function page<Item>(items: readonly Item[], size: number, cursor: (last: Item) => string | number): Page<Item> {
  const shown = items.slice(0, size);
  const last = shown.at(-1);
  return { items: shown, next: items.length > size && last !== undefined ? String(cursor(last)) : null };
}

interface Definition<Params extends z.ZodRawShape, Query extends z.ZodRawShape, Values> {
  readonly summary: string;
  readonly answers: Resource['answers'];
  readonly params: Params;
  readonly query: Query;
  readonly read: (
    store: Store,
    values: z.output<z.ZodObject<Params>> & z.output<z.ZodObject<Query>> & Values,
    artifacts: ArtifactReader | undefined,
    caller: Caller,
  ) => Promise<unknown>;
  readonly role?: Role;
  readonly everyProject?: boolean;
}

/** Something to read. */
export function resource<Params extends z.ZodRawShape, Query extends z.ZodRawShape>(path: string, definition: Definition<Params, Query, unknown>): Resource {
  return { ...definition, path, params: z.object(definition.params), query: z.strictObject(definition.query) };
}

/** Something to do: a POST of JSON, which must be safe to send twice. */
export function action<Params extends z.ZodRawShape, Body extends z.ZodObject>(
  path: string,
  body: Body,
  definition: Omit<Definition<Params, z.ZodRawShape, { readonly body: z.output<Body> }>, 'query' | 'answers'>,
): Resource {
  return { ...definition, method: 'post', answers: 'object', path, params: z.object(definition.params), query: z.strictObject({}), body };
}
