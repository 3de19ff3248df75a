/**
 * Files by http and https.
 *
 * Invariants:
 * 1. What an address holds after `?`, and what is sent as `Authorization`, stands in no error and no label.
 * 2. A redirect leads to http or https only, never from https to http, and takes no `Authorization` to another origin.
 * 3. A file is whole or it is refused: its length is what the server said, and its validator is the same from the first
 *    byte to the last, over however many connections it came.
 */
import { createWriteStream } from 'node:fs';
import { stat, truncate } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { posix } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { MillraceError } from '../contracts/errors.ts';
import {
  changedWhileRead,
  type DownloadedFile,
  notFound,
  type RemoteFile,
  type RemoteOptions,
  RESUMES,
  SILENCE_MS,
  tooLarge,
  unavailable,
} from './remote-file.ts';

const REDIRECTS = 5;
/** A file's time of change has whole seconds: one that was changed in the second in which it is asked for may change in it again. */
const SETTLED_MS = 2_000;
/** Certificates that are not trusted, names that do not exist: trying again cannot help. */
const PERMANENT = /^(?:ENOTFOUND|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|HPE_|ERR_INVALID_|EPROTO)/;

interface Asked extends RemoteOptions {
  readonly label: string;
}

/** Asks for an address, following redirects. The body of the answer has to be read or destroyed. */
async function ask(method: 'GET' | 'HEAD', address: URL, headers: Readonly<Record<string, string>>, options: Asked): Promise<IncomingMessage> {
  let url = address;
  for (let hop = 0; hop <= REDIRECTS; hop++) {
    const own = url.origin === address.origin && options.authorization !== undefined ? { authorization: options.authorization } : {};
    const response = await askOnce(method, url, { 'user-agent': 'millrace', accept: '*/*', 'accept-encoding': 'identity', ...headers, ...own }, options);
    const { location } = response.headers;
    if (![301, 302, 303, 307, 308].includes(response.statusCode ?? 0) || location === undefined) return response;
    response.destroy();
    const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
    if (next === undefined || !['http:', 'https:'].includes(next.protocol)) throw notFound(options.label, 'It redirects to something that is no http address.');
    if (url.protocol === 'https:' && next.protocol === 'http:') throw notFound(options.label, 'It redirects from https to http.');
    url = next;
  }
  throw notFound(options.label, `It redirects more than ${REDIRECTS} times.`);
}

function askOnce(method: 'GET' | 'HEAD', url: URL, headers: Readonly<Record<string, string>>, options: Asked): Promise<IncomingMessage> {
  const { signal, silenceMs = SILENCE_MS, label } = options;
  return new Promise((resolve, reject) => {
    const settings: RequestOptions = { method, headers, timeout: silenceMs, ...(signal === undefined ? {} : { signal }) };
    const request: ClientRequest = url.protocol === 'https:' ? requestHttps(url, settings, resolve) : requestHttp(url, settings, resolve);
    request.on('timeout', () => request.destroy(unavailable(label, `The server was silent for ${silenceMs / 1000} s.`)));
    request.on('error', (error) => {
      reject(networkError(error, options));
    });
    request.end();
  });
}

function networkError(error: unknown, { label, signal }: Asked): Error {
  if (signal?.aborted === true) return signal.reason as Error;
  if (error instanceof MillraceError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return new MillraceError('DISK_FULL', 'The disk was full while a source was fetched.', { cause: error });
  if (PERMANENT.test(code)) {
    const why = code === 'ENOTFOUND' ? 'There is no server of that name.' : `The connection cannot be made (${code}).`;
    return notFound(label, why, 'Check the address, and the certificate of its server.');
  }
  return unavailable(label, `The connection failed${code === '' ? '' : ` (${code})`}.`);
}

function refuseStatus(response: IncomingMessage, label: string): void {
  const status = response.statusCode ?? 0;
  if (status === 200 || status === 206) return;
  response.destroy();
  const said = `The server answers ${status}.`;
  if (status === 408 || status === 425 || status === 429 || status >= 500) throw unavailable(label, said);
  if (status === 401 || status === 403) throw notFound(label, said, 'Is a header needed? Name the variable that holds it in the source: authorization.');
  throw notFound(label, said);
}

/** What changes when the file does: its entity tag, or its time of change with its length. */
function validatorOf({ headers }: IncomingMessage, length: string | undefined): string | null {
  if (headers.etag !== undefined) return `etag ${headers.etag}`;
  const modified = headers['last-modified'];
  if (modified === undefined || length === undefined) return null;
  const asked = Date.parse(headers.date ?? '') || Date.now();
  return asked - Date.parse(modified) >= SETTLED_MS ? `modified ${modified} ${length}` : null;
}

/** The length of the whole file, also of one of which a part was asked for. */
function lengthOf({ headers, statusCode }: IncomingMessage): string | undefined {
  return statusCode === 206 ? /\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1] : headers['content-length'];
}

