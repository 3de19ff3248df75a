import { setTimeout as wait } from 'node:timers/promises';
import { MillraceError } from '../contracts/errors.ts';

/**
 * An outside server that speaks MLflow's REST protocol.
 *
 * Invariants:
 * 1. Credentials come from MLflow's own variables and go to the named address alone: redirects are not followed, and no
 *    message holds them.
 * 2. Every request ends: an answer that does not come, or stops coming, is given up after `timeoutMs`.
 * 3. What the server says is bounded before it is kept: the body of an answer, and its words in a message.
 */
export interface MlflowClient {
  /** Without credentials and without a slash at its end. */
  readonly address: string;
  /** The JSON of a GET. `path` begins with `/api/2.0/mlflow/…`. @throws as `MlflowClientOptions` says */
  get(path: string, query?: MlflowQuery): Promise<unknown>;
  /** The JSON of a POST. */
  post(path: string, body: unknown): Promise<unknown>;
  /** The bytes of a GET, piece by piece. Fails in the middle when the connection breaks or stalls. */
  download(path: string, query?: MlflowQuery): Promise<AsyncIterable<Uint8Array>>;
}

export type MlflowQuery = Readonly<Record<string, string | number | undefined>>;

/**
 * Requests fail with SERVER_UNAVAILABLE (not reached, 5xx, no answer in time), OVERLOADED (429), TOKEN_NEEDED (401), NOT_ALLOWED
 * (403), NOT_FOUND (404 and MLflow's RESOURCE_DOES_NOT_EXIST), CONFLICT (RESOURCE_ALREADY_EXISTS, 409), INVALID_REQUEST for any
 * other refusal, and for an answer that is not JSON or too large.
 */
export interface MlflowClientOptions {
  /** `http://host:port`, with a path where the server stands below one. @throws INVALID_REQUEST for any other address, and for one with credentials */
  readonly address: string;
  /** MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD, else MLFLOW_TRACKING_TOKEN. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** For an answer, and between two pieces of a download. Default 60,000. */
  readonly timeoutMs?: number;
  /** How often a request is sent at most when the server is not reached or overloaded. Default 1: only what may arrive twice is sent again. */
  readonly tries?: number;
  /** Before the second try; doubled before each further one. Default 500. */
  readonly pauseMs?: number;
}

const MOST_ANSWER_BYTES = 256 * 2 ** 20;
const MOST_WORDS = 400;
const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_PAUSE_MS = 500;

function addressOf(given: string): string {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new MillraceError('INVALID_REQUEST', 'The address of an MLflow server begins with http:// or https://.', {
      problems: [{ path: 'address', message: 'is none', found: given.replace(/\/\/[^/@]*@/, '//…@').slice(0, 200) }],
    });
  }
  if (url.username !== '' || url.password !== '')
    throw new MillraceError('INVALID_REQUEST', 'The address of an MLflow server holds a user or a password.', {
      fix: 'Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and leave them out of the address.',
    });
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new MillraceError('INVALID_REQUEST', `${url.protocol}// is no address of an MLflow server: it begins with http:// or https://.`);
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

