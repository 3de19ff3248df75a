import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Artifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';

/** What every operation may use. */
export interface MlflowDeps {
  readonly store: Store;
  /** Absent where the API was started without an artifact store: files can then not be uploaded or read. */
  readonly artifacts?: Artifacts;
}

/** What an operation is given beside its request. */
export interface MlflowContext extends MlflowDeps {
  readonly request: FastifyRequest;
  /** For headers and streams; an operation that has answered by itself returns it. */
  readonly reply: FastifyReply;
  /** The projects whose things a search finds; undefined: all. */
  readonly projects: readonly string[] | undefined;
}

/** One operation of MLflow's REST protocol. */
export interface Operation {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** Below `/api/2.0`, as Fastify writes it: `/mlflow/logged-models/:model_id`. */
  readonly path: string;
  /** Whether it changes anything: what a role may do is decided by it. Searches are POSTs that read. */
  readonly access: 'read' | 'write';
  /** Of the query (GET) or the JSON body (others), with the path's parameters in it. Unknown fields are left out, as MLflow does. */
  readonly schema: z.ZodType;
  /** Reads a request of the usual shape without the schema, with the schema's result; undefined for any other, which the schema then reads. */
  readonly quick?: (request: Readonly<Record<string, unknown>>) => unknown;
  /** Given a request that fits `schema`; its answer is sent as JSON. */
  readonly handle: (context: MlflowContext, request: never) => Promise<unknown>;
}

/** An operation whose handler knows its request's type. */
export function operation<Schema extends z.ZodType>(
  definition: Omit<Operation, 'schema' | 'quick' | 'handle'> & {
    readonly schema: Schema;
    readonly quick?: (request: Readonly<Record<string, unknown>>) => z.output<Schema> | undefined;
    readonly handle: (context: MlflowContext, request: z.output<Schema>) => Promise<unknown>;
  },
): Operation {
  return definition;
}

/** A required text, with MLflow's words when it is missing. */
export const text = z
  .string({ error: (issue) => (issue.input === undefined || issue.input === null ? 'is missing' : 'must be a string') })
  // Postgres keeps neither, and what was half kept would be another text.
  .refine((value) => !/\u0000|[\uD800-\uDFFF]/u.test(value), 'holds a NUL character or half of a surrogate pair, which cannot be stored');
/** A required text that is not empty. */
export const name = text.min(1, 'is missing');
/** Protocol buffers write null for what was not given. */
export const optional = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
/** A 64-bit integer: a JSON number, or its digits as a string, as protocol buffers write it. */
export const int64 = z
  .union(
    [
      z.number(),
      z
        .string()
        .regex(/^-?\d+$/)
        .transform(Number),
    ],
    'must be an integer',
  )
  .refine((value) => Number.isSafeInteger(value), 'must be an integer of at most 53 bits');
/** One value or many: a parameter that stands once in a query is not a list there. */
export const list = <T extends z.ZodType>(item: T) =>
  z
    .union([z.array(item), item.transform((one) => [one])])
    .nullish()
    .transform((value) => (value ?? []) as readonly z.output<T>[]);
/** A double, or the words that protocol buffers have for those that JSON has not. */
export const double = z.union(
  [
    z.number(),
    z.enum(['NaN', 'Infinity', '-Infinity']).transform(Number),
    z
      .string()
      .regex(/^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/)
      .transform(Number),
  ],
  'must be a number',
);

/** Answers with a text that is JSON already. */
export function sendJson(reply: FastifyReply, json: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(json);
}