function decoded(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

/** Finds out about a file without reading it. @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE */
export async function findHttpFile(address: string, options: RemoteOptions): Promise<RemoteFile> {
  if (!URL.canParse(address)) throw notFound(address.replace(/[?#].*$/s, ''), 'It is no address.');
  const url = new URL(address);
  url.hash = '';
  const label = `${url.origin}${url.pathname}`;
  const asked: Asked = { ...options, label };
  let response = await ask('HEAD', url, {}, asked);
  // What signs a request may sign its method; and some servers do not know this one.
  if (response.statusCode !== 200) {
    response.destroy();
    response = await ask('GET', url, { range: 'bytes=0-0' }, asked);
    if (response.statusCode === 416) {
      response.destroy();
      response = await ask('GET', url, {}, asked);
    }
    refuseStatus(response, label);
  }
  response.destroy();
  const identity = validatorOf(response, lengthOf(response));
  return {
    label,
    relativePath: posix.basename(decoded(url.pathname)) || url.host,
    identity,
    download: (path, room) => download(url, path, room, identity, asked),
  };
}

async function download(url: URL, path: string, room: number, identity: string | null, asked: Asked): Promise<DownloadedFile> {
  let tag: string | undefined;
  let haveBytes = 0;
  for (let attempt = 0; ; attempt++) {
    const resumed = haveBytes > 0 && tag !== undefined;
    const response = await ask('GET', url, resumed ? { range: `bytes=${haveBytes}-`, 'if-range': tag ?? '' } : {}, asked);
    refuseStatus(response, asked.label);
    const length = lengthOf(response);
    const validator = validatorOf(response, length);
    if (identity !== null && validator !== null && validator !== identity) {
      response.destroy();
      throw changedWhileRead(asked.label);
    }
    const goesOn = resumed && response.statusCode === 206 && response.headers['content-range']?.startsWith(`bytes ${haveBytes}-`) === true;
    if (!goesOn) {
      if (haveBytes > 0) await truncate(path, 0);
      haveBytes = 0;
    }
    // A weak tag does not promise the same bytes, which going on in the middle needs.
    const { etag } = response.headers;
    tag = etag?.startsWith('"') === true && response.headers['accept-ranges'] !== 'none' ? etag : undefined;
    if (length !== undefined && Number(length) > room) {
      response.destroy();
      throw tooLarge(asked.label);
    }
    try {
      await save(response, path, haveBytes, room, asked);
      if (length !== undefined && (await stat(path)).size !== Number(length)) throw unavailable(asked.label, 'It ended before its end.');
      return { sizeBytes: (await stat(path)).size, ...packingOf(response, asked.label) };
    } catch (error) {
      const failure = networkError(error, asked);
      if (!(failure instanceof MillraceError && failure.code === 'SOURCE_UNAVAILABLE') || attempt >= RESUMES) throw failure;
      haveBytes = await stat(path).then(
        ({ size }) => size,
        () => 0,
      );
    }
  }
}

async function save(response: IncomingMessage, path: string, fromByte: number, room: number, asked: Asked): Promise<void> {
  const { silenceMs = SILENCE_MS, signal, label } = asked;
  let bytes = fromByte;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > room) done(tooLarge(label));
      else done(null, chunk);
    },
  });
  response.setTimeout(silenceMs, () => response.destroy(unavailable(label, `The server was silent for ${silenceMs / 1000} s.`)));
  // A connection that breaks ends the pipeline with an error of its own; a server that closes early is found by the length.
  await pipeline(response, counted, createWriteStream(path, { flags: fromByte > 0 ? 'a' : 'w', mode: 0o600 }), signal === undefined ? {} : { signal });
  if (!response.complete) throw unavailable(label, 'It ended before its end.');
}

function packingOf({ headers }: IncomingMessage, label: string): Pick<DownloadedFile, 'packing'> {
  const packing = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (packing === 'identity' || packing === '') return {};
  if (packing === 'gzip' || packing === 'x-gzip') return { packing: 'gzip' };
  if (packing === 'zstd') return { packing: 'zstd' };
  throw notFound(label, `The server sends it packed as ${packing.slice(0, 20)}.`, 'Let the server send it as it is, or packed with gzip.');
}