function authorization(env: MlflowClientOptions['env']): Readonly<Record<string, string>> {
  const { MLFLOW_TRACKING_USERNAME: user, MLFLOW_TRACKING_PASSWORD: password, MLFLOW_TRACKING_TOKEN: token } = env;
  if (user && password) return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Code and words of a refusal, as MLflow writes them; another server's page says nothing. */
function refusalOf(body: string): { readonly code?: string; readonly words?: string } {
  try {
    const { error_code, message } = JSON.parse(body) as { error_code?: unknown; message?: unknown };
    return {
      ...(typeof error_code === 'string' ? { code: error_code.slice(0, 100) } : {}),
      ...(typeof message === 'string' ? { words: message.replaceAll(/\s+/g, ' ').slice(0, MOST_WORDS) } : {}),
    };
  } catch {
    return {};
  }
}

function refused(address: string, path: string, status: number, body: string): MillraceError {
  const { code, words } = refusalOf(body);
  const said = words === undefined ? `It answered ${String(status)} to ${path}.` : `It says: ${words}`;
  const error = (as: MillraceError['code'], what: string, fix?: string): MillraceError =>
    new MillraceError(as, `${what} ${said}`, fix === undefined ? {} : { fix });
  if (status === 401)
    return error(
      'TOKEN_NEEDED',
      `The MLflow server at ${address} wants to know who asks.`,
      'Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.',
    );
  if (status === 403) return error('NOT_ALLOWED', `The MLflow server at ${address} does not let these credentials do that.`, 'Use credentials that may.');
  if (status === 429) return error('OVERLOADED', `The MLflow server at ${address} has too much to do.`);
  if (status >= 500 && status !== 501) return error('SERVER_UNAVAILABLE', `The MLflow server at ${address} failed.`, 'Look at its log, and try again.');
  if (status >= 300 && status < 400)
    return error('INVALID_REQUEST', `The MLflow server at ${address} sends to another address.`, 'Name that address: credentials are not sent on.');
  if (status === 409 || code === 'RESOURCE_ALREADY_EXISTS') return error('CONFLICT', `The MLflow server at ${address} has that already.`);
  if (status === 404 || code === 'RESOURCE_DOES_NOT_EXIST')
    return error('NOT_FOUND', `The MLflow server at ${address} does not have that.`, 'Check the address and the name.');
  return error('INVALID_REQUEST', `The MLflow server at ${address} refused a request (${code ?? String(status)}).`, 'See what it says.');
}

const notReached = (address: string, why: string): MillraceError =>
  new MillraceError('SERVER_UNAVAILABLE', `The MLflow server at ${address} ${why}.`, { fix: 'Check the address, and that the server runs.' });

/** A client of the server at an address. Nothing is sent before the first request. */
export function createMlflowClient(options: MlflowClientOptions): MlflowClient {
  const address = addressOf(options.address);
  const credentials = authorization(options.env);
  const { timeoutMs = DEFAULT_TIMEOUT_MS, tries = 1, pauseMs = DEFAULT_PAUSE_MS } = options;

  /** Sends, and gives what comes piece by piece. */
  const open = async (method: 'GET' | 'POST', path: string, query: MlflowQuery, body: unknown): Promise<AsyncIterable<Uint8Array>> => {
    const abort = new AbortController();
    const alarm = setTimeout(() => abort.abort(), timeoutMs);
    const fail = (error: unknown): MillraceError =>
      error instanceof MillraceError
        ? error
        : notReached(address, abort.signal.aborted ? `did not answer within ${String(timeoutMs / 1_000)} s` : 'could not be reached, or broke off');
    const given = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value !== undefined) given.set(key, String(value));
    const search = given.toString();
    let answer: Response;
    try {
      answer = await fetch(`${address}${path}${search === '' ? '' : `?${search}`}`, {
        method,
        headers: { ...credentials, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        redirect: 'manual',
        signal: abort.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      clearTimeout(alarm);
      throw fail(error);
    }
    async function* pieces(): AsyncGenerator<Uint8Array> {
      try {
        for await (const piece of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
          alarm.refresh();
          yield piece;
          alarm.refresh();
        }
      } catch (error) {
        throw fail(error);
      } finally {
        clearTimeout(alarm);
        abort.abort();
      }
    }
    if (answer.ok) return pieces();
    throw refused(address, path, answer.status, await wholeText(pieces(), address).catch(() => ''));
  };

  const again = async <T>(work: () => Promise<T>): Promise<T> => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const passing = error instanceof MillraceError && (error.code === 'SERVER_UNAVAILABLE' || error.code === 'OVERLOADED');
        if (!passing || attempt >= tries) throw error;
        await wait(pauseMs * 2 ** (attempt - 1));
      }
    }
  };

  const json = (method: 'GET' | 'POST', path: string, query: MlflowQuery, body: unknown): Promise<unknown> =>
    again(async () => {
      const text = await wholeText(await open(method, path, query, body), address);
      try {
        return JSON.parse(text) as unknown;
      } catch {
        throw new MillraceError('INVALID_REQUEST', `What answers at ${address} is no MLflow server: ${path} gave no JSON.`, { fix: 'Check the address.' });
      }
    });

  return {
    address,
    get: (path, query = {}) => json('GET', path, query, undefined),
    post: (path, body) => json('POST', path, {}, body),
    download: (path, query = {}) => again(() => open('GET', path, query, undefined)),
  };
}

async function wholeText(pieces: AsyncIterable<Uint8Array>, address: string): Promise<string> {
  const kept: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of pieces) {
    sizeBytes += piece.length;
    if (sizeBytes > MOST_ANSWER_BYTES)
      throw new MillraceError('INVALID_REQUEST', `An answer of the MLflow server at ${address} has more than ${String(MOST_ANSWER_BYTES / 2 ** 20)} MiB.`);
    kept.push(piece);
  }
  return Buffer.concat(kept).toString('utf8');
}
