import { MillraceError } from '../contracts/errors.ts';

/**
 * The one place where what Postgres or its driver says becomes an error of the table. The driver's text holds statement
 * and parameters: it is given to the log and goes no further.
 */
export type DriverErrorLog = (operation: string, error: unknown) => void;

/** SQLSTATE classes after which the same statement may well succeed: connection, resources, operator intervention, lock races. */
const UNAVAILABLE = /^(?:08|53|57|58)/;
const RACE = new Set(['40001', '40P01', '55P03']);
const UNIQUE_OR_EXCLUSION = new Set(['23505', '23P01']);
const REFERENCE = '23503';
/** Values that a column cannot hold: data exceptions, not null, check. */
const INVALID = /^(?:22|23502|23514)/;
const SOCKET = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT']);
const DRIVER_SAYS_GONE =
  /connection terminated|connection ended|timeout exceeded when trying to connect|client has encountered a connection error|not queryable|pool after calling end/i;

/** The error inside Drizzle's and Node's wrappers: the first one that carries a code, or the innermost. */
function innermost(error: unknown): { readonly code?: unknown; readonly message?: unknown } {
  let at = error;
  for (let depth = 0; depth < 5 && at !== null && typeof at === 'object'; depth++) {
    if ('code' in at && typeof at.code === 'string') return at;
    if ('errors' in at && Array.isArray(at.errors) && at.errors.length > 0) at = at.errors[0];
    else if ('cause' in at && at.cause !== undefined) at = at.cause;
    else break;
  }
  return at !== null && typeof at === 'object' ? at : {};
}

/** What a failure of the driver means to everyone else. A `MillraceError` passes as it is. */
export function fromDriver(operation: string, error: unknown, log?: DriverErrorLog): MillraceError {
  if (error instanceof MillraceError) return error;
  log?.(operation, error);
  const { code, message } = innermost(error);
  if (typeof code === 'string') {
    if (SOCKET.has(code) || UNAVAILABLE.test(code)) return new MillraceError('DATABASE_UNAVAILABLE');
    if (code === '28P01' || code === '28000' || code === '3D000')
      return new MillraceError('DATABASE_UNAVAILABLE', 'Postgres refuses the user, the password or the database of DATABASE_URL.');
    if (RACE.has(code)) return new MillraceError('DATABASE_UNAVAILABLE', 'Two changes met in Postgres; this one can be tried again.');
    if (UNIQUE_OR_EXCLUSION.has(code)) return new MillraceError('CONFLICT', `That exists already (${operation}).`);
    if (code === REFERENCE) return new MillraceError('NOT_FOUND', `Something that the record refers to does not exist (${operation}).`);
    if (INVALID.test(code)) return new MillraceError('INVALID_REQUEST', `A value cannot be stored (${operation}).`);
    if (code === '42P01' || code === '42703' || code === '42883')
      return new MillraceError('INTERNAL', `The database does not have the tables of this Millrace (${operation}).`, {
        fix: 'Run `millrace up`, which brings the schema up to date, or check DATABASE_URL.',
      });
  }
  if (typeof message === 'string' && DRIVER_SAYS_GONE.test(message)) return new MillraceError('DATABASE_UNAVAILABLE');
  return new MillraceError('INTERNAL', `The store failed (${operation}).`);
}

type AsyncMethods = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;

/** The same aggregate with every failure mapped: nothing of the driver leaves it. */
export function guarded<T extends { readonly [K in keyof T]: (...args: never[]) => Promise<unknown> }>(name: string, aggregate: T, log?: DriverErrorLog): T {
  const methods = aggregate as unknown as AsyncMethods;
  const wrapped = Object.fromEntries(
    Object.entries(methods).map(([method, call]) => [
      method,
      async (...args: never[]): Promise<unknown> => {
        try {
          return await call(...args);
        } catch (error) {
          throw fromDriver(`${name}.${method}`, error, log);
        }
      },
    ]),
  );
  return wrapped as unknown as T;
}
